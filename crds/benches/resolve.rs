//! `cargo bench -p crds`: how long a resolution with three templates takes; the goal is 50 µs.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use crds::MultigresCluster;
use crds::resolve::{OperatorDefaults, Templates, resolve};
use serde::de::DeserializeOwned;

const ROUNDS: u32 = 20_000;

fn one<T: DeserializeOwned>(text: &str) -> BTreeMap<String, T> {
    BTreeMap::from([("default".to_owned(), serde_saphyr::from_str(text).unwrap())])
}

fn main() {
    let cluster = "
metadata: {name: bench, namespace: default}
spec:
  postgresPasswordSecretRef: {name: secret, key: password}
  cells: [{name: zone-a, zoneId: one}]
";
    let cluster: MultigresCluster = serde_saphyr::from_str(cluster).unwrap();
    let templates = Templates {
        core: one("spec: {globalTopoServer: {etcd: {replicas: 5}}, multiadmin: {replicas: 2}}"),
        cell: one("spec: {multigateway: {replicas: 2, podLabels: {team: a}}}"),
        shard: one(
            "spec: {pools: {main: {storage: {size: 5Gi}}}, postgresConfig: {work_mem: 8MB}}",
        ),
    };
    let defaults = OperatorDefaults::with_images(&BTreeMap::new());
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            black_box(resolve(black_box(&cluster), &templates, &defaults)).unwrap();
        }
        best = best.min(begin.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
    println!("resolve with three templates: {best:.1} µs (goal 50)");
}
