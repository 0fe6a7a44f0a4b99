//! A gateway pod. It routes nothing: there is nobody to send queries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use prost::Message;
use tokio::{sync::watch, task::JoinSet};

use super::{
    fleet::{Command, Context, State},
    orch::{address, deregister, identity, register, serve},
    server::{Answer, Answering, Request, page},
    services,
    topology::RETRY,
};
use crate::{message::record, name::Component};

/// Prefixes are chosen free in each cell; here they are free in the whole machine.
static PREFIX: AtomicU32 = AtomicU32::new(0);

/// A gateway's process.
pub struct Gateway {
    ready: watch::Receiver<bool>,
}

impl Answer for Gateway {
    fn answer(self: Arc<Self>, request: Request) -> Answering {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let ready = *self.ready.borrow();
            match page(&path, ready, "multigateway") {
                Some(page) => page,
                None => services::gateway(&path, request).await,
            }
        })
    }
}

/// Runs a gateway pod until it is told to end.
pub async fn run(context: Context, mut command: watch::Receiver<Command>) {
    let id = identity(&context, Component::Multigateway);
    let (ready, seen) = watch::channel(false);
    let gateway = Arc::new(Gateway { ready: seen });
    let mut tasks = JoinSet::new();
    serve(
        &context,
        &gateway,
        &mut tasks,
        [("http-port", 15100), ("grpc-port", 15170)],
    );
    let address = address(
        &context,
        &[
            ("http", "http-port", 15100),
            ("grpc", "grpc-port", 15170),
            ("postgres", "pg-port", 5432),
            ("postgres_replica", "pg-replica-port", 5433),
        ],
    );
    let prefix = 1 + PREFIX.fetch_add(1, Ordering::Relaxed) % 4_095;
    let value = record::gateway(&id, &address, prefix).encode_to_vec();
    let key = format!("gateways/{id}/Gateway");
    let (own, cell) = (context.clone(), id.cell.clone());
    let topology = context.topology();
    let written = key.clone();
    tasks.spawn(async move {
        register(&own, &cell, &written, value).await;
        a_pooler_is_known(&own, &cell).await;
        ready.send_replace(true);
        own.state(State {
            ready: true,
            restarts: 0,
        });
        std::future::pending::<()>().await;
    });
    let orderly = Command::other_than_run(&mut command).await == Command::Stop;
    drop(tasks);
    if orderly {
        deregister(&topology, &id.cell, &key).await;
    }
}

/// A gateway is ready when it knows a pooler, in whatever state.
async fn a_pooler_is_known(context: &Context, cell: &str) {
    let topology = context.topology();
    let mut pause = RETRY;
    loop {
        if let Ok(cell) = topology.cell(cell).await
            && let Ok((records, _)) = cell.store.list("poolers/").await
            && !records.is_empty()
        {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}
