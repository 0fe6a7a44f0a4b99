//! What to measure, from the environment.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};

/// How large and how long the benchmark is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operator's program (`MULTIGRES_OPERATOR_BINARY`; without it, the one beside this program).
    pub binary: PathBuf,
    /// Clusters of the headline figures (`SCALE_N`).
    pub clusters: usize,
    /// Other fleet sizes, for the slope (`SCALE_FULL=1`).
    pub slope: Vec<usize>,
    /// Repetitions of the bring-up; the median counts (`SCALE_RUNS`).
    pub runs: usize,
    /// How long a settled fleet is listened to (`SCALE_IDLE`, seconds).
    pub idle: Duration,
    /// Requests that the raw client has under way (`SCALE_INFLIGHT`).
    pub in_flight: usize,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// When a variable is not a number, or there is no operator to measure.
    pub fn from_env() -> anyhow::Result<Self> {
        let quick = flag("SCALE_QUICK");
        let clusters = number("SCALE_N", if quick { 20 } else { 100 })?;
        let runs = number("SCALE_RUNS", if quick { 1 } else { 3 })?;
        let in_flight = number("SCALE_INFLIGHT", 48)?;
        ensure!(
            clusters > 0 && runs > 0 && in_flight > 0,
            "SCALE_N, SCALE_RUNS and SCALE_INFLIGHT must be at least 1"
        );
        let mut slope = if flag("SCALE_FULL") {
            vec![20, 100, 300]
        } else {
            Vec::new()
        };
        slope.retain(|size| *size != clusters);
        Ok(Self {
            binary: binary()?,
            clusters,
            slope,
            runs,
            idle: Duration::from_secs(number("SCALE_IDLE", if quick { 60 } else { 600 })? as u64),
            in_flight,
        })
    }
}

fn flag(name: &str) -> bool {
    env::var(name).is_ok_and(|value| value == "1")
}

fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}={text} is not a number")),
        Err(_) => Ok(default),
    }
}

fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os("MULTIGRES_OPERATOR_BINARY") {
        // The operator runs in a folder of its own.
        return PathBuf::from(path)
            .canonicalize()
            .context("MULTIGRES_OPERATOR_BINARY does not exist");
    }
    let path = env::current_exe()?.with_file_name("multigres-operator");
    ensure!(
        path.is_file(),
        "the operator is not built: run `cargo build --release`"
    );
    Ok(path)
}
