//! A tenth of the clusters hangs: half of it with its topology, half with its poolers.

use std::ops::Range;

use kube::api::DynamicObject;
use serde_json::Value;
use standin::net::fault::{Faults, Network};

use super::{etcd::Etcd, scene::Scene, watch::Known};
use crate::fleet;

/// Who hangs, by number.
#[derive(Clone, Copy, Debug)]
pub struct Hung {
    topologies: usize,
    all: usize,
}

impl Hung {
    /// Of so many clusters: a tenth, one of each sort at least.
    pub fn of(clusters: usize) -> Self {
        let all = clusters.div_ceil(10).max(2);
        Self {
            topologies: all / 2,
            all,
        }
    }

    /// Clusters whose topology hangs.
    pub fn topologies(self) -> Range<usize> {
        0..self.topologies
    }

    /// Clusters whose poolers hang.
    pub fn poolers(self) -> Range<usize> {
        self.topologies..self.all
    }

    /// All that hang.
    pub fn all(self) -> Range<usize> {
        0..self.all
    }

    /// Lets them hang.
    ///
    /// # Errors
    /// When etcd has ended.
    pub fn begin(self, scene: &Scene, fragile: &Etcd) -> anyhow::Result<()> {
        self.poolers_are(scene, Network::Hang);
        fragile.pause()
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When etcd has ended.
    pub fn end(self, scene: &Scene, fragile: &Etcd) -> anyhow::Result<()> {
        self.poolers_are(scene, Network::Fine);
        fragile.resume()
    }

    fn poolers_are(self, scene: &Scene, network: Network) {
        let poolers = self
            .poolers()
            .flat_map(|number| scene.poolers(&fleet::name(number)));
        for pod in poolers {
            let faults = Faults {
                network,
                ..Faults::default()
            };
            scene.fleet.faults.set(&pod.key(), faults);
        }
    }

    /// Whether the operator says of all of them that nothing is wrong.
    pub fn are_well(self, clusters: &Known) -> bool {
        self.all().all(|number| {
            clusters
                .get(&fleet::name(number))
                .is_some_and(|one| !is_told(one))
        })
    }

    /// Whether the operator says of all of them that something is wrong.
    pub fn are_told(self, clusters: &Known) -> bool {
        self.all()
            .all(|number| clusters.get(&fleet::name(number)).is_some_and(is_told))
    }
}

/// Something is wrong with a cluster or its topology.
fn is_told(cluster: &DynamicObject) -> bool {
    let conditions = cluster.data.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    let is = |condition: &Value, field: &str, text: &str| {
        condition.get(field).and_then(Value::as_str) == Some(text)
    };
    let mut unreachable =
        conditions.filter(|one| is(one, "type", "TopologyReachable") && !is(one, "status", "True"));
    unreachable.next().is_some() || !fleet::is_healthy(cluster)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tenth_hangs_half_of_it_with_its_topology() {
        let hung = Hung::of(100);
        assert_eq!(
            (hung.topologies(), hung.poolers(), hung.all()),
            (0..5, 5..10, 0..10)
        );
        let hung = Hung::of(5);
        assert_eq!((hung.topologies(), hung.poolers()), (0..1, 1..2));
    }

    #[test]
    fn a_hung_cluster_is_told_by_its_topology_or_its_phase() {
        let cluster = |phase: &str, reachable: &str| {
            let cluster = json!({"metadata": {}, "status": {
                "phase": phase, "conditions": [{"type": "TopologyReachable", "status": reachable}],
            }});
            is_told(&serde_json::from_value(cluster).unwrap())
        };
        assert!(!cluster("Healthy", "True"));
        assert!(cluster("Healthy", "False"));
        assert!(cluster("Degraded", "True"));
    }
}
