//! What a Shard needs next.

use jiff::Timestamp;

use super::{objects, status};
use crate::action::{Decision, Recipe};
use crate::cluster::decide::release;
use crate::object::{Desired, Key, Kind};
use crate::plan::Plan;
use crate::room::Observed;
use crate::status::Obstacle;
pub use crate::status::State;
use crate::store::Reference;
use crate::topology::{self, Topology};

/// Finalizer of the Go operator; see `cluster::decide`.
const GO_FINALIZER: &str = "multigres.com/shard-pvc-orphan";

/// The decision of a ShardActor.
pub fn decide(observed: &Observed, state: &State, now: Timestamp) -> Decision<State> {
    let mut plan = Plan::new(observed, state.clone(), now);
    if observed.me.deleting {
        release(&mut plan, GO_FINALIZER);
        return plan.decision;
    }
    let shard = match observed.me.typed::<crds::Shard>() {
        Ok(shard) => Some(shard),
        Err(error) => {
            plan.unbuildable(&error);
            None
        }
    };
    let mut multiorch = Vec::new();
    if let Some(shard) = &shard {
        let cluster = observed
            .me
            .label("multigres.com/cluster")
            .unwrap_or_default();
        let topology = topology::of(observed, cluster, &shard.spec.global_topo_server.address);
        if let Some(obstacle) = password(&mut plan, shard) {
            plan.obstacles.push(obstacle);
        }
        match objects::render(shard) {
            Err(error) => plan.unbuildable(&error),
            Ok(objects) => {
                multiorch = objects
                    .multiorch
                    .iter()
                    .map(|desired| desired.key.clone())
                    .collect();
                keep(&mut plan, objects, &topology);
            }
        }
    }
    let computed = status::compute(&plan, shard.as_ref(), &multiorch);
    plan.conclude(computed)
}

fn keep(plan: &mut Plan<'_, State>, objects: objects::ShardObjects, topology: &Topology) {
    let mut wanted: Vec<Desired> = Vec::new();
    for desired in objects.base {
        if desired.key.kind.is_created() {
            plan.make(desired.clone());
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
    if let Some(certificates) = objects.certificates {
        let leaf = Recipe::Leaf {
            authority: certificates.ca.key.clone(),
            names: certificates.dns_names,
        };
        if plan.generate(certificates.ca, Recipe::Authority) {
            plan.generate(certificates.leaf, leaf);
        }
    }
    if plan.obstacles.is_empty() {
        let refs: Vec<&Desired> = wanted.iter().collect();
        for kind in [Kind::Deployment, Kind::PodDisruptionBudget, Kind::ConfigMap] {
            plan.prune(kind, &refs);
        }
    }
}

/// The password Secret must exist and hold a non-empty value, or every pod would hang (`workloads.md` 12).
fn password(plan: &mut Plan<'_, State>, shard: &crds::Shard) -> Option<Obstacle> {
    let wanted = &shard.spec.postgres_password_secret_ref;
    let key = Key::new(
        Kind::Secret,
        &plan.observed.me.key().namespace,
        &wanted.name,
    );
    plan.decision.references.push(key.clone());
    let problem = match plan.observed.references.get(&key) {
        None | Some(Reference::Unknown) => return None,
        Some(Reference::Absent) => format!("Secret {} does not exist", wanted.name),
        Some(Reference::Present(secret)) => match secret.data.get(wanted.key.as_str()) {
            None => format!("Secret {} has no key {:?}", wanted.name, wanted.key),
            Some(0) => format!("key {:?} of Secret {} is empty", wanted.key, wanted.name),
            Some(_) => return None,
        },
    };
    let message = format!(
        "{problem}: create it in namespace {}; it is named by spec.postgresPasswordSecretRef of the MultigresCluster",
        plan.observed.me.key().namespace,
    );
    Some(Obstacle {
        reason: "PasswordSecretInvalid",
        message,
    })
}

/// True once the password Secret is known to be usable; pods wait for that.
pub fn password_known(observed: &Observed, shard: &crds::Shard) -> bool {
    let wanted = &shard.spec.postgres_password_secret_ref;
    let key = Key::new(Kind::Secret, &observed.me.key().namespace, &wanted.name);
    match observed.references.get(&key) {
        Some(Reference::Present(secret)) => secret
            .data
            .get(wanted.key.as_str())
            .is_some_and(|digest| *digest != 0),
        _ => false,
    }
}
