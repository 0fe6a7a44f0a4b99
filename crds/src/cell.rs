//! A failure domain with its gateways; written by the operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::common::{
    CellImages, ComponentLogLevels, GlobalTopoServerRef, InternalTlsConfig, LocalTopoServerSpec,
    MultigatewaySpec, ObservabilityConfig, PodPlacementSpec,
};
use crate::kind;

/// What is done in the topology for this cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopologyReconciliation {
    /// Always true.
    pub register_cell: bool,
    /// Retire stale records.
    pub prune_poolers: bool,
}

/// Spec of a Cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CellSpec {
    /// Cell name.
    pub name: String,
    /// Zone: node label topology.k8s.aws/zone-id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// Region: node label topology.kubernetes.io/region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Gateway image.
    pub images: CellImages,
    /// Resolved gateway settings.
    pub multigateway: MultigatewaySpec,
    /// Resolved tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway_placement: Option<PodPlacementSpec>,
    /// Global store.
    pub global_topo_server: GlobalTopoServerRef,
    /// Own store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topo_server: Option<LocalTopoServerSpec>,
    /// All cells of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all_cells: Vec<String>,
    /// Topology work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_reconciliation: Option<TopologyReconciliation>,
    /// Copied from the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability: Option<ObservabilityConfig>,
    /// Copied from the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_levels: Option<ComponentLogLevels>,
    /// Copied from the cluster.
    #[serde(rename = "internalTLS", skip_serializing_if = "Option::is_none")]
    pub internal_tls: Option<InternalTlsConfig>,
    /// Copied from the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_common_name: Option<String>,
}

kind!(Cell, CellSpec);
