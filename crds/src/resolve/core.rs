//! The cluster-wide parts: images and settings that every child gets, the global topology store, the admin workloads.

use super::inherit::{self, Levels};
use super::layers::{Found, Layers, text};
use super::provenance::{Component, Layer, Level, Provenance, Recorder};
use super::template::select;
use super::{GlobalTopology, Input, check, merge};
use crate::rollout::Rollout;
use crate::{
    ComponentLogLevels, CoreTemplateSpec, GlobalTopoServerRef, GlobalTopoServerSpec,
    MultigresClusterSpec, ObservabilityConfig, PodPlacementSpec, PullSettings, StatelessSpec,
    TopologyPruningConfig,
};

/// Where the keys of the global store begin.
const ROOT: &str = "/multigres/global";

/// What every child copies from its cluster.
pub(super) struct Common {
    pub pull_policy: String,
    pub log_levels: ComponentLogLevels,
    pub observability: Option<ObservabilityConfig>,
    pub pruning: TopologyPruningConfig,
    pub superuser: String,
}

fn plain(path: &str) -> Component {
    Component {
        path: path.to_owned(),
        inline: "",
        kind: "",
        in_template: "",
        template: None,
    }
}

/// Settings without layers of templates.
pub(super) fn common(input: &Input<'_>, rollout: &Rollout, provenance: &mut Provenance) -> Common {
    let spec = input.cluster;
    let mut rec = provenance.component(plain("spec"));
    let images = spec.images.as_ref();
    for (name, layer) in rollout.layers(images.map(|images| &images.pins)) {
        rec.within("images").note(name, layer);
    }
    let own = |value: Option<&'_ String>| value.map(|value| (Layer::Inline, value.clone()));
    let mut or = |field, value: Option<(Layer, String)>, built_in: &str| {
        let (layer, value) = value.unwrap_or_else(|| (Layer::BuiltIn, built_in.to_owned()));
        rec.note(field, layer);
        value
    };
    let pull = images.and_then(|images| text(&images.image_pull_policy));
    let pull_policy = or("images.imagePullPolicy", own(pull), "IfNotPresent");
    let superuser = or(
        "postgresSuperuser",
        own(text(&spec.postgres_superuser)),
        "postgres",
    );
    Common {
        pull_policy,
        superuser,
        log_levels: log_levels(spec.log_levels.as_ref(), &mut rec.within("logLevels")),
        observability: observability(
            spec.observability.as_ref(),
            &input.defaults.observability,
            &mut rec.within("observability"),
        ),
        pruning: TopologyPruningConfig {
            enabled: rec.within("topologyPruning").pick(
                "enabled",
                Layers::of(spec.topology_pruning.as_ref(), None).first(|p| p.enabled.as_ref()),
                || Some(true),
            ),
        },
    }
}

fn log_levels(given: Option<&ComponentLogLevels>, rec: &mut Recorder<'_>) -> ComponentLogLevels {
    let l = Layers::of(given, None);
    let info = || Some("info".to_owned());
    ComponentLogLevels {
        pgctld: rec.pick("pgctld", l.first(|g| text(&g.pgctld)), info),
        multipooler: rec.pick("multipooler", l.first(|g| text(&g.multipooler)), info),
        multiorch: rec.pick("multiorch", l.first(|g| text(&g.multiorch)), info),
        multiadmin: rec.pick("multiadmin", l.first(|g| text(&g.multiadmin)), info),
        multigateway: rec.pick("multigateway", l.first(|g| text(&g.multigateway)), info),
    }
}

/// Member by member over the operator's own telemetry; None when nobody says anything.
fn observability(
    given: Option<&ObservabilityConfig>,
    operator: &ObservabilityConfig,
    rec: &mut Recorder<'_>,
) -> Option<ObservabilityConfig> {
    type Member = fn(&ObservabilityConfig) -> Option<&String>;
    let mut pick = |field: &'static str, member: Member| {
        let own = given.and_then(member).map(|value| (Layer::Inline, value));
        let found: Found<'_, String> =
            own.or_else(|| member(operator).map(|value| (Layer::Operator, value)));
        rec.given(field, found)
    };
    let merged = ObservabilityConfig {
        otlp_endpoint: pick("otlpEndpoint", |o| text(&o.otlp_endpoint)),
        otlp_metrics_endpoint: pick("otlpMetricsEndpoint", |o| text(&o.otlp_metrics_endpoint)),
        otlp_protocol: pick("otlpProtocol", |o| text(&o.otlp_protocol)),
        traces_exporter: pick("tracesExporter", |o| text(&o.traces_exporter)),
        metrics_exporter: pick("metricsExporter", |o| text(&o.metrics_exporter)),
        logs_exporter: pick("logsExporter", |o| text(&o.logs_exporter)),
        metric_export_interval: pick("metricExportInterval", |o| text(&o.metric_export_interval)),
        metrics_temporality: pick("metricsTemporality", |o| text(&o.metrics_temporality)),
        histogram_aggregation: pick("histogramAggregation", |o| text(&o.histogram_aggregation)),
        traces_sampler: pick("tracesSampler", |o| text(&o.traces_sampler)),
        sampling_config_ref: rec.given(
            "samplingConfigRef",
            Layers::of(given, None).first(|o| o.sampling_config_ref.as_ref()),
        ),
    };
    (merged != ObservabilityConfig::default()).then_some(merged)
}

/// The global topology store and how children reach it.
pub(super) fn topology(
    input: &Input<'_>,
    pull_policy: &str,
    provenance: &mut Provenance,
    findings: &mut check::Findings,
) -> (GlobalTopology, GlobalTopoServerRef) {
    let given = input.cluster.global_topo_server.as_ref();
    let (mut rec, template) = component(
        input,
        provenance,
        ("spec.globalTopoServer", ""),
        given.and_then(|topo| topo.template_ref.as_deref()),
        "spec.globalTopoServer",
    );
    if let Some(external) = given.and_then(|topo| topo.external.as_ref()) {
        let l = Layers::of(Some(external), None);
        let external = merge::external(l, ROOT, &mut rec.within("external"));
        let reference = GlobalTopoServerRef {
            address: external.endpoints.first().cloned().unwrap_or_default(),
            root_path: external.root_path.clone().unwrap_or_default(),
            implementation: external.implementation.clone().unwrap_or_default(),
            ca_secret: external.ca_secret.clone(),
            client_cert_secret: external.client_cert_secret.clone(),
        };
        let component = rec.component;
        check::At {
            findings,
            provenance,
            component,
        }
        .external("external", &external);
        return (GlobalTopology::External(Box::new(external)), reference);
    }
    let mut server = managed(input.cluster, given, template, &mut rec);
    server.images = Some(PullSettings {
        image_pull_policy: Some(pull_policy.to_owned()),
        image_pull_secrets: input.pull_secrets().to_vec(),
    });
    let component = rec.component;
    check::At {
        findings,
        provenance,
        component,
    }
    .topology(&server);
    let etcd = server.etcd.as_ref();
    let reference = GlobalTopoServerRef {
        address: format!("{}-global-topo.{}.svc:2379", input.name, input.namespace),
        root_path: etcd
            .and_then(|etcd| etcd.root_path.clone())
            .unwrap_or_default(),
        implementation: "etcd".to_owned(),
        ..GlobalTopoServerRef::default()
    };
    (GlobalTopology::Managed(Box::new(server)), reference)
}

fn managed(
    spec: &MultigresClusterSpec,
    given: Option<&GlobalTopoServerSpec>,
    template: Option<&CoreTemplateSpec>,
    rec: &mut Recorder<'_>,
) -> crate::TopoServerSpec {
    let template = template.and_then(|t| t.global_topo_server.as_ref());
    let etcd = Layers::of(
        given.and_then(|topo| topo.etcd.as_ref()),
        template.and_then(|topo| topo.etcd.as_ref()),
    );
    let policy = Layers::of(
        given.and_then(|topo| topo.pvc_deletion_policy.as_ref()),
        template.and_then(|topo| topo.pvc_deletion_policy.as_ref()),
    );
    let placement = Layers::of(
        given.and_then(|topo| topo.placement.as_ref()),
        template.and_then(|topo| topo.placement.as_ref()),
    );
    let mut resolved = merge::etcd(etcd, ROOT, &mut rec.within("etcd"));
    // The policy moves to the server as a whole, merged with those above it.
    resolved.pvc_deletion_policy = None;
    let levels = Levels::layered(etcd.first(|etcd| etcd.pvc_deletion_policy.as_ref()))
        .beneath(policy.first(Some))
        .over(Level::Cluster, spec.pvc_deletion_policy.as_ref());
    crate::TopoServerSpec {
        etcd: Some(resolved),
        pvc_deletion_policy: Some(inherit::policy(
            &levels,
            &mut rec.within("pvcDeletionPolicy"),
        )),
        placement: rec.given("placement", placement.first(Some)),
        images: None,
    }
}

/// A part of a CoreTemplate's kind with its template.
fn component<'t, 'p>(
    input: &Input<'t>,
    provenance: &'p mut Provenance,
    (path, inline): (&str, &'static str),
    own: Option<&str>,
    in_template: &'static str,
) -> (Recorder<'p>, Option<&'t CoreTemplateSpec>) {
    let defaults = input.cluster.template_defaults.as_ref();
    let fallback = defaults.and_then(|defaults| defaults.core_template.as_deref());
    let (name, template) = select(own, fallback, &input.templates.core);
    let rec = provenance.component(Component {
        path: path.to_owned(),
        inline,
        kind: "CoreTemplate",
        in_template,
        template: name,
    });
    (rec, template.map(|template| &template.spec))
}

/// multiadmin and its tolerations.
pub(super) fn multiadmin(
    input: &Input<'_>,
    provenance: &mut Provenance,
    findings: &mut check::Findings,
) -> (StatelessSpec, PodPlacementSpec) {
    let given = input.cluster.multiadmin.as_ref();
    let (mut rec, template) = component(
        input,
        provenance,
        ("spec.multiadmin", "spec"),
        given.and_then(|admin| admin.template_ref.as_deref()),
        "spec.multiadmin",
    );
    let l = Layers::of(
        given.and_then(|admin| admin.spec.as_ref()),
        template.and_then(|t| t.multiadmin.as_ref()),
    );
    let placement = Layers::of(
        given.and_then(|admin| admin.placement.as_ref()),
        template.and_then(|t| t.multiadmin_placement.as_ref()),
    );
    let spec = merge::stateless(l, "multiadmin", &mut rec);
    let placement = rec.given("placement", placement.first(Some));
    let component = rec.component;
    let mut at = check::At {
        findings,
        provenance,
        component,
    };
    at.stateless("", &spec);
    at.placement("placement", placement.as_ref());
    (spec, placement.unwrap_or_default())
}

/// multiadmin-web.
pub(super) fn multiadmin_web(
    input: &Input<'_>,
    provenance: &mut Provenance,
    findings: &mut check::Findings,
) -> StatelessSpec {
    let given = input.cluster.multiadmin_web.as_ref();
    let (mut rec, template) = component(
        input,
        provenance,
        ("spec.multiadminWeb", "spec"),
        given.and_then(|web| web.template_ref.as_deref()),
        "spec.multiadminWeb",
    );
    let l = Layers::of(
        given.and_then(|web| web.spec.as_ref()),
        template.and_then(|t| t.multiadmin_web.as_ref()),
    );
    let spec = merge::stateless(l, "multiadmin-web", &mut rec);
    let component = rec.component;
    check::At {
        findings,
        provenance,
        component,
    }
    .stateless("", &spec);
    spec
}
