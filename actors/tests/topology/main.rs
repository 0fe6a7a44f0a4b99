//! The topology without a client: real records, records with fields of the future, and every decision about them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

mod edits;
mod fuzz;
#[path = "../law/mod.rs"]
mod law;
mod lessons;
mod members;
mod pruning;
mod samples;
