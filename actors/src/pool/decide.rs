//! What a pool needs next: missing claims and pods at once and in parallel; what should go is only told.

use jiff::Timestamp;

use super::objects;
use crate::action::{Decision, Want, WantReason};
use crate::entry::Entry;
use crate::object::{Key, Kind};
use crate::plan::Plan;
use crate::room::{ActorId, Observed};

/// The decision of a PoolActor.
pub fn decide(id: &ActorId, observed: &Observed, now: Timestamp) -> Decision<()> {
    let mut plan = Plan::new(observed, (), now);
    let Some((pool, cell)) = &id.pool else {
        return plan.decision;
    };
    if observed.me.deleting {
        return plan.decision;
    }
    let Ok(shard) = observed.me.typed::<crds::Shard>() else {
        // The ShardActor says so on the Shard.
        return plan.decision;
    };
    let secret = &shard.spec.postgres_password_secret_ref;
    plan.decision.references.push(Key::new(
        Kind::Secret,
        &observed.me.key().namespace,
        &secret.name,
    ));
    let Some(of) = shard.spec.pools.get(pool.as_ref()) else {
        return plan.decision;
    };
    match objects::headless_service(&shard, pool, cell) {
        Ok(service) => {
            plan.keep(service);
        }
        Err(error) => plan.unbuildable(&error),
    }
    let may_start = crate::shard::decide::password_known(observed, &shard);
    if !may_start {
        plan.decision
            .inputs
            .push("pods wait for the password Secret".to_owned());
    }
    let count = super::replicas(of);
    for index in 0..count {
        member(&mut plan, &shard, (pool, cell), index, may_start);
    }
    surplus(&mut plan, &shard, (pool, cell), count);
    plan.decision
}

/// One index: its claim, then its pod. A name is never reused while its predecessor lives: a terminating pod is waited for.
fn member(
    plan: &mut Plan<'_, ()>,
    shard: &crds::Shard,
    (pool, cell): (&str, &str),
    index: i32,
    may_start: bool,
) {
    let (claim, pod) = match (
        objects::claim(shard, pool, cell, index),
        objects::pod(shard, pool, cell, index),
    ) {
        (Ok(claim), Ok(pod)) => (claim, pod),
        (Err(error), _) | (_, Err(error)) => return plan.unbuildable(&error),
    };
    plan.make(claim);
    let Some(entry) = plan.observed.get(&pod.key).cloned() else {
        if may_start {
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
    if !plan.make(pod.clone()) {
        return;
    }
    let wanted = pod
        .body
        .pointer("/metadata/annotations/multigres.com~1spec-hash")
        .and_then(serde_json::Value::as_str);
    if entry.annotation("multigres.com/spec-hash") != wanted {
        want(plan, &entry, WantReason::Drift);
    } else if entry
        .pod
        .as_ref()
        .is_some_and(|pod| matches!(&*pod.phase, "Failed" | "Succeeded"))
    {
        want(plan, &entry, WantReason::Ended);
    }
}

/// Pods of this pool × cell beyond the wanted count.
fn surplus(plan: &mut Plan<'_, ()>, shard: &crds::Shard, (pool, cell): (&str, &str), count: i32) {
    let labels = [("multigres.com/pool", pool), ("multigres.com/cell", cell)];
    let wanted: Vec<String> = (0..count)
        .map(|index| objects::pod_name(shard, pool, cell, index))
        .collect();
    let extra: Vec<_> = plan
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
        want(plan, &entry, WantReason::ScaleDown);
    }
}

fn want(plan: &mut Plan<'_, ()>, entry: &Entry, reason: WantReason) {
    plan.decision.wants.push(Want {
        pod: entry.key().name.clone(),
        reason,
    });
}
