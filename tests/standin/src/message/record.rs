//! Records that components publish in the topology (`topology.md` 2.2).

use std::{collections::BTreeMap, time::Duration};

use actors::proto::clustermetadata as wire;
use jiff::SignedDuration;

use super::{id, rule_number, shard_key, time};
use crate::{
    name::{Id, ShardKey},
    pooler::{Lifecycle, Record, Role, Serving},
};

/// Where a component is reached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Address {
    /// Its host name.
    pub host: String,
    /// Its ports by name.
    pub ports: BTreeMap<String, i32>,
}

/// What a pooler's record says beside its state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Where it is reached.
    pub address: Address,
    /// Its working folder.
    pub pooler_dir: String,
    /// PostgreSQL's data folder.
    pub data_dir: String,
}

/// A pooler's record, with timestamps of a clock that is off by so much.
pub fn pooler(
    own: &Id,
    key: &ShardKey,
    place: &Place,
    record: &Record,
    skew: SignedDuration,
) -> wire::Multipooler {
    let kind = match record.role {
        None => wire::PoolerType::Unknown,
        Some(Role::Primary) => wire::PoolerType::Primary,
        Some(Role::Replica) => wire::PoolerType::Replica,
    };
    wire::Multipooler {
        id: Some(id(own)),
        shard_key: Some(shard_key(key)),
        key_range: None,
        r#type: kind.into(),
        serving_status: serving(record.serving).into(),
        hostname: place.address.host.clone(),
        port_map: place.address.ports.clone(),
        pooler_dir: place.pooler_dir.clone(),
        pg_data_dir: place.data_dir.clone(),
        lifecycle_status: Some(wire::PoolerLifecycle {
            status: lifecycle(record.lifecycle).into(),
            reason: record.reason.clone(),
            updated: Some(time(
                record.updated.checked_add(skew).unwrap_or(record.updated),
            )),
        }),
        routing_state: routing(record),
    }
}

/// What a gateway may use a pooler for.
pub fn routing(record: &Record) -> Option<wire::RoutingState> {
    let role = match record.role? {
        Role::Primary => wire::RoutingRole::Primary,
        Role::Replica => wire::RoutingRole::Replica,
    };
    Some(wire::RoutingState {
        role: role.into(),
        rule: record.rule.map(rule_number),
    })
}

/// Whether a pooler takes queries.
pub fn serving(serving: Serving) -> wire::PoolerServingStatus {
    match serving {
        Serving::Serving => wire::PoolerServingStatus::Serving,
        Serving::Disabled => wire::PoolerServingStatus::Disabled,
        Serving::Draining => wire::PoolerServingStatus::Draining,
    }
}

fn lifecycle(lifecycle: Lifecycle) -> wire::PoolerLifecycleStatus {
    match lifecycle {
        Lifecycle::Starting => wire::PoolerLifecycleStatus::LifecycleStarting,
        Lifecycle::Active => wire::PoolerLifecycleStatus::LifecycleActive,
        Lifecycle::Stopping => wire::PoolerLifecycleStatus::LifecycleStopping,
        Lifecycle::Shutdown => wire::PoolerLifecycleStatus::LifecycleShutdown,
        Lifecycle::Quarantined => wire::PoolerLifecycleStatus::LifecycleQuarantined,
    }
}

/// The lifecycle that a record tells, whoever wrote it; nothing in records that tell none.
pub fn parse_lifecycle(record: &wire::Multipooler) -> Option<Lifecycle> {
    use wire::PoolerLifecycleStatus as Status;
    Some(match record.lifecycle_status.as_ref()?.status() {
        Status::LifecycleUnknown => return None,
        Status::LifecycleStarting => Lifecycle::Starting,
        Status::LifecycleActive => Lifecycle::Active,
        Status::LifecycleStopping => Lifecycle::Stopping,
        Status::LifecycleShutdown => Lifecycle::Shutdown,
        Status::LifecycleQuarantined => Lifecycle::Quarantined,
    })
}

/// A coordinator's record.
pub fn orch(own: &Id, address: &Address) -> wire::Multiorch {
    wire::Multiorch {
        id: Some(id(own)),
        hostname: address.host.clone(),
        port_map: address.ports.clone(),
    }
}

/// A gateway's record.
pub fn gateway(own: &Id, address: &Address, pid_prefix: u32) -> wire::Multigateway {
    wire::Multigateway {
        id: Some(id(own)),
        hostname: address.host.clone(),
        port_map: address.ports.clone(),
        pid_prefix,
    }
}

/// A duration as a clock's error, forward or backward.
pub fn skew(length: Duration, backward: bool) -> SignedDuration {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::ZERO);
    if backward { -length } else { length }
}
