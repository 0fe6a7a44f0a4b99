//! What the tests of the resolver share: everything a resolution leads to, as JSON under names, and random manifests. The cluster
//! tests include this file too.
#![allow(dead_code, reason = "every test binary uses its part")]

pub mod random;

use std::collections::BTreeMap;

use crds::resolve::{OperatorDefaults, Problem, ResolvedCluster, Templates, resolve, shard_spec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The named outputs of a resolution: child specs, what the cluster's own objects need, or the refusal.
pub fn outputs(cluster: &Value, templates: &Templates, defaults: &OperatorDefaults) -> Value {
    let cluster = serde_json::from_value(cluster.clone()).unwrap();
    match resolve(&cluster, templates, defaults) {
        Ok(resolved) => named(&resolved),
        Err(problems) => refusal(&problems),
    }
}

fn refusal(problems: &[Problem]) -> Value {
    json!({"refused": problems})
}

fn named(of: &ResolvedCluster) -> Value {
    let mut all = Map::new();
    let mut put = |name: String, value: Value| {
        assert!(all.insert(name.clone(), value).is_none(), "{name} twice");
    };
    put("topology".into(), json!(of.topology));
    put("topologyRef".into(), json!(of.topology_ref));
    put(
        "multiadmin".into(),
        json!([of.multiadmin, of.multiadmin_placement]),
    );
    put("multiadminWeb".into(), json!(of.multiadmin_web));
    put("status.images".into(), of.rollout.status());
    put("record".into(), json!(of.rollout.record));
    put(
        "pull".into(),
        json!([of.image_pull_policy, of.image_pull_secrets]),
    );
    put("logLevels".into(), json!(of.log_levels));
    put("observability".into(), json!(of.observability));
    put("superuser".into(), json!(of.superuser));
    put("internalTLS".into(), json!(of.internal_tls));
    put("certCommonName".into(), json!(of.cert_common_name));
    put("externalGateway".into(), json!(of.external_gateway));
    put("externalAdminWeb".into(), json!(of.external_admin_web));
    put("topologyPruning".into(), json!(of.topology_pruning));
    for cell in &of.cells {
        let mut spec = json!(cell);
        // A set (`x-kubernetes-list-type`): its order means nothing.
        if let Some(cells) = spec["allCells"].as_array_mut() {
            cells.sort_by_key(ToString::to_string);
        }
        put(format!("Cell {}", cell.name), spec);
    }
    for group in &of.table_groups {
        let name = format!("{}/{}", group.database_name, group.table_group_name);
        for shard in &group.shards {
            put(
                format!("Shard {name}/{}", shard.name),
                json!(shard_spec(group, shard)),
            );
        }
        let mut spec = json!(group);
        spec.as_object_mut().unwrap().remove("shards");
        put(format!("TableGroup {name}"), spec);
    }
    Value::Object(all)
}

/// Templates from their objects.
pub fn templates(objects: &[Value]) -> Templates {
    fn of<T: DeserializeOwned>(objects: &[Value], kind: &str) -> BTreeMap<String, T> {
        let own = objects.iter().filter(|object| object["kind"] == kind);
        own.map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            (name, serde_json::from_value(object.clone()).unwrap())
        })
        .collect()
    }
    Templates {
        core: of(objects, "CoreTemplate"),
        cell: of(objects, "CellTemplate"),
        shard: of(objects, "ShardTemplate"),
    }
}

/// How many cases a property gets: `MULTIGRES_CASES`, else `usual`.
pub fn cases(usual: u32) -> u32 {
    let given = std::env::var("MULTIGRES_CASES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The operator of the tests: compiled images.
pub fn defaults() -> OperatorDefaults {
    OperatorDefaults::with_images(&BTreeMap::new())
}

/// The annotation of a cluster that runs an older set of images.
pub const OLD_IMAGES: &str = r#"{"multigateway":"old","multiorch":"old","multipooler":"old","multiadmin":"old","multiadminWeb":"old","postgres":"old"}"#;
