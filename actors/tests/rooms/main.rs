//! Decisions of the rooms above the shard: cluster, topology server, cell, table group. Each test says what it shows.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod certificates;
mod desk;
mod status;
mod stores;
