//! Every object we make: byte for byte, beside what the Go operator made, beside the worked examples of the reference, and the
//! pods among them frozen.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod comparison;
mod differences;
mod examples;
mod files;
mod lengths;
mod manifests;
mod pods;
mod render;
mod room_shapes;
mod rooms;
mod shard_shapes;
mod typed;
