//! One observed object, trimmed at the door: no Kubernetes type outlives its event (`design.md` 2, Caches).

use std::cell::Cell;
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
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// All annotations but kubectl's copy of the manifest.
    pub annotations: BTreeMap<Box<str>, Box<str>>,
    /// Finalizers.
    pub finalizers: Vec<Box<str>>,
    /// The owner references as JSON, for comparison.
    pub owners: Box<str>,
    /// `spec` as JSON, as sent; empty for pods (see `pod`) and for kinds without one.
    pub spec: Box<str>,
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

impl Watched {
    /// The trimmed form; None for an object without name, namespace or uid, which no API server sends.
    pub fn trim(self, kind: Kind) -> Option<Entry> {
        let meta = self.metadata;
        let pod = (kind == Kind::Pod).then(|| Pod {
            common: pod::common(self.spec.as_deref(), &meta),
            ..Pod::read(self.spec.as_deref(), self.status.as_deref())
        });
        let key = Key::new(kind, meta.namespace.as_deref()?, meta.name.as_deref()?);
        let mut annotations: BTreeMap<Box<str>, Box<str>> = meta
            .annotations
            .unwrap_or_default()
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        let owners = meta.owner_references.unwrap_or_default();
        let keeps_status = kind.is_custom()
            || matches!(
                kind,
                Kind::StatefulSet | Kind::Deployment | Kind::Service | Kind::PersistentVolumeClaim
            );
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
            hash: annotations.get(APPLIED_HASH).cloned(),
            annotations,
            finalizers: meta
                .finalizers
                .unwrap_or_default()
                .into_iter()
                .map(Into::into)
                .collect(),
            owners: serde_json::to_string(&owners).unwrap_or_default().into(),
            spec: if pod.is_some() {
                Box::default()
            } else {
                text(self.spec)
            },
            status: if keeps_status {
                text(self.status)
            } else {
                Box::default()
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
            labels: meta
                .labels
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
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
        self.labels.get(name).map(AsRef::as_ref)
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(AsRef::as_ref)
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
        let strings = |map: &BTreeMap<Box<str>, Box<str>>| {
            Value::Object(
                map.iter()
                    .map(|(k, v)| (k.to_string(), Value::from(v.as_ref())))
                    .collect(),
            )
        };
        metadata.insert("labels".into(), strings(&self.labels));
        metadata.insert("annotations".into(), strings(&self.annotations));
        metadata.insert(
            "ownerReferences".into(),
            serde_json::from_str(&self.owners).unwrap_or(Value::Null),
        );
        let mut body = serde_json::Map::new();
        body.insert("metadata".into(), Value::Object(metadata));
        if !self.spec.is_empty() {
            body.insert(
                "spec".into(),
                serde_json::from_str(&self.spec).unwrap_or(Value::Null),
            );
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
}
