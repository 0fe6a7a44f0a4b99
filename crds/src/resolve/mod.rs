//! What a manifest means (`api.md` 7 and 8): a MultigresCluster and its templates become the specs of all children. Pure.

mod check;
mod defaults;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

pub use defaults::OperatorDefaults;

use crate::image::ComponentImages;
use crate::{
    BackupConfig, CellSpec, CellTemplate, CoreTemplate, GlobalTopoServerRef, MultigresCluster,
    MultigresClusterSpec, PoolSpec, PvcDeletionPolicy, ShardConfig, ShardInlineSpec,
    ShardResolvedSpec, ShardSpec, ShardTemplate, StatelessSpec, TableGroupSpec, TopoServerSpec,
};

/// The templates of a cluster's namespace, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Templates {
    /// CoreTemplates.
    pub core: BTreeMap<String, CoreTemplate>,
    /// CellTemplates.
    pub cell: BTreeMap<String, CellTemplate>,
    /// ShardTemplates.
    pub shard: BTreeMap<String, ShardTemplate>,
}

/// Something the schema admits but no object can be built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path} = {value:?}: {remedy}")]
pub struct Problem {
    /// JSON path of the field.
    pub path: String,
    /// Its value.
    pub value: String,
    /// What is wrong and what to do.
    pub remedy: String,
}

/// Where the global topology lives.
#[derive(Clone, Debug, PartialEq)]
pub enum GlobalTopology {
    /// A managed etcd with this spec.
    Managed(Box<TopoServerSpec>),
    /// The user's own.
    External,
}

/// A cluster with every default filled in: ready-made specs of its children.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedCluster {
    /// Images in force.
    pub images: ComponentImages,
    /// Pull policy.
    pub image_pull_policy: String,
    /// Log levels.
    pub log_levels: crate::ComponentLogLevels,
    /// The global topology store.
    pub topology: GlobalTopology,
    /// How children reach it.
    pub topology_ref: GlobalTopoServerRef,
    /// multiadmin.
    pub multiadmin: StatelessSpec,
    /// multiadmin-web.
    pub multiadmin_web: StatelessSpec,
    /// Cells, in spec order.
    pub cells: Vec<CellSpec>,
    /// Table groups, in spec order.
    pub table_groups: Vec<TableGroupSpec>,
    /// Superuser.
    pub superuser: String,
}

/// Resolves a cluster.
///
/// # Errors
/// Every problem that was found, in order of the fields.
pub fn resolve(
    cluster: &MultigresCluster,
    _templates: &Templates,
    defaults: &OperatorDefaults,
) -> Result<ResolvedCluster, Vec<Problem>> {
    let problems = check::check(&cluster.spec);
    if !problems.is_empty() {
        return Err(problems);
    }
    let spec = &cluster.spec;
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let given = spec.images.clone().unwrap_or_default();
    let images = given.pins.over(&defaults.images);
    let (topology, topology_ref) = topology(spec, name, namespace);
    let common = Common {
        images: &images,
        pull_policy: given
            .image_pull_policy
            .clone()
            .unwrap_or_else(|| "IfNotPresent".to_owned()),
        topology: &topology_ref,
        log_levels: defaults::log_levels(spec.log_levels.as_ref()),
        cells: spec.cells.iter().map(|cell| cell.name.clone()).collect(),
    };
    let stateless =
        |given: Option<&StatelessSpec>, component| defaults::stateless(given, component);
    Ok(ResolvedCluster {
        multiadmin: stateless(
            spec.multiadmin
                .as_ref()
                .and_then(|admin| admin.spec.as_ref()),
            "multiadmin",
        ),
        multiadmin_web: stateless(
            spec.multiadmin_web
                .as_ref()
                .and_then(|web| web.spec.as_ref()),
            "multiadmin-web",
        ),
        cells: spec
            .cells
            .iter()
            .map(|cell| common.cell(spec, cell))
            .collect(),
        table_groups: common.table_groups(spec),
        superuser: superuser(spec),
        image_pull_policy: common.pull_policy.clone(),
        log_levels: common.log_levels.clone(),
        images,
        topology,
        topology_ref,
    })
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

/// `status.images` of a cluster (`api.md` 4.2).
pub fn images_status(
    cluster: &MultigresCluster,
    resolved: &ResolvedCluster,
    defaults: &OperatorDefaults,
) -> Value {
    let pins = cluster.spec.images.clone().unwrap_or_default().pins;
    let source = match pins.named() {
        0 => "defaults",
        6 => return json!({"effective": resolved.images, "source": "explicit"}),
        _ => "mixed",
    };
    let (set, revision) = (&defaults.images, defaults.images.revision());
    json!({
        "updateStrategy": "immediate", "effective": resolved.images, "source": source,
        "applied": set, "appliedRevision": revision, "available": set, "availableRevision": revision,
    })
}

fn superuser(spec: &MultigresClusterSpec) -> String {
    spec.postgres_superuser
        .clone()
        .filter(|user| !user.is_empty())
        .unwrap_or_else(|| "postgres".to_owned())
}

fn topology(
    spec: &MultigresClusterSpec,
    name: &str,
    namespace: &str,
) -> (GlobalTopology, GlobalTopoServerRef) {
    const ROOT: &str = "/multigres/global";
    let given = spec.global_topo_server.clone().unwrap_or_default();
    if let Some(external) = &given.external {
        let reference = GlobalTopoServerRef {
            address: external.endpoints.first().cloned().unwrap_or_default(),
            root_path: external
                .root_path
                .clone()
                .unwrap_or_else(|| ROOT.to_owned()),
            implementation: external
                .implementation
                .clone()
                .unwrap_or_else(|| "etcd".to_owned()),
        };
        return (GlobalTopology::External, reference);
    }
    let mut etcd = defaults::etcd(given.etcd.as_ref(), ROOT);
    let own = etcd.pvc_deletion_policy.take();
    let cluster = defaults::cluster_policy(spec.pvc_deletion_policy.as_ref());
    let policy = merge_pvc_policy(own.as_ref(), given.pvc_deletion_policy.as_ref());
    let reference = GlobalTopoServerRef {
        address: format!("{name}-global-topo.{namespace}.svc:2379"),
        root_path: etcd.root_path.clone().unwrap_or_else(|| ROOT.to_owned()),
        implementation: "etcd".to_owned(),
    };
    let server = TopoServerSpec {
        etcd: Some(etcd),
        pvc_deletion_policy: merge_pvc_policy(policy.as_ref(), Some(&cluster)),
        placement: given.placement,
    };
    (GlobalTopology::Managed(Box::new(server)), reference)
}

struct Common<'a> {
    images: &'a ComponentImages,
    pull_policy: String,
    topology: &'a GlobalTopoServerRef,
    log_levels: crate::ComponentLogLevels,
    cells: Vec<String>,
}

impl Common<'_> {
    fn cell(&self, spec: &MultigresClusterSpec, cell: &crate::CellConfig) -> CellSpec {
        let inline = cell.spec.clone().unwrap_or_default();
        CellSpec {
            name: cell.name.clone(),
            zone_id: cell.zone_id.clone(),
            region: cell.region.clone(),
            images: crate::CellImages {
                image_pull_policy: Some(self.pull_policy.clone()),
                image_pull_secrets: spec
                    .images
                    .as_ref()
                    .map(|i| i.image_pull_secrets.clone())
                    .unwrap_or_default(),
                multigateway: self.images.multigateway.clone().unwrap_or_default(),
            },
            multigateway: defaults::gateway(inline.multigateway.as_ref()),
            multigateway_placement: inline.multigateway_placement,
            global_topo_server: self.topology.clone(),
            topo_server: inline.local_topo_server,
            all_cells: self.cells.clone(),
            topology_reconciliation: Some(crate::TopologyReconciliation {
                register_cell: true,
                prune_poolers: spec
                    .topology_pruning
                    .as_ref()
                    .and_then(|p| p.enabled)
                    .unwrap_or(true),
            }),
            observability: spec.observability.clone(),
            log_levels: Some(self.log_levels.clone()),
            internal_tls: spec.internal_tls.clone(),
            cert_common_name: spec.cert_common_name.clone(),
        }
    }

    fn table_groups(&self, spec: &MultigresClusterSpec) -> Vec<TableGroupSpec> {
        let databases = defaults::catalogue(&spec.databases);
        let cluster_policy = defaults::cluster_policy(spec.pvc_deletion_policy.as_ref());
        let mut groups = Vec::new();
        for database in &databases {
            let backup = defaults::merge_backup(database.backup.as_ref(), spec.backup.as_ref());
            for group in &database.tablegroups {
                let backup = defaults::merge_backup(group.backup.as_ref(), backup.as_ref());
                groups.push(TableGroupSpec {
                    database_name: database.name.clone(),
                    table_group_name: group.name.clone(),
                    default: group.default,
                    images: crate::ShardImages {
                        image_pull_policy: Some(self.pull_policy.clone()),
                        image_pull_secrets: spec
                            .images
                            .as_ref()
                            .map(|i| i.image_pull_secrets.clone())
                            .unwrap_or_default(),
                        multiorch: self.images.multiorch.clone().unwrap_or_default(),
                        multipooler: self.images.multipooler.clone().unwrap_or_default(),
                        postgres: self.images.postgres.clone().unwrap_or_default(),
                    },
                    shards: group
                        .shards
                        .iter()
                        .map(|shard| self.shard(shard, backup.as_ref()))
                        .collect(),
                    pvc_deletion_policy: merge_pvc_policy(
                        group.pvc_deletion_policy.as_ref(),
                        Some(&cluster_policy),
                    ),
                    backup: Some(defaults::backup(backup)),
                    global_topo_server: self.topology.clone(),
                    internal_tls: spec.internal_tls.clone(),
                    observability: spec.observability.clone(),
                    log_levels: Some(self.log_levels.clone()),
                    topology_pruning: Some(spec.topology_pruning.clone().unwrap_or(
                        crate::TopologyPruningConfig {
                            enabled: Some(true),
                        },
                    )),
                    durability_policy: Some(
                        database
                            .durability_policy
                            .clone()
                            .or_else(|| spec.durability_policy.clone())
                            .unwrap_or_else(|| "AT_LEAST_2".to_owned()),
                    ),
                    postgres_superuser: Some(superuser(spec)),
                    postgres_password_secret_ref: spec.postgres_password_secret_ref.clone(),
                    cell_topology_labels: spec
                        .cells
                        .iter()
                        .map(|cell| (cell.name.clone(), defaults::node_labels(cell)))
                        .collect(),
                });
            }
        }
        groups
    }

    fn shard(&self, shard: &ShardConfig, parent: Option<&BackupConfig>) -> ShardResolvedSpec {
        let inline: ShardInlineSpec = shard.spec.clone().unwrap_or_default();
        let mut multiorch = inline.multiorch.unwrap_or_default();
        multiorch.stateless = defaults::stateless(Some(&multiorch.stateless), "multiorch");
        if multiorch.cells.is_empty() {
            multiorch.cells = self.sorted_cells();
        }
        let mut pools = inline.pools;
        if pools.is_empty() {
            let pool = PoolSpec {
                type_: Some("readWrite".to_owned()),
                cells: multiorch.cells.clone(),
                ..PoolSpec::default()
            };
            pools.insert("default".to_owned(), pool);
        }
        for pool in pools.values_mut() {
            if pool.cells.is_empty() {
                pool.cells = self.sorted_cells();
            }
            *pool = defaults::pool(pool);
        }
        ShardResolvedSpec {
            name: shard.name.clone(),
            multiorch,
            initdb_args: inline.initdb_args,
            postgres_config_ref: inline.postgres_config_ref,
            postgres_config: inline.postgres_config,
            pools,
            pvc_deletion_policy: inline.pvc_deletion_policy,
            backup: Some(defaults::backup(defaults::merge_backup(
                shard.backup.as_ref(),
                parent,
            ))),
        }
    }

    fn sorted_cells(&self) -> Vec<String> {
        let mut cells = self.cells.clone();
        cells.sort();
        cells
    }
}

#[cfg(test)]
mod tests;
