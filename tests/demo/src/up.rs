//! Starts the demo.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use control_plane::{OperatorProcess, Overrides, Plane, PlaneOptions, Pods, chart, connect};
use kube::{Client, ResourceExt};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    down::down,
    objects::{Object, operated, print_tree},
    state::{State, folder, ours, root},
};

const NAMESPACE: &str = "default";
/// The program that plays the data plane.
const STAND_IN: &str = "standin";
/// A cluster is healthy within seconds where nothing is wrong.
const DEADLINE: Duration = Duration::from_secs(120);
/// A line that does not change is repeated this often.
const REPEAT: Duration = Duration::from_secs(5);

/// Starts everything, unless it runs already, and ends with the tree of objects.
pub async fn up() -> anyhow::Result<()> {
    let start = Instant::now();
    if let Some(state) = State::load()? {
        if let Some(client) = healthy(&state).await? {
            println!("the demo is running already");
            return finish(&client, &state, start).await;
        }
        println!("the demo is there but not healthy: starting it again");
        down().await?;
    }
    let binary = binary()?;
    let manifest = root()?.join("docs/samples/minimal.yaml");
    ensure!(manifest.exists(), "{} is missing", manifest.display());

    let (state, plane, mut operator) = start_all(&binary, start).await?;
    if let Err(error) = operator.ready().await {
        bail!(
            "the operator did not start: {error:#}\n{}",
            operator.log_tail(20)
        );
    }
    say(start, "the operator is ready");
    let manifest = manifest
        .to_str()
        .context("the manifest's path is not UTF-8")?;
    let applied = plane.kubectl(&["apply", "-n", NAMESPACE, "-f", manifest])?;
    ensure!(
        applied.status.success(),
        "kubectl failed: {}",
        String::from_utf8_lossy(&applied.stderr)
    );
    say(start, String::from_utf8_lossy(&applied.stdout).trim());
    watch(&plane.client(), &mut operator, start).await?;
    finish(&plane.client(), &state, start).await
}

async fn start_all(
    binary: &Path,
    start: Instant,
) -> anyhow::Result<(State, Plane, OperatorProcess)> {
    fs::create_dir_all(folder()?)?;
    say(
        start,
        "starting the control plane (a first run builds it, which takes some minutes)",
    );
    let dir = Some(folder()?.join("plane"));
    let options = PlaneOptions {
        dir,
        keep: true,
        detach: true,
        name: "demo".to_owned(),
        pods: Pods::StandIn,
        ..PlaneOptions::default()
    };
    let mut plane = Plane::start_server(options).await?;
    let mut state = State {
        kubeconfig: plane.kubeconfig().to_owned(),
        pids: plane.named_pids(),
    };
    state.save()?;
    // The kinds come before the controllers (see `Plane::start_server`).
    say(start, "the API server is up; installing the chart");
    let installed = chart::install(&plane, &[]).await?;
    say(
        start,
        "the chart is installed; starting controllers and nodes",
    );
    plane.start_nodes().await?;
    stand_in(&plane)?;
    state.pids = plane.named_pids();
    state.save()?;
    say(
        start,
        "the control plane is complete; starting the operator",
    );
    let operator = installed.spawn(
        binary,
        Overrides {
            detach: true,
            ..Overrides::default()
        },
    )?;
    state
        .pids
        .insert("multigres-operator".to_owned(), operator.pid());
    state.save()?;
    Ok((state, plane, operator))
}

/// Starts what plays the data plane. It is built together with the demo.
fn stand_in(plane: &Plane) -> anyhow::Result<()> {
    let program = std::env::current_exe()?.with_file_name(STAND_IN);
    ensure!(program.exists(), "{} is missing", program.display());
    let argument = |flag: &str, value: &str| format!("--{flag}={value}");
    let arguments = vec![
        argument("kubeconfig", &plane.kubeconfig().display().to_string()),
        argument("folder", &plane.dir().join(STAND_IN).display().to_string()),
        argument("network", &plane.pod_cidr()),
        argument("control", &format!("127.0.0.1:{}", plane.free_port()?)),
    ];
    plane.run_beside(STAND_IN, &program, arguments)
}

fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("MULTIGRES_OPERATOR_BINARY") {
        return Ok(PathBuf::from(path).canonicalize()?);
    }
    let target = root()?.join("target");
    let candidates =
        ["release", "debug"].map(|profile| target.join(profile).join("multigres-operator"));
    candidates.into_iter().find(|path| path.exists()).context(
        "there is no operator binary: run `cargo build --release`, or name one in MULTIGRES_OPERATOR_BINARY",
    )
}

/// A client, if all processes run and the cluster is healthy.
async fn healthy(state: &State) -> anyhow::Result<Option<Client>> {
    let folder = folder()?;
    let complete = state.pids.contains_key("multigres-operator");
    if !complete || !state.pids.values().all(|pid| ours(*pid, &folder)) {
        return Ok(None);
    }
    let client = connect(&state.kubeconfig).await?;
    let healthy = operated(&client, NAMESPACE)
        .await
        .is_ok_and(|objects| settled(&objects));
    Ok(healthy.then_some(client))
}

fn settled(objects: &[Object]) -> bool {
    objects.first().is_some_and(|cluster| {
        cluster.kind == "MultigresCluster" && cluster.phase() == Some("Healthy")
    })
}

/// Shows what the cluster waits for until it is healthy.
async fn watch(
    client: &Client,
    operator: &mut OperatorProcess,
    start: Instant,
) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown: (Vec<String>, Instant) = (Vec::new(), start);
    loop {
        ticks.tick().await;
        operator.check()?;
        let objects = operated(client, NAMESPACE).await?;
        if settled(&objects) {
            return Ok(());
        }
        let mut lines: Vec<String> = objects.iter().filter_map(Object::waiting).collect();
        if lines.len() > 1 {
            // The cluster waits for its parts, which say more.
            lines.remove(0);
        }
        if lines != shown.0 || shown.1.elapsed() >= REPEAT {
            lines.iter().for_each(|line| say(start, line));
            shown = (lines, Instant::now());
        }
        if Instant::now() > end {
            objects
                .iter()
                .flat_map(Object::conditions)
                .for_each(|line| eprintln!("{line}"));
            bail!(
                "the cluster is not healthy after {DEADLINE:?}; the operator's log ends with:\n{}",
                operator.log_tail(20)
            );
        }
    }
}

async fn finish(client: &Client, state: &State, start: Instant) -> anyhow::Result<()> {
    let objects = operated(client, NAMESPACE).await?;
    let name = objects
        .first()
        .map(|cluster| cluster.object.name_any())
        .unwrap_or_default();
    println!();
    print_tree(client, NAMESPACE).await?;
    println!(
        "\nMultigresCluster {name} is Healthy, {:.1} s in all\n",
        start.elapsed().as_secs_f64()
    );
    println!("export KUBECONFIG={}", state.kubeconfig.display());
    println!("kubectl get shards -o wide");
    Ok(())
}

fn say(start: Instant, text: &str) {
    println!("[{:5.1} s] {text}", start.elapsed().as_secs_f64());
}
