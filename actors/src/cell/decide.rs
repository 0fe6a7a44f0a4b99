//! What a Cell needs next.

use jiff::Timestamp;

use super::{objects, status};
use crate::action::Decision;
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::room::Observed;
use crate::secrets::{self, Supply};
pub use crate::status::State;
use crate::topology::{self, Topology};

/// Why gateways are not started, or not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// The global topology store, or something that is only a moment away.
    Topology,
    /// The cell's own topology store.
    LocalTopology,
    /// A Secret that they mount.
    Secret(String),
}

/// The decision of a CellActor.
pub fn decide(observed: &Observed, state: &State, now: Timestamp) -> Decision<State> {
    let mut plan = Plan::new(observed, state.clone(), now);
    if observed.me.deleting {
        return plan.decision;
    }
    let mut wanted = Vec::new();
    let mut waits = None;
    match observed.me.typed::<crds::Cell>() {
        Err(error) => plan.unbuildable(&error),
        Ok(cell) => match objects::render(&cell) {
            Err(error) => plan.unbuildable(&error),
            Ok(objects) => {
                wanted = objects;
                waits = keep(&mut plan, &cell, &wanted);
            }
        },
    }
    if plan.obstacles.is_empty() {
        // A store that the spec no longer names stays: it holds volumes. The status says so.
        let surplus: Vec<&Desired> = wanted.iter().collect();
        plan.prune(Kind::Deployment, &surplus);
        plan.prune(Kind::Service, &surplus);
    }
    plan.refusals();
    let computed = status::compute(&plan, &wanted, waits.as_ref());
    plan.conclude(computed)
}

/// A gateway exits without its topology; once it was started it stays, whatever the topology does. Without its Secrets it
/// would hang, so it is neither started nor changed.
fn keep(plan: &mut Plan<'_, State>, cell: &crds::Cell, wanted: &[Desired]) -> Option<Waits> {
    let supply = match objects::secrets(cell) {
        Ok(needed) => secrets::supply(plan, &needed),
        Err(error) => {
            plan.unbuildable(&error);
            return None;
        }
    };
    let mut waits = None;
    for desired in wanted {
        let mut desired = desired.clone();
        if desired.key.kind == Kind::Deployment {
            waits = match &supply {
                Supply::Missing(what) => Some(Waits::Secret(what.clone())),
                Supply::Unknown => Some(Waits::Topology),
                Supply::Complete(hash) => {
                    secrets::stamp(&mut desired, hash);
                    if plan.observed.get(&desired.key).is_some() {
                        None
                    } else {
                        stores(plan.observed, cell)
                    }
                }
            };
            if waits.is_some() {
                continue;
            }
        }
        plan.keep(desired);
    }
    waits
}

/// The store that gateways have to wait for.
fn stores(observed: &Observed, cell: &crds::Cell) -> Option<Waits> {
    let cluster = observed
        .me
        .label("multigres.com/cluster")
        .unwrap_or_default();
    if !topology::of(observed, cluster, &cell.spec.global_topo_server.address).usable() {
        return Some(Waits::Topology);
    }
    let local = topology::local(observed, &observed.me.uid, cell);
    if local.is_some_and(|store: Topology| !store.usable()) {
        return Some(Waits::LocalTopology);
    }
    (!observed.registered(&cell.spec.name)).then_some(Waits::Topology)
}
