//! TopoServerActor: one per TopoServer. Owns the objects below it and its status.
//!
//! Lost on restart: since when a mere count waits to be written. Everything else is recomputed from the store.

pub mod decide;
pub mod objects;
pub mod status;
pub mod volumes;

use jiff::Timestamp;

use crate::action::Decision;
use crate::room::{ActorId, Observed, Room};

/// The room of TopoServerActors.
pub struct TopoServerRoom;

impl Room for TopoServerRoom {
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
