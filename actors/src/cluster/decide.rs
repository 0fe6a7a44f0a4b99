//! What a MultigresCluster needs next.

use crds::MultigresCluster;
use crds::resolve::{OperatorDefaults, ResolvedCluster, resolve};
use crds::rollout::{APPLIED_IMAGES, Rollout, Strategy};
use jiff::Timestamp;
use serde_json::json;

use super::{admin, certificates, objects, status, templates};
use crate::action::{Action, Decision};
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::room::Observed;
use crate::secrets::{self, Supply};
use crate::status::Obstacle;
pub use crate::status::State;
use crate::workload::{Owner, RenderError};

/// Finalizer of the Go operator. Nothing of ours waits for it, so it is taken off when it would hold a deletion up.
const GO_FINALIZER: &str = "multigres.com/cluster-cleanup";

/// The decision of a ClusterActor.
pub fn decide(
    observed: &Observed,
    state: &State,
    now: Timestamp,
    defaults: &OperatorDefaults,
) -> Decision<State> {
    let mut plan = Plan::new(observed, state.clone(), now);
    if observed.me.deleting {
        plan.release(GO_FINALIZER);
        return plan.decision;
    }
    let mut wanted = Vec::new();
    let mut waits = None;
    let resolved = match observed.me.typed::<MultigresCluster>() {
        Err(error) => {
            plan.unbuildable(&error);
            None
        }
        Ok(cluster) => {
            let resolved = resolved(&mut plan, &cluster, defaults);
            match resolved
                .as_ref()
                .map(|of| (of, build(&cluster, of, defaults)))
            {
                Some((_, Err(error))) => plan.unbuildable(&error),
                Some((of, Ok((owner, objects)))) => {
                    wanted = objects;
                    waits = keep(&mut plan, &owner, of, &wanted);
                }
                None => {}
            }
            resolved
        }
    };
    plan.refusals();
    let computed = status::compute(&plan, &wanted, resolved.as_ref(), waits.as_deref());
    plan.conclude(computed)
}

/// What the manifest and its templates mean; None when something stands in the way.
fn resolved(
    plan: &mut Plan<'_, State>,
    cluster: &MultigresCluster,
    defaults: &OperatorDefaults,
) -> Option<ResolvedCluster> {
    let templates = templates::read(plan, cluster)?;
    match resolve(cluster, &templates, defaults) {
        Ok(resolved) => Some(resolved),
        Err(problems) => {
            let told = problems.iter().map(|problem| Obstacle {
                reason: "ConfigError",
                message: problem.to_string(),
            });
            plan.obstacles.extend(told);
            None
        }
    }
}

fn build(
    cluster: &MultigresCluster,
    resolved: &ResolvedCluster,
    defaults: &OperatorDefaults,
) -> Result<(Owner, Vec<Desired>), RenderError> {
    let owner = Owner::new(Kind::MultigresCluster, &cluster.metadata)?;
    let mut objects = objects::render(cluster, resolved)?;
    objects.extend(certificates::render(&owner, resolved, &defaults.issuance)?);
    Ok((owner, objects))
}

/// Keeps what is wanted. Says what multiadmin has to wait for: without the Secrets it mounts it would hang.
fn keep(
    plan: &mut Plan<'_, State>,
    owner: &Owner,
    resolved: &ResolvedCluster,
    wanted: &[Desired],
) -> Option<String> {
    if !record(plan, &resolved.rollout) {
        return None;
    }
    let issuing = plan.observed.served.contains(&Kind::Certificate);
    if !issuing {
        without_issuer(plan, owner, resolved);
    }
    let supply = secrets::supply(plan, &admin::secrets(resolved, owner));
    let admin = format!("{}-multiadmin", owner.name);
    for desired in wanted {
        let mut desired = desired.clone();
        match (desired.key.kind, &supply) {
            (Kind::Certificate, _) if !issuing => continue,
            (Kind::Deployment, supply) if *desired.key.name == *admin => match supply {
                Supply::Complete(hash) => secrets::stamp(&mut desired, hash),
                Supply::Missing(_) | Supply::Unknown => continue,
            },
            _ => {}
        }
        plan.keep(desired);
    }
    if plan.obstacles.is_empty() {
        tidy(plan, wanted);
    }
    match supply {
        Supply::Complete(_) => None,
        Supply::Missing(what) => Some(what),
        Supply::Unknown => Some(status::WAITING.to_owned()),
    }
}

/// Where cert-manager is not installed, the Secrets that it would issue may be made by hand.
fn without_issuer(plan: &mut Plan<'_, State>, owner: &Owner, resolved: &ResolvedCluster) {
    let needed = certificates::secrets(owner, resolved);
    if let Supply::Missing(what) = secrets::supply(plan, &needed) {
        plan.obstacles.push(Obstacle {
            reason: "CertificatesUnavailable",
            message: format!(
                "{what}; cert-manager, which would issue it, is not installed: install it or make the Secret"
            ),
        });
    }
}

/// Keeps the record of the images in force. True when the children may follow: where the strategy is lazy, no child may run
/// images that are not on record, or a later operator would take the cluster for a new one (L-GIT-02).
fn record(plan: &mut Plan<'_, State>, rollout: &Rollout) -> bool {
    let Some(text) = &rollout.record else {
        return true;
    };
    let me = &plan.observed.me;
    // Without resourceVersion: nobody else writes this key, and the status is written at the same time.
    let action = Action::Metadata {
        key: me.key().clone(),
        patch: json!({"uid": me.uid, "annotations": {APPLIED_IMAGES: text}}),
    };
    plan.decision
        .act("the images in force are not on record", action);
    rollout.strategy == Strategy::Immediate
}

/// Workloads and Services that the spec no longer asks for go. Children that hold pods or volumes stay: this version never
/// takes a pool pod or a volume from a living cluster, and says so in a condition (`status::compute`).
fn tidy(plan: &mut Plan<'_, State>, wanted: &[Desired]) {
    let refs: Vec<&Desired> = wanted.iter().collect();
    for kind in [Kind::Deployment, Kind::Service] {
        plan.prune(kind, &refs);
    }
    certificates::tidy(plan, wanted);
}
