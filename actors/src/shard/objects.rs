//! The objects of a Shard: configuration, backup volume, disruption budgets, multiorch.

use std::collections::BTreeMap;

use crds::Shard;
use crds::name::Limit;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::backup_volume;
use super::config_files::{EXPORTER_QUERIES, PG_HBA};
use super::identity::Identity;
use super::multiorch;
use crate::labels::{self, Map};
use crate::object::{Desired, Key, Kind};
use crate::quantity::thousandths;
use crate::shard::postgres_config::{self, Rendered, Sizing};
use crate::workload::{self, Pull, RenderError};

/// What cannot be read from the Shard itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// Body of the ConfigMap that `postgresConfigRef` names.
    pub referenced: Option<&'a str>,
    /// How many replicas must stay; `None` until the data plane is in sight, and then none may go.
    pub replicas_min_available: Option<i32>,
}

/// Everything a Shard owns but for its pools.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardObjects {
    /// Created at once.
    pub base: Vec<Desired>,
    /// Which of them is the ConfigMap with the settings.
    pub config_map: Key,
    /// Which of them is the budget of the replicas.
    pub replicas_budget: Key,
    /// Deployments that exit without the topology, so wait for it.
    pub multiorch: Vec<Desired>,
    /// The settings and their hashes, for the pools.
    pub config: Rendered,
}

/// Renders everything but the pools, as long as nothing but the Shard is known.
///
/// # Errors
/// As [`render_with`].
pub fn render(shard: &Shard) -> Result<ShardObjects, RenderError> {
    render_with(shard, Inputs::default())
}

/// Renders everything but the pools.
///
/// # Errors
/// When the Shard is not one from the API server, belongs to no cluster or has no cell to run multiorch in.
pub fn render_with(shard: &Shard, inputs: Inputs<'_>) -> Result<ShardObjects, RenderError> {
    let identity = Identity::new(shard)?;
    let config = config(shard, &identity, inputs.referenced);
    let mut base = vec![
        config_map(
            &identity,
            "pg-hba",
            "pg-hba-config",
            "pg_hba_template.conf",
            PG_HBA,
        )?,
        config_map(
            &identity,
            "exporter-queries",
            "postgres-exporter-queries",
            "queries.yml",
            EXPORTER_QUERIES,
        )?,
        config_map(
            &identity,
            "postgres-config",
            "postgres-config",
            "postgresql.conf",
            &config.text,
        )?,
    ];
    base.extend(backup_volume::claim(shard, &identity)?);
    let total = pods(shard);
    base.push(budget(&identity, "primary", ("In", &["PRIMARY"]), total)?);
    let replicas = inputs.replicas_min_available.unwrap_or(total);
    let of_replicas = budget(
        &identity,
        "replicas",
        ("NotIn", &["DRAINED", "PRIMARY"]),
        replicas,
    )?;
    let replicas_budget = of_replicas.key.clone();
    base.push(of_replicas);
    let orchestrators = multiorch::objects(shard, &identity)?;
    base.extend(orchestrators.services);
    Ok(ShardObjects {
        base,
        config_map: Key::new(
            Kind::ConfigMap,
            &identity.owner.namespace,
            &identity.suffixed("postgres-config"),
        ),
        replicas_budget,
        multiorch: orchestrators.deployments,
        config,
    })
}

/// How many pool pods the Shard wants, over all pools and cells.
pub fn pods(shard: &Shard) -> i32 {
    shard.spec.pools.values().fold(0, |total: i32, pool| {
        let cells = i32::try_from(pool.cells.len()).unwrap_or(i32::MAX);
        total.saturating_add(pool.replicas_per_cell.unwrap_or(1).saturating_mul(cells))
    })
}

/// The settings of the Shard's pods.
pub fn config(shard: &Shard, identity: &Identity, referenced: Option<&str>) -> Rendered {
    let Identity {
        cluster,
        database,
        table_group,
        shard: name,
        ..
    } = identity;
    let parts = [cluster, database, table_group, name].map(String::as_str);
    let cluster_name = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    postgres_config::render(
        &cluster_name,
        sizing(shard),
        referenced,
        &shard.spec.postgres_config,
    )
}

fn sizing(shard: &Shard) -> Sizing {
    let mut result = Sizing::default();
    for pool in shard.spec.pools.values() {
        let resources = pool.postgres.as_ref().and_then(|p| p.resources.as_ref());
        let amount = |name: &str| {
            let of = |list: Option<&BTreeMap<String, Quantity>>| {
                list.and_then(|l| l.get(name))
                    .and_then(|q| thousandths(&q.0))
                    .filter(|v| *v > 0)
            };
            of(resources.and_then(|r| r.limits.as_ref()))
                .or_else(|| of(resources.and_then(|r| r.requests.as_ref())))
        };
        result.memory = result.memory.max(amount("memory").unwrap_or(0) / 1000);
        result.millicores = result.millicores.max(amount("cpu").unwrap_or(0));
        let disk = pool
            .storage
            .as_ref()
            .and_then(|s| s.size.as_deref())
            .and_then(thousandths)
            .unwrap_or(0)
            / 1000;
        if disk > 0 && (result.disk == 0 || disk < result.disk) {
            result.disk = disk;
        }
    }
    result
}

fn config_map(
    identity: &Identity,
    suffix: &str,
    component: &str,
    file: &str,
    content: &str,
) -> Result<Desired, RenderError> {
    let map = ConfigMap {
        metadata: identity
            .owner
            .child(identity.suffixed(suffix), identity.inherited(component)),
        data: Some(Map::from([(file.to_owned(), content.to_owned())])),
        ..ConfigMap::default()
    };
    Ok(Desired::from_typed(Kind::ConfigMap, &map)?)
}

/// One of the two budgets, disjoint by role: an eviction that matched both would be refused whatever they say.
fn budget(
    identity: &Identity,
    which: &str,
    (operator, roles): (&str, &[&str]),
    min_available: i32,
) -> Result<Desired, RenderError> {
    let own = identity.labels("shard-pool");
    let name = identity.joined(Limit::Service, &[which, "pdb"]);
    let budget = PodDisruptionBudget {
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(min_available)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&own)),
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: labels::ROLE.to_owned(),
                    operator: operator.to_owned(),
                    values: Some(roles.iter().map(|role| (*role).to_owned()).collect()),
                }]),
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        metadata: identity.owner.child(name, own),
        status: None,
    };
    Ok(Desired::from_typed(Kind::PodDisruptionBudget, &budget)?)
}

/// The nodes of a cell.
pub fn nodes(shard: &Shard, cell: &str) -> Option<Map> {
    shard
        .spec
        .cell_topology_labels
        .get(cell)
        .filter(|nodes| !nodes.is_empty())
        .cloned()
}

/// How the Shard's images are fetched.
pub fn pull(shard: &Shard) -> Pull {
    let images = &shard.spec.images;
    Pull {
        policy: workload::text(&images.image_pull_policy),
        secrets: workload::listed(images.image_pull_secrets.clone()),
    }
}
