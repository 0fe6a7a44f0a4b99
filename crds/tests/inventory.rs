//! The generated definitions against the inventory of the API (`inventory.json`, a copy of the reference): entry by entry.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use crds::resolve::references;
use crds::sample::Samples;
use crds::schema::definitions;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Entries that differ from the reference on purpose: kind, path, reason.
const DIFFERENT: [(&str, &str, &str); 0] = [];

/// Entries that the reference does not have: kind, path of the topmost one, reason.
const ADDED: [(&str, &str, &str); 10] = [
    (
        "Shard",
        "status.disruption",
        "the permit of one disruption per shard survives a restart",
    ),
    (
        "Shard",
        "status.rollout",
        "what a rollout has done so far survives a restart",
    ),
    (
        "Shard",
        "status.members",
        "role, serving state and cohort of every member",
    ),
    ("Cell", "spec.globalTopoServer.caSecret", STORE),
    ("Cell", "spec.globalTopoServer.clientCertSecret", STORE),
    ("TableGroup", "spec.globalTopoServer.caSecret", STORE),
    (
        "TableGroup",
        "spec.globalTopoServer.clientCertSecret",
        STORE,
    ),
    ("Shard", "spec.globalTopoServer.caSecret", STORE),
    ("Shard", "spec.globalTopoServer.clientCertSecret", STORE),
    (
        "TopoServer",
        "spec.images",
        "etcd's pods are pulled as the cluster says",
    ),
];

const STORE: &str = "children reach a store of the user's that speaks TLS";

type Entries = BTreeMap<(String, String), Value>;

fn inventory() -> Entries {
    let list: Vec<Value> = serde_json::from_str(include_str!("inventory.json")).unwrap();
    let key = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    list.iter()
        .map(|entry| ((key(entry, "kind"), key(entry, "path")), plain(entry)))
        .collect()
}

fn embedded() -> BTreeMap<String, Vec<Value>> {
    let all: BTreeMap<String, Vec<Value>> =
        serde_json::from_str(include_str!("../schema/embedded.json")).unwrap();
    all.into_iter()
        .map(|(name, list)| (name, sorted(list.iter().map(with_path).collect())))
        .collect()
}

fn with_path(entry: &Value) -> Value {
    let mut result = plain(entry);
    result["path"] = entry["path"].clone();
    result
}

fn sorted(mut list: Vec<Value>) -> Vec<Value> {
    list.sort_by_key(|entry| entry["path"].to_string());
    list
}

/// Type, required, default and constraints of an entry; the order of enums means nothing.
fn plain(entry: &Value) -> Value {
    let mut constraints = entry
        .get("constraints")
        .cloned()
        .unwrap_or_else(|| json!({}));
    if let Some(list) = constraints.get_mut("enum").and_then(Value::as_array_mut) {
        list.sort_by_key(ToString::to_string);
    }
    json!({
        "type": entry["type"],
        "required": entry.get("required").unwrap_or(&Value::Bool(false)),
        "default": entry.get("default").unwrap_or(&Value::Null),
        "constraints": constraints,
    })
}

/// The entries that a schema consists of. Embedded types, which are known by where the inventory has them, are one entry.
struct Flattener<'a> {
    kind: &'a str,
    inventory: &'a Entries,
    found: Entries,
    embedded: Vec<(String, Vec<Value>)>,
}

impl Flattener<'_> {
    fn walk(&mut self, path: &str, node: &Value, required: bool) {
        let key = (self.kind.to_owned(), path.to_owned());
        let known = self
            .inventory
            .get(&key)
            .and_then(|entry| entry["type"].as_str());
        if let Some(name) = known.and_then(|of| of.strip_prefix("embedded:")) {
            let entry = json!({"type": format!("embedded:{name}"), "required": required, "default": null, "constraints": {}});
            self.found.insert(key, entry);
            let none = Entries::new();
            let mut inner = Flattener {
                kind: "",
                inventory: &none,
                found: Entries::new(),
                embedded: Vec::new(),
            };
            inner.walk("$", node, false);
            let list = inner.found.into_iter().map(|((_, path), mut entry)| {
                entry["path"] = path.into();
                entry
            });
            self.embedded
                .push((name.to_owned(), sorted(list.collect())));
            return;
        }
        self.found.insert(key, plain(&entry(node, required)));
        for (below, child) in children(path, self.kind.is_empty(), node) {
            let name = below.rsplit('.').next().unwrap_or_default();
            let required = node["required"]
                .as_array()
                .is_some_and(|list| list.iter().any(|n| n == name));
            self.walk(&below, child, required && !below.ends_with(['}', ']']));
        }
    }
}

/// What stands below a node: members, elements, values.
fn children<'a>(path: &str, embedded: bool, node: &'a Value) -> Vec<(String, &'a Value)> {
    let member = |name: &String| match path {
        "$" if !embedded => name.clone(),
        _ => format!("{path}.{name}"),
    };
    // What every kind has.
    let standard =
        |name: &str| path == "$" && !embedded && matches!(name, "apiVersion" | "kind" | "metadata");
    let properties = node["properties"].as_object().into_iter().flatten();
    let mut all: Vec<(String, &Value)> = properties
        .filter(|(name, _)| !standard(name))
        .map(|(name, child)| (member(name), child))
        .collect();
    all.extend(node.get("items").map(|items| (format!("{path}[]"), items)));
    all.extend(
        node.get("additionalProperties")
            .map(|values| (format!("{path}{{}}"), values)),
    );
    all
}

/// One node in the words of the inventory. A keyword that is not known here is an error.
fn entry(node: &Value, required: bool) -> Value {
    let mut of = node["type"].clone();
    if node.get("additionalProperties").is_some() {
        of = "map".into();
    }
    let mut constraints = Map::new();
    for (name, value) in node.as_object().unwrap() {
        let as_inventory = match name.as_str() {
            "type"
            | "properties"
            | "items"
            | "additionalProperties"
            | "required"
            | "default"
            | "description" => {
                continue;
            }
            "x-kubernetes-list-type" => "listType",
            "x-kubernetes-list-map-keys" => "listMapKeys",
            "x-kubernetes-map-type" => "mapType",
            "x-kubernetes-int-or-string" => {
                of = "int-or-string".into();
                constraints.insert("intOrString".into(), true.into());
                continue;
            }
            "anyOf" => {
                assert_eq!(*value, json!([{"type": "integer"}, {"type": "string"}]));
                continue;
            }
            "x-kubernetes-validations" => {
                let rules = value.as_array().unwrap().iter().map(|rule| {
                    assert!(!rule["message"].as_str().unwrap().is_empty());
                    rule["rule"].clone()
                });
                constraints.insert("cel".into(), rules.collect());
                continue;
            }
            "enum" | "minimum" | "maximum" | "minLength" | "maxLength" | "pattern" | "minItems"
            | "maxItems" | "maxProperties" | "format" => name,
            unknown => panic!("{unknown} is not compared"),
        };
        constraints.insert(as_inventory.to_owned(), value.clone());
    }
    json!({"type": of, "required": required, "default": node.get("default"), "constraints": constraints})
}

#[test]
fn every_entry_is_that_of_the_reference_or_differs_on_purpose() {
    let inventory = inventory();
    assert_eq!(inventory.len(), 966);
    let (mut found, mut types) = (Entries::new(), Vec::new());
    for definition in definitions().unwrap() {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut flattener = Flattener {
            kind,
            inventory: &inventory,
            found: Entries::new(),
            embedded: Vec::new(),
        };
        flattener.walk("$", schema, false);
        found.extend(flattener.found);
        types.extend(flattener.embedded);
    }
    let (mut equal, mut wrong) = (0, Vec::new());
    for (key, expected) in &inventory {
        let listed = DIFFERENT
            .iter()
            .any(|(kind, path, _)| (*kind, *path) == (&*key.0, &*key.1));
        let same = found.get(key) == Some(expected);
        equal += usize::from(same);
        if same == listed {
            wrong.push(format!(
                "{key:?}: {:?} instead of {expected}",
                found.get(key)
            ));
        }
    }
    for (kind, path) in found.keys().filter(|key| !inventory.contains_key(key)) {
        if !ADDED
            .iter()
            .any(|(k, p, _)| k == kind && path.starts_with(p))
        {
            wrong.push(format!("{kind} {path} is not in the reference"));
        }
    }
    let embedded = embedded();
    for (name, list) in &types {
        assert_eq!(list, &embedded[name], "{name}");
    }
    println!(
        "{equal} of {} equal, {} different on purpose, {} embedded uses",
        inventory.len(),
        DIFFERENT.len(),
        types.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every entry of a spec survives our types: what a user writes is neither dropped nor renamed.
#[test]
fn every_entry_of_a_spec_has_its_place_in_the_types() {
    fn through<T: DeserializeOwned + serde::Serialize>(object: &Value) -> Value {
        serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
    }
    let samples = Samples::new().unwrap();
    for ((kind, path), entry) in inventory() {
        let leaf = !matches!(entry["type"].as_str().unwrap(), "object" | "array" | "map");
        if !path.starts_with("spec.") || !leaf {
            continue;
        }
        for object in samples.variants(&kind, &path).unwrap() {
            let typed = match kind.as_str() {
                "MultigresCluster" => through::<crds::MultigresCluster>(&object),
                "CoreTemplate" => through::<crds::CoreTemplate>(&object),
                "CellTemplate" => through::<crds::CellTemplate>(&object),
                "ShardTemplate" => through::<crds::ShardTemplate>(&object),
                "TopoServer" => through::<crds::TopoServer>(&object),
                "Cell" => through::<crds::Cell>(&object),
                "TableGroup" => through::<crds::TableGroup>(&object),
                _ => through::<crds::Shard>(&object),
            };
            let lost = lost(&object["spec"], &typed["spec"], "spec");
            assert!(lost.is_empty(), "{kind} {path}: lost {lost:?}");
        }
    }
}

/// Members of `whole` that `part` lacks, but for empty ones.
fn lost(whole: &Value, part: &Value, at: &str) -> Vec<String> {
    let empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        other => other.is_null(),
    };
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => whole
            .iter()
            .filter(|(_, value)| !empty(value))
            .flat_map(|(name, value)| {
                lost(
                    value,
                    part.get(name).unwrap_or(&Value::Null),
                    &format!("{at}.{name}"),
                )
            })
            .collect(),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).flat_map(|(a, b)| lost(a, b, at)).collect()
        }
        _ if whole == part => Vec::new(),
        _ => vec![at.to_owned()],
    }
}

/// L-HOOK-03 "References and deletion protection with holes": a field that names a template and is not visited fails here.
#[test]
fn every_reference_to_a_template_is_visited() {
    let samples = Samples::new().unwrap();
    let list: Vec<Value> = serde_json::from_str(include_str!("inventory.json")).unwrap();
    let mut places = 0;
    for entry in list.iter().filter(|entry| entry["struct"] == "TemplateRef") {
        let path = entry["path"].as_str().unwrap();
        if !path.starts_with("spec.") {
            continue;
        }
        places += 1;
        let [object, _] = samples.variants("MultigresCluster", path).unwrap();
        let spec = serde_json::from_value(object["spec"].clone()).unwrap();
        let at = path.replace("[]", "[0]");
        let found = references(&spec);
        let reference = found.iter().find(|reference| reference.path == at);
        assert_eq!(
            reference.map(|r| (r.name.as_str(), r.explicit)),
            Some(("alpha", true)),
            "{path}"
        );
    }
    assert_eq!(places, 8);
}
