//! Takes out of the topology what is surely gone (`topology.md` 1.8, `design.md` 7, invariant 5): dead poolers are marked,
//! long-dead and left-over records deleted, cells and databases that left the specification removed.
//!
//! Nothing is pruned on an error, a partial or an empty answer. A record must be a suspect, unchanged, for a while; then
//! the one thing it stands for is read live; then one write is sent, at the version that was judged. One at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::desired::Desired;
use super::key::ShardId;
use super::record::ProcessId;
use super::suspects::{self, Candidate};
use super::view::Views;
use super::{Held, Write};

/// A live read is evidence for this long.
const EVIDENCE: SignedDuration = SignedDuration::from_secs(5);
/// When a live read or a write is not answered, or the read contradicts the informer: look again after this.
const AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// What the decision looks at beside the topology itself. All of it may be stale: it makes suspects, never victims.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// `spec.topologyPruning.enabled`.
    pub enabled: bool,
    /// The informers behind these facts have listed completely, and follow.
    pub synced: bool,
    /// The last registration found every record as desired.
    pub registered: bool,
    /// The cluster's namespace.
    pub namespace: &'a str,
    /// What the specification asks for.
    pub desired: &'a Desired,
    /// Names of all pods of the cluster, terminating ones too.
    pub pods: BTreeSet<Box<str>>,
    /// Addresses of all pods of the cluster.
    pub addresses: BTreeSet<IpAddr>,
    /// Pods whose node object is gone too: their processes cannot live.
    pub nodes_gone: BTreeSet<Box<str>>,
    /// Pool pods wanted, by shard.
    pub wanted: BTreeMap<ShardId, usize>,
    /// Poolers whose health stream is alive.
    pub answering: BTreeSet<ProcessId>,
    /// Members of the decided rule and of the proposal, as told by a live pooler; no entry: nobody told.
    pub cohorts: BTreeMap<ShardId, BTreeSet<ProcessId>>,
    /// Cells whose custom resource exists.
    pub cells: BTreeSet<Box<str>>,
    /// Cells that have pods.
    pub inhabited: BTreeSet<Box<str>>,
    /// Cells that left the specification and whose record points at a store into which nobody may look: not ours, and not named
    /// by the user any more.
    pub strangers: BTreeSet<Box<str>>,
    /// Shards that still have volumes.
    pub volumes: BTreeSet<ShardId>,
}

/// What must be read live, from the API server, before a record goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Subject {
    /// This pod must not exist.
    Pod(Box<str>),
    /// No pod of the namespace must have this address.
    Address(IpAddr),
    /// The MultigresCluster must not name this cell, and its Cell resource must not exist.
    Cell(Box<str>),
    /// The MultigresCluster must not name this database.
    Database(Box<str>),
}

/// A question for the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confirm {
    /// The suspect's key: the answer goes to [`State::confirmed`] with it.
    pub key: Box<str>,
    /// What to read.
    pub subject: Subject,
}

/// What the actor remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    suspects: BTreeMap<Box<str>, Suspect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Suspect {
    version: i64,
    since: Timestamp,
    /// Not before: asked, refuted or written.
    not_before: Option<Timestamp>,
    /// Read live and gone.
    gone: Option<Timestamp>,
    /// Written, not answered yet.
    written: bool,
}

impl State {
    /// A live read was answered. `gone`: the subject does not exist; `None`: the read failed, which proves nothing.
    pub fn confirmed(&mut self, key: &str, gone: Option<bool>, now: Timestamp) {
        let Some(suspect) = self.suspects.get_mut(key) else {
            return;
        };
        if gone == Some(true) {
            suspect.gone = Some(now);
            suspect.not_before = None;
        } else {
            // It exists, or we do not know: the suspicion starts from the beginning.
            suspect.gone = None;
            suspect.since = now;
            suspect.not_before = now.checked_add(AGAIN).ok();
        }
    }

    /// A write was answered, whatever the answer: the view tells what became of the record.
    pub fn answered(&mut self, key: &str) {
        self.suspects.remove(key);
    }
}

/// What to do about pruning.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruning {
    /// The state to keep.
    pub state: State,
    /// The live read to make now.
    pub confirm: Option<Confirm>,
    /// The write to send now, and in which cell's store (`None`: the global one).
    pub write: Option<(Option<Box<str>>, Write)>,
    /// What is not pruned, and why.
    pub held: Vec<Held>,
    /// When to look again though nothing changed.
    pub wake: Option<Timestamp>,
}

/// Decides.
pub fn decide(facts: &Facts<'_>, views: &Views, state: &State, now: Timestamp) -> Pruning {
    let mut plan = Pruning {
        state: State::default(),
        confirm: None,
        write: None,
        held: Vec::new(),
        wake: None,
    };
    if !facts.enabled {
        return plan;
    }
    if let Some(why) = closed(facts, views) {
        // A suspicion must be continuous, so it ends here.
        plan.held.push(Held {
            key: views.global.root().into(),
            why,
        });
        return plan;
    }
    let (candidates, held, long_dead) = suspects::find(facts, views, now);
    plan.held = held;
    plan.wake = long_dead;
    for candidate in &candidates {
        let suspect = state
            .suspects
            .get(&candidate.key)
            .filter(|known| known.version == candidate.version)
            .cloned()
            .unwrap_or(Suspect {
                version: candidate.version,
                since: now,
                not_before: None,
                gone: None,
                written: false,
            });
        plan.state.suspects.insert(candidate.key.clone(), suspect);
    }
    // While a write is under way nothing else is begun.
    let writing = plan
        .state
        .suspects
        .values()
        .filter(|suspect| suspect.written)
        .filter_map(|suspect| suspect.not_before.filter(|at| *at > now))
        .max();
    if let Some(at) = writing {
        plan.wake = Some(plan.wake.map_or(at, |wake| wake.min(at)));
        return plan;
    }
    for candidate in candidates {
        if plan.step(candidate, now) {
            break;
        }
    }
    plan
}

/// The gates before everything else; the first that is shut, in words.
fn closed(facts: &Facts<'_>, views: &Views) -> Option<String> {
    let silent = views.silent();
    let empty = facts.desired.cells.is_empty() || facts.desired.databases.is_empty();
    let why = match () {
        () if !facts.synced => {
            "the objects in Kubernetes have not been listed completely".to_owned()
        }
        () if !views.global.complete() => "the global topology is not completely known".to_owned(),
        () if !silent.is_empty() => {
            format!(
                "the topology of {} is not completely known",
                silent.join(", ")
            )
        }
        () if empty => "the specification names no cells or no databases".to_owned(),
        () if !facts.registered => "not every cell and database is registered".to_owned(),
        () => return None,
    };
    Some(format!("nothing is pruned: {why}"))
}

impl Pruning {
    /// Moves one candidate forward; true when that was the one of this pass.
    fn step(&mut self, candidate: Candidate, now: Timestamp) -> bool {
        let Some(suspect) = self.state.suspects.get_mut(&candidate.key) else {
            return false;
        };
        let ripe = suspect.since.checked_add(candidate.patience).ok();
        if let Some(at) = ripe.max(suspect.not_before).filter(|at| *at > now) {
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
            return false;
        }
        suspect.not_before = now.checked_add(AGAIN).ok();
        let wakes = [self.wake, suspect.not_before];
        self.wake = wakes.into_iter().flatten().min();
        let fresh = suspect
            .gone
            .is_some_and(|at| now.duration_since(at) <= EVIDENCE);
        suspect.gone = None;
        suspect.written = fresh;
        if fresh {
            let write = Write {
                key: candidate.key,
                value: candidate.value,
                version: candidate.version,
                reason: candidate.reason,
            };
            self.write = Some((candidate.cell, write));
        } else {
            self.confirm = Some(Confirm {
                key: candidate.key,
                subject: candidate.subject,
            });
        }
        true
    }
}
