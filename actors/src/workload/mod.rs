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

use crds::{BackupConfig, InternalTlsConfig, PvcDeletionPolicy};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;
use serde_json::Value;

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

/// The text of a string or of an enumeration of the API, as it stands in manifests; `None` when absent or empty.
pub fn text(value: &impl Serialize) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// A log level as the binaries take it.
pub fn log_level(level: Option<&impl Serialize>) -> String {
    level.and_then(text).unwrap_or_else(|| "info".to_owned())
}

/// The image asked for, else the default.
pub fn image(asked: &impl Serialize, default: &str) -> String {
    text(asked).unwrap_or_else(|| default.to_owned())
}

/// True when components talk mutual TLS.
pub fn mesh(config: Option<&InternalTlsConfig>) -> bool {
    config.is_some_and(|config| config.enabled == Some(true))
}

/// True when volumes go with their owner.
pub fn deleted_with_owner(policy: Option<&PvcDeletionPolicy>) -> bool {
    policy
        .and_then(|policy| text(&policy.when_deleted))
        .as_deref()
        == Some("Delete")
}

/// True when volumes go with their pod. That is the default of a policy that does not say.
pub fn deleted_with_pod(policy: Option<&PvcDeletionPolicy>) -> bool {
    policy
        .and_then(|policy| text(&policy.when_scaled))
        .as_deref()
        == Some("Delete")
}

/// True when backups go to an object store.
pub fn is_s3(backup: &BackupConfig) -> bool {
    text(&backup.type_).as_deref() == Some("s3")
}

/// The user's own certificates for pgBackRest.
pub fn own_pgbackrest_secret(backup: &BackupConfig) -> Option<String> {
    backup
        .pgbackrest_tls
        .as_ref()
        .and_then(|tls| text(&tls.secret_name))
}

/// Owned strings.
pub fn strings<const N: usize>(items: [&str; N]) -> Vec<String> {
    items.into_iter().map(str::to_owned).collect()
}

/// A list, or nothing: an empty list sent by apply would claim the field.
pub fn listed<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

/// What a claim asks for.
pub fn claim_spec(size: &str, class: Option<&str>, modes: &[String]) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        access_modes: listed(modes.to_vec()).or_else(|| Some(strings(["ReadWriteOnce"]))),
        resources: Some(VolumeResourceRequirements {
            requests: Some([("storage".to_owned(), Quantity(size.to_owned()))].into()),
            limits: None,
        }),
        storage_class_name: class.map(str::to_owned),
        ..PersistentVolumeClaimSpec::default()
    }
}
