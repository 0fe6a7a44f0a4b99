//! Structs that several kinds share (`api.md` 2.5). Bounds and defaults of the fields stand in `schema/fields.json`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration,
};
use serde::{Deserialize, Serialize};

/// Replicas, resources and placement of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatelessSpec {
    /// Pods wanted, 0–128; default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Container resources; merged as one block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Pod affinity; merged as one block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Further pod annotations, 20 at most.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Further pod labels, 20 at most; the operator's win.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
}

/// Buffering of requests during a failover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayBufferConfig {
    /// On or off; default on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Longest wait of one request, a Go duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Longest failover that is bridged, a Go duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failover_duration: Option<String>,
    /// Shortest time between two bridged failovers, a Go duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_time_between_failovers: Option<String>,
    /// Most requests held, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
    /// Requests released at once, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_concurrency: Option<i32>,
}

/// A cell's gateways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MultigatewaySpec {
    /// Replicas and placement.
    #[serde(flatten)]
    pub stateless: StatelessSpec,
    /// Buffering.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<GatewayBufferConfig>,
}

/// Tolerations of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodPlacementSpec {
    /// Pod tolerations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// A shard's orchestrators.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MultiorchSpec {
    /// Replicas and placement, per cell.
    #[serde(flatten)]
    pub stateless: StatelessSpec,
    /// Tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<PodPlacementSpec>,
    /// Cells that run one; default all cells of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<String>,
}

/// One container of a pool pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerConfig {
    /// Container resources; merged as one block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// UID, from 1; default 999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
    /// GID; default 999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<i64>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSpec {
    /// Size, a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// StorageClass; default the Kubernetes cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Access modes; default ReadWriteOnce.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
}

/// What becomes of volumes: `Retain` or `Delete` (`api.md` 7.5).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PvcDeletionPolicy {
    /// When the owner is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_deleted: Option<String>,
    /// When replicas shrink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_scaled: Option<String>,
}

/// A pool of PostgreSQL pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolSpec {
    /// Access pattern; the only one is readWrite.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Cells of the pool; default all cells of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<String>,
    /// Pods per cell, 1–32; default 2 in a pool of one cell, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas_per_cell: Option<i32>,
    /// Data volume; default 1Gi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// PostgreSQL container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<ContainerConfig>,
    /// Pooler container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multipooler: Option<ContainerConfig>,
    /// Pod affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Pod tolerations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Group of the volumes, from 1; default 999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<i64>,
    /// Policy of this pool's volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
}

/// Backups on a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilesystemBackupConfig {
    /// Path of the repository; default /backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The volume; default 10Gi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
}

/// Backups in an object store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct S3BackupConfig {
    /// Bucket.
    pub bucket: String,
    /// Region.
    pub region: String,
    /// Endpoint, when not AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Prefix of all keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    /// Credentials from the environment; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_env_credentials: Option<bool>,
    /// Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
    /// ServiceAccount of the pool pods (IRSA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
}

/// Certificates between pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PgBackRestTlsConfig {
    /// Secret with ca.crt, tls.crt, tls.key; default generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// Encryption of the repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupEncryptionConfig {
    /// Secret with keys.json.
    pub secret_name: String,
}

/// Where backups go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupConfig {
    /// filesystem or s3.
    #[serde(rename = "type")]
    pub type_: String,
    /// Settings of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<FilesystemBackupConfig>,
    /// Settings of an object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3BackupConfig>,
    /// Certificates between pods.
    #[serde(rename = "pgbackrestTLS", skip_serializing_if = "Option::is_none")]
    pub pgbackrest_tls: Option<PgBackRestTlsConfig>,
    /// Encryption; immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<BackupEncryptionConfig>,
}

/// The Secret with the superuser's password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PostgresPasswordSecretRef {
    /// Secret in the cluster's namespace.
    pub name: String,
    /// Its key.
    pub key: String,
}

/// A ConfigMap with settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PostgresConfigRef {
    /// ConfigMap in the cluster's namespace.
    pub name: String,
    /// Its key.
    pub key: String,
}

/// Log level per component: debug, info, warn, error; default info.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ComponentLogLevels {
    /// Level of pgctld.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgctld: Option<String>,
    /// Level of multipooler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multipooler: Option<String>,
    /// Level of multiorch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiorch: Option<String>,
    /// Level of multiadmin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiadmin: Option<String>,
    /// Level of multigateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway: Option<String>,
}

/// A ConfigMap with trace sampling rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SamplingConfigRef {
    /// ConfigMap.
    pub name: String,
    /// Key; default sampling-config.yaml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// OpenTelemetry settings of data-plane pods (`workloads.md` 13.1).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservabilityConfig {
    /// Endpoint; `disabled` turns everything off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Endpoint of metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_metrics_endpoint: Option<String>,
    /// http/protobuf or grpc.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_protocol: Option<String>,
    /// otlp, none or console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_exporter: Option<String>,
    /// otlp, none or console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_exporter: Option<String>,
    /// otlp, none or console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs_exporter: Option<String>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_export_interval: Option<String>,
    /// cumulative or delta.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_temporality: Option<String>,
    /// Kind of histograms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram_aggregation: Option<String>,
    /// Sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_sampler: Option<String>,
    /// Sampling rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_config_ref: Option<SamplingConfigRef>,
}

/// mTLS between components.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InternalTlsConfig {
    /// Default off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Retiring of stale topology records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopologyPruningConfig {
    /// Default on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A managed etcd.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EtcdSpec {
    /// Image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Members, odd; default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Data volume; default 1Gi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Container resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Prefix of all keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_path: Option<String>,
    /// Policy of its volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
}

/// An etcd of the user's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalTopoServerSpec {
    /// Client URLs; the global store uses the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Client implementation; default etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implementation: Option<String>,
    /// Secret with its CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// Secret with a client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<String>,
    /// Prefix of all keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_path: Option<String>,
}

/// A cell's own topology store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalTopoServerSpec {
    /// Managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdSpec>,
    /// The user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalTopoServerSpec>,
}

/// Address of the global topology store, as children need it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalTopoServerRef {
    /// host:port, or the first external endpoint.
    pub address: String,
    /// Prefix of all keys.
    pub root_path: String,
    /// Client implementation.
    pub implementation: String,
    /// Secret with the CA of an external store, key `ca.crt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// Secret with the client certificate for an external store, keys `tls.crt` and `tls.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<String>,
}

/// How the image of a managed etcd is pulled; which one is in its own settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PullSettings {
    /// Pull policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Pull Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
}

/// Image of a cell's gateways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CellImages {
    /// Pull policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Pull Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Gateway image.
    pub multigateway: String,
}

/// Images of a shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardImages {
    /// Pull policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Pull Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Orchestrator image.
    pub multiorch: String,
    /// Pooler image.
    pub multipooler: String,
    /// PostgreSQL image.
    pub postgres: String,
}
