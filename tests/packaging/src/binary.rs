//! The operator's binary, and the libraries that it loads.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// `MULTIGRES_OPERATOR_BINARY`, or else what `cargo build` made in the profile of the tests.
///
/// # Errors
/// When there is none.
pub fn operator() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MULTIGRES_OPERATOR_BINARY") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?; // target/<profile>/deps/<test>
    let profile = test
        .ancestors()
        .nth(2)
        .context("the test is not in a target folder")?;
    let path = profile.join("multigres-operator");
    if !path.is_file() {
        bail!(
            "{} does not exist: run `cargo build` first, as `make test` does",
            path.display()
        );
    }
    Ok(path)
}

/// The shared libraries and the loader, as `ldd` finds them: paths as the binary will ask for them.
///
/// # Errors
/// When one is missing on this machine.
pub fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let listing = command::stdout(Command::new("ldd").arg(binary))?;
    let mut libraries = Vec::new();
    for line in listing.lines().map(str::trim) {
        if line.starts_with("linux-vdso") || line.starts_with("linux-gate") {
            continue; // mapped by the kernel
        }
        // `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, or the loader: `/lib64/ld-linux-x86-64.so.2 (0x…)`
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = path.split_whitespace().next().context("an empty line")?;
        if !path.starts_with('/') {
            bail!("{}: {line}", binary.display());
        }
        libraries.push(path.into());
    }
    Ok(libraries)
}
