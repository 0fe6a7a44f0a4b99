//! What the supervisor is told and asked.

use std::sync::Arc;

use actix::prelude::*;
use serde_json::Value;

use crate::effects::dataplane::Tls;
use crate::effects::executor::Answer;
use crate::entry::Entry;
use crate::object::{Key, Kind};
use crate::room::ActorId;
use crate::topology_store::peer::Outcome;

/// What comes in from outside the actors' thread.
#[derive(Debug)]
pub enum Inflow {
    /// A list of this kind begins, in this epoch.
    Listing(Kind),
    /// An object was listed, added or changed.
    Seen(Box<Entry>),
    /// The list is complete.
    Listed(Kind, u64),
    /// An optional kind is not served in this epoch: nothing of it can exist.
    Unserved(Kind, u64),
    /// An object left the watch: deleted, or stripped of its label.
    Left(Key, Box<str>),
    /// A list of the users' objects of a kind ([`Kind::FOREIGN`]) begins.
    ForeignListing(Kind),
    /// A user's object has this version, or is gone.
    Foreign(Key, Option<u64>),
    /// That list is complete.
    ForeignListed(Kind),
    /// A request was answered.
    Answer(Box<Answer>),
    /// Leadership came or went.
    Leadership(bool),
    /// The operator's certificate for a cluster was read from this Secret, when it had this content.
    Identity(Key, u64, Result<Arc<Tls>, (String, Outcome)>),
}

/// A life ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Exited {
    /// Whose.
    pub id: ActorId,
    /// Which of its lives.
    pub incarnation: u64,
    /// By a panic.
    pub panicked: bool,
}

/// What introspection asks for.
#[derive(Clone, Debug)]
pub enum Inspection {
    /// Every actor, in short, with executor and store.
    Actors,
    /// The actors of one cluster.
    Cluster {
        /// Namespace.
        namespace: String,
        /// Name of the MultigresCluster.
        name: String,
    },
    /// One shard and its pools.
    Shard {
        /// Namespace.
        namespace: String,
        /// Name of the Shard.
        name: String,
    },
}

/// A question from outside.
#[derive(Message)]
#[rtype(result = "Option<Value>")]
pub struct Question(pub Inspection);

/// Asks for metrics.
#[derive(Message)]
#[rtype(result = "Vec<crate::metric::Sample>")]
pub struct Collect;

/// Stop writing; answered when nothing is under way.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Is the actors' thread alive? The answer is the sign of life.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ping;
