//! Table groups and their shards.

use std::collections::{BTreeMap, BTreeSet};

use super::inherit::{self, Levels};
use super::layers::{Found, Layers, text};
use super::provenance::{Component, Layer, Level, Provenance, Recorder};
use super::template::select;
use super::{Input, Shared, catalogue, check, defaults, merge};
use crate::{
    BackupConfig, DatabaseConfig, PoolSpec, ShardConfig, ShardImages, ShardResolvedSpec,
    ShardTemplateSpec, TableGroupConfig, TableGroupSpec,
};

/// A table group with the levels above it.
struct Group<'a> {
    /// Its path in the manifest.
    path: String,
    database: &'a DatabaseConfig,
    group: &'a TableGroupConfig,
}

/// All table groups, in the order of the manifest.
pub(super) fn table_groups(
    input: &Input<'_>,
    shared: &Shared<'_>,
    provenance: &mut Provenance,
    findings: &mut check::Findings,
) -> Vec<TableGroupSpec> {
    let mut groups = Vec::new();
    for (d, database) in catalogue::databases(input.cluster).iter().enumerate() {
        let durability = durability(input, d, database, provenance, findings);
        for (g, group) in catalogue::table_groups(database).iter().enumerate() {
            let of = Group {
                path: format!("spec.databases[{d}].tablegroups[{g}]"),
                database,
                group,
            };
            groups.push(of.resolve(input, shared, &durability, provenance, findings));
        }
    }
    groups
}

/// The quorum rule of a database: its own, else the cluster's.
fn durability(
    input: &Input<'_>,
    index: usize,
    database: &DatabaseConfig,
    provenance: &mut Provenance,
    findings: &mut check::Findings,
) -> String {
    let mut rec = provenance.component(plain(format!("spec.databases[{index}]")));
    let own = text(&database.durability_policy).map(|policy| (Layer::Inline, policy));
    let found: Found<'_, String> = own.or_else(|| {
        let inherited = text(&input.cluster.durability_policy)?;
        Some((Layer::Inherited(Level::Cluster), inherited))
    });
    let policy = rec.pick("durabilityPolicy", found, || Some("AT_LEAST_2".to_owned()));
    let (policy, component) = (policy.unwrap_or_default(), rec.component);
    check::At {
        findings,
        provenance,
        component,
    }
    .policy(&policy);
    policy
}

const fn plain(path: String) -> Component {
    Component {
        path,
        inline: "",
        kind: "",
        in_template: "",
        template: None,
    }
}

impl Group<'_> {
    fn resolve(
        &self,
        input: &Input<'_>,
        shared: &Shared<'_>,
        durability: &str,
        provenance: &mut Provenance,
        findings: &mut check::Findings,
    ) -> TableGroupSpec {
        let (spec, common) = (input.cluster, shared.common);
        let shards = catalogue::shards(self.group);
        let shards = shards
            .iter()
            .enumerate()
            .map(|(s, shard)| self.shard(input, shared, (s, shard), provenance, findings))
            .collect();
        let mut rec = provenance.component(plain(self.path.clone()));
        let policy = Levels::own(self.group.pvc_deletion_policy.as_ref())
            .over(Level::Cluster, spec.pvc_deletion_policy.as_ref());
        let policy = inherit::policy(&policy, &mut rec.within("pvcDeletionPolicy"));
        let backup = self.backup(input, None);
        TableGroupSpec {
            database_name: self.database.name.clone(),
            table_group_name: self.group.name.clone(),
            default: self.group.default,
            images: ShardImages {
                image_pull_policy: Some(common.pull_policy.clone()),
                image_pull_secrets: input.pull_secrets().to_vec(),
                multiorch: shared.images.multiorch.clone().unwrap_or_default(),
                multipooler: shared.images.multipooler.clone().unwrap_or_default(),
                postgres: shared.images.postgres.clone().unwrap_or_default(),
            },
            shards,
            pvc_deletion_policy: Some(policy),
            backup: Some(inherit::backup(&backup, &mut rec.within("backup"))),
            global_topo_server: shared.topology.clone(),
            internal_tls: spec.internal_tls.clone(),
            observability: common.observability.clone(),
            log_levels: Some(common.log_levels.clone()),
            topology_pruning: Some(common.pruning.clone()),
            durability_policy: Some(durability.to_owned()),
            postgres_superuser: Some(common.superuser.clone()),
            postgres_password_secret_ref: spec.postgres_password_secret_ref.clone(),
            cell_topology_labels: spec
                .cells
                .iter()
                .map(|cell| (cell.name.clone(), defaults::node_labels(cell)))
                .collect(),
        }
    }

    /// The backup settings of the group or, with `shard`, of that shard, with those above.
    fn backup<'a>(
        &'a self,
        input: &Input<'a>,
        shard: Option<&'a ShardConfig>,
    ) -> Levels<'a, BackupConfig> {
        let group = self.group.backup.as_ref();
        let levels = match shard {
            None => Levels::own(group),
            Some(shard) => Levels::own(shard.backup.as_ref()).over(Level::TableGroup, group),
        };
        levels
            .over(Level::Database, self.database.backup.as_ref())
            .over(Level::Cluster, input.cluster.backup.as_ref())
    }

    fn shard(
        &self,
        input: &Input<'_>,
        shared: &Shared<'_>,
        (index, given): (usize, &ShardConfig),
        provenance: &mut Provenance,
        findings: &mut check::Findings,
    ) -> ShardResolvedSpec {
        let path = format!("{}.shards[{index}]", self.path);
        let defaults = input.cluster.template_defaults.as_ref();
        let (name, template) = select(
            given.shard_template.as_deref(),
            defaults.and_then(|defaults| defaults.shard_template.as_deref()),
            &input.templates.shard,
        );
        let mut rec = provenance.component(plain(path.clone()));
        let levels = self.backup(input, Some(given));
        let backup = inherit::backup(&levels, &mut rec.within("backup"));
        let component = rec.component;
        check::At {
            findings,
            provenance,
            component,
        }
        .backup(&backup);
        let mut rec = provenance.component(Component {
            path,
            inline: "spec",
            kind: "ShardTemplate",
            in_template: "spec",
            template: name,
        });
        let template = template.map(|template| &template.spec);
        let resolved = shard(given, template, shared.sorted_cells, backup, &mut rec);
        let component = rec.component;
        check::At {
            findings,
            provenance,
            component,
        }
        .shard(&resolved, shared.sorted_cells);
        resolved
    }
}

fn shard(
    given: &ShardConfig,
    template: Option<&ShardTemplateSpec>,
    cells: &[String],
    backup: BackupConfig,
    rec: &mut Recorder<'_>,
) -> ShardResolvedSpec {
    let (inline, overrides) = (given.spec.as_ref(), given.overrides.as_ref());
    let orch = Layers {
        inline: inline.and_then(|i| i.multiorch.as_ref()),
        overrides: overrides.and_then(|o| o.multiorch.as_ref()),
        template: template.and_then(|t| t.multiorch.as_ref()),
    };
    let pools = Layers {
        inline: inline.map(|i| &i.pools),
        overrides: overrides.map(|o| &o.pools),
        template: template.map(|t| &t.pools),
    };
    let initdb = Layers {
        inline: inline.and_then(|i| text(&i.initdb_args)),
        overrides: overrides.and_then(|o| text(&o.initdb_args)),
        template: template.and_then(|t| text(&t.initdb_args)),
    };
    let reference = Layers {
        inline: inline.and_then(|i| i.postgres_config_ref.as_ref()),
        overrides: overrides.and_then(|o| o.postgres_config_ref.as_ref()),
        template: template.and_then(|t| t.postgres_config_ref.as_ref()),
    };
    let settings = Layers {
        inline: inline.map(|i| &i.postgres_config),
        overrides: overrides.map(|o| &o.postgres_config),
        template: template.map(|t| &t.postgres_config),
    };
    // Overrides have no such field.
    let policy = Layers::of(
        inline.and_then(|i| i.pvc_deletion_policy.as_ref()),
        template.and_then(|t| t.pvc_deletion_policy.as_ref()),
    );
    let multiorch = merge::multiorch(orch, cells, &mut rec.within("multiorch"));
    let pools = self::pools(pools, &multiorch.cells, cells, rec);
    ShardResolvedSpec {
        name: given.name.clone(),
        multiorch,
        initdb_args: rec.given("initdbArgs", initdb.first(Some)),
        postgres_config_ref: rec.given("postgresConfigRef", reference.first(Some)),
        postgres_config: rec.union("postgresConfig", settings),
        pools,
        pvc_deletion_policy: rec.given("pvcDeletionPolicy", policy.first(Some)),
        backup: Some(backup),
    }
}

/// By name; without any there is one named `default` in the cells of the orchestrators.
fn pools(
    layers: Layers<'_, BTreeMap<String, PoolSpec>>,
    orchestrated: &[String],
    cells: &[String],
    rec: &mut Recorder<'_>,
) -> BTreeMap<String, PoolSpec> {
    let all = [layers.inline, layers.overrides, layers.template];
    let names: BTreeSet<&String> = all.into_iter().flatten().flat_map(BTreeMap::keys).collect();
    let pool = |name: &str, cells: &[String], rec: &mut Recorder<'_>| {
        let l = layers.map(|pools| pools.get(name));
        merge::pool(l, cells, &mut rec.within(&format!("pools.{name}")))
    };
    if names.is_empty() {
        let mut only = pool("default", orchestrated, rec);
        only.type_ = Some("readWrite".to_owned());
        rec.within("pools.default").note("type", Layer::BuiltIn);
        return BTreeMap::from([("default".to_owned(), only)]);
    }
    let resolved = names
        .into_iter()
        .map(|name| (name.clone(), pool(name, cells, rec)));
    resolved.collect()
}
