//! Changes of the cohort under one leader (`topology.md` 5.5).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Shard, replication::RULE_BYTES};
use crate::{
    name::{Component, Id},
    pooler::{Lifecycle, Pooler},
    rule::{Rule, RuleNumber},
};

impl Shard {
    /// The rule that may be changed: its leader serves, and nothing is undecided.
    fn settled_rule(&self) -> Option<&Rule> {
        let rule = self.seen_rule()?;
        let leader = self.poolers.get(&rule.leader)?;
        let undecided = self.data_of(&rule.leader)?.position.proposal.is_some();
        let settled = leader.reachable() && leader.serves_writes() && !undecided;
        (settled && self.election.is_none()).then_some(rule)
    }

    /// Whether the leader and the members that follow it could decide a rule with this cohort.
    fn would_be_decided(&self, rule: &Rule, cohort: &[Id]) -> bool {
        let mut live: BTreeSet<Id> = self.followers(&rule.leader).into_iter().collect();
        live.insert(rule.leader.clone());
        [rule.cohort.as_slice(), cohort].iter().all(|members| {
            rule.policy
                .satisfied_by(members.iter().filter(|id| live.contains(id)))
        })
    }

    pub(super) fn may_add(&self, id: &Id) -> bool {
        self.settled_rule().is_some_and(|rule| {
            let mut cohort = rule.cohort.clone();
            cohort.push(id.clone());
            self.would_be_decided(rule, &cohort)
        })
    }

    /// A member whose record says SHUTDOWN goes without further ado; one that is merely not eligible only if the shard
    /// survives the loss of its leader afterwards.
    pub(super) fn may_remove(&self, id: &Id) -> bool {
        let Some(rule) = self.settled_rule() else {
            return false;
        };
        let cohort: Vec<Id> = rule.cohort.iter().filter(|m| *m != id).cloned().collect();
        let gone = self
            .poolers
            .get(id)
            .is_some_and(|pooler| self.seen_lifecycle(pooler) == Some(Lifecycle::Shutdown));
        let mut survivors = self.recruitable(&cohort);
        survivors.remove(&rule.leader);
        self.would_be_decided(rule, &cohort) && (gone || rule.policy.feasible(&cohort, &survivors))
    }

    pub(super) fn change_cohort(&mut self, id: &Id, add: bool, at: Timestamp) {
        let allowed = if add {
            self.may_add(id)
        } else {
            self.may_remove(id)
        };
        let Some(rule) = self.settled_rule().filter(|_| allowed).cloned() else {
            return;
        };
        let mut cohort: Vec<Id> = rule.cohort.iter().filter(|m| *m != id).cloned().collect();
        if add {
            cohort.push(id.clone());
        }
        let leader = rule.leader.clone();
        let changed = Rule {
            number: RuleNumber {
                subterm: rule.number.subterm + 1,
                ..rule.number
            },
            cohort,
            // The real one writes the leader's name as a coordinator's.
            coordinator: Id::new(
                Component::Multiorch,
                leader.cell.clone(),
                leader.name.clone(),
            ),
            created: at,
            ..rule
        };
        let term = changed.number.term;
        if let Some(data) = self.data_of_mut(&leader) {
            data.wal.append(term, RULE_BYTES);
            data.position.proposal = Some(changed);
        }
    }

    /// The members of the cohort in force, and whether each takes part.
    pub fn members(&self) -> Vec<(&Id, bool)> {
        let cohort = self.rule().map_or(&[][..], |rule| &rule.cohort);
        let there = |id: &Id| self.poolers.get(id).is_some_and(Pooler::takes_part);
        cohort.iter().map(|id| (id, there(id))).collect()
    }
}
