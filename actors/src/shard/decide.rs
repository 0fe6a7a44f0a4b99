//! What a Shard needs next.

use std::collections::BTreeSet;
use std::rc::Rc;

use crds::Shard;
use jiff::Timestamp;
use serde::Serialize;

use super::backup::Restorable;
use super::certificates::{self, Place};
use super::data_plane::{self, Sight};
use super::identity::Identity;
use super::members::{Members, Role};
use super::objects::{self, Inputs, ShardObjects};
use super::postgres_config::Hashes;
use super::settings::{self, Settings};
use super::{backup, backup_volume, multiorch, quarantine, secrets, status};
use crate::action::{Action, Decision};
use crate::effects::dataplane::Call;
use crate::entry::Entry;
use crate::labels;
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::pool;
use crate::room::Observed;
use crate::secrets::{Needed, Supply, stamp, supply};
use crate::status::{Remembers, Trail};
use crate::storage_class;
use crate::topology;
use crate::volume;
use crate::workload::{self, RenderError};

/// What a ShardActor remembers between decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Since when a mere count waits.
    pub trail: Trail,
    /// Of questions about backups.
    pub backup: backup::Memory,
    /// Until when a primary may take to serve that has not served yet.
    pub promoting: Option<Timestamp>,
    /// What was in sight of the data plane, for introspection.
    pub sight: Option<data_plane::Summary>,
}

impl Remembers for State {
    fn trail(&mut self) -> &mut Trail {
        &mut self.trail
    }
}

/// Finalizer of the Go operator; see `cluster::decide`.
const GO_FINALIZER: &str = "multigres.com/shard-pvc-orphan";

/// The decision of a ShardActor.
pub fn decide(observed: &Observed, state: &State, now: Timestamp) -> Decision<State> {
    let mut plan = Plan::new(observed, state.clone(), now);
    if observed.me.deleting {
        plan.release(GO_FINALIZER);
        return plan.decision;
    }
    let shard = match observed.me.typed::<Shard>() {
        Ok(shard) => Some(shard),
        Err(error) => {
            plan.unbuildable(&error);
            None
        }
    };
    let mut orchestrators = Vec::new();
    let mut waits = None;
    let mut hashes = Hashes::default();
    let mut settings = Settings::Unknown;
    let sight = data_plane::look(observed, now);
    let roles = match &sight {
        Sight::Clear(members) => members.roles.clone(),
        Sight::Off | Sight::Pending => data_plane::roles_before(&observed.me.status_value()),
    };
    let set_aside = pool::set_aside(observed, &roles);
    let pods = shard
        .as_ref()
        .map(|shard| pool::wanted_pods(shard, &set_aside))
        .unwrap_or_default();
    if let Some(shard) = &shard {
        secrets::refer(&mut plan.decision, observed, shard);
        plan.obstacles.extend(secrets::obstacles(observed, shard));
        settings::refer(&mut plan.decision, observed, shard);
        storage_class::refer(&mut plan.decision, &status::volume_classes(shard));
        let found = settings::find(observed, shard);
        let inputs = Inputs {
            referenced: match &found {
                Settings::Known(text) => *text,
                Settings::Unknown => None,
                Settings::Refused(obstacle) => {
                    plan.obstacles.push(obstacle.clone());
                    None
                }
            },
            replicas_min_available: match &sight {
                Sight::Clear(members) => data_plane::spare(observed, members, &pods),
                Sight::Off | Sight::Pending => None,
            },
        };
        match objects::render_with(shard, inputs) {
            Err(error) => plan.unbuildable(&error),
            Ok(objects) => {
                hashes = objects.config.hashes.clone();
                orchestrators = objects
                    .multiorch
                    .iter()
                    .map(|desired| desired.key.clone())
                    .collect();
                match keep(&mut plan, shard, objects, (&found, &sight)) {
                    Ok(what) => waits = what,
                    Err(error) => plan.unbuildable(&error),
                }
            }
        }
        settings = found;
        // Certificates expire whatever else is wrong with the Shard.
        if let Err(error) = certify(&mut plan, shard).and_then(|()| leftovers(&mut plan, shard)) {
            plan.unbuildable(&error);
        }
    }
    let asked = shard.as_ref().and_then(|shard| {
        shard.spec.backup.as_ref()?;
        Some(ask_for_backups(&mut plan, &sight))
    });
    let (backups, restorable) = asked.unzip();
    let restorable = restorable.unwrap_or(Restorable::No("the shard makes no backups"));
    if let Sight::Clear(members) = &sight {
        let told = observed.me.status_value();
        let until = data_plane::promoting(&told, members, state.promoting, now);
        plan.decision.state.promoting = until;
        // Once it is over, nothing changes by itself any more.
        plan.decision.wake_at(until.filter(|until| *until > now));
        plan.decision.wake_at(members.stale_at);
        plan.decision.state.sight = Some(data_plane::summary(members));
    }
    plan.decision.testimony = data_plane::testimony(observed, &sight);
    let quarantine = quarantine::decide(observed, &sight, restorable, &pods, now);
    plan.decision.wake_at(quarantine.wake);
    plan.refusals();
    let wanted = status::Wanted {
        quarantine: &quarantine,
        sight: &sight,
        pods: &pods,
        backups: backups.as_ref(),
        multiorch: &orchestrators,
        waits: waits.as_deref(),
        settings: &settings,
        hashes: &hashes,
    };
    let computed = status::compute(&plan, shard.as_ref(), &wanted);
    let events = match &sight {
        Sight::Clear(members) => data_plane::events(observed, members),
        Sight::Off | Sight::Pending => Vec::new(),
    };
    let mut decision = plan.conclude(computed);
    decision.actions.iter_mut().for_each(|planned| {
        // Roles are in the status, so they are told with the write that tells of them.
        if let Action::Status { events: told, .. } = &mut planned.action {
            told.extend(events.iter().cloned());
        }
    });
    decision
}

/// Asks for the list of backups when there is a reason to. Returns what is known of it, and what it means for a fresh volume.
fn ask_for_backups(plan: &mut Plan<'_, State>, sight: &Sight) -> (backup::Known, Restorable) {
    let Some(poolers) = &plan.observed.poolers else {
        return (backup::Known::Unknown, Restorable::Asking);
    };
    let answer = poolers.backups.as_ref();
    let known = answer.map(|(known, _)| known.clone()).unwrap_or_default();
    let under_way = poolers.under_way.contains(Call::GetBackups.method());
    let mut asking = under_way;
    if let Sight::Clear(members) = sight {
        let runs = plan
            .observed
            .records()
            .and_then(|records| records.backup_runs);
        let now = plan.now();
        let question = backup::ask(
            &mut plan.decision.state.backup,
            backup::Asking {
                answer,
                runs,
                under_way,
                replaces: quarantine::is_due(plan.observed, members),
                candidates: who_may_be_asked(plan.observed, members),
            },
            now,
        );
        plan.decision.wake_at(question.wake);
        asking |= question.ask.is_some();
        let calls = question.ask.map(|pod| (pod, Call::GetBackups));
        plan.decision.calls.extend(calls);
    }
    let stale_at = backup::judge(&known, plan.now()).wake;
    plan.decision.wake_at(stale_at);
    let restorable = backup::restorable(&plan.decision.state.backup, answer, asking);
    (known, restorable)
}

/// Poolers that are part of the shard, answer, and are not busy with a restore.
fn who_may_be_asked(observed: &Observed, members: &Members) -> Vec<backup::Candidate> {
    let pods = observed.poolers.iter().flat_map(|poolers| &poolers.pods);
    let well = pods.filter_map(|(pod, seen)| {
        let (health, until) = seen.said.as_ref()?;
        let well = until.is_none() && health.initialized && health.ready && !health.restoring;
        well.then(|| backup::Candidate {
            pod: pod.clone(),
            leads: members.roles.get(pod) == Some(&Role::Primary),
            failures: seen.failures,
            not_before: seen.not_before,
        })
    });
    well.collect()
}

/// Keeps everything but pools and certificates. Says what multiorch or the pools wait for, if it is a Secret.
fn keep(
    plan: &mut Plan<'_, State>,
    shard: &Shard,
    objects: ShardObjects,
    (settings, sight): (&Settings<'_>, &Sight),
) -> Result<Option<String>, RenderError> {
    let mut wanted: Vec<Desired> = Vec::new();
    for desired in objects.base {
        let unknown = desired.key == objects.config_map && !matches!(settings, Settings::Known(_));
        // What was known when it was written is not known yet.
        let unsure = desired.key == objects.replicas_budget
            && matches!(sight, Sight::Pending)
            && plan.observed.get(&desired.key).is_some();
        if unknown || unsure {
            // PostgreSQL goes on with the settings it has, and evictions by the budget they have.
        } else if desired.key.kind == Kind::PersistentVolumeClaim {
            volume::keep(plan, desired.clone());
        } else {
            plan.keep(desired.clone());
        }
        wanted.push(desired);
    }
    let of_multiorch = supply(plan, &multiorch::secrets(shard, &Identity::new(shard)?));
    for desired in objects.multiorch {
        if let Supply::Complete(hash) = &of_multiorch {
            let mut stamped = desired.clone();
            stamp(&mut stamped, hash);
            orchestrate(plan, shard, stamped);
        }
        wanted.push(desired);
    }
    if plan.obstacles.is_empty() {
        let refs: Vec<&Desired> = wanted.iter().collect();
        for kind in [Kind::Deployment, Kind::PodDisruptionBudget, Kind::ConfigMap] {
            plan.prune(kind, &refs);
        }
    }
    let lacks = match of_multiorch {
        Supply::Complete(_) => supply(plan, &of_pools(shard)?),
        other => other,
    };
    Ok(match lacks {
        Supply::Complete(_) => None,
        Supply::Missing(what) => Some(what),
        Supply::Unknown => Some(status::WAITING.to_owned()),
    })
}

/// The Secrets that pool pods mount and multiorch does not.
fn of_pools(shard: &Shard) -> Result<Vec<Needed>, RenderError> {
    let Some((pool, of)) = shard.spec.pools.iter().next() else {
        return Ok(Vec::new());
    };
    let cell = of.cells.first().map_or("", |cell| cell.as_str());
    let mut needed = pool::objects::secrets(shard, pool, cell)?;
    needed.retain(|secret| !secret.given);
    Ok(needed)
}

/// multiorch exits without the topology, that of its cell and the cell's record included; once it was started it stays, whatever the topology does.
fn orchestrate(plan: &mut Plan<'_, State>, shard: &Shard, desired: Desired) {
    let observed = plan.observed;
    let cluster = observed.me.label(labels::CLUSTER).unwrap_or_default();
    let address = &shard.spec.global_topo_server.address;
    let cell = multiorch::cell_of(&desired);
    if observed.get(&desired.key).is_some()
        || (topology::for_cell(observed, cluster, address, &cell).usable()
            && observed.registered(&cell))
    {
        plan.keep(desired);
    }
}

fn certify(plan: &mut Plan<'_, State>, shard: &Shard) -> Result<(), RenderError> {
    // Pods of a place that the spec has dropped still run, and still need a certificate that names them.
    let present: BTreeSet<Place> = plan
        .observed
        .controlled(Kind::Pod)
        .filter_map(|pod| place(pod))
        .map(|(pool, cell)| (pool.into(), cell.into()))
        .collect();
    if let Some(wanted) = certificates::wanted(shard, &present)? {
        certificates::keep(plan, &wanted);
    }
    Ok(())
}

/// Claims of pools and cells that the spec has dropped, and the backup volume of a Shard that backs up elsewhere by now: they
/// stay, and follow the Shard's policy. Those of the other pools are the PoolActors'.
fn leftovers(plan: &mut Plan<'_, State>, shard: &Shard) -> Result<(), RenderError> {
    let identity = Identity::new(shard)?;
    let delete = workload::deleted_with_owner(shard.spec.pvc_deletion_policy.as_ref());
    let reference = delete
        .then(|| serde_json::to_value(identity.owner.reference()))
        .transpose()?;
    let mine = labels::selector(&identity.labels("shard-pool"));
    let mine: Vec<(&str, &str)> = mine.into_iter().collect();
    let specified = |claim: &Rc<Entry>| match place(claim) {
        Some((pool, cell)) => {
            let of = shard.spec.pools.get(pool);
            of.is_some_and(|of| of.cells.iter().any(|name| name == cell))
        }
        None => backup_volume::storage(shard).is_some(),
    };
    let claims: Vec<Rc<Entry>> = plan
        .observed
        .labelled(Kind::PersistentVolumeClaim, &mine)
        .filter(|claim| !specified(claim))
        .cloned()
        .collect();
    for claim in claims {
        volume::follow(plan, &claim, reference.clone());
    }
    Ok(())
}

/// The pool and cell of a pod or claim.
fn place(entry: &Entry) -> Option<(&str, &str)> {
    Some((entry.label(labels::POOL)?, entry.label(labels::CELL)?))
}
