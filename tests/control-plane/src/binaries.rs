//! The programs of the control plane, built once per machine by `build.sh`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

/// The folder that holds the built programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Builds what is missing (named on standard error, as a cold build takes minutes) and returns the folder.
    pub fn locate() -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.sh");
        let output = Command::new("bash")
            .arg(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("failed to run {}", script.display()))?;
        ensure!(
            output.status.success(),
            "{} failed: {}",
            script.display(),
            output.status
        );
        let folder = String::from_utf8(output.stdout).context("the folder's name is not UTF-8")?;
        Ok(Self {
            folder: PathBuf::from(folder.trim()),
        })
    }

    /// The path of one program, such as `kubectl`.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// The folder of all programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
