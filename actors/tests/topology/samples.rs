//! Records as the data plane writes them, and helpers.

use std::collections::BTreeMap;

use actors::proto::clustermetadata as wire;
use actors::topology_store::key::Component;
use actors::topology_store::view::Item;
use jiff::Timestamp;
use prost::Message;
use serde::Deserialize;

/// A record of real Multigres processes.
#[derive(Deserialize)]
pub struct Sample {
    pub key: String,
    pub mod_revision: i64,
    pub hex: String,
}

/// Real records in order of arrival: settled, a graceful stop and start of a replica, a planned switchover.
pub fn real() -> Vec<Sample> {
    #[derive(Deserialize)]
    struct File {
        records: Vec<Sample>,
    }
    let text = include_str!("../samples/topology.json");
    serde_json::from_str::<File>(text).unwrap().records
}

/// An answer of real Multigres processes, decoded.
pub fn answer<M: Message + Default>(what: &str) -> M {
    #[derive(Deserialize)]
    struct Answer {
        what: String,
        hex: String,
    }
    #[derive(Deserialize)]
    struct File {
        answers: Vec<Answer>,
    }
    let file: File = serde_json::from_str(include_str!("../samples/answers.json")).unwrap();
    let found = file.answers.into_iter().find(|answer| answer.what == what);
    M::decode(&bytes(&found.unwrap().hex)[..]).unwrap()
}

pub fn real_at(revision: i64) -> Vec<u8> {
    let sample = real()
        .into_iter()
        .find(|sample| sample.mod_revision == revision);
    bytes(&sample.unwrap().hex)
}

pub fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn id(cell: &str, name: &str) -> wire::Id {
    wire::Id {
        component: wire::id::ComponentType::Multipooler as i32,
        cell: cell.to_owned(),
        name: name.to_owned(),
    }
}

/// A live replica of `postgres/default/0-inf` in the pod `pod` of namespace `db`.
pub fn pooler(cell: &str, pod: &str) -> wire::Multipooler {
    wire::Multipooler {
        id: Some(id(cell, &crds::name::service_id(pod))),
        shard_key: Some(wire::ShardKey {
            database: "postgres".to_owned(),
            table_group: "default".to_owned(),
            shard: "0-inf".to_owned(),
        }),
        hostname: format!("{pod}.demo-pods.db.svc.cluster.local"),
        port_map: BTreeMap::from([("grpc".to_owned(), 15270)]),
        lifecycle_status: Some(wire::PoolerLifecycle {
            status: wire::PoolerLifecycleStatus::LifecycleActive.into(),
            reason: "pooler active".to_owned(),
            updated: Some(prost_types::Timestamp {
                seconds: 1_000,
                nanos: 0,
            }),
        }),
        routing_state: Some(wire::RoutingState {
            role: wire::RoutingRole::Replica.into(),
            rule: None,
        }),
        ..Default::default()
    }
}

pub fn pooler_item(root: &str, record: &wire::Multipooler, version: i64) -> Item {
    let id = record.id.clone().unwrap();
    item(
        &format!(
            "{root}/poolers/{}/Pooler",
            Component::Pooler.id(&id.cell, &id.name)
        ),
        &record.encode_to_vec(),
        version,
    )
}

pub fn item(key: &str, value: &[u8], version: i64) -> Item {
    Item {
        key: key.to_owned(),
        value: Some(value.to_vec()),
        version,
    }
}
