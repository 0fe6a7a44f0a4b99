//! The ledger: which writes were acknowledged, and what became of them.
//!
//! It is told what is true after each change of a shard and keeps what must never have happened. Writes of one term form
//! one log, so the newest acknowledged write of each term stands for all before it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use crate::{lsn::Lsn, name::Id, wal::Wal};

/// What must not happen to a shard.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "violation", rename_all = "camelCase")]
pub enum Violation {
    /// An acknowledged write is on no volume and in no backup any more.
    LastHolderGone {
        /// When it was seen.
        at: Timestamp,
        /// The term of the write.
        term: i64,
        /// Where it ended.
        lsn: Lsn,
    },
    /// A decided leader lacks an acknowledged write.
    LeaderLacksWrite {
        /// When it was seen.
        at: Timestamp,
        /// The leader.
        leader: Id,
        /// The term of the write.
        term: i64,
        /// Where it ended.
        lsn: Lsn,
    },
    /// Two poolers could acknowledge writes at the same time.
    SecondPrimary {
        /// When it was seen.
        at: Timestamp,
        /// All who could.
        primaries: Vec<Id>,
    },
    /// So many members were absent that the rest could neither make writes durable nor elect a leader.
    QuorumLost {
        /// When it was seen.
        at: Timestamp,
        /// The absent members.
        absent: Vec<Id>,
    },
}

/// What is true of a shard right now.
#[derive(Debug, Default)]
pub struct View<'a> {
    /// The logs on volumes and in backups.
    pub logs: Vec<&'a Wal>,
    /// The decided leader, if it runs, and its log.
    pub leader: Option<(&'a Id, &'a Wal)>,
    /// Poolers that a client can write to.
    pub serving: Vec<&'a Id>,
    /// Poolers whose writes would be acknowledged now.
    pub acknowledging: Vec<&'a Id>,
    /// Members of the cohort that are not there.
    pub absent: Vec<&'a Id>,
    /// Whether the members that are there are enough.
    pub quorum: bool,
}

/// Stretches of time in which something was missing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Outages {
    /// How often.
    pub count: u32,
    /// In all, without the one under way.
    total: Duration,
    longest: Duration,
    since: Option<Timestamp>,
}

impl Outages {
    fn note(&mut self, missing: bool, now: Timestamp) {
        match (missing, self.since) {
            (true, None) => {
                self.since = Some(now);
                self.count += 1;
            }
            (false, Some(since)) => {
                let lasted = elapsed(since, now);
                self.total += lasted;
                self.longest = self.longest.max(lasted);
                self.since = None;
            }
            _ => {}
        }
    }

    fn open(&self, now: Timestamp) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| elapsed(since, now))
    }

    /// How long in all until now.
    pub fn total(&self, now: Timestamp) -> Duration {
        self.total + self.open(now)
    }

    /// The longest until now.
    pub fn longest(&self, now: Timestamp) -> Duration {
        self.longest.max(self.open(now))
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// The ledger of one shard.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// The newest acknowledged write of each term.
    newest: BTreeMap<i64, Lsn>,
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// What must not have happened, in order.
    violations: Vec<Violation>,
    /// Time without a pooler that clients can write to, from the first one on.
    pub without_primary: Outages,
    /// Time in which no write would have been acknowledged, from the first primary on.
    pub without_writes: Outages,
    /// The most members of the cohort that were absent at the same time.
    pub most_absent: usize,
    led: bool,
    two: bool,
    no_quorum: bool,
}

impl Ledger {
    /// A write was acknowledged to its client.
    pub fn acknowledge(&mut self, term: i64, lsn: Lsn) {
        self.acknowledged += 1;
        let newest = self.newest.entry(term).or_default();
        *newest = (*newest).max(lsn);
    }

    /// Takes note of what is true now.
    pub fn observe(&mut self, view: &View<'_>, now: Timestamp) {
        self.led |= !view.serving.is_empty();
        if self.led {
            self.without_primary.note(view.serving.is_empty(), now);
            self.without_writes.note(view.acknowledging.is_empty(), now);
        }
        self.most_absent = self.most_absent.max(view.absent.len());
        let two = view.acknowledging.len() > 1;
        if two && !self.two {
            let primaries = view.acknowledging.iter().copied().cloned().collect();
            self.violations
                .push(Violation::SecondPrimary { at: now, primaries });
        }
        self.two = two;
        let no_quorum = self.led && !view.quorum;
        if no_quorum && !self.no_quorum {
            let absent = view.absent.iter().copied().cloned().collect();
            self.violations
                .push(Violation::QuorumLost { at: now, absent });
        }
        self.no_quorum = no_quorum;
        self.look_for_losses(view, now);
    }

    fn look_for_losses(&mut self, view: &View<'_>, now: Timestamp) {
        let mut lost = Vec::new();
        for (term, lsn) in &self.newest {
            let (term, lsn) = (*term, *lsn);
            if !view.logs.iter().any(|log| log.holds(term, lsn)) {
                lost.push(Violation::LastHolderGone { at: now, term, lsn });
            } else if let Some((leader, log)) = view.leader
                && !log.holds(term, lsn)
            {
                lost.push(Violation::LeaderLacksWrite {
                    at: now,
                    leader: leader.clone(),
                    term,
                    lsn,
                });
            }
        }
        // Each loss is told once.
        for violation in &lost {
            if let Violation::LastHolderGone { term, .. }
            | Violation::LeaderLacksWrite { term, .. } = violation
            {
                self.newest.remove(term);
            }
        }
        self.violations.extend(lost);
    }

    /// Everything that must not have happened, in order.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Whether an acknowledged write was lost.
    pub fn lost_a_write(&self) -> bool {
        self.violations.iter().any(|violation| {
            matches!(
                violation,
                Violation::LastHolderGone { .. } | Violation::LeaderLacksWrite { .. }
            )
        })
    }

    /// Whether there was ever a second primary that could acknowledge writes.
    pub fn had_a_second_primary(&self) -> bool {
        self.violations
            .iter()
            .any(|violation| matches!(violation, Violation::SecondPrimary { .. }))
    }

    /// Whether the members that were there were ever too few.
    pub fn lost_quorum(&self) -> bool {
        self.violations
            .iter()
            .any(|violation| matches!(violation, Violation::QuorumLost { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    #[test]
    fn two_who_could_acknowledge_are_told_once_per_occurrence() {
        let (a, b) = (Id::pooler("a", "p1"), Id::pooler("a", "p2"));
        let mut ledger = Ledger::default();
        let one = View {
            serving: vec![&a],
            acknowledging: vec![&a],
            quorum: true,
            ..View::default()
        };
        let two = View {
            serving: vec![&a, &b],
            acknowledging: vec![&a, &b],
            quorum: true,
            ..View::default()
        };
        for (view, count) in [(&one, 0), (&two, 1), (&two, 1), (&one, 1), (&two, 2)] {
            ledger.observe(view, at(0));
            assert_eq!(ledger.violations().len(), count);
        }
        assert!(ledger.had_a_second_primary());
    }

    #[test]
    fn a_stale_primary_whose_writes_hang_is_no_second_primary() {
        let (a, b) = (Id::pooler("a", "p1"), Id::pooler("a", "p2"));
        let mut ledger = Ledger::default();
        let view = View {
            serving: vec![&a, &b],
            acknowledging: vec![&b],
            quorum: true,
            ..View::default()
        };
        ledger.observe(&view, at(0));
        assert!(!ledger.had_a_second_primary());
    }

    #[test]
    fn time_without_a_primary_counts_from_the_first_one() {
        let a = Id::pooler("a", "p1");
        let mut ledger = Ledger::default();
        let none = View {
            quorum: true,
            ..View::default()
        };
        let led = View {
            serving: vec![&a],
            acknowledging: vec![&a],
            quorum: true,
            ..View::default()
        };
        for (view, second) in [(&none, 0), (&led, 10), (&none, 20), (&led, 23), (&none, 30)] {
            ledger.observe(view, at(second));
        }
        let seconds = |d: Duration| d.as_secs();
        assert_eq!(ledger.without_primary.count, 2);
        assert_eq!(seconds(ledger.without_primary.total(at(31))), 4);
        assert_eq!(seconds(ledger.without_primary.longest(at(31))), 3);
    }

    #[test]
    fn a_leader_that_lacks_an_acknowledged_write_is_told_once() {
        let a = Id::pooler("a", "p1");
        let mut old = Wal::default();
        old.append(1, 10);
        let mut new = old.clone();
        let lost = old.append(1, 10);
        new.append(2, 10);
        let mut ledger = Ledger::default();
        ledger.acknowledge(1, lost);
        let view = View {
            logs: vec![&old, &new],
            leader: Some((&a, &new)),
            quorum: true,
            ..View::default()
        };
        ledger.observe(&view, at(1));
        ledger.observe(&view, at(2));
        assert!(ledger.lost_a_write());
        assert_eq!(ledger.violations().len(), 1);
    }
}
