//! `scale` brings up a fleet of minimal clusters on a control plane of this machine and compares the operator with a
//! client that only posts the same objects; then it listens to the settled fleet and reads the operator's memory. Then the
//! same with a data plane that answers, changes and hangs ([`live`]).
//!
//! `SCALE_QUICK=1` is a small round of everything; see [`settings`] for the other variables.

mod bench;
mod demo;
mod figures;
mod fleet;
mod live;
mod looker;
mod quiet;
mod raw;
mod report;
mod settings;
mod transitions;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use bench::Bench;
use control_plane::Pods;
use figures::Figures;
use settings::Settings;

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
    let settings = Settings::from_env()?;
    println!("measuring {}", settings.binary.display());
    let mut figures = Figures::default();
    let result = measure(&settings, &mut figures).await;
    // What was measured before a failure is worth having.
    figures.print();
    figures.write(&target())?;
    result
}

async fn measure(settings: &Settings, figures: &mut Figures) -> anyhow::Result<()> {
    figures.collect(&target().join("bench"))?;
    if settings.demo
        && let Some(time) = demo::time(&settings.binary)?
    {
        let name = "demo, start to Healthy";
        figures.add(name, "s", Some(30.0), vec![time.as_secs_f64()]);
    }
    if settings.plain {
        plain(settings, figures).await?;
    }
    if let Some(live) = &settings.live {
        live::measure(settings, live, figures).await?;
    }
    Ok(())
}

/// Clusters whose pods are Ready as soon as they are placed.
async fn plain(settings: &Settings, figures: &mut Figures) -> anyhow::Result<()> {
    let make: fleet::Make = Arc::new(fleet::minimal);
    let mut bench = Bench::start(settings, Pods::Instant, make, figures).await?;
    bench.warm().await?;
    bench.measure().await
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| default.into(), PathBuf::from)
}
