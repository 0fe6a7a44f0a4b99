//! What a record says, decoded into the little that decisions need. A value that cannot be decoded, or that names another
//! thing than its key does, is [`Garbage`]: shown, and never acted on.

use jiff::Timestamp;
use prost::Message;
use serde::Serialize;
use thiserror::Error;

use super::key::{Component, Path, ShardId};
use crate::proto::clustermetadata as wire;

/// Number of a rule; the greater one is the newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    /// Term of the coordinator that made it.
    pub term: i64,
    /// Step within the term.
    pub subterm: i64,
}

impl From<wire::RuleNumber> for Rule {
    fn from(rule: wire::RuleNumber) -> Self {
        Self {
            term: rule.coordinator_term,
            subterm: rule.leader_subterm,
        }
    }
}

/// A process of the data plane: its cell and its service id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ProcessId {
    /// Cell.
    pub cell: Box<str>,
    /// Service id.
    pub name: Box<str>,
}

impl ProcessId {
    /// Both parts.
    pub fn new(cell: &str, name: &str) -> Self {
        Self {
            cell: cell.into(),
            name: name.into(),
        }
    }
}

impl From<wire::Id> for ProcessId {
    fn from(id: wire::Id) -> Self {
        Self {
            cell: id.cell.into(),
            name: id.name.into(),
        }
    }
}

/// Where a pooler is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Lifecycle {
    /// The record does not say, or says something newer than this version: alive as far as we know.
    #[default]
    Unknown,
    /// Not yet seen PostgreSQL run.
    Starting,
    /// Has seen PostgreSQL run; it need not run now.
    Active,
    /// Stops.
    Stopping,
    /// Ended, by its own word or by our mark.
    Shutdown,
    /// Gave up; only a fresh volume helps.
    Quarantined,
}

impl Lifecycle {
    /// The word in a Shard's status.
    pub const fn word(self) -> &'static str {
        match self {
            Lifecycle::Unknown => "Unknown",
            Lifecycle::Starting => "Starting",
            Lifecycle::Active => "Active",
            Lifecycle::Stopping => "Stopping",
            Lifecycle::Shutdown => "Shutdown",
            Lifecycle::Quarantined => "Quarantined",
        }
    }
}

/// What a pooler's record says of its role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Routing {
    /// Unset: before the first role and after a graceful stop.
    #[default]
    Unset,
    /// The writable leader, by its own word.
    Primary,
    /// Everything else.
    Replica,
}

/// A pooler's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pooler {
    /// Who.
    pub id: ProcessId,
    /// The shard it serves.
    pub shard: ShardId,
    /// Where its peers dial it; the first label is the pod's name.
    pub hostname: Box<str>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// Its reason for that, free text.
    pub reason: Box<str>,
    /// When that changed, by the clock of whoever wrote it.
    pub updated: Option<Timestamp>,
    /// Takes queries, by its own word: true of many that cannot (`topology.md` 5.1).
    pub serving: bool,
    /// Its role, by its own word.
    pub routing: Routing,
    /// The rule under which it is primary.
    pub rule: Option<Rule>,
    /// Set aside by an administrator.
    pub drained: bool,
}

/// A gateway's or a multiorch's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Who.
    pub id: ProcessId,
    /// The pod's name, or a full name that begins with it.
    pub hostname: Box<str>,
}

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A cell.
    Cell(wire::Cell),
    /// A database.
    Database(Box<wire::Database>),
    /// Who initialises a shard.
    InitClaim(ProcessId),
    /// A backup runs.
    BackupLock,
    /// A pooler.
    Pooler(Box<Pooler>),
    /// A gateway or a multiorch.
    Process(Process),
}

/// Why a value is not a record.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
pub enum Garbage {
    /// Not a message of its kind.
    #[error("its value cannot be decoded: {0}")]
    Undecodable(String),
    /// Its content names something else than its key.
    #[error("its value says it is {0:?}")]
    Lies(String),
}

impl From<prost::DecodeError> for Garbage {
    fn from(error: prost::DecodeError) -> Self {
        Garbage::Undecodable(error.to_string())
    }
}

/// Decodes the value at a key.
///
/// # Errors
/// [`Garbage`].
pub fn decode(path: &Path, value: &[u8]) -> Result<Record, Garbage> {
    match path {
        Path::Cell(name) => {
            let cell = wire::Cell::decode(value)?;
            honest(name, &cell.name)?;
            Ok(Record::Cell(cell))
        }
        Path::Database(name) => {
            let database = wire::Database::decode(value)?;
            honest(name, &database.name)?;
            Ok(Record::Database(Box::new(database)))
        }
        Path::InitClaim(_) => {
            let claim = wire::ShardInitClaim::decode(value)?;
            Ok(Record::InitClaim(
                claim.claimer_id.unwrap_or_default().into(),
            ))
        }
        // JSON for people; its presence is all that counts.
        Path::BackupLock(_) => Ok(Record::BackupLock),
        Path::Process(Component::Pooler, key) => {
            let pooler = pooler(wire::Multipooler::decode(value)?);
            honest(key, &Component::Pooler.id(&pooler.id.cell, &pooler.id.name))?;
            Ok(Record::Pooler(Box::new(pooler)))
        }
        Path::Process(component, key) => {
            let (id, hostname) = match component {
                Component::Gateway => {
                    let gateway = wire::Multigateway::decode(value)?;
                    (gateway.id, gateway.hostname)
                }
                _ => {
                    let orch = wire::Multiorch::decode(value)?;
                    (orch.id, orch.hostname)
                }
            };
            let id: ProcessId = id.unwrap_or_default().into();
            honest(key, &component.id(&id.cell, &id.name))?;
            Ok(Record::Process(Process {
                id,
                hostname: hostname.into(),
            }))
        }
    }
}

fn honest(key: &str, said: &str) -> Result<(), Garbage> {
    if key == said {
        Ok(())
    } else {
        Err(Garbage::Lies(said.to_owned()))
    }
}

fn pooler(record: wire::Multipooler) -> Pooler {
    let drained = record.r#type() == wire::PoolerType::Drained;
    // An absent field is SERVING, and only that: what is not SERVING does not serve.
    let serving = record.serving_status == wire::PoolerServingStatus::Serving as i32;
    let shard = record.shard_key.unwrap_or_default();
    let life = record.lifecycle_status.unwrap_or_default();
    let state = record.routing_state.unwrap_or_default();
    Pooler {
        id: record.id.unwrap_or_default().into(),
        shard: ShardId::new(&shard.database, &shard.table_group, &shard.shard),
        hostname: record.hostname.into(),
        lifecycle: match life.status() {
            wire::PoolerLifecycleStatus::LifecycleUnknown => Lifecycle::Unknown,
            wire::PoolerLifecycleStatus::LifecycleStarting => Lifecycle::Starting,
            wire::PoolerLifecycleStatus::LifecycleActive => Lifecycle::Active,
            wire::PoolerLifecycleStatus::LifecycleStopping => Lifecycle::Stopping,
            wire::PoolerLifecycleStatus::LifecycleShutdown => Lifecycle::Shutdown,
            wire::PoolerLifecycleStatus::LifecycleQuarantined => Lifecycle::Quarantined,
        },
        reason: life.reason.into(),
        updated: life.updated.and_then(instant),
        serving,
        routing: match state.role() {
            wire::RoutingRole::Unknown => Routing::Unset,
            wire::RoutingRole::Primary => Routing::Primary,
            wire::RoutingRole::Replica => Routing::Replica,
        },
        rule: state.rule.map(Rule::from),
        drained,
    }
}

/// A timestamp of the wire; `None` when it lies outside the years that exist.
pub fn instant(timestamp: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(timestamp.seconds, timestamp.nanos).ok()
}
