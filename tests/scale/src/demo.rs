//! The demo as a user sees it, from start to Healthy.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::ensure;
use tokio::time::Instant;

/// Runs `demo up` with this operator, then `demo down`; the time of the first. Nothing when there is no demo program, or
/// when a demo is running here already, which is somebody's.
///
/// # Errors
/// When the demo fails.
pub fn time(operator: &Path) -> anyhow::Result<Option<Duration>> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let program = std::env::current_exe()?.with_file_name("demo");
    if !program.is_file() || root.join(".demo").exists() {
        eprintln!("the demo is not timed: it is not built, or runs already");
        return Ok(None);
    }
    let run = |verb: &str| -> anyhow::Result<Duration> {
        let start = Instant::now();
        let status = Command::new(&program)
            .arg(verb)
            .env("MULTIGRES_OPERATOR_BINARY", operator)
            .current_dir(&root)
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "`demo {verb}` failed: {status}");
        Ok(start.elapsed())
    };
    eprintln!("the demo, from start to Healthy");
    let up = run("up");
    let down = run("down");
    let up = up?;
    down?;
    Ok(Some(up))
}
