//! One observed object, trimmed at the door: no Kubernetes type outlives its event (`design.md` 2, Caches).
//!
//! What only the comparison with a desired object needs goes once that comparison came out well: it holds for this version of
//! the object, and a changed one comes as a new entry.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::certificate_facts::CertificateFacts;
use crate::labels;
use crate::object::{Key, Kind};
use crate::text::Texts;

mod bytes;
mod pod;
mod watched;

pub(crate) use bytes::piece;
pub use pod::{Pod, Stuck, StuckBy};
use watched::LookedAt;
pub use watched::Watched;

/// Annotation with the hash of the desired object that was last applied (`design.md` 2, "When to write").
pub const APPLIED_HASH: &str = "multigres.com/applied-hash";

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
    /// Of a MultigresCluster or a pod: when it was made, by the API server's clock.
    pub created: Option<jiff::Timestamp>,
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
    /// The owner references as JSON. Gone once the object was compared, unless it is one that is made once.
    pub owners: Held,
    /// `spec` as JSON: as sent, and what decisions look at once the object was compared. Nothing of a pod (see `pod`).
    pub spec: Held,
    /// `spec.replicas` of a Deployment or StatefulSet.
    pub replicas: Option<i64>,
    /// `status` as JSON, as far as decisions look at it.
    pub status: Box<str>,
    /// `data` of ConfigMaps and Secrets: digest per key, never the content.
    pub data: BTreeMap<Box<str>, u64>,
    /// Content of a user's ConfigMap: it is only read when a resource refers to it. Empty for what is labelled as ours.
    pub texts: BTreeMap<Box<str>, Box<str>>,
    /// Of a Secret with certificates: what decisions need.
    pub certificates: Option<Box<CertificateFacts>>,
    /// Of a StorageClass: it binds claims as soon as they are made (`volumeBindingMode: Immediate`), not when a pod uses them.
    pub binds_at_once: bool,
    /// Of a pod: what decisions need.
    pub pod: Option<Box<Pod>>,
    /// Fingerprint of the desired object that this one was found to cover; 0 = not compared yet.
    pub covered: Cell<u64>,
    /// Fingerprint of the desired object that was written without changing this one; 0 = none.
    pub vain: Cell<u64>,
}

/// A short digest of a value, for telling change from no change.
pub fn digest(bytes: &[u8]) -> u64 {
    let hash = Sha256::digest(bytes);
    hash.iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
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

    fn len(&self) -> usize {
        self.0.borrow().len()
    }

    fn replace(&self, with: impl FnOnce(&str) -> Box<str>) {
        let text = with(&self.0.borrow());
        self.0.replace(text);
    }
}

impl Entry {
    /// The object holds all of the desired one with this fingerprint ([`crate::covers::fingerprint`]). What was only kept to
    /// find that out goes; a changed desire is written without looking.
    pub fn cover(&self, fingerprint: u64) {
        self.covered.set(fingerprint);
        let kind = self.key().kind;
        if let looked_at @ LookedAt::Fields(_) = LookedAt::of_spec(kind) {
            self.spec.replace(|spec| looked_at.part(spec));
        }
        if !kind.is_created() {
            self.owners.replace(|_| Box::default());
        }
    }

    /// Nothing is to be done for the desired object of this fingerprint: it is covered, or was written in vain.
    pub fn is_settled(&self, fingerprint: u64) -> bool {
        [self.covered.get(), self.vain.get()].contains(&fingerprint)
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
}
