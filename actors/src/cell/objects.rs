//! The objects of a Cell: its own TopoServer, and the gateway with its Service.

use crds::{Cell, PullSettings, TopoServerSpec};

use crate::labels::{self, Labels};
use crate::object::{Desired, Kind};
use crate::secrets::Needed;
use crate::shape::{Container, Nodes, Text};
use crate::tls::Tls;
use crate::workload::{
    self, Attributes, Owner, Placement, Pull, RenderError, Stateless, pod_ip, port, probes,
    service_port,
};

const HTTP_PORT: i32 = 15100;
const GRPC_PORT: i32 = 15170;
/// Port for read-write sessions.
pub const PG_PORT: i32 = 5432;
/// Port for sessions on replicas.
pub const PG_REPLICA_PORT: i32 = 5433;
const MESH_DIR: &str = "/etc/multigateway/tls-internal";
const PUBLIC_DIR: &str = "/etc/multigateway/tls";

/// Renders the TopoServer of a cell with a store of its own, and the gateway's Deployment and Service.
///
/// # Errors
/// When the Cell is not one from the API server, or belongs to no cluster.
pub fn render(cell: &Cell) -> Result<Vec<Desired>, RenderError> {
    let owner = Owner::new(Kind::Cell, &cell.metadata)?;
    let cluster = owner.cluster()?;
    let name = cell.spec.name.as_str();
    let mut further = vec![(labels::CELL, name)];
    further.extend(
        cell.spec
            .zone_id
            .as_deref()
            .map(|zone| (labels::ZONE_ID, zone)),
    );
    further.extend(
        cell.spec
            .region
            .as_deref()
            .map(|region| (labels::REGION, region)),
    );
    let own = labels::standard(cluster, "multigateway", &further);
    let metadata = owner.child(crds::name::gateway_service(cluster, name), own.clone());
    let service = workload::service(
        labels::selector(&own),
        vec![
            service_port("http", HTTP_PORT),
            service_port("grpc", GRPC_PORT),
            service_port("postgres", PG_PORT),
        ],
    );
    let mut objects = Vec::from_iter(store(cell, &owner, cluster)?);
    objects.push(gateway(cell, &owner, cluster, own).build()?);
    objects.push(Desired::new(Kind::Service, &metadata, &service)?);
    Ok(objects)
}

/// The Secrets that gateways mount.
///
/// # Errors
/// As [`render`].
pub fn secrets(cell: &Cell) -> Result<Vec<Needed>, RenderError> {
    let owner = Owner::new(Kind::Cell, &cell.metadata)?;
    Ok(tls(cell, owner.cluster()?, owner.namespace).secrets)
}

/// The managed store of this cell. Its volumes follow its own policy only: a cell's store is not the cluster's (`api.md` 8.3).
fn store(cell: &Cell, owner: &Owner<'_>, cluster: &str) -> Result<Option<Desired>, RenderError> {
    let spec = &cell.spec;
    let Some(etcd) = spec
        .topo_server
        .as_ref()
        .and_then(|store| store.etcd.clone())
    else {
        return Ok(None);
    };
    let further = [(labels::CLUSTER, cluster), (labels::CELL, &spec.name)];
    let metadata = owner.child_resource(
        crds::name::local_topo_server(owner.name),
        labels::standard(cluster, "local-topo", &further),
    );
    let server = TopoServerSpec {
        pvc_deletion_policy: etcd.pvc_deletion_policy.clone(),
        etcd: Some(etcd),
        placement: None,
        images: Some(PullSettings {
            image_pull_policy: spec.images.image_pull_policy.clone(),
            image_pull_secrets: spec.images.image_pull_secrets.clone(),
        }),
    };
    Ok(Some(Desired::new(Kind::TopoServer, &metadata, &server)?))
}

fn tls<'a>(cell: &'a Cell, cluster: &str, namespace: &str) -> Tls<'a> {
    let spec = &cell.spec;
    let mut tls = Tls::default();
    if workload::mesh(spec.internal_tls.as_ref()) {
        tls.mesh(
            ("multigateway", cluster, namespace),
            ("tls-certs-internal", MESH_DIR),
        );
    }
    if workload::text(&spec.cert_common_name).is_some() {
        tls.public(cluster, "tls-certs", PUBLIC_DIR);
    }
    tls.store(&spec.global_topo_server);
    tls
}

fn gateway<'a>(
    cell: &'a Cell,
    owner: &Owner<'a>,
    cluster: &'a str,
    own: Labels<'a>,
) -> Stateless<'a> {
    let spec = &cell.spec;
    let project = owner.project.unwrap_or(cluster);
    let attributes = Attributes {
        project,
        cluster,
        component: "multigateway",
    };
    let telemetry = workload::telemetry(spec.observability.as_ref(), Some(&attributes));
    let tls = tls(cell, cluster, owner.namespace);
    let mut args = arguments(cell);
    args.extend(tls.args);
    let mut env = vec![pod_ip()];
    env.extend(telemetry.env);
    let container = Container {
        name: "multigateway",
        image: Some(workload::image(
            &spec.images.multigateway,
            crds::image::MULTIGATEWAY,
        )),
        args,
        env,
        ports: vec![
            port("http", HTTP_PORT),
            port("grpc", GRPC_PORT),
            port("postgres", PG_PORT),
            port("pg-replica", PG_REPLICA_PORT),
        ],
        resources: spec.multigateway.stateless.resources.as_ref(),
        volume_mounts: telemetry.mount.into_iter().chain(tls.mounts).collect(),
        security_context: workload::unprivileged(None, None),
        ..Container::default()
    };
    let stateless = &spec.multigateway.stateless;
    Stateless {
        metadata: owner.child(crds::name::gateway_deployment(cluster, &spec.name), own),
        replicas: stateless.replicas.unwrap_or(1),
        exclusive: false,
        pod_labels: &stateless.pod_labels,
        pod_annotations: labels::pod_annotations(&stateless.pod_annotations, project),
        placement: Placement {
            nodes: nodes(cell),
            affinity: stateless.affinity.as_ref(),
            tolerations: workload::tolerations(spec.multigateway_placement.as_ref()),
        },
        pull: Pull {
            policy: workload::text(&spec.images.image_pull_policy),
            secrets: &spec.images.image_pull_secrets,
        },
        container: probes("/live", "/ready", HTTP_PORT).on(container),
        volumes: telemetry.volume.into_iter().chain(tls.volumes).collect(),
    }
}

/// The nodes of the cell.
fn nodes(cell: &Cell) -> Option<Nodes<'_>> {
    let spec = &cell.spec;
    let zone = spec
        .zone_id
        .as_deref()
        .map(|zone| (labels::NODE_ZONE, zone));
    let region = spec.region.as_deref();
    let label = zone.or(region.map(|region| (labels::NODE_REGION, region)))?;
    Some(Nodes::Label(Labels::from([label])))
}

fn arguments(cell: &Cell) -> Vec<Text<'_>> {
    let spec = &cell.spec;
    // The first argument names the program: the image has no entry point (`workloads.md` T10).
    let mut args: Vec<Text<'_>> = vec!["multigateway".into()];
    let levels = spec.log_levels.as_ref();
    let level = workload::log_level(levels.and_then(|l| l.multigateway.as_ref()));
    for (flag, value) in [
        ("--http-port", "15100"),
        ("--grpc-port", "15170"),
        ("--pg-port", "5432"),
        ("--pg-replica-port", "5433"),
        (
            "--topo-global-server-addresses",
            &spec.global_topo_server.address,
        ),
        ("--topo-global-root", &spec.global_topo_server.root_path),
        ("--cell", &spec.name),
        ("--log-level", level),
    ] {
        args.extend([Text::from(flag), value.into()]);
    }
    args.push("--hostname=$(POD_IP)".into());
    args.extend(buffering(cell));
    args
}

/// Buffering long enough for a planned switchover and the next one after it. Window and maximum are one choice: the
/// gateway refuses a maximum below the window, so a user who sets either gets the gateway's own value of the other.
fn buffering(cell: &Cell) -> Vec<Text<'_>> {
    let Some(buffer) = &cell.spec.multigateway.buffer else {
        return Vec::new();
    };
    let mut args: Vec<Text<'_>> = Vec::new();
    args.extend(buffer.enabled.map(|on| match on {
        true => Text::from("--buffer-enabled=true"),
        false => "--buffer-enabled=false".into(),
    }));
    let on = buffer.enabled == Some(true);
    let timed = on && buffer.window.is_none() && buffer.max_failover_duration.is_none();
    let duration = |value| workload::text(value).map(Text::from);
    let number = |value: Option<i32>| value.map(|v| Text::from(v.to_string()));
    for (flag, user, ours) in [
        (
            "--buffer-window",
            duration(&buffer.window),
            timed.then_some("20s"),
        ),
        (
            "--buffer-max-failover-duration",
            duration(&buffer.max_failover_duration),
            timed.then_some("30s"),
        ),
        (
            "--buffer-min-time-between-failovers",
            duration(&buffer.min_time_between_failovers),
            on.then_some("15s"),
        ),
        ("--buffer-size", number(buffer.size), None),
        (
            "--buffer-drain-concurrency",
            number(buffer.drain_concurrency),
            on.then_some("16"),
        ),
    ] {
        if let Some(value) = user.or(ours.map(Text::from)) {
            args.extend([flag.into(), value]);
        }
    }
    args
}
