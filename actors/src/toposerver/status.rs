//! Status of a TopoServer (`lifecycle.md` 16.4).

use serde_json::{Map, Value};

use super::decide::State;
use crate::health::{self, Replicas};
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::status::{Computed, Condition, Phase, kstatus};

/// Computes the status from the StatefulSet and its pods.
pub fn compute(plan: &Plan<'_, State>, wanted: &[Desired]) -> Computed {
    let workload = wanted
        .iter()
        .find(|desired| desired.key.kind == Kind::StatefulSet)
        .and_then(|desired| plan.in_place(&desired.key));
    let replicas = Replicas::of(workload);
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
        None => match health::phase(replicas, workload.is_some(), broken.as_deref()) {
            Phase::Healthy => (Phase::Healthy, "all members are Ready".to_owned()),
            Phase::Degraded => (Phase::Degraded, broken.unwrap_or_default()),
            other => (other, "waiting for members to become Ready".to_owned()),
        },
    };
    let mut conditions = kstatus(phase, &message, &plan.obstacles);
    conditions.retain(|condition| {
        *condition != Condition::new("Ready", phase == Phase::Healthy, phase.name(), &*message)
    });
    let reason = if phase == Phase::Healthy {
        "AllReplicasReady"
    } else {
        "NotAllReplicasReady"
    };
    conditions.push(Condition::new(
        "Ready",
        phase == Phase::Healthy,
        reason,
        &*message,
    ));
    let mut fields = Map::new();
    fields.insert("clientService".into(), Value::from(name.as_str()));
    fields.insert(
        "peerService".into(),
        Value::from(format!("{name}-headless")),
    );
    Computed {
        phase,
        message,
        conditions,
        fields,
        ask_again: found.ask_again,
        kept: &[],
    }
}
