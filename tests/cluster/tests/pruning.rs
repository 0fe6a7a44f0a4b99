//! Invariant 5 on a real API server and a real etcd: whatever the operator is shown of the pods, no record of a pooler that
//! lives is marked, and those of the dead are, each after a look at its pod.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::proto::clustermetadata as wire;
use actors::topology_store::key::Component;
use cluster::topology::{Topology, insist};
use cluster::{Bed, HEALTHY, NAMESPACE, PASSWORD, binary, pass};
use control_plane::{Mark, OperatorProcess, Overrides, Proxy, Trouble, chart, wait};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use prost::Message;
use serde_json::json;
use standin::net::store::Store;
use tokio::sync::watch;

use crate::ONE;

const CLUSTER: &str = "pruned";
const PODS: &str = "pods";
/// Poolers at first; later there is one more.
const MEMBERS: usize = 3;
/// Records without a pod that appear at once.
const GHOSTS: usize = 100;
/// So many of them are marked before the operator goes.
const SOME: usize = 30;
/// Longer than the two looks at a suspect are apart.
const LOOKS: Duration = Duration::from_secs(12);
/// The last key that the guard hears of.
const END: &str = "noise/end";

/// L-TOPO-03 and invariant 5: a watch that hangs, a list that expires between its pages, an empty list and one that is short,
/// each while a hundred records without pods are there and the operator is restarted. The history of etcd is watched from before the
/// first of it until after the last: one record of a living pooler that says SHUTDOWN for a moment would be seen.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_lives_is_marked_whatever_is_shown_of_the_pods() {
    let _one = ONE.lock().await;
    let mut scene = Scene::start().await;
    scene.a_watch_hangs().await;
    scene.a_list_expires_and_one_is_empty().await;
    scene.a_list_is_short().await;
    scene.all_is_shown_again().await;
    let seen = scene.guard.end(&scene.topology.store).await;
    assert_eq!(seen.wrong, Vec::<String>::new());
    assert_eq!(seen.marked, scene.ghosts());
    scene.each_was_looked_for().await;
}

struct Scene {
    bed: Bed,
    proxy: Proxy,
    /// Leads through the proxy.
    kubeconfig: PathBuf,
    operator: OperatorProcess,
    topology: Topology,
    guard: Guard,
    begin: Mark,
}

impl Scene {
    async fn start() -> Self {
        let bed = Bed::start_with_data_plane("pruning").await.unwrap();
        let proxy = Proxy::start(&bed.plane).await.unwrap();
        let direct = bed
            .plane
            .service_account_kubeconfig(chart::NAMESPACE, chart::SERVICE_ACCOUNT);
        let kubeconfig = proxy.kubeconfig(&direct.await.unwrap()).unwrap();
        let mut operator = spawn(&bed, &kubeconfig);
        operator.ready().await.unwrap();
        create(&bed).await;
        bed.phase(CLUSTER, "Healthy").await.unwrap();
        let topology = Topology::of(bed.data_plane.as_ref().unwrap()).unwrap();
        topology.led(MEMBERS).await.unwrap();
        let guard = Guard::post(&topology).await;
        let begin = bed.plane.audit().settle().await.unwrap();
        Self {
            bed,
            proxy,
            kubeconfig,
            operator,
            topology,
            guard,
            begin,
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.bed.plane.client(), NAMESPACE)
    }

    /// Names of the pool pods as the API server has them.
    async fn pool(&self) -> BTreeSet<String> {
        let pool = ListParams::default().labels("app.kubernetes.io/component=shard-pool");
        let pods = self.pods().list(&pool).await.unwrap();
        pods.iter().map(ResourceExt::name_any).collect()
    }

    fn ghosts(&self) -> BTreeSet<String> {
        (0..GHOSTS).map(|n| key(&ghost(n))).collect()
    }

    async fn restart(&mut self) {
        self.operator.terminate().await.unwrap();
        self.operator = spawn(&self.bed, &self.kubeconfig);
    }

    /// The API server deletes one pod and gets another, of neither of which the watch tells. Meanwhile the ghosts appear.
    async fn a_watch_hangs(&mut self) {
        self.proxy.trouble(
            PODS,
            Trouble {
                hang: true,
                ..Trouble::default()
            },
        );
        let shard = &self.topology.shard;
        let primary = shard.read(|shard, _| shard.primary().cloned()).unwrap();
        let fleet = self.bed.data_plane.as_ref().unwrap();
        let pods = fleet.pods();
        let mut replicas = pods.iter().filter(|pod| {
            pod.role == standin::net::pod::Role::Pool
                && standin::net::pooler::identity(pod) != primary
        });
        let replica = replicas.next().unwrap();
        let now = DeleteParams::default().grace_period(0);
        self.pods().delete(&replica.name, &now).await.unwrap();
        let more = json!([{"op": "replace", "value": MEMBERS + 1,
            "path": "/spec/databases/0/tablegroups/0/shards/0/spec/pools/main/replicasPerCell"}]);
        let more = Patch::Json::<()>(serde_json::from_value(more).unwrap());
        let clusters = self.bed.clusters();
        clusters
            .patch(CLUSTER, &PatchParams::default(), &more)
            .await
            .unwrap();
        for n in 0..GHOSTS {
            let (key, record) = (key(&ghost(n)), record(&ghost(n)));
            insist(async || self.topology.store.put(&key, record.clone()).await)
                .await
                .unwrap();
        }
        // The pooler that came is registered, and the one that went has not come back: nobody knows that it went.
        self.topology.led(MEMBERS + 1).await.unwrap();
        assert!(self.pods().get_opt(&replica.name).await.unwrap().is_none());
        self.guard.until(|seen| seen.marked.len() >= SOME).await;
        self.proxy.trouble(PODS, Trouble::default());
        wait::object(
            self.pods(),
            &replica.name,
            "the pod that went",
            HEALTHY,
            |_| true,
        )
        .await
        .unwrap();
        self.whole().await;
    }

    /// An operator that starts, to which pods are not listed to the end, then without the poolers, then as if there were none.
    async fn a_list_expires_and_one_is_empty(&mut self) {
        let blind = Trouble {
            hang: true,
            refuse_writes: true,
            ..Trouble::default()
        };
        let pool = self.pool().await;
        let no_pooler = Trouble {
            shows: Some(Arc::new(move |name| !pool.contains(name))),
            ..blind.clone()
        };
        let nothing = Trouble {
            shows: Some(Arc::new(|_| false)),
            ..blind.clone()
        };
        self.proxy.trouble(
            PODS,
            Trouble {
                expire: true,
                ..blind
            },
        );
        self.restart().await;
        // The last write of the one before has been answered.
        let marked = self.guard.marked();
        let expired = self.proxy.until(PODS, HEALTHY, |toll| toll.expired >= 3);
        expired.await.unwrap();
        self.listed(no_pooler).await;
        self.operator.ready().await.unwrap();
        self.held("no pooler of its shard has a pod").await;
        pass(LOOKS).await.unwrap();
        assert_eq!(self.guard.marked(), marked, "no pooler is shown");
        self.listed(nothing).await;
        pass(LOOKS).await.unwrap();
        assert_eq!(self.guard.marked(), marked, "no pod at all is shown");
    }

    /// Waits until pods have been listed with something left out.
    async fn listed(&self, trouble: Trouble) {
        let short = self.proxy.toll(PODS).short;
        self.proxy.trouble(PODS, trouble);
        self.proxy.cut(PODS);
        let listed = self.proxy.until(PODS, HEALTHY, |toll| toll.short > short);
        listed.await.unwrap();
    }

    /// One pool pod is shown to an operator that starts: the others look as dead as the ghosts, until they are looked for.
    async fn a_list_is_short(&mut self) {
        let mut hidden = self.pool().await;
        hidden.pop_first();
        assert_eq!(hidden.len(), MEMBERS);
        let unseen = hidden.clone();
        self.proxy.trouble(
            PODS,
            Trouble {
                hang: true,
                refuse_writes: true,
                shows: Some(Arc::new(move |name| !unseen.contains(name))),
                ..Trouble::default()
            },
        );
        let mark = self.bed.plane.audit().settle().await.unwrap();
        self.restart().await;
        self.guard.until(|seen| seen.marked.len() == GHOSTS).await;
        wait::quietly("a look for each hidden pod", HEALTHY, async || {
            let found = looks(&self.bed, mark, 200)?;
            Ok(hidden
                .iter()
                .all(|name| found.contains_key(name))
                .then_some(()))
        })
        .await
        .unwrap();
    }

    async fn all_is_shown_again(&mut self) {
        self.proxy.trouble(PODS, Trouble::default());
        self.proxy.cut(PODS);
        self.operator.ready().await.unwrap();
        self.whole().await;
        self.operator.check().unwrap();
    }

    async fn whole(&self) {
        self.topology.led(MEMBERS + 1).await.unwrap();
        self.bed.phase(CLUSTER, "Healthy").await.unwrap();
    }

    /// Waits until `TopologyRecordsHeld` says so.
    async fn held(&self, why: &str) {
        let clusters = self.bed.clusters();
        wait::until("records to be held", HEALTHY, async || {
            let held = self
                .bed
                .condition(&clusters, CLUSTER, "TopologyRecordsHeld");
            let held = held.await?;
            Ok(held.filter(|(_, _, text)| text.contains(why)))
        })
        .await
        .unwrap();
    }

    /// Of each ghost the API server said, before it was marked, that there is no such pod.
    async fn each_was_looked_for(&self) {
        self.bed.plane.audit().settle().await.unwrap();
        let absent = looks(&self.bed, self.begin, 404).unwrap();
        let unasked: Vec<String> = (0..GHOSTS)
            .map(ghost)
            .filter(|pod| !absent.contains_key(pod))
            .collect();
        assert_eq!(unasked, Vec::<String>::new());
    }
}

fn spawn(bed: &Bed, kubeconfig: &std::path::Path) -> OperatorProcess {
    let overrides = Overrides {
        kubeconfig: Some(kubeconfig.to_owned()),
        ..Overrides::default()
    };
    bed.installed.spawn(&binary().unwrap(), overrides).unwrap()
}

async fn create(bed: &Bed) {
    let pools =
        json!({"main": {"type": "readWrite", "cells": ["zone-a"], "replicasPerCell": MEMBERS}});
    let shard =
        json!({"name": "0-inf", "spec": {"multiorch": {"cells": ["zone-a"]}, "pools": pools}});
    let group = json!({"name": "default", "default": true, "shards": [shard]});
    let object = serde_json::from_value(json!({
        "apiVersion": "multigres.com/v1alpha1", "kind": "MultigresCluster", "metadata": {"name": CLUSTER},
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

/// How often the operator asked for a single pod and got this answer, by name.
fn looks(bed: &Bed, since: Mark, code: u16) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut looks = BTreeMap::new();
    let user = chart::user();
    bed.plane.audit().visit(since, |entry, _| {
        let single = entry.verb == "get" && entry.resource == PODS && entry.subresource.is_empty();
        if single && entry.user == user && entry.code == code {
            *looks.entry(entry.name).or_default() += 1;
        }
    })?;
    Ok(looks)
}

fn ghost(n: usize) -> String {
    format!("ghost-{n}")
}

/// The key of a pod's pooler.
fn key(pod: &str) -> String {
    let id = Component::Pooler.id("zone-a", &crds::name::service_id(pod));
    format!("poolers/{id}/Pooler")
}

/// The record that a pooler in this pod would have.
fn record(pod: &str) -> Vec<u8> {
    let record = wire::Multipooler {
        id: Some(wire::Id {
            component: wire::id::ComponentType::Multipooler.into(),
            cell: "zone-a".to_owned(),
            name: crds::name::service_id(pod),
        }),
        shard_key: Some(wire::ShardKey {
            database: "postgres".to_owned(),
            table_group: "default".to_owned(),
            shard: "0-inf".to_owned(),
        }),
        hostname: format!("{pod}.pods.{NAMESPACE}.svc.cluster.local"),
        lifecycle_status: Some(wire::PoolerLifecycle {
            status: wire::PoolerLifecycleStatus::LifecycleActive.into(),
            reason: "pooler active".to_owned(),
            updated: None,
        }),
        routing_state: Some(wire::RoutingState {
            role: wire::RoutingRole::Replica.into(),
            rule: None,
        }),
        ..wire::Multipooler::default()
    };
    record.encode_to_vec()
}

/// What was written about poolers, as long as the guard stood.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Ghosts that were marked.
    marked: BTreeSet<String>,
    /// What must not happen.
    wrong: Vec<String>,
    ended: bool,
}

/// Watches every change of the store.
struct Guard {
    seen: watch::Receiver<Seen>,
}

impl Guard {
    async fn post(topology: &Topology) -> Self {
        let next = topology.revision().await.unwrap() + 1;
        let (sender, seen) = watch::channel(Seen::default());
        let store = Arc::clone(&topology.store);
        let mut stream = store.watch("", next).await.unwrap();
        tokio::spawn(async move {
            let ghosts: BTreeSet<String> = (0..GHOSTS).map(|n| key(&ghost(n))).collect();
            while let Ok(Some(message)) = stream.message().await {
                if message.canceled() {
                    break;
                }
                let mut last = 0;
                for event in message.events() {
                    let Some(pair) = event.kv() else { continue };
                    let key = store.relative(pair.key());
                    let value = (pair.version() > 0).then(|| pair.value());
                    sender.send_modify(|seen| {
                        if let Some(mark) = seen.judge(&ghosts, &key, value) {
                            // One record per write, and one write at a time.
                            if pair.mod_revision() == last {
                                seen.wrong
                                    .push(format!("{mark} was marked together with another"));
                            }
                            last = pair.mod_revision();
                        }
                    });
                }
            }
            sender.send_modify(|seen| {
                if !seen.ended {
                    seen.wrong.push("the guard's watch broke".to_owned());
                }
            });
        });
        Self { seen }
    }

    fn marked(&self) -> usize {
        self.seen.borrow().marked.len()
    }

    /// Waits for something; what must not happen fails at once.
    async fn until(&self, enough: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let met = seen.wait_for(|seen| !seen.wrong.is_empty() || enough(seen));
        let met = tokio::time::timeout(HEALTHY, met).await;
        let met = met.unwrap_or_else(|_| panic!("never; {:?}", *self.seen.borrow()));
        let now = met.unwrap().clone();
        assert_eq!(now.wrong, Vec::<String>::new());
        now
    }

    /// Everything that was written until now.
    async fn end(&self, store: &Store) -> Seen {
        insist(async || store.put(END, Vec::new()).await)
            .await
            .unwrap();
        self.until(|seen| seen.ended).await
    }
}

impl Seen {
    /// Takes note of a change; returns the key when a ghost was marked by it.
    fn judge(
        &mut self,
        ghosts: &BTreeSet<String>,
        key: &str,
        value: Option<&[u8]>,
    ) -> Option<String> {
        self.ended |= key == END;
        if !key.starts_with("poolers/") {
            return None;
        }
        let Some(value) = value else {
            self.wrong.push(format!("{key} was deleted"));
            return None;
        };
        let record = wire::Multipooler::decode(value).unwrap_or_default();
        let status = record.lifecycle_status.unwrap_or_default();
        if status.status() != wire::PoolerLifecycleStatus::LifecycleShutdown {
            return None;
        }
        if !ghosts.contains(key) {
            self.wrong.push(format!("{key} lives and says {status:?}"));
            return None;
        }
        if !self.marked.insert(key.to_owned()) {
            self.wrong.push(format!("{key} was marked twice"));
        }
        Some(key.to_owned())
    }
}
