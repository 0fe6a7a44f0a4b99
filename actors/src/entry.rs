//! One observed object, trimmed at the door: no Kubernetes type outlives its event (`design.md` 2, Caches).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::certificate_facts::{self, CertificateFacts};
use crate::labels;
use crate::object::{Key, Kind, MANAGED_BY};
use crate::text::{Texts, shared};

mod pod;

pub use pod::{Pod, Unschedulable};

/// Annotation with the hash of the desired object that was last applied (`design.md` 2, "When to write").
pub const APPLIED_HASH: &str = "multigres.com/applied-hash";

/// An object as the API server sends it, parsed only as far as we need.
#[derive(Clone, Debug, Deserialize)]
pub struct Watched {
    #[serde(deserialize_with = "slim_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<Box<RawValue>>,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

/// Metadata without managed fields, which are most of an object's size and never looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct SlimMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>>,
    finalizers: Option<Vec<String>>,
}

fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let slim = SlimMetadata::deserialize(deserializer)?;
    let deletion_timestamp = slim
        .deletion_timestamp
        .and_then(|text| text.parse().ok())
        .map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time);
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        generation: slim.generation,
        deletion_timestamp,
        labels: slim.labels,
        annotations: slim.annotations,
        owner_references: slim.owner_references,
        finalizers: slim.finalizers,
        ..ObjectMeta::default()
    })
}

impl Resource for Watched {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What the store keeps of an object.
#[derive(Debug, Default)]
pub struct Entry {
    /// Kind, namespace, name.
    pub key: Option<Key>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion` as a number (comparable since Kubernetes 1.35; always so with etcd).
    pub version: u64,
    /// `metadata.generation`, 0 where the kind has none.
    pub generation: i64,
    /// A deletion timestamp is set.
    pub deleting: bool,
    /// UID of the controlling owner.
    pub owner: Option<Box<str>>,
    /// The hash of what was applied last, as the object says.
    pub hash: Option<Box<str>>,
    /// All labels.
    pub labels: Texts,
    /// All annotations but kubectl's copy of the manifest and our own hash (see `hash`).
    pub annotations: Texts,
    /// Finalizers.
    pub finalizers: Vec<Box<str>>,
    /// The owner references as JSON, for comparison.
    pub owners: Held,
    /// `spec` as JSON, as sent; empty for pods (see `pod`) and for kinds without one.
    pub spec: Held,
    /// `spec.replicas` of a Deployment or StatefulSet.
    pub replicas: Option<i64>,
    /// `status` as JSON, for kinds whose status is looked at; empty otherwise.
    pub status: Box<str>,
    /// `data` of ConfigMaps and Secrets: digest per key, never the content.
    pub data: BTreeMap<Box<str>, u64>,
    /// Content of a user's ConfigMap: it is only read when a resource refers to it. Empty for what is labelled as ours.
    pub texts: BTreeMap<Box<str>, Box<str>>,
    /// Of a Secret with certificates: what decisions need.
    pub certificates: Option<Box<CertificateFacts>>,
    /// Of a pod: what decisions need.
    pub pod: Option<Pod>,
    /// Hash of the desired object this entry was found to cover; 0 = not compared yet.
    pub covered: Cell<u64>,
}

/// A short digest of a value, for telling change from no change.
pub fn digest(bytes: &[u8]) -> u64 {
    let hash = Sha256::digest(bytes);
    hash.iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// `spec.replicas`.
fn replicas(spec: Option<&RawValue>) -> Option<i64> {
    #[derive(Deserialize)]
    struct Spec {
        replicas: Option<i64>,
    }
    serde_json::from_str::<Spec>(spec?.get()).ok()?.replicas
}

/// The numbers of a workload's status, which are all that is looked at.
fn counts(status: Option<&RawValue>) -> Box<str> {
    let all: Value = status
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let numbers: serde_json::Map<String, Value> = all
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.is_number())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::Object(numbers).to_string().into()
}

/// JSON that is held until it was compared.
#[derive(Debug, Default)]
pub struct Held(RefCell<Box<str>>);

impl<T: Into<Box<str>>> From<T> for Held {
    fn from(text: T) -> Self {
        Self(RefCell::new(text.into()))
    }
}

impl Held {
    /// The value; None when there is no text, or none that fits.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.0.borrow()).ok()
    }

    /// There is nothing, or nothing any more.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    fn bytes(&self) -> usize {
        self.0.borrow().len()
    }

    fn clear(&self) {
        self.0.take();
    }
}

impl Watched {
    /// The trimmed form; None for an object without name, namespace or uid, which no API server sends.
    pub fn trim(self, kind: Kind) -> Option<Entry> {
        let meta = self.metadata;
        let pod = (kind == Kind::Pod).then(|| Pod {
            common: pod::common(self.spec.as_deref(), &meta),
            ..Pod::read(self.spec.as_deref(), self.status.as_deref())
        });
        let key = Key {
            kind,
            namespace: shared(meta.namespace.as_deref()?),
            name: meta.name.as_deref()?.into(),
        };
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        let hash = annotations.remove(APPLIED_HASH);
        let owners = meta.owner_references.unwrap_or_default();
        let keeps_status =
            kind.is_custom() || matches!(kind, Kind::Service | Kind::PersistentVolumeClaim);
        let text = |raw: Option<Box<RawValue>>| {
            raw.map(|raw| String::from(Box::<str>::from(raw)).into_boxed_str())
                .unwrap_or_default()
        };
        Some(Entry {
            uid: meta.uid?.into(),
            version: meta
                .resource_version
                .as_deref()
                .and_then(|v| v.parse().ok())
                .unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            owner: owners
                .iter()
                .find(|o| o.controller == Some(true))
                .map(|o| o.uid.clone().into()),
            hash: hash.map(Into::into),
            annotations: annotations.into_iter().collect(),
            finalizers: meta
                .finalizers
                .unwrap_or_default()
                .into_iter()
                .map(Into::into)
                .collect(),
            owners: serde_json::to_string(&owners).unwrap_or_default().into(),
            replicas: match kind {
                Kind::Deployment | Kind::StatefulSet => replicas(self.spec.as_deref()),
                _ => None,
            },
            spec: if pod.is_some() {
                Held::default()
            } else {
                text(self.spec).into()
            },
            status: match kind {
                Kind::Deployment | Kind::StatefulSet => counts(self.status.as_deref()),
                _ if keeps_status => text(self.status),
                _ => Box::default(),
            },
            certificates: (kind == Kind::Secret)
                .then(|| certificate_facts::read(self.data.as_ref()?))
                .flatten(),
            texts: if kind == Kind::ConfigMap && !is_labelled_as_ours(meta.labels.as_ref()) {
                let data = self.data.iter().flatten();
                data.map(|(k, v)| (k.as_str().into(), v.as_str().into()))
                    .collect()
            } else {
                BTreeMap::new()
            },
            labels: meta.labels.unwrap_or_default().into_iter().collect(),
            data: self
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| {
                    (
                        k.into(),
                        if v.is_empty() {
                            0
                        } else {
                            data_digest(kind, &v)
                        },
                    )
                })
                .collect(),
            key: Some(key),
            pod,
            covered: Cell::new(0),
        })
    }
}

/// Does it carry the label by which informers find what is ours?
fn is_labelled_as_ours(labels: Option<&BTreeMap<String, String>>) -> bool {
    let (name, value) = MANAGED_BY;
    labels
        .and_then(|labels| labels.get(name))
        .map(String::as_str)
        == Some(value)
}

/// Digest of one data value. Secrets arrive in base64, ConfigMaps as text; both are compared with what we would send.
fn data_digest(_kind: Kind, value: &str) -> u64 {
    digest(value.as_bytes()).max(1)
}

impl Entry {
    /// The object holds all of the desired one with this fingerprint ([`crate::covers::fingerprint`]). What was only kept to
    /// find that out goes: a changed object comes as a new entry, and a changed desire is written without looking. A
    /// StatefulSet keeps its spec, since what of it cannot be changed decides what may be desired.
    pub fn cover(&self, fingerprint: u64) {
        self.covered.set(fingerprint);
        let only_compared = matches!(
            self.key().kind,
            Kind::Deployment | Kind::PodDisruptionBudget | Kind::Certificate
        );
        if only_compared {
            self.spec.clear();
            self.owners.clear();
        }
    }

    /// About how many bytes of memory this entry takes, shared texts aside.
    pub fn bytes(&self) -> usize {
        let data: usize = self
            .data
            .keys()
            .map(|name| name.len() + size_of::<(Box<str>, u64)>())
            .chain(self.texts.values().map(|text| text.len()))
            .sum();
        size_of::<Self>()
            + self.uid.len()
            + self.owner.as_ref().map_or(0, |uid| uid.len())
            + self.hash.as_ref().map_or(0, |hash| hash.len())
            + self.labels.bytes()
            + self.annotations.bytes()
            + self.owners.bytes()
            + self.spec.bytes()
            + self.status.len()
            + data
    }

    /// The key; every entry that came from the server has one.
    pub fn key(&self) -> &Key {
        static NONE: std::sync::LazyLock<Key> =
            std::sync::LazyLock::new(|| Key::new(Kind::Pod, "", ""));
        self.key.as_ref().unwrap_or(&NONE)
    }

    /// Is it controlled by `owner`, or a volume that policy keeps? Such a one has no owner: it is known by its cluster.
    pub fn belongs_to(&self, owner: &Self) -> bool {
        let same_cluster = || {
            let cluster = self.label(labels::CLUSTER);
            cluster.is_some() && cluster == owner.label(labels::CLUSTER)
        };
        match &self.owner {
            Some(uid) => *uid == owner.uid,
            None => self.key().kind == Kind::PersistentVolumeClaim && same_cluster(),
        }
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name)
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name)
    }

    /// The status as JSON; null when there is none.
    pub fn status_value(&self) -> Value {
        serde_json::from_str(&self.status).unwrap_or(Value::Null)
    }

    /// One number of the status, 0 when absent.
    pub fn status_number(&self, field: &str) -> i64 {
        self.status_value()
            .get(field)
            .and_then(Value::as_i64)
            .unwrap_or_default()
    }

    /// The object as JSON, for comparison with a desired one. `data` values are digests.
    pub fn comparable(&self) -> Value {
        let mut metadata = serde_json::Map::new();
        let strings = |texts: &Texts| -> serde_json::Map<String, Value> {
            texts
                .iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect()
        };
        let mut annotations = strings(&self.annotations);
        if let Some(hash) = &self.hash {
            annotations.insert(APPLIED_HASH.to_owned(), (**hash).into());
        }
        metadata.insert("labels".into(), strings(&self.labels).into());
        metadata.insert("annotations".into(), annotations.into());
        metadata.insert(
            "ownerReferences".into(),
            self.owners.read().unwrap_or(Value::Null),
        );
        let mut body = serde_json::Map::new();
        body.insert("metadata".into(), Value::Object(metadata));
        if !self.spec.is_empty() {
            body.insert("spec".into(), self.spec.read().unwrap_or(Value::Null));
        }
        if !self.data.is_empty() {
            let data = self
                .data
                .iter()
                .map(|(k, v)| (k.to_string(), Value::from(*v)))
                .collect();
            body.insert("data".into(), Value::Object(data));
        }
        Value::Object(body)
    }

    /// The whole object for typed reading: metadata that our types carry, spec and status.
    ///
    /// # Errors
    /// When the stored JSON does not fit the type: the CRD and the code disagree.
    pub fn typed<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        let key = self.key();
        let mut body = self.comparable();
        if let Some(metadata) = body.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            metadata.insert("name".into(), key.name.as_ref().into());
            metadata.insert("namespace".into(), key.namespace.as_ref().into());
            metadata.insert("uid".into(), self.uid.as_ref().into());
            metadata.insert("generation".into(), self.generation.into());
        }
        if let Some(map) = body.as_object_mut() {
            map.insert("apiVersion".into(), key.kind.api_version().into());
            map.insert("kind".into(), key.kind.name().into());
            if !self.status.is_empty() {
                map.insert("status".into(), self.status_value());
            }
        }
        text_quantities(&mut body);
        serde_json::from_value(body)
    }
}

/// Kubernetes accepts `cpu: 1` as well as `cpu: "1"` (`api.md` trap T3); the Rust types accept only text.
fn text_quantities(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                if let ("limits" | "requests", Value::Object(amounts)) =
                    (name.as_str(), &mut *value)
                {
                    for amount in amounts.values_mut().filter(|amount| amount.is_number()) {
                        *amount = Value::String(amount.to_string());
                    }
                } else {
                    text_quantities(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(text_quantities),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_quantity_is_read_as_text() {
        let spec = r#"{"etcd": {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}}"#;
        let entry = Entry {
            key: Some(Key::new(Kind::TopoServer, "n", "t")),
            spec: spec.into(),
            ..Entry::default()
        };
        let server: crds::TopoServer = entry.typed().unwrap();
        let requests = server
            .spec
            .etcd
            .unwrap()
            .resources
            .unwrap()
            .requests
            .unwrap();
        assert_eq!(requests["cpu"].0, "1");
    }

    #[test]
    fn what_was_only_kept_for_comparison_goes_once_it_was_compared() {
        let body = |replicas: usize| {
            let json = serde_json::json!({
                "metadata": {"name": "w", "namespace": "n", "uid": "u", "resourceVersion": "1",
                             "annotations": {APPLIED_HASH: "h"}},
                "spec": {"replicas": replicas, "template": {"x": "y".repeat(1000)}},
                "status": {"readyReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]},
            });
            serde_json::from_value::<Watched>(json)
                .unwrap()
                .trim(Kind::Deployment)
                .unwrap()
        };
        let entry = body(2);
        let before = entry.bytes();
        assert!(before > 1000);
        assert_eq!(
            entry.comparable()["metadata"]["annotations"][APPLIED_HASH],
            "h"
        );
        entry.cover(7);
        assert!(entry.bytes() < before - 1000);
        assert_eq!(
            (entry.replicas, entry.status_number("readyReplicas")),
            (Some(2), 1)
        );
    }
}
