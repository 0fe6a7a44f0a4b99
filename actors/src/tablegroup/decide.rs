//! What a TableGroup needs next.

use jiff::Timestamp;

use super::{objects, status};
use crate::action::Decision;
use crate::plan::Plan;
use crate::room::Observed;
pub use crate::status::State;

/// The decision of a TableGroupActor. Shards the spec no longer names are kept: they hold pods and volumes.
pub fn decide(observed: &Observed, state: &State, now: Timestamp) -> Decision<State> {
    let mut plan = Plan::new(observed, state.clone(), now);
    if observed.me.deleting {
        return plan.decision;
    }
    let mut wanted = Vec::new();
    match observed.me.typed::<crds::TableGroup>() {
        Err(error) => plan.unbuildable(&error),
        Ok(group) => match objects::render(&group) {
            Err(error) => plan.unbuildable(&error),
            Ok(objects) => wanted = objects,
        },
    }
    for desired in &wanted {
        plan.keep(desired.clone());
    }
    plan.refusals();
    let computed = status::compute(&plan, &wanted);
    plan.conclude(computed)
}
