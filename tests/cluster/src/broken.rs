//! An operator that is broken on purpose, to prove that the ledger tells on one. Production code has no way to be it: a copy of
//! its source is changed and built under another name, beside the real one.
//!
//! One build has all faults; [`Fault::env`] chooses at run time. Without that variable it behaves like the real one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

/// Name of package and binary.
const NAME: &str = "multigres-operator-broken";
/// The variable that names a fault.
const VARIABLE: &str = "BROKEN";
/// Where the copy keeps the crates. Cargo tells packages apart by name and place below the workspace: under the places of the
/// real ones they would take turns in the same files of the target folder.
const CRATES: &str = "crates";

/// How the operator is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// What is permitted for one pod is done to all but the primary's.
    TwoMembers,
    /// What is permitted for one pod is done to all, and nobody waits until the pooler has left the cohort.
    LastHolder,
}

impl Fault {
    const fn word(self) -> &'static str {
        match self {
            Fault::TwoMembers => "two-members",
            Fault::LastHolder => "last-holder",
        }
    }

    /// The variable that breaks the operator.
    pub fn env(self) -> (String, String) {
        (VARIABLE.to_owned(), self.word().to_owned())
    }
}

/// A change of the source.
struct Mutation {
    file: &'static str,
    /// What is there now, exactly once.
    text: &'static str,
    /// What takes its place.
    with: &'static str,
}

const MUTATIONS: [Mutation; 3] = [
    Mutation {
        file: "actors/src/pool/decide.rs",
        text: "        if let Some((order, permit)) = orders.get(name.as_str()) {\n",
        with: r#"        let broken = std::env::var("BROKEN").unwrap_or_default();
        let too = broken == "last-holder"
            || (broken == "two-members" && roles.get(name.as_str()) != Some(&Role::Primary));
        let also = orders.values().next().filter(|_| too).map(|(order, permit)| {
            (*order, Permit { pod: name.as_str().into(), ..permit.clone() })
        });
        if let Some((order, permit)) = orders.get(name.as_str()).or(also.as_ref()) {
"#,
    },
    Mutation {
        file: "actors/src/pool/decide.rs",
        text: "    let another = order == Order::DeletePod && entry.uid != permit.uid;\n",
        with: r#"    let broken = std::env::var_os("BROKEN").is_some();
    let another = order == Order::DeletePod && entry.uid != permit.uid && !broken;
"#,
    },
    Mutation {
        file: "actors/src/shard/quarantine.rs",
        text: "    fn has_left(&self, pod: &str) -> bool {\n",
        with: r#"    fn has_left(&self, pod: &str) -> bool {
        if std::env::var("BROKEN").as_deref() == Ok("last-holder") {
            return true;
        }
"#,
    },
];

/// Builds the broken operator and returns its binary. What the real one uses from elsewhere is not built again.
///
/// # Errors
/// When the source is not what the mutations expect, or does not compile.
pub async fn build() -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(build_now).await?
}

fn build_now() -> anyhow::Result<PathBuf> {
    let started = Instant::now();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // <target>/<profile>/deps/<test>
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("no profile folder")?;
    let target = profile.parent().context("no target folder")?;
    let copy = target.join("broken");
    write(&copy, mutated(source(&root)?)?)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile_name = profile.file_name().and_then(|name| name.to_str());
    let profile_name =
        profile_name.map_or("dev", |name| if name == "debug" { "dev" } else { name });
    let mut command = Command::new("nice");
    // What cargo tells the running test about itself would make build scripts run anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_a_package = ["CARGO_MANIFEST", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_"];
        if of_a_package.iter().any(|begin| name.starts_with(begin)) {
            command.env_remove(&*name);
        }
    }
    command
        .arg(cargo)
        .args(["build", "--offline", "--bin", NAME])
        .args(["--profile", profile_name, "--manifest-path"])
        .arg(copy.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", target)
        // Where its configuration is.
        .current_dir(&root);
    eprintln!("building {NAME} in {}", copy.display());
    let status = command.status().context("cargo does not run")?;
    ensure!(status.success(), "{NAME} does not build: {status}");
    eprintln!("built {NAME} in {:?}", started.elapsed());
    Ok(profile.join(NAME))
}

/// Files by their path in the copy's workspace, as they are in the real one but for `crates/`.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What the operator is built from.
fn source(root: &Path) -> anyhow::Result<Files> {
    let mut files = Files::new();
    for place in [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "actors/Cargo.toml",
        "actors/build.rs",
        "actors/proto",
        "actors/src",
        "crds/Cargo.toml",
        "crds/schema",
        "crds/src",
    ] {
        read(root, Path::new(place), &mut files)?;
    }
    for (path, bytes) in &mut files {
        if path.ends_with("Cargo.toml") {
            *bytes = manifest(&String::from_utf8_lossy(bytes)).into_bytes();
        }
    }
    Ok(files)
}

fn read(root: &Path, place: &Path, files: &mut Files) -> anyhow::Result<()> {
    let path = root.join(place);
    if path.is_dir() {
        for entry in fs::read_dir(&path)? {
            read(root, &place.join(entry?.file_name()), files)?;
        }
    } else {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        files.insert(place.to_owned(), bytes);
    }
    Ok(())
}

/// A manifest for the copy: its own name and places, and nothing that only tests need.
fn manifest(text: &str) -> String {
    let mut skips = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            skips = ["[dev-dependencies]", "[[bench]]"].contains(&line);
        }
        if skips || line.starts_with("control-plane = ") {
            continue;
        }
        lines.push(match line {
            members if members.starts_with("members = ") => {
                format!("members = [\"{CRATES}/actors\", \"{CRATES}/crds\"]")
            }
            line => line
                .replace("path = \"actors\"", &format!("path = \"{CRATES}/actors\""))
                .replace("path = \"crds\"", &format!("path = \"{CRATES}/crds\""))
                .replace("\"multigres-operator\"", &format!("\"{NAME}\"")),
        });
    }
    lines.join("\n") + "\n"
}

/// Breaks it.
fn mutated(mut files: Files) -> anyhow::Result<Files> {
    for Mutation { file, text, with } in &MUTATIONS {
        let bytes = files
            .get_mut(Path::new(file))
            .with_context(|| format!("{file} is gone"))?;
        let source = String::from_utf8(bytes.clone())?;
        let count = source.matches(text).count();
        ensure!(
            count == 1,
            "{file} has {count} times, not once, what tests/cluster/src/broken.rs breaks; say there what is to be broken now:\n{text}"
        );
        *bytes = source.replace(text, with).into_bytes();
    }
    Ok(files)
}

/// Writes the copy. What is there already stays untouched, so that cargo does not build it again.
fn write(copy: &Path, files: Files) -> anyhow::Result<()> {
    let files: Files = files
        .into_iter()
        .map(|(path, bytes)| {
            let of_a_crate = path.starts_with("actors") || path.starts_with("crds");
            (
                if of_a_crate {
                    Path::new(CRATES).join(path)
                } else {
                    path
                },
                bytes,
            )
        })
        .collect();
    let mut there = Files::new();
    if copy.is_dir() {
        read(copy, Path::new(""), &mut there)?;
    }
    for path in there.keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(copy.join(path))?;
    }
    for (path, bytes) in files {
        if there.get(&path) != Some(&bytes) {
            let path = copy.join(path);
            fs::create_dir_all(path.parent().context("a file without a folder")?)?;
            fs::write(path, bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever changes what is broken here learns of it without a control plane.
    #[test]
    fn the_source_is_what_the_mutations_expect() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let files = source(&root).unwrap();
        for Mutation { with, .. } in &MUTATIONS {
            assert!(with.contains(VARIABLE));
        }
        mutated(files).unwrap();
    }
}
