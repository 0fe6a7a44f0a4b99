//! A multiorch pod, and what a shard keeps in the topology.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use prost::Message;
use tokio::{sync::watch, task::JoinSet};

use super::{
    fleet::{Command, Context, State},
    live::Live,
    server::{Answer, Answering, Port, Request, page},
    services, tls,
    topology::{RETRY, Topology},
};
use crate::{
    message::record::{self, Address},
    name::{Component, Id, ShardKey},
};

/// A coordinator's process.
pub struct Orch {
    /// Identity.
    pub id: Id,
    /// The shards it watches.
    pub shards: BTreeMap<ShardKey, Arc<Live>>,
    registered: watch::Receiver<bool>,
}

impl Answer for Orch {
    fn answer(self: Arc<Self>, request: Request) -> Answering {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let ready = *self.registered.borrow();
            match page(&path, ready, "multiorch") {
                Some(page) => page,
                None => services::orch(self, &path, request).await,
            }
        })
    }
}

/// The identity of a component whose `--service-id` may be missing: then it is another one in each life.
pub fn identity(context: &Context, component: Component) -> Id {
    let pod = &context.pod;
    let random: String = pod
        .uid
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let random = random.get(..8).unwrap_or(&random);
    Id::new(
        component,
        pod.flag("cell", ""),
        pod.flag("service-id", random),
    )
}

fn targets(context: &Context) -> Vec<ShardKey> {
    let text = context.pod.flag("watch-targets", "postgres");
    let target = |text: &str| {
        let mut parts = text.split('/').map(str::to_owned);
        Some(ShardKey {
            database: parts.next()?,
            table_group: parts.next().unwrap_or_else(|| "default".to_owned()),
            shard: parts.next().unwrap_or_else(|| "0-inf".to_owned()),
        })
    };
    text.split(',').filter_map(target).collect()
}

/// Where a component without PostgreSQL is reached.
pub fn address(context: &Context, ports: &[(&str, &str, u16)]) -> Address {
    let pod = &context.pod;
    let port = |(name, flag, default): &(&str, &str, u16)| {
        ((*name).to_owned(), i32::from(pod.port(flag, *default)))
    };
    Address {
        host: pod.flag("hostname", &pod.host),
        ports: ports.iter().map(port).collect(),
    }
}

/// Runs a multiorch pod until it is told to end.
pub async fn run(context: Context, mut command: watch::Receiver<Command>) {
    let id = identity(&context, Component::Multiorch);
    let topology = context.topology();
    let shards: BTreeMap<ShardKey, Arc<Live>> = targets(&context)
        .into_iter()
        .map(|key| (key.clone(), context.fleet.shard(&topology, &key)))
        .collect();
    let (registered, seen) = watch::channel(false);
    let orch = Arc::new(Orch {
        id: id.clone(),
        shards,
        registered: seen,
    });
    let mut tasks = JoinSet::new();
    serve(
        &context,
        &orch,
        &mut tasks,
        [("http-port", 15300), ("grpc-port", 15370)],
    );
    let address = address(
        &context,
        &[("http", "http-port", 15300), ("grpc", "grpc-port", 15370)],
    );
    let value = record::orch(&id, &address).encode_to_vec();
    let key = format!("orchs/{id}/Orch");
    let (own, part) = (context.clone(), Arc::clone(&orch));
    tasks.spawn(async move {
        register(&own, &part.id.cell, &key, value).await;
        registered.send_replace(true);
        for live in part.shards.values() {
            tune(&own, live);
            live.change(|shard, now| shard.orch_started(part.id.clone(), now));
        }
        own.state(State {
            ready: true,
            restarts: 0,
        });
        std::future::pending::<()>().await;
    });
    let orderly = Command::other_than_run(&mut command).await == Command::Stop;
    drop(tasks);
    for live in orch.shards.values() {
        live.change(|shard, now| shard.orch_gone(&id, now));
    }
    if orderly {
        deregister(&topology, &id.cell, &format!("orchs/{id}/Orch")).await;
    }
}

/// Delays by the coordinator's flags.
fn tune(context: &Context, live: &Live) {
    let grace = context.duration("leader-failover-grace-period-base");
    let jitter = context.duration("leader-failover-grace-period-max-jitter");
    let cycle = context.duration("recovery-cycle-interval");
    live.change(|shard, _| {
        if let Some(grace) = grace {
            shard.timing.grace = grace + jitter.unwrap_or_default() / 2;
        }
        if let Some(cycle) = cycle {
            shard.timing.cycle = cycle;
        }
    });
}

/// Serves HTTP and gRPC, with TLS if the flags name certificates.
pub fn serve<A: Answer>(
    context: &Context,
    service: &Arc<A>,
    tasks: &mut JoinSet<()>,
    ports: [(&str, u16); 2],
) {
    let [http, grpc] = ports.map(|(flag, default)| Port {
        address: SocketAddr::from((context.pod.address, context.pod.port(flag, default))),
        faults: context.faults.clone(),
        tls: None,
        service: Arc::clone(service) as Arc<dyn Answer>,
        calls: context.fleet.calls(),
    });
    tasks.spawn(http.serve());
    let context = context.clone();
    tasks.spawn(async move {
        let config = loop {
            match tls::server(context.fleet.files(), &context.pod).await {
                Ok(config) => break config,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        };
        Port {
            tls: config,
            ..grpc
        }
        .serve()
        .await;
    });
}

/// Writes a component's record, as soon as its cell can be reached.
pub async fn register(context: &Context, cell: &str, key: &str, value: Vec<u8>) {
    let topology = context.topology();
    loop {
        let cell = topology.cell_when_there(cell).await;
        if cell.store.put(key, value.clone()).await.is_ok() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Removes a component's record, best effort.
pub async fn deregister(topology: &Topology, cell: &str, key: &str) {
    if let Ok(cell) = topology.cell(cell).await {
        // It stays when the topology cannot be reached, as with real processes.
        let _ = cell.store.delete(key).await;
    }
}

/// Keeps what a shard as a whole has in the topology: its policy is read, its claim and its backup lock are written.
pub async fn steward(topology: Arc<Topology>, live: Arc<Live>) {
    let key = live.read(|shard, _| shard.key.clone());
    let policy = topology.policy_when_there(&key.database).await;
    if let Ok(Some(claim)) = topology.claim(&key).await {
        live.change(|shard, now| shard.claimed(claim, now));
    }
    live.change(|shard, now| shard.database(Some(policy), now));
    let mut claimed = false;
    let mut lease = None;
    let mut version = live.subscribe();
    loop {
        version.mark_unchanged();
        let (claim, running) = live.read(|shard, _| {
            let running = shard.repository.running.as_ref();
            (shard.claim().cloned(), running.map(|job| job.id.clone()))
        });
        if let Some(claim) = claim.filter(|_| !claimed) {
            claimed = topology.make_claim(&key, &claim).await.is_ok();
        }
        if !claimed && live.read(|shard, _| shard.claim().is_some())
            || lock_backups(&topology, &key, running, &mut lease)
                .await
                .is_err()
        {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        if version.changed().await.is_err() {
            return;
        }
    }
}

/// Holds the backup lock while a job runs. The lease outlives every job, since nothing keeps it alive.
async fn lock_backups(
    topology: &Topology,
    key: &ShardKey,
    running: Option<String>,
    lease: &mut Option<(String, i64)>,
) -> anyhow::Result<()> {
    if let Some((job, id)) = lease.clone()
        && running.as_ref() != Some(&job)
    {
        topology.global.revoke(id).await?;
        *lease = None;
    }
    if let Some(job) = running.filter(|_| lease.is_none()) {
        let value = serde_json::json!({
            "Action": "backup", "HostName": "stand-in", "UserName": "postgres", "Options": {}, "Status": "Running",
            "Time": jiff::Timestamp::now().to_string(),
        });
        let value = serde_json::to_vec_pretty(&value)?;
        let path = format!("backups/{key}/lock");
        let held = topology.global.create(&path, value, Some(3_600)).await?;
        *lease = held.map(|id| (job, id));
    }
    Ok(())
}
