//! The user's ConfigMap with PostgreSQL settings (`workloads.md` 9.1): read by name, checked, never changed. While it cannot be
//! read or holds a mistake, the settings of the Shard are unknown: what is in place stays in place, and pods wait.

use crds::Shard;
use serde_json::{Map, Value, json};

use super::postgres_config::{Hashes, mistakes};
use crate::action::Decision;
use crate::entry::Entry;
use crate::labels;
use crate::object::{Key, Kind};
use crate::room::Observed;
use crate::status::Obstacle;
use crate::store::Reference;

/// Most mistakes that are told at once; the others show when these are mended.
const TOLD: usize = 5;

/// What the user's ConfigMap holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings<'a> {
    /// It has not been read yet.
    Unknown,
    /// It cannot be used.
    Refused(Obstacle),
    /// Its text; `None` when the Shard names no ConfigMap.
    Known(Option<&'a str>),
}

/// The ConfigMap; one that is ours, or is labelled as ours, is not read: our own writes would answer for it.
fn key(observed: &Observed, shard: &Shard) -> Option<(Key, bool)> {
    let reference = shard.spec.postgres_config_ref.as_ref()?;
    let namespace = &observed.me.key().namespace;
    let key = Key::new(Kind::ConfigMap, namespace, &reference.name);
    let ours = observed.get(&key).is_some();
    Some((key, ours))
}

/// Declares the ConfigMap, so that it is read and watched.
pub fn refer<S>(decision: &mut Decision<S>, observed: &Observed, shard: &Shard) {
    if let Some((key, false)) = key(observed, shard) {
        decision.references.push(key);
    }
}

/// Finds and checks them.
pub fn find<'a>(observed: &'a Observed, shard: &Shard) -> Settings<'a> {
    let (Some(reference), Some((at, ours))) =
        (&shard.spec.postgres_config_ref, key(observed, shard))
    else {
        return Settings::Known(None);
    };
    let refused = |problem: String| {
        Settings::Refused(Obstacle {
            reason: "PostgresConfigInvalid",
            message: format!(
                "{problem}; it is named by postgresConfigRef in namespace {}",
                at.namespace
            ),
        })
    };
    let name = &reference.name;
    if ours {
        return refused(format!(
            "ConfigMap {name} is the operator's own, or carries its label app.kubernetes.io/managed-by: name another, or take the label off"
        ));
    }
    let entry = match observed.references.get(&at) {
        None | Some(Reference::Unknown) => return Settings::Unknown,
        Some(Reference::Absent) => {
            return refused(format!("ConfigMap {name} does not exist: create it"));
        }
        Some(Reference::Present(entry)) => entry,
    };
    let Some(text) = entry.texts.get(reference.key.as_str()) else {
        return refused(format!(
            "ConfigMap {name} has no key {:?}: add it",
            reference.key
        ));
    };
    let wrong = mistakes(text);
    if wrong.is_empty() {
        return Settings::Known(Some(text));
    }
    let mut told: Vec<String> = wrong
        .iter()
        .take(TOLD)
        .map(|mistake| format!("line {}: {}", mistake.line, mistake.problem))
        .collect();
    if wrong.len() > TOLD {
        told.push("and more".to_owned());
    }
    refused(format!(
        "key {:?} of ConfigMap {name}, {}",
        reference.key,
        told.join("; ")
    ))
}

/// `status.postgresConfig`: whether the pool pods that live have the settings, since when, and what is wrong with them.
/// `None` leaves it as it is. `hashes` are those of the settings when they are known, `ready` that all wanted pods are Ready.
pub fn status(
    observed: &Observed,
    settings: &Settings<'_>,
    hashes: &Hashes,
    ready: bool,
    now: jiff::Timestamp,
) -> Option<Value> {
    let before = observed.me.status_value();
    let mut fields = before
        .get("postgresConfig")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    match settings {
        Settings::Unknown => return None,
        Settings::Refused(obstacle) => {
            fields.insert("error".to_owned(), obstacle.message.clone().into());
        }
        Settings::Known(_) => {
            fields.remove("error");
            rollout(&mut fields, observed, hashes, ready, now);
        }
    }
    Some(Value::Object(fields))
}

fn rollout(
    fields: &mut Map<String, Value>,
    observed: &Observed,
    hashes: &Hashes,
    ready: bool,
    now: jiff::Timestamp,
) {
    // A pod that is made anew with the same settings is no rollout of settings.
    let under_way = fields.get("inProgress") != Some(&json!(false));
    let pods = observed.controlled(Kind::Pod).filter(|pod| !pod.deleting);
    let in_progress = pods.into_iter().any(|pod| lacks(pod, hashes)) || (under_way && !ready);
    fields.insert("inProgress".to_owned(), in_progress.into());
    if under_way && !in_progress {
        let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        fields.insert("lastAppliedAt".to_owned(), at.into());
    }
}

/// Does this pod lack the settings, or does it fail with them?
fn lacks(pod: &Entry, hashes: &Hashes) -> bool {
    let has = |name: &str, hash: &str| pod.annotation(name) == Some(hash);
    let looping = pod
        .pod
        .as_ref()
        .is_some_and(|pod| pod.trouble.as_deref() == Some("CrashLoopBackOff"));
    looping
        || !has(labels::CONFIG_HASH, &hashes.restart)
        || !has(labels::RELOAD_HASH, &hashes.reload)
}

#[cfg(test)]
mod tests;
