//! A multiadmin pod, and the pod of its web pages.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    fleet::{Command, Context, Fleet, State},
    live::Live,
    orch::serve,
    server::{Answer, Answering, Request, page},
    services,
    topology::Topology,
};
use crate::name::{Id, ShardKey};

/// A backup job. Jobs live in memory: a new process knows none.
#[derive(Clone, Debug)]
pub struct Job {
    /// The shard.
    pub key: ShardKey,
    /// The type that was asked for.
    pub kind: String,
}

/// An admin server's process.
pub struct Admin {
    /// The cluster's topology.
    pub topology: Arc<Topology>,
    fleet: Arc<Fleet>,
    component: &'static str,
    jobs: Mutex<BTreeMap<String, Job>>,
}

impl Admin {
    /// The jobs that this process has begun.
    pub fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard of the cluster.
    pub fn shard(&self, key: &ShardKey) -> Arc<Live> {
        self.fleet.shard(&self.topology, key)
    }

    /// The shard to which a pooler of the cluster belongs.
    pub fn shard_of(&self, id: &Id) -> Option<Arc<Live>> {
        let (root, servers) = (self.topology.global.root(), self.topology.global.servers());
        let shards = self.fleet.shards_of(servers, root);
        shards
            .into_iter()
            .find(|live| live.read(|shard, _| shard.pooler(id).is_some()))
    }
}

impl Answer for Admin {
    fn answer(self: Arc<Self>, request: Request) -> Answering {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            match page(&path, true, self.component) {
                Some(page) => page,
                None => services::admin(self, &path, request).await,
            }
        })
    }
}

/// Runs the pod until it is told to end.
pub async fn run(context: Context, mut command: watch::Receiver<Command>, component: &'static str) {
    let admin = Arc::new(Admin {
        topology: context.topology(),
        fleet: Arc::clone(&context.fleet),
        component,
        jobs: Mutex::default(),
    });
    let ports = match component {
        "multiadmin" => [("http-port", 18000), ("grpc-port", 18070)],
        _ => [("http-port", 18100), ("grpc-port", 18170)],
    };
    let mut tasks = JoinSet::new();
    serve(&context, &admin, &mut tasks, ports);
    context.state(State {
        ready: true,
        restarts: 0,
    });
    Command::other_than_run(&mut command).await;
}
