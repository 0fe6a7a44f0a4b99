//! The actors on virtual time, against a double of the API server that keeps the promises they rely on: preconditions, one
//! order of events per object, generations, status apart. What a real API server does beyond that is shown by the cluster
//! tests.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod bed;
mod controllers;
mod faults;
mod fleet;
mod histories;
mod invariants;
mod leadership;
mod merge;
mod pace;
#[path = "../etcd/mod.rs"]
mod process;
mod requests;
mod server;
mod shapes;
mod watches;

mod answers;
mod bring_up;
mod edits;
mod images;
mod lessons;
mod poolers;
mod rebuild;
mod references;
mod restarts;
mod topology;
mod volumes;
mod waiting_reads;
