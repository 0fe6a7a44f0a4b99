//! What a MultigresCluster needs next.

use crds::MultigresCluster;
use crds::resolve::{OperatorDefaults, ResolvedCluster, resolve};
use crds::rollout::{APPLIED_IMAGES, Rollout, Strategy};
use jiff::Timestamp;
use serde_json::json;

use super::{objects, status, templates};
use crate::action::{Action, Decision};
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::room::Observed;
use crate::status::Obstacle;
pub use crate::status::State;

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
    let resolved = match observed.me.typed::<MultigresCluster>() {
        Err(error) => {
            plan.unbuildable(&error);
            None
        }
        Ok(cluster) => {
            let resolved = resolved(&mut plan, &cluster, defaults);
            match resolved.as_ref().map(|of| objects::render(&cluster, of)) {
                Some(Err(error)) => plan.unbuildable(&error),
                Some(Ok(objects)) => wanted = objects,
                None => {}
            }
            resolved
        }
    };
    let recorded = resolved
        .as_ref()
        .is_none_or(|of| record(&mut plan, &of.rollout));
    if recorded {
        for desired in &wanted {
            plan.keep(desired.clone());
        }
        if plan.obstacles.is_empty() {
            tidy(&mut plan, &wanted);
        }
    }
    let computed = status::compute(&plan, &wanted, resolved.as_ref());
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
}
