//! Example objects for tests, made from the schema tables: a small valid object of each kind, and for every entry of the
//! inventory two objects that differ in that entry only. Who asserts that a field has an effect compares what the two lead to.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::schema::{Field, SchemaError, fields};

/// The kinds a user writes.
pub const USER_KINDS: [&str; 4] = [
    "MultigresCluster",
    "CoreTemplate",
    "CellTemplate",
    "ShardTemplate",
];
/// The kinds the operator writes: what their fields do shows in rendered objects only.
pub const CHILD_KINDS: [&str; 4] = ["TopoServer", "Cell", "TableGroup", "Shard"];

/// The schema tables with what makes examples valid.
pub struct Samples {
    /// By kind and path.
    fields: BTreeMap<String, BTreeMap<String, Field>>,
}

/// Values for fields whose schema says less than the operator expects, by the end of the path; two that differ.
const VALUES: [(&str, [&str; 2]); 28] = [
    ("databases[].name", ["postgres", "other"]),
    ("tablegroups[].name", ["default", "other"]),
    ("shards[].name", ["0-inf", "other"]),
    ("spec.databaseName", ["postgres", "other"]),
    ("spec.tableGroupName", ["default", "other"]),
    ("spec.shardName", ["0-inf", "other"]),
    ("spec.cells[].name", ["zone-a", "zone-c"]),
    ("ells[]", ["zone-a", "zone-b"]),
    ("durabilityPolicy", ["AT_LEAST_2", "MULTI_CELL_AT_LEAST_2"]),
    ("acknowledgedRevision", ["abc", "51818592d94d"]),
    ("storage.size", ["7Gi", "9Gi"]),
    ("accessModes[]", ["ReadWriteMany", "ReadWriteOnce"]),
    ("endpoints[]", ["http://alpha:2379", "http://beta:2379"]),
    ("externalIPs[]", ["10.0.0.1", "10.0.0.2"]),
    ("window", ["3s", "4s"]),
    ("maxFailoverDuration", ["30s", "40s"]),
    ("minTimeBetweenFailovers", ["3s", "4s"]),
    ("postgresConfig{}", ["8MB", "16MB"]),
    ("spec.globalTopoServer.address", ["alpha:2379", "beta:2379"]),
    ("implementation", ["etcd", "consul"]),
    ("rootPath", ["/alpha", "/beta"]),
    ("filesystem.path", ["/alpha", "/beta"]),
    ("otlpEndpoint", ["http://alpha:4317", "http://beta:4317"]),
    (
        "otlpMetricsEndpoint",
        ["http://alpha:4318", "http://beta:4318"],
    ),
    ("metricExportInterval", ["1000", "2000"]),
    ("tracesSampler", ["always_on", "multigres_custom"]),
    ("certCommonName", ["db.alpha.example", "db.beta.example"]),
    ("samplingConfigRef.key", ["alpha.yaml", "beta.yaml"]),
];

impl Samples {
    /// Reads the tables.
    ///
    /// # Errors
    /// When a table is damaged.
    pub fn new() -> Result<Self, SchemaError> {
        let mut all: BTreeMap<String, BTreeMap<String, Field>> = BTreeMap::new();
        for field in fields()? {
            let kind = all.entry(field.kind.clone()).or_default();
            kind.insert(field.path.clone(), field);
        }
        Ok(Self { fields: all })
    }

    /// Paths of a kind's spec that hold a value of their own: leaves, embedded types, elements of lists and maps of leaves.
    pub fn leaves(&self, kind: &str) -> impl Iterator<Item = &str> {
        let own = self.fields.get(kind).into_iter().flat_map(BTreeMap::values);
        own.filter(|field| field.path.starts_with("spec."))
            .filter(|field| !matches!(field.of.as_str(), "object" | "array" | "map"))
            .map(|field| field.path.as_str())
    }

    /// A small valid object.
    pub fn base(&self, kind: &str) -> Value {
        let mut object = json!({
            "apiVersion": "multigres.com/v1alpha1", "kind": kind,
            "metadata": {"name": "sample", "namespace": "default"},
        });
        if let Some(map) = object.as_object_mut() {
            map.insert("spec".into(), self.skeleton(kind, "spec"));
        }
        object
    }

    /// Two objects that differ in the entry at `path` only.
    pub fn variants(&self, kind: &str, path: &str) -> Option<[Value; 2]> {
        let values = self.values(kind, path)?;
        Some(values.map(|value| {
            let mut object = self.base(kind);
            self.set(kind, &mut object, path, value);
            object
        }))
    }

    /// Sets the entry at `path`, with everything that it needs around it: first elements of lists, one key of maps, required
    /// members, and the other half of a pair that only makes sense together.
    pub fn set(&self, kind: &str, object: &mut Value, path: &str, value: Value) {
        let mut at = object;
        let mut done = String::new();
        let steps = steps(path);
        for (i, step) in steps.iter().enumerate() {
            let last = i + 1 == steps.len();
            let next = joined(&done, step);
            let Some(slot) = enter(at, step, &done) else {
                return;
            };
            if last {
                *slot = value.clone();
            } else if slot.is_null() {
                *slot = self.skeleton(kind, &next);
            }
            at = slot;
            done = next;
            if !last {
                complete(at, &done, path, &value);
            }
        }
    }

    /// Two values of the entry that differ; None for objects, lists and maps.
    pub fn values(&self, kind: &str, path: &str) -> Option<[Value; 2]> {
        let field = self.field(kind, path)?;
        if let Some((_, pair)) = VALUES.iter().find(|(end, _)| path.ends_with(end)) {
            return Some(pair.map(Value::from));
        }
        if let Some(list) = field.constraints.get("enum").and_then(Value::as_array) {
            let first = list.first().cloned().unwrap_or_default();
            return Some([
                first,
                list.last()
                    .cloned()
                    .filter(|_| list.len() > 1)
                    .unwrap_or_default(),
            ]);
        }
        let number = |name: &str| field.constraints.get(name).and_then(Value::as_i64);
        match field.of.as_str() {
            "boolean" => Some([true.into(), false.into()]),
            // Odd, for the members of an etcd.
            "integer" => Some([
                3.into(),
                number("maximum").map_or(5, |most| most.min(5)).into(),
            ]),
            "string" => Some(["alpha".into(), "beta".into()]),
            of => embedded(of),
        }
    }

    /// The entry at `path`.
    pub fn field(&self, kind: &str, path: &str) -> Option<&Field> {
        self.fields.get(kind)?.get(path)
    }

    /// The required members of the entry at `path`, and what rules demand beside them.
    fn skeleton(&self, kind: &str, path: &str) -> Value {
        let Some(field) = self.field(kind, path) else {
            return Value::Null;
        };
        match field.of.as_str() {
            "array" => json!([]),
            "map" => json!({}),
            "object" => {
                let below = format!("{path}.");
                let own = self.fields.get(kind).into_iter();
                let own = own.flat_map(|own| own.range(below.clone()..));
                let own = own.take_while(|(child, _)| child.starts_with(&below));
                let mut members: Map<String, Value> = own
                    .filter(|(child, field)| field.required && parent(child) == Some(path))
                    .map(|(child, _)| (name(child).to_owned(), self.skeleton(kind, child)))
                    .collect();
                demanded(kind, path, &mut members);
                Value::Object(members)
            }
            _ => self
                .values(kind, path)
                .map(|[first, _]| first)
                .unwrap_or_default(),
        }
    }
}

/// One object that a CEL rule lets pass or refuses.
#[derive(Clone, Debug)]
pub struct CelCase {
    /// The rule.
    pub rule: String,
    /// Kind of the object.
    pub kind: String,
    /// Where the rule stands.
    pub path: String,
    /// The object that is updated; None when the case is a creation.
    pub old: Option<Value>,
    /// The object.
    pub object: Value,
    /// True when the rule lets it pass.
    pub passes: bool,
}

#[derive(Deserialize)]
struct CelRow {
    rule: String,
    old: Option<Value>,
    pass: Vec<Value>,
    fail: Vec<Value>,
}

impl Samples {
    /// The cases of `schema/cel-cases.yaml` at every place of their rule.
    ///
    /// # Errors
    /// When the table is damaged.
    pub fn cel_cases(&self) -> Result<Vec<CelCase>, SchemaError> {
        let rows: Vec<CelRow> = serde_saphyr::from_str(include_str!("../schema/cel-cases.yaml"))
            .map_err(|error| SchemaError::Yaml(error.to_string()))?;
        let mut cases = Vec::new();
        for field in self.fields.values().flat_map(BTreeMap::values) {
            for row in rows
                .iter()
                .filter(|row| rules(field).any(|id| id == row.rule))
            {
                let case = |passes: bool, patch: &Value| CelCase {
                    rule: row.rule.clone(),
                    kind: field.kind.clone(),
                    path: field.path.clone(),
                    old: row.old.as_ref().map(|old| self.patched(field, old)),
                    object: self.patched(field, patch),
                    passes,
                };
                cases.extend(row.pass.iter().map(|patch| case(true, patch)));
                cases.extend(row.fail.iter().map(|patch| case(false, patch)));
            }
        }
        Ok(cases)
    }

    /// The smallest object of the field's kind with a merge patch at the field.
    fn patched(&self, field: &Field, patch: &Value) -> Value {
        let (kind, path) = (field.kind.as_str(), field.path.as_str());
        let mut object = self.base(kind);
        if path == "$" {
            merge(&mut object, patch);
            return object;
        }
        let mut content = self.skeleton(kind, path);
        merge(&mut content, patch);
        self.set(kind, &mut object, path, content);
        object
    }
}

/// Ids of the CEL rules that stand at a field.
pub fn rules(field: &Field) -> impl Iterator<Item = &str> {
    let list = field.constraints.get("cel").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|rule| rule.get("id")?.as_str())
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(members) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// What rules demand of a new object beside its required members.
fn demanded(kind: &str, path: &str, members: &mut Map<String, Value>) {
    let more = match (kind, path) {
        ("MultigresCluster", "spec") => json!({"cells": [
            {"name": "zone-a", "zoneId": "one"}, {"name": "zone-b", "zoneId": "two"},
        ]}),
        ("Cell", "spec") | ("MultigresCluster", "spec.cells[]") => json!({"zoneId": "one"}),
        ("TopoServer", "spec") | ("CoreTemplate", "spec.globalTopoServer") => json!({"etcd": {}}),
        ("TableGroup" | "Shard", p) if p.ends_with("pools") => json!({}),
        (_, p) if p.ends_with("databases[]") || p.ends_with("tablegroups[]") => {
            json!({"default": true})
        }
        (_, p) if p.ends_with("backup") => json!({"filesystem": {}}),
        (_, "spec.imageUpdatePolicy") => json!({"strategy": "lazy"}),
        _ => json!({}),
    };
    if let Value::Object(more) = more {
        members.extend(more);
    }
}

/// What an object on the way to `path` needs, depending on where the way leads.
fn complete(at: &mut Value, here: &str, path: &str, value: &Value) {
    let Some(members) = at.as_object_mut() else {
        return;
    };
    let rest = path.get(here.len()..).unwrap_or_default();
    if here.ends_with("backup") && rest.starts_with(".s3") {
        members.insert("type".into(), "s3".into());
        members.remove("filesystem");
    }
    // Telemetry is off without a collector, and only one sampler reads rules.
    if here.ends_with("observability") && rest != ".otlpEndpoint" {
        members
            .entry("otlpEndpoint")
            .or_insert_with(|| "http://collector:4317".into());
        if rest.starts_with(".samplingConfigRef") {
            members.insert("tracesSampler".into(), "multigres_custom".into());
        }
    }
    // No TLS without a client certificate.
    if rest == ".caSecret" {
        members
            .entry("clientCertSecret")
            .or_insert_with(|| "client".into());
    }
    let store = here == "spec.globalTopoServer" && path.starts_with("spec.globalTopoServer");
    if store && (rest.starts_with(".placement") || rest.starts_with(".pvc")) {
        members.entry("etcd").or_insert_with(|| json!({}));
    }
    if here == "spec.multiadmin" && rest.starts_with(".placement") {
        members.entry("spec").or_insert_with(|| json!({}));
    }
    // Both work on the same files.
    if rest == ".multipooler.runAsUser" {
        let postgres = members.entry("postgres").or_insert_with(|| json!({}));
        if let Some(postgres) = postgres.as_object_mut() {
            postgres.insert("runAsUser".into(), value.clone());
        }
    }
    if rest == ".region" {
        members.remove("zoneId");
    }
}

fn steps(path: &str) -> Vec<String> {
    let apart = path.replace("[]", ".[]").replace("{}", ".{}");
    apart.split('.').map(str::to_owned).collect()
}

fn joined(done: &str, step: &str) -> String {
    match step {
        "[]" | "{}" => format!("{done}{step}"),
        _ if done.is_empty() => step.to_owned(),
        _ => format!("{done}.{step}"),
    }
}

/// The member, first element or example key of `at`; null when it was not there.
fn enter<'a>(at: &'a mut Value, step: &str, here: &str) -> Option<&'a mut Value> {
    if step == "[]" {
        if !at.is_array() {
            *at = json!([]);
        }
        let list = at.as_array_mut()?;
        if list.is_empty() {
            list.push(Value::Null);
        }
        return list.first_mut();
    }
    if !at.is_object() {
        *at = json!({});
    }
    let key = if step == "{}" { key(here) } else { step };
    Some(at.as_object_mut()?.entry(key).or_insert(Value::Null))
}

/// An example key of a map.
fn key(map: &str) -> &'static str {
    match name(map) {
        "postgresConfig" => "work_mem",
        "cellTopologyLabels" => "zone-a",
        "cellTopologyLabels{}" => "topology.k8s.aws/zone-id",
        _ => "main",
    }
}

fn parent(path: &str) -> Option<&str> {
    if let Some(parent) = path.strip_suffix("[]").or_else(|| path.strip_suffix("{}")) {
        return Some(parent);
    }
    path.rsplit_once('.').map(|(parent, _)| parent)
}

fn name(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

/// Two values of a Kubernetes type.
fn embedded(of: &str) -> Option<[Value; 2]> {
    let both = |make: fn(&str) -> Value| Some(["alpha", "beta"].map(make));
    match of.strip_prefix("embedded:")? {
        "core/v1.Affinity" => both(|x| {
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": x, "operator": "Exists"}]},
            ]}}})
        }),
        "core/v1.LocalObjectReference" => both(|x| json!({"name": x})),
        "core/v1.ResourceRequirements" => {
            Some(["300m", "400m"].map(|cpu| json!({"requests": {"cpu": cpu}})))
        }
        "core/v1.Toleration" => both(|x| json!({"key": x, "operator": "Exists"})),
        _ => None,
    }
}
