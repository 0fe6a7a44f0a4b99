//! One shard of three poolers on the stand-in data plane, and a pooler of it that gives up.

use std::sync::Arc;

use cluster::topology::Topology;
use cluster::{Bed, HEALTHY, NAMESPACE, PASSWORD};
use control_plane::wait;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};
use standin::ledger::Violation;
use standin::net::beside::Beside;
use standin::net::pod::{PodSpec, Role};
use standin::net::pooler::identity;
use standin::pooler::Lifecycle;
use standin::shard::Written;

/// Poolers of the shard.
pub const MEMBERS: usize = 3;
/// The cluster.
pub const CLUSTER: &str = "three";

/// A pod that ran once.
#[derive(Debug)]
pub struct Former {
    pub name: String,
    pub uid: String,
}

pub struct Scene {
    pub bed: Bed,
    pub topology: Topology,
    pub pods: Api<Pod>,
    pub shards: Api<DynamicObject>,
}

/// A cluster with one shard of so many poolers; `more` is merged into its spec.
pub async fn create(bed: &Bed, name: &str, members: usize, more: Value) {
    let pools =
        json!({"main": {"type": "readWrite", "cells": ["zone-a"], "replicasPerCell": members}});
    let shard =
        json!({"name": "0-inf", "spec": {"multiorch": {"cells": ["zone-a"]}, "pools": pools}});
    let group = json!({"name": "default", "default": true, "shards": [shard]});
    let mut object = json!({
        "apiVersion": "multigres.com/v1alpha1", "kind": "MultigresCluster", "metadata": {"name": name},
        "spec": {
            "postgresPasswordSecretRef": {"name": PASSWORD, "key": "password"},
            "globalTopoServer": {"etcd": {"replicas": 1}},
            "cells": [{"name": "zone-a", "zoneId": "us-central1-a"}],
            "databases": [{"name": "postgres", "default": true, "tablegroups": [group]}],
        },
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    let object = serde_json::from_value(object).unwrap();
    let clusters = bed.clusters();
    clusters
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

impl Scene {
    /// Of a cluster that is Healthy.
    pub async fn of(bed: Bed) -> Self {
        bed.phase(CLUSTER, "Healthy").await.unwrap();
        let scene = Self {
            topology: Topology::of(bed.data_plane.as_ref().unwrap()).unwrap(),
            pods: Api::namespaced(bed.plane.client(), NAMESPACE),
            shards: bed.api("Shard", "shards"),
            bed,
        };
        scene.whole().await;
        scene
    }

    pub fn fleet(&self) -> &Beside {
        self.bed.data_plane.as_ref().unwrap()
    }

    /// Waits until the shard takes writes and all its members are there.
    pub async fn whole(&self) {
        let there = self.topology.shard.until(|shard| {
            let members = shard.members();
            let all = members.len() == MEMBERS && members.iter().all(|(_, there)| *there);
            (all && shard.primary().is_some()).then_some(())
        });
        tokio::time::timeout(HEALTHY, there).await.unwrap();
        self.bed.phase(CLUSTER, "Healthy").await.unwrap();
    }

    /// Writes, and waits until enough members have it: one that has just come back may not follow yet.
    pub async fn write(&self) {
        let shard = &self.topology.shard;
        let before = shard.read(|shard, _| shard.ledger.acknowledged);
        let written = shard.change(|shard, now| shard.write(now));
        assert_ne!(written, Written::Refused);
        let acknowledged = shard.until(|shard| (shard.ledger.acknowledged > before).then_some(()));
        tokio::time::timeout(HEALTHY, acknowledged).await.unwrap();
    }

    /// The pool pods: replicas first, by name, the primary last.
    pub fn poolers(&self) -> Vec<Arc<PodSpec>> {
        let shard = &self.topology.shard;
        let primary = shard.read(|shard, _| shard.primary().cloned());
        let mut pods = self.fleet().pods();
        pods.retain(|pod| pod.role == Role::Pool);
        pods.sort_by_key(|pod| (Some(identity(pod)) == primary, pod.name.clone()));
        assert_eq!(pods.len(), MEMBERS);
        pods
    }

    /// A client writes; then the volume of a replica, whose pod is an hour old, breaks until its pooler gives up.
    pub async fn one_gives_up(&self) -> Former {
        self.write().await;
        let pod = Arc::clone(&self.poolers()[0]);
        self.bed
            .age(&pod.name, SignedDuration::from_hours(1))
            .await
            .unwrap();
        let id = identity(&pod);
        let damages = |damages| {
            let faults = &self.fleet().faults;
            faults.change(&pod.key(), |faults| faults.damaged_volume = damages);
        };
        damages(true);
        let damaged = self.topology.shard.until(|shard| {
            let volume = shard.volume_of(&id)?;
            volume.damaged.then_some(())
        });
        tokio::time::timeout(HEALTHY, damaged).await.unwrap();
        // The next volume under this name is a good one.
        damages(false);
        let given_up = self.topology.shard.until(|shard| {
            let pooler = shard.pooler(&id)?;
            (pooler.record.lifecycle == Lifecycle::Quarantined).then_some(())
        });
        tokio::time::timeout(HEALTHY, given_up).await.unwrap();
        Former {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        }
    }

    /// Waits until a pod has a successor, and nothing is said of it any more.
    pub async fn replaced(&self, former: &Former) {
        let another = |pod: &Pod| pod.uid().as_ref() != Some(&former.uid);
        wait::object(
            self.pods.clone(),
            &former.name,
            "another pod",
            HEALTHY,
            another,
        )
        .await
        .unwrap();
        wait::until("the end of the replacement", HEALTHY, async || {
            let over = self.status("/disruption").await.is_null()
                && self.condition("PoolerQuarantined").await.is_none();
            Ok(over.then_some(()))
        })
        .await
        .unwrap();
    }

    /// A part of the Shard's status; null when it is not there.
    pub async fn status(&self, pointer: &str) -> Value {
        let list = self.shards.list(&ListParams::default()).await.unwrap();
        let shard = list.items.first().unwrap();
        let value = shard.data.pointer(&format!("/status{pointer}"));
        value.cloned().unwrap_or_default()
    }

    /// A condition of the Shard: status, reason, message.
    pub async fn condition(&self, of: &str) -> Option<(String, String, String)> {
        let list = self.shards.list(&ListParams::default()).await.unwrap();
        let name = list.items.first().unwrap().name_any();
        self.bed.condition(&self.shards, &name, of).await.unwrap()
    }

    pub fn violations(&self) -> Vec<Violation> {
        let shard = &self.topology.shard;
        shard.read(|shard, _| shard.ledger.violations().to_vec())
    }
}
