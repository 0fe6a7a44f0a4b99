//! All objects of a cluster, as its actors would ask for them.

use std::collections::{BTreeMap, BTreeSet};

use actors::object::{Desired, Kind};
use crds::resolve::{OperatorDefaults, Templates, resolve};
use crds::{Cell, MultigresCluster, Shard, TableGroup, TopoServer};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// A custom resource as the API server would hand it out, with a uid made up from its name.
fn received<T: DeserializeOwned>(body: &Value, uid: fn(&str) -> String) -> T {
    let mut body = body.clone();
    let name = body["metadata"]["name"].as_str().unwrap().to_owned();
    body["metadata"]["uid"] = uid(&name).into();
    body.as_object_mut().unwrap().remove("status");
    serde_json::from_value(body).unwrap()
}

pub fn cluster_of(text: &str) -> Value {
    let mut all = documents(text).into_iter();
    let mut cluster = all.find(|d| d["kind"] == "MultigresCluster").unwrap();
    // The samples leave it to who applies them.
    cluster["metadata"]["namespace"] = "default".into();
    cluster
}

/// The templates of a file.
pub fn templates_of(text: &str) -> Templates {
    let mut templates = Templates::default();
    for document in documents(text) {
        let name = document["metadata"]["name"].as_str().unwrap().to_owned();
        match document["kind"].as_str().unwrap() {
            "CoreTemplate" => {
                let template = serde_json::from_value(document).unwrap();
                templates.core.insert(name, template);
            }
            "CellTemplate" => {
                let template = serde_json::from_value(document).unwrap();
                templates.cell.insert(name, template);
            }
            "ShardTemplate" => {
                let template = serde_json::from_value(document).unwrap();
                templates.shard.insert(name, template);
            }
            _ => {}
        }
    }
    templates
}

pub fn uid_of(name: &str) -> String {
    format!("uid-of-{name}")
}

/// All objects of a cluster: each level is rendered from the custom resources of the level above.
pub fn render_with(
    cluster: &Value,
    templates: &Templates,
    uid: fn(&str) -> String,
) -> Vec<Desired> {
    let cluster: MultigresCluster = received(cluster, uid);
    let defaults = OperatorDefaults::with_images(&BTreeMap::new());
    let resolved = resolve(&cluster, templates, &defaults).unwrap();
    let mut waiting = actors::cluster::objects::render(&cluster, &resolved).unwrap();
    let mut all = Vec::new();
    while !waiting.is_empty() {
        let mut next = Vec::new();
        for desired in &waiting {
            let body = &desired.body;
            next.extend(match desired.key.kind {
                Kind::TopoServer => {
                    actors::toposerver::objects::render(&received::<TopoServer>(body, uid)).unwrap()
                }
                Kind::Cell => actors::cell::objects::render(&received::<Cell>(body, uid)).unwrap(),
                Kind::TableGroup => {
                    actors::tablegroup::objects::render(&received::<TableGroup>(body, uid)).unwrap()
                }
                Kind::Shard => shard(&received(body, uid)),
                _ => Vec::new(),
            });
        }
        all.append(&mut waiting);
        waiting = next;
    }
    all
}

fn shard(shard: &Shard) -> Vec<Desired> {
    let objects = actors::shard::objects::render(shard).unwrap();
    let mut all = objects.base;
    all.extend(objects.multiorch);
    if let Some(plan) = actors::shard::certificates::wanted(shard, &BTreeSet::new()).unwrap() {
        all.extend([plan.ca, plan.leaf]);
    }
    for (name, pool) in &shard.spec.pools {
        let name = name.to_string();
        for cell in &pool.cells {
            let cell = cell.to_string();
            all.push(actors::pool::objects::headless_service(shard, &name, &cell).unwrap());
            for index in 0..pool.replicas_per_cell.unwrap_or(1) {
                all.push(actors::pool::objects::claim(shard, &name, &cell, index).unwrap());
                all.push(actors::pool::objects::pod(shard, &name, &cell, index).unwrap());
            }
        }
    }
    all
}
