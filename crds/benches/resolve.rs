//! `cargo bench -p crds`: how long a resolution with three templates takes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

mod figure;

use std::collections::BTreeMap;
use std::hint::black_box;

use crds::MultigresCluster;
use crds::resolve::{OperatorDefaults, Templates, resolve};
use serde::de::DeserializeOwned;

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
    let resolution = || resolve(black_box(&cluster), &templates, &defaults).unwrap();
    let name = "resolve with three templates";
    figure::time(name, 50.0, 20_000, "resolve.json", resolution);
}
