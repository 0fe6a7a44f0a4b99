//! What to measure, from the environment.
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `SCALE_QUICK=1` | a small round of everything: 20 clusters, one run, one minute of silence, no slope, no demo | off |
//! | `SCALE_ONLY=memory` | memory and silence alone: one bring-up, no raw client, no slope, no demo | all |
//! | `SCALE_N` | clusters of the headline figures | 100 |
//! | `SCALE_RUNS` | repetitions of the bring-up; the median counts | 3 |
//! | `SCALE_SLOPE` | further fleet sizes, one run each, separated by commas; empty for none | 20,300 |
//! | `SCALE_IDLE` | how long the settled fleet is listened to, in seconds | 600 |
//! | `MULTIGRES_OPERATOR_BINARY` | the operator to measure | the one beside this program |

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};

/// How large and how long the benchmark is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operator's program.
    pub binary: PathBuf,
    /// Clusters of the headline figures.
    pub clusters: usize,
    /// Other fleet sizes, for the slope.
    pub slope: Vec<usize>,
    /// Repetitions of the bring-up.
    pub runs: usize,
    /// How long a settled fleet is listened to.
    pub idle: Duration,
    /// Compare with the raw client.
    pub raw: bool,
    /// Time the demo.
    pub demo: bool,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// When a variable is not a number, or there is no operator to measure.
    pub fn from_env() -> anyhow::Result<Self> {
        let quick = env::var("SCALE_QUICK").is_ok_and(|value| value == "1");
        let memory = match env::var("SCALE_ONLY") {
            Ok(part) if part == "memory" => true,
            Ok(part) => anyhow::bail!("SCALE_ONLY={part} is not known: the only part is `memory`"),
            Err(_) => false,
        };
        let small = quick || memory;
        let clusters = number("SCALE_N", if quick { 20 } else { 100 })?;
        let runs = number("SCALE_RUNS", if small { 1 } else { 3 })?;
        let idle = number("SCALE_IDLE", if small { 60 } else { 600 })?;
        let mut slope = sizes("SCALE_SLOPE", if small { "" } else { "20,300" })?;
        slope.retain(|size| *size != clusters);
        ensure!(
            clusters > 0 && runs > 0 && !slope.contains(&0),
            "fleets and SCALE_RUNS must be at least 1"
        );
        Ok(Self {
            binary: binary()?,
            clusters,
            slope,
            runs,
            idle: Duration::from_secs(idle as u64),
            raw: !memory,
            demo: !small,
        })
    }
}

fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}={text} is not a number")),
        Err(_) => Ok(default),
    }
}

fn sizes(name: &str, default: &str) -> anyhow::Result<Vec<usize>> {
    let text = env::var(name).unwrap_or_else(|_| default.to_owned());
    text.split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| {
            size.parse()
                .with_context(|| format!("{name}: {size} is not a number"))
        })
        .collect()
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
