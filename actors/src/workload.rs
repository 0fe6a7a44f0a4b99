//! What all workloads have in common: metadata, ports, probes, security contexts, volumes, telemetry.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimSpec,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecretKeySelector,
    SecretVolumeSource, SecurityContext, Service, ServicePort, ServiceSpec, Toleration, Volume,
    VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crds::{BackupConfig, InternalTlsConfig, ObservabilityConfig, PvcDeletionPolicy};
use serde::Serialize;

use crate::labels::{self, Map};
use crate::object::Kind;

/// Why an object could not be built. Neither can happen to objects that passed admission.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The builder's output is not valid JSON.
    #[error("cannot serialise: {0}")]
    Json(#[from] serde_json::Error),
    /// The custom resource lacks something every object is named by.
    #[error("{kind} without {field}")]
    Missing {
        /// The kind that is incomplete.
        kind: &'static str,
        /// What is missing.
        field: &'static str,
    },
    /// The custom resource contradicts itself.
    #[error("{0}")]
    Invalid(String),
}

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

/// How images are fetched; the same for every container of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Pull {
    /// `imagePullPolicy`.
    pub policy: Option<String>,
    /// `imagePullSecrets`.
    pub secrets: Option<Vec<LocalObjectReference>>,
}

/// The text of a string or of an enumeration of the API, as it stands in manifests; `None` when absent or empty.
pub fn text(value: &impl Serialize) -> Option<String> {
    let value = serde_json::to_value(value).ok()?;
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// A log level as the binaries take it.
pub fn log_level(level: Option<&impl Serialize>) -> String {
    level.and_then(text).unwrap_or_else(|| "info".to_owned())
}

/// The image asked for, else the default.
pub fn image(asked: &impl Serialize, default: &str) -> String {
    text(asked).unwrap_or_else(|| default.to_owned())
}

/// True when components talk mutual TLS.
pub fn mesh(config: Option<&InternalTlsConfig>) -> bool {
    config.is_some_and(|config| config.enabled == Some(true))
}

/// True when volumes go with their owner.
pub fn deleted_with_owner(policy: Option<&PvcDeletionPolicy>) -> bool {
    policy
        .and_then(|policy| text(&policy.when_deleted))
        .as_deref()
        == Some("Delete")
}

/// True when volumes go with their pod. That is the default of a policy that does not say.
pub fn deleted_with_pod(policy: Option<&PvcDeletionPolicy>) -> bool {
    policy
        .and_then(|policy| text(&policy.when_scaled))
        .as_deref()
        == Some("Delete")
}

/// True when backups go to an object store.
pub fn is_s3(backup: &BackupConfig) -> bool {
    text(&backup.type_).as_deref() == Some("s3")
}

/// The user's own certificates for pgBackRest.
pub fn own_pgbackrest_secret(backup: &BackupConfig) -> Option<String> {
    backup
        .pgbackrest_tls
        .as_ref()
        .and_then(|tls| text(&tls.secret_name))
}

/// Owned strings.
pub fn strings<const N: usize>(items: [&str; N]) -> Vec<String> {
    items.into_iter().map(str::to_owned).collect()
}

/// A container port.
pub fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// A Service port that leads to the container port of the same name.
pub fn service_port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        target_port: Some(IntOrString::String(name.to_owned())),
        ..numbered_port(name, number)
    }
}

/// A Service port that leads to the same number.
pub fn numbered_port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

/// The three probes of a container with an HTTP port.
pub struct Probes {
    /// 150 seconds to come up.
    pub startup: Probe,
    /// Restarts the container.
    pub liveness: Probe,
    /// Takes it out of Services.
    pub readiness: Probe,
}

/// Startup and liveness ask whether the process serves at all; only readiness may depend on its peers, or a slow peer
/// would get it killed.
pub fn probes(alive: &str, ready: &str, port: i32) -> Probes {
    let probe = |path: &str, period, failures| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: failures,
        ..Probe::default()
    };
    Probes {
        startup: probe(alive, 5, Some(30)),
        liveness: probe(alive, 10, None),
        readiness: probe(ready, 5, None),
    }
}

impl Probes {
    /// Puts the probes on a container.
    pub fn on(self, container: Container) -> Container {
        Container {
            startup_probe: Some(self.startup),
            liveness_probe: Some(self.liveness),
            readiness_probe: Some(self.readiness),
            ..container
        }
    }
}

/// What every container is denied. Identity is added where it is known as a number.
pub fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(strings(["ALL"])),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

/// A confined container whose image names its user by number, or gets one here.
pub fn unprivileged(user: Option<i64>, group: Option<i64>) -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: user,
        run_as_group: group,
        ..confined()
    }
}

/// The security context of every pod.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// A plain variable.
pub fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        value_from: None,
    }
}

/// A variable from a field of the pod.
pub fn env_field(name: &str, path: &str) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector {
        field_path: path.to_owned(),
        api_version: None,
    });
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref,
            ..EnvVarSource::default()
        }),
    }
}

/// A variable from a key of a Secret.
pub fn env_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let secret_key_ref = Some(SecretKeySelector {
        name: secret.to_owned(),
        key: key.to_owned(),
        optional: None,
    });
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref,
            ..EnvVarSource::default()
        }),
    }
}

/// The address under which a component without a stable name registers itself (`--hostname=$(POD_IP)`).
pub fn pod_ip() -> EnvVar {
    env_field("POD_IP", "status.podIP")
}

/// A mount.
pub fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// A read-only mount.
pub fn mount_ro(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount(volume, path)
    }
}

/// A volume with a Secret.
pub fn secret_volume(name: &str, secret: &str, mode: i32, items: Option<Vec<KeyToPath>>) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(mode),
            items,
            optional: None,
        }),
        ..Volume::default()
    }
}

/// A volume with a ConfigMap.
pub fn config_volume(name: &str, config: &str, items: Option<Vec<KeyToPath>>) -> Volume {
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config.to_owned(),
            items,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A key of a Secret or ConfigMap as a file.
pub fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        mode: None,
    }
}

/// A list, or nothing: an empty list sent by apply would claim the field.
pub fn listed<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

/// What a claim asks for.
pub fn claim_spec(size: &str, class: Option<&str>, modes: &[String]) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        access_modes: listed(modes.to_vec()).or_else(|| Some(strings(["ReadWriteOnce"]))),
        resources: Some(VolumeResourceRequirements {
            requests: Some([("storage".to_owned(), Quantity(size.to_owned()))].into()),
            limits: None,
        }),
        storage_class_name: class.map(str::to_owned),
        ..PersistentVolumeClaimSpec::default()
    }
}

/// A Service inside the cluster.
pub fn service(metadata: ObjectMeta, selector: Map, ports: Vec<ServicePort>) -> Service {
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A Service that gives each pod a name, ready or not: members must find each other before they are ready.
pub fn headless(metadata: ObjectMeta, selector: Map, ports: Vec<ServicePort>) -> Service {
    Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
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

/// Where the sampling rules of traces are mounted.
const SAMPLING_DIR: &str = "/etc/otel";

/// What telemetry adds to a container and its pod.
#[derive(Default)]
pub struct Telemetry {
    /// Variables, in the order the Go operator has them.
    pub env: Vec<EnvVar>,
    /// The sampling rules.
    pub mount: Option<VolumeMount>,
    /// The volume with the sampling rules.
    pub volume: Option<Volume>,
}

/// Whose telemetry it is; multiadmin sends none of this.
pub struct Attributes<'a> {
    /// Project, or the cluster's name.
    pub project: &'a str,
    /// Cluster.
    pub cluster: &'a str,
    /// Component.
    pub component: &'a str,
}

/// Telemetry settings of one container. Nothing is taken from our own environment: a change of it would restart pods.
pub fn telemetry(
    config: Option<&ObservabilityConfig>,
    attributes: Option<&Attributes<'_>>,
) -> Telemetry {
    let Some(config) = config else {
        return Telemetry::default();
    };
    let endpoint = text(&config.otlp_endpoint);
    let silent = endpoint.is_none() && text(&config.otlp_metrics_endpoint).is_none();
    let off = silent || endpoint.as_deref() == Some("disabled");
    let mut result = Telemetry::default();
    if !off {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", text(&config.otlp_endpoint)),
            (
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
                text(&config.otlp_metrics_endpoint),
            ),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", text(&config.otlp_protocol)),
            ("OTEL_TRACES_EXPORTER", text(&config.traces_exporter)),
            ("OTEL_METRICS_EXPORTER", text(&config.metrics_exporter)),
            ("OTEL_LOGS_EXPORTER", text(&config.logs_exporter)),
            (
                "OTEL_METRIC_EXPORT_INTERVAL",
                text(&config.metric_export_interval),
            ),
            (
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
                text(&config.metrics_temporality),
            ),
            (
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                text(&config.histogram_aggregation),
            ),
            ("OTEL_TRACES_SAMPLER", text(&config.traces_sampler)),
        ] {
            result.env.extend(value.map(|value| env(name, value)));
        }
        if let Some(Attributes {
            project,
            cluster,
            component,
        }) = attributes
        {
            let value = format!(
                "multigres.project={project},multigres.cluster={cluster},multigres.component={component}"
            );
            result.env.push(env("OTEL_RESOURCE_ATTRIBUTES", value));
        }
    }
    if let Some(sampling) = &config.sampling_config_ref {
        if !off {
            let key = text(&sampling.key).unwrap_or_else(|| "sampling-config.yaml".to_owned());
            result.env.push(env(
                "OTEL_TRACES_SAMPLER_CONFIG",
                format!("{SAMPLING_DIR}/{key}"),
            ));
        }
        result.mount = Some(mount_ro("otel-sampling-config", SAMPLING_DIR));
        result.volume = Some(config_volume("otel-sampling-config", &sampling.name, None));
    }
    result
}

/// Mode of Secrets that any user in the pod may read.
pub const READABLE: i32 = 0o444;

/// Name of the certificate, its Secret and its only DNS name (`workloads.md` 11.1).
pub fn certificate_name(component: &str, cluster: &str, namespace: &str) -> String {
    format!("{component}.{cluster}.{namespace}.multigres.internal")
}

/// Flags with which a component serves gRPC, flag and value apart.
pub fn serve_tls(dir: &str) -> Vec<String> {
    [
        ("--grpc-cert", "tls.crt"),
        ("--grpc-key", "tls.key"),
        ("--grpc-ca", "ca.crt"),
        ("--grpc-server-ca", "ca.crt"),
    ]
    .iter()
    .flat_map(|(flag, file)| [(*flag).to_owned(), format!("{dir}/{file}")])
    .collect()
}

/// Flags with which a component calls poolers.
pub fn call_tls(dir: &str, cluster: &str, namespace: &str) -> Vec<String> {
    let mut args: Vec<String> = [
        ("--multipooler-grpc-cert", "tls.crt"),
        ("--multipooler-grpc-key", "tls.key"),
        ("--multipooler-grpc-ca", "ca.crt"),
    ]
    .iter()
    .flat_map(|(flag, file)| [(*flag).to_owned(), format!("{dir}/{file}")])
    .collect();
    args.push("--multipooler-grpc-server-name".to_owned());
    args.push(certificate_name("multipooler", cluster, namespace));
    args.push("--multipooler-grpc-require-tls".to_owned());
    args
}
