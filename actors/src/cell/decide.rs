//! What a Cell needs next.

use jiff::Timestamp;
use serde::Serialize;

use super::{objects, status};
use crate::action::Decision;
use crate::object::{Desired, Kind};
use crate::plan::Plan;
use crate::room::Observed;
use crate::status::Trail;
use crate::topology::{self, Topology};

/// What a CellActor remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Since when a mere count waits.
    pub trail: Trail,
}

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
    let mut trail = plan.decision.state.trail;
    crate::status::write(&mut plan.decision, &mut trail, &observed.me, computed, now);
    plan.decision.state.trail = trail;
    plan.decision
}
