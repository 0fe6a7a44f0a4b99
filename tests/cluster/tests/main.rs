//! The operator as a user meets it, on a real API server with real controllers; only kubelets are played.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod bring_up;
mod cel;
#[path = "../../../crds/tests/common/mod.rs"]
mod common;
mod data_plane;
mod deletion;
mod kill;
mod leadership;
mod lost_writes;
mod outage;
mod panics;
mod poolers;
mod pruning;
mod random;
mod repair;
mod rights;
mod samples;
mod scene;
#[path = "../../../actors/tests/tree/mod.rs"]
mod tree;
mod upkeep;

use cluster::Bed;
use tokio::sync::Mutex;

/// One test at a time: they measure, and there may be two cores only. A test that only waits may let others go on.
static ONE: Mutex<()> = Mutex::const_new(());

const SHARD: &str = "-postgres-default-0-inf-";

fn shard_of(bed: &Bed, cluster: &str) -> String {
    let names = bed.managed().unwrap();
    let prefix = format!("shard.multigres.com/{cluster}{SHARD}");
    names
        .iter()
        .find(|name| name.starts_with(&prefix))
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned()
}
