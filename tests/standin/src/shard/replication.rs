//! Writes, streaming replication and acknowledgements.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Shard;
use crate::{
    ledger::View,
    lsn::Lsn,
    name::Id,
    policy::Policy,
    pooler::{Pooler, Postgres},
    rule::Rule,
    volume::{Data, Volume},
};

/// A small transaction, in bytes of log.
const WRITE_BYTES: u64 = 0xA8;
/// A record of the rule history, in bytes of log.
pub(super) const RULE_BYTES: u64 = 0x138;
/// A shutdown checkpoint, in bytes of log.
const CHECKPOINT_BYTES: u64 = 0x78;

/// A write whose client still waits.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    leader: Id,
    term: i64,
    lsn: Lsn,
}

/// How a write went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// Durable by the policy, and the client knows.
    Acknowledged,
    /// Written; the client waits for acknowledgements.
    Waiting,
    /// There is no primary.
    Refused,
}

impl Shard {
    /// A client writes to every pooler that takes writes: usually one; a stale one too while it does not know better.
    pub fn write(&mut self, now: Timestamp) -> Written {
        let before = self.ledger.acknowledged;
        let written = self.happen(now, Self::write_everywhere);
        match (written, self.ledger.acknowledged > before) {
            (0, _) => Written::Refused,
            (_, true) => Written::Acknowledged,
            (_, false) => Written::Waiting,
        }
    }

    fn write_everywhere(&mut self) -> usize {
        let primaries: Vec<Id> = self
            .poolers
            .values()
            .filter(|pooler| pooler.serves_writes())
            .map(|pooler| pooler.id().clone())
            .collect();
        for leader in &primaries {
            let Some(data) = self.data_of_mut(leader) else {
                continue;
            };
            let term = data.position.newest().map_or(0, |rule| rule.number.term);
            let lsn = data.wal.append(term, WRITE_BYTES);
            self.pending.push(Commit {
                leader: leader.clone(),
                term,
                lsn,
            });
        }
        primaries.len()
    }

    pub(super) fn write_due(&mut self, at: Timestamp) {
        if self.next_write.is_some_and(|due| due <= at) {
            self.next_write = None;
            self.write_everywhere();
        }
    }

    /// A clean stop writes a checkpoint, which standbys get.
    pub(super) fn checkpoint(&mut self, id: &Id, now: Timestamp) {
        let stopping_primary = self.poolers.get(id).is_some_and(Pooler::is_primary);
        if let Some(data) = self.data_of_mut(id).filter(|_| stopping_primary) {
            let term = data.position.newest().map_or(0, |rule| rule.number.term);
            data.wal.append(term, CHECKPOINT_BYTES);
            self.replicate(now);
        }
        if let Some(pooler) = self.poolers.get_mut(id) {
            pooler.postgres = Postgres::Down;
        }
    }

    /// Lets standbys receive what their leaders have, decides proposals and acknowledges writes.
    pub(super) fn replicate(&mut self, now: Timestamp) {
        let leaders: Vec<Id> = self
            .poolers
            .values()
            .filter(|pooler| pooler.is_primary())
            .map(|pooler| pooler.id().clone())
            .collect();
        for leader in &leaders {
            self.send(leader, now);
            if self.decide(leader) {
                self.send(leader, now);
            }
            self.acknowledge(leader);
        }
        self.pending
            .retain(|commit| leaders.contains(&commit.leader));
        let write = self.poolers.values().any(Pooler::serves_writes);
        self.next_write = self
            .timing
            .write_every
            .filter(|_| write)
            .map(|every| self.next_write.unwrap_or(now + every));
    }

    fn send(&mut self, leader: &Id, now: Timestamp) {
        let Some(data) = self.data_of(leader).cloned() else {
            return;
        };
        for follower in self.followers(leader) {
            let Some(pooler) = self.poolers.get_mut(&follower).filter(|f| !f.held) else {
                continue;
            };
            let Some(volume) = self.volumes.get_mut(&pooler.site.volume) else {
                continue;
            };
            if volume.data.as_ref() != Some(&data) {
                pooler.advanced = Some(now);
                volume.data = Some(data.clone());
            }
            if volume
                .blocked_until
                .is_some_and(|until| until <= data.wal.head())
            {
                volume.blocked_until = None;
            }
        }
    }

    /// Decides a leader's proposal when enough members hold it: by the policy over the old cohort and over the new one.
    fn decide(&mut self, leader: &Id) -> bool {
        let holders = self.holders(leader);
        let Some(data) = self.data_of_mut(leader) else {
            return false;
        };
        let Some(proposal) = data.position.proposal.clone() else {
            return false;
        };
        let old = data
            .position
            .decision
            .as_ref()
            .filter(|old| old.leader == *leader);
        let enough = |rule: &Rule| durable(&rule.policy, &rule.cohort, &holders);
        if !enough(&proposal) || !old.is_none_or(enough) {
            return false;
        }
        data.position.decision = Some(proposal.clone());
        data.position.proposal = None;
        self.decided(&proposal);
        true
    }

    fn acknowledge(&mut self, leader: &Id) {
        if !self.acknowledges(leader) {
            return;
        }
        let Self {
            pending, ledger, ..
        } = self;
        pending.retain(|commit| {
            let own = commit.leader == *leader;
            if own {
                ledger.acknowledge(commit.term, commit.lsn);
            }
            !own
        });
    }

    /// Whether a write of this pooler would be acknowledged now.
    pub(super) fn acknowledges(&self, leader: &Id) -> bool {
        let decision = self
            .data_of(leader)
            .and_then(|data| data.position.decision.as_ref());
        self.poolers.get(leader).is_some_and(Pooler::serves_writes)
            && decision.is_some_and(|rule| {
                rule.leader == *leader && durable(&rule.policy, &rule.cohort, &self.holders(leader))
            })
    }

    /// The leader and the standbys that have all it has.
    fn holders(&self, leader: &Id) -> BTreeSet<Id> {
        let live = |id: &Id| self.poolers.get(id).is_some_and(|pooler| !pooler.held);
        let mut holders: BTreeSet<Id> = self.followers(leader).into_iter().filter(live).collect();
        holders.insert(leader.clone());
        holders
    }

    /// The standbys that stream from a leader.
    pub fn followers(&self, leader: &Id) -> Vec<Id> {
        let streaming = self
            .poolers
            .values()
            .filter(|pooler| self.leader_streamed(pooler) == Some(leader));
        streaming.map(|pooler| pooler.id().clone()).collect()
    }

    /// The leader that a standby streams from.
    pub fn leader_streamed<'a>(&self, follower: &'a Pooler) -> Option<&'a Id> {
        let following = follower.following.as_ref()?;
        let leader = self.poolers.get(&following.leader)?;
        let (own, theirs) = (self.volume(follower)?, self.volume(leader)?);
        let (own_data, their_data) = (own.data.as_ref()?, theirs.data.as_ref()?);
        let term = their_data.position.newest()?.number.term;
        let streams = follower.reachable()
            && follower.postgres == Postgres::Standby
            && leader.reachable()
            && leader.is_primary()
            && own.promised() <= term
            && own_data.wal.is_prefix_of(&their_data.wal);
        streams.then_some(&following.leader)
    }

    pub(super) fn volume(&self, pooler: &Pooler) -> Option<&Volume> {
        self.volumes.get(&pooler.site.volume)
    }

    pub(super) fn data_of(&self, id: &Id) -> Option<&Data> {
        self.volume(self.poolers.get(id)?)?.data.as_ref()
    }

    pub(super) fn data_of_mut(&mut self, id: &Id) -> Option<&mut Data> {
        let volume = &self.poolers.get(id)?.site.volume;
        self.volumes.get_mut(volume)?.data.as_mut()
    }

    /// Tells the ledger what is true now.
    pub(super) fn observe(&mut self, now: Timestamp) {
        let mut ledger = std::mem::take(&mut self.ledger);
        ledger.observe(&self.view(), now);
        self.ledger = ledger;
    }

    fn view(&self) -> View<'_> {
        let volumes = self.volumes.values().filter_map(|v| v.data.as_ref());
        let backups = self.repository.backups.iter().map(|backup| &backup.data);
        let rule = self.rule();
        let serving = self.poolers.values().filter(|p| p.serves_writes());
        let serving: Vec<&Id> = serving.map(Pooler::id).collect();
        let leader = rule.map(|rule| &rule.leader);
        let leader = leader.filter(|id| self.poolers.get(id).is_some_and(Pooler::is_primary));
        let cohort = rule.map_or(&[][..], |rule| &rule.cohort);
        let there = |id: &&Id| self.poolers.get(id).is_some_and(Pooler::takes_part);
        let present: BTreeSet<Id> = cohort.iter().filter(there).cloned().collect();
        View {
            logs: volumes.chain(backups).map(|data| &data.wal).collect(),
            leader: leader.and_then(|id| Some((id, &self.data_of(id)?.wal))),
            acknowledging: serving
                .iter()
                .filter(|id| self.acknowledges(id))
                .copied()
                .collect(),
            serving,
            absent: cohort.iter().filter(|id| !there(id)).collect(),
            quorum: rule.is_none_or(|rule| {
                durable(&rule.policy, &rule.cohort, &present)
                    && rule.policy.feasible(&rule.cohort, &present)
            }),
        }
    }
}

fn durable(policy: &Policy, cohort: &[Id], holders: &BTreeSet<Id>) -> bool {
    policy.satisfied_by(cohort.iter().filter(|id| holders.contains(id)))
}
