//! What admission writes into a user's object (`admission.md` 2.10): constants only, at absent paths only. Nothing that a template,
//! an enclosing level, the number of cells or a release decides is written, so a stored object means what its manifest means, and
//! an edit of either means the same (L-HOOK-02, L-GIT-01).
//!
//! `spec.backup` is left out on purpose: once it is stored, encryption could not be added any more (CEL-26).

use serde_json::{Map, Value, json};

/// A value to add where nothing stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Addition {
    /// JSON pointer (RFC 6901) of the member in the whole object.
    pub path: String,
    /// Its value.
    pub value: Value,
}

/// The golden list: members of `spec` and what they mean when absent. No release changes it.
fn constants() -> Value {
    let info = "info";
    json!({
        "images": {"imagePullPolicy": "IfNotPresent"},
        "logLevels": {
            "pgctld": info, "multipooler": info, "multiorch": info, "multiadmin": info, "multigateway": info,
        },
        "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        "topologyPruning": {"enabled": true},
        "durabilityPolicy": "AT_LEAST_2",
        "postgresSuperuser": "postgres",
        "databases": [{"name": "postgres", "default": true, "tablegroups": table_groups()}],
    })
}

fn table_groups() -> Value {
    json!([{"name": "default", "default": true, "shards": shards()}])
}

fn shards() -> Value {
    json!([{"name": "0-inf"}])
}

/// What is to be added to a MultigresCluster; nothing when it was added before.
pub fn additions(cluster: &Value) -> Vec<Addition> {
    let mut found = Vec::new();
    match cluster.get("spec") {
        None | Some(Value::Null) => found.push(Addition {
            path: "/spec".to_owned(),
            value: constants(),
        }),
        Some(spec) => {
            missing("/spec", spec, &constants(), &mut found);
            catalogue(spec, &mut found);
        }
    }
    found
}

/// Members of `wanted` that `given` lacks, at any depth. Lists are taken as they are.
fn missing(at: &str, given: &Value, wanted: &Value, found: &mut Vec<Addition>) {
    let (Value::Object(given), Value::Object(wanted)) = (given, wanted) else {
        return;
    };
    for (name, value) in wanted {
        let path = format!("{at}/{name}");
        match given.get(name) {
            None => found.push(Addition {
                path,
                value: value.clone(),
            }),
            Some(there) => missing(&path, there, value, found),
        }
    }
}

/// Databases without table groups, and table groups without shards.
fn catalogue(spec: &Value, found: &mut Vec<Addition>) {
    let list = |of: &Value, name: &str| of.get(name).and_then(Value::as_array).cloned();
    let databases = list(spec, "databases").unwrap_or_default();
    for (d, database) in databases.iter().enumerate() {
        let path = format!("/spec/databases/{d}/tablegroups");
        let Some(groups) = list(database, "tablegroups") else {
            absent(database, "tablegroups", &path, table_groups(), found);
            continue;
        };
        for (g, group) in groups.iter().enumerate() {
            absent(
                group,
                "shards",
                &format!("{path}/{g}/shards"),
                shards(),
                found,
            );
        }
    }
}

fn absent(of: &Value, name: &str, path: &str, value: Value, found: &mut Vec<Addition>) {
    if of.is_object() && of.get(name).is_none() {
        found.push(Addition {
            path: path.to_owned(),
            value,
        });
    }
}

/// The object with everything added.
pub fn materialise(cluster: &Value) -> Value {
    let mut result = cluster.clone();
    for Addition { path, value } in additions(cluster) {
        add(&mut result, &path, value);
    }
    result
}

/// Parents exist: additions stand directly in what is there.
fn add(object: &mut Value, path: &str, value: Value) {
    let Some((parent, name)) = path.rsplit_once('/') else {
        return;
    };
    if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        Map::insert(parent, name.to_owned(), value);
    }
}
