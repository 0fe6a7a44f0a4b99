//! Base settings of cells.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::common::{LocalTopoServerSpec, MultigatewaySpec, PodPlacementSpec};
use crate::kind;

/// Spec of a CellTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CellTemplateSpec {
    /// Gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway: Option<MultigatewaySpec>,
    /// Tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway_placement: Option<PodPlacementSpec>,
    /// Own topology store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_topo_server: Option<LocalTopoServerSpec>,
}

kind!(CellTemplate, CellTemplateSpec);
