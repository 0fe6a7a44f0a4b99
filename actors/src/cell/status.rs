//! Status of a Cell (`lifecycle.md` 16.3).
//!
//! Differences: a Cell is never Initializing, which would be one more write on the way up, and no gateways at all, if that is
//! what the spec asks for, are Healthy (`api.md` trap T15). Once gateways run, a store that loses a member does not make
//! them unavailable: they go on serving from what they know.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::decide::{State, Waits};
use crate::entry::Entry;
use crate::health::{self, Replicas};
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::status::{Computed, Condition, Phase, progress};
use crate::topology::{current, phase};

/// One text for the whole way, so that a bring-up does not write a status per step.
const WAITING: &str = "waiting for gateways to become Ready; they start once the topology is Ready";

/// Computes the status from the gateway Deployment, its pods and the cell's own topology store.
pub fn compute(plan: &Plan<'_, State>, wanted: &[Desired], waits: Option<&Waits>) -> Computed {
    let of = |kind: Kind| wanted.iter().find(|desired| desired.key.kind == kind);
    let deployment = of(Kind::Deployment);
    let replicas = Replicas::of(deployment.and_then(|desired| plan.observed.get(&desired.key)));
    let in_place =
        waits.is_none() && deployment.is_some_and(|desired| plan.in_place(&desired.key).is_some());
    let cell = plan
        .observed
        .me
        .label("multigres.com/cell")
        .unwrap_or_default();
    let mine = [
        ("app.kubernetes.io/component", "multigateway"),
        ("multigres.com/cell", cell),
    ];
    let found = health::of_pods(plan.observed.labelled(Kind::Pod, &mine), plan.now());
    let store = of(Kind::TopoServer).map(|desired| plan.in_place(&desired.key));
    let (phase, message) = match plan.obstacles.first() {
        Some(obstacle) => (Phase::Degraded, obstacle.message.clone()),
        None => match health::phase(replicas, in_place, found.broken.as_deref()) {
            Phase::Degraded => (Phase::Degraded, found.broken.unwrap_or_default()),
            gateways => with_store(gateways, store, waits),
        },
    };
    let mut conditions = Vec::from(verdicts(phase, &message, replicas, waits));
    conditions.extend(progress(phase, &message, &plan.obstacles));
    conditions.extend(held(plan, wanted));
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
        news: Vec::new(),
        fields,
        ask_again: found.ask_again,
        kept: &[],
    }
}

/// The phase of the gateways together with that of the cell's own store.
fn with_store(
    gateways: Phase,
    store: Option<Option<&Rc<Entry>>>,
    waits: Option<&Waits>,
) -> (Phase, String) {
    let state = store.map(|entry| {
        let entry = entry.filter(|entry| current(&entry.status_value(), entry.generation));
        entry.map(|entry| (entry, entry.status_value()))
    });
    if let Some(Some((entry, status))) = &state
        && phase(status) == "Degraded"
    {
        let why = status
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let text = format!("TopoServer {} is degraded: {why}", entry.key().name);
        return (Phase::Degraded, text);
    }
    let healthy = state.is_none_or(|state| state.is_some_and(|(_, s)| phase(&s) == "Healthy"));
    match (gateways, waits) {
        (Phase::Healthy, _) if healthy => (Phase::Healthy, "all gateways are Ready".to_owned()),
        (_, Some(Waits::Secret(what))) => (Phase::Progressing, what.clone()),
        _ => (Phase::Progressing, WAITING.to_owned()),
    }
}

/// `Ready`: everything asked for is in place. `Available`: somebody is served now (L-STAT-04).
fn verdicts(
    phase: Phase,
    message: &str,
    replicas: Replicas,
    waits: Option<&Waits>,
) -> [Condition; 2] {
    let ready = phase == Phase::Healthy;
    let available = replicas.ready > 0 || (ready && replicas.wanted == 0);
    let no_store = waits == Some(&Waits::LocalTopology);
    let reason = match (ready, no_store) {
        (true, _) => "MultigatewayReady",
        (false, true) => "LocalTopoServerNotReady",
        (false, false) => "MultigatewayNotReady",
    };
    let (serving, text) = match (available, no_store) {
        (true, _) => ("MultigatewayAvailable", "at least one gateway is Ready"),
        (false, true) => (
            "LocalTopoServerNotReady",
            "gateways start once the cell's own topology store is Ready",
        ),
        (false, false) => ("MultigatewayUnavailable", "no gateway is Ready"),
    };
    [
        Condition::new("Ready", ready, reason, message),
        Condition::new("Available", available, serving, text),
    ]
}

/// A store that the spec no longer names but that holds volumes.
fn held(plan: &Plan<'_, State>, wanted: &[Desired]) -> Option<Condition> {
    let surplus = plan
        .observed
        .controlled(Kind::TopoServer)
        .find(|entry| !wanted.iter().any(|desired| desired.key == *entry.key()))?;
    let message = format!(
        "the spec no longer names a topology store; this version does not take TopoServer {} from a living cluster",
        surplus.key().name,
    );
    (!wanted.is_empty()).then(|| Condition::new("RemovalHeld", true, "WouldRemovePods", message))
}
