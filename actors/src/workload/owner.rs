//! The custom resource that objects belong to.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::RenderError;
use crate::labels::{self, Map};
use crate::object::Kind;

/// Identity of a custom resource, as its children refer to it.
#[derive(Clone, Debug)]
pub struct Owner {
    kind: Kind,
    /// Namespace of the owner and of everything it owns.
    pub namespace: String,
    /// Name of the owner.
    pub name: String,
    uid: String,
    /// Labels of the owner.
    pub labels: Map,
    /// Value of the project annotation, where set and not empty.
    pub project: Option<String>,
}

impl Owner {
    /// Reads the identity.
    ///
    /// # Errors
    /// When the object has no name, namespace or uid, so did not come from the API server.
    pub fn new(kind: Kind, meta: &ObjectMeta) -> Result<Self, RenderError> {
        let part = |value: &Option<String>, field| {
            value
                .clone()
                .filter(|v| !v.is_empty())
                .ok_or(RenderError::Missing {
                    kind: kind.name(),
                    field,
                })
        };
        Ok(Self {
            kind,
            namespace: part(&meta.namespace, "metadata.namespace")?,
            name: part(&meta.name, "metadata.name")?,
            uid: part(&meta.uid, "metadata.uid")?,
            labels: meta.labels.clone().unwrap_or_default(),
            project: meta
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(labels::PROJECT_REF))
                .filter(|project| !project.is_empty())
                .cloned(),
        })
    }

    /// The cluster this object belongs to, from its label.
    ///
    /// # Errors
    /// When the label is missing: names derived from an empty cluster would collide.
    pub fn cluster(&self) -> Result<&str, RenderError> {
        self.labels
            .get(labels::CLUSTER)
            .map(String::as_str)
            .filter(|cluster| !cluster.is_empty())
            .ok_or(RenderError::Missing {
                kind: self.kind.name(),
                field: "label multigres.com/cluster",
            })
    }

    /// A controller reference to this object.
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.kind.api_version(),
            kind: self.kind.name().to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// Metadata of a child.
    pub fn child(&self, name: impl Into<String>, labels: Map) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![self.reference()]),
            ..ObjectMeta::default()
        }
    }

    /// Metadata of a child custom resource, which inherits the project.
    pub fn child_resource(&self, name: impl Into<String>, labels: Map) -> ObjectMeta {
        let annotations = self
            .project
            .clone()
            .map(|project| Map::from([(labels::PROJECT_REF.to_owned(), project)]));
        ObjectMeta {
            annotations,
            ..self.child(name, labels)
        }
    }
}
