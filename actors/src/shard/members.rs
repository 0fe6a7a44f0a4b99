//! Who leads a shard, who serves, who is in the cohort: from the poolers' records and from what they say on their health
//! streams. The streams decide; a record is a pooler's word about itself, and a dead pooler's word stays.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::pooler_health::{Decision, Health, Postgres};
use super::quorum::Cohort;
use crate::topology::known::Records;
use crate::topology_store::identity;
use crate::topology_store::record::{Lifecycle, Pooler, ProcessId, Routing};

/// What a pooler said is believed for this long; multiorch does the same (`topology.md` 5.3).
pub const FRESH: SignedDuration = SignedDuration::from_secs(15);

/// What a pooler said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What was said.
    pub health: Rc<Health>,
    /// Believed until then, by our clock: [`FRESH`] after it was said. `None`: its stream is open, and would tell of a change.
    pub until: Option<Timestamp>,
}

/// A pool pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// Name.
    pub name: Box<str>,
    /// Cell, by its label.
    pub cell: Box<str>,
    /// The pooler in it, by its own word on its stream.
    pub says: Option<ProcessId>,
}

/// A pooler's role in `status.members` and `status.podRoles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Role {
    /// Leads, under the highest decided rule.
    Primary,
    /// Follows.
    Replica,
    /// Gave up.
    Quarantined,
    /// Set aside by an administrator.
    Drained,
}

impl Role {
    /// The word in a Shard's status.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Primary => "PRIMARY",
            Role::Replica => "REPLICA",
            Role::Quarantined => "QUARANTINED",
            Role::Drained => "DRAINED",
        }
    }

    /// The label of its pod: one that gave up is a replica to budgets and selectors.
    pub const fn label(self) -> &'static str {
        match self {
            Role::Quarantined => Role::Replica.word(),
            role => role.word(),
        }
    }

    /// The role of a word in a Shard's status.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Role::Primary,
            Role::Replica,
            Role::Quarantined,
            Role::Drained,
        ]
        .into_iter()
        .find(|role| role.word() == word)
    }
}

/// One pod of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The pod.
    pub pod: Box<str>,
    /// The pooler in it: by its record, else by its own word where a record may be out of sight.
    pub id: Option<ProcessId>,
    /// Its role; `None`: not known, or ended.
    pub role: Option<Role>,
    /// It serves, by record and by fresh health.
    pub serving: bool,
    /// Where it is in its life; `None`: not registered.
    pub lifecycle: Option<Lifecycle>,
    /// It is a member of the decided cohort.
    pub in_cohort: bool,
    /// No record of it is known, and the store of its cell is out of sight: there may be one.
    pub hidden: bool,
}

/// A lookup that may have three outcomes (`lessons.md` L-TOPO-03).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Found<T> {
    /// It is there.
    Known(T),
    /// Everybody was asked, and there is none.
    Nobody,
    /// Somebody did not answer: the silent cells.
    Unknown(Vec<Box<str>>),
}

/// What is known of a shard's members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Members {
    /// One per pod, sorted by pod.
    pub members: Vec<Member>,
    /// Roles by pod. Entries of cells that are silent are those known before.
    pub roles: BTreeMap<Box<str>, Role>,
    /// The leader's pod.
    pub leader: Found<Box<str>>,
    /// The highest decided rule, from fresh health.
    pub decision: Option<Decision>,
    /// A rule is proposed and not decided, or a term above the decided one was promised: a failover is under way.
    pub undecided: bool,
    /// The leader takes writes.
    pub writable: bool,
    /// E: members of the cohort other than the leader that are fresh, eligible, streaming and not blocked from recruitment.
    pub eligible: BTreeSet<ProcessId>,
    /// What is wrong with the records, sorted.
    pub findings: Vec<String>,
    /// When something heard is no longer fresh.
    pub stale_at: Option<Timestamp>,
}

impl Members {
    /// The cohort for the formulas of `design.md` 4; `None` without a decided rule under a policy we know.
    pub fn cohort(&self) -> Option<Cohort> {
        let decision = self.decision.as_ref()?;
        Some(Cohort {
            members: decision.cohort.clone(),
            leader: decision.leader.clone(),
            policy: decision.policy?,
        })
    }

    /// How many members more may be lost; `None`: not known.
    pub fn margin(&self) -> Option<i64> {
        Some(self.cohort()?.margin(&self.eligible))
    }
}

/// What a decision about members looks at.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The shard's namespace.
    pub namespace: &'a str,
    /// Its pods, terminating ones too.
    pub pods: &'a [Pod],
    /// What the topology says.
    pub records: &'a Records,
    /// What poolers said last.
    pub heard: &'a BTreeMap<ProcessId, Heard>,
    /// Roles known before (`status.podRoles`).
    pub before: &'a BTreeMap<Box<str>, Role>,
}

/// Works out who is who.
pub fn resolve(input: &Input<'_>, now: Timestamp) -> Members {
    let mut findings = BTreeSet::new();
    let fresh = fresh(input, now);
    let decision = highest(&fresh, &mut findings);
    let records: Vec<(&str, &Pooler)> = input
        .records
        .poolers
        .iter()
        .map(|(cell, pooler)| (cell.as_ref(), pooler))
        .collect();
    let silent = &input.records.silent;
    let leader_id = match &decision {
        Some(decision) => Some(decision.leader.clone()),
        None => by_record(&records, &mut findings),
    };
    let mut pods: Vec<&Pod> = input.pods.iter().collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    let mut members = Vec::new();
    let mut roles = BTreeMap::new();
    for pod in pods {
        let record = newest(&records, pod, input.namespace, &mut findings);
        let hidden = record.is_none() && silent.contains(&pod.cell);
        let known = input.before.get(&pod.name).copied();
        let who = (leader_id.as_ref(), decision.as_ref());
        let member = match record {
            Some(record) => registered_member(pod, record, who, &fresh),
            None if hidden => hidden_member(pod, known, who, &fresh),
            None => stranger(pod),
        };
        let role = member.role;
        roles.extend(role.map(|role| (pod.name.clone(), role)));
        members.push(member);
    }
    // A role that is only remembered names no leader.
    let leading = members.iter().find(|member| {
        member.role == Some(Role::Primary) && leader_id.is_some() && member.id == leader_id
    });
    let leader = match leading {
        Some(member) => Found::Known(member.pod.clone()),
        None if silent.is_empty() => Found::Nobody,
        None => Found::Unknown(silent.clone()),
    };
    let writable = leading.is_some_and(|member| {
        member.serving
            && member
                .id
                .as_ref()
                .is_some_and(|id| takes_writes(fresh.get(id)))
    });
    Members {
        writable,
        leader,
        undecided: undecided(&fresh, decision.as_ref()),
        eligible: eligible(&fresh, decision.as_ref()),
        members,
        roles,
        decision,
        findings: findings.into_iter().collect(),
        stale_at: fresh
            .keys()
            .filter_map(|id| input.heard.get(*id)?.until)
            .min(),
    }
}

/// What was heard lately from poolers of this shard.
fn fresh<'a>(input: &Input<'a>, now: Timestamp) -> BTreeMap<&'a ProcessId, &'a Health> {
    input
        .heard
        .iter()
        .filter(|(id, heard)| {
            heard.until.is_none_or(|until| until > now)
                // A pod that took over an address speaks for itself only.
                && heard.health.id.as_ref().is_none_or(|said| said == *id)
        })
        .map(|(id, heard)| (id, &*heard.health))
        .collect()
}

/// The highest decided rule that anybody fresh knows. Two that differ under one number are a contradiction: none is taken.
fn highest(
    fresh: &BTreeMap<&ProcessId, &Health>,
    findings: &mut BTreeSet<String>,
) -> Option<Decision> {
    let decisions = || fresh.values().filter_map(|health| health.decision.as_ref());
    let newest = decisions().max_by_key(|decision| decision.rule)?;
    if decisions().any(|other| other.rule == newest.rule && other != newest) {
        findings.insert(format!(
            "poolers disagree about rule {}/{}: nobody is taken for the leader",
            newest.rule.term, newest.rule.subterm
        ));
        return None;
    }
    Some(newest.clone())
}

/// The primary by records alone: the highest rule wins. Two that claim the same rule are a contradiction, and none is taken.
fn by_record(records: &[(&str, &Pooler)], findings: &mut BTreeSet<String>) -> Option<ProcessId> {
    let claims = || {
        records.iter().map(|(_, pooler)| pooler).filter(|pooler| {
            pooler.routing == Routing::Primary
                && !matches!(
                    pooler.lifecycle,
                    Lifecycle::Shutdown | Lifecycle::Quarantined
                )
        })
    };
    let best = claims().max_by_key(|pooler| pooler.rule)?;
    let others: Vec<_> = claims().filter(|pooler| pooler.id != best.id).collect();
    for other in &others {
        findings.insert(format!(
            "two records say PRIMARY: {} and {}",
            best.id.name.as_ref().min(&other.id.name),
            best.id.name.as_ref().max(&other.id.name),
        ));
    }
    let tied = others.iter().any(|other| other.rule == best.rule);
    (!tied).then(|| best.id.clone())
}

/// The record of a pod. Several of them (a pod that came back under another id) count as the one that changed last.
fn newest<'a>(
    records: &[(&str, &'a Pooler)],
    pod: &Pod,
    namespace: &str,
    findings: &mut BTreeSet<String>,
) -> Option<&'a Pooler> {
    let mut own: Vec<&Pooler> = records
        .iter()
        .filter(|(cell, pooler)| {
            **cell == *pod.cell && identity::is_of(pooler, &pod.name, namespace)
        })
        .map(|(_, pooler)| *pooler)
        .collect();
    own.sort_by_key(|pooler| (pooler.lifecycle != Lifecycle::Shutdown, pooler.updated));
    if own.len() > 1 {
        findings.insert(format!("pod {} has {} records", pod.name, own.len()));
    }
    own.last().copied()
}

/// A pod without a record.
fn stranger(pod: &Pod) -> Member {
    Member {
        pod: pod.name.clone(),
        id: None,
        role: None,
        serving: false,
        lifecycle: None,
        in_cohort: false,
        hidden: false,
    }
}

/// A pod whose record may be out of sight: what it says counts, and what only a record tells stays as it was known.
fn hidden_member(
    pod: &Pod,
    known: Option<Role>,
    (leader, decision): (Option<&ProcessId>, Option<&Decision>),
    fresh: &BTreeMap<&ProcessId, &Health>,
) -> Member {
    let id = pod.says.clone();
    let health = id.as_ref().and_then(|id| fresh.get(id).copied());
    let role = match (known, &id) {
        (Some(Role::Quarantined | Role::Drained), _) => known,
        (_, Some(id)) if leader == Some(id) => Some(Role::Primary),
        // It led, and what is heard names another one, or nobody.
        (Some(Role::Primary), _) if decision.is_some() || health.is_some() => Some(Role::Replica),
        (_, Some(_)) if health.is_some() && decision.is_some() => Some(Role::Replica),
        _ => known,
    };
    Member {
        serving: health.is_some_and(|health| serves(health, role)),
        in_cohort: id.as_ref().is_some_and(|id| counts(id, decision)),
        hidden: true,
        role,
        id,
        ..stranger(pod)
    }
}

fn registered_member(
    pod: &Pod,
    record: &Pooler,
    (leader, decision): (Option<&ProcessId>, Option<&Decision>),
    fresh: &BTreeMap<&ProcessId, &Health>,
) -> Member {
    let role = match record.lifecycle {
        Lifecycle::Shutdown => None,
        Lifecycle::Quarantined => Some(Role::Quarantined),
        _ if leader == Some(&record.id) => Some(Role::Primary),
        _ if record.drained => Some(Role::Drained),
        _ => Some(Role::Replica),
    };
    let health = fresh.get(&record.id);
    Member {
        id: Some(record.id.clone()),
        role,
        serving: record.lifecycle == Lifecycle::Active
            && record.serving
            && health.is_some_and(|health| serves(health, role)),
        lifecycle: Some(record.lifecycle),
        in_cohort: counts(&record.id, decision),
        ..stranger(pod)
    }
}

fn serves(health: &Health, role: Option<Role>) -> bool {
    health.ready && (role == Some(Role::Primary) || health.streaming)
}

fn counts(id: &ProcessId, decision: Option<&Decision>) -> bool {
    decision.is_some_and(|decision| decision.cohort.contains(id))
}

/// The id under which a pod is registered.
pub fn registered(records: &Records, pod: &Pod, namespace: &str) -> Option<ProcessId> {
    let all: Vec<(&str, &Pooler)> = records
        .poolers
        .iter()
        .map(|(cell, pooler)| (cell.as_ref(), pooler))
        .collect();
    newest(&all, pod, namespace, &mut BTreeSet::new()).map(|record| record.id.clone())
}

fn takes_writes(health: Option<&&Health>) -> bool {
    health.is_some_and(|health| {
        health.ready
            && health.postgres == Postgres::Primary
            && health.primary_ready
            && !health.resigning
            && health
                .decision
                .as_ref()
                .is_some_and(|decision| health.revoked_below <= decision.rule.term)
    })
}

fn undecided(fresh: &BTreeMap<&ProcessId, &Health>, decision: Option<&Decision>) -> bool {
    let term = decision.map_or(0, |decision| decision.rule.term);
    fresh
        .values()
        .any(|health| health.proposal.is_some() || health.revoked_below > term)
}

fn eligible(
    fresh: &BTreeMap<&ProcessId, &Health>,
    decision: Option<&Decision>,
) -> BTreeSet<ProcessId> {
    let Some(decision) = decision else {
        return BTreeSet::new();
    };
    fresh
        .iter()
        .filter(|(id, health)| {
            **id != &decision.leader
                && decision.cohort.contains(id)
                && health.eligible
                && health.streaming
                && health.ready
                && !health.recruit_blocked
        })
        .map(|(id, _)| (*id).clone())
        .collect()
}
