//! A small HTTP port of the binary: faults, shards and ledgers, as JSON.
//!
//! | request | effect |
//! |---|---|
//! | `GET /faults` | all peers with faults |
//! | `PUT /faults/NAMESPACE/POD` with [`Faults`] | what is wrong with the peer from now on; `{}` ends it |
//! | `GET /shards` | root, name, primary, members, problems, ledger of every shard |
//! | `POST /switch/DATABASE/TABLEGROUP/SHARD?root=ROOT&to=CELL/NAME` | another leader, at once |
//! | `POST /write/DATABASE/TABLEGROUP/SHARD?root=ROOT` | a client writes |
//! | `GET /calls` | calls that the stand-ins were sent |

use std::sync::Arc;

use serde_json::{Value, json};
use tonic::{body::Body, codegen::Body as _};

use super::{
    fault::Faults,
    fleet::Fleet,
    live::Live,
    server::{Answer, Answering, Request, Response, text},
};
use crate::{
    name::{Id, ShardKey},
    shard::Written,
};

/// The port's service.
pub struct Control(pub Arc<Fleet>);

impl Answer for Control {
    fn answer(self: Arc<Self>, request: Request) -> Answering {
        Box::pin(async move { self.route(request).await })
    }
}

fn answer(value: &Value) -> Response {
    text(200, value.to_string())
}

async fn body(mut body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut pinned = std::pin::Pin::new(&mut body);
    // An interrupted body is not JSON, which the caller is told.
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| pinned.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    bytes
}

impl Control {
    async fn route(&self, request: Request) -> Response {
        let (parts, content) = request.into_parts();
        let path: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
        let query = parts.uri.query().unwrap_or_default();
        match (parts.method.as_str(), path.as_slice()) {
            ("GET", ["faults"]) => answer(&json!(self.0.faults.all())),
            ("PUT", ["faults", namespace, pod]) => {
                match serde_json::from_slice::<Faults>(&body(content).await) {
                    Ok(faults) => {
                        self.0.faults.set(&format!("{namespace}/{pod}"), faults);
                        text(200, "{}")
                    }
                    Err(error) => text(400, error.to_string()),
                }
            }
            ("GET", ["shards"]) => answer(&Value::Array(self.shards())),
            ("GET", ["calls"]) => {
                let calls = self.0.calls();
                answer(&json!({"rpc": calls.rpc(), "http": calls.http()}))
            }
            ("POST", [verb @ ("switch" | "write"), database, table_group, shard]) => {
                let key = ShardKey {
                    database: (*database).to_owned(),
                    table_group: (*table_group).to_owned(),
                    shard: (*shard).to_owned(),
                };
                match self.shard(&key, parameter(query, "root")) {
                    None => text(404, "no such shard"),
                    Some(live) if *verb == "write" => write(&live),
                    Some(live) => switch(&live, parameter(query, "to")),
                }
            }
            _ => text(404, "not found"),
        }
    }

    fn shard(&self, key: &ShardKey, root: Option<&str>) -> Option<Arc<Live>> {
        let shards = self.0.shards();
        let found = shards
            .into_iter()
            .find(|(own, name, _)| name == key && root.is_none_or(|root| root == own));
        found.map(|(_, _, live)| live)
    }

    fn shards(&self) -> Vec<Value> {
        let shards = self.0.shards();
        let shards = shards.into_iter().map(|(root, key, live)| {
            live.read(|shard, now| {
                let seconds = |outage: std::time::Duration| outage.as_secs_f64();
                json!({
                    "root": root,
                    "shard": key,
                    "primary": shard.primary(),
                    "rule": shard.rule(),
                    "problems": shard.problems(),
                    "backups": shard.repository.backups.len(),
                    "ledger": {
                        "acknowledged": shard.ledger.acknowledged,
                        "violations": shard.ledger.violations(),
                        "withoutPrimarySeconds": seconds(shard.ledger.without_primary.total(now)),
                        "withoutWritesSeconds": seconds(shard.ledger.without_writes.total(now)),
                        "mostAbsent": shard.ledger.most_absent,
                    },
                })
            })
        });
        shards.collect()
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn write(live: &Live) -> Response {
    let written = live.change(|shard, now| shard.write(now));
    let word = match written {
        Written::Acknowledged => "acknowledged",
        Written::Waiting => "waiting",
        Written::Refused => "refused",
    };
    answer(&json!({"write": word}))
}

fn switch(live: &Live, to: Option<&str>) -> Response {
    let to = to.and_then(|to| to.split_once('/'));
    let to = to.map(|(cell, name)| Id::pooler(cell, name));
    live.change(|shard, now| shard.switch(to, now));
    text(200, "{}")
}
