//! Base settings of the cluster-wide parts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::common::{PodPlacementSpec, StatelessSpec};
use crate::kind;

/// Spec of a CoreTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CoreTemplateSpec {
    /// Managed etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_topo_server: Option<crate::toposerver::TopoServerSpec>,
    /// Admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiadmin: Option<StatelessSpec>,
    /// Tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiadmin_placement: Option<PodPlacementSpec>,
    /// Admin web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiadmin_web: Option<StatelessSpec>,
}

kind!(CoreTemplate, CoreTemplateSpec);
