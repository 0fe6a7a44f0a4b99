//! What is taken out of a topology, and what never is.

use std::collections::BTreeMap;

use actors::object::Kind;
use actors::proto::clustermetadata as wire;
use etcd_client::Client;
use prost::Message;
use serde_json::json;

use super::{
    CELL, DATABASE, ROOT, Site, actor, condition_of, events, pods, pooler_key, records, told, until,
};
use crate::shapes::key;

/// The record of a pod's pooler.
pub fn pooler(pod: &str, primary: bool) -> Vec<u8> {
    let role = if primary {
        wire::RoutingRole::Primary
    } else {
        wire::RoutingRole::Replica
    };
    let rule = primary.then_some(wire::RuleNumber {
        coordinator_term: 1,
        leader_subterm: 1,
    });
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
        hostname: format!("{pod}.pods.default.svc.cluster.local"),
        lifecycle_status: Some(wire::PoolerLifecycle {
            status: wire::PoolerLifecycleStatus::LifecycleActive.into(),
            reason: "pooler active".to_owned(),
            updated: None,
        }),
        routing_state: Some(wire::RoutingState {
            role: role.into(),
            rule,
        }),
        ..wire::Multipooler::default()
    };
    record.encode_to_vec()
}

fn lifecycle(record: &[u8]) -> wire::PoolerLifecycleStatus {
    let record = wire::Multipooler::decode(record).unwrap();
    record.lifecycle_status.unwrap_or_default().status()
}

fn marked(all: &BTreeMap<String, Vec<u8>>, pod: &str) -> bool {
    lifecycle(&all[&pooler_key(pod)]) == wire::PoolerLifecycleStatus::LifecycleShutdown
}

async fn put(client: &mut Client, pod: &str, record: Vec<u8>) {
    client.put(pooler_key(pod), record, None).await.unwrap();
}

/// L-TOPO-02, L-TOPO-03, L-TOPO-07, invariant 5: the pooler without a pod is marked, not deleted, and what we do not know of
/// its record stays. One whose pod the informer does not show is asked for, and left alone.
#[tokio::test]
async fn a_dead_pooler_is_marked_and_one_that_the_informer_misses_is_not() {
    let mut site = Site::new("dead").await;
    let run = site.run(async |bed, _, client, life| {
        let alive = pods(bed);
        for pod in &alive {
            put(client, pod, pooler(pod, false)).await;
        }
        let unseen = json!({"metadata": {}, "spec": {"containers": []}});
        bed.server.add(&key(Kind::Pod, "a-hidden-0"), unseen);
        put(client, "a-hidden-0", pooler("a-hidden-0", true)).await;
        let strange = [0xfa, 0x3f, 0x01, 0x78];
        let mut ghost = pooler("ghost-0", true);
        ghost.extend(strange);
        put(client, "ghost-0", ghost).await;
        let all = until(client, "the ghost is marked", |all| marked(all, "ghost-0")).await;
        let record = &all[&pooler_key("ghost-0")];
        assert!(
            record.windows(4).any(|part| part == strange),
            "an unknown field was lost"
        );
        let decoded = wire::Multipooler::decode(&**record).unwrap();
        let life_of = decoded.lifecycle_status.unwrap();
        assert_eq!(life_of.reason, "operator: no backing pod for pooler");
        assert!(life_of.updated.is_some());
        let asked = bed.server.until("the hidden pod is asked for", |state| {
            let mut log = state.log.iter();
            let hidden = key(Kind::Pod, "a-hidden-0");
            log.any(|request| request.method == "GET" && request.key.as_ref() == Some(&hidden))
        });
        asked.await;
        actor(life, |actor| actor["state"]["question"].is_null()).await;
        let all = records(client).await;
        assert_eq!(all[&pooler_key("a-hidden-0")], pooler("a-hidden-0", true));
        for pod in &alive {
            assert_eq!(all[&pooler_key(pod)], pooler(pod, false));
        }
        let told = |state: &crate::server::State| {
            let mut log = state.log.iter();
            log.any(|request| request.body["reason"] == "DeadPoolersMarked")
        };
        bed.server.until("it is told on the shard", told).await;
        let told = ("DeadPoolersMarked".to_owned(), "Shard".to_owned());
        assert_eq!(
            events(bed)
                .into_iter()
                .filter(|event| *event == told)
                .count(),
            1
        );
    });
    run.await;
}

/// L-TOPO-03: pods that the API server cannot be asked for are not taken for gone.
#[tokio::test]
async fn a_live_read_that_fails_proves_nothing() {
    let mut site = Site::new("unproven").await;
    let run = site.run(async |bed, _, client, life| {
        let alive = pods(bed);
        put(client, &alive[0], pooler(&alive[0], true)).await;
        put(client, "ghost-0", pooler("ghost-0", false)).await;
        let ghost = key(Kind::Pod, "ghost-0");
        let hit = ghost.clone();
        bed.server.fail(
            crate::server::Fault::Refuse(500),
            usize::MAX,
            move |request| request.method == "GET" && request.key.as_ref() == Some(&hit),
        );
        let asked = |times: usize| {
            let ghost = ghost.clone();
            move |state: &crate::server::State| {
                let log = state.log.iter();
                log.filter(|request| request.key.as_ref() == Some(&ghost))
                    .count()
                    >= times
            }
        };
        bed.server.until("it is asked for", asked(1)).await;
        actor(life, |actor| actor["state"]["question"].is_null()).await;
        let all = records(client).await;
        assert!(!marked(&all, "ghost-0"));
        let failures = bed
            .server
            .since(0)
            .iter()
            .filter(|request| request.code == 500)
            .count();
        assert_eq!(failures, 1, "a failed read is not repeated at once");
    });
    run.await;
}

/// Issue 5, item 2: garbage is set apart, told of, and never acted on; the rest goes on.
#[tokio::test]
async fn garbage_is_told_of_and_left_alone() {
    let mut site = Site::new("garbage").await;
    let broken = format!("{ROOT}/poolers/multipooler-zone-a-broken/Pooler");
    let liar = format!("{ROOT}/cells/zone-b/Cell");
    let run = site.run(async |bed, cluster, client, _| {
        assert_eq!(condition_of(bed, cluster, "TopologyRecordsHeld"), None);
        client
            .put(broken.as_str(), [0xff, 0xff], None)
            .await
            .unwrap();
        let cell = records(client).await[CELL].clone();
        client.put(liar.as_str(), cell.clone(), None).await.unwrap();
        let held = |found: Option<&serde_json::Value>| {
            let text = found
                .map(|found| found["message"].to_string())
                .unwrap_or_default();
            text.contains(&broken) && text.contains(&liar)
        };
        told(bed, cluster, "TopologyRecordsHeld", held).await;
        client.delete(DATABASE, None).await.unwrap();
        until(client, "the database is back", |all| {
            all.contains_key(DATABASE)
        })
        .await;
        let all = records(client).await;
        assert_eq!(
            (all[&broken].as_slice(), &all[&liar]),
            (&[0xff, 0xff][..], &cell)
        );
        client.delete(broken.as_str(), None).await.unwrap();
        client.delete(liar.as_str(), None).await.unwrap();
        told(bed, cluster, "TopologyRecordsHeld", |found| found.is_none()).await;
    });
    run.await;
}

/// A database and a cell that nobody names go, after a live read of the cluster; with pruning off they stay.
#[tokio::test]
async fn what_left_the_specification_is_removed_unless_pruning_is_off() {
    let mut site = Site::new("left").await;
    let database = format!("{ROOT}/databases/old/Database");
    let run = site.run(async |bed, cluster, client, life| {
        bed.server.edit(cluster, |object| {
            object["spec"]["topologyPruning"] = json!({"enabled": false});
        });
        let good = records(client).await;
        let mut old = wire::Database::decode(&*good[DATABASE]).unwrap();
        old.name = "old".to_owned();
        old.cells = Vec::new();
        bed.healthy(cluster).await;
        client
            .put(database.as_str(), old.encode_to_vec(), None)
            .await
            .unwrap();
        let before = actor(life, |actor| actor["stores"][0]["records"] == 3).await;
        assert_eq!(before["state"]["pruning"]["suspects"], json!({}));
        bed.server.edit(cluster, |object| {
            object["spec"]["topologyPruning"] = json!({"enabled": true});
        });
        let mark = bed.server.mark();
        until(client, "it is removed", |all| *all == good).await;
        let reads = bed.server.since(mark);
        let read = reads
            .iter()
            .any(|request| request.method == "GET" && request.key.as_ref() == Some(cluster));
        assert!(read, "not without a live read");
        let told = |state: &crate::server::State| {
            let mut log = state.log.iter();
            log.any(|request| request.body["reason"] == "TopoCleanup")
        };
        bed.server.until("it is told", told).await;
    });
    run.await;
}
