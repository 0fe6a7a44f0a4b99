//! A pool pod: multipooler and pgctld.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::SignedDuration;
use prost::Message;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    task::JoinSet,
};

use super::{
    fault::Faults,
    files::Files,
    fleet::{Command, Context, State},
    live::Live,
    pod::PodSpec,
    server::{Answer, Answering, Port, Request, page, text},
    services, tls,
    topology::{CellStore, RETRY},
};
use crate::{
    message::record::{self, Address, Place},
    name::{Id, ShardKey},
    pooler::{Pooler as Model, Process, Record, Site},
    settings::{self, Settings},
};

/// The file with PostgreSQL's settings, as pgctld is told.
const CONFIGURATION: &str = "/etc/pgctld/postgres-config/postgresql.conf";

/// A pooler's process.
pub struct Pooler {
    /// Identity.
    pub id: Id,
    /// Its shard.
    pub live: Arc<Live>,
    /// The shard's name.
    pub key: ShardKey,
    /// What is wrong with it.
    pub faults: watch::Receiver<Faults>,
    /// Serialises everything that changes state; backups hold it for their whole duration.
    pub action: AsyncMutex<()>,
    pod: Arc<PodSpec>,
    files: Files,
    place: Place,
    /// The settings that PostgreSQL runs with.
    running: Mutex<Settings>,
    /// What a pooler with stale files sees.
    frozen: Mutex<Option<Settings>>,
}

impl Pooler {
    fn new(context: &Context) -> Self {
        let pod = Arc::clone(&context.pod);
        let (id, key) = (identity(&pod), shard_key(&pod));
        let port = |flag: &str, default| i32::from(pod.port(flag, default));
        let ports = BTreeMap::from([
            ("grpc".to_owned(), port("grpc-port", 15270)),
            ("http".to_owned(), port("http-port", 15200)),
            ("postgres".to_owned(), port("pg-port", 5432)),
            ("pgbackrest".to_owned(), port("pgbackrest-port", 8432)),
        ]);
        let data_dir = pod.env.get("PGDATA").cloned();
        Self {
            live: context.fleet.shard(&context.topology(), &key),
            faults: context.faults.clone(),
            action: AsyncMutex::new(()),
            files: context.fleet.files().clone(),
            place: Place {
                address: Address {
                    host: pod.flag("hostname", &pod.host),
                    ports,
                },
                pooler_dir: pod.flag("pooler-dir", "/var/lib/pooler"),
                data_dir: data_dir.unwrap_or_else(|| "/var/lib/pooler/pg_data".to_owned()),
            },
            running: Mutex::default(),
            frozen: Mutex::default(),
            id,
            key,
            pod,
        }
    }

    /// How far its clock is off.
    pub fn skew(&self) -> SignedDuration {
        SignedDuration::from_millis(self.faults.borrow().clock_skew_milliseconds)
    }

    /// Looks at the pooler.
    pub fn look<T>(&self, look: impl FnOnce(&Model) -> T) -> Option<T> {
        self.live.read(|shard, _| shard.pooler(&self.id).map(look))
    }

    fn answers(&self) -> bool {
        self.look(Model::answers).unwrap_or_default()
    }

    /// The settings in the file now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn file(&self) -> anyhow::Result<Settings> {
        let frozen = self.faults.borrow().stale_files;
        if frozen && let Some(settings) = lock(&self.frozen).clone() {
            return Ok(settings);
        }
        let bytes = self.files.read(&self.pod, CONFIGURATION).await?;
        let settings = settings::parse(&String::from_utf8_lossy(&bytes));
        *lock(&self.frozen) = Some(settings.clone());
        Ok(settings)
    }

    /// The settings that PostgreSQL runs with.
    pub fn running(&self) -> Settings {
        lock(&self.running).clone()
    }

    /// PostgreSQL has started with these settings, or has taken over the reloadable ones of them.
    pub fn took(&self, file: Settings, restarted: bool) {
        let mut running = lock(&self.running);
        if restarted {
            *running = file;
        } else {
            running.extend(
                file.into_iter()
                    .filter(|(name, _)| crds::guc::reloadable(name)),
            );
        }
    }

    /// The record as it should be; nothing once the process is gone.
    fn record(&self) -> Option<(Vec<u8>, bool)> {
        let skew = self.skew();
        let encode = |record: &Record| {
            record::pooler(&self.id, &self.key, &self.place, record, skew).encode_to_vec()
        };
        self.look(|pooler| {
            let ended = pooler.process == Process::Ended;
            (pooler.process != Process::Gone).then(|| (encode(&pooler.record), ended))
        })?
    }

    /// Publishes the record whenever the pooler's own state changes; ends with the process.
    async fn publish(self: Arc<Self>, cell: Arc<CellStore>) {
        let mut version = self.live.subscribe();
        let mut faults = self.faults.clone();
        let mut last = Vec::new();
        loop {
            version.mark_unchanged();
            faults.mark_unchanged();
            let Some((mut value, ended)) = self.record() else {
                return;
            };
            let (stale, garbage) = {
                let faults = faults.borrow();
                (faults.stale_record, faults.garbage_record)
            };
            if garbage {
                value = b"\xFF\xFFthis is no record".to_vec();
            }
            if value != last && !stale {
                if cell
                    .publish(&self.live, &self.id, value.clone())
                    .await
                    .is_err()
                {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                last = value;
            }
            if ended {
                return;
            }
            tokio::select! {
                _ = version.changed() => {}
                _ = faults.changed() => {}
            }
        }
    }

    /// Keeps the settings that PostgreSQL started with.
    async fn follow_settings(self: Arc<Self>) {
        loop {
            self.until(Model::ready).await;
            if let Ok(file) = self.file().await {
                self.took(file, true);
            }
            self.until(|pooler| !pooler.ready()).await;
        }
    }

    async fn until(&self, condition: impl Fn(&Model) -> bool) {
        self.live
            .until(|shard| shard.pooler(&self.id).filter(|p| condition(p)).map(drop))
            .await;
    }

    /// Applies faults that the model plays.
    fn apply(&self, faults: &Faults) {
        self.live.change(|shard, now| {
            let Some(pooler) = shard.pooler(&self.id) else {
                return;
            };
            let (isolated, held) = (pooler.isolated.is_some(), pooler.held);
            let without_repository = pooler.without_repository;
            let damaged = shard
                .volume_of(&self.id)
                .is_some_and(|volume| volume.damaged);
            if isolated != faults.partition {
                shard.isolate(&self.id, faults.partition, now);
            }
            if held != faults.lag {
                shard.hold(&self.id, faults.lag, now);
            }
            if faults.damaged_volume && !damaged {
                shard.damage(&self.id, now);
            }
            if without_repository != faults.no_repository {
                shard.repository_unreachable(&self.id, faults.no_repository, now);
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pooler's identity by its flags.
pub fn identity(pod: &PodSpec) -> Id {
    Id::pooler(pod.flag("cell", ""), pod.flag("service-id", &pod.name))
}

fn shard_key(pod: &PodSpec) -> ShardKey {
    ShardKey {
        database: pod.flag("database", "postgres"),
        table_group: pod.flag("table-group", "default"),
        shard: pod.flag("shard", "0-inf"),
    }
}

impl Answer for Pooler {
    fn answer(self: Arc<Self>, request: Request) -> Answering {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            match page(&path, self.answers(), "multipooler") {
                Some(page) => page,
                None => services::pooler(self, &path, request).await,
            }
        })
    }
}

/// pgctld's pages; its gRPC is the local multipooler's.
struct Pgctld;

impl Answer for Pgctld {
    fn answer(self: Arc<Self>, request: Request) -> Answering {
        Box::pin(async move {
            page(request.uri().path(), true, "pgctld").unwrap_or_else(|| text(404, "not found"))
        })
    }
}

/// Runs a pool pod until it is told to end.
pub async fn run(context: Context, mut command: watch::Receiver<Command>) {
    let mut restarts = 0;
    loop {
        match once(&context, &mut command, restarts).await {
            End::Over => return,
            End::Crashed => restarts += 1,
        }
    }
}

enum End {
    Over,
    Crashed,
}

/// One life of the process.
async fn once(context: &Context, command: &mut watch::Receiver<Command>, restarts: i32) -> End {
    let pooler = Arc::new(Pooler::new(context));
    let mut faults = context.faults.clone();
    let site = Site {
        id: pooler.id.clone(),
        host: pooler.place.address.host.clone(),
        volume: context.volume.clone(),
        unrecoverable_after: context
            .duration("postgres-unrecoverable-timeout")
            .filter(|after| !after.is_zero()),
    };
    pooler.live.change(|shard, now| shard.start(site, now));
    pooler.apply(&faults.borrow_and_update().clone());
    let mut tasks = JoinSet::new();
    start(context, &pooler, &mut tasks, restarts);
    loop {
        tokio::select! {
            biased;
            changed = command.changed() => {
                let now = if changed.is_ok() { *command.borrow() } else { Command::Kill };
                match now {
                    Command::Run => {}
                    Command::Stop => break,
                    Command::Kill => {
                        pooler.live.change(|shard, now| shard.kill(&pooler.id, now));
                        return End::Over;
                    }
                }
            }
            Ok(()) = faults.changed() => {
                let new = faults.borrow_and_update().clone();
                if new.crash {
                    pooler.live.change(|shard, now| shard.kill(&pooler.id, now));
                    context.state(State { ready: false, restarts });
                    drop(tasks);
                    return after_crash(faults, command).await;
                }
                pooler.apply(&new);
            }
        }
    }
    stop(&pooler, &mut tasks, command).await;
    End::Over
}

/// Starts all that a living process does.
fn start(context: &Context, pooler: &Arc<Pooler>, tasks: &mut JoinSet<()>, restarts: i32) {
    let pod = &context.pod;
    let port = |flag: &str, default| SocketAddr::from((pod.address, pod.port(flag, default)));
    let plain = |address, service: Arc<dyn Answer>| Port {
        address,
        faults: context.faults.clone(),
        tls: None,
        service,
        calls: context.fleet.calls(),
    };
    tasks.spawn(plain(port("http-port", 15200), Arc::clone(pooler) as _).serve());
    tasks.spawn(plain(SocketAddr::from((pod.address, 15400)), Arc::new(Pgctld)).serve());
    let (own, topology, cell) = (
        Arc::clone(pooler),
        context.topology(),
        pooler.id.cell.clone(),
    );
    tasks.spawn(async move {
        let cell = topology.cell_when_there(&cell).await;
        own.publish(cell).await;
        // Publishing ends with the process; its end is awaited through the shard.
    });
    tasks.spawn(Arc::clone(pooler).follow_settings());
    let (own, context) = (Arc::clone(pooler), context.clone());
    let grpc = plain(port("grpc-port", 15270), Arc::clone(pooler) as _);
    tasks.spawn(async move {
        // The port opens once the process has read its database's record.
        own.until(Model::answers).await;
        let config = loop {
            match tls::server(context.fleet.files(), &context.pod).await {
                Ok(config) => break config,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        };
        let mut serving = Port {
            tls: config,
            ..grpc
        };
        let listener = serving.open().await;
        context.state(State {
            ready: true,
            restarts,
        });
        serving.serve_on(listener).await;
    });
}

/// An orderly stop: over when the process has ended and its last record is written, or when it is killed.
async fn stop(pooler: &Pooler, tasks: &mut JoinSet<()>, command: &mut watch::Receiver<Command>) {
    pooler
        .live
        .change(|shard, now| shard.terminate(&pooler.id, now));
    let ended = async {
        pooler
            .until(|pooler| matches!(pooler.process, Process::Ended | Process::Gone))
            .await;
        // The publisher is the only task that ends by itself.
        while let Some(result) = tasks.join_next().await {
            if result.is_ok() {
                return;
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = Command::kill(command) => pooler.live.change(|shard, now| shard.kill(&pooler.id, now)),
    }
}

/// The process is dead; it starts again when the fault ends.
async fn after_crash(
    mut faults: watch::Receiver<Faults>,
    command: &mut watch::Receiver<Command>,
) -> End {
    tokio::select! {
        _ = Command::other_than_run(command) => End::Over,
        () = async { drop(faults.wait_for(|faults| !faults.crash).await) } => End::Crashed,
    }
}
