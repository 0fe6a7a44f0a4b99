//! ShardActor: one per Shard. Owns configuration, certificates, multiorch, budgets, the backup volume and all of the Shard's
//! status; pods and data volumes belong to the PoolActors.
//!
//! ```text
//! PoolActor ──report (wants, stalled)──► ShardActor ──► status, budgets, multiorch
//! ```
//! Lost on restart: since when a mere count waits, and the pools' reports, which they send again with their next decision.

pub mod backup;
pub mod backup_volume;
pub mod certificates;
pub mod config_files;
pub mod data_plane;
#[cfg(test)]
mod data_plane_tests;
pub mod decide;
pub mod identity;
pub mod members;
pub mod multiorch;
pub mod objects;
pub mod pooler_health;
pub mod postgres_config;
pub mod quarantine;
#[cfg(test)]
mod quarantine_tests;
pub mod quorum;
pub mod secrets;
pub mod settings;
pub mod status;

use jiff::Timestamp;

use crate::action::Decision;
use crate::room::{ActorId, Observed, Room};

/// The room of ShardActors.
pub struct ShardRoom;

impl Room for ShardRoom {
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
