//! The user's object: a whole Multigres.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::common::{
    BackupConfig, ComponentLogLevels, EtcdSpec, ExternalTopoServerSpec, InternalTlsConfig,
    LocalTopoServerSpec, MultigatewaySpec, MultiorchSpec, ObservabilityConfig, PodPlacementSpec,
    PoolSpec, PostgresConfigRef, PostgresPasswordSecretRef, PvcDeletionPolicy, StatelessSpec,
    TopologyPruningConfig,
};

/// Images of a cluster and how they are pulled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterImages {
    /// Pull policy; default IfNotPresent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Pull Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Images that do not follow the operator's defaults.
    #[serde(flatten)]
    pub pins: crate::image::ComponentImages,
}

/// When a changed default image set is taken over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageUpdatePolicy {
    /// immediate or lazy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Revision that may be taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_revision: Option<String>,
}

/// Templates for what names none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TemplateDefaults {
    /// CoreTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_template: Option<String>,
    /// CellTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell_template: Option<String>,
    /// ShardTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_template: Option<String>,
}

/// The admin API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MultiadminConfig {
    /// Settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<StatelessSpec>,
    /// CoreTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<String>,
    /// Tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<PodPlacementSpec>,
}

/// The admin web.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MultiadminWebConfig {
    /// Settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<StatelessSpec>,
    /// CoreTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<String>,
}

/// The global topology store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalTopoServerSpec {
    /// Managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdSpec>,
    /// The user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalTopoServerSpec>,
    /// CoreTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<String>,
    /// Policy of its volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
    /// Tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<PodPlacementSpec>,
}

/// Partial settings over a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CellOverrides {
    /// Gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway: Option<MultigatewaySpec>,
    /// Tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway_placement: Option<PodPlacementSpec>,
}

/// Settings of a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CellInlineSpec {
    /// Gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway: Option<MultigatewaySpec>,
    /// Tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway_placement: Option<PodPlacementSpec>,
    /// Own topology store; default the global one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_topo_server: Option<LocalTopoServerSpec>,
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CellConfig {
    /// Name.
    pub name: String,
    /// Zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// CellTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell_template: Option<String>,
    /// Over the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<CellOverrides>,
    /// Settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<CellInlineSpec>,
}

/// Partial settings over a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardOverrides {
    /// Orchestrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiorch: Option<MultiorchSpec>,
    /// Arguments of initdb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initdb_args: Option<String>,
    /// ConfigMap with settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_config_ref: Option<PostgresConfigRef>,
    /// Settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub postgres_config: BTreeMap<String, String>,
    /// Pools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, PoolSpec>,
}

/// Settings of a shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardInlineSpec {
    /// Orchestrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiorch: Option<MultiorchSpec>,
    /// Arguments of initdb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initdb_args: Option<String>,
    /// ConfigMap with settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_config_ref: Option<PostgresConfigRef>,
    /// Settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub postgres_config: BTreeMap<String, String>,
    /// Pools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, PoolSpec>,
    /// Policy of its volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
}

/// A shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardConfig {
    /// Name.
    pub name: String,
    /// ShardTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_template: Option<String>,
    /// Over the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<ShardOverrides>,
    /// Settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<ShardInlineSpec>,
    /// Backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfig>,
}

/// A table group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableGroupConfig {
    /// Name.
    pub name: String,
    /// The default group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Shards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardConfig>,
    /// Backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfig>,
    /// Policy of its volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
}

/// A database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DatabaseConfig {
    /// Name; postgres.
    pub name: String,
    /// The system database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Table groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tablegroups: Vec<TableGroupConfig>,
    /// Backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfig>,
    /// Quorum rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability_policy: Option<String>,
}

/// Exposure of a Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalServiceConfig {
    /// On or off.
    pub enabled: bool,
    /// External addresses.
    #[serde(rename = "externalIPs", skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<String>,
    /// Annotations of the Service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Spec of a MultigresCluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MultigresClusterSpec {
    /// Images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ClusterImages>,
    /// When new default images are taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_update_policy: Option<ImageUpdatePolicy>,
    /// Log levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_levels: Option<ComponentLogLevels>,
    /// Templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_defaults: Option<TemplateDefaults>,
    /// Global topology store; default managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_topo_server: Option<GlobalTopoServerSpec>,
    /// Admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiadmin: Option<MultiadminConfig>,
    /// Admin web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiadmin_web: Option<MultiadminWebConfig>,
    /// Cells; append-only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<CellConfig>,
    /// Databases; default the system catalogue.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseConfig>,
    /// Policy of all volumes; default Delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
    /// Telemetry of the data plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability: Option<ObservabilityConfig>,
    /// Backups; default a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfig>,
    /// Exposure of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_gateway: Option<ExternalServiceConfig>,
    /// Exposure of the admin web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_admin_web: Option<ExternalServiceConfig>,
    /// Retiring of stale records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_pruning: Option<TopologyPruningConfig>,
    /// Quorum rule; default AT_LEAST_2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability_policy: Option<String>,
    /// Superuser; default postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_superuser: Option<String>,
    /// Secret with the superuser's password.
    pub postgres_password_secret_ref: PostgresPasswordSecretRef,
    /// mTLS between components.
    #[serde(rename = "internalTLS", skip_serializing_if = "Option::is_none")]
    pub internal_tls: Option<InternalTlsConfig>,
    /// DNS name of the public certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_common_name: Option<String>,
}

/// A MultigresCluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MultigresCluster {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: MultigresClusterSpec,
    /// What of the observed status decides: read only.
    #[serde(skip_serializing)]
    pub status: ClusterRecord,
}

/// The part of a cluster's status that must survive its annotation.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterRecord {
    /// Images.
    pub images: ImagesRecord,
}

/// The images that were in force.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagesRecord {
    /// The default set that was taken over last.
    pub applied: Option<crate::image::ComponentImages>,
}
