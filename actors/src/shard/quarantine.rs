//! Replacing a pooler that gave up (`topology.md` 5.9, `lifecycle.md` 8.2): its PostgreSQL cannot be started, rewound or
//! restored, and only a fresh volume helps. One at a time per shard, in steps that the Shard's status holds
//! (`status.disruption`) before anybody acts on them:
//!
//! ```text
//! deleting ──pod gone──► leaving ──record SHUTDOWN, out of the cohort──► wiping ──claim gone──► replacing ──joined──► (over)
//!                           └──never within its bound──► (over: pod and volume stay what they are)
//! ```
//! The PoolActor deletes and makes the objects; here it is only decided how far it may go. Unknown is never a reason to go on.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::backup::Restorable;
use super::data_plane::Sight;
use super::members::{Member, Members, Role};
use crate::action::Event;
use crate::entry::Entry;
use crate::labels;
use crate::object::{Key, Kind};
use crate::pool::objects::claim_of;
use crate::room::Observed;
use crate::status::{Condition, text};
use crate::topology::known::Records;
use crate::topology_store::identity;
use crate::topology_store::record::Lifecycle;

/// Reason of a disruption that is a replacement.
pub const REASON: &str = "Quarantined";
/// The condition that tells of it.
const CONDITION: &str = "PoolerQuarantined";
/// A younger pod may be taken for its predecessor, whose record it has not replaced yet.
const OLD_ENOUGH: SignedDuration = SignedDuration::from_mins(3);
/// How long a pooler may take to leave the cohort.
const LEAVING: SignedDuration = SignedDuration::from_mins(10);
/// Replacements of one pod in a row: a pooler that gives up again has another fault than its volume.
pub const ATTEMPTS: u32 = 3;

/// How far a replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Step {
    /// The pod goes.
    Deleting,
    /// The pod is gone; its record must say so, and the cohort must be without it.
    Leaving,
    /// Its claim goes.
    Wiping,
    /// Claim and pod are made anew.
    Replacing,
}

impl Step {
    const ALL: [Step; 4] = [Step::Deleting, Step::Leaving, Step::Wiping, Step::Replacing];

    /// The word in the status.
    pub const fn word(self) -> &'static str {
        match self {
            Step::Deleting => "deleting",
            Step::Leaving => "leaving",
            Step::Wiping => "wiping",
            Step::Replacing => "replacing",
        }
    }
}

/// The disruption of a Shard that its status permits, of whatever reason.
pub fn disruption(status: &Value) -> Option<&Value> {
    status.get("disruption").filter(|permit| !permit.is_null())
}

/// A replacement under way, as the Shard's status has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permit {
    /// The pod.
    pub pod: Box<str>,
    /// UID of the pod that goes.
    pub uid: Box<str>,
    /// Which replacement of this pod in a row it is, from 1.
    pub attempt: u32,
    /// How far it is.
    pub step: Step,
    /// Since when.
    pub since: Timestamp,
}

impl Permit {
    /// The permit in a status; `None` when there is none, or one for another reason.
    pub fn read(status: &Value) -> Option<Self> {
        let permit = disruption(status)?;
        let state = text(permit, "state");
        if text(permit, "reason") != REASON {
            return None;
        }
        Some(Self {
            pod: text(permit, "pod").into(),
            uid: text(permit, "podUID").into(),
            attempt: text(permit, "id").rsplit('-').next()?.parse().ok()?,
            step: Step::ALL.into_iter().find(|step| step.word() == state)?,
            since: text(permit, "since").parse().ok()?,
        })
    }

    fn write(&self) -> Value {
        json!({
            "pod": self.pod, "podUID": self.uid, "reason": REASON, "state": self.step.word(),
            "id": format!("quarantine-{}", self.attempt),
            "since": self.since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })
    }

    fn step(self, step: Step, now: Timestamp) -> Self {
        Self {
            step,
            since: now,
            ..self
        }
    }
}

/// What is decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// `status.disruption`: another value than before; null ends it. `None`: as it is.
    pub disruption: Option<Value>,
    /// Tells of poolers that gave up; `None`: there are none.
    pub condition: Option<Condition>,
    /// Sent when the condition changes.
    pub event: Option<Event>,
    /// When to decide again though nothing is heard.
    pub wake: Option<Timestamp>,
}

impl Outcome {
    fn told(mut self, reason: &'static str, message: String, event: &'static str) -> Self {
        self.event = (!event.is_empty()).then(|| Event {
            reason: event.to_owned(),
            message: message.clone(),
            warning: true,
        });
        self.condition = Some(Condition::new(CONDITION, true, reason, message));
        self
    }

    /// Writes it into a status. Returns the event of a change.
    pub fn tell(
        &self,
        fields: &mut Map<String, Value>,
        conditions: &mut Vec<Condition>,
    ) -> Option<(&'static str, Event)> {
        if let Some(disruption) = &self.disruption {
            fields.insert("disruption".into(), disruption.clone());
        }
        conditions.extend(self.condition.clone());
        Some((CONDITION, self.event.clone()?))
    }
}

/// A pooler gave up, and nothing is done about it yet.
pub fn is_due(observed: &Observed, members: &Members) -> bool {
    let given_up = members
        .roles
        .values()
        .any(|role| *role == Role::Quarantined);
    given_up && disruption(&observed.me.status_value()).is_none()
}

/// Decides. `wanted` are the pods that the spec asks for.
pub fn decide(
    observed: &Observed,
    sight: &Sight,
    restorable: Restorable,
    wanted: &[Key],
    now: Timestamp,
) -> Outcome {
    let status = observed.me.status_value();
    let Sight::Clear(members) = sight else {
        return Outcome {
            condition: Condition::told_before(&observed.me, CONDITION),
            ..Outcome::default()
        };
    };
    let shard = Shard {
        observed,
        members,
        records: observed.records().map(AsRef::as_ref),
        wanted,
        now,
    };
    match Permit::read(&status) {
        Some(permit) => shard.go_on(permit),
        // Another disruption is under way, or one that this version does not know.
        None if disruption(&status).is_some() => Outcome {
            condition: Condition::told_before(&observed.me, CONDITION),
            ..Outcome::default()
        },
        None => shard.begin(restorable),
    }
}

struct Shard<'a> {
    observed: &'a Observed,
    members: &'a Members,
    records: Option<&'a Records>,
    wanted: &'a [Key],
    now: Timestamp,
}

impl Shard<'_> {
    fn pod(&self, name: &str) -> Option<&Entry> {
        let key = Key::new(Kind::Pod, &self.observed.me.key().namespace, name);
        self.observed.get(&key).map(AsRef::as_ref)
    }

    fn member(&self, pod: &str) -> Option<&Member> {
        self.members
            .members
            .iter()
            .find(|member| *member.pod == *pod)
    }

    /// Chooses the first pooler that gave up and may go.
    fn begin(&self, restorable: Restorable) -> Outcome {
        let given_up = || {
            let members = self.members.members.iter();
            members.filter(|member| member.role == Some(Role::Quarantined))
        };
        let Some(first) = given_up().next() else {
            return Outcome::default();
        };
        let outcome = Outcome::default();
        match restorable {
            Restorable::Yes => {}
            Restorable::Asking => {
                return Outcome {
                    condition: Condition::told_before(&self.observed.me, CONDITION),
                    ..outcome
                };
            }
            Restorable::No(why) => {
                let message = format!(
                    "pod {} gave up, and {why} to restore a fresh volume from: it stays",
                    first.pod
                );
                return outcome.told("NoBackup", message, "QuarantineRemediationBlocked");
            }
        }
        if let Err(why) = self.rest_is_well() {
            let message = format!("pod {} gave up, and stays until {why}", first.pod);
            return outcome.told("PeersNotWell", message, "QuarantineRemediationDeferred");
        }
        let mut told = None;
        let mut wake: Option<Timestamp> = None;
        for member in given_up() {
            match self.may_go(member) {
                Ok(permit) => {
                    let why = self.reason(&member.pod);
                    let message = format!(
                        "pod {} gave up ({why}): it is replaced, on a fresh volume",
                        member.pod
                    );
                    let mut outcome = outcome.told("Replacing", message, "QuarantineRemediation");
                    outcome.disruption = Some(permit.write());
                    return outcome;
                }
                Err(Not {
                    reason,
                    message,
                    until,
                }) => {
                    wake = [wake, until].into_iter().flatten().min();
                    told.get_or_insert((reason, message));
                }
            }
        }
        let (reason, message) = told.unwrap_or_default();
        Outcome { wake, ..outcome }.told(reason, message, "")
    }

    /// Everybody else must be well: the writes that this volume may hold are on the leader's, and on those of its followers.
    fn rest_is_well(&self) -> Result<(), &'static str> {
        let records = self.records.ok_or("the topology is in sight")?;
        let named = |member: &&Member| self.wanted.iter().any(|key| *key.name == *member.pod);
        let mut others = self.members.members.iter().filter(named);
        let aside = |role: Option<Role>| matches!(role, Some(Role::Quarantined | Role::Drained));
        match () {
            () if !records.silent.is_empty() => Err("the whole topology is in sight"),
            () if records.backup_runs != Some(false) => Err("no backup runs"),
            () if self.members.undecided => Err("no failover is under way"),
            () if !self.members.writable => Err("a primary serves"),
            () if !others
                .all(|member| aside(member.role) || (member.serving && member.in_cohort)) =>
            {
                Err("every other pooler serves and is in the cohort")
            }
            () => Ok(()),
        }
    }

    fn may_go(&self, member: &Member) -> Result<Permit, Not> {
        let not = |reason, message: String| Not {
            reason,
            message,
            until: None,
        };
        let name = &member.pod;
        let entry = self.pod(name).filter(|entry| !entry.deleting);
        let Some(entry) = entry else {
            return Err(not(
                "Leaving",
                format!("pod {name} gave up, and is on its way out already"),
            ));
        };
        let created = entry.created;
        let old_enough = created.and_then(|at| at.checked_add(OLD_ENOUGH).ok());
        if old_enough.is_none_or(|at| at > self.now) {
            return Err(Not {
                until: old_enough,
                ..not(
                    "Young",
                    format!(
                        "pod {name} is said to have given up, and is too young to be sure that it is meant"
                    ),
                )
            });
        }
        let record = self.record(name);
        let updated = record.and_then(|record| record.updated);
        if updated.is_none_or(|at| created.is_none_or(|created| at < created)) {
            return Err(not(
                "OldRecord",
                format!("the record of pod {name} is older than the pod"),
            ));
        }
        let leads = self
            .members
            .decision
            .as_ref()
            .map(|decision| &decision.leader);
        if leads == member.id.as_ref() {
            return Err(not(
                "Leads",
                format!("pod {name} gave up, and leads: it is never wiped"),
            ));
        }
        let poolers = self.observed.poolers.as_ref();
        let said = poolers.and_then(|poolers| poolers.pods.get(name)?.said.as_ref());
        let agrees = said
            .is_some_and(|(health, until)| until.is_none() && !health.eligible && !health.ready);
        if !agrees {
            let message = format!(
                "the record of pod {name} says that it gave up, and its pooler does not confirm it"
            );
            return Err(not("NotConfirmed", message));
        }
        let before = entry.annotation(labels::QUARANTINE_ATTEMPT);
        let attempt = before.and_then(|text| text.parse().ok()).unwrap_or(0_u32) + 1;
        if attempt > ATTEMPTS {
            let message = format!(
                "pod {name} gave up again after {ATTEMPTS} fresh volumes: somebody has to look"
            );
            return Err(not("AttemptsSpent", message));
        }
        Ok(Permit {
            pod: name.clone(),
            uid: entry.uid.clone(),
            attempt,
            step: Step::Deleting,
            since: self.now,
        })
    }

    fn go_on(&self, permit: Permit) -> Outcome {
        let pod = self.pod(&permit.pod);
        let gone = pod.is_none_or(|pod| pod.uid != permit.uid);
        let name = permit.pod.clone();
        let outcome = Outcome {
            condition: Condition::told_before(&self.observed.me, CONDITION),
            ..Outcome::default()
        };
        let next = |permit: Permit, step| Outcome {
            disruption: Some(permit.step(step, self.now).write()),
            ..outcome.clone()
        };
        match permit.step {
            Step::Deleting if gone => next(permit, Step::Leaving),
            Step::Leaving if self.has_left(&name) => next(permit, Step::Wiping),
            Step::Leaving => {
                let bound = permit.since.checked_add(LEAVING).unwrap_or(self.now);
                if bound > self.now {
                    return Outcome {
                        wake: Some(bound),
                        ..outcome
                    };
                }
                let message =
                    format!("pod {name} is gone, and the cohort still counts it: its volume stays");
                let mut outcome = outcome.told(
                    "CohortExitPending",
                    message,
                    "QuarantineRemediationDeferred",
                );
                outcome.disruption = Some(Value::Null);
                outcome
            }
            Step::Wiping if self.claim_is_gone(&name) => next(permit, Step::Replacing),
            Step::Replacing if self.has_joined(&name) => Outcome {
                disruption: Some(Value::Null),
                ..Outcome::default()
            },
            Step::Deleting | Step::Wiping | Step::Replacing => outcome,
        }
    }

    /// Its record says so, or is gone, in a store that is in sight; and neither the decided rule nor a proposal counts it. A
    /// cohort at its floor cannot let anybody go: there, the living leader of a decided rule is enough (`design.md` 4).
    fn has_left(&self, pod: &str) -> bool {
        let (Some(records), Some(decision)) = (self.records, &self.members.decision) else {
            return false;
        };
        let record = self.record(pod);
        let dead = record.is_none_or(|record| record.lifecycle == Lifecycle::Shutdown);
        if !records.silent.is_empty() || !dead || self.members.undecided {
            return false;
        }
        let id = crds::name::service_id(pod);
        let counted = decision
            .cohort
            .iter()
            .any(|member| *member.name == *id || record.is_some_and(|record| record.id == *member));
        let policy = decision.policy.map(super::quorum::Policy::required);
        let at_floor = policy.is_some_and(|required| decision.cohort.len() <= required);
        !counted || (at_floor && self.members.writable)
    }

    fn claim_is_gone(&self, pod: &str) -> bool {
        let namespace = &self.observed.me.key().namespace;
        let claim = Key::new(Kind::PersistentVolumeClaim, namespace, &claim_of(pod));
        self.observed.get(&claim).is_none()
    }

    fn has_joined(&self, pod: &str) -> bool {
        let ready = self
            .pod(pod)
            .and_then(|entry| entry.pod.as_ref())
            .is_some_and(|pod| pod.ready);
        let member = self.member(pod);
        ready && member.is_some_and(|member| member.serving && member.in_cohort)
    }

    fn record(&self, pod: &str) -> Option<&crate::topology_store::record::Pooler> {
        let namespace = &self.observed.me.key().namespace;
        let mut own: Vec<_> = self
            .records?
            .poolers
            .iter()
            .map(|(_, record)| record)
            .filter(|record| identity::is_of(record, pod, namespace))
            .collect();
        own.sort_by_key(|record| (record.lifecycle != Lifecycle::Shutdown, record.updated));
        own.last().copied()
    }

    /// Its own word for why it gave up, without what could not be shown in one line.
    fn reason(&self, pod: &str) -> String {
        let reason = self
            .record(pod)
            .map(|record| &*record.reason)
            .unwrap_or_default();
        let line: String = reason
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(200)
            .collect();
        if line.trim().is_empty() {
            "unspecified".to_owned()
        } else {
            line
        }
    }
}

/// Why a pooler is not replaced now.
struct Not {
    reason: &'static str,
    message: String,
    until: Option<Timestamp>,
}

/// What a PoolActor may do about a pod of its own that is being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Delete the pod of this permit.
    DeletePod,
    /// Make nothing under its name.
    Wait,
    /// Delete its claim.
    DeleteClaim,
    /// Make it anew, and note the attempt.
    Make(u32),
}

/// The orders in a Shard's status, by pod.
pub fn orders(status: &Value) -> BTreeMap<Box<str>, (Order, Permit)> {
    let permit = Permit::read(status);
    let order = |permit: Permit| {
        let order = match permit.step {
            Step::Deleting => Order::DeletePod,
            Step::Leaving => Order::Wait,
            Step::Wiping => Order::DeleteClaim,
            Step::Replacing => Order::Make(permit.attempt),
        };
        (permit.pod.clone(), (order, permit))
    };
    permit.map(order).into_iter().collect()
}
