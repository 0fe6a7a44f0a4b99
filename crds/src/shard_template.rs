//! Base settings of shards.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::common::{MultiorchSpec, PoolSpec, PostgresConfigRef, PvcDeletionPolicy};
use crate::kind;

/// Spec of a ShardTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardTemplateSpec {
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
    /// Policy of volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
}

kind!(ShardTemplate, ShardTemplateSpec);
