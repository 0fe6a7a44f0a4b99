//! What a TopoServer needs next.

use jiff::Timestamp;
use serde::Serialize;

use super::{objects, status};
use crate::action::Decision;
use crate::plan::Plan;
use crate::room::Observed;
use crate::status::Trail;

/// What a TopoServerActor remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Since when a mere count waits.
    pub trail: Trail,
}

/// The decision of a TopoServerActor.
pub fn decide(observed: &Observed, state: &State, now: Timestamp) -> Decision<State> {
    let mut plan = Plan::new(observed, state.clone(), now);
    if observed.me.deleting {
        return plan.decision;
    }
    let mut wanted = Vec::new();
    match observed.me.typed::<crds::TopoServer>() {
        Err(error) => plan.unbuildable(&error),
        Ok(server) => match objects::render(&server) {
            Err(error) => plan.unbuildable(&error),
            Ok(objects) => wanted = objects,
        },
    }
    for desired in &wanted {
        plan.keep(desired.clone());
    }
    let computed = status::compute(&plan, &wanted);
    let mut trail = plan.decision.state.trail;
    crate::status::write(&mut plan.decision, &mut trail, &observed.me, computed, now);
    plan.decision.state.trail = trail;
    plan.decision
}
