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

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::action::Decision;
use crate::entry::Entry;
use crate::labels;
use crate::object::{Key, Kind};
use crate::room::{ActorId, Observed, Room};
use crate::shard::members::Role;

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

/// The indices of a pool in a cell: those wanted, and those of pods that an administrator set aside. Such a pod is kept and
/// counts for nothing: a stand-in takes the next free index at the top (`lifecycle.md` 8.1).
pub fn indices(
    shard: &crds::Shard,
    (pool, cell): (&str, &str),
    set_aside: &BTreeSet<Box<str>>,
) -> Vec<(i32, bool)> {
    let mut missing = shard.spec.pools.get(pool).map_or(0, replicas);
    let mut indices = Vec::new();
    for index in 0.. {
        if missing <= 0 {
            break;
        }
        let name = objects::pod_name(shard, pool, cell, index);
        let aside = set_aside.contains(name.as_str());
        indices.push((index, aside));
        missing -= i32::from(!aside);
    }
    indices
}

/// The pods a Shard wants, without those that are set aside.
pub fn wanted_pods(shard: &crds::Shard, set_aside: &BTreeSet<Box<str>>) -> Vec<Key> {
    let namespace = shard.metadata.namespace.as_deref().unwrap_or_default();
    let mut keys = Vec::new();
    for (pool, of) in &shard.spec.pools {
        for cell in &of.cells {
            let indices = indices(shard, (pool, cell), set_aside).into_iter();
            for (index, _) in indices.filter(|(_, aside)| !aside) {
                let name = objects::pod_name(shard, pool, cell, index);
                keys.push(Key::new(Kind::Pod, namespace, &name));
            }
        }
    }
    keys
}

/// Pods that an administrator set aside: by these roles, else by their labels. One that is on its way out is not kept.
pub fn set_aside(observed: &Observed, roles: &BTreeMap<Box<str>, Role>) -> BTreeSet<Box<str>> {
    let pods = observed.controlled(Kind::Pod).filter(|pod| !pod.deleting);
    let aside = pods.filter(|pod| match roles.get(&*pod.key().name) {
        Some(role) => *role == Role::Drained,
        None => pod.label(labels::ROLE) == Some(Role::Drained.word()),
    });
    aside.map(|pod| (&*pod.key().name).into()).collect()
}

/// The sorted union of pool and multiorch cells.
pub fn cells(shard: &crds::Shard) -> Vec<String> {
    let pools = shard
        .spec
        .pools
        .values()
        .flat_map(|pool| pool.cells.iter().cloned());
    let cells: BTreeSet<String> = pools
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
