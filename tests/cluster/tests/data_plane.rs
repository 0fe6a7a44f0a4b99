//! A cluster whose data plane answers: real etcds, and poolers, coordinators, gateways and admin of the stand-in.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use actors::proto::clustermetadata::Multipooler;
use cluster::introspection::Inspector;
use cluster::topology::{Topology, insist, members};
use cluster::{Bed, HEALTHY, NAMESPACE, PASSWORD, pass};
use control_plane::{OperatorProcess, chart, wait};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use prost::Message;
use serde_json::Value;
use standin::name::Id;
use standin::net::fault::Faults;
use standin::net::pod::{PodSpec, Role};
use standin::net::pooler;

use crate::{ONE, bring_up};

/// Longest time until a record that somebody deleted is back.
const SOON: Duration = Duration::from_secs(1);
/// Longest time from the return of a topology until the status says so.
const BACK: Duration = Duration::from_secs(5);
const CELL: &str = "cells/zone-a/Cell";
const DATABASE: &str = "databases/postgres/Database";
/// `SHUTDOWN` of a pooler's record.
const SHUTDOWN: i32 = 4;

struct Scene {
    bed: Bed,
    operator: OperatorProcess,
    topology: Topology,
    /// The pool pods by UID: none is exchanged because a topology is away.
    pods: BTreeSet<String>,
}

/// Figures 3, 4 and 7 of the data plane: a settled cluster is silent towards Kubernetes, etcd and poolers; records that
/// somebody deletes are back at once; a topology that loses members, history or everything is followed again within seconds,
/// and nobody living is marked dead meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_outlives_what_happens_to_its_topology() {
    let _one = ONE.lock().await;
    let mut scene = Scene::start().await;
    scene.roles_are_told().await;
    scene.settled_is_silent().await;
    scene.a_restart_writes_nothing().await;
    for key in [CELL, DATABASE] {
        scene.back_after_deletion(key, SOON).await;
    }
    scene.one_member_is_killed().await;
    scene.all_members_are_killed().await;
    scene.the_history_is_compacted().await;
    scene.everything_is_wiped().await;
}

impl Scene {
    async fn start() -> Self {
        let bed = Bed::start_with_data_plane("data-plane").await.unwrap();
        let operator = bed.operator().await.unwrap();
        let audit = bed.plane.audit();
        let begin = audit.settle().await.unwrap();
        bed.create("one", PASSWORD).await.unwrap();
        bed.phase("one", "Healthy").await.unwrap();
        audit.settle().await.unwrap();
        let writes = audit.writes(begin, &chart::user()).unwrap();
        let topology = Topology::of(bed.data_plane.as_ref().unwrap()).unwrap();
        let pods = pool(&bed).await;
        assert!(pods.len() > 1, "{pods:?}");
        bring_up::cost(&writes, 1, pods.len());
        topology.led(pods.len()).await.unwrap();
        Self {
            bed,
            operator,
            topology,
            pods,
        }
    }

    fn members(&self) -> Vec<std::sync::Arc<PodSpec>> {
        members(self.bed.data_plane.as_ref().unwrap())
    }

    fn crash(&self, members: &[std::sync::Arc<PodSpec>], crash: bool) {
        let faults = &self.bed.data_plane.as_ref().unwrap().faults;
        for member in members {
            let fault = Faults {
                crash,
                ..Faults::default()
            };
            faults.set(&member.key(), fault);
        }
    }

    /// The Shard's status names the primary, and follows it to another pod.
    async fn roles_are_told(&self) {
        let shard = &self.topology.shard;
        let first = shard.read(|shard, _| shard.primary().cloned()).unwrap();
        self.primary_is_told(&first).await;
        shard.change(|shard, now| shard.switch(None, now));
        let second = shard.until(|shard| shard.primary().filter(|new| **new != first).cloned());
        let second = tokio::time::timeout(HEALTHY, second).await.unwrap();
        let switched = Instant::now();
        self.primary_is_told(&second).await;
        println!("another primary is told after {:?}", switched.elapsed());
        self.bed.phase("one", "Healthy").await.unwrap();
    }

    async fn primary_is_told(&self, primary: &Id) {
        let fleet = self.bed.data_plane.as_ref().unwrap();
        let pods = fleet.pods();
        let leads = |pod: &&std::sync::Arc<PodSpec>| {
            pod.role == Role::Pool && pooler::identity(pod) == *primary
        };
        let pod = &pods.iter().find(leads).unwrap().name;
        let shards = self.bed.api("Shard", "shards");
        let mut roles = Value::Null;
        let told = wait::until("the Shard to name its primary", BACK, async || {
            let list = shards.list(&ListParams::default()).await?;
            let status = list.iter().next().map(|shard| shard.data.clone());
            roles = status
                .and_then(|data| data.pointer("/status/podRoles").cloned())
                .unwrap_or_default();
            let of = |role: &str| {
                let roles = roles.as_object().into_iter().flatten();
                roles.filter(|(_, value)| *value == role).count()
            };
            let named = roles.get(pod).is_some_and(|role| role == "PRIMARY");
            let all = of("PRIMARY") == 1 && of("REPLICA") == self.pods.len() - 1;
            Ok((named && all).then_some(()))
        })
        .await;
        assert!(told.is_ok(), "{pod} leads, the status says {roles}");
    }

    async fn settled_is_silent(&self) {
        let inspector = Inspector::new(&self.bed.plane).await.unwrap();
        inspector.settled(&self.operator).await.unwrap();
        let fleet = self.bed.data_plane.as_ref().unwrap();
        let audit = self.bed.plane.audit();
        // The last status of a bring-up may be under way to the poolers' watchers.
        pass(Duration::from_secs(5)).await.unwrap();
        let mark = audit.settle().await.unwrap();
        let calls = fleet.calls().rpc();
        let revision = self.topology.revision().await.unwrap();
        let lines = self.operator.log_lines().unwrap().len();
        pass(Duration::from_secs(20)).await.unwrap();
        assert_eq!(self.topology.revision().await.unwrap(), revision);
        assert_eq!(fleet.calls().rpc(), calls, "calls to components");
        audit.settle().await.unwrap();
        let noise = audit.writes(mark, &chart::user()).unwrap();
        assert!(noise.is_empty(), "{noise:#?}");
        let noise = audit.events(mark, &chart::user()).unwrap();
        assert!(noise.is_empty(), "{noise:#?}");
        assert_eq!(self.operator.log_lines().unwrap().len(), lines, "log lines");
    }

    /// Another process of the operator finds everything as it should be: in Kubernetes, in etcd, and at the poolers.
    async fn a_restart_writes_nothing(&mut self) {
        let audit = self.bed.plane.audit();
        let mark = audit.settle().await.unwrap();
        let revision = self.topology.revision().await.unwrap();
        self.operator.terminate().await.unwrap();
        self.operator = self.bed.operator().await.unwrap();
        let inspector = Inspector::new(&self.bed.plane).await.unwrap();
        inspector.settled(&self.operator).await.unwrap();
        // Poolers are dialled anew, and what they say could differ from what is written.
        pass(Duration::from_secs(5)).await.unwrap();
        audit.settle().await.unwrap();
        let noise = audit.writes(mark, &chart::user()).unwrap();
        assert!(noise.is_empty(), "{noise:#?}");
        let noise = audit.events(mark, &chart::user()).unwrap();
        assert!(noise.is_empty(), "{noise:#?}");
        assert_eq!(self.topology.revision().await.unwrap(), revision);
    }

    /// Deletes a record and waits until it is there again.
    async fn back_after_deletion(&self, key: &str, within: Duration) {
        // A client of a member that is gone, or has no leader, is dialled anew.
        insist(async || self.topology.store.delete(key).await)
            .await
            .unwrap();
        let deleted = Instant::now();
        self.topology.key(key, within).await.unwrap();
        let after = deleted.elapsed();
        println!("{key} is back after {after:?}");
        assert!(after <= within, "{key} is back after {after:?}");
    }

    /// Waits for `TopologyReachable` of the cluster.
    async fn reachable(&self, status: &str, within: Duration) {
        let started = Instant::now();
        let clusters = self.bed.clusters();
        let mut last = None;
        let what = format!("TopologyReachable to be {status}");
        let met = wait::until(&what, within, async || {
            last = self
                .bed
                .condition(&clusters, "one", "TopologyReachable")
                .await?;
            let met = last.as_ref().is_some_and(|(is, _, _)| is == status);
            Ok(met.then_some(()))
        });
        let met = met.await;
        assert!(met.is_ok(), "{met:?}; it is {last:?}");
        println!(
            "TopologyReachable is {status} after {:?}",
            started.elapsed()
        );
    }

    /// No pod was exchanged, and no record of a pooler says that it is dead.
    async fn nobody_was_taken_for_dead(&self) {
        assert_eq!(pool(&self.bed).await, self.pods);
        for (key, value) in self.topology.poolers().await.unwrap() {
            let record = Multipooler::decode(value.as_slice()).unwrap();
            let status = record.lifecycle_status.map(|lifecycle| lifecycle.status);
            assert_ne!(status, Some(SHUTDOWN), "{key}");
        }
    }

    async fn one_member_is_killed(&self) {
        // The operator follows one member, whichever it is.
        for member in self.members() {
            self.crash(std::slice::from_ref(&member), true);
            self.back_after_deletion(DATABASE, BACK).await;
            self.reachable("True", BACK).await;
            self.crash(std::slice::from_ref(&member), false);
            self.member_is_ready(&member.name).await;
        }
        self.bed.phase("one", "Healthy").await.unwrap();
        self.nobody_was_taken_for_dead().await;
    }

    async fn member_is_ready(&self, name: &str) {
        let pods: Api<Pod> = Api::namespaced(self.bed.plane.client(), NAMESPACE);
        wait::object(pods, name, "a ready member", HEALTHY, ready)
            .await
            .unwrap();
    }

    async fn all_members_are_killed(&self) {
        let members = self.members();
        self.crash(&members, true);
        self.reachable("False", BACK * 2).await;
        // Longer than the second look at a pooler that seems to be gone.
        pass(Duration::from_secs(12)).await.unwrap();
        assert_eq!(pool(&self.bed).await, self.pods);
        self.crash(&members, false);
        self.topology_answers().await;
        self.reachable("True", BACK).await;
        self.back_after_deletion(CELL, SOON).await;
        self.bed.phase("one", "Healthy").await.unwrap();
        self.nobody_was_taken_for_dead().await;
    }

    async fn topology_answers(&self) {
        self.topology.revision().await.unwrap();
    }

    /// The operator hangs while more happens than its watch can hold (2 MiB of the stream, 128 answers in etcd), and the history
    /// of that is compacted: etcd cancels the watch, and the store is read again.
    async fn the_history_is_compacted(&self) {
        let inspector = Inspector::new(&self.bed.plane).await.unwrap();
        let before = self.compactions(&inspector).await;
        let store = &self.topology.store;
        self.operator.pause().unwrap();
        for number in 0..600 {
            let key = format!("noise/{}", number % 10);
            insist(async || store.put(&key, vec![b'x'; 1 << 14]).await)
                .await
                .unwrap();
        }
        for number in 0..10 {
            let key = format!("noise/{number}");
            insist(async || store.delete(&key).await).await.unwrap();
        }
        insist(async || store.delete(DATABASE).await).await.unwrap();
        insist(async || store.compact().await).await.unwrap();
        self.operator.resume().unwrap();
        self.topology.key(DATABASE, BACK).await.unwrap();
        let after = self.compactions(&inspector).await;
        assert_eq!(after, before + 1, "watches that a compaction cancelled");
        self.reachable("True", BACK).await;
        self.back_after_deletion(CELL, SOON).await;
        self.nobody_was_taken_for_dead().await;
    }

    /// How often a compaction has cancelled the operator's watch.
    async fn compactions(&self, inspector: &Inspector) -> u64 {
        let path = format!("/debug/clusters/{NAMESPACE}/one");
        let told = inspector.ask(&self.operator, &path).await.unwrap();
        let actors = told["actors"].as_array().unwrap();
        let mut topology = actors
            .iter()
            .filter(|actor| actor["room"] == "TopologyActor");
        topology.next().unwrap()["historiesCompacted"]
            .as_u64()
            .unwrap()
    }

    /// All members lose their volumes: the history begins anew, with lower revisions.
    async fn everything_is_wiped(&self) {
        let client = self.bed.plane.client();
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client, NAMESPACE);
        let members = self.members();
        let old = self.topology.revision().await.unwrap();
        self.crash(&members, true);
        let now = DeleteParams::default().grace_period(0);
        for member in &members {
            let claim = member.claim.as_deref().unwrap();
            claims.delete(claim, &now).await.unwrap();
            pods.delete(&member.name, &now).await.unwrap();
        }
        for member in &members {
            let (claim, old) = (member.claim.as_deref().unwrap(), &member.uid);
            let other = |pod: &Pod| pod.uid().as_ref() != Some(old);
            wait::object(pods.clone(), &member.name, "another pod", HEALTHY, other)
                .await
                .unwrap();
            let kept = |claim: &PersistentVolumeClaim| claim.metadata.deletion_timestamp.is_none();
            wait::object(claims.clone(), claim, "another volume", HEALTHY, kept)
                .await
                .unwrap();
        }
        self.crash(&members, false);
        self.topology_answers().await;
        let back = Instant::now();
        for key in [CELL, DATABASE] {
            self.topology.key(key, BACK).await.unwrap();
        }
        let new = self.topology.revision().await.unwrap();
        assert!(
            new < old,
            "revision {new} follows {old}: the old history is still there"
        );
        println!("a new history has its records after {:?}", back.elapsed());
        self.reachable("True", BACK).await;
        self.nobody_was_taken_for_dead().await;
        self.processes_register_when_they_start().await;
    }

    /// A process registers when it starts and writes when it changes; that its record vanished it does not notice (`topology.md` 1.7).
    /// So a wiped topology stays empty of processes until they are started again, and the operator does not register them.
    async fn processes_register_when_they_start(&self) {
        let inspector = Inspector::new(&self.bed.plane).await.unwrap();
        inspector.settled(&self.operator).await.unwrap();
        // Longer than two looks at a suspect are apart.
        pass(Duration::from_secs(12)).await.unwrap();
        for kind in ["poolers/", "orchs/", "gateways/"] {
            let (there, _) = insist(async || self.topology.store.list(kind).await)
                .await
                .unwrap();
            assert!(there.is_empty(), "{there:?}");
        }
        let fleet = self.bed.data_plane.as_ref().unwrap();
        let crash = |crash| Faults {
            crash,
            ..Faults::default()
        };
        for pod in fleet.pods().iter().filter(|pod| pod.role == Role::Pool) {
            fleet.faults.set(&pod.key(), crash(true));
            let id = pooler::identity(pod);
            let dead = self.topology.shard.until(|shard| {
                let gone = shard
                    .members()
                    .iter()
                    .any(|(member, there)| **member == id && !there);
                gone.then_some(())
            });
            tokio::time::timeout(HEALTHY, dead).await.unwrap();
            fleet.faults.set(&pod.key(), crash(false));
            let key = format!("poolers/{id}/Pooler");
            self.topology.key(&key, HEALTHY).await.unwrap();
            self.topology.led(self.pods.len()).await.unwrap();
        }
        let pods: Api<Pod> = Api::namespaced(self.bed.plane.client(), NAMESPACE);
        for (component, kind) in [("multiorch", "orchs/"), ("multigateway", "gateways/")] {
            let those =
                ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
            pods.delete_collection(&DeleteParams::default().grace_period(0), &those)
                .await
                .unwrap();
            wait::quietly(kind, HEALTHY, async || {
                let (there, _) = self.topology.store.list(kind).await?;
                Ok((!there.is_empty()).then_some(()))
            })
            .await
            .unwrap();
        }
        self.topology.led(self.pods.len()).await.unwrap();
        let primary = self
            .topology
            .shard
            .read(|shard, _| shard.primary().cloned());
        self.primary_is_told(&primary.unwrap()).await;
        self.bed.phase("one", "Healthy").await.unwrap();
        let shards = self.bed.api("Shard", "shards");
        let shard = shards.list(&ListParams::default()).await.unwrap();
        let shard = shard.iter().next().unwrap().name_any();
        let reachable = self.bed.condition(&shards, &shard, "TopologyReachable");
        assert_eq!(reachable.await.unwrap().unwrap().0, "True");
        self.nobody_was_taken_for_dead().await;
    }
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// UIDs of the pool pods.
async fn pool(bed: &Bed) -> BTreeSet<String> {
    let pods: Api<Pod> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let pool = ListParams::default().labels("app.kubernetes.io/component=shard-pool");
    let pods = pods.list(&pool).await.unwrap();
    pods.into_iter().filter_map(|pod| pod.uid()).collect()
}
