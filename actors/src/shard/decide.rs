//! What a Shard needs next.

use std::collections::BTreeSet;
use std::rc::Rc;

use crds::Shard;
use jiff::Timestamp;

use super::certificates::{self, Place};
use super::identity::Identity;
use super::objects::{self, Inputs, ShardObjects};
use super::postgres_config::Hashes;
use super::settings::{self, Settings};
use super::{backup_volume, secrets, status};
use crate::action::Decision;
use crate::entry::Entry;
use crate::labels;
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::room::Observed;
pub use crate::status::State;
use crate::topology::{self, Topology};
use crate::volume;
use crate::workload::{self, RenderError};

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
    let mut multiorch = Vec::new();
    let mut hashes = Hashes::default();
    let mut settings = Settings::Unknown;
    if let Some(shard) = &shard {
        let cluster = observed.me.label(labels::CLUSTER).unwrap_or_default();
        let topology = topology::of(observed, cluster, &shard.spec.global_topo_server.address);
        secrets::refer(&mut plan.decision, observed, shard);
        plan.obstacles.extend(secrets::obstacles(observed, shard));
        settings::refer(&mut plan.decision, observed, shard);
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
            ..Inputs::default()
        };
        match objects::render_with(shard, inputs) {
            Err(error) => plan.unbuildable(&error),
            Ok(objects) => {
                hashes = objects.config.hashes.clone();
                multiorch = objects
                    .multiorch
                    .iter()
                    .map(|desired| desired.key.clone())
                    .collect();
                keep(&mut plan, objects, &topology, &found);
            }
        }
        settings = found;
        // Certificates expire whatever else is wrong with the Shard.
        if let Err(error) = certify(&mut plan, shard).and_then(|()| leftovers(&mut plan, shard)) {
            plan.unbuildable(&error);
        }
    }
    plan.refusals();
    let wanted = status::Wanted {
        multiorch: &multiorch,
        settings: &settings,
        hashes: &hashes,
    };
    let computed = status::compute(&plan, shard.as_ref(), &wanted);
    plan.conclude(computed)
}

fn keep(
    plan: &mut Plan<'_, State>,
    objects: ShardObjects,
    topology: &Topology,
    settings: &Settings<'_>,
) {
    let mut wanted: Vec<Desired> = Vec::new();
    for desired in objects.base {
        let unknown = desired.key == objects.config_map && !matches!(settings, Settings::Known(_));
        if unknown {
            // PostgreSQL goes on with the settings it has.
        } else if desired.key.kind == Kind::PersistentVolumeClaim {
            volume::keep(plan, desired.clone());
        } else {
            plan.keep(desired.clone());
        }
        wanted.push(desired);
    }
    for desired in objects.multiorch {
        // multiorch exits without its topology; once it was started it stays, whatever the topology does.
        if topology.usable() || plan.observed.get(&desired.key).is_some() {
            plan.keep(desired.clone());
        }
        wanted.push(desired);
    }
    if plan.obstacles.is_empty() {
        let refs: Vec<&Desired> = wanted.iter().collect();
        for kind in [Kind::Deployment, Kind::PodDisruptionBudget, Kind::ConfigMap] {
            plan.prune(kind, &refs);
        }
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
    let mine: Vec<(&str, &str)> = mine.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
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
