//! A topology pod: a real etcd process.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use control_plane::http;
use tokio::{
    process::{Child, Command as Program},
    sync::watch,
};

use super::{
    fault::Network,
    fleet::{Command, Context, State},
    pod::PodSpec,
};

const CLIENT: u16 = 2379;
const PEER: u16 = 2380;
const METRICS: u16 = 2381;
/// Between two looks at a member that is not ready.
const PROBE: Duration = Duration::from_millis(100);
/// Between two looks at a member that is: as long as its readiness probe's period.
const PERIOD: Duration = Duration::from_secs(5);

/// The addresses under which members of etcds know each other. A member's name stays when its pod does not, and so does the
/// address that stands for the name here; clients use the pod's own address.
#[derive(Debug)]
pub struct Members {
    network: [u8; 2],
    known: Mutex<BTreeMap<String, Ipv4Addr>>,
}

impl Members {
    pub(super) fn new(network: [u8; 2]) -> Self {
        Self {
            network,
            known: Mutex::default(),
        }
    }

    /// The address of a member by its host name; from the upper end of the pods' network, which kwok fills from below.
    fn address(&self, host: &str) -> Ipv4Addr {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u16::try_from(known.len()).unwrap_or(u16::MAX);
        *known.entry(host.to_owned()).or_insert_with(|| {
            let [third, fourth] = (0xFFFE_u16.saturating_sub(count)).to_be_bytes();
            let [first, second] = self.network;
            Ipv4Addr::new(first, second, third, fourth)
        })
    }

    /// `name=http://host:port,…` with addresses for hosts.
    fn cluster(&self, members: &str) -> String {
        let member = |member: &str| {
            let (name, url) = member.split_once("=http://")?;
            let (host, port) = url.rsplit_once(':')?;
            Some(format!("{name}=http://{}:{port}", self.address(host)))
        };
        let members: Vec<String> = members.split(',').filter_map(member).collect();
        members.join(",")
    }

    /// Removes the data of a volume.
    pub(super) fn wipe(&self, folder: &Path, volume: &str) {
        // Most volumes are no etcd's.
        let _ = std::fs::remove_dir_all(data(folder, volume));
    }
}

fn data(folder: &Path, volume: &str) -> PathBuf {
    folder.join("etcd").join(volume)
}

/// Runs a topology pod until it is told to end.
pub async fn run(context: Context, mut command: watch::Receiver<Command>) {
    let pod = std::sync::Arc::clone(&context.pod);
    let service = pod.labels.get("multigres.com/toposerver");
    let names: Vec<String> = service
        .map(|name| format!("{name}.{}.svc", pod.namespace))
        .into_iter()
        .chain([pod.host.clone()])
        .collect();
    for name in &names {
        context.fleet.names.add(name, pod.address);
    }
    let mut restarts = 0;
    loop {
        match live(&context, &mut command, restarts).await {
            Ok(true) => break,
            Ok(false) | Err(_) => restarts += 1,
        }
        context.state(State {
            ready: false,
            restarts,
        });
        tokio::select! {
            _ = Command::other_than_run(&mut command) => break,
            () = tokio::time::sleep(PROBE) => {}
        }
    }
    for name in &names {
        context.fleet.names.remove(name, pod.address);
    }
}

fn start(context: &Context) -> anyhow::Result<Child> {
    let pod: &PodSpec = &context.pod;
    let options = context.fleet.options();
    let variable = |name: &str| pod.env.get(name).cloned().unwrap_or_default();
    let own = variable("ETCD_INITIAL_ADVERTISE_PEER_URLS");
    let host = own
        .strip_prefix("http://")
        .and_then(|own| own.rsplit_once(':'));
    let (host, _) = host.context("the pod advertises no peer URL")?;
    let peer = context.fleet.members.address(host);
    let folder = data(&options.folder, &context.volume);
    std::fs::create_dir_all(&folder)?;
    let log = std::fs::File::options().create(true).append(true).open(
        options
            .folder
            .join(format!("{}.{}.log", pod.namespace, pod.name)),
    )?;
    let client = format!("http://{}:{CLIENT}", pod.address);
    let peer = format!("http://{peer}:{PEER}");
    Program::new(&options.etcd)
        .args([
            format!("--name={}", variable("ETCD_NAME")),
            format!("--data-dir={}", folder.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--listen-metrics-urls=http://{}:{METRICS}", pod.address),
            format!(
                "--initial-cluster={}",
                context
                    .fleet
                    .members
                    .cluster(&variable("ETCD_INITIAL_CLUSTER"))
            ),
            format!(
                "--initial-cluster-state={}",
                variable("ETCD_INITIAL_CLUSTER_STATE")
            ),
            format!(
                "--initial-cluster-token={}/{}",
                pod.namespace,
                variable("ETCD_INITIAL_CLUSTER_TOKEN")
            ),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("failed to start {}", options.etcd.display()))
}

/// One life of the process; true when the pod is over.
async fn live(
    context: &Context,
    command: &mut watch::Receiver<Command>,
    restarts: i32,
) -> anyhow::Result<bool> {
    let mut faults = context.faults.clone();
    // Refusal is played by no process at all.
    let down = |faults: &super::fault::Faults| faults.crash || faults.network == Network::Refuse;
    tokio::select! {
        _ = Command::other_than_run(command) => return Ok(true),
        () = async { drop(faults.wait_for(|faults| !down(faults)).await) } => {}
    }
    let mut child = start(context)?;
    let _guard = child.id().map(control_plane::Guard::over).transpose()?;
    let mut stopped = false;
    loop {
        let hang = faults.borrow_and_update().network == Network::Hang;
        if hang != stopped {
            pause(&child, hang)?;
            stopped = hang;
        }
        tokio::select! {
            ended = child.wait() => {
                ended?;
                return Ok(false);
            }
            _ = Command::other_than_run(command) => break,
            Ok(()) = faults.changed() => {
                let dies = down(&faults.borrow());
                if dies {
                    child.kill().await?;
                    return Ok(false);
                }
            }
            () = probe(context, restarts) => {}
        }
    }
    if *command.borrow() == Command::Stop && !stopped {
        signal(&child, control_plane::Signal::Term)?;
        tokio::select! {
            _ = child.wait() => {}
            () = Command::kill(command) => {}
        }
    }
    // It may have ended already.
    let _ = child.kill().await;
    Ok(true)
}

/// Looks at the member until its readiness changes or its probe is due again.
async fn probe(context: &Context, restarts: i32) {
    let address = (context.pod.address, METRICS).into();
    let answer = http::get(address, &context.pod.probe).await;
    let ready = answer.is_ok_and(|(status, _)| status == 200);
    context.state(State { ready, restarts });
    tokio::time::sleep(if ready { PERIOD } else { PROBE }).await;
}

fn pause(child: &Child, stop: bool) -> anyhow::Result<()> {
    let kind = if stop {
        control_plane::Signal::Stop
    } else {
        control_plane::Signal::Cont
    };
    signal(child, kind)
}

fn signal(child: &Child, kind: control_plane::Signal) -> anyhow::Result<()> {
    match child.id() {
        Some(pid) => control_plane::signal_pid(pid, kind),
        None => Ok(()),
    }
}
