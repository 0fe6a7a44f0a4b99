//! What the operator owns of a cluster: of each object the fields that our field managers hold, with names, UIDs and instants
//! taken out, so that two clusters of one spec can be compared field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use control_plane::wait;
use kube::Client;
use serde_json::{Map, Value, json};

use crate::bed::{NAMESPACE, pass};
use crate::chain;

/// A settled operator has nothing to do; what trails does so for half a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// The operator's field managers.
const MANAGERS: [&str; 2] = ["multigres-operator", "multigres-resource-handler"];
const LABEL: &str = "app.kubernetes.io/managed-by=multigres-operator";

/// Kinds in which something of ours may be, with the path of their group and version and their plural.
const KINDS: [(&str, &str, &str); 14] = [
    (
        "MultigresCluster",
        "apis/multigres.com/v1alpha1",
        "multigresclusters",
    ),
    ("TopoServer", "apis/multigres.com/v1alpha1", "toposervers"),
    ("Cell", "apis/multigres.com/v1alpha1", "cells"),
    ("TableGroup", "apis/multigres.com/v1alpha1", "tablegroups"),
    ("Shard", "apis/multigres.com/v1alpha1", "shards"),
    ("StatefulSet", "apis/apps/v1", "statefulsets"),
    ("Deployment", "apis/apps/v1", "deployments"),
    ("ReplicaSet", "apis/apps/v1", "replicasets"),
    ("Service", "api/v1", "services"),
    ("ConfigMap", "api/v1", "configmaps"),
    ("Secret", "api/v1", "secrets"),
    ("PersistentVolumeClaim", "api/v1", "persistentvolumeclaims"),
    ("Pod", "api/v1", "pods"),
    (
        "PodDisruptionBudget",
        "apis/policy/v1",
        "poddisruptionbudgets",
    ),
];

/// All objects of our kinds at one moment.
pub struct Snapshot {
    objects: Vec<(&'static str, Value)>,
}

/// The owned part of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// By `kind/name`; two objects whose names differ only in the cluster's share would be told apart by their number.
    objects: BTreeMap<String, Vec<Value>>,
    /// How many objects others made for ours, by `kind of owner/name`.
    made_by_others: BTreeMap<String, usize>,
}

/// Text at a pointer, or nothing.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What is owned of a cluster, once counts no longer trail.
///
/// # Errors
/// When it does not settle in time.
pub async fn settled(client: &Client, cluster: &str) -> anyhow::Result<Owned> {
    let mut last = Snapshot::take(client).await?.cluster(cluster)?;
    wait::until(&format!("{cluster} to settle"), PATIENCE, async || {
        pass(Duration::from_secs(1)).await?;
        let now = Snapshot::take(client).await?.cluster(cluster)?;
        let settled = last.differences(&now).is_empty();
        last = now;
        Ok(settled.then_some(()))
    })
    .await?;
    Ok(last)
}

/// Waits until what is owned of a cluster is as it is of another.
///
/// # Errors
/// The differences, when it does not come to that in time.
pub async fn becomes(client: &Client, cluster: &str, calm: &Owned) -> anyhow::Result<()> {
    let mut differences = Vec::new();
    let description = format!("{cluster} to be as an undisturbed one");
    let same = wait::until(&description, PATIENCE, async || {
        let now = Snapshot::take(client).await?.cluster(cluster);
        differences = now.map_or_else(
            |error| vec![format!("{error:#}")],
            |now| calm.differences(&now),
        );
        Ok(differences.is_empty().then_some(()))
    });
    let same = same.await;
    same.with_context(|| format!("{cluster} is different: {differences:#?}"))
}

/// Is the object part of the cluster?
fn belongs(kind: &str, object: &Value, cluster: &str) -> bool {
    let pointer = match kind {
        "MultigresCluster" => "/metadata/name",
        _ => "/metadata/labels/app.kubernetes.io~1instance",
    };
    text(object, pointer) == cluster
}

impl Snapshot {
    /// Reads everything.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn take(client: &Client) -> anyhow::Result<Self> {
        let mut objects = Vec::new();
        for (kind, path, plural) in KINDS {
            // The cluster itself is the user's and has no label of ours.
            let selector = if kind == "MultigresCluster" {
                ""
            } else {
                LABEL
            };
            let path = format!("/{path}/namespaces/{NAMESPACE}/{plural}?labelSelector={selector}");
            let list: Value = client
                .request(http::Request::get(path).body(Vec::new())?)
                .await?;
            let items = list.get("items").and_then(Value::as_array).cloned();
            objects.extend(
                items
                    .unwrap_or_default()
                    .into_iter()
                    .map(|item| (kind, item)),
            );
        }
        Ok(Self { objects })
    }

    /// Names of objects none of whose owners is there, the clusters themselves left out.
    pub fn orphans(&self) -> Vec<String> {
        let alive: BTreeSet<&str> = self
            .objects
            .iter()
            .map(|(_, object)| text(object, "/metadata/uid"))
            .collect();
        let owned = |object: &Value| {
            let owners = object.pointer("/metadata/ownerReferences");
            let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
            owners.any(|owner| alive.contains(text(owner, "/uid")))
        };
        self.objects
            .iter()
            .filter(|(kind, object)| *kind != "MultigresCluster" && !owned(object))
            .map(|(kind, object)| format!("{kind}/{}", text(object, "/metadata/name")))
            .collect()
    }

    /// Names of a cluster's objects of a kind, in order, those that others made left out.
    pub fn names(&self, cluster: &str, kind: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .objects
            .iter()
            .filter(|(of, object)| *of == kind && belongs(of, object, cluster))
            .filter(|(_, object)| !fields(object).is_empty())
            .map(|(_, object)| text(object, "/metadata/name").to_owned())
            .collect();
        names.sort();
        names
    }

    /// What is owned of one cluster.
    ///
    /// # Errors
    /// When a generated certificate does not belong to its authority or its key.
    pub fn cluster(&self, cluster: &str) -> anyhow::Result<Owned> {
        let mine: Vec<&(&str, Value)> = self
            .objects
            .iter()
            .filter(|(kind, object)| belongs(kind, object, cluster))
            .collect();
        ensure!(!mine.is_empty(), "there is no cluster {cluster}");
        let mut plain = Plain::new(cluster);
        for (kind, object) in &mine {
            let mut name = text(object, "/metadata/name");
            // A ReplicaSet is named by a hash of its template, which holds the cluster's name.
            let template = text(object, "/metadata/labels/pod-template-hash");
            if *kind == "ReplicaSet" {
                name = name.trim_end_matches(template);
            }
            let name = format!("{kind}/{}", plain.text(name));
            plain
                .uids
                .insert(text(object, "/metadata/uid").to_owned(), name);
        }
        let mut owned = Owned {
            objects: BTreeMap::new(),
            made_by_others: BTreeMap::new(),
        };
        for (kind, object) in mine.iter().map(|pair| (pair.0, &pair.1)) {
            let fields = fields(object);
            if fields.is_empty() {
                if object.pointer("/spec/replicas") == Some(&json!(0)) {
                    continue; // a ReplicaSet of an earlier template
                }
                let owner = controller(object).map(|owner| plain.text(text(owner, "/uid")));
                let owner = format!("{kind} of {}", owner.unwrap_or_default());
                *owned.made_by_others.entry(owner).or_insert(0) += 1;
                continue;
            }
            let mut part = select(&Value::Object(fields), object);
            if kind == "Secret" {
                conceal(&mut part, object, &plain)
                    .with_context(|| format!("Secret {}", text(object, "/metadata/name")))?;
            }
            let generation = object.pointer("/metadata/generation").cloned();
            plain.value(&mut part, generation.as_ref());
            let name = format!("{kind}/{}", plain.text(text(object, "/metadata/name")));
            owned.objects.entry(name).or_default().push(part);
        }
        self.chains(&mine)?;
        Ok(owned)
    }

    /// Each certificate is signed by the authority beside it and belongs to its key.
    fn chains(&self, mine: &[&(&str, Value)]) -> anyhow::Result<()> {
        let secrets = || {
            mine.iter()
                .filter(|(kind, _)| *kind == "Secret")
                .map(|(_, secret)| secret)
        };
        for leaf in secrets().filter(|secret| text(secret, "/metadata/name").ends_with("-tls")) {
            let name = text(leaf, "/metadata/name");
            let sibling = format!("{}-ca", name.trim_end_matches("-tls"));
            let authority = secrets().find(|secret| text(secret, "/metadata/name") == sibling);
            let authority =
                authority.with_context(|| format!("{name} has no authority {sibling}"))?;
            let pem =
                |secret: &Value, key: &str| chain::decode(text(secret, &format!("/data/{key}")));
            chain::verify(
                &pem(leaf, "tls.crt")?,
                &pem(leaf, "tls.key")?,
                &pem(authority, "ca.crt")?,
            )
            .with_context(|| name.to_owned())?;
        }
        Ok(())
    }
}

impl Owned {
    /// In what another one differs from this one, a line each; nothing when they are the same.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let names = |owned: &Self| {
            json!(
                owned
                    .objects
                    .iter()
                    .map(|(name, parts)| (name.clone(), json!(parts.len())))
                    .collect::<Map<_, _>>()
            )
        };
        differ("objects", &names(self), &names(other), &mut lines);
        differ(
            "made by others",
            &json!(self.made_by_others),
            &json!(other.made_by_others),
            &mut lines,
        );
        for (name, parts) in &self.objects {
            let empty = Vec::new();
            for (one, two) in parts.iter().zip(other.objects.get(name).unwrap_or(&empty)) {
                differ(name, one, two, &mut lines);
            }
        }
        lines
    }
}

fn differ(path: &str, one: &Value, two: &Value, lines: &mut Vec<String>) {
    match (one, two) {
        (Value::Object(first), Value::Object(second)) => {
            let mut keys: Vec<&String> = first.keys().chain(second.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                differ(&format!("{path} {key}"), &of(first), &of(second), lines);
            }
        }
        (one, two) if one == two => {}
        (one, two) => lines.push(format!("{path}: {one} became {two}")),
    }
}

fn controller(object: &Value) -> Option<&Value> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// The tree of fields (`fieldsV1`) that our managers hold of an object, all operations together.
pub fn fields(object: &Value) -> Map<String, Value> {
    let managed = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let mut all = Map::new();
    for entry in managed.into_iter().flatten() {
        if MANAGERS.contains(&text(entry, "/manager"))
            && let Some(Value::Object(tree)) = entry.get("fieldsV1")
        {
            merge(&mut all, tree);
        }
    }
    all
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

/// The part of a value that a tree of fields names.
pub fn select(fields: &Value, value: &Value) -> Value {
    let Some(tree) = fields.as_object().filter(|tree| !tree.is_empty()) else {
        return value.clone();
    };
    match value {
        Value::Object(map) => {
            let part = tree.iter().filter_map(|(key, below)| {
                let name = key.strip_prefix("f:")?;
                Some((name.to_owned(), select(below, map.get(name)?)))
            });
            Value::Object(part.collect())
        }
        Value::Array(list) => {
            let part = tree.iter().filter_map(|(key, below)| {
                let found = list.iter().find(|item| named(key, item))?;
                Some(select(below, found))
            });
            Value::Array(part.collect())
        }
        other => other.clone(),
    }
}

/// Whether `k:{"name":"x"}` or `v:"x"` names this item of a list.
fn named(key: &str, item: &Value) -> bool {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    if let Some(keys) = key.strip_prefix("k:").and_then(parse) {
        let keys = keys.as_object().cloned().unwrap_or_default();
        return keys
            .iter()
            .all(|(field, wanted)| item.get(field) == Some(wanted));
    }
    key.strip_prefix("v:")
        .and_then(parse)
        .is_some_and(|wanted| wanted == *item)
}

/// Of a generated Secret only the keys and the names in its certificate may be compared.
fn conceal(part: &mut Value, secret: &Value, plain: &Plain) -> anyhow::Result<()> {
    let Some(data) = part.get_mut("data").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    for (key, value) in data.iter_mut() {
        *value = if key.ends_with(".crt") {
            let pem = chain::decode(text(secret, &format!("/data/{key}")))?;
            let names = chain::names(&pem)?;
            json!(
                names
                    .iter()
                    .map(|name| plain.text(name))
                    .collect::<Vec<_>>()
            )
        } else {
            json!("concealed")
        };
    }
    Ok(())
}

/// Takes out what must differ between clusters.
struct Plain {
    cluster: String,
    uids: BTreeMap<String, String>,
}

impl Plain {
    fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            uids: BTreeMap::new(),
        }
    }

    /// A text without the cluster's name, and with `#` for hashes, `@` for instants, and names for UIDs.
    fn text(&self, text: &str) -> String {
        if let Some(name) = self.uids.get(text) {
            return name.clone();
        }
        if text.parse::<jiff::Timestamp>().is_ok() {
            return "@".to_owned();
        }
        let text = text.replace(&self.cluster, "x");
        let mut out = String::new();
        let mut word = String::new();
        for character in text.chars().chain(['\n']) {
            if character.is_ascii_alphanumeric() {
                word.push(character);
                continue;
            }
            out.push_str(if hash(&word) { "#" } else { &word });
            word.clear();
            out.push(character);
        }
        out.pop();
        out
    }

    fn value(&self, value: &mut Value, generation: Option<&Value>) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(list) => {
                for item in list.iter_mut() {
                    self.value(item, generation);
                }
                // Fields select in the order of their keys, which may be UIDs.
                list.sort_by_key(Value::to_string);
            }
            Value::Object(map) => {
                for (key, value) in std::mem::take(map) {
                    let mut value = value;
                    if key == "observedGeneration" && Some(&value) == generation {
                        value = json!("current");
                    }
                    self.value(&mut value, generation);
                    map.insert(self.text(&key), value);
                }
            }
            _ => {}
        }
    }
}

/// A word that looks like a hash: hexadecimal, of a length that hashes have.
fn hash(word: &str) -> bool {
    matches!(word.len(), 8 | 12 | 16 | 32 | 40 | 64)
        && word
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_owned_fields_are_selected() {
        let fields = json!({"f:spec": {"f:ports": {r#"k:{"port":1}"#: {".": {}, "f:name": {}}}, "f:whole": {}}});
        let object = json!({
            "spec": {"ports": [{"port": 2, "name": "b"}, {"port": 1, "name": "a", "x": 1}], "whole": [1], "other": 1},
        });
        assert_eq!(
            select(&fields, &object),
            json!({"spec": {"ports": [{"name": "a"}], "whole": [1]}})
        );
    }

    #[test]
    fn names_hashes_instants_and_uids_are_plain() {
        let mut plain = Plain::new("kill03");
        plain.uids.insert("u-1".into(), "Cell/x".into());
        let mut value = json!({
            "name": "kill03-zone-a-96c88ae0", "owner": "u-1", "at": "2026-11-24T00:00:00Z",
            "observedGeneration": 4, "size": "1024",
        });
        plain.value(&mut value, Some(&json!(4)));
        assert_eq!(
            value,
            json!({"name": "x-zone-a-#", "owner": "Cell/x", "at": "@", "observedGeneration": "current", "size": "1024"})
        );
    }

    #[test]
    fn a_difference_is_named_by_its_path() {
        let owned = |port: i32| Owned {
            objects: BTreeMap::from([(
                "Service/x".to_owned(),
                vec![json!({"spec": {"port": port}})],
            )]),
            made_by_others: BTreeMap::new(),
        };
        assert!(owned(1).differences(&owned(1)).is_empty());
        assert_eq!(
            owned(1).differences(&owned(2)),
            ["Service/x spec port: 1 became 2"]
        );
    }
}
