//! The process of the Multigres operator: arguments, threads, leader election, logs and HTTP servers.
//!
//! It knows nothing of the domain; the actors do. [`process::Process`] is the whole of it, for `main` and for tests.

pub mod args;
pub mod clock;
pub mod engine;
pub mod fence;
pub mod leader;
pub mod lease;
pub mod process;
pub mod runtime;
pub mod server;
pub mod shutdown;
pub mod telemetry;
