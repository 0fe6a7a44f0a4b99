//! Built-in values (`api.md` 7). They are constants: what a release once resolved to, no later release resolves to something else.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::certificate::Issuance;
use crate::image::ComponentImages;
use crate::rollout::Strategy;
use crate::{CellConfig, ObservabilityConfig};

/// What the operator's own environment decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperatorDefaults {
    /// Images of components that are not pinned.
    pub images: ComponentImages,
    /// When a changed set of default images reaches clusters that do not say; default at once (`--image-update-strategy`).
    pub strategy: Strategy,
    /// Telemetry of data-plane pods where a cluster says nothing: the operator's own `OTEL_*` variables.
    pub observability: ObservabilityConfig,
    /// Who signs certificates.
    pub issuance: Issuance,
}

impl OperatorDefaults {
    /// The compiled images with `MULTIGRES_IMAGE_*` variables over them.
    pub fn with_images(variables: &BTreeMap<String, String>) -> Self {
        Self {
            images: ComponentImages::compiled(variables),
            ..Self::default()
        }
    }

    /// Everything that the process' environment says (`api.md` 5.5).
    pub fn from_environment(variables: &BTreeMap<String, String>, strategy: Strategy) -> Self {
        let given = |name: &str| {
            variables
                .get(name)
                .cloned()
                .filter(|value| !value.is_empty())
        };
        Self {
            images: ComponentImages::compiled(variables),
            strategy,
            observability: ObservabilityConfig {
                otlp_endpoint: given("OTEL_EXPORTER_OTLP_ENDPOINT"),
                otlp_metrics_endpoint: given("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
                otlp_protocol: given("OTEL_EXPORTER_OTLP_PROTOCOL"),
                traces_exporter: given("OTEL_TRACES_EXPORTER"),
                metrics_exporter: given("OTEL_METRICS_EXPORTER"),
                logs_exporter: given("OTEL_LOGS_EXPORTER"),
                metric_export_interval: given("OTEL_METRIC_EXPORT_INTERVAL"),
                metrics_temporality: given("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"),
                histogram_aggregation: given(
                    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                ),
                traces_sampler: given("OTEL_TRACES_SAMPLER"),
                sampling_config_ref: None,
            },
            issuance: Issuance::from_environment(variables),
        }
    }
}

/// Requests (cpu, memory) and memory limit (`api.md` 7.3). No CPU limits.
const RESOURCES: [(&str, &str, &str, &str); 7] = [
    ("multiadmin", "100m", "128Mi", "256Mi"),
    ("multiadmin-web", "50m", "64Mi", "128Mi"),
    ("etcd", "100m", "256Mi", "512Mi"),
    ("multigateway", "100m", "128Mi", "256Mi"),
    ("multiorch", "50m", "64Mi", "128Mi"),
    ("postgres", "100m", "256Mi", "512Mi"),
    ("multipooler", "100m", "128Mi", "256Mi"),
];

/// The resources of a component for which nobody says anything.
pub fn resources(component: &str) -> Option<ResourceRequirements> {
    let (_, cpu, memory, limit) = RESOURCES.iter().find(|(name, ..)| *name == component)?;
    let of = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())))
                .collect(),
        )
    };
    Some(ResourceRequirements {
        requests: of(&[("cpu", cpu), ("memory", memory)]),
        limits: of(&[("memory", limit)]),
        claims: None,
    })
}

/// The node selector of a cell (`workloads.md` 14).
pub fn node_labels(cell: &CellConfig) -> BTreeMap<String, String> {
    let zone = cell
        .zone_id
        .as_ref()
        .map(|zone| ("topology.k8s.aws/zone-id".to_owned(), zone.clone()));
    let region = cell
        .region
        .as_ref()
        .map(|region| ("topology.kubernetes.io/region".to_owned(), region.clone()));
    zone.or(region).into_iter().collect()
}
