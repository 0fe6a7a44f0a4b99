//! Status of a MultigresCluster (`lifecycle.md` 16.5): aggregated from children whose status is current.

use std::rc::Rc;

use crds::resolve::ResolvedCluster;
use crds::rollout::News;
use serde_json::{Map, Value, json};

use super::decide::State;
use super::{certificates, exposure};
use crate::action::Event;
use crate::entry::Entry;
use crate::health::{self, Replicas};
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::status::{Computed, Condition, Phase, kstatus};
use crate::topology::{condition, current, phase};

/// One text for the whole way: each child's own status says what it waits for.
pub const WAITING: &str = "waiting for topology, cells, table groups and admin workloads";

/// Computes the status from the children that are wanted now. `waits` is what multiadmin waits for.
pub fn compute(
    plan: &Plan<'_, State>,
    wanted: &[Desired],
    resolved: Option<&ResolvedCluster>,
    waits: Option<&str>,
) -> Computed {
    let children: Vec<Child<'_>> = wanted
        .iter()
        .filter(|desired| {
            matches!(
                desired.key.kind,
                Kind::TopoServer | Kind::Cell | Kind::TableGroup
            )
        })
        .map(|desired| Child {
            kind: desired.key.kind,
            seen: plan.observed.get(&desired.key),
            in_place: plan.in_place(&desired.key),
        })
        .collect();
    let admin: Vec<Replicas> = wanted
        .iter()
        .filter(|desired| desired.key.kind == Kind::Deployment)
        .map(|desired| Replicas::of(plan.in_place(&desired.key)))
        .collect();
    let found = health::of_pods(
        plan.observed
            .labelled(Kind::Pod, &[("app.kubernetes.io/component", "multiadmin")])
            .chain(plan.observed.labelled(
                Kind::Pod,
                &[("app.kubernetes.io/component", "multiadmin-web")],
            )),
        plan.now(),
    );
    let broken = found.broken;
    let (phase, message) = aggregate(plan, &children, &admin, broken, waits);
    let available = available(&children);
    let mut conditions = kstatus(phase, &message, &plan.obstacles);
    conditions.push(Condition::new(
        "Available",
        available,
        "AggregatedStatus",
        if available {
            "every cell and every shard is available"
        } else {
            "not every cell and shard is available yet"
        },
    ));
    if let Some(held) = held_back(plan, wanted) {
        conditions.push(Condition::new("RemovalHeld", true, "WouldRemovePods", held));
    }
    if plan.observed.served.contains(&Kind::Certificate) {
        conditions.extend(certificates::told(plan, wanted));
    }
    let mut fields = Map::new();
    let mut news = Vec::new();
    topology(plan, &mut conditions, &mut news);
    fields.insert("cells".into(), cells(plan, wanted));
    fields.insert("databases".into(), databases(plan, wanted));
    if let Some(resolved) = resolved {
        let rollout = &resolved.rollout;
        fields.insert("images".into(), rollout.status());
        fields.insert("resolvedTemplates".into(), json!(resolved.templates));
        conditions.push(Condition::new(
            "ImageRolloutPending",
            rollout.pending,
            rollout.reason,
            &rollout.message,
        ));
        let warning = rollout.warning.iter();
        news.extend(warning.map(|warning| ("ImageRolloutPending", event(warning))));
        exposure::tell(plan, wanted, resolved, &mut fields, &mut conditions);
    }
    let kept: &[_] = match resolved {
        Some(_) => &[],
        None => &["gateway", "adminWeb", "images", "resolvedTemplates"],
    };
    Computed {
        phase,
        message,
        conditions,
        news,
        fields,
        ask_again: found.ask_again,
        kept,
    }
}

/// What is told of the topology. Before it was looked at in this life, what was told last stays.
fn topology(
    plan: &Plan<'_, State>,
    conditions: &mut Vec<Condition>,
    news: &mut Vec<(&'static str, Event)>,
) {
    const REACHABLE: &str = "TopologyReachable";
    const HELD: &str = "TopologyRecordsHeld";
    let Some(known) = &plan.observed.topology else {
        return;
    };
    let before = |kind| Condition::told_before(&plan.observed.me, kind);
    if let Some(reachable) = known.reachable.clone().or_else(|| before(REACHABLE)) {
        if !reachable.holds() {
            let reason = if known.alarming {
                "TopoConnectFailed"
            } else {
                "TopologyWaiting"
            };
            let event = Event {
                reason: reason.to_owned(),
                message: reachable.message().to_owned(),
                warning: known.alarming,
            };
            news.push((REACHABLE, event));
        }
        conditions.push(reachable);
    }
    conditions.extend(match &known.held {
        None => before(HELD),
        Some(held) if held.is_empty() => None,
        Some(held) => Some(Condition::new(HELD, true, "LeftAlone", held.join("; "))),
    });
}

/// The event that tells of a decision about images.
pub fn event(news: &News) -> Event {
    Event {
        reason: news.reason.to_owned(),
        message: news.message.clone(),
        warning: news.warning,
    }
}

/// A wanted child.
struct Child<'a> {
    kind: Kind,
    /// As observed.
    seen: Option<&'a Rc<Entry>>,
    /// As observed, if this decision does not change it.
    in_place: Option<&'a Rc<Entry>>,
}

fn aggregate(
    plan: &Plan<'_, State>,
    children: &[Child<'_>],
    admin: &[Replicas],
    broken: Option<String>,
    waits: Option<&str>,
) -> (Phase, String) {
    if let Some(obstacle) = plan.obstacles.first() {
        return (Phase::Degraded, obstacle.message.clone());
    }
    let seen = |entry: &Entry| current(&entry.status_value(), entry.generation);
    let degraded = children.iter().find_map(|child| {
        let entry = child.in_place?;
        if !seen(entry) || phase(&entry.status_value()) != "Degraded" {
            return None;
        }
        let why = entry.status_value();
        let why = why
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Some(format!(
            "{} {} is degraded: {why}",
            child.kind.name(),
            entry.key().name
        ))
    });
    if let Some(message) = degraded.or(broken) {
        return (Phase::Degraded, message);
    }
    let healthy = children.iter().all(|child| {
        let entry = child.in_place;
        entry.is_some_and(|entry| seen(entry) && phase(&entry.status_value()) == "Healthy")
    });
    if let Some(what) = waits {
        return (Phase::Progressing, what.to_owned());
    }
    if children.is_empty() || !healthy || !admin.iter().all(Replicas::satisfied) {
        return (Phase::Progressing, WAITING.to_owned());
    }
    (Phase::Healthy, "all wanted pods are Ready".to_owned())
}

fn available(children: &[Child<'_>]) -> bool {
    let serving = |kind: Kind| {
        let mut some = false;
        let all = children
            .iter()
            .filter(|child| child.kind == kind)
            .all(|child| {
                some = true;
                child.seen.is_some_and(|entry| {
                    let status = entry.status_value();
                    current(&status, entry.generation) && condition(&status, "Available")
                })
            });
        some && all
    };
    serving(Kind::Cell) && serving(Kind::TableGroup)
}

/// One entry per wanted cell, there or not, so that the first status is complete.
fn cells(plan: &Plan<'_, State>, wanted: &[Desired]) -> Value {
    let mut cells = Map::new();
    for desired in wanted
        .iter()
        .filter(|desired| desired.key.kind == Kind::Cell)
    {
        let status = plan
            .observed
            .get(&desired.key)
            .map(|entry| (entry.status_value(), entry.generation));
        let (status, generation) = status.unwrap_or_default();
        let ready = current(&status, generation) && condition(&status, "Available");
        let replicas = status
            .get("gatewayReplicas")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        if let Some(name) = desired.body.pointer("/spec/name").and_then(Value::as_str) {
            cells.insert(
                name.to_owned(),
                json!({"ready": ready, "gatewayReplicas": replicas}),
            );
        }
    }
    Value::Object(cells)
}

fn databases(plan: &Plan<'_, State>, wanted: &[Desired]) -> Value {
    let mut sums: std::collections::BTreeMap<String, (i64, usize)> =
        std::collections::BTreeMap::new();
    for desired in wanted
        .iter()
        .filter(|desired| desired.key.kind == Kind::TableGroup)
    {
        let ready = plan.observed.get(&desired.key).map_or(0, |entry| {
            let status = entry.status_value();
            let known = current(&status, entry.generation);
            if known {
                status
                    .get("readyShards")
                    .and_then(Value::as_i64)
                    .unwrap_or_default()
            } else {
                0
            }
        });
        if let Some(name) = desired
            .body
            .pointer("/spec/databaseName")
            .and_then(Value::as_str)
        {
            let sum = sums.entry(name.to_owned()).or_default();
            sum.0 += ready;
            sum.1 += desired
                .body
                .pointer("/spec/shards")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
        }
    }
    sums.into_iter()
        .map(|(name, (ready, total))| (name, json!({"readyShards": ready, "totalShards": total})))
        .collect()
}

/// Children that the spec no longer names but that hold pods or volumes.
fn held_back(plan: &Plan<'_, State>, wanted: &[Desired]) -> Option<String> {
    let mut names: Vec<String> = [Kind::TopoServer, Kind::Cell, Kind::TableGroup]
        .into_iter()
        .flat_map(|kind| plan.observed.controlled(kind))
        .filter(|entry| {
            !wanted.is_empty() && !wanted.iter().any(|desired| desired.key == *entry.key())
        })
        .map(|entry| format!("{} {}", entry.key().kind.name(), entry.key().name))
        .collect();
    names.sort();
    (!names.is_empty()).then(|| {
        format!("the spec no longer names {}; this version does not take pods or volumes from a living cluster", names.join(", "))
    })
}
