//! Child processes with their output in the error.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// What a finished process said.
#[derive(Debug)]
pub struct Output {
    /// Whether it exited with 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs to the end, whatever the outcome.
///
/// # Errors
/// When the process cannot be started.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs to the end and returns standard output.
///
/// # Errors
/// When the process cannot be started or fails.
pub fn stdout(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    if !output.success {
        bail!("{command:?} failed:\n{}{}", output.stdout, output.stderr);
    }
    Ok(output.stdout)
}
