//! Deployments with one container.

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, Toleration};

use super::{RenderError, pod_security};
use crate::labels::{self, Labels, Map};
use crate::object::{Desired, Kind};
use crate::shape::{
    Container, DeploymentSpec, LabelSelector, Nodes, ObjectMeta, PodSpec, PodTemplateSpec,
    Strategy, Volume,
};

/// How images are fetched; the same for every container of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pull<'a> {
    /// `imagePullPolicy`.
    pub policy: Option<&'a str>,
    /// `imagePullSecrets`.
    pub secrets: &'a [LocalObjectReference],
}

/// Where the pods of a Deployment may run.
#[derive(Default)]
pub struct Placement<'a> {
    /// `nodeSelector`.
    pub nodes: Option<Nodes<'a>>,
    /// `affinity`.
    pub affinity: Option<&'a Affinity>,
    /// `tolerations`.
    pub tolerations: &'a [Toleration],
}

/// The variable parts of a Deployment with one container.
pub struct Stateless<'a> {
    /// Name, labels, owner.
    pub metadata: ObjectMeta<'a>,
    /// Number of pods.
    pub replicas: i32,
    /// True when two pods must never run side by side.
    pub exclusive: bool,
    /// The user's pod labels; ours win.
    pub pod_labels: &'a Map,
    /// The pod's annotations.
    pub pod_annotations: Labels<'a>,
    /// Placement.
    pub placement: Placement<'a>,
    /// Pull policy and secrets.
    pub pull: Pull<'a>,
    /// The container.
    pub container: Container<'a>,
    /// Its volumes.
    pub volumes: Vec<Volume<'a>>,
}

impl Stateless<'_> {
    /// The Deployment.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn build(self) -> Result<Desired, RenderError> {
        let own = &self.metadata.labels;
        let container = Container {
            image_pull_policy: self.pull.policy,
            ..self.container
        };
        let spec = DeploymentSpec {
            replicas: self.replicas,
            selector: LabelSelector {
                match_labels: labels::selector(own),
                ..LabelSelector::default()
            },
            strategy: self.exclusive.then_some(Strategy { type_: "Recreate" }),
            template: PodTemplateSpec {
                metadata: ObjectMeta {
                    labels: labels::merged(labels::borrowed(self.pod_labels), own.clone()),
                    annotations: self.pod_annotations,
                    ..ObjectMeta::default()
                },
                spec: PodSpec {
                    containers: vec![container],
                    volumes: self.volumes,
                    node_selector: self.placement.nodes,
                    affinity: self.placement.affinity,
                    tolerations: self.placement.tolerations,
                    image_pull_secrets: self.pull.secrets,
                    automount_service_account_token: false,
                    security_context: pod_security(),
                    ..PodSpec::default()
                },
            },
        };
        Ok(Desired::new(Kind::Deployment, &self.metadata, &spec)?)
    }
}
