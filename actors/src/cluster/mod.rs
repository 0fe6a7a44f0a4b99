//! ClusterActor: one per MultigresCluster. Owns the specs of TopoServer, Cells and TableGroups, the admin workloads and the
//! global gateway Services, and the cluster's status.
//!
//! ```text
//! MultigresCluster ──► resolve ──► TopoServer, Cell…, TableGroup…, multiadmin, multiadmin-web, Services
//!        ▲                                   │ status
//!        └───────────────────────────────────┘
//! ```
//! Lost on restart: since when a mere count waits to be written. Everything else is recomputed.

pub mod admin;
pub mod certificates;
pub mod decide;
pub mod exposure;
pub mod objects;
pub mod status;
pub mod templates;

use jiff::Timestamp;

use crate::action::Decision;
use crate::room::{ActorId, Observed, Room};

/// The room of ClusterActors.
pub struct ClusterRoom;

impl Room for ClusterRoom {
    type State = decide::State;

    fn decide(
        _: &ActorId,
        observed: &Observed,
        state: &Self::State,
        now: Timestamp,
        defaults: &crds::resolve::OperatorDefaults,
    ) -> Decision<Self::State> {
        decide::decide(observed, state, now, defaults)
    }
}
