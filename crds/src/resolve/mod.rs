//! What a manifest means (`api.md` 7 and 8): a MultigresCluster and its templates become the specs of all children. Pure.
//!
//! ```text
//! template ← overrides ← inline settings        layers.rs, merge.rs     which value wins, field by field
//!   else inherited, operator's, built-in        inherit.rs, core.rs, defaults.rs
//! resolved values                               check.rs                what no object can be built from
//! ```

mod catalogue;
mod cell;
mod check;
mod core;
mod defaults;
mod inherit;
mod layers;
mod merge;
mod provenance;
mod shard;
mod store_tls;
mod syntax;
mod template;

use k8s_openapi::api::core::v1::LocalObjectReference;
use serde::Serialize;

pub use defaults::OperatorDefaults;
pub(crate) use provenance::Layer;
pub use provenance::{Level, Provenance, Source};
pub use template::{
    IMPLICIT, Reference, TemplateKind, TemplateNames, Templates, referenced, references,
};

use crate::image::ComponentImages;
use crate::rollout::{self, Rollout};
use crate::{
    CellSpec, ExternalServiceConfig, ExternalTopoServerSpec, GlobalTopoServerRef, MultigresCluster,
    MultigresClusterSpec, ObservabilityConfig, PodPlacementSpec, PvcDeletionPolicy,
    ShardResolvedSpec, ShardSpec, StatelessSpec, TableGroupSpec, TopoServerSpec,
};

/// Something the schema admits but no object can be built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path} = {value:?}: {remedy}")]
pub struct Problem {
    /// JSON path of the field; in a template after the template's kind and name.
    pub path: String,
    /// Its value.
    pub value: String,
    /// What is wrong and what to do.
    pub remedy: String,
}

/// Where the global topology lives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum GlobalTopology {
    /// A managed etcd with this spec.
    Managed(Box<TopoServerSpec>),
    /// The user's own.
    External(Box<ExternalTopoServerSpec>),
}

/// A cluster with every default filled in: ready-made specs of its children, and what the cluster's own objects need.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedCluster {
    /// Images in force.
    pub images: ComponentImages,
    /// How they came to be in force, and what is to be recorded about it.
    pub rollout: Rollout,
    /// Pull policy.
    pub image_pull_policy: String,
    /// Pull Secrets.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Log levels.
    pub log_levels: crate::ComponentLogLevels,
    /// Telemetry of data-plane pods; None = off.
    pub observability: Option<ObservabilityConfig>,
    /// The global topology store.
    pub topology: GlobalTopology,
    /// How children reach it.
    pub topology_ref: GlobalTopoServerRef,
    /// multiadmin.
    pub multiadmin: StatelessSpec,
    /// Tolerations of multiadmin.
    pub multiadmin_placement: PodPlacementSpec,
    /// multiadmin-web.
    pub multiadmin_web: StatelessSpec,
    /// Cells, in spec order.
    pub cells: Vec<CellSpec>,
    /// Table groups, in spec order.
    pub table_groups: Vec<TableGroupSpec>,
    /// Superuser.
    pub superuser: String,
    /// mTLS between components.
    pub internal_tls: bool,
    /// DNS name of the public certificate; None = no TLS for clients.
    pub cert_common_name: Option<String>,
    /// Exposure of the gateway; None = off.
    pub external_gateway: Option<ExternalServiceConfig>,
    /// Exposure of the admin web; None = off.
    pub external_admin_web: Option<ExternalServiceConfig>,
    /// Stale topology records are retired.
    pub topology_pruning: bool,
    /// The templates in force.
    pub templates: TemplateNames,
    /// Where each value came from.
    pub provenance: Provenance,
}

/// Everything a resolution reads.
struct Input<'a> {
    name: &'a str,
    namespace: &'a str,
    cluster: &'a MultigresClusterSpec,
    templates: &'a Templates,
    defaults: &'a OperatorDefaults,
}

impl<'a> Input<'a> {
    fn pull_secrets(&self) -> &'a [LocalObjectReference] {
        let images = self.cluster.images.as_ref();
        images
            .map(|images| images.image_pull_secrets.as_slice())
            .unwrap_or_default()
    }
}

/// Resolves a cluster with the templates of its namespace; those it does not refer to make no difference.
///
/// # Errors
/// Every problem that was found, in order of the fields.
pub fn resolve(
    cluster: &MultigresCluster,
    templates: &Templates,
    defaults: &OperatorDefaults,
) -> Result<ResolvedCluster, Vec<Problem>> {
    let input = Input {
        name: cluster.metadata.name.as_deref().unwrap_or_default(),
        namespace: cluster.metadata.namespace.as_deref().unwrap_or_default(),
        cluster: &cluster.spec,
        templates,
        defaults,
    };
    let mut findings = check::Findings::default();
    check::manifest(input.name, &cluster.spec, templates, &mut findings);
    let rollout = match rollout::decide(cluster, &defaults.images, defaults.strategy) {
        Ok(rollout) => rollout,
        Err(unreadable) => {
            let path = format!("metadata.annotations[{}]", rollout::APPLIED_IMAGES);
            findings.add(path, unreadable, "with the strategy lazy nothing is changed: restore the annotation, or choose the strategy immediate");
            return Err(findings.into_problems());
        }
    };
    let resolved = assemble(&input, rollout, &mut findings);
    let problems = findings.into_problems();
    if problems.is_empty() {
        Ok(resolved)
    } else {
        Err(problems)
    }
}

fn assemble(
    input: &Input<'_>,
    rollout: Rollout,
    findings: &mut check::Findings,
) -> ResolvedCluster {
    let spec = input.cluster;
    let mut provenance = Provenance::default();
    let common = core::common(input, &rollout, &mut provenance);
    let (topology, topology_ref) =
        core::topology(input, &common.pull_policy, &mut provenance, findings);
    let (multiadmin, multiadmin_placement) = core::multiadmin(input, &mut provenance, findings);
    let multiadmin_web = core::multiadmin_web(input, &mut provenance, findings);
    let all: Vec<String> = spec.cells.iter().map(|cell| cell.name.clone()).collect();
    let mut sorted = all.clone();
    sorted.sort();
    let shared = Shared {
        images: &rollout.effective,
        common: &common,
        topology: &topology_ref,
        cells: &all,
        sorted_cells: &sorted,
    };
    let cells = spec.cells.iter().enumerate();
    let cells = cells
        .map(|(index, given)| cell::cell(input, &shared, index, given, &mut provenance, findings))
        .collect();
    let table_groups = shard::table_groups(input, &shared, &mut provenance, findings);
    let exposed =
        |given: &Option<ExternalServiceConfig>| given.clone().filter(|given| given.enabled);
    ResolvedCluster {
        images: rollout.effective.clone(),
        image_pull_secrets: input.pull_secrets().to_vec(),
        internal_tls: spec.internal_tls.as_ref().and_then(|tls| tls.enabled) == Some(true),
        cert_common_name: spec
            .cert_common_name
            .clone()
            .filter(|name| !name.is_empty()),
        external_gateway: exposed(&spec.external_gateway),
        external_admin_web: exposed(&spec.external_admin_web),
        topology_pruning: common.pruning.enabled.unwrap_or(true),
        templates: template::in_force(spec, input.templates),
        image_pull_policy: common.pull_policy,
        log_levels: common.log_levels,
        observability: common.observability,
        superuser: common.superuser,
        rollout,
        topology,
        topology_ref,
        multiadmin,
        multiadmin_placement,
        multiadmin_web,
        cells,
        table_groups,
        provenance,
    }
}

/// What cells and table groups share.
struct Shared<'a> {
    images: &'a ComponentImages,
    common: &'a core::Common,
    topology: &'a GlobalTopoServerRef,
    /// All cells, in the order of the manifest.
    cells: &'a [String],
    /// The same, sorted.
    sorted_cells: &'a [String],
}

/// The spec of a Shard as its TableGroup renders it.
pub fn shard_spec(group: &TableGroupSpec, shard: &ShardResolvedSpec) -> ShardSpec {
    let pods = shard.pools.values().map(|pool| {
        pool.replicas_per_cell
            .unwrap_or(1)
            .saturating_mul(i32::try_from(pool.cells.len()).unwrap_or(i32::MAX))
    });
    ShardSpec {
        database_name: group.database_name.clone(),
        table_group_name: group.table_group_name.clone(),
        shard_name: shard.name.clone(),
        images: group.images.clone(),
        replicas: Some(pods.fold(0, i32::saturating_add)),
        multiorch: shard.multiorch.clone(),
        initdb_args: shard.initdb_args.clone(),
        postgres_config_ref: shard.postgres_config_ref.clone(),
        postgres_config: shard.postgres_config.clone(),
        pools: shard.pools.clone(),
        pvc_deletion_policy: merge_pvc_policy(
            shard.pvc_deletion_policy.as_ref(),
            group.pvc_deletion_policy.as_ref(),
        ),
        backup: shard.backup.clone().or_else(|| group.backup.clone()),
        global_topo_server: group.global_topo_server.clone(),
        internal_tls: group.internal_tls.clone(),
        observability: group.observability.clone(),
        log_levels: group.log_levels.clone(),
        topology_pruning: group.topology_pruning.clone(),
        durability_policy: group.durability_policy.clone(),
        postgres_superuser: group.postgres_superuser.clone(),
        postgres_password_secret_ref: group.postgres_password_secret_ref.clone(),
        cell_topology_labels: group.cell_topology_labels.clone(),
    }
}

/// The child's policy, member by member over the parent's.
pub fn merge_pvc_policy(
    child: Option<&PvcDeletionPolicy>,
    parent: Option<&PvcDeletionPolicy>,
) -> Option<PvcDeletionPolicy> {
    match (child, parent) {
        (None, parent) => parent.cloned(),
        (Some(child), None) => Some(child.clone()),
        (Some(child), Some(parent)) => Some(PvcDeletionPolicy {
            when_deleted: child
                .when_deleted
                .clone()
                .or_else(|| parent.when_deleted.clone()),
            when_scaled: child
                .when_scaled
                .clone()
                .or_else(|| parent.when_scaled.clone()),
        }),
    }
}

#[cfg(test)]
mod tests;
