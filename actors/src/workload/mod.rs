//! What all workloads have in common, and how the API's settings read.

mod container;
mod owner;
mod service;
mod stateless;
mod telemetry;
mod tls;

pub use container::*;
pub use owner::Owner;
pub use service::{headless, numbered_port, service, service_port};
pub use stateless::{Placement, Pull, Stateless};
pub use telemetry::{Attributes, Telemetry, telemetry};
pub use tls::{call_tls, certificate_name, serve_tls};

use crds::{BackupConfig, InternalTlsConfig, PodPlacementSpec, PvcDeletionPolicy, StorageSpec};
use k8s_openapi::api::core::v1::Toleration;

use crate::shape::{PersistentVolumeClaimSpec, Text, VolumeResourceRequirements};

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

/// The text; `None` when absent or empty.
pub fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

/// A log level as the binaries take it.
pub fn log_level(level: Option<&String>) -> &str {
    image(level.map_or("", String::as_str), "info")
}

/// An argument with its value.
pub fn flag<'a>(name: &str, value: &str) -> Text<'a> {
    let mut text = String::with_capacity(name.len() + 1 + value.len());
    text.extend([name, "=", value]);
    text.into()
}

/// The user's tolerations.
pub fn tolerations(placement: Option<&PodPlacementSpec>) -> &[Toleration] {
    placement.map_or(&[], |placement| &placement.tolerations)
}

/// The image asked for, else the default.
pub fn image<'a>(asked: &'a str, default: &'a str) -> &'a str {
    if asked.is_empty() { default } else { asked }
}

/// True when components talk mutual TLS.
pub fn mesh(config: Option<&InternalTlsConfig>) -> bool {
    config.is_some_and(|config| config.enabled == Some(true))
}

/// True when volumes go with their owner.
pub fn deleted_with_owner(policy: Option<&PvcDeletionPolicy>) -> bool {
    policy.and_then(|policy| text(&policy.when_deleted)) == Some("Delete")
}

/// True when volumes go with their pod. That is the default of a policy that does not say.
pub fn deleted_with_pod(policy: Option<&PvcDeletionPolicy>) -> bool {
    policy.and_then(|policy| text(&policy.when_scaled)) == Some("Delete")
}

/// True when backups go to an object store.
pub fn is_s3(backup: &BackupConfig) -> bool {
    backup.type_ == "s3"
}

/// The user's own certificates for pgBackRest.
pub fn own_pgbackrest_secret(backup: &BackupConfig) -> Option<&str> {
    backup
        .pgbackrest_tls
        .as_ref()
        .and_then(|tls| text(&tls.secret_name))
}

/// What a claim asks for; of the size given unless the storage has one.
pub fn claim_spec<'a>(
    storage: Option<&'a StorageSpec>,
    size: &'a str,
) -> PersistentVolumeClaimSpec<'a> {
    let modes = storage.map(|storage| storage.access_modes.as_slice());
    let mut access_modes: Vec<&str> = modes
        .unwrap_or_default()
        .iter()
        .map(String::as_str)
        .collect();
    if access_modes.is_empty() {
        access_modes.push("ReadWriteOnce");
    }
    let size = storage.and_then(|s| s.size.as_deref()).unwrap_or(size);
    PersistentVolumeClaimSpec {
        access_modes,
        resources: VolumeResourceRequirements {
            requests: [("storage", size)].into(),
        },
        storage_class_name: storage.and_then(|s| s.class.as_deref()),
    }
}
