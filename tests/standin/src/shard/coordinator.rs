//! What the coordinators (multiorch) see, and what they do about it (`topology.md` 5.3–5.5).
//!
//! All coordinators of a shard are one here: recruitment makes them safe against each other, which is not played.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Shard,
    problem::{Code, Problem},
};
use crate::{
    name::Id,
    pooler::{Following, Lifecycle, Pooler, Postgres, Serving, Work},
    rule::Rule,
};

/// What a coordinator does about a problem.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// Look again: time has passed.
    Look,
    Initialize,
    Elect,
    /// Tell a pooler whom to follow.
    SetPrimary(Id),
    Demote(Id),
    Add(Id),
    Remove(Id),
}

impl Shard {
    /// Sees what is wrong and plans what to do about it, and when.
    pub(super) fn coordinate(&mut self, now: Timestamp) {
        let found = if self.coordinator().is_some() {
            self.look(now)
        } else {
            Vec::new()
        };
        let known = std::mem::take(&mut self.problems);
        self.problems = found
            .into_iter()
            .map(|(code, pooler)| {
                let same = |p: &&Problem| p.code == code && p.pooler == pooler;
                let since = known.iter().find(same).map_or(now, |p| p.since);
                Problem {
                    code,
                    pooler,
                    since,
                }
            })
            .collect();
        self.plan = self
            .problems
            .iter()
            .filter_map(|p| self.answer(p))
            .collect();
    }

    /// The coordinator that acts: the first that runs and may recover.
    pub(super) fn coordinator(&self) -> Option<&Id> {
        let acting = self.orchs.iter().find(|(_, orch)| orch.recovery);
        acting.map(|(id, _)| id)
    }

    fn look(&self, now: Timestamp) -> Vec<(Code, Option<Id>)> {
        let Some(rule) = self.seen_rule() else {
            let ready = self.election.is_none() && self.first_cohort().is_some();
            return ready
                .then_some((Code::ShardNeedsInitialization, None))
                .into_iter()
                .collect();
        };
        let mut found = Vec::new();
        if let Some(code) = self.leader_problem(rule, now) {
            found.push((code, Some(rule.leader.clone())));
            if code.ends_leadership() {
                found.extend(self.stuck(rule).map(|code| (code, None)));
            }
        }
        if self.at_risk(rule) {
            found.push((Code::ShardAtRisk, None));
        }
        for pooler in self.poolers.values() {
            let code = self.pooler_problem(pooler, rule);
            found.extend(code.map(|code| (code, Some(pooler.id().clone()))));
        }
        found
    }

    fn leader_problem(&self, rule: &Rule, now: Timestamp) -> Option<Code> {
        let leader = self.poolers.get(&rule.leader);
        let Some(leader) = leader.filter(|leader| leader.reachable()) else {
            let said_goodbye =
                leader.and_then(|l| self.seen_lifecycle(l)) == Some(Lifecycle::Shutdown);
            if said_goodbye {
                return Some(Code::LeaderResigned);
            }
            let long = self.silent_until(&rule.leader).is_none_or(|at| at <= now);
            return Some(if long {
                Code::LeaderUnreachableByCohort
            } else {
                Code::LeaderHealthUnknown
            });
        };
        let resigned = !leader.eligible
            || leader.resigned == Some(rule.number.term)
            || self.seen_lifecycle(leader) == Some(Lifecycle::Shutdown);
        if resigned {
            return Some(Code::LeaderResigned);
        }
        let promoting = matches!(leader.postgres, Postgres::Busy(Work::Promoting, _, _));
        if !leader.is_primary() && !promoting {
            return Some(Code::LeaderUnhealthy);
        }
        self.promised_away(rule)
            .then_some(Code::LeaderUnreachableByCohort)
    }

    /// Whether an election that came to nothing left promises behind: who made one follows only a leader of a higher term.
    fn promised_away(&self, rule: &Rule) -> bool {
        self.election.is_none()
            && self.poolers.values().any(|pooler| {
                pooler.reachable()
                    && self
                        .volume(pooler)
                        .is_some_and(|volume| volume.promised() > rule.number.term)
            })
    }

    /// Until when a leader that does not answer is given the benefit of the doubt.
    fn silent_until(&self, leader: &Id) -> Option<Timestamp> {
        let seen = self
            .problems
            .iter()
            .find(|p| p.code == Code::LeaderHealthUnknown && p.pooler.as_ref() == Some(leader));
        let lost = self
            .problems
            .iter()
            .any(|p| p.code == Code::LeaderUnreachableByCohort);
        match seen {
            Some(problem) => Some(problem.since + self.timing.unreachable),
            None if lost => None,
            None => Some(Timestamp::MAX),
        }
    }

    fn stuck(&self, rule: &Rule) -> Option<Code> {
        let recruits = self.recruitable(&rule.cohort);
        if recruits.is_empty() {
            return Some(Code::NoHealthyCohortMembers);
        }
        let feasible = rule.policy.feasible(&rule.cohort, &recruits);
        (!feasible && self.election.is_none()).then_some(Code::ShardStuck)
    }

    /// Whether a member is missing and the loss of one more would stop the shard.
    fn at_risk(&self, rule: &Rule) -> bool {
        let there = |id: &&Id| {
            self.poolers
                .get(id)
                .is_some_and(|p| p.reachable() && p.takes_part() && p.eligible)
        };
        let (n, required) = (rule.cohort.len(), rule.policy.required);
        let present = rule.cohort.iter().filter(there).count();
        let needed = (n / 2 + 1).max((n + 1).saturating_sub(required));
        present < n && present <= needed
    }

    fn pooler_problem(&self, pooler: &Pooler, rule: &Rule) -> Option<Code> {
        let member = rule.cohort.contains(pooler.id());
        let gone = self.seen_lifecycle(pooler) == Some(Lifecycle::Shutdown);
        if *pooler.id() == rule.leader {
            return None;
        }
        if member && (gone || pooler.reachable() && !pooler.eligible) {
            return Some(Code::CohortMemberIneligible);
        }
        if !pooler.reachable() || self.seen_lifecycle(pooler).is_none() || gone {
            return None;
        }
        if pooler.is_primary() && self.election.is_none() {
            return Some(Code::StaleLeader);
        }
        let standby = pooler.postgres == Postgres::Standby && pooler.eligible;
        if !standby || self.data_of(pooler.id()).is_none() {
            return None;
        }
        match self.leader_streamed(pooler) {
            Some(leader) if *leader == rule.leader => {
                (!member && !pooler.held).then_some(Code::PoolerNotInCohort)
            }
            _ => self
                .poolers
                .get(&rule.leader)
                .is_some_and(|leader| leader.reachable() && leader.is_primary())
                .then_some(Code::ReplicaNotReplicating),
        }
    }

    /// What is done about a problem, and when.
    fn answer(&self, problem: &Problem) -> Option<(Timestamp, Action)> {
        let cycle = problem.since + self.timing.cycle;
        let pooler = problem.pooler.clone();
        match problem.code {
            Code::ShardNeedsInitialization => {
                let at = self.back_off.map_or(cycle, |until| cycle.max(until));
                self.claim_allows().then_some((at, Action::Initialize))
            }
            Code::LeaderHealthUnknown => {
                Some((problem.since + self.timing.unreachable, Action::Look))
            }
            code if code.ends_leadership() => {
                let stuck = self
                    .problems
                    .iter()
                    .any(|p| matches!(p.code, Code::ShardStuck | Code::NoHealthyCohortMembers));
                let at = problem.since + self.timing.grace;
                let at = self.back_off.map_or(at, |until| at.max(until));
                (!stuck && self.election.is_none()).then_some((at, Action::Elect))
            }
            Code::StaleLeader => Some((cycle, Action::Demote(pooler?))),
            Code::ReplicaNotReplicating => Some((cycle, Action::SetPrimary(pooler?))),
            Code::PoolerNotInCohort => {
                let pooler = pooler?;
                self.may_add(&pooler)
                    .then_some((cycle, Action::Add(pooler)))
            }
            Code::CohortMemberIneligible => {
                let pooler = pooler?;
                self.may_remove(&pooler)
                    .then_some((cycle, Action::Remove(pooler)))
            }
            _ => None,
        }
    }

    pub(super) fn plan_due(&mut self, at: Timestamp) {
        let due: Vec<Action> = self
            .plan
            .iter()
            .filter(|(when, _)| *when <= at)
            .map(|(_, action)| action.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        self.act(due, at);
    }

    /// Acts: a change of leader before anything else, and at most one change of the cohort per cycle.
    fn act(&mut self, mut due: Vec<Action>, at: Timestamp) {
        due.sort_by_key(|action| !matches!(action, Action::Initialize | Action::Elect));
        let mut cohort_changed = false;
        for action in due {
            // Whatever comes of it: the next try is a cycle later.
            self.wait_again(&action, at);
            match action {
                Action::Look => {}
                Action::Initialize => self.initialize(at),
                Action::Elect => self.elect(None, at),
                Action::SetPrimary(id) => self.set_primary(&id, at),
                Action::Demote(id) => self.demote(&id, at),
                Action::Add(id) if !cohort_changed => {
                    cohort_changed = true;
                    self.change_cohort(&id, true, at);
                }
                Action::Remove(id) if !cohort_changed => {
                    cohort_changed = true;
                    self.change_cohort(&id, false, at);
                }
                Action::Add(_) | Action::Remove(_) => {}
            }
        }
    }

    fn wait_again(&mut self, action: &Action, at: Timestamp) {
        let about = match action {
            Action::SetPrimary(id) | Action::Demote(id) | Action::Add(id) | Action::Remove(id) => {
                Some(id)
            }
            Action::Look | Action::Initialize | Action::Elect => None,
        };
        for problem in &mut self.problems {
            let own = match about {
                Some(id) => problem.pooler.as_ref() == Some(id),
                None => {
                    problem.code == Code::ShardNeedsInitialization || problem.code.ends_leadership()
                }
            };
            if own && *action != Action::Look {
                problem.since = at;
            }
        }
    }

    /// `TriggerRecoveryNow`: acts on what is wrong without waiting for grace periods. Returns what is wrong.
    pub fn recover_now(&mut self, now: Timestamp) -> Vec<Code> {
        self.happen(now, |shard| {
            let mut codes: Vec<Code> = shard.problems.iter().map(|p| p.code).collect();
            codes.dedup();
            let due = shard
                .plan
                .iter()
                .map(|(_, action)| action.clone())
                .collect();
            shard.act(due, now);
            codes
        })
    }

    /// What the coordinators see now.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn set_primary(&mut self, id: &Id, at: Timestamp) {
        if let Some(rule) = self.seen_rule().cloned() {
            self.follow(id, &rule, at);
        }
    }

    /// Tells a pooler whom to follow; a standby whose log has diverged is rewound first. One that has promised itself to a
    /// higher term is left alone: it would be rewound for nothing.
    pub(super) fn follow(&mut self, id: &Id, rule: &Rule, at: Timestamp) {
        let promised = self.poolers.get(id).and_then(|pooler| self.volume(pooler));
        if promised.is_some_and(|volume| volume.promised() > rule.number.term) {
            return;
        }
        let leader = self.data_of(&rule.leader).map(|data| data.wal.clone());
        let own = self.data_of(id).map(|data| data.wal.clone());
        let Some(pooler) = self.poolers.get_mut(id) else {
            return;
        };
        pooler.following = Some(Following {
            leader: rule.leader.clone(),
            rule: rule.clone(),
        });
        let standby = pooler.postgres == Postgres::Standby;
        if let (Some(own), Some(leader), true) = (own, leader, standby)
            && !own.is_prefix_of(&leader)
        {
            self.rewind(id, leader.head(), at);
        }
    }

    pub(super) fn demote(&mut self, id: &Id, at: Timestamp) {
        let takes = self.timing.postgres_start;
        if let Some(pooler) = self.poolers.get_mut(id) {
            pooler.postgres = Postgres::Busy(Work::Demoting, at, at + takes);
            pooler.record.serving = Serving::Draining;
            pooler.following = None;
            pooler.replica();
        }
    }

    /// The highest decided rule on any volume.
    pub fn rule(&self) -> Option<&Rule> {
        let decisions = self.volumes.values().filter_map(|volume| {
            let data = volume.data.as_ref()?;
            data.position.decision.as_ref()
        });
        decisions.max_by_key(|rule| rule.number)
    }

    /// The highest decided rule that the coordinators can see.
    pub(super) fn seen_rule(&self) -> Option<&Rule> {
        let reachable = self.poolers.values().filter(|pooler| pooler.reachable());
        let decisions = reachable.filter_map(|pooler| {
            let data = self.volume(pooler)?.data.as_ref()?;
            data.position.decision.as_ref()
        });
        decisions.max_by_key(|rule| rule.number)
    }

    /// The members that can be recruited now.
    pub(super) fn recruitable(&self, cohort: &[Id]) -> BTreeSet<Id> {
        let able = |id: &&Id| {
            self.poolers.get(id).is_some_and(|pooler| {
                let free = self
                    .volume(pooler)
                    .is_some_and(|volume| volume.data.is_some() && volume.blocked_until.is_none());
                free && pooler.reachable() && pooler.eligible && pooler.ready()
            })
        };
        cohort.iter().filter(able).cloned().collect()
    }
}
