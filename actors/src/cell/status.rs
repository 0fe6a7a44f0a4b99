//! Status of a Cell (`lifecycle.md` 16.3).

use serde_json::{Map, Value};

use super::decide::State;
use crate::health::{self, Replicas};
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::status::{Computed, Condition, Phase, kstatus};

/// One text for the whole way, so that a bring-up does not write a status per step.
const WAITING: &str = "waiting for gateways to become Ready; they start once the topology is Ready";

/// Computes the status from the gateway Deployment and its pods.
pub fn compute(plan: &Plan<'_, State>, wanted: &[Desired]) -> Computed {
    let of = |kind: Kind| wanted.iter().find(|desired| desired.key.kind == kind);
    let deployment = of(Kind::Deployment);
    let replicas = Replicas::of(deployment.and_then(|desired| plan.observed.get(&desired.key)));
    let in_place = deployment.is_some_and(|desired| plan.in_place(&desired.key).is_some());
    let cell = plan
        .observed
        .me
        .label("multigres.com/cell")
        .unwrap_or_default()
        .to_owned();
    let mine = [
        ("app.kubernetes.io/component", "multigateway"),
        ("multigres.com/cell", cell.as_str()),
    ];
    let found = health::of_pods(plan.observed.labelled(Kind::Pod, &mine), plan.now());
    let broken = found.broken;
    let (phase, message) = match plan.obstacles.first() {
        Some(obstacle) => (Phase::Degraded, obstacle.message.clone()),
        None => match health::phase(replicas, in_place, broken.as_deref()) {
            Phase::Healthy => (Phase::Healthy, "all gateways are Ready".to_owned()),
            Phase::Degraded => (Phase::Degraded, broken.unwrap_or_default()),
            other => (other, WAITING.to_owned()),
        },
    };
    let ready = phase == Phase::Healthy;
    let available = replicas.ready > 0 || (ready && replicas.wanted == 0);
    let mut conditions = kstatus(phase, &message, &plan.obstacles);
    conditions.remove(0);
    let reason = if ready {
        "MultigatewayReady"
    } else {
        "MultigatewayNotReady"
    };
    conditions.push(Condition::new("Ready", ready, reason, &*message));
    conditions.push(if available {
        Condition::new(
            "Available",
            true,
            "MultigatewayAvailable",
            "at least one gateway is Ready",
        )
    } else {
        Condition::new(
            "Available",
            false,
            "MultigatewayUnavailable",
            "no gateway is Ready",
        )
    });
    let mut fields = Map::new();
    fields.insert("gatewayReplicas".into(), replicas.total.into());
    fields.insert("gatewayReadyReplicas".into(), replicas.ready.into());
    if let Some(service) = of(Kind::Service) {
        fields.insert("gatewayServiceName".into(), Value::from(&*service.key.name));
    }
    Computed {
        phase,
        message,
        conditions,
        fields,
        ask_again: found.ask_again,
        kept: &[],
    }
}
