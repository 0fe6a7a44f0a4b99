//! Deployments with one container.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Affinity, Container, LocalObjectReference, PodSpec, PodTemplateSpec, Toleration, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{listed, pod_security};
use crate::labels::{self, Map};

/// How images are fetched; the same for every container of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Pull {
    /// `imagePullPolicy`.
    pub policy: Option<String>,
    /// `imagePullSecrets`.
    pub secrets: Option<Vec<LocalObjectReference>>,
}

/// Where the pods of a Deployment may run.
#[derive(Default)]
pub struct Placement {
    /// `nodeSelector`.
    pub nodes: Option<Map>,
    /// `affinity`.
    pub affinity: Option<Affinity>,
    /// `tolerations`.
    pub tolerations: Option<Vec<Toleration>>,
}

/// The variable parts of a Deployment with one container.
pub struct Stateless {
    /// Name, labels, owner.
    pub metadata: ObjectMeta,
    /// Number of pods.
    pub replicas: i32,
    /// True when two pods must never run side by side.
    pub exclusive: bool,
    /// The user's pod labels; ours win.
    pub pod_labels: Option<Map>,
    /// The pod's annotations.
    pub pod_annotations: Option<Map>,
    /// Placement.
    pub placement: Placement,
    /// Pull policy and secrets.
    pub pull: Pull,
    /// The container.
    pub container: Container,
    /// Its volumes.
    pub volumes: Vec<Volume>,
}

impl Stateless {
    /// The Deployment.
    pub fn build(self) -> Deployment {
        let own = self.metadata.labels.clone().unwrap_or_default();
        let selector = labels::selector(&own);
        let container = Container {
            image_pull_policy: self.pull.policy,
            ..self.container
        };
        Deployment {
            metadata: self.metadata,
            spec: Some(DeploymentSpec {
                replicas: Some(self.replicas),
                selector: LabelSelector {
                    match_labels: Some(selector),
                    match_expressions: None,
                },
                strategy: self.exclusive.then(|| DeploymentStrategy {
                    type_: Some("Recreate".to_owned()),
                    rolling_update: None,
                }),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(labels::merged(self.pod_labels.as_ref(), own)),
                        annotations: self
                            .pod_annotations
                            .filter(|annotations| !annotations.is_empty()),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(PodSpec {
                        containers: vec![container],
                        volumes: listed(self.volumes),
                        node_selector: self.placement.nodes,
                        affinity: self.placement.affinity,
                        tolerations: self.placement.tolerations,
                        image_pull_secrets: self.pull.secrets,
                        automount_service_account_token: Some(false),
                        security_context: Some(pod_security()),
                        ..PodSpec::default()
                    }),
                },
                ..DeploymentSpec::default()
            }),
            status: None,
        }
    }
}
