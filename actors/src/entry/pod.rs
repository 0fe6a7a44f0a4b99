//! A pod, trimmed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::value::{RawValue, Value};

use crate::labels;
use crate::pool::spec_hash;

/// The slim form of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Condition `Ready` is True.
    pub ready: bool,
    /// `status.phase`.
    pub phase: Box<str>,
    /// Why it is in trouble: a waiting or terminated reason; None = fine or just starting.
    pub trouble: Option<Box<str>>,
    /// What keeps its containers from being made.
    pub stuck: Option<Stuck>,
    /// `status.podIP`.
    pub address: Option<Box<str>>,
    /// `spec.nodeName`.
    pub node: Option<Box<str>>,
    /// It was made with mutual TLS for gRPC: whoever calls it must show a certificate.
    pub tls: bool,
    /// Of a pool pod without a spec hash of our version: [`spec_hash::common`] of its spec.
    pub common: Option<u64>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Vec<PodCondition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct PodCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    #[serde(rename = "lastTransitionTime")]
    last_transition_time: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    restart_count: i32,
    state: ContainerState,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Reason>,
    terminated: Option<Reason>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Reason {
    reason: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
}

/// Waiting reasons that count as positive evidence of a broken pod (`lessons.md` L-STAT-05). `ErrImagePull` alternates with
/// `ImagePullBackOff`, so both count and are told under one name: neither phase nor message flaps.
const BROKEN: [&str; 7] = [
    "CrashLoopBackOff",
    "OOMKilled",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// What the scheduler names, in one spelling or another, while a pod's volumes are being made (kube-scheduler, VolumeBinding
/// plugin): claims that are not bound, that it does not know yet, or whose volume it does not know yet.
const CLAIM: &str = "persistentvolumeclaim";

/// A pod whose containers cannot be made yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Since when.
    pub since: jiff::Timestamp,
    /// By what.
    pub by: StuckBy,
}

/// See [`Stuck`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StuckBy {
    /// The scheduler finds no node.
    Node,
    /// Its volumes are not bound yet, which is not the nodes' fault.
    Volumes,
    /// Its node has not mounted its volumes or made its network (condition `PodReadyToStartContainers`): what fails there is told
    /// in the pod's events only.
    Start,
}

/// The argument by which a component demands certificates of its callers ([`crate::workload::serve_tls`]), as it stands in JSON.
/// What a running process demands is in its pod, not in a spec that may have changed since.
const DEMANDS_CERTIFICATES: &str = "\"--grpc-ca\"";

/// Restarts after which a terminated container counts as looping (`api.md` 4.1).
const LOOPING_RESTARTS: i32 = 3;

impl Pod {
    /// All its containers have ended, for good.
    pub fn ended(&self) -> bool {
        matches!(&*self.phase, "Failed" | "Succeeded")
    }

    pub(super) fn read(spec: Option<&RawValue>, status: Option<&RawValue>) -> Self {
        let tls = spec.is_some_and(|raw| raw.get().contains(DEMANDS_CERTIFICATES));
        let spec: PodSpec = spec
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let status: PodStatus = status
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let condition = |kind: &str| status.conditions.iter().find(|c| c.kind == kind);
        let since = |c: &PodCondition| c.last_transition_time.as_deref()?.parse().ok();
        let no_node = condition("PodScheduled")
            .filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"))
            .and_then(|c| {
                let message = c.message.as_deref().unwrap_or_default();
                let claim = message.to_ascii_lowercase().contains(CLAIM);
                let by = if claim {
                    StuckBy::Volumes
                } else {
                    StuckBy::Node
                };
                Some(Stuck {
                    since: since(c)?,
                    by,
                })
            });
        // Of a pod that has ended it is False too.
        let no_start = condition("PodReadyToStartContainers")
            .filter(|c| c.status == "False" && status.phase == "Pending")
            .and_then(|c| {
                Some(Stuck {
                    since: since(c)?,
                    by: StuckBy::Start,
                })
            });
        let broken = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .chain(&status.ephemeral_container_statuses)
            .find_map(|container| {
                let waiting = container
                    .state
                    .waiting
                    .as_ref()
                    .and_then(|w| w.reason.as_deref());
                match (waiting, &container.state.terminated) {
                    (Some("ErrImagePull"), _) => Some("ImagePullBackOff".into()),
                    (Some(reason), _) if BROKEN.contains(&reason) => Some(reason.into()),
                    (_, Some(_)) if container.restart_count >= LOOPING_RESTARTS => {
                        Some("CrashLoopBackOff".into())
                    }
                    _ => None,
                }
            });
        Self {
            ready: condition("Ready").is_some_and(|c| c.status == "True"),
            trouble: broken,
            stuck: no_node.or(no_start),
            phase: status.phase.into(),
            address: status.pod_ip.map(Into::into),
            node: spec.node_name.map(Into::into),
            tls,
            common: None,
        }
    }
}

/// See [`Pod::common`]. Only pods that the Go operator made are parsed as a whole.
pub(super) fn common(spec: Option<&RawValue>, metadata: &ObjectMeta) -> Option<u64> {
    let label = |name: &str| metadata.labels.as_ref()?.get(name).map(String::as_str);
    let hash = metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(labels::SPEC_HASH));
    if label(labels::COMPONENT) != Some("shard-pool")
        || hash.is_some_and(|hash| spec_hash::is_ours(hash))
    {
        return None;
    }
    let spec: Value = serde_json::from_str(spec?.get()).ok()?;
    spec_hash::common(&spec).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: &Value) -> Pod {
        let raw = RawValue::from_string(status.to_string()).unwrap();
        Pod::read(None, Some(&raw))
    }

    /// L-STAT-05: containers of all three lists, and what is told of each state.
    #[test]
    fn a_broken_container_is_seen_in_whatever_list_it_stands() {
        let waiting = |reason: &str| serde_json::json!({"waiting": {"reason": reason}});
        let ended = serde_json::json!({"terminated": {"reason": "Error"}});
        let table = [
            (waiting("CrashLoopBackOff"), 4, Some("CrashLoopBackOff")),
            (waiting("ErrImagePull"), 0, Some("ImagePullBackOff")),
            (waiting("ImagePullBackOff"), 0, Some("ImagePullBackOff")),
            (waiting("InvalidImageName"), 0, Some("InvalidImageName")),
            (
                waiting("CreateContainerConfigError"),
                0,
                Some("CreateContainerConfigError"),
            ),
            (waiting("ContainerCreating"), 0, None),
            (waiting("PodInitializing"), 0, None),
            (ended.clone(), LOOPING_RESTARTS, Some("CrashLoopBackOff")),
            (ended, 0, None),
        ];
        for list in [
            "initContainerStatuses",
            "containerStatuses",
            "ephemeralContainerStatuses",
        ] {
            for (state, restarts, told) in &table {
                let container = serde_json::json!({"restartCount": restarts, "state": state});
                let status = serde_json::json!({"phase": "Pending", list: [container]});
                let trouble = read(&status).trouble;
                assert_eq!(trouble.as_deref(), *told, "{list}: {state}");
            }
        }
    }

    /// L-STAT-05: a mount that fails shows in no container's state.
    #[test]
    fn a_pod_that_its_node_does_not_start_is_held() {
        let with = |phase: &str, ready: &str| {
            read(&serde_json::json!({"phase": phase, "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "PodReadyToStartContainers", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]}))
            .stuck
        };
        assert_eq!(
            with("Pending", "False").map(|stuck| stuck.by),
            Some(StuckBy::Start)
        );
        assert_eq!(with("Pending", "True"), None);
        assert_eq!(with("Running", "False"), None);
        assert_eq!(with("Succeeded", "False"), None);
    }

    #[test]
    fn a_pod_that_waits_for_its_volumes_is_told_from_one_that_finds_no_node() {
        let by = |message: &str| {
            let status = serde_json::json!({"phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]});
            read(&status).stuck.unwrap().by
        };
        for waits in [
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "0/3 nodes are available: persistentvolumeclaim \"data-a\" not found. not found",
            "0/3 nodes are available: persistentvolumeclaim \"data-a\" bound to non-existent persistentvolume \"\". not found",
        ] {
            assert_eq!(by(waits), StuckBy::Volumes, "{waits}");
        }
        let full = "0/3 nodes are available: 3 Insufficient memory.";
        assert_eq!(by(full), StuckBy::Node);
    }
}
