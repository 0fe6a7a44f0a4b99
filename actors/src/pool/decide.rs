//! What a pool needs next: missing claims at once and in parallel, and pods on those that are there; what should go is only told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crds::Shard;
use jiff::Timestamp;

use super::objects::{self, Inputs};
use super::spec_hash;
use crate::action::{Action, Decision, Want, WantReason};
use crate::entry::Entry;
use crate::labels;
use crate::object::{Desired, Key, Kind};
use crate::plan::Plan;
use crate::room::{ActorId, Observed};
use crate::secrets::{Supply, supply};
use crate::shard::backup_volume;
use crate::shard::data_plane;
use crate::shard::identity::Identity;
use crate::shard::members::Role;
use crate::shard::objects::config;
use crate::shard::quarantine::{self, Order, Permit};
use crate::shard::secrets;
use crate::shard::settings::{self, Settings};
use crate::volume::{self, Usable};
use crate::workload::RenderError;

/// The decision of a PoolActor. What stands in its way is shown on the Shard, by the ShardActor.
pub fn decide(id: &ActorId, observed: &Observed, now: Timestamp) -> Decision<()> {
    let mut plan = Plan::new(observed, (), now);
    let Some((pool, cell)) = &id.pool else {
        return plan.decision;
    };
    if observed.me.deleting {
        return plan.decision;
    }
    let Ok(shard) = observed.me.typed::<Shard>() else {
        // The ShardActor says so on the Shard.
        return plan.decision;
    };
    if shard.spec.pools.contains_key(pool.as_ref()) {
        secrets::refer(&mut plan.decision, observed, &shard);
        settings::refer(&mut plan.decision, observed, &shard);
        if let Err(error) = keep(&mut plan, &shard, (pool, cell)) {
            plan.unbuildable(&error);
        }
        plan.refusals();
    }
    plan.decision.obstacles = plan.obstacles;
    plan.decision
}

fn keep(
    plan: &mut Plan<'_, ()>,
    shard: &Shard,
    (pool, cell): (&str, &str),
) -> Result<(), RenderError> {
    plan.keep(objects::headless_service(shard, pool, cell)?);
    let supply = supply(plan, &objects::secrets(shard, pool, cell)?);
    let complete = matches!(supply, Supply::Complete(_));
    let mounts = [
        (
            complete && secrets::known(plan.observed, shard),
            "Secrets they mount",
        ),
        (
            backup_volume::usable(plan, shard)?,
            "volume they back up to",
        ),
    ];
    let may_start = mounts.iter().all(|(there, _)| *there);
    for (_, what) in mounts.iter().filter(|(there, _)| !there) {
        plan.decision
            .inputs
            .push(format!("pods wait for the {what}"));
    }
    let roles = data_plane::roles_before(&plan.observed.me.status_value());
    let set_aside = super::set_aside(plan.observed, &roles);
    let roles = to_label(plan.observed, roles);
    let indices = super::indices(shard, (pool, cell), &set_aside);
    let hashes = match settings::find(plan.observed, shard) {
        Settings::Known(text) => Some(config(shard, &Identity::new(shard)?, text).hashes),
        Settings::Unknown | Settings::Refused(_) => None,
    };
    // Without what is hashed there is no telling what a pod should be: those that run go on.
    let inputs = match (&hashes, &supply) {
        (Some(hashes), Supply::Complete(certificates)) => Some(Inputs {
            hashes,
            certificates,
        }),
        _ => None,
    };
    plan.decision.undecided = inputs.is_none();
    let orders = quarantine::orders(&plan.observed.me.status_value());
    for &(index, aside) in &indices {
        let name = objects::pod_name(shard, pool, cell, index);
        let mut attempt = None;
        if let Some((order, permit)) = orders.get(name.as_str()) {
            match order {
                Order::Make(number) => attempt = Some(number.to_string()),
                order => {
                    obey(
                        plan,
                        *order,
                        permit,
                        &objects::claim(shard, pool, cell, index)?,
                    );
                    continue;
                }
            }
        }
        let volume = volume::keep(plan, objects::claim(shard, pool, cell, index)?);
        if let Some(inputs) = inputs {
            let mut pod = objects::pod_with(shard, (pool, cell), index, inputs)?;
            if let Some(attempt) = &attempt {
                pod.body
                    .annotate("/metadata", labels::QUARANTINE_ATTEMPT, attempt);
            }
            let role = roles.get(&*pod.key.name).map(|role| role.label());
            if aside {
                plan.mend_pod(&pod, role, false);
            } else {
                member(plan, volume, (pod, inputs), role, may_start);
            }
        }
    }
    let kept: Vec<i32> = indices.iter().map(|(index, _)| *index).collect();
    surplus_claims(plan, shard, (pool, cell), &kept)?;
    surplus(plan, shard, (pool, cell), &kept, &set_aside, &roles);
    Ok(())
}

/// Roles that pods are labelled with. A first label waits until the shard has a primary: before, every pooler is a replica, and
/// budgets and Services have nothing to choose from.
fn to_label(observed: &Observed, mut roles: BTreeMap<Box<str>, Role>) -> BTreeMap<Box<str>, Role> {
    if !roles.values().any(|role| *role == Role::Primary) {
        let labelled: BTreeSet<&str> = observed
            .controlled(Kind::Pod)
            .filter(|pod| pod.label(labels::ROLE).is_some())
            .map(|pod| &*pod.key().name)
            .collect();
        roles.retain(|pod, role| *role == Role::Drained || labelled.contains(&**pod));
    }
    roles
}

/// One index, whose claim is kept. A name is never reused while its predecessor lives: a terminating pod is waited for.
fn member(
    plan: &mut Plan<'_, ()>,
    volume: Usable,
    (pod, inputs): (Desired, Inputs<'_>),
    role: Option<&str>,
    may_start: bool,
) {
    let Some(entry) = plan.observed.get(&pod.key).cloned() else {
        if may_start && volume == Usable::Yes {
            plan.make(pod);
        }
        return;
    };
    if entry.deleting {
        plan.decision.inputs.push(format!(
            "{} is terminating: its name is free when it is gone",
            entry.key().name
        ));
        return;
    }
    if plan.is_foreign(&pod) {
        return;
    }
    let standing = standing(&entry, &pod, inputs);
    plan.mend_pod(&pod, role, standing == Standing::Adoptable);
    let ended = entry.pod.as_ref().is_some_and(|pod| pod.ended());
    if standing == Standing::Drifted {
        want(plan, &entry, WantReason::Drift);
    } else if ended {
        want(plan, &entry, WantReason::Ended);
    } else if volume == Usable::AfterRestart {
        want(plan, &entry, WantReason::Resize);
    }
}

/// Takes away what a pooler that gave up leaves, as far as the Shard's status permits it. Until it is all gone, nothing is made
/// under its name.
fn obey(plan: &mut Plan<'_, ()>, order: Order, permit: &Permit, claim: &Desired) {
    let namespace = &plan.observed.me.key().namespace;
    let (key, reason) = match order {
        Order::DeletePod => (
            Key::new(Kind::Pod, namespace, &permit.pod),
            "its pooler gave up",
        ),
        Order::DeleteClaim => (claim.key.clone(), "its pooler gave up, and left the cohort"),
        Order::Wait | Order::Make(_) => return,
    };
    let Some(entry) = plan.observed.get(&key).cloned() else {
        return;
    };
    let another = order == Order::DeletePod && entry.uid != permit.uid;
    if another || entry.deleting || !entry.belongs_to(&plan.observed.me) {
        return;
    }
    let action = Action::Delete {
        key,
        uid: entry.uid.clone(),
        version: entry.version,
    };
    plan.decision.act(reason, action);
}

/// What a pod is to the one we want.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The same.
    Current,
    /// Another one.
    Drifted,
    /// The same in all that we own, but made by the Go operator or with another version of the hash.
    Adoptable,
}

fn standing(entry: &Entry, pod: &Desired, inputs: Inputs<'_>) -> Standing {
    let wanted = pod.body.annotation(labels::SPEC_HASH);
    if entry.annotation(labels::SPEC_HASH) == wanted.as_deref() {
        return Standing::Current;
    }
    let common = entry.pod.as_ref().and_then(|pod| pod.common);
    let spec = pod.body.get("spec");
    let wanted = spec.and_then(|spec| spec_hash::common(spec).ok());
    let agrees = common.is_some() && common == wanted;
    let config = entry.annotation(labels::CONFIG_HASH);
    let settings = [&inputs.hashes.restart, &inputs.hashes.restart_go];
    // The Go operator does not say which certificates a pod has read.
    let certificates = entry.annotation(labels::TLS_HASH);
    let agrees = agrees && certificates.is_none_or(|hash| hash == inputs.certificates);
    if agrees && settings.iter().any(|hash| config == Some(hash.as_str())) {
        Standing::Adoptable
    } else {
        Standing::Drifted
    }
}

/// Claims of this pool × cell beyond the wanted count stay, and follow the policy.
fn surplus_claims(
    plan: &mut Plan<'_, ()>,
    shard: &Shard,
    (pool, cell): (&str, &str),
    kept: &[i32],
) -> Result<(), RenderError> {
    let identity = Identity::new(shard)?;
    let delete = shard
        .spec
        .pools
        .get(pool)
        .is_some_and(|of| objects::deleted_with_shard(shard, of));
    let reference = delete
        .then(|| serde_json::to_value(identity.owner.reference()))
        .transpose()?;
    let wanted: Vec<String> = kept
        .iter()
        .map(|&index| objects::claim_name(shard, pool, cell, index))
        .collect();
    let mine = identity.pool_labels(pool, cell);
    let mine = labels::selector(&mine);
    let mine: Vec<(&str, &str)> = mine.into_iter().collect();
    let claims: Vec<Rc<Entry>> = plan
        .observed
        .labelled(Kind::PersistentVolumeClaim, &mine)
        .filter(|claim| !wanted.iter().any(|name| **name == *claim.key().name))
        .cloned()
        .collect();
    for claim in claims {
        volume::follow(plan, &claim, reference.clone());
    }
    Ok(())
}

/// Pods of this pool × cell beyond the wanted count, but for those that are set aside.
fn surplus(
    plan: &mut Plan<'_, ()>,
    shard: &Shard,
    (pool, cell): (&str, &str),
    kept: &[i32],
    set_aside: &BTreeSet<Box<str>>,
    roles: &BTreeMap<Box<str>, Role>,
) {
    let labels = [(labels::POOL, pool), (labels::CELL, cell)];
    let wanted: Vec<String> = kept
        .iter()
        .map(|&index| objects::pod_name(shard, pool, cell, index))
        .collect();
    let extra: Vec<Rc<Entry>> = plan
        .observed
        .controlled(Kind::Pod)
        .filter(|entry| {
            labels
                .iter()
                .all(|(name, value)| entry.label(name) == Some(value))
        })
        .filter(|entry| !entry.deleting && !wanted.iter().any(|name| **name == *entry.key().name))
        .cloned()
        .collect();
    for entry in extra {
        if let Some(role) = roles.get(&*entry.key().name) {
            plan.name_role(&entry, role.label());
        }
        if set_aside.contains(&*entry.key().name) {
            continue;
        }
        want(plan, &entry, WantReason::ScaleDown);
    }
}

fn want(plan: &mut Plan<'_, ()>, entry: &Entry, reason: WantReason) {
    plan.decision.wants.push(Want {
        pod: entry.key().name.clone(),
        reason,
    });
}
