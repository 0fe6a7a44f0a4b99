//! What to measure, from the environment.
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `SCALE_QUICK=1` | a small round of everything: 20 clusters (5 with a data plane), one run, one minute of silence, no slope, no demo | off |
//! | `SCALE_ONLY=memory` | memory and silence alone: one bring-up, no raw client, no slope, no demo, no data plane | all |
//! | `SCALE_ONLY=plain` | clusters without a data plane alone, no demo | all |
//! | `SCALE_ONLY=live` | clusters with a data plane alone | all |
//! | `SCALE_ONLY=live-bring-up` | of these, the bring-ups alone | all |
//! | `SCALE_N` | clusters of the headline figures | 100 |
//! | `SCALE_RUNS` | repetitions of the bring-up; the median counts | 3 |
//! | `SCALE_SLOPE` | further fleet sizes, one run each, separated by commas; empty for none | 20,300 |
//! | `SCALE_LIVE` | clusters whose data plane changes and fails; twice as many are brought up against the raw client | 50 |
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
    /// Measure clusters whose pods kwok plays alone.
    pub plain: bool,
    /// Measure clusters with a data plane.
    pub live: Option<Live>,
}

/// How large the part with a data plane is.
#[derive(Clone, Debug)]
pub struct Live {
    /// Clusters whose data plane changes and fails.
    pub clusters: usize,
    /// Measure more than the bring-ups.
    pub streaming: bool,
    /// Changes of a primary.
    pub changes: usize,
    /// Edits per round, with and without faults.
    pub edits: usize,
    /// Pairs of such rounds.
    pub pairs: usize,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// When a variable is not a number, or there is no operator to measure.
    pub fn from_env() -> anyhow::Result<Self> {
        let quick = env::var("SCALE_QUICK").is_ok_and(|value| value == "1");
        let only = env::var("SCALE_ONLY").ok();
        ensure!(
            matches!(
                only.as_deref(),
                None | Some("memory" | "plain" | "live" | "live-bring-up")
            ),
            "SCALE_ONLY is not known: it is `memory`, `plain`, `live` or `live-bring-up`"
        );
        let part = |name: &str| only.as_deref() == Some(name);
        let (memory, all) = (part("memory"), only.is_none());
        let plain = all || memory || part("plain");
        let live = all || !plain;
        let streaming = !part("live-bring-up");
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
            demo: all && !quick,
            plain,
            live: live.then(|| Live::of(quick, streaming)).transpose()?,
        })
    }
}

impl Live {
    fn of(quick: bool, streaming: bool) -> anyhow::Result<Self> {
        let clusters = number("SCALE_LIVE", if quick { 5 } else { 50 })?;
        ensure!(
            clusters > 2,
            "SCALE_LIVE must be at least 3: two of them hang"
        );
        Ok(Self {
            clusters,
            streaming,
            changes: if quick { 20 } else { 200 },
            edits: if quick { 50 } else { 300 },
            pairs: if quick { 1 } else { 9 },
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
