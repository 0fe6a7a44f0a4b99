//! A fleet under an operator, and who is who in it.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, ensure};
use control_plane::OperatorProcess;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
};
use standin::{
    name::Id,
    net::{
        fleet::Fleet,
        live::Live,
        pod::{PodSpec, Role},
        pooler,
    },
};

use super::{POOLERS, root};
use crate::fleet;

/// A fleet that is up.
pub struct Scene {
    /// Its operator.
    pub operator: OperatorProcess,
    /// Where it is.
    pub namespace: String,
    /// What plays its pods.
    pub fleet: Arc<Fleet>,
    /// How many clusters take part.
    pub clusters: usize,
}

/// The only shard of a cluster.
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The shard.
    pub shard: Arc<Live>,
    /// Names of its pods by their identity in the topology.
    pub pods: BTreeMap<Id, String>,
}

impl Scene {
    /// The objects of one kind.
    pub fn api(&self, client: Client, kind: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(client, &self.namespace, kind)
    }

    /// The pool pods of a cluster.
    pub fn poolers(&self, cluster: &str) -> Vec<Arc<PodSpec>> {
        let root = root(&self.namespace, cluster);
        let mut pods = self.fleet.pods();
        pods.retain(|pod| pod.role == Role::Pool && pod.flag("topo-global-root", "") == root);
        pods
    }

    /// All clusters.
    ///
    /// # Errors
    /// When one lacks a shard or a pooler.
    pub fn all(&self) -> anyhow::Result<Vec<Cluster>> {
        let shards = self.fleet.shards().into_iter();
        let mut shards: BTreeMap<String, Arc<Live>> =
            shards.map(|(root, _, shard)| (root, shard)).collect();
        let mut cluster = |name: String| {
            let shard = shards.remove(&root(&self.namespace, &name));
            let pods = self.poolers(&name);
            let pods: BTreeMap<Id, String> = pods
                .iter()
                .map(|pod| (pooler::identity(pod), pod.name.clone()))
                .collect();
            ensure!(pods.len() == POOLERS, "{name} has other poolers: {pods:?}");
            Ok(Cluster {
                shard: shard.with_context(|| format!("{name} has no shard"))?,
                name,
                pods,
            })
        };
        (0..self.clusters)
            .map(fleet::name)
            .map(&mut cluster)
            .collect()
    }
}
