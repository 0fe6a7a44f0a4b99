//! Clusters with a data plane that answers: what it changes is told, what of it hangs concerns nobody else, and a fleet with
//! all its streams open is silent and small.
//!
//! The pods are played by the stand-in, within this process. All clusters share one real etcd, each under a root of its own.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and has tasks of its own"
)]

mod changes;
mod edits;
mod etcd;
mod faults;
mod scene;
mod silence;
mod watch;

use std::sync::Arc;

use control_plane::Pods;
use serde_json::{Value, json};
use standin::net::beside::Beside;

use crate::{
    bench::{Bench, Extras},
    figures::Figures,
    fleet::{self, Make},
    quiet,
    settings::{Live, Settings},
};
use etcd::Etcd;
use scene::Scene;

/// How many times faster than real Multigres the stand-in is.
const SPEED: u32 = 10;
/// Poolers of each cluster.
const POOLERS: usize = 3;
/// The annotation that edits change.
const EDITED: &str = "example.com/edited";

/// Measures everything.
///
/// # Errors
/// When something goes wrong; a figure that misses its goal is no error.
pub async fn measure(
    settings: &Settings,
    live: &Live,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    figures.prefix("live, ");
    let nobody: Make = Arc::new(|_, name| fleet::cluster(name, &Value::Null));
    let mut bench = Bench::start(settings, Pods::StandIn, nobody, figures).await?;
    let fleet = Beside::start(&bench.plane, SPEED)?;
    let etcd = Etcd::start(&bench.plane, "external-etcd").await?;
    bench.make = all_on(&etcd);
    bench.warm().await?;
    if live.streaming {
        streaming(&mut bench, &fleet, &etcd, live).await?;
    }
    bring_ups(&mut bench, &etcd, 2 * live.clusters, settings.runs).await
}

/// Figures of clusters whose poolers stream.
async fn streaming(
    bench: &mut Bench<'_>,
    fleet: &Beside,
    etcd: &Etcd,
    live: &Live,
) -> anyhow::Result<()> {
    let fragile = Etcd::start(&bench.plane, "fragile-etcd").await?;
    let (hung, clusters) = (faults::Hung::of(live.clusters), live.clusters);
    let mut scene = Scene {
        operator: bench.operator().await?,
        namespace: bench.namespace("live").await?,
        fleet: fleet.fleet(),
        clusters,
    };
    let on_fragile: Vec<String> = hung.topologies().map(fleet::name).collect();
    let (sound, weak) = (etcd.url().to_owned(), fragile.url().to_owned());
    let make: Make = Arc::new(move |namespace, name| {
        let weak = on_fragile
            .iter()
            .any(|other| other == name)
            .then_some(&weak);
        cluster(namespace, name, weak.unwrap_or(&sound))
    });
    let client = bench.plane.client();
    eprintln!("bring-up, {clusters} clusters with a data plane");
    fleet::bring_up(client.clone(), &scene.namespace, 0..clusters, &make).await?;
    quiet::settled(&bench.audit).await?;
    changes::measure(bench, &scene, live.changes).await?;
    quiet::settled(&bench.audit).await?;
    silence::measure(bench, &scene, &[etcd, &fragile]).await?;
    edits::measure(bench, &scene, &hung, &fragile, live).await?;
    let all = 2 * clusters;
    fleet::bring_up(client, &scene.namespace, clusters..all, &make).await?;
    quiet::settled(&bench.audit).await?;
    quiet::rest(quiet::REST, "a streaming fleet").await;
    let when = format!("{all} clusters with {} streams", all * POOLERS);
    bench.memory(&scene.operator, &when, bench.goals.memory)?;
    bench.end(&mut scene.operator, &scene.namespace).await
}

/// Bring-ups by the operator and by the raw client. Without an operator nobody registers cells and databases, and no pod
/// would become Ready: what the operator registered is copied to the roots of the raw client's clusters. These are others,
/// so that its shards are as new as the operator's were.
async fn bring_ups(
    bench: &mut Bench<'_>,
    etcd: &Etcd,
    count: usize,
    runs: usize,
) -> anyhow::Result<()> {
    let mut made = Vec::new();
    for number in 1..=runs {
        eprintln!("bring-up {number} of {runs}, {count} clusters with a data plane");
        let extras = Extras {
            transitions: number == 1,
            listen: number == runs,
            foreign: false,
        };
        let mut up = bench.up(count, extras).await?;
        let to = bench.namespace("raw").await?;
        let (old, new) = (root(&up.namespace, ""), root(&to, ""));
        for name in (0..count).map(fleet::name) {
            let (old, new) = (root(&up.namespace, &name), root(&to, &name));
            etcd.copy_registration(&old, &new).await?;
        }
        bench.end(&mut up.operator, &up.namespace).await?;
        let rendered = up.rendered.exchanged(&old, &new)?;
        up.run.raw = Some(bench.raw(&to, &rendered, up.run.peak).await?);
        made.push(up.run);
    }
    crate::report::bring_ups(bench.figures, count, &made, bench.goals);
    Ok(())
}

fn all_on(etcd: &Etcd) -> Make {
    let url = etcd.url().to_owned();
    Arc::new(move |namespace, name| cluster(namespace, name, &url))
}

/// The root of a cluster's topology.
fn root(namespace: &str, name: &str) -> String {
    format!("/scale/{namespace}/{name}")
}

/// A cluster with three poolers whose topology is in somebody else's etcd.
fn cluster(namespace: &str, name: &str, url: &str) -> Value {
    fleet::cluster(
        name,
        &json!({
            "globalTopoServer": { "external": { "endpoints": [url], "rootPath": root(namespace, name) } },
            // Nothing is sent there: the address is for documentation. The annotation can be changed at no other cost.
            "externalGateway": {
                "enabled": true, "externalIPs": ["192.0.2.1"], "annotations": { EDITED: "never" },
            },
            "cells": [{ "name": "zone-a", "zoneId": "us-central1-a" }],
            "databases": [{ "name": "postgres", "default": true, "tablegroups": [{
                "name": "default", "default": true, "shards": [{ "name": "0-inf", "spec": { "pools": {
                    "main": { "type": "readWrite", "cells": ["zone-a"], "replicasPerCell": POOLERS },
                } } }],
            }] }],
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cluster_has_a_root_of_its_own() {
        let root = |name| {
            let cluster = cluster("ns", name, "http://127.0.0.1:1");
            let root = cluster.pointer("/spec/globalTopoServer/external/rootPath");
            root.and_then(Value::as_str).unwrap().to_owned()
        };
        assert_eq!(root("c001"), "/scale/ns/c001");
        assert_ne!(root("c001"), root("c002"));
        let cluster = cluster("ns", "c001", "http://127.0.0.1:1");
        assert!(cluster["spec"]["postgresPasswordSecretRef"].is_object());
    }
}
