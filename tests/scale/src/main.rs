//! `scale` brings up a fleet of minimal clusters on a control plane of this machine and compares the operator with a
//! client that only posts the same objects; then it listens to the settled fleet and reads the operator's memory.
//!
//! `SCALE_QUICK=1` is a small round of everything; see [`settings`] for the other variables.

mod bench;
mod demo;
mod figures;
mod fleet;
mod looker;
mod quiet;
mod raw;
mod report;
mod settings;
mod transitions;

use std::{path::PathBuf, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let settings = settings::Settings::from_env()?;
    println!("measuring {}", settings.binary.display());
    let mut bench = bench::Bench::start(settings).await?;
    let result = bench.measure().await;
    // What was measured before a failure is worth having.
    bench.figures().print();
    bench.figures().write(&target())?;
    result
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| default.into(), PathBuf::from)
}
