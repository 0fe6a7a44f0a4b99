//! A managed etcd; written by the operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::common::{EtcdSpec, PodPlacementSpec, PullSettings, PvcDeletionPolicy};
use crate::kind;

/// Spec of a TopoServer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopoServerSpec {
    /// The etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdSpec>,
    /// Merged policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_deletion_policy: Option<PvcDeletionPolicy>,
    /// Tolerations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<PodPlacementSpec>,
    /// How the image is pulled; not part of a CoreTemplate, whose cluster says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PullSettings>,
}

kind!(TopoServer, TopoServerSpec);
