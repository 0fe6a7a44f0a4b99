//! What the data plane says of a Shard, and what follows from it for the Shard's status (`design.md` 7): who leads under the
//! highest decided rule, who serves, who is in the cohort, and whether that is what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use super::members::{self, Found, Heard, Member, Members, Pod, Role};
use super::pooler_health::Health;
use super::quarantine;
use crate::action::Event;
use crate::effects::links::Poolers;
use crate::labels;
use crate::object::{Key, Kind};
use crate::room::Observed;
use crate::status::{Condition, Phase, condition, is_true, text};
use crate::topology::known::{Records, Testimony, shard_of};
use crate::topology_store::record::ProcessId;

/// What is in sight.
#[derive(Clone, Debug)]
pub enum Sight {
    /// This operator does not talk to the data plane: nothing is claimed of it.
    Off,
    /// This process has only just begun to listen: what was told before stays.
    Pending,
    /// Everybody who could be heard was heard.
    Clear(Box<Members>),
}

/// What the Shard wants of the data plane is there, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Nothing is missing.
    pub fine: bool,
    /// By positive evidence something is wrong with a shard that has worked.
    pub broken: bool,
    /// `Available`.
    pub available: Condition,
    /// What is missing.
    pub message: String,
}

/// What introspection shows beyond the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Who leads.
    pub leader: Option<Found<Box<str>>>,
    /// The decided rule, its term and step.
    pub rule: Option<(i64, i64)>,
    /// A failover is under way.
    pub undecided: bool,
    /// The leader takes writes.
    pub writable: bool,
    /// How many members more may be lost; `None`: not known.
    pub margin: Option<i64>,
    /// What is wrong with the records.
    pub findings: Vec<String>,
}

/// Looks. `me` of the snapshot is the Shard.
pub fn look(observed: &Observed, now: Timestamp) -> Sight {
    let Some(poolers) = &observed.poolers else {
        return Sight::Off;
    };
    let before = observed.me.status_value();
    if pending(poolers, &before) {
        return Sight::Pending;
    }
    let records = observed.records().cloned();
    let known = records.is_some();
    let mut records = records.map_or_else(Records::default, |records| (*records).clone());
    let pods: Vec<Pod> = observed
        .controlled(Kind::Pod)
        .filter_map(|pod| {
            let name: Box<str> = (&*pod.key().name).into();
            let seen = poolers.pods.get(&name);
            Some(Pod {
                cell: pod.label(labels::CELL)?.into(),
                says: seen
                    .and_then(|seen| seen.said.as_ref())
                    .and_then(|(health, _)| health.id.clone()),
                name,
            })
        })
        .collect();
    if !known {
        let cells: BTreeSet<Box<str>> = pods.iter().map(|pod| pod.cell.clone()).collect();
        records.silent = cells.into_iter().collect();
    }
    let heard = heard(poolers, &pods, &records, &observed.me.key().namespace);
    let input = members::Input {
        namespace: &observed.me.key().namespace,
        pods: &pods,
        records: &records,
        heard: &heard,
        before: &roles_before(&before),
    };
    Sight::Clear(Box::new(members::resolve(&input, now)))
}

/// A pod that had a role when this process began has not been heard yet, nor has it failed to answer. Bounded by the time
/// that a connection and a stream may take to open.
fn pending(poolers: &Poolers, before: &Value) -> bool {
    let members = before.get("members").and_then(Value::as_array);
    members.into_iter().flatten().any(|member| {
        let seen = poolers.pods.get(text(member, "pod"));
        !text(member, "role").is_empty() && seen.is_some_and(|seen| seen.pending)
    })
}

/// What was said, by who said it. A pooler that does not name itself is named by its record.
fn heard(
    poolers: &Poolers,
    pods: &[Pod],
    records: &Records,
    namespace: &str,
) -> BTreeMap<ProcessId, Heard> {
    let mut heard: BTreeMap<ProcessId, Heard> = BTreeMap::new();
    for pod in pods {
        let seen = poolers.pods.get(&pod.name);
        let Some((health, until)) = seen.and_then(|seen| seen.said.clone()) else {
            continue;
        };
        let id = health
            .id
            .clone()
            .or_else(|| members::registered(records, pod, namespace));
        let Some(id) = id else { continue };
        // Two pods under one name: whose stream is open speaks.
        if until.is_some() && heard.contains_key(&id) {
            continue;
        }
        heard.insert(id, Heard { health, until });
    }
    heard
}

/// Roles as the status has them.
pub fn roles_before(status: &Value) -> BTreeMap<Box<str>, Role> {
    let roles = status.get("podRoles").and_then(Value::as_object);
    roles
        .into_iter()
        .flatten()
        .filter_map(|(pod, role)| Some((pod.as_str().into(), Role::parse(role.as_str()?)?)))
        .collect()
}

/// Judges what is in sight against the pods that the spec asks for. Pods that an administrator set aside are nobody's fault.
pub fn judge(members: &Members, wanted: &[Key]) -> Verdict {
    let named: BTreeSet<&str> = wanted.iter().map(|key| &*key.name).collect();
    let of_wanted = || {
        let all = members.members.iter();
        all.filter(|member| named.contains(&*member.pod) && member.role != Some(Role::Drained))
    };
    let (available, broken) = available(members);
    let reason = available.reason().to_owned();
    let message = available.message().to_owned();
    let all_there = of_wanted().all(|member| member.serving && member.in_cohort);
    if !available.holds() || reason != SERVES {
        return Verdict {
            fine: false,
            broken,
            available,
            message: format!("{reason}: {message}"),
        };
    }
    let message = if all_there {
        "a primary serves, and every wanted pooler serves and is in the cohort".to_owned()
    } else if of_wanted().any(|member| !member.serving) {
        "PoolerNotServing: a primary serves, but not every wanted pooler does; see status.members"
            .to_owned()
    } else {
        "PoolerNotInCohort: not every wanted pooler is in the cohort yet; see status.members"
            .to_owned()
    };
    Verdict {
        fine: all_there,
        broken: false,
        available,
        message,
    }
}

/// How long a primary may take to serve before that is a fault, where it has not served yet: promotion takes a moment
/// (`design.md` 4, evidence).
pub const PROMOTION: SignedDuration = SignedDuration::from_secs(30);

/// Until when a fault may be a promotion under way; `None`: none is seen, or it is one by what was told before, namely that the
/// shard was broken already, or that this very primary served. `until` is what came out of it before.
pub fn promoting(
    me: &Value,
    members: &Members,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let (_, broken) = available(members);
    let was_broken = text(me, "phase") == Phase::Degraded.name();
    let led = |leader: &str| roles_before(me).get(leader) == Some(&Role::Primary);
    let served = condition(me, "Available").is_some_and(is_true)
        && matches!(&members.leader, Found::Known(leader) if led(leader));
    if !broken || was_broken || served {
        return None;
    }
    until.or_else(|| now.checked_add(PROMOTION).ok())
}

/// Reason of `Available` while nothing is to be said against it.
const SERVES: &str = "PrimaryServing";

/// `Available`: a primary serves. And whether it does not by positive evidence, in a shard that has worked.
fn available(members: &Members) -> (Condition, bool) {
    let condition =
        |holds, reason, message: String| Condition::new("Available", holds, reason, message);
    let leader = match &members.leader {
        Found::Known(leader) => leader,
        Found::Nobody | Found::Unknown(_) => {
            // One text until the first election is over, so that a bring-up does not write a status per step. A topology out of
            // sight has a condition of its own.
            let message = match &members.decision {
                None => "no pooler that answers knows of a leader".to_owned(),
                Some(_) if members.undecided => {
                    "no pooler leads: a failover is under way".to_owned()
                }
                Some(decision) => format!(
                    "pooler {} leads under rule {}/{}, and no pod here is that pooler",
                    decision.leader.name, decision.rule.term, decision.rule.subterm
                ),
            };
            let broken = members.decision.is_some() && !members.undecided;
            return (condition(false, "NoPrimary", message), broken);
        }
    };
    if !members.writable {
        let (message, broken) = match (members.undecided, &members.decision) {
            (true, _) => (
                format!("pod {leader} led, and a failover is under way"),
                false,
            ),
            (_, Some(_)) => (format!("pod {leader} leads and does not take writes"), true),
            (_, None) => (
                format!("pod {leader} says that it leads, and nobody confirms it"),
                false,
            ),
        };
        return (condition(false, "PoolerNotServing", message), broken);
    }
    if members.margin().is_none_or(|margin| margin < 0) {
        let message = "a primary serves, but too few members of the cohort are fresh, eligible and streaming: commits may wait, and there may be no failover";
        return (condition(true, "QuorumAtRisk", message.to_owned()), false);
    }
    let message = format!("pod {leader} leads and takes writes");
    (condition(true, SERVES, message), false)
}

/// The fields of the status. What the topology would tell of a pod that has no record in sight stays as it was told, as long as
/// its cell's store may hold one.
pub fn fields(observed: &Observed, members: &Members) -> Map<String, Value> {
    let before = observed.me.status_value();
    let list = before.get("members").and_then(Value::as_array);
    let old = |pod: &str| {
        let mut list = list.into_iter().flatten();
        list.find(|member| text(member, "pod") == pod)
    };
    let entry = |member: &Member| {
        let mut entry = Map::new();
        entry.insert("pod".into(), (*member.pod).into());
        if let Some(role) = members.roles.get(&member.pod) {
            entry.insert("role".into(), role.word().into());
        }
        entry.insert("serving".into(), member.serving.into());
        entry.insert("inCohort".into(), member.in_cohort.into());
        let lifecycle = match member.lifecycle {
            Some(lifecycle) => Some(lifecycle.word().to_owned()),
            None if member.hidden => old(&member.pod)
                .map(|old| text(old, "lifecycle").to_owned())
                .filter(|word| !word.is_empty()),
            None => None,
        };
        if let Some(lifecycle) = lifecycle {
            entry.insert("lifecycle".into(), lifecycle.into());
        }
        Value::Object(entry)
    };
    let roles: Map<String, Value> = members
        .roles
        .iter()
        .map(|(pod, role)| (pod.to_string(), role.word().into()))
        .collect();
    // Pods that nobody has heard of yet are told with the first word of one of them.
    let silent = list.is_none() && members.roles.is_empty();
    let told = || members.members.iter().map(entry).collect();
    // The API server makes a null of a map whose last entry an apply takes away, and refuses it then: the map goes with it.
    let roles = if roles.is_empty() {
        Value::Null
    } else {
        Value::Object(roles)
    };
    Map::from_iter([
        (
            "members".to_owned(),
            if silent { Value::Null } else { told() },
        ),
        ("podRoles".to_owned(), roles),
    ])
}

/// An administrator set a pod aside, or took it back.
pub fn events(observed: &Observed, members: &Members) -> Vec<Event> {
    let before = roles_before(&observed.me.status_value());
    let drained = |role: Option<&Role>| role == Some(&Role::Drained);
    let told = members.roles.iter().filter_map(|(pod, role)| {
        match (drained(before.get(pod)), drained(Some(role))) {
            (false, true) => Some(Event {
                reason: "PodDrained".to_owned(),
                message: format!("pod {pod} is set aside and kept; another one stands in for it"),
                warning: true,
            }),
            (true, false) => Some(Event {
                reason: "PodRecovered".to_owned(),
                message: format!("pod {pod} is no longer set aside"),
                warning: false,
            }),
            _ => None,
        }
    });
    told.collect()
}

/// How many replicas must stay, for their budget: all but one while the margin allows one to be missing, nobody is being taken
/// away, and the pods' labels say what is so: the budget counts by label. `None`: all.
pub fn spare(observed: &Observed, members: &Members, wanted: &[Key]) -> Option<i32> {
    let busy = quarantine::disruption(&observed.me.status_value()).is_some();
    if members.margin()? < 1 || busy || !judge(members, wanted).fine {
        return None;
    }
    let mut replicas = 0_i32;
    for pod in observed.controlled(Kind::Pod) {
        let role = members.roles.get(&*pod.key().name)?;
        if pod.deleting || pod.label(labels::ROLE) != Some(role.label()) {
            return None;
        }
        let counted = wanted.iter().any(|key| key == pod.key());
        if counted && !matches!(role, Role::Primary | Role::Drained) {
            replicas += 1;
        }
    }
    Some((replicas - 1).max(0))
}

/// What a TopologyActor must know before it takes a record for that of a dead pooler.
pub fn testimony(observed: &Observed, sight: &Sight) -> Option<Testimony> {
    let Sight::Clear(members) = sight else {
        return None;
    };
    let open = observed.poolers.as_ref()?.pods.values();
    let open = open.filter_map(|seen| {
        let (health, until) = seen.said.as_ref()?;
        until.is_none().then_some(health)
    });
    let healths: Vec<&Rc<Health>> = open.collect();
    let proposed = healths.iter().filter_map(|health| health.proposal.clone());
    let cohort = members.decision.as_ref().map(|decision| {
        let mut cohort = decision.cohort.clone();
        cohort.extend(proposed.flatten());
        cohort
    });
    Some(Testimony {
        shard: Some(shard_of(&observed.me)?),
        answering: healths
            .iter()
            .filter_map(|health| health.id.clone())
            .collect(),
        cohort,
    })
}

/// For introspection.
pub fn summary(members: &Members) -> Summary {
    Summary {
        leader: Some(members.leader.clone()),
        rule: members
            .decision
            .as_ref()
            .map(|decision| (decision.rule.term, decision.rule.subterm)),
        undecided: members.undecided,
        writable: members.writable,
        margin: members.margin(),
        findings: members.findings.clone(),
    }
}
