//! The custom resource that objects belong to.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta as Metadata;

use super::RenderError;
use crate::labels::{self, Labels, Map};
use crate::object::Kind;
use crate::shape::{ObjectMeta, OwnerReference, Text};

static NONE: Map = Map::new();

/// Identity of a custom resource, as its children refer to it.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    kind: Kind,
    /// Namespace of the owner and of everything it owns.
    pub namespace: &'a str,
    /// Name of the owner.
    pub name: &'a str,
    uid: &'a str,
    /// Labels of the owner.
    pub labels: &'a Map,
    /// Value of the project annotation, where set and not empty.
    pub project: Option<&'a str>,
}

impl<'a> Owner<'a> {
    /// Reads the identity.
    ///
    /// # Errors
    /// When the object has no name, namespace or uid, so did not come from the API server.
    pub fn new(kind: Kind, meta: &'a Metadata) -> Result<Self, RenderError> {
        let part = |value: &'a Option<String>, field| {
            super::text(value).ok_or(RenderError::Missing {
                kind: kind.name(),
                field,
            })
        };
        Ok(Self {
            kind,
            namespace: part(&meta.namespace, "metadata.namespace")?,
            name: part(&meta.name, "metadata.name")?,
            uid: part(&meta.uid, "metadata.uid")?,
            labels: meta.labels.as_ref().unwrap_or(&NONE),
            project: meta
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(labels::PROJECT_REF))
                .map(String::as_str)
                .filter(|project| !project.is_empty()),
        })
    }

    /// The cluster this object belongs to, from its label.
    ///
    /// # Errors
    /// When the label is missing: names derived from an empty cluster would collide.
    pub fn cluster(&self) -> Result<&'a str, RenderError> {
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
    pub fn reference(&self) -> OwnerReference<'a> {
        OwnerReference {
            api_version: self.kind.api_version(),
            kind: self.kind.name(),
            name: self.name,
            uid: self.uid,
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// Metadata of a child.
    pub fn child<'b>(&self, name: impl Into<Text<'b>>, labels: Labels<'b>) -> ObjectMeta<'b>
    where
        'a: 'b,
    {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.namespace),
            labels,
            owner_references: vec![self.reference()],
            ..ObjectMeta::default()
        }
    }

    /// Metadata of a child custom resource, which inherits the project.
    pub fn child_resource<'b>(
        &self,
        name: impl Into<Text<'b>>,
        labels: Labels<'b>,
    ) -> ObjectMeta<'b>
    where
        'a: 'b,
    {
        let project = self.project.map(|project| (labels::PROJECT_REF, project));
        ObjectMeta {
            annotations: project.into_iter().collect(),
            ..self.child(name, labels)
        }
    }
}
