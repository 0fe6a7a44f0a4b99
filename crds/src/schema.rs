//! The CustomResourceDefinitions, built from two tables: `schema/fields.json` (every field of our kinds: type, bounds, default,
//! list keys, CEL rules; the format is that of the reference inventory, `api.md` 11) and `schema/embedded.json` (Kubernetes types
//! that we embed). Descriptions are the doc comments of our types (`docs.rs`) and, for statuses, `schema/status.json`. Nothing is
//! required at the root, nothing is nullable, and embedded types carry no descriptions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

mod docs;

use docs::Docs;

/// Group and version of all kinds.
const GROUP: &str = "multigres.com";
const VERSION: &str = "v1alpha1";

/// An entry of a table: one field, or the elements of one list or map.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Field {
    /// Kind of the resource; empty in embedded types.
    #[serde(default)]
    pub kind: String,
    /// JSON path with `[]` and `{}` for elements; `$` is the root.
    pub path: String,
    /// `object`, `array`, `map`, `string`, `integer`, `boolean`, `int-or-string` or `embedded:<type>`.
    #[serde(rename = "type")]
    pub of: String,
    /// Listed in the parent's `required`.
    #[serde(default)]
    pub required: bool,
    /// Default of the schema; null = none.
    #[serde(default)]
    pub default: Value,
    /// Bounds, patterns, list keys and CEL rules.
    #[serde(default)]
    pub constraints: Map<String, Value>,
}

/// All entries of our kinds.
///
/// # Errors
/// When the table is damaged.
pub fn fields() -> Result<Vec<Field>, SchemaError> {
    Ok(serde_json::from_str(include_str!("../schema/fields.json"))?)
}

/// Why no schema could be built: a mistake in a table.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A table is not valid JSON.
    #[error("unreadable table: {0}")]
    Table(#[from] serde_json::Error),
    /// A module of ours could not be read.
    #[error("unreadable source: {0}")]
    Source(syn::Error),
    /// An embedded type is missing.
    #[error("unknown embedded type {0}")]
    Embedded(String),
    /// The YAML writer failed.
    #[error("cannot write YAML: {0}")]
    Yaml(String),
}

struct Kind {
    name: &'static str,
    plural: &'static str,
    short: &'static str,
    status: bool,
    /// Name, type, JSONPath, priority.
    columns: &'static [(&'static str, &'static str, &'static str, i32)],
}

const PRIMARY: &str = ".status.members[?(@.role=='PRIMARY')].pod";
const AVAILABLE: &str = ".status.conditions[?(@.type=='Available')].status";
const READY: &str = ".status.conditions[?(@.type=='Ready')].status";
const AGE: (&str, &str, &str, i32) = ("Age", "date", ".metadata.creationTimestamp", 0);

/// The kinds (`api.md` 1). Differences: TopoServer's Ready reads the condition that exists (trap T5), the operator's kinds show
/// their age (T40), Shard shows its message under `-o wide`.
const KINDS: [Kind; 8] = [
    Kind {
        name: "MultigresCluster",
        plural: "multigresclusters",
        short: "mgc",
        status: true,
        columns: &[
            ("Available", "string", AVAILABLE, 0),
            AGE,
            ("Phase", "string", ".status.phase", 0),
            ("Images", "string", ".status.images.appliedRevision", 1),
            ("Message", "string", ".status.message", 1),
        ],
    },
    Kind {
        name: "CoreTemplate",
        plural: "coretemplates",
        short: "cot",
        status: false,
        columns: &[],
    },
    Kind {
        name: "CellTemplate",
        plural: "celltemplates",
        short: "cet",
        status: false,
        columns: &[],
    },
    Kind {
        name: "ShardTemplate",
        plural: "shardtemplates",
        short: "sht",
        status: false,
        columns: &[],
    },
    Kind {
        name: "TopoServer",
        plural: "toposervers",
        short: "tps",
        status: true,
        columns: &[
            ("Ready", "string", READY, 0),
            ("Phase", "string", ".status.phase", 0),
            AGE,
            ("Message", "string", ".status.message", 1),
        ],
    },
    Kind {
        name: "Cell",
        plural: "cells",
        short: "cel",
        status: true,
        columns: &[
            ("Gateway", "integer", ".status.gatewayReadyReplicas", 0),
            ("Ready", "string", AVAILABLE, 0),
            ("Phase", "string", ".status.phase", 0),
            AGE,
            ("Message", "string", ".status.message", 1),
        ],
    },
    Kind {
        name: "TableGroup",
        plural: "tablegroups",
        short: "tbg",
        status: true,
        columns: &[
            ("Shards", "integer", ".status.readyShards", 0),
            ("Phase", "string", ".status.phase", 0),
            AGE,
            ("Message", "string", ".status.message", 1),
        ],
    },
    Kind {
        name: "Shard",
        plural: "shards",
        short: "srd",
        status: true,
        columns: &[
            ("Ready", "string", AVAILABLE, 0),
            ("Phase", "string", ".status.phase", 0),
            ("Primary", "string", PRIMARY, 0),
            AGE,
            ("Roles", "string", ".status.podRoles", 1),
            ("Message", "string", ".status.message", 1),
        ],
    },
];

/// What a user reads when a CEL rule refuses an object, by the rule's id.
pub const MESSAGES: [(&str, &str); 31] = [
    ("CEL-01", "metadata.name may have 25 characters at most"),
    (
        "CEL-02",
        "give exactly one of etcd, external and templateRef",
    ),
    ("CEL-03", "the number of etcd members must be odd"),
    (
        "CEL-04",
        "every endpoint must begin with http:// or https://",
    ),
    ("CEL-05", "give spec or templateRef"),
    ("CEL-06", "give only one of spec and templateRef"),
    (
        "CEL-07",
        "annotation keys may have 63 characters at most, values 255",
    ),
    (
        "CEL-08",
        "label keys and values may have 63 characters at most",
    ),
    ("CEL-09", "cells cannot be removed or renamed"),
    ("CEL-10", "give only one of spec and cellTemplate"),
    ("CEL-11", "give only one of spec and overrides"),
    ("CEL-12", "give only one of zoneId and region"),
    ("CEL-13", "give zoneId or region"),
    ("CEL-14", "give etcd or external"),
    ("CEL-15", "give only one of etcd and external"),
    (
        "CEL-16",
        "the only database is postgres, with default: true",
    ),
    ("CEL-17", "exactly one table group must be marked default"),
    ("CEL-18", "the default table group must be named default"),
    ("CEL-19", "give only one of spec and shardTemplate"),
    ("CEL-20", "the only shard name is 0-inf"),
    ("CEL-21", "pool names may have 25 characters at most"),
    ("CEL-22", "pools cannot be removed or renamed"),
    ("CEL-23", "cells of a pool cannot be removed"),
    ("CEL-24", "type s3 needs the block s3"),
    ("CEL-25", "type filesystem needs the block filesystem"),
    ("CEL-26", "backup encryption cannot be changed"),
    (
        "CEL-27",
        "give only one of serviceAccountName and credentialsSecret",
    ),
    (
        "CEL-28",
        "serviceAccountName cannot be combined with useEnvCredentials",
    ),
    ("CEL-29", "annotations under multigres.com/ are reserved"),
    ("CEL-30", "etcd is required"),
    ("CEL-31", "pool names may have 62 characters at most"),
];

/// All definitions, in the order of `api.md` 1.
///
/// # Errors
/// When a table is damaged.
pub fn definitions() -> Result<Vec<Value>, SchemaError> {
    let fields = fields()?;
    let embedded: BTreeMap<String, Vec<Field>> =
        serde_json::from_str(include_str!("../schema/embedded.json"))?;
    let docs = Docs::read()?;
    KINDS
        .iter()
        .map(|kind| definition(kind, &fields, &embedded, &docs))
        .collect()
}

/// File name and content of each manifest.
///
/// # Errors
/// When a table is damaged or YAML cannot be written.
pub fn manifests() -> Result<Vec<(String, String)>, SchemaError> {
    definitions()?
        .into_iter()
        .map(|definition| {
            let name = definition
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let yaml = serde_saphyr::to_string(&definition)
                .map_err(|error| SchemaError::Yaml(error.to_string()))?;
            Ok((format!("{name}.yaml"), yaml))
        })
        .collect()
}

fn definition(
    kind: &Kind,
    fields: &[Field],
    embedded: &BTreeMap<String, Vec<Field>>,
    docs: &Docs,
) -> Result<Value, SchemaError> {
    let own: Vec<&Field> = fields
        .iter()
        .filter(|field| field.kind == kind.name)
        .collect();
    let mut root = node("$", &own, embedded)?;
    docs.describe(kind.name, &mut root);
    let properties = json!({
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
    });
    if let (Some(into), Value::Object(standard)) = (
        root.get_mut("properties").and_then(Value::as_object_mut),
        properties,
    ) {
        into.extend(standard);
    }
    let columns: Vec<Value> = kind
        .columns
        .iter()
        .map(|(name, of, path, priority)| json!({"name": name, "type": of, "jsonPath": path, "priority": priority}))
        .collect();
    let mut version = json!({"name": VERSION, "served": true, "storage": true, "schema": {"openAPIV3Schema": root}});
    if let Some(map) = version.as_object_mut() {
        if !columns.is_empty() {
            map.insert("additionalPrinterColumns".into(), Value::Array(columns));
        }
        let mut subresources = Map::new();
        if kind.status {
            subresources.insert("status".into(), json!({}));
        }
        if kind.name == "Shard" {
            let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.readyReplicas"});
            subresources.insert("scale".into(), scale);
        }
        map.insert("subresources".into(), Value::Object(subresources));
    }
    let singular = kind.name.to_lowercase();
    Ok(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", kind.plural)},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name, "listKind": format!("{}List", kind.name), "plural": kind.plural,
                "singular": singular, "shortNames": [kind.short],
            },
            "versions": [version],
        },
    }))
}

/// The schema of the field at `path` with everything below it.
fn node(
    path: &str,
    fields: &[&Field],
    embedded: &BTreeMap<String, Vec<Field>>,
) -> Result<Value, SchemaError> {
    let Some(field) = fields.iter().find(|field| field.path == path) else {
        return Ok(json!({"type": "object", "properties": {}}));
    };
    if let Some(name) = field.of.strip_prefix("embedded:") {
        let own = embedded
            .get(name)
            .ok_or_else(|| SchemaError::Embedded(name.to_owned()))?;
        return node("$", &own.iter().collect::<Vec<_>>(), embedded);
    }
    let mut schema = Map::new();
    match field.of.as_str() {
        "int-or-string" => {
            schema.insert(
                "anyOf".into(),
                json!([{"type": "integer"}, {"type": "string"}]),
            );
            schema.insert("x-kubernetes-int-or-string".into(), true.into());
        }
        "map" => {
            schema.insert("type".into(), "object".into());
            schema.insert(
                "additionalProperties".into(),
                node(&format!("{path}{{}}"), fields, embedded)?,
            );
        }
        "array" => {
            schema.insert("type".into(), "array".into());
            schema.insert(
                "items".into(),
                node(&format!("{path}[]"), fields, embedded)?,
            );
        }
        of => {
            schema.insert("type".into(), of.into());
        }
    }
    if field.of == "object" {
        members(path, fields, embedded, &mut schema)?;
    }
    if !field.default.is_null() {
        schema.insert("default".into(), field.default.clone());
    }
    for (name, value) in &field.constraints {
        constrain(&mut schema, name, value);
    }
    Ok(Value::Object(schema))
}

fn members(
    path: &str,
    fields: &[&Field],
    embedded: &BTreeMap<String, Vec<Field>>,
    schema: &mut Map<String, Value>,
) -> Result<(), SchemaError> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for child in fields {
        let Some(name) = member(path, &child.path) else {
            continue;
        };
        properties.insert(name.to_owned(), node(&child.path, fields, embedded)?);
        if child.required {
            required.push(Value::from(name));
        }
    }
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), Value::Array(required));
    }
    Ok(())
}

/// The name of `child` as a direct member of the object at `path`.
fn member<'a>(path: &str, child: &'a str) -> Option<&'a str> {
    let name = if path == "$" && !child.starts_with('$') {
        child
    } else {
        child.strip_prefix(path)?.strip_prefix('.')?
    };
    (!name.is_empty() && !name.contains(['.', '[', '{'])).then_some(name)
}

fn constrain(schema: &mut Map<String, Value>, name: &str, value: &Value) {
    match name {
        "listType" => schema.insert("x-kubernetes-list-type".into(), value.clone()),
        "listMapKeys" => schema.insert("x-kubernetes-list-map-keys".into(), value.clone()),
        "mapType" => schema.insert("x-kubernetes-map-type".into(), value.clone()),
        "intOrString" => None,
        "cel" => {
            let rules = value.as_array().into_iter().flatten().map(|rule| {
                let id = rule.get("id").and_then(Value::as_str).unwrap_or_default();
                let message = MESSAGES
                    .iter()
                    .find(|(of, _)| *of == id)
                    .map_or(id, |(_, message)| message);
                json!({"rule": rule.get("rule"), "message": message})
            });
            schema.insert(
                "x-kubernetes-validations".into(),
                Value::Array(rules.collect()),
            )
        }
        _ => schema.insert(name.to_owned(), value.clone()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_manifests_are_current() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../charts/multigres-operator/crd-manifests"
        );
        for (name, yaml) in manifests().unwrap() {
            let committed = std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
            assert!(committed == yaml, "{name} is stale: run `make generate`");
        }
    }
}
