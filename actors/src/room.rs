//! What all actors share: identity, the snapshot a decision looks at, and the messages they understand.
//!
//! A room is one kind of actor: it brings a state and `decide`. The shell around it is [`crate::life`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use actix::prelude::*;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::action::{Decision, Want};
use crate::effects::links::Poolers;
use crate::entry::Entry;
use crate::object::{Key, Kind};
use crate::status::Obstacle;
use crate::store::{Reference, Trouble};
use crate::topology::known::{Known, Records, shard_of};

/// Who an actor is: the UID of its custom resource and, for a pool, its name and cell. A resource that is deleted and made
/// again has another UID, so it never meets its predecessor's state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ActorId {
    /// Kind of the resource.
    pub kind: Kind,
    /// Its UID.
    pub uid: Box<str>,
    /// Pool and cell, for a PoolActor.
    pub pool: Option<(Box<str>, Box<str>)>,
    /// The TopologyActor of a MultigresCluster.
    pub topology: bool,
}

impl ActorId {
    /// The actor of a custom resource.
    pub fn custom(kind: Kind, uid: &str) -> Self {
        Self {
            kind,
            uid: uid.into(),
            pool: None,
            topology: false,
        }
    }

    /// The actor of a cluster's topology.
    pub fn topology(cluster: &str) -> Self {
        Self {
            topology: true,
            ..Self::custom(Kind::MultigresCluster, cluster)
        }
    }

    /// The actor of a pool in a cell.
    pub fn pool(shard: &str, pool: &str, cell: &str) -> Self {
        Self {
            kind: Kind::Shard,
            uid: shard.into(),
            pool: Some((pool.into(), cell.into())),
            topology: false,
        }
    }

    /// The name of its room.
    pub const fn room(&self) -> &'static str {
        match (self.kind, &self.pool) {
            (_, Some(_)) => "PoolActor",
            _ if self.topology => "TopologyActor",
            (Kind::MultigresCluster, _) => "ClusterActor",
            (Kind::TopoServer, _) => "TopoServerActor",
            (Kind::Cell, _) => "CellActor",
            (Kind::TableGroup, _) => "TableGroupActor",
            _ => "ShardActor",
        }
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}", self.room(), self.uid)?;
        if let Some((pool, cell)) = &self.pool {
            write!(f, ", {pool}, {cell}")?;
        }
        f.write_str(")")
    }
}

/// Everything a decision may look at: one consistent snapshot of a cluster's objects.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The actor's own resource.
    pub me: Rc<Entry>,
    /// All objects of the same MultigresCluster, sorted by key.
    pub group: Vec<Rc<Entry>>,
    /// Failed writes by object.
    pub troubles: BTreeMap<Key, Trouble>,
    /// User objects we refer to.
    pub references: BTreeMap<Key, Reference>,
    /// Templates of the namespace, sorted by key (ClusterActor only).
    pub templates: Vec<Rc<Entry>>,
    /// Optional kinds that the API server serves; objects of others must not be asked for.
    pub served: BTreeSet<Kind>,
    /// What pools want, and pools whose actor is stalled with the reason (ShardActor only).
    pub wants: BTreeMap<(Box<str>, Box<str>), PoolReport>,
    /// What is known of the cluster's topology; `None`: this operator does not look at topologies.
    pub topology: Option<Rc<Known>>,
    /// What its poolers say (ShardActor only); `None`: this operator does not talk to the data plane.
    pub poolers: Option<Poolers>,
}

/// What a PoolActor tells its ShardActor: the newest state, never a delta.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolReport {
    /// Pods it wants taken away.
    pub wants: Vec<Want>,
    /// What stands in its way.
    pub obstacles: Vec<Obstacle>,
    /// What was asked of its volumes and cannot be done, or not while their pods run.
    pub volumes: Vec<Obstacle>,
    /// Something that decides about its pods is not known yet, so no want says nothing.
    pub undecided: bool,
    /// The pool's actor gave up, with the reason.
    pub stalled: Option<String>,
}

/// PoolActor → ShardActor, after each decision of the pool. Repeating one is harmless; a lost one is told again with the
/// pool's next decision, which a new life of the shard asks for.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Report {
    /// Pool and cell.
    pub from: (Box<str>, Box<str>),
    /// The newest state.
    pub report: PoolReport,
}

impl Observed {
    /// The object of this name.
    pub fn get(&self, key: &Key) -> Option<&Rc<Entry>> {
        self.group
            .binary_search_by(|entry| entry.key().cmp(key))
            .ok()
            .and_then(|index| self.group.get(index))
    }

    /// What the topology says of our own shard; `None`: nothing yet, or this operator does not look at topologies.
    pub fn records(&self) -> Option<&Rc<Records>> {
        let shard = shard_of(&self.me)?;
        self.topology.as_ref()?.shards.get(&shard)
    }

    /// Is this cell's record in the topology, as far as workloads have to wait for it?
    pub fn registered(&self, cell: &str) -> bool {
        let known = self.topology.as_ref();
        known.is_none_or(|known| known.cells.contains(cell))
    }

    /// The template of this name.
    pub fn template(&self, key: &Key) -> Option<&Rc<Entry>> {
        self.templates.iter().find(|entry| entry.key() == key)
    }

    /// Objects of a kind that our resource controls.
    pub fn controlled(&self, kind: Kind) -> impl Iterator<Item = &Rc<Entry>> {
        self.group.iter().filter(move |entry| {
            entry.key().kind == kind && entry.owner.as_deref() == Some(self.me.uid.as_ref())
        })
    }

    /// Objects of a kind that carry all these labels.
    pub fn labelled<'a>(
        &'a self,
        kind: Kind,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Rc<Entry>> {
        self.group.iter().filter(move |entry| {
            entry.key().kind == kind
                && labels
                    .iter()
                    .all(|(name, value)| entry.label(name) == Some(value))
        })
    }
}

/// One kind of actor.
pub trait Room: Unpin + 'static {
    /// What it remembers between decisions; lost on restart without harm.
    type State: Clone + Default + Serialize + Unpin + 'static;

    /// The decision: pure, without clock, randomness, client or logging.
    fn decide(
        id: &ActorId,
        observed: &Observed,
        state: &Self::State,
        now: Timestamp,
        defaults: &crds::resolve::OperatorDefaults,
    ) -> Decision<Self::State>;
}

/// "Look at your snapshot": sent by the supervisor when the inbox turned dirty. A repeated or lost one costs time only.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Wake;

/// Asks for the state; answered from memory.
#[derive(Message)]
#[rtype(result = "Value")]
pub struct Inspect;

/// The resource is gone: end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;

/// What a channel brings, for an actor that handles it as a stream.
pub fn stream<T>(channel: tokio::sync::mpsc::Receiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(channel, |mut channel| async move {
        Some((channel.recv().await?, channel))
    })
}
