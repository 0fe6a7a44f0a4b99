//! Changes of the leader: recruit, promote, decide.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::Timestamp;

use super::{Claim, Shard, replication::RULE_BYTES};
use crate::{
    name::Id,
    policy::Policy,
    pooler::{Following, Pooler, Postgres, Process, Role, Serving, Work},
    rule::{Revocation, Rule, RuleNumber},
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Recruiting,
    Promoting,
    Deciding,
}

/// An election under way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Election {
    /// Its term.
    pub term: i64,
    /// The pooler that is to lead, once it is chosen.
    pub candidate: Option<Id>,
    coordinator: Id,
    recruits: BTreeSet<Id>,
    cohort: Vec<Id>,
    policy: Policy,
    preferred: Option<Id>,
    phase: Phase,
    until: Timestamp,
}

impl Election {
    pub(super) fn until(&self) -> Timestamp {
        self.until
    }
}

impl Shard {
    /// The members and the policy of the first rule, when they are there.
    pub(super) fn first_cohort(&self) -> Option<(Vec<Id>, Policy)> {
        let policy = self.policy.clone()?;
        let initialised = self.poolers.values().filter(|pooler| {
            pooler.reachable()
                && pooler.eligible
                && pooler.postgres == Postgres::Standby
                && self.data_of(pooler.id()).is_some()
        });
        let initialised: Vec<Id> = initialised.map(|pooler| pooler.id().clone()).collect();
        let cohort = match &self.claim {
            Some(claim) => claim.cohort.clone(),
            None => initialised.clone(),
        };
        let there: Vec<&Id> = cohort
            .iter()
            .filter(|id| initialised.contains(id))
            .collect();
        policy.satisfied_by(there).then_some((cohort, policy))
    }

    /// Whether the claim, if there is one, belongs to a coordinator that runs.
    pub(super) fn claim_allows(&self) -> bool {
        self.claim
            .as_ref()
            .is_none_or(|claim| self.orchs.contains_key(&claim.claimer))
    }

    /// Makes the claim, unless it is made, and appoints the first leader.
    pub(super) fn initialize(&mut self, now: Timestamp) {
        let (Some((cohort, policy)), Some(claimer)) =
            (self.first_cohort(), self.coordinator().cloned())
        else {
            return;
        };
        self.claim.get_or_insert_with(|| Claim {
            claimer,
            cohort: cohort.clone(),
        });
        self.recruit(cohort, policy, None, now);
    }

    /// Replaces the leader; ties between the most advanced members go to the preferred one.
    pub(super) fn elect(&mut self, preferred: Option<Id>, now: Timestamp) {
        if let Some(rule) = self.seen_rule().cloned() {
            self.recruit(rule.cohort, rule.policy, preferred, now);
        }
    }

    /// A test wants another leader at once: an election without a cause, which this member wins if it is as advanced as
    /// the others.
    pub fn switch(&mut self, to: Option<Id>, now: Timestamp) {
        self.happen(now, |shard| {
            if shard.election.is_none() {
                let leader = shard.seen_rule().map(|rule| rule.leader.clone());
                let leaving = leader.filter(|id| to.as_ref() != Some(id));
                if let Some(leader) = leaving.and_then(|id| shard.poolers.get_mut(&id)) {
                    leader.resigned = leader.record.rule.map(|number| number.term);
                }
                shard.elect(to, now);
            }
        });
    }

    fn recruit(&mut self, cohort: Vec<Id>, policy: Policy, preferred: Option<Id>, now: Timestamp) {
        let recruits = self.recruitable(&cohort);
        let Some(coordinator) = self.coordinator().cloned() else {
            return;
        };
        if !policy.feasible(&cohort, &recruits) {
            return;
        }
        let outgoing = self.seen_rule().map(|rule| rule.number);
        let term = 1 + self.highest_term();
        let until = now + self.timing.recruit;
        for id in &recruits {
            let Some(pooler) = self.poolers.get_mut(id) else {
                continue;
            };
            pooler.following = None;
            if pooler.is_primary() {
                pooler.postgres = Postgres::Busy(Work::Demoting, now, until);
                pooler.record.serving = Serving::Draining;
                pooler.replica();
            }
            if let Some(volume) = self.volumes.get_mut(&pooler.site.volume) {
                volume.revocation = Some(Revocation {
                    below_term: term,
                    coordinator: coordinator.clone(),
                    initiated: now,
                    outgoing,
                });
            }
        }
        self.election = Some(Election {
            term,
            candidate: None,
            coordinator,
            recruits,
            cohort,
            policy,
            preferred,
            phase: Phase::Recruiting,
            until,
        });
    }

    /// The highest term that any pooler in sight knows of.
    fn highest_term(&self) -> i64 {
        let reachable = self.poolers.values().filter(|pooler| pooler.reachable());
        let volumes = reachable.filter_map(|pooler| self.volume(pooler));
        let terms = volumes.map(|volume| {
            let data = volume.data.as_ref();
            let rule = data.and_then(|data| data.position.newest());
            volume
                .promised()
                .max(rule.map_or(0, |rule| rule.number.term))
        });
        terms.max().unwrap_or_default()
    }

    pub(super) fn election_due(&mut self, at: Timestamp) {
        let due = self.election.take_if(|election| election.until <= at);
        let Some(election) = due else {
            return;
        };
        match election.phase {
            Phase::Recruiting => self.propose(election, at),
            Phase::Promoting => self.promoted(election, at),
            Phase::Deciding => self.back_off = Some(at),
        }
    }

    /// Chooses the most advanced recruit and lets it propose itself.
    fn propose(&mut self, mut election: Election, at: Timestamp) {
        let there = self.recruitable(&election.cohort);
        election.recruits.retain(|id| there.contains(id));
        let feasible = election
            .policy
            .feasible(&election.cohort, &election.recruits);
        let candidate = self.most_advanced(&election);
        let (Some(candidate), true) = (candidate, feasible) else {
            self.back_off = Some(at + self.timing.back_off);
            return;
        };
        let rule = Rule {
            number: RuleNumber {
                term: election.term,
                subterm: 0,
            },
            leader: candidate.clone(),
            cohort: election.cohort.clone(),
            policy: election.policy.clone(),
            coordinator: election.coordinator.clone(),
            created: at,
        };
        if let Some(data) = self.data_of_mut(&candidate) {
            data.wal.append(election.term, RULE_BYTES);
            data.position.proposal = Some(rule);
        }
        let until = at + self.timing.promote;
        if let Some(pooler) = self.poolers.get_mut(&candidate) {
            pooler.postgres = Postgres::Busy(Work::Promoting, at, until);
        }
        election.candidate = Some(candidate);
        election.phase = Phase::Promoting;
        election.until = until;
        self.election = Some(election);
    }

    fn most_advanced(&self, election: &Election) -> Option<Id> {
        let rank = |id: &&Id| {
            let data = self.data_of(id);
            let term = data.map(|data| data.position.decided().term);
            let resigned = self.poolers.get(id).and_then(|pooler| pooler.resigned);
            (
                data.and_then(|data| data.position.newest().map(|rule| rule.number)),
                data.map(|data| data.wal.head()),
                resigned.is_none() || resigned != term,
                election.preferred.as_ref() == Some(*id),
                Reverse((*id).clone()),
            )
        };
        election.recruits.iter().max_by_key(rank).cloned()
    }

    /// The candidate is out of recovery; the others are told to follow it.
    fn promoted(&mut self, mut election: Election, at: Timestamp) {
        let Some(leader) = election.candidate.clone() else {
            return;
        };
        let proposal = self
            .data_of(&leader)
            .and_then(|data| data.position.proposal.clone());
        let alive = self.poolers.get(&leader).is_some_and(Pooler::reachable);
        let (Some(rule), true) = (proposal, alive) else {
            self.back_off = Some(at + self.timing.back_off);
            return;
        };
        if let Some(pooler) = self.poolers.get_mut(&leader) {
            pooler.postgres = Postgres::Primary;
            pooler.following = Some(Following {
                leader: leader.clone(),
                rule: rule.clone(),
            });
        }
        // Members that could not be recruited are told too: one that must catch up before it may be recruited does so now.
        for id in election.cohort.iter().filter(|id| **id != leader) {
            if self.poolers.get(id).is_some_and(Pooler::reachable) {
                self.follow(id, &rule, at);
            }
        }
        election.phase = Phase::Deciding;
        election.until = at + self.timing.back_off;
        self.election = Some(election);
    }

    /// A rule is decided: its leader serves, and an election that led to it is over.
    pub(super) fn decided(&mut self, rule: &Rule) {
        if self
            .election
            .as_ref()
            .is_some_and(|election| election.term <= rule.number.term)
        {
            self.election = None;
            self.back_off = None;
        }
        if let Some(pooler) = self.poolers.get_mut(&rule.leader) {
            pooler.record.role = Some(Role::Primary);
            pooler.record.rule = Some(rule.number);
            if pooler.process == Process::Up && pooler.resigning.is_none() {
                pooler.record.serving = Serving::Serving;
            }
        }
        // Followers learn the decision through the log; what they were told follows.
        for pooler in self.poolers.values_mut() {
            if let Some(following) = &mut pooler.following
                && following.leader == rule.leader
            {
                following.rule = rule.clone();
            }
        }
    }
}
