//! An object as the API server sends it, parsed only as far as we need, and what is kept of it.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::core::{ApiResource, DynamicResourceScope, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{APPLIED_HASH, Entry, Held, Pod, digest, pod};
use crate::certificate_facts;
use crate::object::{Key, Kind, MANAGED_BY};
use crate::text::shared;

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
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
}

fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let slim = SlimMetadata::deserialize(deserializer)?;
    let time = |text: Option<String>| text.and_then(|text| text.parse().ok()).map(Time);
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        generation: slim.generation,
        creation_timestamp: time(slim.creation_timestamp),
        deletion_timestamp: time(slim.deletion_timestamp),
        labels: slim.labels,
        annotations: slim.annotations,
        owner_references: slim.owner_references,
        finalizers: slim.finalizers,
        ..ObjectMeta::default()
    })
}

impl Resource for Watched {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// `spec.replicas`.
fn replicas(spec: Option<&RawValue>) -> Option<i64> {
    #[derive(Deserialize)]
    struct Spec {
        replicas: Option<i64>,
    }
    serde_json::from_str::<Spec>(spec?.get()).ok()?.replicas
}

/// What decisions look at, of a kind's spec or status.
pub(super) enum LookedAt {
    Whole,
    Fields(&'static [&'static str]),
}

use LookedAt::{Fields, Whole};

impl LookedAt {
    /// Of the spec, beside comparing the object with a desired one.
    pub(super) const fn of_spec(kind: Kind) -> Self {
        match kind {
            Kind::CoreTemplate
            | Kind::CellTemplate
            | Kind::ShardTemplate
            | Kind::MultigresCluster
            | Kind::TopoServer
            | Kind::Cell
            | Kind::TableGroup
            | Kind::Shard
            | Kind::PersistentVolumeClaim => Whole,
            // What of a StatefulSet cannot be changed decides what may be desired.
            Kind::StatefulSet => Fields(&["replicas", "volumeClaimTemplates"]),
            Kind::Service => Fields(&["externalIPs"]),
            Kind::Deployment
            | Kind::ConfigMap
            | Kind::Secret
            | Kind::Pod
            | Kind::PodDisruptionBudget
            | Kind::Certificate
            | Kind::StorageClass => Fields(&[]),
        }
    }

    /// Of the status.
    const fn of_status(kind: Kind) -> Self {
        const REPLICAS: &[&str] = &[
            "observedGeneration",
            "replicas",
            "readyReplicas",
            "updatedReplicas",
        ];
        match kind {
            Kind::MultigresCluster
            | Kind::TopoServer
            | Kind::Cell
            | Kind::TableGroup
            | Kind::Shard => Whole,
            Kind::StatefulSet | Kind::Deployment => Fields(REPLICAS),
            Kind::Service => Fields(&["loadBalancer"]),
            Kind::PersistentVolumeClaim => Fields(&["capacity", "conditions", "phase"]),
            Kind::Certificate => Fields(&["conditions"]),
            _ => Fields(&[]),
        }
    }

    /// What of this JSON is looked at; empty when there is none of it.
    pub(super) fn part(&self, json: &str) -> Box<str> {
        let names = match self {
            Whole => return json.into(),
            Fields([]) => return Box::default(),
            Fields(names) => names,
        };
        let mut fields: BTreeMap<&str, &RawValue> = serde_json::from_str(json).unwrap_or_default();
        fields.retain(|name, _| names.contains(name));
        if fields.is_empty() {
            return Box::default();
        }
        serde_json::to_string(&fields).unwrap_or_default().into()
    }
}

impl Watched {
    /// The trimmed form; None for an object without name or uid, or without the namespace of its kind: no API server sends one.
    pub fn trim(self, kind: Kind) -> Option<Entry> {
        let meta = self.metadata;
        let (spec, status) = (self.spec.as_deref(), self.status.as_deref());
        let pod = (kind == Kind::Pod).then(|| {
            Box::new(Pod {
                common: pod::common(spec, &meta),
                ..Pod::read(spec, status)
            })
        });
        let key = Key {
            kind,
            namespace: match meta.namespace.as_deref() {
                None if kind.is_cluster_scoped() => shared(""),
                namespace => shared(namespace?),
            },
            name: meta.name.as_deref()?.into(),
        };
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        let hash = annotations.remove(APPLIED_HASH);
        let owners = meta.owner_references.unwrap_or_default();
        Some(Entry {
            uid: meta.uid?.into(),
            version: meta
                .resource_version
                .as_deref()
                .and_then(|v| v.parse().ok())
                .unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            created: matches!(kind, Kind::MultigresCluster | Kind::Pod)
                .then(|| meta.creation_timestamp.map(|time| time.0))
                .flatten(),
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
                Kind::Deployment | Kind::StatefulSet => replicas(spec),
                _ => None,
            },
            spec: match spec {
                // The spec of an object that is made once is never compared.
                Some(spec) if kind.is_created() => LookedAt::of_spec(kind).part(spec.get()).into(),
                Some(spec) => spec.get().into(),
                None => Held::default(),
            },
            status: status.map_or_else(Box::default, |status| {
                LookedAt::of_status(kind).part(status.get())
            }),
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
                .map(|(name, value)| (name.into(), data_digest(&value)))
                .collect(),
            key: Some(key),
            pod,
            covered: Cell::new(0),
            vain: Cell::new(0),
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

/// Digest of one data value; 0 is an empty one. Secrets arrive in base64, ConfigMaps as text; both are compared with what we
/// would send.
fn data_digest(value: &str) -> u64 {
    if value.is_empty() {
        0
    } else {
        digest(value.as_bytes()).max(1)
    }
}
