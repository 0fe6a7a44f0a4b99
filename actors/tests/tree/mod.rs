//! Everything the rooms render for a cluster, as pure functions of its manifest. The cluster tests include this file too.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "every test binary uses its part, and fails by panicking"
)]

use std::collections::BTreeSet;

use actors::object::{Desired, Kind};
use actors::shard::objects::Inputs;
use actors::workload::{Owner, RenderError};
use actors::{cell, cluster, pool, shard, tablegroup, toposerver};
use crds::certificate::Issuance;
use crds::resolve::ResolvedCluster;
use crds::{MultigresCluster, Shard};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a ConfigMap that `postgresConfigRef` names may hold.
const REFERENCED: &str = "work_mem = 8MB\nshared_buffers = '256MB'\n";

/// A uid made up from a name.
pub fn uid_of(name: &str) -> String {
    format!("uid-of-{name}")
}

/// All objects of a cluster: each level is rendered from the custom resources of the level above, which get their uids from
/// their names.
pub fn render(
    cluster: &MultigresCluster,
    resolved: &ResolvedCluster,
    uid: fn(&str) -> String,
) -> Result<Vec<Desired>, RenderError> {
    let mut waiting = of_cluster(cluster, resolved)?;
    let mut all = Vec::new();
    while !waiting.is_empty() {
        let mut next = Vec::new();
        for desired in &waiting {
            next.extend(children(desired, uid)?);
        }
        all.append(&mut waiting);
        waiting = next;
    }
    Ok(all)
}

/// What the cluster's own room renders.
pub fn of_cluster(
    cluster: &MultigresCluster,
    resolved: &ResolvedCluster,
) -> Result<Vec<Desired>, RenderError> {
    let owner = Owner::new(Kind::MultigresCluster, &cluster.metadata)?;
    let issuance = Issuance::default();
    let mut all = cluster::objects::render(cluster, resolved)?;
    all.extend(cluster::certificates::render(&owner, resolved, &issuance)?);
    Ok(all)
}

/// What the room of a custom resource renders; nothing for other objects.
pub fn children(of: &Desired, uid: fn(&str) -> String) -> Result<Vec<Desired>, RenderError> {
    let body = &of.body;
    match of.key.kind {
        Kind::TopoServer => toposerver::objects::render(&received(body, uid)),
        Kind::Cell => cell::objects::render(&received(body, uid)),
        Kind::TableGroup => tablegroup::objects::render(&received(body, uid)),
        Kind::Shard => of_shard(&received(body, uid)),
        _ => Ok(Vec::new()),
    }
}

fn of_shard(shard: &Shard) -> Result<Vec<Desired>, RenderError> {
    let inputs = Inputs {
        referenced: shard.spec.postgres_config_ref.as_ref().map(|_| REFERENCED),
        ..Inputs::default()
    };
    let objects = shard::objects::render_with(shard, inputs)?;
    let mut all = objects.base;
    all.extend(objects.multiorch);
    if let Some(plan) = shard::certificates::wanted(shard, &BTreeSet::new())? {
        all.extend([plan.ca, plan.leaf]);
    }
    for (name, of) in &shard.spec.pools {
        for cell in &of.cells {
            all.push(pool::objects::headless_service(shard, name, cell)?);
            for index in 0..pool::replicas(of) {
                let inputs = pool::pod::Inputs {
                    hashes: &objects.config.hashes,
                    certificates: "",
                };
                all.push(pool::objects::claim(shard, name, cell, index)?);
                all.push(pool::pod::pod_with(shard, (name, cell), index, inputs)?);
            }
        }
    }
    Ok(all)
}

/// A custom resource as the API server would hand it out.
pub fn received<T: DeserializeOwned>(body: &Value, uid: fn(&str) -> String) -> T {
    let mut body = body.clone();
    let name = body["metadata"]["name"].as_str().unwrap().to_owned();
    body["metadata"]["uid"] = uid(&name).into();
    body.as_object_mut().unwrap().remove("status");
    serde_json::from_value(body).unwrap()
}
