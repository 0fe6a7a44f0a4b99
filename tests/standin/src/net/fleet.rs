//! All stand-ins of a machine: pods come and go, shards and topologies stay.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    admin, etcd,
    fault::{Faults, Registry},
    files::Files,
    gateway,
    live::Live,
    names::Names,
    orch,
    pod::{PodSpec, Role},
    pooler,
    server::Calls,
    topology::Topology,
};
use crate::{name::ShardKey, shard::Shard, timing::Timing};

/// How a fleet is set up.
#[derive(Clone)]
pub struct Options {
    /// How long things take.
    pub timing: Timing,
    /// Durations in the pods' flags are divided by this; 1 takes them as they are.
    pub speed: u32,
    /// The etcd program, for topology pods.
    pub etcd: PathBuf,
    /// Where etcd's data and logs go.
    pub folder: PathBuf,
    /// The first two numbers of the pods' addresses. Their upper end is where etcd members know each other: these addresses
    /// stay when pods do not, like the names they stand for.
    pub network: [u8; 2],
    /// Where mounted files are read.
    pub files: Files,
}

/// What a peer is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Run.
    Run,
    /// Stop in an orderly way (SIGTERM).
    Stop,
    /// Be gone (SIGKILL).
    Kill,
}

impl Command {
    /// Waits until a peer is told anything but to run, and says what. A sender that is gone kills.
    pub async fn other_than_run(command: &mut watch::Receiver<Self>) -> Self {
        match command.wait_for(|command| *command != Self::Run).await {
            Ok(command) => *command,
            Err(_) => Self::Kill,
        }
    }

    /// Waits until a peer is told to be gone. A sender that is gone kills.
    pub async fn kill(command: &mut watch::Receiver<Self>) {
        let _ = command.wait_for(|command| *command == Self::Kill).await;
    }
}

/// What a kubelet sees of a peer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct State {
    /// Its readiness probe passes.
    pub ready: bool,
    /// How often its main container was started again.
    pub restarts: i32,
}

/// A peer, from outside.
#[derive(Clone, Debug)]
pub struct Handle {
    command: Arc<watch::Sender<Command>>,
    /// What a kubelet sees.
    pub state: watch::Receiver<State>,
    /// Whether it has ended.
    pub ended: watch::Receiver<bool>,
}

impl Handle {
    /// Tells the peer to stop in an orderly way.
    pub fn stop(&self) {
        self.command.send_if_modified(|command| {
            let first = *command == Command::Run;
            if first {
                *command = Command::Stop;
            }
            first
        });
    }

    /// Ends the peer at once.
    pub fn kill(&self) {
        self.command.send_replace(Command::Kill);
    }

    /// Waits until the peer is ready.
    pub async fn ready(&mut self) {
        // A peer that has ended will not be.
        let _ = self.state.wait_for(|state| state.ready).await;
    }

    /// Waits until the peer has ended.
    pub async fn end(&mut self) {
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

/// What a peer has at hand.
#[derive(Clone)]
pub struct Context {
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// The pod.
    pub pod: Arc<PodSpec>,
    /// Identity of the data volume.
    pub volume: String,
    /// What is wrong with it.
    pub faults: watch::Receiver<Faults>,
    state: Arc<watch::Sender<State>>,
}

impl Context {
    /// Says what a kubelet is to see.
    pub fn state(&self, state: State) {
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }

    /// A flag that is a duration, at the fleet's speed.
    pub fn duration(&self, flag: &str) -> Option<Duration> {
        let duration = self.pod.duration(flag)?;
        Some(duration / self.fleet.options.speed.max(1))
    }

    /// The topology that the flags name.
    pub fn topology(&self) -> Arc<Topology> {
        let servers = self.pod.flag("topo-global-server-addresses", "");
        let root = self.pod.flag("topo-global-root", "/multigres/global");
        self.fleet.topology(&servers, &root)
    }
}

/// Servers and root of a global store, and the shard in it.
type ShardPlace = (Vec<String>, String, ShardKey);

/// All stand-ins.
pub struct Fleet {
    options: Options,
    /// Names of pods and Services.
    pub names: Arc<Names>,
    /// What is wrong with whom.
    pub faults: Registry,
    calls: Arc<Calls>,
    topologies: Mutex<BTreeMap<(String, String), Arc<Topology>>>,
    shards: Mutex<BTreeMap<ShardPlace, Arc<Live>>>,
    peers: Mutex<BTreeMap<String, (Arc<PodSpec>, Handle)>>,
    tasks: Mutex<JoinSet<()>>,
    /// Members of etcds.
    pub members: etcd::Members,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// A fleet without pods.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            members: etcd::Members::new(options.network),
            options,
            names: Arc::default(),
            faults: Registry::default(),
            calls: Arc::default(),
            topologies: Mutex::default(),
            shards: Mutex::default(),
            peers: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// How it is set up.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Mounted files.
    pub fn files(&self) -> &Files {
        &self.options.files
    }

    /// Calls that peers were sent.
    pub fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// A topology by its servers (separated by commas) and root.
    pub fn topology(&self, servers: &str, root: &str) -> Arc<Topology> {
        let mut topologies = lock(&self.topologies);
        let key = (servers.to_owned(), root.to_owned());
        let topology = topologies.entry(key).or_insert_with(|| {
            let servers = servers.split(',').map(str::to_owned).collect();
            Arc::new(Topology::new(Arc::clone(&self.names), servers, root))
        });
        Arc::clone(topology)
    }

    /// A shard of a topology.
    pub fn shard(&self, topology: &Arc<Topology>, key: &ShardKey) -> Arc<Live> {
        let place = (
            topology.global.servers().to_vec(),
            topology.global.root().to_owned(),
            key.clone(),
        );
        let mut shards = lock(&self.shards);
        let live = shards.entry(place).or_insert_with(|| {
            let live = Live::new(Shard::new(key.clone(), self.options.timing.clone()));
            let mut tasks = lock(&self.tasks);
            tasks.spawn(orch::steward(Arc::clone(topology), Arc::clone(&live)));
            live
        });
        Arc::clone(live)
    }

    /// The shards of one topology.
    pub fn shards_of(&self, servers: &[String], root: &str) -> Vec<Arc<Live>> {
        let shards = lock(&self.shards);
        let own = shards
            .iter()
            .filter(|((s, r, _), _)| s == servers && r == root);
        own.map(|(_, live)| Arc::clone(live)).collect()
    }

    /// All shards, with root and name.
    pub fn shards(&self) -> Vec<(String, ShardKey, Arc<Live>)> {
        let shards = lock(&self.shards);
        shards
            .iter()
            .map(|((_, root, key), live)| (root.clone(), key.clone(), Arc::clone(live)))
            .collect()
    }

    /// The pods that run.
    pub fn pods(&self) -> Vec<Arc<PodSpec>> {
        let peers = lock(&self.peers);
        peers
            .values()
            .filter(|(_, handle)| !*handle.ended.borrow())
            .map(|(pod, _)| Arc::clone(pod))
            .collect()
    }

    /// A peer by its pod's identity.
    pub fn peer(&self, uid: &str) -> Option<Handle> {
        lock(&self.peers).get(uid).map(|(_, handle)| handle.clone())
    }

    /// Forgets a peer; it is killed unless it has ended.
    pub fn forget(&self, uid: &str) {
        if let Some((_, handle)) = lock(&self.peers).remove(uid) {
            handle.kill();
        }
    }

    /// Starts what runs in a pod, unless it runs. The volume is the identity of its data volume; pods without one have
    /// a fresh one each.
    pub fn start(self: &Arc<Self>, pod: PodSpec, volume: Option<String>) -> Handle {
        let mut peers = lock(&self.peers);
        if let Some((_, handle)) = peers.get(&pod.uid) {
            return handle.clone();
        }
        let pod = Arc::new(pod);
        let (state, seen) = watch::channel(State::default());
        let (ended, over) = watch::channel(false);
        let (command, commands) = watch::channel(Command::Run);
        let handle = Handle {
            command: Arc::new(command),
            state: seen,
            ended: over,
        };
        let context = Context {
            fleet: Arc::clone(self),
            volume: volume.unwrap_or_else(|| pod.uid.clone()),
            faults: self.faults.of(&pod.key()),
            state: Arc::new(state),
            pod: Arc::clone(&pod),
        };
        let role = pod.role;
        let mut tasks = lock(&self.tasks);
        // What has ended is not kept.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            match role {
                Role::TopoServer => etcd::run(context, commands).await,
                Role::Pool => pooler::run(context, commands).await,
                Role::Orch => orch::run(context, commands).await,
                Role::Gateway => gateway::run(context, commands).await,
                Role::Admin => admin::run(context, commands, "multiadmin").await,
                Role::AdminWeb => admin::run(context, commands, "multiadmin-web").await,
            }
            ended.send_replace(true);
        });
        peers.insert(pod.uid.clone(), (pod, handle.clone()));
        handle
    }

    /// A volume is gone with all that was on it.
    pub fn wipe(&self, volume: &str) {
        for (_, _, live) in self.shards() {
            if live.read(|shard, _| shard.has_volume(volume)) {
                live.change(|shard, now| shard.wipe(volume, now));
            }
        }
        self.members.wipe(&self.options.folder, volume);
    }

    /// Ends everything.
    pub fn shut_down(&self) {
        lock(&self.tasks).abort_all();
    }
}
