//! Cells.

use super::layers::Layers;
use super::provenance::{Component, Provenance};
use super::template::select;
use super::{Input, Shared, check, merge};
use crate::{CellConfig, CellImages, CellSpec, TopologyReconciliation};

/// The cell at this index of the manifest.
pub(super) fn cell(
    input: &Input<'_>,
    shared: &Shared<'_>,
    index: usize,
    given: &CellConfig,
    provenance: &mut Provenance,
    findings: &mut check::Findings,
) -> CellSpec {
    let spec = input.cluster;
    let defaults = spec.template_defaults.as_ref();
    let (name, template) = select(
        given.cell_template.as_deref(),
        defaults.and_then(|defaults| defaults.cell_template.as_deref()),
        &input.templates.cell,
    );
    let template = template.map(|template| &template.spec);
    let (inline, overrides) = (given.spec.as_ref(), given.overrides.as_ref());
    let mut rec = provenance.component(Component {
        path: format!("spec.cells[{index}]"),
        inline: "spec",
        kind: "CellTemplate",
        in_template: "spec",
        template: name,
    });
    let gateway = Layers {
        inline: inline.and_then(|i| i.multigateway.as_ref()),
        overrides: overrides.and_then(|o| o.multigateway.as_ref()),
        template: template.and_then(|t| t.multigateway.as_ref()),
    };
    let placement = Layers {
        inline: inline.and_then(|i| i.multigateway_placement.as_ref()),
        overrides: overrides.and_then(|o| o.multigateway_placement.as_ref()),
        template: template.and_then(|t| t.multigateway_placement.as_ref()),
    };
    let store = Layers::of(
        inline.and_then(|i| i.local_topo_server.as_ref()),
        template.and_then(|t| t.local_topo_server.as_ref()),
    );
    let resolved = CellSpec {
        name: given.name.clone(),
        zone_id: given.zone_id.clone(),
        region: given.region.clone(),
        images: CellImages {
            image_pull_policy: Some(shared.common.pull_policy.clone()),
            image_pull_secrets: input.pull_secrets().to_vec(),
            multigateway: shared.images.multigateway.clone().unwrap_or_default(),
        },
        multigateway: merge::gateway(gateway, &mut rec.within("multigateway")),
        multigateway_placement: rec.given("multigatewayPlacement", placement.first(Some)),
        global_topo_server: shared.topology.clone(),
        topo_server: merge::local_topology(store, &given.name, &mut rec.within("localTopoServer")),
        all_cells: shared.cells.to_vec(),
        topology_reconciliation: Some(TopologyReconciliation {
            register_cell: true,
            prune_poolers: shared.common.pruning.enabled.unwrap_or(true),
        }),
        observability: shared.common.observability.clone(),
        log_levels: Some(shared.common.log_levels.clone()),
        internal_tls: spec.internal_tls.clone(),
        cert_common_name: spec.cert_common_name.clone(),
    };
    let component = rec.component;
    check::At {
        findings,
        provenance,
        component,
    }
    .cell(&resolved);
    resolved
}
