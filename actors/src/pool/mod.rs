//! PoolActor: one per pool × cell of a Shard. Owns its pods, data volumes and headless Service, and tells its ShardActor which
//! pods it wants taken away.
//!
//! ```text
//! Shard spec ──► claims, then pods (all missing ones at once) ; drift, scale-down ──want──► ShardActor
//! ```
//! Nothing is lost on restart: it keeps no state.

pub mod containers;
pub mod decide;
pub mod objects;
pub mod pod;
pub mod spec_hash;
mod volumes;

use jiff::Timestamp;

use crate::action::Decision;
use crate::entry::Entry;
use crate::object::{Key, Kind};
use crate::room::{ActorId, Observed, Room};

/// The room of PoolActors.
pub struct PoolRoom;

impl Room for PoolRoom {
    type State = ();

    fn decide(
        id: &ActorId,
        observed: &Observed,
        _: &Self::State,
        now: Timestamp,
        _: &crds::resolve::OperatorDefaults,
    ) -> Decision<Self::State> {
        decide::decide(id, observed, now)
    }
}

/// The actors a Shard needs: one per pool × cell of its spec.
pub fn seats(shard: &Entry) -> Vec<ActorId> {
    let Some(spec) = shard.spec.read::<crds::ShardSpec>() else {
        return Vec::new();
    };
    let pairs = spec
        .pools
        .iter()
        .flat_map(|(pool, of)| of.cells.iter().map(move |cell| (pool, cell)));
    pairs
        .map(|(pool, cell)| ActorId::pool(&shard.uid, pool, cell))
        .collect()
}

/// Pods wanted per cell of a pool; the resolver always fills it (`lifecycle.md` 3).
pub fn replicas(pool: &crds::PoolSpec) -> i32 {
    pool.replicas_per_cell.unwrap_or(1)
}

/// The pods a Shard wants.
pub fn wanted_pods(shard: &crds::Shard) -> Vec<Key> {
    let namespace = shard.metadata.namespace.as_deref().unwrap_or_default();
    let mut keys = Vec::new();
    for (pool, of) in &shard.spec.pools {
        for cell in &of.cells {
            for index in 0..replicas(of) {
                keys.push(Key::new(
                    Kind::Pod,
                    namespace,
                    &objects::pod_name(shard, pool, cell, index),
                ));
            }
        }
    }
    keys
}

/// The sorted union of pool and multiorch cells.
pub fn cells(shard: &crds::Shard) -> Vec<String> {
    let pools = shard
        .spec
        .pools
        .values()
        .flat_map(|pool| pool.cells.iter().cloned());
    let cells: std::collections::BTreeSet<String> = pools
        .chain(shard.spec.multiorch.cells.iter().cloned())
        .collect();
    cells.into_iter().collect()
}

#[cfg(test)]
mod adoption_tests;
#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod tests;
