//! The objects of a MultigresCluster: its children, the admin workloads and the global gateway Services.

use crds::resolve::{GlobalTopology, ResolvedCluster};
use crds::{ExternalServiceConfig, MultigresCluster};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::admin;
use crate::cell::objects::{PG_PORT, PG_REPLICA_PORT};
use crate::labels::{self, Map};
use crate::object::{Desired, Kind};
use crate::workload::{self, Owner, RenderError, service_port};

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
    objects.extend(admin::multiadmin(resolved, &owner)?);
    objects.extend(admin::web(cluster, resolved, &owner)?);
    objects.extend(gateways(resolved, &owner)?);
    Ok(objects)
}

fn child<S: Serialize>(
    kind: Kind,
    owner: &Owner,
    name: String,
    own: Map,
    spec: &S,
) -> Result<Desired, RenderError> {
    let metadata = owner.child_resource(name, own);
    Ok(Desired::custom(kind, &metadata, spec)?)
}

/// The Services over the gateways of all cells; only the one for read-write sessions can be exposed.
fn gateways(resolved: &ResolvedCluster, owner: &Owner) -> Result<[Desired; 2], RenderError> {
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
        workload::service(metadata, selector.clone(), vec![port])
    };
    let sessions = service("multigateway", service_port("postgres", PG_PORT));
    let replica = service(
        "multigateway-replica",
        service_port("pg-replica", PG_REPLICA_PORT),
    );
    Ok([
        Desired::from_typed(
            Kind::Service,
            &exposed(sessions, resolved.external_gateway.as_ref()),
        )?,
        Desired::from_typed(Kind::Service, &replica)?,
    ])
}

/// A Service with external addresses and the user's annotations, if it is to have any. The type stays ClusterIP: what is
/// in front of it is the user's.
pub fn exposed(service: Service, exposure: Option<&ExternalServiceConfig>) -> Service {
    let Some(exposure) = exposure else {
        return service;
    };
    let spec = service.spec.unwrap_or_default();
    Service {
        metadata: ObjectMeta {
            annotations: Some(exposure.annotations.clone()).filter(|all| !all.is_empty()),
            ..service.metadata
        },
        spec: Some(ServiceSpec {
            external_ips: workload::listed(exposure.external_ips.clone()),
            ..spec
        }),
        status: None,
    }
}
