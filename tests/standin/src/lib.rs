//! A stand-in for the data plane of Multigres, for tests of the operator on a control plane without containers.
//!
//! [`shard::Shard`] is the model: deterministic, without clock or network. It plays what `topology.md` 5 describes as far
//! as an operator can see it. It proves the operator's side only; election safety, durability and backups are claimed from
//! real Multigres processes alone.

pub mod backup;
pub mod ledger;
pub mod lsn;
pub mod message;
pub mod name;
pub mod net;
pub mod policy;
pub mod pooler;
pub mod rule;
pub mod settings;
pub mod shard;
pub mod timing;
pub mod volume;
pub mod wal;
