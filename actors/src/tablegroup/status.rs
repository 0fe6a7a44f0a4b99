//! Status of a TableGroup (`lifecycle.md` 16.2).

use std::rc::Rc;

use serde_json::Map;

use super::decide::State;
use crate::entry::Entry;
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::status::{Computed, Condition, Phase, kstatus};
use crate::topology::{condition, current, phase};

/// Computes the status from the Shards that are wanted now and whose own status is current.
pub fn compute(plan: &Plan<'_, State>, wanted: &[Desired]) -> Computed {
    let shards: Vec<Option<&Rc<Entry>>> = wanted
        .iter()
        .map(|desired| plan.observed.get(&desired.key))
        .collect();
    let is = |entry: &Option<&Rc<Entry>>, wanted: &str| {
        entry.is_some_and(|entry| {
            let status = entry.status_value();
            current(&status, entry.generation) && phase(&status) == wanted
        })
    };
    let in_place: Vec<Option<&Rc<Entry>>> = wanted
        .iter()
        .map(|desired| plan.in_place(&desired.key))
        .collect();
    let ready = in_place.iter().filter(|entry| is(entry, "Healthy")).count();
    let degraded = in_place
        .iter()
        .find(|entry| is(entry, "Degraded"))
        .and_then(|entry| *entry);
    let available = shards.iter().all(|entry| {
        entry.is_some_and(|entry| {
            let status = entry.status_value();
            current(&status, entry.generation) && condition(&status, "Available")
        })
    });
    let held = plan.observed.controlled(Kind::Shard).any(|entry| {
        !wanted.is_empty() && !wanted.iter().any(|desired| desired.key == *entry.key())
    });
    let (phase, reason, message) = match (plan.obstacles.first(), degraded) {
        (Some(obstacle), _) => (Phase::Degraded, "ShardDegraded", obstacle.message.clone()),
        (None, Some(shard)) => {
            let status = shard.status_value();
            let why = status
                .get("message")
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default();
            (
                Phase::Degraded,
                "ShardDegraded",
                format!("Shard {} is degraded: {why}", shard.key().name),
            )
        }
        _ if wanted.is_empty() => (
            Phase::Initializing,
            "NoShards",
            "no shards are declared".to_owned(),
        ),
        _ if ready == wanted.len() => (
            Phase::Healthy,
            "ShardsReady",
            "all shards are ready".to_owned(),
        ),
        _ => (
            Phase::Progressing,
            "ShardsNotReady",
            "waiting for shards to become ready".to_owned(),
        ),
    };
    let mut conditions = kstatus(phase, &message, &plan.obstacles);
    conditions.push(Condition::new(
        "Available",
        available,
        if available && reason == "ShardsNotReady" {
            "ShardsAvailable"
        } else {
            reason
        },
        &*message,
    ));
    if held {
        let message = "the spec no longer names a shard; this version does not take pods or volumes from a living cluster";
        conditions.push(Condition::new(
            "RemovalHeld",
            true,
            "WouldRemovePods",
            message,
        ));
    }
    let mut fields = Map::new();
    fields.insert("readyShards".into(), ready.into());
    fields.insert("totalShards".into(), wanted.len().into());
    Computed {
        phase,
        message,
        conditions,
        news: Vec::new(),
        fields,
        ask_again: None,
        kept: &[],
    }
}
