//! `cargo bench -p actors`: how long it takes to render and hash all objects of the smallest cluster, as its actors do in one
//! round of decisions.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

#[path = "../../crds/benches/figure/mod.rs"]
mod figure;

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use actors::object::{Desired, Kind};
use actors::pool::objects::{Inputs, claim, headless_service, pod_with};
use actors::shard::objects::ShardObjects;
use crds::resolve::{OperatorDefaults, ResolvedCluster, Templates, resolve};
use crds::{Cell, MultigresCluster, Shard, TableGroup, TopoServer};
use serde::de::DeserializeOwned;
use serde_json::Value;

const MINIMAL: &str = include_str!("../../docs/samples/minimal.yaml");

/// The custom resources of the cluster, as actors hold them.
struct Resources {
    cluster: MultigresCluster,
    resolved: ResolvedCluster,
    server: TopoServer,
    cell: Cell,
    group: TableGroup,
    shard: Shard,
}

/// A resource as the API server would hand it out.
fn received<T: DeserializeOwned>(body: &Value) -> T {
    let mut body = body.clone();
    body["metadata"]["namespace"] = "default".into();
    body["metadata"]["uid"] = "01234567-89ab-cdef-0123-456789abcdef".into();
    serde_json::from_value(body).unwrap()
}

fn resources() -> Resources {
    let documents: Vec<Value> = serde_saphyr::from_multiple(MINIMAL).unwrap();
    let of = |kind: &str| documents.iter().find(|body| body["kind"] == kind).unwrap();
    let cluster: MultigresCluster = received(of("MultigresCluster"));
    let defaults = OperatorDefaults::with_images(&BTreeMap::new());
    let resolved = resolve(&cluster, &Templates::default(), &defaults).unwrap();
    let children = actors::cluster::objects::render(&cluster, &resolved).unwrap();
    let child = |objects: &[Desired], kind| {
        let found = objects.iter().find(|object| object.key.kind == kind);
        found.unwrap().body.clone()
    };
    let group: TableGroup = received(&child(&children, Kind::TableGroup));
    let shards = actors::tablegroup::objects::render(&group).unwrap();
    Resources {
        server: received(&child(&children, Kind::TopoServer)),
        cell: received(&child(&children, Kind::Cell)),
        shard: received(&child(&shards, Kind::Shard)),
        group,
        resolved,
        cluster,
    }
}

fn render(of: &Resources) -> Vec<Desired> {
    let mut all = actors::cluster::objects::render(&of.cluster, &of.resolved).unwrap();
    all.extend(actors::toposerver::objects::render(&of.server).unwrap());
    all.extend(actors::cell::objects::render(&of.cell).unwrap());
    all.extend(actors::tablegroup::objects::render(&of.group).unwrap());
    let ShardObjects {
        base,
        multiorch,
        config,
        ..
    } = actors::shard::objects::render(&of.shard).unwrap();
    all.extend(base.into_iter().chain(multiorch));
    let plan = actors::shard::certificates::wanted(&of.shard, &BTreeSet::new()).unwrap();
    all.extend(plan.into_iter().flat_map(|plan| [plan.ca, plan.leaf]));
    let inputs = Inputs {
        hashes: &config.hashes,
        certificates: "",
    };
    for (pool, spec) in &of.shard.spec.pools {
        for cell in &spec.cells {
            all.push(headless_service(&of.shard, pool, cell).unwrap());
            for index in 0..spec.replicas_per_cell.unwrap_or(1) {
                all.push(claim(&of.shard, pool, cell, index).unwrap());
                all.push(pod_with(&of.shard, (pool, cell), index, inputs).unwrap());
            }
        }
    }
    all
}

fn main() {
    let resources = resources();
    let count = render(&resources).len();
    assert!(count >= 25, "{count} objects");
    let round = || {
        let objects = render(black_box(&resources));
        objects
            .iter()
            .map(|object| object.body.hash().len())
            .sum::<usize>()
    };
    let name = format!("render and hash the {count} objects of a minimal cluster");
    figure::time(&name, 200.0, 1_000, "render.json", round);
}
