//! TableGroupActor: one per TableGroup. Owns the objects below it and its status.
//!
//! Lost on restart: since when a mere count waits to be written. Everything else is recomputed from the store.

pub mod decide;
pub mod objects;
pub mod status;

use jiff::Timestamp;

use crate::action::Decision;
use crate::room::{ActorId, Observed, Room};

/// The room of TableGroupActors.
pub struct TableGroupRoom;

impl Room for TableGroupRoom {
    type State = decide::State;

    fn decide(
        _: &ActorId,
        observed: &Observed,
        state: &Self::State,
        now: Timestamp,
        _: &crds::resolve::OperatorDefaults,
    ) -> Decision<Self::State> {
        decide::decide(observed, state, now)
    }
}
