//! The objects of a MultigresCluster: its children, the admin workloads and the global gateway Services.

use crds::MultigresCluster;
use crds::resolve::{GlobalTopology, ResolvedCluster};
use k8s_openapi::api::core::v1::{Container, EnvVar};
use serde::Serialize;

use crate::cell::objects::{PG_PORT, PG_REPLICA_PORT};
use crate::labels::{self, Map};
use crate::object::{Desired, Kind};
use crate::workload::{
    self, Owner, Placement, Pull, RenderError, Stateless, env, env_secret, numbered_port, pod_ip,
    port, probes, service_port,
};

const ADMIN_HTTP: i32 = 18000;
const ADMIN_GRPC: i32 = 18070;
const WEB_HTTP: i32 = 18100;

/// A child custom resource as it is applied.
#[derive(Serialize)]
struct Child<'a, S> {
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    spec: &'a S,
}

/// Renders everything a MultigresCluster owns.
///
/// # Errors
/// When the cluster is not one from the API server.
pub fn render(
    cluster: &MultigresCluster,
    resolved: &ResolvedCluster,
) -> Result<Vec<Desired>, RenderError> {
    let owner = Owner::new(Kind::MultigresCluster, &cluster.metadata)?;
    let name = owner.name.clone();
    let mut objects = Vec::new();
    if let GlobalTopology::Managed(server) = &resolved.topology {
        let own = labels::standard(&name, "global-topo", &[(labels::CLUSTER, &name)]);
        objects.push(child(
            Kind::TopoServer,
            &owner,
            format!("{name}-global-topo"),
            own,
            server,
        )?);
    }
    for cell in &resolved.cells {
        let own = labels::standard(
            &name,
            "cell",
            &[(labels::CLUSTER, &name), (labels::CELL, &cell.name)],
        );
        objects.push(child(
            Kind::Cell,
            &owner,
            crds::name::cell(&name, &cell.name),
            own,
            cell,
        )?);
    }
    for group in &resolved.table_groups {
        let further = [
            (labels::CLUSTER, name.as_str()),
            (labels::DATABASE, &group.database_name),
            (labels::TABLE_GROUP, &group.table_group_name),
        ];
        let own = labels::standard(&name, "tablegroup", &further);
        let called = crds::name::table_group(&name, &group.database_name, &group.table_group_name);
        objects.push(child(Kind::TableGroup, &owner, called, own, group)?);
    }
    objects.extend(admin(resolved, &owner)?);
    objects.extend(web(cluster, resolved, &owner)?);
    objects.extend(gateways(&owner)?);
    Ok(objects)
}

fn child<S: Serialize>(
    kind: Kind,
    owner: &Owner,
    name: String,
    own: Map,
    spec: &S,
) -> Result<Desired, RenderError> {
    Ok(Desired::from_typed(
        kind,
        &Child {
            metadata: owner.child_resource(name, own),
            spec,
        },
    )?)
}

fn pull(resolved: &ResolvedCluster) -> Pull {
    Pull {
        policy: Some(resolved.image_pull_policy.clone()),
        secrets: workload::listed(resolved.image_pull_secrets.clone()),
    }
}

fn admin(resolved: &ResolvedCluster, owner: &Owner) -> Result<[Desired; 2], RenderError> {
    let name = format!("{}-multiadmin", owner.name);
    let own = labels::standard(&owner.name, "multiadmin", &[(labels::CLUSTER, &owner.name)]);
    let telemetry = workload::telemetry(resolved.observability.as_ref(), None);
    let args = vec![
        format!("--http-port={ADMIN_HTTP}"),
        format!("--grpc-port={ADMIN_GRPC}"),
        format!(
            "--topo-global-server-addresses={}",
            resolved.topology_ref.address
        ),
        format!("--topo-global-root={}", resolved.topology_ref.root_path),
        // The admin API is off without it.
        "--service-map=grpc-multiadmin".to_owned(),
        "--pprof-http=true".to_owned(),
        format!(
            "--log-level={}",
            resolved.log_levels.multiadmin.as_deref().unwrap_or("info")
        ),
        "--hostname=$(POD_IP)".to_owned(),
    ];
    let container = Container {
        name: "multiadmin".to_owned(),
        image: resolved.images.multiadmin.clone(),
        command: Some(vec!["/multigres/bin/multiadmin".to_owned()]),
        args: Some(args),
        env: Some(std::iter::once(pod_ip()).chain(telemetry.env).collect()),
        ports: Some(vec![port("http", ADMIN_HTTP), port("grpc", ADMIN_GRPC)]),
        resources: resolved.multiadmin.resources.clone(),
        security_context: Some(workload::unprivileged(None, None)),
        volume_mounts: workload::listed(Vec::from_iter(telemetry.mount)),
        ..Container::default()
    };
    let deployment = Stateless {
        metadata: owner.child(name.clone(), own.clone()),
        replicas: resolved.multiadmin.replicas.unwrap_or(1),
        exclusive: false,
        pod_labels: Some(resolved.multiadmin.pod_labels.clone()),
        pod_annotations: Some(resolved.multiadmin.pod_annotations.clone()),
        placement: Placement {
            nodes: None,
            affinity: resolved.multiadmin.affinity.clone(),
            tolerations: workload::listed(resolved.multiadmin_placement.tolerations.clone()),
        },
        pull: pull(resolved),
        container: probes("/live", "/ready", ADMIN_HTTP).on(container),
        volumes: Vec::from_iter(telemetry.volume),
    };
    let ports = vec![
        numbered_port("http", ADMIN_HTTP),
        numbered_port("grpc", ADMIN_GRPC),
    ];
    let service = workload::service(
        owner.child(name, own.clone()),
        labels::selector(&own),
        ports,
    );
    Ok([
        Desired::from_typed(Kind::Deployment, &deployment.build())?,
        Desired::from_typed(Kind::Service, &service)?,
    ])
}

fn web(
    cluster: &MultigresCluster,
    resolved: &ResolvedCluster,
    owner: &Owner,
) -> Result<[Desired; 2], RenderError> {
    let name = format!("{}-multiadmin-web", owner.name);
    let own = labels::standard(
        &owner.name,
        "multiadmin-web",
        &[(labels::CLUSTER, &owner.name)],
    );
    let password = &cluster.spec.postgres_password_secret_ref;
    let variables: Vec<EnvVar> = vec![
        env("HOSTNAME", "::"),
        env(
            "MULTIADMIN_API_URL",
            format!("http://{}-multiadmin:{ADMIN_HTTP}", owner.name),
        ),
        env("POSTGRES_HOST", format!("{}-multigateway", owner.name)),
        env("POSTGRES_PORT", PG_PORT.to_string()),
        env("POSTGRES_DATABASE", "postgres"),
        env("POSTGRES_USER", resolved.superuser.clone()),
        // Without it the web falls back to a literal password (trap T9).
        env_secret("POSTGRES_PASSWORD", &password.name, &password.key),
    ];
    let container = Container {
        name: "multiadmin-web".to_owned(),
        image: resolved.images.multiadmin_web.clone(),
        env: Some(variables),
        ports: Some(vec![port("http", WEB_HTTP)]),
        resources: resolved.multiadmin_web.resources.clone(),
        // The image's user `nextjs` has this number (`workloads.md` 2.8); a name alone would not pass runAsNonRoot.
        security_context: Some(workload::unprivileged(Some(1001), None)),
        ..Container::default()
    };
    let deployment = Stateless {
        metadata: owner.child(name.clone(), own.clone()),
        replicas: resolved.multiadmin_web.replicas.unwrap_or(1),
        exclusive: false,
        pod_labels: Some(resolved.multiadmin_web.pod_labels.clone()),
        pod_annotations: Some(resolved.multiadmin_web.pod_annotations.clone()),
        placement: Placement {
            affinity: resolved.multiadmin_web.affinity.clone(),
            ..Placement::default()
        },
        pull: pull(resolved),
        container: probes("/", "/", WEB_HTTP).on(container),
        volumes: Vec::new(),
    };
    let ports = vec![numbered_port("http", WEB_HTTP)];
    let service = workload::service(
        owner.child(name, own.clone()),
        labels::selector(&own),
        ports,
    );
    Ok([
        Desired::from_typed(Kind::Deployment, &deployment.build())?,
        Desired::from_typed(Kind::Service, &service)?,
    ])
}

/// The Services over the gateways of all cells.
fn gateways(owner: &Owner) -> Result<[Desired; 2], RenderError> {
    let own = labels::standard(
        &owner.name,
        "multigateway",
        &[(labels::CLUSTER, &owner.name)],
    );
    // Gateway pods carry no cluster label, so it cannot be selected by.
    let selector: Map = labels::selector(&own)
        .into_iter()
        .filter(|(label, _)| label.as_str() != labels::CLUSTER)
        .collect();
    let service = |suffix: &str, port| {
        let metadata = owner.child(format!("{}-{suffix}", owner.name), own.clone());
        Desired::from_typed(
            Kind::Service,
            &workload::service(metadata, selector.clone(), vec![port]),
        )
    };
    Ok([
        service("multigateway", service_port("postgres", PG_PORT))?,
        service(
            "multigateway-replica",
            service_port("pg-replica", PG_REPLICA_PORT),
        )?,
    ])
}
