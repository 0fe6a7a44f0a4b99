//! The orchestrators of a Shard: one Deployment and one Service per cell.

use std::collections::BTreeSet;

use crds::Shard;
use crds::name::Limit;

use super::identity::Identity;
use super::objects::{nodes, pull};
use crate::labels::{self, Labels};
use crate::object::{Desired, Kind};
use crate::secrets::Needed;
use crate::shape::Container;
use crate::tls::Tls;
use crate::workload::{
    self, Attributes, Placement, RenderError, Stateless, flag, pod_ip, port, probes, service_port,
};

const HTTP_PORT: i32 = 15300;
/// Where multiorch serves gRPC.
pub const GRPC_PORT: i32 = 15370;
const MESH_DIR: &str = "/etc/multigres/tls";

/// The objects of all orchestrators.
pub struct Orchestrators {
    /// Made at once.
    pub services: Vec<Desired>,
    /// They exit without the topology, so wait for it.
    pub deployments: Vec<Desired>,
}

/// Renders them.
///
/// # Errors
/// When neither multiorch nor any pool names a cell.
pub fn objects(shard: &Shard, identity: &Identity<'_>) -> Result<Orchestrators, RenderError> {
    let mut result = Orchestrators {
        services: Vec::new(),
        deployments: Vec::new(),
    };
    for cell in cells(shard)? {
        let mut own = identity.inherited("multiorch");
        own.insert(labels::CELL, cell);
        let name = identity.joined(Limit::Service, &["multiorch", cell]);
        let service = workload::service(
            labels::selector(&own),
            vec![
                service_port("http", HTTP_PORT),
                service_port("grpc", GRPC_PORT),
            ],
        );
        let metadata = identity.owner.child(name, own.clone());
        let service = Desired::new(Kind::Service, &metadata, &service)?;
        result.services.push(service);
        let deployment = orchestrator(shard, identity, cell, own).build()?;
        result.deployments.push(deployment);
    }
    Ok(result)
}

/// The Secrets that orchestrators mount.
pub fn secrets(shard: &Shard, identity: &Identity<'_>) -> Vec<Needed> {
    tls(shard, identity).secrets
}

/// The cell of an orchestrator's Deployment.
pub fn cell_of(deployment: &Desired) -> String {
    deployment.body.label(labels::CELL).unwrap_or_default()
}

fn tls<'a>(shard: &'a Shard, identity: &Identity<'_>) -> Tls<'a> {
    let Identity { cluster, owner, .. } = identity;
    let mut tls = Tls::default();
    if workload::mesh(shard.spec.internal_tls.as_ref()) {
        tls.mesh(
            ("multiorch", cluster, owner.namespace),
            ("tls-certs", MESH_DIR),
        );
    }
    tls.store(&shard.spec.global_topo_server);
    tls
}

/// The cells that run an orchestrator: those asked for, else those of the pools.
fn cells(shard: &Shard) -> Result<Vec<&str>, RenderError> {
    let asked = shard.spec.multiorch.cells.iter();
    let mut cells: Vec<&str> = asked.map(String::as_str).collect();
    if cells.is_empty() {
        cells = all_cells(shard).into_iter().collect();
    }
    if cells.is_empty() {
        return Err(RenderError::Invalid(
            "neither multiorch nor any pool names a cell".to_owned(),
        ));
    }
    Ok(cells)
}

fn all_cells(shard: &Shard) -> BTreeSet<&str> {
    shard
        .spec
        .pools
        .values()
        .flat_map(|pool| pool.cells.iter())
        .map(String::as_str)
        .collect()
}

fn orchestrator<'a>(
    shard: &'a Shard,
    identity: &Identity<'a>,
    cell: &'a str,
    own: Labels<'a>,
) -> Stateless<'a> {
    let spec = &shard.spec;
    let Identity {
        cluster,
        database,
        table_group,
        shard: name,
        project,
        owner,
    } = identity;
    let attributes = Attributes {
        project,
        cluster,
        component: "multiorch",
    };
    let telemetry = workload::telemetry(spec.observability.as_ref(), Some(&attributes));
    let deployment = identity.joined(Limit::Default, &["multiorch", cell]);
    let stateless = &spec.multiorch.stateless;
    let replicas = stateless.replicas.unwrap_or(1);
    // A stable id lets a restarted orchestrator resume what it had begun; two pods must never share one.
    let alone = replicas <= 1;
    let mut args = vec![
        "multiorch".into(),
        format!("--http-port={HTTP_PORT}").into(),
        format!("--grpc-port={GRPC_PORT}").into(),
        flag(
            "--topo-global-server-addresses",
            &spec.global_topo_server.address,
        ),
        flag("--topo-global-root", &spec.global_topo_server.root_path),
        flag("--cell", cell),
        format!("--watch-targets={database}/{table_group}/{name}").into(),
        flag(
            "--log-level",
            workload::log_level(spec.log_levels.as_ref().and_then(|l| l.multiorch.as_ref())),
        ),
        "--hostname=$(POD_IP)".into(),
        "--leader-failover-grace-period-base=3s".into(),
        "--leader-failover-grace-period-max-jitter=1s".into(),
        "--recovery-cycle-interval=500ms".into(),
        "--pooler-health-check-interval=2s".into(),
    ];
    if alone {
        let hash = crds::name::hash(&[&deployment]);
        args.push(format!("--service-id=o-{hash}").into());
    }
    let tls = tls(shard, identity);
    args.extend(tls.args);
    let mut env = vec![pod_ip()];
    env.extend(telemetry.env);
    let container = Container {
        name: "multiorch",
        image: Some(workload::image(
            &spec.images.multiorch,
            crds::image::MULTIORCH,
        )),
        args,
        env,
        ports: vec![port("http", HTTP_PORT), port("grpc", GRPC_PORT)],
        resources: stateless.resources.as_ref(),
        volume_mounts: telemetry.mount.into_iter().chain(tls.mounts).collect(),
        security_context: workload::unprivileged(None, None),
        ..Container::default()
    };
    Stateless {
        metadata: owner.child(deployment, own),
        replicas,
        exclusive: alone,
        pod_labels: &stateless.pod_labels,
        pod_annotations: labels::pod_annotations(&stateless.pod_annotations, project),
        placement: Placement {
            nodes: nodes(shard, cell),
            affinity: stateless.affinity.as_ref(),
            tolerations: workload::tolerations(spec.multiorch.placement.as_ref()),
        },
        pull: pull(shard),
        container: probes("/live", "/ready", HTTP_PORT).on(container),
        volumes: telemetry.volume.into_iter().chain(tls.volumes).collect(),
    }
}
