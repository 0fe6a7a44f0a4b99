//! OpenTelemetry settings of a container (`workloads.md` 13.1).

use crds::ObservabilityConfig;

use super::{config_volume, env, mount_ro, text};
use crate::shape::{EnvVar, Volume, VolumeMount};

/// Where the sampling rules of traces are mounted.
const SAMPLING_DIR: &str = "/etc/otel";

/// What telemetry adds to a container and its pod.
#[derive(Default)]
pub struct Telemetry<'a> {
    /// Variables, in the order the Go operator has them.
    pub env: Vec<EnvVar<'a>>,
    /// The sampling rules.
    pub mount: Option<VolumeMount<'a>>,
    /// The volume with the sampling rules.
    pub volume: Option<Volume<'a>>,
}

/// Whose telemetry it is; multiadmin sends none of this.
pub struct Attributes<'a> {
    /// Project, or the cluster's name.
    pub project: &'a str,
    /// Cluster.
    pub cluster: &'a str,
    /// Component.
    pub component: &'a str,
}

/// Telemetry settings of one container. Nothing is taken from our own environment: a change of it would restart pods.
pub fn telemetry<'a>(
    config: Option<&'a ObservabilityConfig>,
    attributes: Option<&Attributes<'_>>,
) -> Telemetry<'a> {
    let Some(config) = config else {
        return Telemetry::default();
    };
    let endpoint = text(&config.otlp_endpoint);
    let silent = endpoint.is_none() && text(&config.otlp_metrics_endpoint).is_none();
    let off = silent || endpoint == Some("disabled");
    let mut result = Telemetry::default();
    if !off {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            (
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
                text(&config.otlp_metrics_endpoint),
            ),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", text(&config.otlp_protocol)),
            ("OTEL_TRACES_EXPORTER", text(&config.traces_exporter)),
            ("OTEL_METRICS_EXPORTER", text(&config.metrics_exporter)),
            ("OTEL_LOGS_EXPORTER", text(&config.logs_exporter)),
            (
                "OTEL_METRIC_EXPORT_INTERVAL",
                text(&config.metric_export_interval),
            ),
            (
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
                text(&config.metrics_temporality),
            ),
            (
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                text(&config.histogram_aggregation),
            ),
            ("OTEL_TRACES_SAMPLER", text(&config.traces_sampler)),
        ] {
            result.env.extend(value.map(|value| env(name, value)));
        }
        if let Some(Attributes {
            project,
            cluster,
            component,
        }) = attributes
        {
            let value = format!(
                "multigres.project={project},multigres.cluster={cluster},multigres.component={component}"
            );
            result.env.push(env("OTEL_RESOURCE_ATTRIBUTES", value));
        }
    }
    if let Some(sampling) = &config.sampling_config_ref {
        if !off {
            let key = text(&sampling.key).unwrap_or("sampling-config.yaml");
            result.env.push(env(
                "OTEL_TRACES_SAMPLER_CONFIG",
                format!("{SAMPLING_DIR}/{key}"),
            ));
        }
        result.mount = Some(mount_ro("otel-sampling-config", SAMPLING_DIR));
        result.volume = Some(config_volume(
            "otel-sampling-config",
            &sampling.name,
            Vec::new(),
        ));
    }
    result
}
