//! One shard: its poolers, their volumes, the coordinators and the backups, as a deterministic model.
//!
//! Nothing here waits or looks at a clock. Whoever drives the model tells it what happens and when, lets it advance, and
//! asks for the next instant at which something is due.

mod access;
mod backups;
mod cohort;
mod coordinator;
mod election;
mod life;
mod postgres;
mod problem;
mod replication;
mod resignation;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use backups::Refusal;
pub use election::Election;
pub use problem::{Code, Problem, Scope};
pub use replication::Written;

use crate::{
    backup::Repository,
    ledger::Ledger,
    name::{Id, ShardKey},
    policy::Policy,
    pooler::{Lifecycle, Pooler},
    timing::Timing,
    volume::Volume,
};

/// The claim of a coordinator to initialise the shard, with the first members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The coordinator.
    pub claimer: Id,
    /// The first members.
    pub cohort: Vec<Id>,
}

/// What somebody else made of a pooler's record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Edit {
    Lifecycle(Lifecycle),
    Deleted,
}

/// A coordinator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Orch {
    recovery: bool,
}

/// A shard.
#[derive(Debug)]
pub struct Shard {
    /// Its name.
    pub key: ShardKey,
    /// How long things take.
    pub timing: Timing,
    /// Backups.
    pub repository: Repository,
    /// What was acknowledged, and what became of it.
    pub ledger: Ledger,
    policy: Option<Policy>,
    poolers: BTreeMap<Id, Pooler>,
    volumes: BTreeMap<String, Volume>,
    edits: BTreeMap<Id, Edit>,
    orchs: BTreeMap<Id, Orch>,
    claim: Option<Claim>,
    election: Option<Election>,
    /// No recruitment before this instant.
    back_off: Option<Timestamp>,
    problems: Vec<Problem>,
    plan: Vec<(Timestamp, coordinator::Action)>,
    pending: Vec<replication::Commit>,
    next_write: Option<Timestamp>,
}

impl Shard {
    /// A shard without members.
    pub fn new(key: ShardKey, timing: Timing) -> Self {
        Self {
            key,
            timing,
            repository: Repository::default(),
            ledger: Ledger::default(),
            policy: None,
            poolers: BTreeMap::new(),
            volumes: BTreeMap::new(),
            edits: BTreeMap::new(),
            orchs: BTreeMap::new(),
            claim: None,
            election: None,
            back_off: None,
            problems: Vec::new(),
            plan: Vec::new(),
            pending: Vec::new(),
            next_write: None,
        }
    }

    /// The next instant at which something happens by itself; nothing when the shard is at rest.
    pub fn wake(&self) -> Option<Timestamp> {
        let poolers = self.poolers.values().flat_map(|pooler| self.dues(pooler));
        let job = self.repository.running.as_ref().map(|job| job.until);
        let plan = self.plan.iter().map(|(at, _)| *at);
        poolers
            .chain(job)
            .chain(self.election.as_ref().map(Election::until))
            .chain(plan)
            .chain(self.next_write)
            .min()
    }

    /// Lets everything happen that is due until now.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(at) = self.wake().filter(|at| *at <= now) {
            self.step(at);
            self.react(at);
        }
    }

    fn step(&mut self, at: Timestamp) {
        for id in self.poolers.keys().cloned().collect::<Vec<_>>() {
            self.life_due(&id, at);
            self.postgres_due(&id, at);
            self.resignation_due(&id, at);
        }
        self.backup_due(at);
        self.election_due(at);
        self.plan_due(at);
        self.write_due(at);
    }

    /// Follows up on a change, whatever it was.
    fn react(&mut self, now: Timestamp) {
        self.monitor(now);
        self.replicate(now);
        self.coordinate(now);
        self.observe(now);
    }

    /// Applies something that happens from outside.
    fn happen<T>(&mut self, now: Timestamp, change: impl FnOnce(&mut Self) -> T) -> T {
        self.advance(now);
        let answer = change(self);
        self.react(now);
        answer
    }
}

#[cfg(test)]
mod tests;
