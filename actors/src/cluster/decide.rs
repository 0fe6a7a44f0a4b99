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
    let stalled = plan.observed.topology.as_ref();
    if let Some(reason) = stalled.and_then(|known| known.stalled.clone()) {
        plan.obstacles.push(Obstacle {
            reason: "ActorStalled",
            message: format!("{reason}; edit the resource to try again"),
        });
    }
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
        events: rollout.news.iter().map(status::event).collect(),
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::rc::Rc;

    use crds::image::ComponentImages;

    use super::*;
    use crate::entry::Watched;

    fn decided(annotations: &serde_json::Value, strategy: Strategy) -> Decision<State> {
        let body = json!({
            "apiVersion": "multigres.com/v1alpha1", "kind": "MultigresCluster",
            "metadata": {
                "name": "c", "namespace": "n", "uid": "me", "resourceVersion": "1", "generation": 1,
                "annotations": annotations,
            },
            "spec": {
                "postgresPasswordSecretRef": {"name": "password", "key": "password"},
                "cells": [{"name": "a", "zoneId": "z"}],
            },
        });
        let watched: Watched = serde_json::from_value(body).unwrap();
        let me = Rc::new(watched.trim(Kind::MultigresCluster).unwrap());
        let observed = Observed {
            me: me.clone(),
            group: vec![me],
            troubles: BTreeMap::new(),
            references: BTreeMap::new(),
            templates: Vec::new(),
            served: BTreeSet::new(),
            wants: BTreeMap::new(),
            topology: None,
            poolers: None,
        };
        let defaults = OperatorDefaults {
            images: ComponentImages::compiled(&BTreeMap::new()),
            strategy,
            ..OperatorDefaults::default()
        };
        let now = "2026-11-24T00:00:00Z".parse().unwrap();
        decide(&observed, &State::default(), now, &defaults)
    }

    fn recorded(decision: &Decision<State>) -> Option<String> {
        decision.actions.iter().find_map(|planned| {
            let Action::Metadata { patch, .. } = &planned.action else {
                return None;
            };
            Some(patch["annotations"][APPLIED_IMAGES].as_str()?.to_owned())
        })
    }

    fn applies(decision: &Decision<State>) -> usize {
        let puts = decision.actions.iter();
        puts.filter(|planned| matches!(planned.action, Action::Apply { .. }))
            .count()
    }

    /// L-GIT-02 "Images frozen in, or images rolling at once": the set is on record before any child changes.
    #[test]
    fn under_the_lazy_strategy_children_wait_for_the_record() {
        let first = decided(&json!({}), Strategy::Lazy);
        let record = recorded(&first).unwrap();
        assert_eq!(applies(&first), 0);
        let then = decided(&json!({APPLIED_IMAGES: record}), Strategy::Lazy);
        assert_eq!(recorded(&then), None);
        assert!(applies(&then) > 5);
        let immediate = decided(&json!({}), Strategy::Immediate);
        assert_eq!(recorded(&immediate).as_ref(), Some(&record));
        assert_eq!(applies(&immediate), applies(&then));
    }

    /// L-GIT-02: a damaged record is not guessed, and nothing is touched.
    #[test]
    fn a_damaged_record_stops_a_lazy_cluster() {
        let damaged = json!({APPLIED_IMAGES: "{"});
        let decision = decided(&damaged, Strategy::Lazy);
        assert_eq!((recorded(&decision), applies(&decision)), (None, 0));
        assert!(applies(&decided(&damaged, Strategy::Immediate)) > 5);
    }
}
