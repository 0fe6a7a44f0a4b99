//! From desired objects to actions: write only on difference, never take over (`design.md` 2).

use std::rc::Rc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::action::{Action, Decision};
use crate::covers;
use crate::entry::{APPLIED_HASH, Entry};
use crate::labels;
use crate::mend;
use crate::object::{Desired, Key, Kind};
use crate::room::Observed;
use crate::status::{self, Computed, Obstacle, Remembers};

/// Collects what a room wants.
pub struct Plan<'a, S> {
    /// The snapshot.
    pub observed: &'a Observed,
    /// What has been decided so far.
    pub decision: Decision<S>,
    /// What stands in the way so far.
    pub obstacles: Vec<Obstacle>,
    now: Timestamp,
    /// Objects whose content this decision changes.
    changing: Vec<Key>,
}

impl<'a, S> Plan<'a, S> {
    /// A plan without actions.
    pub const fn new(observed: &'a Observed, state: S, now: Timestamp) -> Self {
        Self {
            observed,
            decision: Decision::idle(state),
            obstacles: Vec::new(),
            now,
            changing: Vec::new(),
        }
    }

    /// An object we keep as desired by server-side apply. True when it is there and ours.
    pub fn keep(&mut self, desired: Desired) -> bool {
        let hash = desired.body.hash();
        let Some(entry) = self.observed.get(&desired.key) else {
            let reason = format!("{} does not exist", desired.key.kind.name());
            self.decision.act(
                reason,
                Action::Apply {
                    object: annotated(desired, &hash),
                    uid: None,
                },
            );
            return false;
        };
        if self.is_foreign(&desired) {
            return false;
        }
        if entry.deleting {
            self.decision.inputs.push(format!(
                "{} is terminating: it is made again when it is gone",
                desired.key
            ));
            return false;
        }
        let fingerprint = covers::fingerprint_of(&hash);
        if entry.is_settled(fingerprint) {
            // Compared before, or written in vain: nothing about it changed since.
            return true;
        }
        if entry.hash.as_deref() != Some(hash.as_str()) {
            let uid = Some(entry.uid.clone());
            self.changing.push(desired.key.clone());
            self.decision.act(
                "the desired object changed",
                Action::Apply {
                    object: annotated(desired, &hash),
                    uid,
                },
            );
            return true;
        }
        let desired = annotated(desired, &hash);
        let observed = entry.comparable();
        if covers::covers(&observed, &desired) {
            entry.cover(fingerprint);
        } else {
            let uid = entry.uid.clone();
            if !covers::covers_content(&observed, &desired) {
                self.changing.push(desired.key.clone());
            }
            self.decision.act(
                "the object was changed by somebody else",
                Action::Restore {
                    object: desired,
                    uid,
                },
            );
        }
        true
    }

    /// An object that is made once by POST. True when it is there and ours.
    pub fn make(&mut self, desired: Desired) -> bool {
        if self.observed.get(&desired.key).is_none() {
            let reason = format!("{} does not exist", desired.key.kind.name());
            self.decision
                .act(reason, Action::Create { object: desired });
            return false;
        }
        !self.is_foreign(&desired)
    }

    /// An object of this name that somebody else controls is left alone; it is looked at again from time to time. True then.
    pub fn is_foreign(&mut self, desired: &Desired) -> bool {
        let Some(entry) = self.observed.get(&desired.key) else {
            return false;
        };
        let me = &self.observed.me;
        if entry.belongs_to(me) {
            return false;
        }
        self.obstacles.push(Obstacle {
            reason: "NameTaken",
            message: taken(entry, me),
        });
        let key = desired.key.clone();
        self.decision
            .act("is the name still taken?", Action::Read { key });
        true
    }

    /// Removes what we control of a kind but no longer want. Never used for pods, claims or custom resources.
    pub fn prune(&mut self, kind: Kind, wanted: &[&Desired]) {
        let surplus: Vec<_> = self
            .observed
            .controlled(kind)
            .filter(|entry| {
                !entry.deleting && !wanted.iter().any(|desired| desired.key == *entry.key())
            })
            .cloned()
            .collect();
        for entry in surplus {
            let action = Action::Delete {
                key: entry.key().clone(),
                uid: entry.uid.clone(),
                version: entry.version,
            };
            self.decision.act("no longer wanted", action);
        }
    }

    /// Labels, annotations and owner of an object that is made once: whatever of them is not as desired is put right by one
    /// patch. True when there was nothing to do.
    pub fn mend(&mut self, desired: &Desired) -> bool {
        let me = self.observed.me.uid.clone();
        let entry = self.observed.get(&desired.key);
        let patch = entry.and_then(|entry| mend::metadata(entry, desired, &me));
        self.patch(&desired.key, patch, "its metadata is not as desired")
    }

    /// The same for a pod, with its role. One that is `adoptable` was made by somebody else as we would have: it gets our
    /// hashes, and goes on running.
    pub fn mend_pod(&mut self, desired: &Desired, role: Option<&str>, adoptable: bool) -> bool {
        let me = self.observed.me.uid.clone();
        let Some(entry) = self.observed.get(&desired.key) else {
            return true;
        };
        let (patch, reason) = match adoptable {
            true => (
                mend::adoption(entry, desired, &me),
                "made by another version, and as desired",
            ),
            false => (
                mend::metadata(entry, desired, &me),
                "its metadata is not as desired",
            ),
        };
        let patch = match role {
            Some(role) => mend::labelled(entry, patch, (labels::ROLE, role)),
            None => patch,
        };
        self.patch(&desired.key, patch, reason)
    }

    /// The role of a pod that the spec does not ask for.
    pub fn name_role(&mut self, pod: &Entry, role: &str) {
        let patch = mend::labelled(pod, None, (labels::ROLE, role));
        self.patch(pod.key(), patch, "its role is another one");
    }

    fn patch(&mut self, key: &Key, patch: Option<Value>, reason: &str) -> bool {
        let Some(patch) = patch else {
            return true;
        };
        let action = Action::metadata(key.clone(), patch);
        self.decision.act(reason, action);
        false
    }

    /// Takes a finalizer of the Go operator off our terminating resource: nothing of ours waits for it.
    pub fn release(&mut self, finalizer: &str) {
        let me = &self.observed.me;
        if !me.finalizers.iter().any(|name| &**name == finalizer) {
            return;
        }
        let rest: Vec<&str> = me
            .finalizers
            .iter()
            .map(AsRef::as_ref)
            .filter(|name| *name != finalizer)
            .collect();
        let patch =
            json!({"uid": me.uid, "resourceVersion": me.version.to_string(), "finalizers": rest});
        let key = me.key().clone();
        self.decision.act(
            "a finalizer of the Go operator",
            Action::metadata(key, patch),
        );
    }

    /// Tells of writes of this decision that the server keeps refusing: invalid, forbidden, beyond a quota. One that may
    /// yet succeed by itself, after a conflict or an outage, is no obstacle. A claim that cannot grow harms nobody
    /// and is told elsewhere.
    pub fn refusals(&mut self) {
        /// Refusals in a row before it is told: a namespace or a role may be seconds behind.
        const TOLERATED: u32 = 3;
        let told: Vec<Obstacle> = self
            .decision
            .actions
            .iter()
            .filter(|planned| {
                planned.action.writes() && !matches!(planned.action, Action::Expand { .. })
            })
            .filter_map(|planned| {
                let (key, _) = planned.action.lane();
                let trouble = self.observed.troubles.get(key)?;
                let lasting =
                    matches!(trouble.code, 400..=499) && !matches!(trouble.code, 404 | 409 | 429);
                (lasting && trouble.failures >= TOLERATED).then(|| Obstacle {
                    reason: "WriteRefused",
                    message: format!(
                        "cannot {} {key}: {}",
                        planned.action.verb(),
                        trouble.message
                    ),
                })
            })
            .collect();
        self.obstacles.extend(told);
    }

    /// The object as observed, if it is ours and this decision does not change its content: what was observed of another one
    /// than is desired now says nothing about that (L-STAT-02).
    pub fn in_place(&self, key: &Key) -> Option<&'a Rc<Entry>> {
        let me = &self.observed.me.uid;
        let entry = self.observed.get(key)?;
        (entry.owner.as_ref() == Some(me) && !self.changing.contains(key)).then_some(entry)
    }

    /// The instant of the decision.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// A bug in a builder or a spec that no builder can take: told, not panicked about.
    pub fn unbuildable(&mut self, error: &dyn std::fmt::Display) {
        self.obstacles.push(Obstacle {
            reason: "ConfigError",
            message: format!("cannot build the objects: {error}"),
        });
    }
}

impl<S: Remembers> Plan<'_, S> {
    /// Adds the status write, if there is something to say, and hands the decision out.
    pub fn conclude(mut self, computed: Computed) -> Decision<S> {
        let mut trail = *self.decision.state.trail();
        status::write(
            &mut self.decision,
            &mut trail,
            &self.observed.me,
            computed,
            self.now,
        );
        *self.decision.state.trail() = trail;
        self.decision
    }
}

/// What is wrong with `entry`, and what can be done about it. A volume without owner and labels may be one that was kept for
/// `me`: only its user knows.
fn taken(entry: &Entry, me: &Entry) -> String {
    let (key, owner) = (entry.key(), me.key());
    let cluster = me.label(labels::CLUSTER);
    let unmarked = entry.owner.is_none() && entry.label(labels::CLUSTER).is_none();
    match cluster {
        Some(cluster) if unmarked && key.kind == Kind::PersistentVolumeClaim => format!(
            "{key} exists, and neither an owner nor a label says whose it is: if it holds the data of {owner}, run kubectl \
             label pvc -n {} {} {}={cluster}; if its data may go, delete it. Until then it is neither used nor deleted",
            key.namespace,
            key.name,
            labels::CLUSTER,
        ),
        _ => format!(
            "{key} exists and is not controlled by {owner}: delete or rename it, the operator does not take over objects of others"
        ),
    }
}

/// Sends along by which hash it is recognised later.
fn annotated(mut desired: Desired, hash: &str) -> Desired {
    desired.body.annotate("/metadata", APPLIED_HASH, hash);
    desired
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Watched;
    use crate::fixtures::{Bed, NAMESPACE, start};

    fn desired(port: u16) -> Desired {
        let body = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "a", "namespace": NAMESPACE},
            "spec": {"ports": [{"port": port}]},
        });
        Desired {
            key: Key::new(Kind::Service, NAMESPACE, "a"),
            body: body.into(),
        }
    }

    /// The Service as the server holds it after it was applied.
    fn applied(desired: Desired) -> Rc<Entry> {
        let hash = desired.body.hash();
        let mut body = Value::from(annotated(desired, &hash).body);
        let owner = json!([{"apiVersion": "v1", "kind": "Shard", "name": "s", "uid": "me", "controller": true}]);
        let more =
            json!({"metadata": {"uid": "u", "resourceVersion": "7", "ownerReferences": owner}});
        crate::fixtures::merge(&mut body, &more);
        let watched: Watched = serde_json::from_value(body).unwrap();
        Rc::new(watched.trim(Kind::Service).unwrap())
    }

    fn verbs(observed: &Observed, desired: Desired) -> Vec<&'static str> {
        let mut plan = Plan::new(observed, (), start());
        plan.keep(desired);
        let actions = plan.decision.actions.iter();
        actions.map(|planned| planned.action.verb()).collect()
    }

    /// What the comparison needed is gone by then, so it must not be asked for.
    #[test]
    fn what_was_covered_before_a_write_in_vain_is_covered_after_it() {
        let entry = applied(desired(1));
        let mut observed = Bed::new().observed();
        observed.group.push(entry.clone());
        observed.group.sort_by(|a, b| a.key().cmp(b.key()));
        assert!(verbs(&observed, desired(1)).is_empty(), "it is as desired");
        assert_eq!(verbs(&observed, desired(2)), ["apply"]);
        let vain = covers::fingerprint_of(&desired(2).body.hash());
        entry.vain.set(vain);
        assert!(verbs(&observed, desired(2)).is_empty(), "not repeated");
        assert!(verbs(&observed, desired(1)).is_empty(), "covered as before");
    }
}
