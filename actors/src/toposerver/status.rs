//! Status of a TopoServer (`lifecycle.md` 16.4). It is never Initializing: that would be one more write on the way up.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::decide::State;
use super::objects::headless_name;
use crate::health::{self, Replicas};
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::status::{Computed, Condition, Phase, progress, volume_change_held};
use crate::storage_class;

/// Computes the status from the StatefulSet and its pods; `held` is what of its members cannot follow the spec,
/// `classes` what its volumes name.
pub fn compute(
    plan: &Plan<'_, State>,
    wanted: &[Desired],
    held: Option<&str>,
    classes: &BTreeSet<String>,
) -> Computed {
    let set = wanted
        .iter()
        .find(|desired| desired.key.kind == Kind::StatefulSet);
    let replicas = Replicas::of(set.and_then(|desired| plan.observed.get(&desired.key)));
    let in_place = set.is_some_and(|desired| plan.in_place(&desired.key).is_some());
    let name = plan.observed.me.key().name.to_string();
    let mine = [("app.kubernetes.io/component", "toposerver")];
    let pods = plan.observed.labelled(Kind::Pod, &mine).filter(|pod| {
        pod.label("multigres.com/toposerver")
            .is_none_or(|of| of == name)
    });
    let found = health::of_pods(pods, plan.now());
    let broken = found.broken;
    let (phase, message) = match plan.obstacles.first() {
        Some(obstacle) => (Phase::Degraded, obstacle.message.clone()),
        None => match health::phase(replicas, in_place, broken.as_deref()) {
            Phase::Healthy => (Phase::Healthy, "all members are Ready".to_owned()),
            Phase::Degraded => (Phase::Degraded, broken.unwrap_or_default()),
            other => (other, "waiting for members to become Ready".to_owned()),
        },
    };
    let ready = phase == Phase::Healthy;
    let reason = if ready {
        "AllReplicasReady"
    } else {
        "NotAllReplicasReady"
    };
    let mut conditions = vec![Condition::new("Ready", ready, reason, &*message)];
    conditions.extend(progress(phase, &message, &plan.obstacles));
    conditions
        .extend(held.map(|held| Condition::new("MemberChangeHeld", true, "MembersAreFixed", held)));
    conditions.extend(volume_change_held(plan.decision.volumes.iter()));
    conditions.extend(storage_class::condition(plan.observed, classes));
    let mut fields = Map::new();
    fields.insert("peerService".into(), Value::from(headless_name(&name)));
    fields.insert("clientService".into(), Value::from(name));
    Computed {
        phase,
        message,
        conditions,
        news: Vec::new(),
        fields,
        ask_again: found.ask_again,
        kept: &[],
    }
}
