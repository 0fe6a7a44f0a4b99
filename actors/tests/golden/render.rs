//! All objects of a cluster's manifest, as its actors would ask for them.

use std::collections::BTreeMap;

use actors::object::Desired;
use crds::MultigresCluster;
use crds::resolve::{OperatorDefaults, Templates, resolve};
use serde_json::Value;

#[path = "../tree/mod.rs"]
mod tree;

pub use tree::uid_of;

pub fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
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

/// All objects of a cluster with these templates.
pub fn render_with(
    cluster: &Value,
    templates: &Templates,
    uid: fn(&str) -> String,
) -> Vec<Desired> {
    let cluster: MultigresCluster = tree::received(cluster, uid);
    let defaults = OperatorDefaults::with_images(&BTreeMap::new());
    let resolved = resolve(&cluster, templates, &defaults).unwrap();
    tree::render(&cluster, &resolved, uid).unwrap()
}
