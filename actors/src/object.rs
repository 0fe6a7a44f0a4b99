//! Names of the objects we handle, and the desired form of those we create.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::manifest::Manifest;
use crate::shape::ObjectMeta;

/// The label by which informers find our objects, and its value (`api.md` 5.1).
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "multigres-operator");

/// Every kind the operator reads or writes. The order is the order of service in lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Kind {
    CoreTemplate,
    CellTemplate,
    ShardTemplate,
    MultigresCluster,
    TopoServer,
    Cell,
    TableGroup,
    Shard,
    StatefulSet,
    Deployment,
    Service,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
    Pod,
    PodDisruptionBudget,
    Certificate,
    StorageClass,
}

impl Kind {
    /// The kinds of which there are objects of ours, or that have an actor, or are templates: each is watched, in this order.
    pub const ALL: [Kind; 17] = [
        Kind::CoreTemplate,
        Kind::CellTemplate,
        Kind::ShardTemplate,
        Kind::MultigresCluster,
        Kind::TopoServer,
        Kind::Cell,
        Kind::TableGroup,
        Kind::Shard,
        Kind::StatefulSet,
        Kind::Deployment,
        Kind::Service,
        Kind::ConfigMap,
        Kind::Secret,
        Kind::PersistentVolumeClaim,
        Kind::Pod,
        Kind::PodDisruptionBudget,
        Kind::Certificate,
    ];

    /// The kinds of users' objects that a spec refers to by name, templates aside: of these it is watched that they change.
    pub const FOREIGN: [Kind; 3] = [Kind::ConfigMap, Kind::Secret, Kind::StorageClass];

    /// API group, version and plural resource name.
    pub const fn resource(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::CoreTemplate => ("multigres.com", "v1alpha1", "coretemplates"),
            Kind::CellTemplate => ("multigres.com", "v1alpha1", "celltemplates"),
            Kind::ShardTemplate => ("multigres.com", "v1alpha1", "shardtemplates"),
            Kind::MultigresCluster => ("multigres.com", "v1alpha1", "multigresclusters"),
            Kind::TopoServer => ("multigres.com", "v1alpha1", "toposervers"),
            Kind::Cell => ("multigres.com", "v1alpha1", "cells"),
            Kind::TableGroup => ("multigres.com", "v1alpha1", "tablegroups"),
            Kind::Shard => ("multigres.com", "v1alpha1", "shards"),
            Kind::StatefulSet => ("apps", "v1", "statefulsets"),
            Kind::Deployment => ("apps", "v1", "deployments"),
            Kind::Service => ("", "v1", "services"),
            Kind::ConfigMap => ("", "v1", "configmaps"),
            Kind::Secret => ("", "v1", "secrets"),
            Kind::PersistentVolumeClaim => ("", "v1", "persistentvolumeclaims"),
            Kind::Pod => ("", "v1", "pods"),
            Kind::PodDisruptionBudget => ("policy", "v1", "poddisruptionbudgets"),
            Kind::Certificate => ("cert-manager.io", "v1", "certificates"),
            Kind::StorageClass => ("storage.k8s.io", "v1", "storageclasses"),
        }
    }

    /// The name of the kind as it stands in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::CoreTemplate => "CoreTemplate",
            Kind::CellTemplate => "CellTemplate",
            Kind::ShardTemplate => "ShardTemplate",
            Kind::MultigresCluster => "MultigresCluster",
            Kind::TopoServer => "TopoServer",
            Kind::Cell => "Cell",
            Kind::TableGroup => "TableGroup",
            Kind::Shard => "Shard",
            Kind::StatefulSet => "StatefulSet",
            Kind::Deployment => "Deployment",
            Kind::Service => "Service",
            Kind::ConfigMap => "ConfigMap",
            Kind::Secret => "Secret",
            Kind::PersistentVolumeClaim => "PersistentVolumeClaim",
            Kind::Pod => "Pod",
            Kind::PodDisruptionBudget => "PodDisruptionBudget",
            Kind::Certificate => "Certificate",
            Kind::StorageClass => "StorageClass",
        }
    }

    /// `apiVersion` as it stands in manifests.
    pub const fn api_version(self) -> &'static str {
        match self {
            Kind::CoreTemplate
            | Kind::CellTemplate
            | Kind::ShardTemplate
            | Kind::MultigresCluster
            | Kind::TopoServer
            | Kind::Cell
            | Kind::TableGroup
            | Kind::Shard => "multigres.com/v1alpha1",
            Kind::StatefulSet | Kind::Deployment => "apps/v1",
            Kind::Service
            | Kind::ConfigMap
            | Kind::Secret
            | Kind::PersistentVolumeClaim
            | Kind::Pod => "v1",
            Kind::PodDisruptionBudget => "policy/v1",
            Kind::Certificate => "cert-manager.io/v1",
            Kind::StorageClass => "storage.k8s.io/v1",
        }
    }

    /// True for kinds that the API server may not serve: watched only while their definition exists.
    pub const fn is_optional(self) -> bool {
        matches!(self, Kind::Certificate)
    }

    /// True for kinds without a namespace; their keys have an empty one.
    pub const fn is_cluster_scoped(self) -> bool {
        matches!(self, Kind::StorageClass)
    }

    /// True for templates: the users' own, watched whole, referred to by clusters of their namespace.
    pub const fn is_template(self) -> bool {
        matches!(
            self,
            Kind::CoreTemplate | Kind::CellTemplate | Kind::ShardTemplate
        )
    }

    /// True for the custom resources that have an actor.
    pub const fn is_custom(self) -> bool {
        matches!(
            self,
            Kind::MultigresCluster | Kind::TopoServer | Kind::Cell | Kind::TableGroup | Kind::Shard
        )
    }

    /// True for objects made once by POST and never applied again: a pod is replaced, a claim is patched.
    pub const fn is_created(self) -> bool {
        matches!(self, Kind::Pod | Kind::PersistentVolumeClaim | Kind::Secret)
    }

    /// The path of one object (`name` given) or of a namespace's or all objects of this kind.
    pub fn path(self, namespace: Option<&str>, name: Option<&str>) -> String {
        let (group, version, plural) = self.resource();
        let mut path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        if let Some(namespace) = namespace {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

/// Kind, namespace and name: what two writers would fight over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for [`Kind::is_cluster_scoped`].
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its parts.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The URL path of this object.
    pub fn path(&self) -> String {
        let namespace = (!self.kind.is_cluster_scoped()).then_some(&*self.namespace);
        self.kind.path(namespace, Some(&self.name))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.is_cluster_scoped() {
            return write!(f, "{} {}", self.kind.name(), self.name);
        }
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// An object as we want it: only the fields we own, as they are sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Desired {
    /// What it is called.
    pub key: Key,
    /// The manifest: `apiVersion`, `kind`, `metadata` (name, namespace, labels, annotations, owner reference) and content.
    pub body: Manifest,
}

impl Desired {
    /// The desired form of an object with a spec.
    ///
    /// # Errors
    /// When it cannot be serialised or has no name or namespace: a bug in a builder.
    pub fn new(
        kind: Kind,
        metadata: &ObjectMeta<'_>,
        spec: &impl Serialize,
    ) -> Result<Self, serde_json::Error> {
        Self::written(kind, metadata, None, Some(spec))
    }

    /// The desired form of a ConfigMap.
    ///
    /// # Errors
    /// As [`Desired::new`].
    pub fn config_map(
        metadata: &ObjectMeta<'_>,
        data: &Labels<'_>,
    ) -> Result<Self, serde_json::Error> {
        Self::written(Kind::ConfigMap, metadata, Some(data), None::<&()>)
    }

    /// The desired form of a Secret, without its data.
    ///
    /// # Errors
    /// As [`Desired::new`].
    pub fn secret(metadata: &ObjectMeta<'_>) -> Result<Self, serde_json::Error> {
        Self::written(Kind::Secret, metadata, None, None::<&()>)
    }

    fn written(
        kind: Kind,
        metadata: &ObjectMeta<'_>,
        data: Option<&Labels<'_>>,
        spec: Option<&impl Serialize>,
    ) -> Result<Self, serde_json::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Object<'a, S> {
            api_version: &'a str,
            data: Option<&'a Labels<'a>>,
            kind: &'a str,
            metadata: &'a ObjectMeta<'a>,
            spec: Option<&'a S>,
        }
        let namespace = metadata.namespace.unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        if namespace.is_empty() || name.is_empty() {
            return Err(serde::ser::Error::custom(format!(
                "{} without namespace or name",
                kind.name()
            )));
        }
        let object = Object {
            api_version: kind.api_version(),
            data,
            kind: kind.name(),
            metadata,
            spec,
        };
        Ok(Self {
            key: Key::new(kind, namespace, name),
            body: Manifest::of(&object)?,
        })
    }
}
