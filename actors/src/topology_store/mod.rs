//! The topology store: what is read from it, what we write, and every decision about it, without a client or a clock.
//!
//! | module | question |
//! | --- | --- |
//! | [`key`], [`record`] | what does a key hold, what does its value say, is it garbage? |
//! | [`wire`], [`edit`] | how is one field changed without touching what we do not know? |
//! | [`view`] | what is the newest known state of each store, and is that all there is? |
//! | [`identity`] | which pod does a record belong to? |
//! | [`desired`], [`register`] | which cells and databases belong there, which writes are missing? |
//! | [`prune`] | what is surely gone? |
//! | [`peer`], [`reach`] | may this peer be called now, is the topology reachable? |
//!
//! The same for a shard: [`members`](crate::shard::members) (roles, leader, cohort), [`quorum`](crate::shard::quorum) (may a
//! member be missing?), [`backup`](crate::shard::backup). I/O: [`etcd`](crate::effects::etcd) for stores,
//! [`dataplane`](crate::effects::dataplane) for processes.
//!
//! # Wiring
//!
//! One actor per cluster holds [`view::Views`], [`register::State`], [`prune::State`], a [`peer::Peer`] per member, and one
//! [`Store`](crate::effects::etcd::Store) per distinct `Access` (addresses of members from the pods' informer, or the user's
//! endpoints). Cells whose store is the global one map to `None` in `Views::cells`. Cells that are on their way out stay in
//! `Views` until their record is gone.
//!
//! 1. `Store::open` with a sender into the actor; another `Access` is another `Store` with the next `life`; drop reports of
//!    earlier lives. Dropping a `Store` ends it.
//! 2. A report goes into view and peers: `Read` → `View::replace` (true: the history was wiped) and `Peer::learn(Answered)`;
//!    `Changed` → `View::advance`; `Lost` → `View::lost` and `Peer::learn(Unreachable)`; `Written::Done` and `Conflict` →
//!    `View::wrote`, and for every `Written` then `register::State::answered` or `prune::State::answered`. The view comes
//!    first, so that no write is decided twice.
//! 3. After each change, and at each `wake`: `register::decide`, then `prune::decide` with `registered` = its `settled`. Send
//!    writes with `Store::write`. `Pruning::confirm` asks for a live read (a pod; the MultigresCluster and, for a cell, its
//!    Cell): answer with `prune::State::confirmed`, `None` when the read failed.
//! 4. `Held` and `View::garbage` are shown (condition, introspection), [`reach::judge`] gives `TopologyReachable`.
//! 5. Tell the ShardActors the newest records of their shard; they call [`members::resolve`](crate::shard::members::resolve)
//!    with what their [`Link`](crate::effects::dataplane::Link)s heard. A link per pool pod (with health) and per multiorch
//!    pod (without), by pod address; `Peer::may_call` before each `Link::call`.
//! 6. Backups: ask (`Call::GetBackups`) when nothing is known, when a shard's backup lock disappears from the global view, and
//!    at the `wake` of [`backup::judge`](crate::shard::backup::judge) before it turns stale for good.

pub mod desired;
pub mod edit;
pub mod identity;
pub mod key;
pub mod peer;
pub mod prune;
pub mod reach;
pub mod record;
pub mod register;
mod suspects;
pub mod view;
pub mod wire;

use serde::Serialize;

/// One compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Key.
    pub key: Box<str>,
    /// The new value; `None` deletes.
    pub value: Option<Vec<u8>>,
    /// The version (`mod_revision`) that must still be there; 0: the key must not exist.
    pub version: i64,
    /// Why, for introspection.
    pub reason: &'static str,
}

/// Something that is wrong and that we leave alone, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Held {
    /// Key.
    pub key: Box<str>,
    /// Why.
    pub why: String,
}
