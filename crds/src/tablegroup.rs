//! A table group of a database; written by the operator.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::common::{
    BackupConfig, ComponentLogLevels, GlobalTopoServerRef, InternalTlsConfig, MultiorchSpec,
    ObservabilityConfig, PoolSpec, PostgresConfigRef, PostgresPasswordSecretRef, PvcDeletionPolicy,
    ShardImages, TopologyPruningConfig,
};
use crate::kind;

/// A shard as its TableGroup carries it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardResolvedSpec {
    /// Shard name.
    pub name: String,
    /// Resolved orchestrator settings.
    pub multiorch: MultiorchSpec,
    /// Arguments of initdb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initdb_args: Option<String>,
    /// ConfigMap with settings (deprecated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_config_ref: Option<PostgresConfigRef>,
    /// Settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub postgres_config: BTreeMap<String, String>,
    /// Resolved pools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, PoolSpec>,
    /// Merged policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
    /// Merged backup settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfig>,
}

/// Spec of a TableGroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableGroupSpec {
    /// Database.
    pub database_name: String,
    /// Table group.
    pub table_group_name: String,
    /// The default group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Images.
    pub images: ShardImages,
    /// Resolved shards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardResolvedSpec>,
    /// Merged policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
    /// Merged backup settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfig>,
    /// Global store.
    pub global_topo_server: GlobalTopoServerRef,
    /// Copied from the cluster.
    #[serde(rename = "internalTLS", skip_serializing_if = "Option::is_none")]
    pub internal_tls: Option<InternalTlsConfig>,
    /// Copied from the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability: Option<ObservabilityConfig>,
    /// Copied from the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_levels: Option<ComponentLogLevels>,
    /// Copied from the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_pruning: Option<TopologyPruningConfig>,
    /// Quorum rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability_policy: Option<String>,
    /// Superuser; default postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_superuser: Option<String>,
    /// Secret with the superuser's password.
    pub postgres_password_secret_ref: PostgresPasswordSecretRef,
    /// Node selector per cell.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cell_topology_labels: BTreeMap<String, BTreeMap<String, String>>,
}

kind!(TableGroup, TableGroupSpec);
