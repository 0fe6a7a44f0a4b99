//! Effects against what they talk to: a real etcd, and a gRPC server with the data plane's services. Loopback only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

mod certificates;
mod dataplane;
mod etcd;
#[path = "../etcd/mod.rs"]
mod process;
mod seek;

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::mpsc;

/// Longest wait for anything that should happen; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(40);

/// The next message.
async fn next<T>(reports: &mut mpsc::Receiver<T>) -> T {
    tokio::time::timeout(PATIENCE, reports.recv())
        .await
        .expect("nothing was reported")
        .expect("the channel closed")
}

/// The first message of a kind; those before it are dropped.
async fn find<T: Debug, F>(reports: &mut mpsc::Receiver<T>, wanted: impl Fn(&T) -> Option<F>) -> F {
    loop {
        let report = next(reports).await;
        if let Some(found) = wanted(&report) {
            return found;
        }
    }
}
