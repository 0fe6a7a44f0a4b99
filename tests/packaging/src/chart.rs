//! The chart as helm renders it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use serde_json::Value;

use crate::command::{self, Output};
use crate::repository;

/// The chart's folder.
#[must_use]
pub fn folder() -> PathBuf {
    repository().join("charts/multigres-operator")
}

/// A helm command; helm itself comes from the pinned module of the control plane.
///
/// # Errors
/// When helm cannot be built.
pub fn helm() -> Result<Command> {
    static BINARIES: OnceLock<Result<String, String>> = OnceLock::new();
    let binaries = BINARIES
        .get_or_init(|| {
            command::stdout(&mut Command::new(
                repository().join("tests/control-plane/build.sh"),
            ))
            .map_err(|error| format!("{error:#}"))
        })
        .as_ref()
        .map_err(|error| anyhow!("{error}"))?;
    Ok(Command::new(PathBuf::from(binaries.trim()).join("helm")))
}

/// `helm template` into namespace `operator-system` with further arguments, whatever the outcome.
///
/// # Errors
/// When helm cannot be started.
pub fn template(release: &str, arguments: &[&str]) -> Result<Output> {
    command::run(
        helm()?
            .arg("template")
            .arg(release)
            .arg(folder())
            .args(["--namespace", "operator-system"])
            .args(arguments),
    )
}

/// The rendered objects.
///
/// # Errors
/// When helm refuses, or prints something that is not YAML.
pub fn render(arguments: &[&str]) -> Result<Vec<Value>> {
    let output = template("a-release", arguments)?;
    if !output.success {
        return Err(anyhow!("helm template failed:\n{}", output.stderr));
    }
    Ok(documents(&output.stdout)?)
}

/// The documents of a YAML stream.
///
/// # Errors
/// When it is not YAML.
pub fn documents(yaml: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    Ok(serde_saphyr::from_multiple::<Option<Value>>(yaml)?
        .into_iter()
        .flatten()
        .collect())
}

/// The string at a JSON pointer, empty when there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The list at a JSON pointer, empty when there is none.
#[must_use]
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The objects of one kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects
        .iter()
        .filter(move |object| text(object, "/kind") == kind)
}
