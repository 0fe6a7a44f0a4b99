//! What a TopologyActor tells the other actors of its cluster, and what they tell it: the newest state, never a delta.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::Serialize;

use crate::entry::Entry;
use crate::labels;
use crate::object::Kind;
use crate::status::Condition;
use crate::topology_store::key::ShardId;
use crate::topology_store::record::{Pooler, ProcessId};
use crate::topology_store::view::Views;

/// What is known of a cluster's topology.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// `TopologyReachable` of the whole cluster. `None`: not judged yet, so what was told before stays.
    pub reachable: Option<Condition>,
    /// The topology is out of reach, and that is worth an event: not while the cluster is young.
    pub alarming: bool,
    /// Records that are wrong and left alone, in words; bounded. `None`: not looked at yet, so what was told before stays.
    pub held: Option<Vec<String>>,
    /// Cells whose record is as the specification has it (`design.md` 3, "Order of creation").
    pub cells: BTreeSet<Box<str>>,
    /// The records of each Shard of the cluster.
    pub shards: BTreeMap<ShardId, Rc<Records>>,
    /// The TopologyActor gave up, with the reason.
    pub stalled: Option<String>,
}

impl Known {
    /// Whom it concerns that this is known now, and `before` was.
    pub fn concerns(&self, before: &Self) -> Concerned {
        let told = |known: &Self| {
            let stalled = known.stalled.clone();
            (
                known.reachable.clone(),
                known.alarming,
                known.held.clone(),
                stalled,
            )
        };
        let shards = self.shards.keys().chain(before.shards.keys());
        Concerned {
            cluster: told(self) != told(before),
            registered: self.cells != before.cells,
            shards: shards
                .filter(|shard| self.shards.get(*shard) != before.shards.get(*shard))
                .cloned()
                .collect(),
        }
    }
}

/// Whom a change of what is known concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    cluster: bool,
    registered: bool,
    shards: BTreeSet<ShardId>,
}

impl Concerned {
    /// Is the actor of this resource concerned?
    pub fn contains(&self, entry: &Entry) -> bool {
        match entry.key().kind {
            Kind::MultigresCluster => self.cluster,
            // Gateways and orchestrators wait for the record of their cell.
            Kind::Cell => self.registered,
            Kind::Shard => {
                self.registered || shard_of(entry).is_some_and(|id| self.shards.contains(&id))
            }
            _ => false,
        }
    }
}

/// The shard that an object's labels name.
pub fn shard_of(entry: &Entry) -> Option<ShardId> {
    Some(ShardId::new(
        entry.label(labels::DATABASE)?,
        entry.label(labels::TABLE_GROUP)?,
        entry.label(labels::SHARD)?,
    ))
}

/// What the topology says of one shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// Pooler records that can be trusted, with the cell in whose store they are; sorted by cell and key.
    pub poolers: Vec<(Box<str>, Pooler)>,
    /// Cells of the cluster whose store is not completely known right now: a record that is missing there may exist.
    pub silent: Vec<Box<str>>,
    /// A backup holds the shard's lock (`topology.md` 1.5); `None`: not known right now.
    pub backup_runs: Option<bool>,
    /// `TopologyReachable` of the stores that this shard depends on; `None`: not judged yet.
    pub reachable: Option<Condition>,
}

impl Records {
    /// The records of a shard.
    pub fn of(views: &Views, shard: &ShardId) -> Self {
        let poolers = views.shard(shard);
        Self {
            poolers: poolers
                .map(|(cell, _, _, pooler)| (cell.into(), pooler.clone()))
                .collect(),
            silent: views.silent().into_iter().map(Into::into).collect(),
            backup_runs: views
                .global
                .complete()
                .then(|| views.global.backup_runs(shard)),
            reachable: None,
        }
    }
}

/// What a ShardActor tells of its poolers, for pruning: who surely lives, who is still counted in. Nothing told means that
/// nobody told, and a record that may be in a cohort stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Testimony {
    /// The shard.
    pub shard: Option<ShardId>,
    /// Poolers whose health stream is alive.
    pub answering: BTreeSet<ProcessId>,
    /// Members of the decided rule and of the proposal, by the word of a live pooler; `None`: nobody says.
    pub cohort: Option<BTreeSet<ProcessId>>,
}
