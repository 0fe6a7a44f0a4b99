//! The objects of a MultigresCluster: its children, the admin workloads and the global gateway Services.

use crds::resolve::{GlobalTopology, ResolvedCluster};
use crds::{ExternalServiceConfig, MultigresCluster};
use serde::Serialize;

use super::admin;
use crate::cell::objects::{PG_PORT, PG_REPLICA_PORT};
use crate::labels::{self, Labels};
use crate::object::{Desired, Kind};
use crate::shape::{ObjectMeta, ServiceSpec};
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
    let name = owner.name;
    let mut objects = Vec::new();
    if let GlobalTopology::Managed(server) = &resolved.topology {
        let own = labels::standard(name, "global-topo", &[(labels::CLUSTER, name)]);
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
            name,
            "cell",
            &[(labels::CLUSTER, name), (labels::CELL, &cell.name)],
        );
        objects.push(child(
            Kind::Cell,
            &owner,
            crds::name::cell(name, &cell.name),
            own,
            cell,
        )?);
    }
    for group in &resolved.table_groups {
        let further = [
            (labels::CLUSTER, name),
            (labels::DATABASE, &group.database_name),
            (labels::TABLE_GROUP, &group.table_group_name),
        ];
        let own = labels::standard(name, "tablegroup", &further);
        let called = crds::name::table_group(name, &group.database_name, &group.table_group_name);
        objects.push(child(Kind::TableGroup, &owner, called, own, group)?);
    }
    objects.extend(admin::multiadmin(resolved, &owner)?);
    objects.extend(admin::web(cluster, resolved, &owner)?);
    objects.extend(gateways(resolved, &owner)?);
    Ok(objects)
}

fn child(
    kind: Kind,
    owner: &Owner<'_>,
    name: String,
    own: Labels<'_>,
    spec: &impl Serialize,
) -> Result<Desired, RenderError> {
    let metadata = owner.child_resource(name, own);
    Ok(Desired::new(kind, &metadata, spec)?)
}

/// The Services over the gateways of all cells; only the one for read-write sessions can be exposed.
fn gateways(resolved: &ResolvedCluster, owner: &Owner<'_>) -> Result<[Desired; 2], RenderError> {
    let own = labels::standard(owner.name, "multigateway", &[(labels::CLUSTER, owner.name)]);
    // Gateway pods carry no cluster label, so it cannot be selected by.
    let mut selector = labels::selector(&own);
    selector.remove(labels::CLUSTER);
    let service = |suffix: &str, port, exposure| {
        let metadata = owner.child(format!("{}-{suffix}", owner.name), own.clone());
        let spec = workload::service(selector.clone(), vec![port]);
        exposed(metadata, spec, exposure)
    };
    Ok([
        service(
            "multigateway",
            service_port("postgres", PG_PORT),
            resolved.external_gateway.as_ref(),
        )?,
        service(
            "multigateway-replica",
            service_port("pg-replica", PG_REPLICA_PORT),
            None,
        )?,
    ])
}

/// A Service with external addresses and the user's annotations, if it is to have any. The type stays ClusterIP: what is
/// in front of it is the user's.
///
/// # Errors
/// When it cannot be serialised.
pub fn exposed<'a>(
    mut metadata: ObjectMeta<'a>,
    mut spec: ServiceSpec<'a>,
    exposure: Option<&'a ExternalServiceConfig>,
) -> Result<Desired, RenderError> {
    if let Some(exposure) = exposure {
        metadata.annotations = labels::borrowed(&exposure.annotations);
        spec.external_ips = &exposure.external_ips;
    }
    Ok(Desired::new(Kind::Service, &metadata, &spec)?)
}
