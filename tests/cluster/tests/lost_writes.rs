//! The stand-in's ledger tells on whoever breaks a shard. Who does it here is the test itself, at the API server, in the
//! operator's place: the operator has no code path for it.

use cluster::topology::Topology;
use cluster::{Bed, HEALTHY, NAMESPACE, PASSWORD};
use control_plane::wait;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;
use standin::shard::Written;

use crate::ONE;

/// Poolers of the shard.
const MEMBERS: usize = 3;

struct Hand {
    bed: Bed,
    topology: Topology,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
}

/// One member that goes is no violation. Two members deleted at once, and the deletion of all volumes that hold an
/// acknowledged write, each are reported.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_tells_on_broken_hands() {
    let _one = ONE.lock().await;
    let bed = Bed::start_with_data_plane("ledger").await.unwrap();
    let _operator = bed.operator().await.unwrap();
    three_poolers(&bed).await;
    bed.phase("three", "Healthy").await.unwrap();
    let client = bed.plane.client();
    let hand = Hand {
        topology: Topology::of(bed.data_plane.as_ref().unwrap()).unwrap(),
        pods: Api::namespaced(client.clone(), NAMESPACE),
        claims: Api::namespaced(client, NAMESPACE),
        bed,
    };
    hand.topology.led(MEMBERS).await.unwrap();
    hand.whole().await;

    let names = hand.names().await;
    hand.write().await;
    hand.delete(&names[..1], false).await;
    hand.whole().await;
    let violations = hand.violations();
    assert!(violations.is_empty(), "one pod that goes: {violations:?}");

    hand.write().await;
    hand.delete(&hand.names().await[..2], false).await;
    let shard = &hand.topology.shard;
    assert!(shard.read(|shard, _| shard.ledger.lost_quorum()));
    assert!(!shard.read(|shard, _| shard.ledger.lost_a_write()));
    hand.whole().await;

    hand.write().await;
    hand.delete(&hand.names().await, true).await;
    let violations = hand.violations();
    let lost = shard.read(|shard, _| shard.ledger.lost_a_write());
    assert!(lost, "{violations:?}");
}

async fn three_poolers(bed: &Bed) {
    let pools =
        json!({"main": {"type": "readWrite", "cells": ["zone-a"], "replicasPerCell": MEMBERS}});
    let shard =
        json!({"name": "0-inf", "spec": {"multiorch": {"cells": ["zone-a"]}, "pools": pools}});
    let group = json!({"name": "default", "default": true, "shards": [shard]});
    let object = serde_json::from_value(json!({
        "apiVersion": "multigres.com/v1alpha1", "kind": "MultigresCluster", "metadata": {"name": "three"},
        "spec": {
            "postgresPasswordSecretRef": {"name": PASSWORD, "key": "password"},
            "globalTopoServer": {"etcd": {"replicas": 1}},
            "cells": [{"name": "zone-a", "zoneId": "us-central1-a"}],
            "databases": [{"name": "postgres", "default": true, "tablegroups": [group]}],
        },
    }));
    let clusters = bed.clusters();
    clusters
        .create(&PostParams::default(), &object.unwrap())
        .await
        .unwrap();
}

impl Hand {
    /// Waits until the shard takes writes and all its members are there.
    async fn whole(&self) {
        let there = self.topology.shard.until(|shard| {
            let members = shard.members();
            let all = members.len() == MEMBERS && members.iter().all(|(_, there)| *there);
            (all && shard.primary().is_some()).then_some(())
        });
        tokio::time::timeout(HEALTHY, there).await.unwrap();
        self.bed.phase("three", "Healthy").await.unwrap();
    }

    /// Writes, and waits until enough members have it: one that has just come back may not follow yet.
    async fn write(&self) {
        let shard = &self.topology.shard;
        let before = shard.read(|shard, _| shard.ledger.acknowledged);
        let written = shard.change(|shard, now| shard.write(now));
        assert_ne!(written, Written::Refused);
        let acknowledged = shard.until(|shard| (shard.ledger.acknowledged > before).then_some(()));
        tokio::time::timeout(HEALTHY, acknowledged).await.unwrap();
    }

    /// Replicas first, the primary last.
    async fn names(&self) -> Vec<String> {
        let primary = self
            .topology
            .shard
            .read(|shard, _| shard.primary().cloned())
            .unwrap();
        let pool = ListParams::default().labels("app.kubernetes.io/component=shard-pool");
        let pods = self.pods.list(&pool).await.unwrap();
        let mut names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        let leads = |name: &String| {
            let fleet = self.bed.data_plane.as_ref().unwrap();
            let pods = fleet.pods();
            let pod = pods.iter().find(|pod| pod.name == *name).unwrap();
            standin::net::pooler::identity(pod) == primary
        };
        names.sort_by_key(leads);
        assert_eq!(names.len(), MEMBERS);
        names
    }

    /// Deletes pods, all at once and without grace, and with them their volumes; waits until they are gone.
    async fn delete(&self, names: &[String], volumes: bool) {
        let now = DeleteParams::default().grace_period(0);
        let mut old = Vec::new();
        for name in names {
            old.push(self.pods.get(name).await.unwrap());
        }
        if volumes {
            for claim in old.iter().flat_map(claims) {
                self.claims.delete(&claim, &now).await.unwrap();
            }
        }
        let deletions = names.iter().map(|name| self.pods.delete(name, &now));
        for deleted in futures::future::join_all(deletions).await {
            deleted.unwrap();
        }
        let fleet = self.bed.data_plane.as_ref().unwrap();
        for pod in &old {
            let uid = pod.uid().unwrap();
            wait::quietly("the end of a pod", HEALTHY, async || {
                Ok(fleet.peer(&uid).is_none().then_some(()))
            })
            .await
            .unwrap();
        }
        if volumes {
            let shard = &self.topology.shard;
            let gone = shard.until(|shard| shard.ledger.lost_a_write().then_some(()));
            tokio::time::timeout(HEALTHY, gone).await.unwrap();
        }
    }

    fn violations(&self) -> Vec<standin::ledger::Violation> {
        let shard = &self.topology.shard;
        shard.read(|shard, _| shard.ledger.violations().to_vec())
    }
}

/// The data volumes of a pod.
fn claims(pod: &Pod) -> Vec<String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter(|volume| volume.name == "pgdata")
        .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()))
        .collect()
}
