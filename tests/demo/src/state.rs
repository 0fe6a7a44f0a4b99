//! What `down` and a second `up` must know of the first `up`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The recorded demo.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct State {
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Process ids by name.
    pub pids: BTreeMap<String, u32>,
}

/// The root of the repository.
pub fn root() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize()
        .with_context(|| format!("{} is gone", root.display()))
}

/// The folder of the demo's files.
pub fn folder() -> anyhow::Result<PathBuf> {
    Ok(root()?.join(".demo"))
}

impl State {
    /// The recorded state, if there is a demo.
    pub fn load() -> anyhow::Result<Option<Self>> {
        let path = folder()?.join("state.json");
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// Records the state.
    pub fn save(&self) -> anyhow::Result<()> {
        Ok(fs::write(
            folder()?.join("state.json"),
            serde_json::to_string_pretty(self)?,
        )?)
    }
}

/// Whether an etcd of the demo lives that is no process of the control plane: members of topologies end with the stand-in, a
/// moment later.
pub fn members(folder: &Path) -> bool {
    let needle = format!("--data-dir={}", folder.display());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut names_it = pids.filter(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .split('\0')
            .any(|argument| argument.starts_with(&needle))
    });
    names_it.next().is_some()
}

/// Whether a process lives and is the demo's: ids are reused, but only the demo's processes name its folder.
pub fn ours(pid: u32, folder: &Path) -> bool {
    let needle = folder.as_os_str().as_encoded_bytes();
    let names_it = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    control_plane::alive(pid) && (names_it("cmdline") || names_it("environ"))
}
