//! Ends the demo.

use std::{fs, time::Duration};

use anyhow::Context;
use control_plane::{Signal, signal_pid, wait};

use crate::state::{State, folder, members, ours};

/// Killed processes are gone at once; the deadline is for a machine under load.
const DEADLINE: Duration = Duration::from_secs(20);

/// Stops the recorded processes and removes the files.
pub async fn down() -> anyhow::Result<()> {
    let folder = folder()?;
    let Some(state) = State::load()? else {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        println!("no demo is running");
        return Ok(());
    };
    let alive = || state.pids.iter().filter(|(_, pid)| ours(**pid, &folder));
    for (name, pid) in alive() {
        println!("stopping {name} ({pid})");
        // It may have ended meanwhile; the wait below tells.
        let _ = signal_pid(*pid, Signal::Kill);
    }
    wait::quietly("the processes' end", DEADLINE, async || {
        let gone = alive().next().is_none() && !members(&folder);
        Ok(gone.then_some(()))
    })
    .await?;
    fs::remove_dir_all(&folder)
        .with_context(|| format!("failed to remove {}", folder.display()))?;
    println!("the demo is gone");
    Ok(())
}
