//! Secrets that a workload mounts. A pod without them hangs, and programs read them only once: so a workload is neither started
//! nor changed before they are complete, and it is restarted when they change (`workloads.md` T13).

use crate::entry::{Entry, digest};
use crate::labels;
use crate::object::{Desired, Key, Kind};
use crate::plan::Plan;
use crate::status::Obstacle;
use crate::store::Reference;

/// A Secret that must be there, with all of these keys filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Its name.
    pub name: String,
    /// Keys that must not be empty.
    pub keys: &'static [&'static str],
    /// The user names it in the spec: its absence is a mistake. Others are issued after a while.
    pub given: bool,
}

impl Needed {
    /// One that a Certificate of ours asks for.
    pub const fn issued(name: String, keys: &'static [&'static str]) -> Self {
        Self {
            name,
            keys,
            given: false,
        }
    }

    /// One that somebody else looks after, and tells about: here only its content matters.
    pub const fn checked(name: String, keys: &'static [&'static str]) -> Self {
        Self::issued(name, keys)
    }

    /// One that the user makes.
    pub const fn given(name: String, keys: &'static [&'static str]) -> Self {
        Self {
            name,
            keys,
            given: true,
        }
    }
}

/// What is known of a set of Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// All there; a hash over their content, empty when nothing is needed.
    Complete(String),
    /// Something is not there; says what.
    Missing(String),
    /// Not looked at yet.
    Unknown,
}

/// Looks for the Secrets, and asks for those that are not ours. A missing one that the user named is an obstacle.
pub fn supply<S>(plan: &mut Plan<'_, S>, needed: &[Needed]) -> Supply {
    let mut content = String::new();
    let mut missing = None;
    let mut unknown = false;
    for secret in needed {
        match look(plan, secret) {
            Ok(found) => content.push_str(&found),
            Err(None) => unknown = true,
            Err(Some(message)) => {
                if secret.given {
                    plan.obstacles.push(Obstacle {
                        reason: "SecretInvalid",
                        message: message.clone(),
                    });
                }
                missing.get_or_insert(message);
            }
        }
    }
    match missing {
        Some(what) => Supply::Missing(what),
        None if unknown => Supply::Unknown,
        None if content.is_empty() => Supply::Complete(content),
        None => Supply::Complete(format!("{:016x}", digest(content.as_bytes()))),
    }
}

/// The content of one Secret as text to hash; else what is wrong with it, if that is known.
fn look<S>(plan: &mut Plan<'_, S>, secret: &Needed) -> Result<String, Option<String>> {
    let key = Key::new(
        Kind::Secret,
        &plan.observed.me.key().namespace,
        &secret.name,
    );
    if let Some(entry) = plan.observed.get(&key) {
        return read(entry, secret);
    }
    let known = plan.observed.references.get(&key);
    plan.decision.references.push(key.clone());
    match known {
        None | Some(Reference::Unknown) => Err(None),
        Some(Reference::Present(entry)) => read(entry, secret),
        Some(Reference::Absent) => Err(Some(format!(
            "Secret {} does not exist in namespace {}; it must hold {}",
            secret.name,
            key.namespace,
            secret.keys.join(", "),
        ))),
    }
}

fn read(entry: &Entry, secret: &Needed) -> Result<String, Option<String>> {
    let mut content = String::new();
    for key in secret.keys {
        match entry.data.get(*key).copied().filter(|digest| *digest != 0) {
            Some(digest) => content.push_str(&format!("{}/{key}={digest:016x}\n", secret.name)),
            None => {
                let text = format!(
                    "Secret {} has no content under the key {key:?}",
                    secret.name
                );
                return Err(Some(text));
            }
        }
    }
    Ok(content)
}

/// Puts the hash on the pods of a workload, so that they are replaced when a mounted Secret changes.
pub fn stamp(workload: &mut Desired, hash: &str) {
    if hash.is_empty() {
        return;
    }
    let pods = "/spec/template/metadata";
    workload.body.annotate(pods, labels::TLS_HASH, hash);
}
