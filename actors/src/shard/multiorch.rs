//! The orchestrators of a Shard: one Deployment and one Service per cell.

use std::collections::BTreeSet;

use crds::Shard;
use crds::name::Limit;
use k8s_openapi::api::core::v1::Container;

use super::identity::Identity;
use super::objects::{nodes, pull};
use crate::labels::{self, Map};
use crate::object::{Desired, Kind};
use crate::secrets::Needed;
use crate::tls::Tls;
use crate::workload::{
    self, Attributes, Placement, RenderError, Stateless, pod_ip, port, probes, service_port,
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
pub fn objects(shard: &Shard, identity: &Identity) -> Result<Orchestrators, RenderError> {
    let mut result = Orchestrators {
        services: Vec::new(),
        deployments: Vec::new(),
    };
    for cell in cells(shard)? {
        let mut own = identity.inherited("multiorch");
        own.insert(labels::CELL.to_owned(), cell.clone());
        let name = identity.joined(Limit::Service, &["multiorch", &cell]);
        let service = workload::service(
            identity.owner.child(name, own.clone()),
            labels::selector(&own),
            vec![
                service_port("http", HTTP_PORT),
                service_port("grpc", GRPC_PORT),
            ],
        );
        let deployment = orchestrator(shard, identity, &cell, own).build();
        let service = Desired::from_typed(Kind::Service, &service)?;
        result.services.push(service);
        let deployment = Desired::from_typed(Kind::Deployment, &deployment)?;
        result.deployments.push(deployment);
    }
    Ok(result)
}

/// The Secrets that orchestrators mount.
pub fn secrets(shard: &Shard, identity: &Identity) -> Vec<Needed> {
    tls(shard, identity).secrets
}

/// The cell of an orchestrator's Deployment.
pub fn cell_of(deployment: &Desired) -> String {
    deployment.body.label(labels::CELL).unwrap_or_default()
}

fn tls(shard: &Shard, identity: &Identity) -> Tls {
    let Identity { cluster, owner, .. } = identity;
    let mut tls = Tls::default();
    if workload::mesh(shard.spec.internal_tls.as_ref()) {
        tls.mesh(
            ("multiorch", cluster, &owner.namespace),
            ("tls-certs", MESH_DIR),
        );
    }
    tls.store(&shard.spec.global_topo_server);
    tls
}

/// The cells that run an orchestrator: those asked for, else those of the pools.
fn cells(shard: &Shard) -> Result<Vec<String>, RenderError> {
    let asked = shard.spec.multiorch.cells.iter();
    let mut cells: Vec<String> = asked.map(ToString::to_string).collect();
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

fn all_cells(shard: &Shard) -> BTreeSet<String> {
    shard
        .spec
        .pools
        .values()
        .flat_map(|pool| pool.cells.iter())
        .map(ToString::to_string)
        .collect()
}

fn orchestrator(shard: &Shard, identity: &Identity, cell: &str, own: Map) -> Stateless {
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
        "multiorch".to_owned(),
        format!("--http-port={HTTP_PORT}"),
        format!("--grpc-port={GRPC_PORT}"),
        format!(
            "--topo-global-server-addresses={}",
            spec.global_topo_server.address
        ),
        format!("--topo-global-root={}", spec.global_topo_server.root_path),
        format!("--cell={cell}"),
        format!("--watch-targets={database}/{table_group}/{name}"),
        format!(
            "--log-level={}",
            workload::log_level(spec.log_levels.as_ref().and_then(|l| l.multiorch.as_ref()))
        ),
        "--hostname=$(POD_IP)".to_owned(),
        "--leader-failover-grace-period-base=3s".to_owned(),
        "--leader-failover-grace-period-max-jitter=1s".to_owned(),
        "--recovery-cycle-interval=500ms".to_owned(),
        "--pooler-health-check-interval=2s".to_owned(),
    ];
    if alone {
        args.push(format!(
            "--service-id=o-{}",
            crds::name::hash(&[&deployment])
        ));
    }
    let tls = tls(shard, identity);
    args.extend(tls.args);
    let mut env = vec![pod_ip()];
    env.extend(telemetry.env);
    let container = Container {
        name: "multiorch".to_owned(),
        image: Some(workload::image(
            &spec.images.multiorch,
            crds::image::MULTIORCH,
        )),
        args: Some(args),
        env: Some(env),
        ports: Some(vec![port("http", HTTP_PORT), port("grpc", GRPC_PORT)]),
        resources: stateless.resources.clone(),
        volume_mounts: workload::listed(telemetry.mount.into_iter().chain(tls.mounts).collect()),
        security_context: Some(workload::unprivileged(None, None)),
        ..Container::default()
    };
    Stateless {
        metadata: owner.child(deployment, own),
        replicas,
        exclusive: alone,
        pod_labels: Some(stateless.pod_labels.clone()),
        pod_annotations: Some(labels::pod_annotations(
            Some(&stateless.pod_annotations),
            project,
        )),
        placement: Placement {
            nodes: nodes(shard, cell),
            affinity: stateless.affinity.clone(),
            tolerations: spec
                .multiorch
                .placement
                .as_ref()
                .and_then(|p| workload::listed(p.tolerations.clone())),
        },
        pull: pull(shard),
        container: probes("/live", "/ready", HTTP_PORT).on(container),
        volumes: telemetry.volume.into_iter().chain(tls.volumes).collect(),
    }
}
