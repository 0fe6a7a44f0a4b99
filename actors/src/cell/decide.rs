//! What a Cell needs next.

use jiff::Timestamp;

use super::{objects, status};
use crate::action::Decision;
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::room::Observed;
pub use crate::status::State;
use crate::topology::{self, Topology};

/// The decision of a CellActor.
pub fn decide(observed: &Observed, state: &State, now: Timestamp) -> Decision<State> {
    let mut plan = Plan::new(observed, state.clone(), now);
    if observed.me.deleting {
        return plan.decision;
    }
    let mut wanted = Vec::new();
    let mut topology = Topology::External;
    match observed.me.typed::<crds::Cell>() {
        Err(error) => plan.unbuildable(&error),
        Ok(cell) => {
            let cluster = observed
                .me
                .label("multigres.com/cluster")
                .unwrap_or_default();
            topology = topology::of(observed, cluster, &cell.spec.global_topo_server.address);
            match objects::render(&cell) {
                Err(error) => plan.unbuildable(&error),
                Ok(objects) => wanted = objects,
            }
        }
    }
    for desired in &wanted {
        // A gateway exits without its topology; once it was started it stays, whatever the topology does.
        if desired.key.kind != Kind::Deployment
            || topology.usable()
            || observed.get(&desired.key).is_some()
        {
            plan.keep(desired.clone());
        }
    }
    let surplus: Vec<&Desired> = wanted.iter().collect();
    if plan.obstacles.is_empty() {
        plan.prune(Kind::Deployment, &surplus);
        plan.prune(Kind::Service, &surplus);
    }
    let computed = status::compute(&plan, &wanted);
    plan.conclude(computed)
}
