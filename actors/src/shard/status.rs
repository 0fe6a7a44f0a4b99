//! Status of a Shard (`lifecycle.md` 16.1, `design.md` 7). Healthy means that the wanted pods are Ready and that the data plane
//! has a serving primary with every wanted pooler in the cohort. An operator that does not talk to the data plane says of pods
//! that they are Ready, and no more.

use std::collections::BTreeSet;

use crds::Shard;
use serde_json::{Map, json};

use super::backup::{self, Known};
use super::data_plane::{self, Sight, Verdict};
use super::decide::State;
use super::postgres_config::Hashes;
use super::settings::{self, Settings};
use super::{backup_volume, quarantine, secrets};
use crate::action::WantReason;
use crate::entry::Entry;
use crate::health::{self, Replicas};
use crate::labels;
use crate::object::{Key, Kind};
use crate::plan::Plan;
use crate::pool;
use crate::status::{Computed, Condition, Obstacle, Phase, kstatus, text, volume_change_held};
use crate::storage_class;

/// Pods of all pools: wanted by the spec, and ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pools {
    wanted: usize,
    ready: usize,
}

/// One text for the whole way, so that a bring-up does not write a status per step.
pub const WAITING: &str =
    "waiting for pool pods, and for multiorch, which starts once the topology is Ready";

/// What the Shard wants but for its pods.
pub struct Wanted<'a> {
    /// Deployments of multiorch.
    pub multiorch: &'a [Key],
    /// What keeps them from being started or changed.
    pub waits: Option<&'a str>,
    /// What is known of the user's settings.
    pub settings: &'a Settings<'a>,
    /// The hashes of all settings, when they are known.
    pub hashes: &'a Hashes,
    /// What is in sight of the data plane.
    pub sight: &'a Sight,
    /// The pods that the spec asks for, without those that are set aside.
    pub pods: &'a [Key],
    /// What becomes of poolers that gave up.
    pub quarantine: &'a quarantine::Outcome,
    /// What is known of backups; `None`: the Shard makes none.
    pub backups: Option<&'a Known>,
}

/// Computes the status from our own observations; what pools report adds reasons, a missing report takes nothing away.
pub fn compute(plan: &Plan<'_, State>, shard: Option<&Shard>, wanted: &Wanted<'_>) -> Computed {
    let observed = plan.observed;
    let pools = count(plan, wanted);
    let orch = wanted.waits.is_none() && orch_ready(plan, wanted.multiorch);
    let found = health::of_pods(
        observed.controlled(Kind::Pod).chain(
            observed
                .labelled(Kind::Pod, &[("app.kubernetes.io/component", "multiorch")])
                .filter(|pod| {
                    [
                        "multigres.com/database",
                        "multigres.com/tablegroup",
                        "multigres.com/shard",
                    ]
                    .iter()
                    .all(|label| pod.label(label) == observed.me.label(label))
                }),
        ),
        plan.now(),
    );
    let broken = found.broken;
    let pools_ready = pools.wanted > 0 && pools.ready == pools.wanted;
    let obstacles = obstacles(plan);
    let (phase, message) = match (obstacles.first(), &broken) {
        (Some(obstacle), _) => (Phase::Degraded, obstacle.message.clone()),
        (None, Some(why)) => (Phase::Degraded, why.clone()),
        _ if pools_ready && orch => of_data_plane(plan, wanted),
        _ => {
            let waits = wanted.waits.unwrap_or(WAITING);
            (Phase::Progressing, waits.to_owned())
        }
    };
    let mut conditions = kstatus(phase, &message, &obstacles);
    conditions.push(available(plan, wanted, pools_ready));
    conditions.extend(wants(plan, shard));
    if observed.topology.is_some() {
        let told = observed.records().and_then(|told| told.reachable.clone());
        let before = || Condition::told_before(&observed.me, "TopologyReachable");
        conditions.extend(told.or_else(before));
    }
    let reports = plan.observed.wants.values();
    let volumes = reports.flat_map(|report| &report.volumes);
    conditions.extend(volume_change_held(
        plan.decision.volumes.iter().chain(volumes),
    ));
    let (expiry, expires) = shard
        .map(|shard| secrets::expiry(observed, shard, plan.now()))
        .unwrap_or_default();
    conditions.extend(expiry);
    conditions.extend(shard.and_then(backup_volume::unshareable));
    let classes = shard.map(volume_classes).unwrap_or_default();
    conditions.extend(storage_class::condition(observed, &classes));
    let mut fields = Map::new();
    fields.insert(
        "cells".into(),
        json!(shard.map(pool::cells).unwrap_or_default()),
    );
    fields.insert("orchReady".into(), orch.into());
    fields.insert("poolsReady".into(), pools_ready.into());
    fields.insert("readyReplicas".into(), pools.ready.into());
    if let Some(value) = settings::status(
        observed,
        wanted.settings,
        wanted.hashes,
        pools_ready,
        plan.now(),
    ) {
        fields.insert("postgresConfig".into(), value);
    }
    if let Sight::Clear(members) = wanted.sight {
        fields.extend(data_plane::fields(observed, members));
    }
    let mut news = backup::tell(
        &observed.me,
        wanted.backups,
        plan.now(),
        &mut fields,
        &mut conditions,
    );
    news.extend(wanted.quarantine.tell(&mut fields, &mut conditions));
    let kept = &[
        "disruption",
        "rollout",
        "members",
        "podRoles",
        "lastBackupTime",
        "lastBackupType",
        "postgresConfig",
    ];
    Computed {
        phase,
        message,
        conditions,
        news,
        fields,
        ask_again: found.ask_again.into_iter().chain(expires).min(),
        kept,
    }
}

fn count(plan: &Plan<'_, State>, wanted: &Wanted<'_>) -> Pools {
    let ready = wanted.pods.iter().filter(|key| {
        let entry = plan.observed.get(key);
        entry
            .is_some_and(|entry| !entry.deleting && entry.pod.as_ref().is_some_and(|pod| pod.ready))
    });
    Pools {
        wanted: wanted.pods.len(),
        ready: ready.count(),
    }
}

/// The phase once all pods are Ready.
fn of_data_plane(plan: &Plan<'_, State>, wanted: &Wanted<'_>) -> (Phase, String) {
    match wanted.sight {
        Sight::Off => (Phase::Healthy, "all wanted pods are Ready".to_owned()),
        Sight::Clear(members) => match data_plane::judge(members, wanted.pods) {
            Verdict {
                fine: true,
                message,
                ..
            } => (Phase::Healthy, message),
            Verdict {
                broken: true,
                message,
                ..
            } => {
                let promoting = plan.decision.state.promoting;
                let patient = promoting.is_some_and(|until| until > plan.now());
                let phase = if patient {
                    Phase::Progressing
                } else {
                    Phase::Degraded
                };
                (phase, message)
            }
            Verdict { message, .. } => (Phase::Progressing, message),
        },
        Sight::Pending => {
            let before = plan.observed.me.status_value();
            let phases = [Phase::Healthy, Phase::Degraded];
            let phase = phases
                .into_iter()
                .find(|phase| text(&before, "phase") == phase.name());
            (
                phase.unwrap_or(Phase::Progressing),
                text(&before, "message").to_owned(),
            )
        }
    }
}

/// `Available`: a primary serves (`design.md` 7); of pods alone, that they are Ready.
fn available(plan: &Plan<'_, State>, wanted: &Wanted<'_>, pools_ready: bool) -> Condition {
    let by_pods = || {
        let (reason, message) = match pools_ready {
            true => ("AllPodsReady", "all wanted pool pods are Ready"),
            false => ("NotAllPodsReady", "not all wanted pool pods are Ready"),
        };
        Condition::new("Available", pools_ready, reason, message)
    };
    match wanted.sight {
        Sight::Off => by_pods(),
        Sight::Clear(members) => data_plane::judge(members, wanted.pods).available,
        Sight::Pending => {
            Condition::told_before(&plan.observed.me, "Available").unwrap_or_else(by_pods)
        }
    }
}

/// The storage classes that volumes of a Shard name.
pub fn volume_classes(shard: &Shard) -> BTreeSet<String> {
    let pools = shard.spec.pools.values();
    let data = pools.filter_map(|pool| pool.storage.as_ref()?.class.clone());
    let backup = backup_volume::storage(shard).and_then(|storage| storage.class);
    data.chain(backup).collect()
}

/// The Shard's own, then those of its pools.
fn obstacles(plan: &Plan<'_, State>) -> Vec<Obstacle> {
    let of_pools = plan
        .observed
        .wants
        .iter()
        .flat_map(|((pool, cell), report)| {
            let stalled = report.stalled.as_ref().map(|reason| Obstacle {
                reason: "ActorStalled",
                message: format!("pool {pool} in cell {cell}: {reason}"),
            });
            stalled.into_iter().chain(report.obstacles.iter().cloned())
        });
    plan.obstacles.iter().cloned().chain(of_pools).collect()
}

fn orch_ready(plan: &Plan<'_, State>, multiorch: &[Key]) -> bool {
    !multiorch.is_empty()
        && multiorch.iter().all(|key| {
            let workload = plan.in_place(key);
            workload.is_some() && Replicas::of(workload).satisfied()
        })
}

/// Pods of pools and cells that the spec has dropped: no PoolActor speaks for them any more.
fn dropped<'a>(plan: &Plan<'a, State>, shard: Option<&Shard>) -> impl Iterator<Item = &'a str> {
    let specified = move |pod: &Entry| {
        let (Some(pool), Some(cell)) = (pod.label(labels::POOL), pod.label(labels::CELL)) else {
            return true;
        };
        shard.is_none_or(|shard| {
            let of = shard.spec.pools.get(pool);
            of.is_some_and(|of| of.cells.iter().any(|name| name == cell))
        })
    };
    plan.observed
        .controlled(Kind::Pod)
        .filter(move |pod| !pod.deleting && !specified(pod))
        .map(|pod| &*pod.key().name)
}

/// What was told of drift, while a pool has not told what it finds since this process started, or cannot tell.
fn told_before(plan: &Plan<'_, State>, shard: Option<&Shard>) -> Option<Condition> {
    let decided = |pool: &str, cell: &str| {
        let report = plan.observed.wants.get(&(pool.into(), cell.into()));
        report.is_some_and(|report| !report.undecided)
    };
    let pools = shard.into_iter().flat_map(|shard| &shard.spec.pools);
    let mut places = pools.flat_map(|(pool, of)| of.cells.iter().map(move |cell| (pool, cell)));
    if places.all(|(pool, cell)| decided(pool, cell)) {
        return None;
    }
    Condition::told_before(&plan.observed.me, "RollingUpdate")
}

/// What pools want but this version does not do.
fn wants(plan: &Plan<'_, State>, shard: Option<&Shard>) -> Vec<Condition> {
    let wanted = |reasons: &'static [WantReason]| {
        let reports = plan.observed.wants.values();
        reports
            .flat_map(|report| &report.wants)
            .filter(|want| reasons.contains(&want.reason))
            .map(|want| &*want.pod)
    };
    let named = |pods: BTreeSet<&str>| -> Option<String> {
        let pods: Vec<&str> = pods.into_iter().collect();
        (!pods.is_empty()).then(|| pods.join(", "))
    };
    let mut conditions = Vec::new();
    let drift = named(wanted(&[WantReason::Drift]).collect());
    conditions.push(match drift {
        None if let Some(before) = told_before(plan, shard) => before,
        Some(pods) => Condition::new(
            "RollingUpdate",
            true,
            "PodsDrifted",
            format!(
                "the spec asks for other pods than {pods}; this version does not replace pool pods"
            ),
        ),
        None => Condition::new(
            "RollingUpdate",
            false,
            "PodsUpToDate",
            "all pool pods match the spec",
        ),
    });
    let held = wanted(&[WantReason::ScaleDown, WantReason::Ended]);
    if let Some(pods) = named(held.chain(dropped(plan, shard)).collect()) {
        let message = format!("{pods} should go; this version does not take pool pods away");
        conditions.push(Condition::new(
            "RemovalHeld",
            true,
            "WouldRemovePods",
            message,
        ));
    }
    conditions
}
