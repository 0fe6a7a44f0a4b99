//! Claims of a Shard and its pools: made when missing, owned as the policy says, grown in place. What Kubernetes cannot do in
//! place (shrink, another class) and what needs the pod gone is told, not done.

use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::action::Action;
use crate::entry::Entry;
use crate::mend;
use crate::object::Desired;
use crate::plan::Plan;
use crate::quantity::thousandths;
use crate::status::{Obstacle, condition, is_true, text};
use crate::storage_class;

/// How long a filesystem may wait to be resized before we say that it waits for a restart: kubelets that can do it under a
/// running pod need a moment.
const RESIZES_ONLINE: SignedDuration = SignedDuration::from_secs(60);

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// It is there and ours: a pod may be made on it.
    Yes,
    /// It is not there yet, terminating, taken, about to be changed or being provisioned: no new pod yet.
    NotNow,
    /// As `Yes`, and the filesystem grows only when the pod is gone for a moment.
    AfterRestart,
}

/// Keeps a claim that is wanted.
pub fn keep<S>(plan: &mut Plan<'_, S>, desired: Desired) -> Usable {
    let key = desired.key.clone();
    let Some(claim) = plan.observed.get(&key).cloned() else {
        let class = desired.body.pointer("/spec/storageClassName");
        if storage_class::usable(plan, class.and_then(Value::as_str)) {
            // Its name may be taken: a pod made at the same time would run on a volume that nobody knows.
            plan.make(desired);
        }
        return Usable::NotNow;
    };
    if plan.is_foreign(&desired) || claim.deleting {
        return Usable::NotNow;
    }
    if !plan.mend(&desired) {
        return Usable::NotNow;
    }
    resize(plan, &claim, &desired);
    if storage_class::provisions(plan, &claim) {
        // A pod would be refused by the scheduler, again and again with growing pauses, until the claim is bound.
        let name = &claim.key().name;
        plan.decision
            .inputs
            .push(format!("claim {name} is being provisioned"));
        Usable::NotNow
    } else if waits_for_restart(plan, &claim) {
        Usable::AfterRestart
    } else {
        Usable::Yes
    }
}

/// A claim that the spec does not ask for: only its owner follows the policy. `reference` is ours, absent when it is to be
/// retained.
pub fn follow<S>(plan: &mut Plan<'_, S>, claim: &Rc<Entry>, reference: Option<Value>) {
    let me = &plan.observed.me.uid;
    let controlled_by_another = claim.owner.as_ref().is_some_and(|owner| owner != me);
    if controlled_by_another {
        return;
    }
    if let Some(patch) = mend::ownership(claim, reference, me) {
        let key = claim.key().clone();
        plan.decision.act(
            "its owner is not as the policy says",
            Action::metadata(key, patch),
        );
    }
}

/// Grows a claim to the desired size; what cannot be done is told in `decision.volumes`.
pub fn resize<S>(plan: &mut Plan<'_, S>, claim: &Entry, desired: &Desired) {
    let observed: Value = claim.spec.read().unwrap_or_default();
    let wanted = desired.body.get("spec").unwrap_or(&Value::Null);
    fixed(plan, claim, &observed, wanted);
    let size = |spec: &Value| {
        spec.pointer("/resources/requests/storage")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let (Some(wanted), Some(present)) = (size(wanted), size(&observed)) else {
        return;
    };
    let (Some(to), Some(from)) = (thousandths(&wanted), thousandths(&present)) else {
        return;
    };
    let name = &claim.key().name;
    if to < from {
        let message = format!(
            "claim {name} has {present} and cannot shrink to {wanted}: set storage.size to {present} or more"
        );
        return tell(plan, "ShrinkRefused", message);
    }
    if to == from {
        return;
    }
    let refusal = plan.observed.troubles.get(claim.key());
    if let Some(refusal) = refusal.filter(|trouble| matches!(trouble.code, 403 | 422)) {
        let message = format!(
            "claim {name} cannot grow from {present} to {wanted}: {}",
            refusal.message
        );
        tell(plan, "ExpansionRefused", message);
    }
    let action = Action::Expand {
        key: claim.key().clone(),
        uid: claim.uid.clone(),
        version: claim.version,
        size: wanted,
    };
    plan.decision.act("the spec asks for more storage", action);
}

/// Class and access modes of a claim never change.
fn fixed<S>(plan: &mut Plan<'_, S>, claim: &Entry, observed: &Value, wanted: &Value) {
    for field in ["storageClassName", "accessModes"] {
        let (Some(wanted), Some(present)) = (wanted.get(field), observed.get(field)) else {
            continue;
        };
        if wanted != present {
            let message = format!(
                "claim {} keeps its {field} {present}: {wanted} holds for new claims only",
                claim.key().name
            );
            tell(plan, "FieldIsFixed", message);
        }
    }
}

fn waits_for_restart<S>(plan: &mut Plan<'_, S>, claim: &Entry) -> bool {
    let status = claim.status_value();
    let since = condition(&status, "FileSystemResizePending")
        .filter(|pending| is_true(pending))
        .and_then(|pending| {
            text(pending, "lastTransitionTime")
                .parse::<Timestamp>()
                .ok()
        });
    let Some(due) = since.and_then(|since| since.checked_add(RESIZES_ONLINE).ok()) else {
        return false;
    };
    if due > plan.now() {
        plan.decision.wake_at(due);
        return false;
    }
    let message = format!(
        "the filesystem of claim {} grows when its pod is restarted; this version does not take pool pods away",
        claim.key().name
    );
    tell(plan, "RestartNeeded", message);
    true
}

fn tell<S>(plan: &mut Plan<'_, S>, reason: &'static str, message: String) {
    plan.decision.volumes.push(Obstacle { reason, message });
}

#[cfg(test)]
mod tests;
