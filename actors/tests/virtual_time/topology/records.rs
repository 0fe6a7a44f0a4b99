//! Registration, and what the other actors make of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actors::object::Kind;
use actors::operator::Leadership;
use actors::proto::clustermetadata as wire;
use actors::supervisor::Inflow;
use prost::Message;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    CELL, DATABASE, ROOT, Site, actor, condition_of, is, pods, pooler_key, quiet, records,
    revision, seen, settled, told, topology, until,
};
use crate::bed::{Bed, End};

/// L-TOPO-08: the cluster registers its cells and its databases, once, and nothing else; what the specification says is there.
#[tokio::test]
async fn one_registrar_writes_cells_and_databases_once() {
    let mut site = Site::new("registrar").await;
    let bed = site.bed;
    let end = bed.life(async |life| {
        until(&mut site.client, "two records", |all| all.len() == 2).await;
        bed.healthy(&site.cluster).await;
        told(&bed, &site.cluster, "TopologyReachable", is("True")).await;
        told(&bed, &bed.shard(), "TopologyReachable", is("True")).await;
        let all = records(&mut site.client).await;
        let keys: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(keys, [CELL, DATABASE]);
        let cell = wire::Cell::decode(&*all[CELL]).unwrap();
        let address = format!("http://{}", site.etcd.endpoint());
        assert_eq!(
            (cell.root.as_str(), &cell.server_addresses),
            (ROOT, &vec![address])
        );
        let database = wire::Database::decode(&*all[DATABASE]).unwrap();
        assert_eq!(database.cells, ["zone-a"]);
        let policy = database.bootstrap_durability_policy.unwrap();
        assert_eq!(
            (policy.policy_name.as_str(), policy.required_count),
            ("AT_LEAST_2", 2)
        );
        let told = bed.server.until("both were told", |state| {
            let log = state.log.iter();
            log.filter(|request| request.body["reason"] == "TopoRegistered")
                .count()
                == 2
        });
        told.await;
        let created = life.handle.samples().await.into_iter().find(|sample| {
            sample.name == "multigres_operator_topology_requests_total"
                && sample.labels
                    == [
                        ("operation", "create".to_owned()),
                        ("code", "ok".to_owned()),
                    ]
        });
        assert_eq!(created.unwrap().value, 2.0);
        assert_eq!(
            life.metric("multigres_operator_topology_reachable").await,
            1.0
        );
    });
    assert_eq!(end.await, End::Done(()));
}

/// A process that begins anew on a settled cluster writes nothing, neither there nor here.
#[tokio::test]
async fn a_rebuild_writes_nothing_into_the_topology() {
    let mut site = Site::new("rebuild").await;
    let mut marks = Vec::new();
    for _ in 0..3 {
        let mark = site.bed.server.mark();
        let before = revision(&mut site.client).await;
        let Site {
            bed,
            cluster,
            client,
            ..
        } = &mut site;
        let end = bed.life(async |life| {
            bed.healthy(cluster).await;
            told(bed, cluster, "TopologyReachable", is("True")).await;
            actor(life, settled).await;
            told(bed, &bed.shard(), "TopologyReachable", is("True")).await;
            quiet(life).await;
        });
        assert_eq!(end.await, End::Done(()));
        let writes = bed
            .server
            .since(mark)
            .iter()
            .filter(|request| request.writes())
            .count();
        marks.push((writes, revision(client).await - before));
    }
    assert!(marks[0].0 > 0 && marks[0].1 == 2, "{marks:?}");
    assert_eq!(marks[1..], [(0, 0), (0, 0)]);
}

/// Issue 5, figure 7: what somebody deletes or changes by hand is put back, and somebody else's field stays.
#[tokio::test]
async fn records_deleted_or_changed_by_hand_come_back() {
    let mut site = Site::new("by-hand").await;
    let run = site.run(async |_, _, client, _| {
        let good = records(client).await;
        let began = Instant::now();
        client.delete(CELL, None).await.unwrap();
        client.delete(DATABASE, None).await.unwrap();
        until(client, "both are back", |all| *all == good).await;
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        let mut edited = wire::Database::decode(&*good[DATABASE]).unwrap();
        edited.cells = vec!["elsewhere".to_owned()];
        let mut bytes = edited.encode_to_vec();
        let strange = [0xfa, 0x3f, 0x01, 0x78];
        bytes.extend(strange);
        client.put(DATABASE, bytes, None).await.unwrap();
        let all = until(client, "its cells are put right", |all| {
            let found = wire::Database::decode(&*all[DATABASE]).unwrap();
            found.cells == ["zone-a"]
        });
        let kept = all.await[DATABASE].windows(4).any(|part| part == strange);
        assert!(kept, "an unknown field was lost");
    });
    run.await;
}

/// L-TOPO-05: a record that changes wakes its shard at once, without any word from Kubernetes and without polling.
#[tokio::test]
async fn a_changed_record_wakes_its_shard_at_once() {
    let mut site = Site::new("wakes").await;
    let woken = Arc::new(watch::Sender::new(Vec::new()));
    let (tells, mut wakes) = (woken.clone(), woken.subscribe());
    site.bed.hooks.before_decision = Some(Arc::new(move |id, _, _| {
        if id.kind == Kind::Shard && id.pool.is_none() {
            tells.send_modify(|all: &mut Vec<Instant>| all.push(Instant::now()));
        }
    }));
    let run = site.run(async |bed, _, client, life| {
        told(bed, &bed.shard(), "TopologyReachable", is("True")).await;
        let pod = pods(bed).remove(0);
        let mut took = Vec::new();
        for number in 0..20 {
            // What the record before led to is done.
            quiet(life).await;
            let mark = bed.server.mark();
            let before = wakes.borrow_and_update().len();
            let record = super::pruning::pooler(&pod, number % 2 == 0);
            let began = Instant::now();
            client.put(pooler_key(&pod), record, None).await.unwrap();
            let woken = wakes.wait_for(|all| all.len() > before);
            let woken = tokio::time::timeout(super::PATIENCE, woken).await;
            took.push(woken.expect("never").unwrap()[before].duration_since(began));
            let asked = bed.server.since(mark);
            let reads = asked.iter().filter(|request| !request.writes()).count();
            assert_eq!(reads, 0, "it polled");
        }
        took.sort();
        // Far below any interval at which one would poll; how fast it is, a benchmark tells.
        assert!(took[10] < Duration::from_millis(500), "{took:?}");
    });
    run.await;
}

/// Gateways and orchestrators wait for the record of their cell; nothing else does, and once they run they stay.
#[tokio::test]
async fn workloads_that_exit_without_the_topology_wait_for_their_cell() {
    let mut site = Site::new("gate").await;
    site.etcd.kill();
    let Site {
        bed, cluster, etcd, ..
    } = &mut site;
    let waits = |name: &str| name.contains("multigateway") || name.contains("multiorch");
    let end = bed.life(async |life| {
        let made = bed.server.until("the pods are made", |state| {
            let pods = state.objects.keys().filter(|key| key.kind == Kind::Pod);
            pods.filter(|key| key.name.contains("-pool-")).count() > 0
        });
        made.await;
        actor(life, |actor| {
            actor["stores"][0]["members"][0]["failures"].as_u64() > Some(0)
        })
        .await;
        quiet(life).await;
        let deployments = || {
            let all = bed.server.all(Kind::Deployment).into_iter();
            all.filter(|(key, _)| waits(&key.name)).count()
        };
        assert_eq!(deployments(), 0);
        etcd.start_again();
        bed.healthy(cluster).await;
        assert_eq!(deployments(), 2);
        etcd.kill();
        told(bed, cluster, "TopologyReachable", is("False")).await;
        told(bed, &bed.shard(), "TopologyReachable", is("False")).await;
        quiet(life).await;
        assert_eq!(deployments(), 2);
        let shard = condition_of(bed, &bed.shard(), "TopologyReachable").unwrap();
        assert_eq!(shard["status"], "False");
    });
    assert_eq!(end.await, End::Done(()));
}

/// Who does not lead writes nothing, whatever is missing.
#[tokio::test]
async fn nobody_registers_without_the_lease() {
    let mut site = Site::new("lease").await;
    let run = site.run(async |_, _, client, life| {
        life.leadership.send_replace(Leadership::Standby);
        life.inflow.send(Inflow::Leadership(false)).await.unwrap();
        client.delete(CELL, None).await.unwrap();
        let before = revision(client).await;
        let read = actor(life, |actor| actor["stores"][0]["records"] == 1).await;
        // Of a decision that is not made nothing tells; one that is would follow within the pace of 40 ms.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let later = actor(life, |_| true).await;
        assert_eq!(later["decisions"], read["decisions"]);
        assert_eq!(revision(client).await, before);
        life.leadership.send_replace(Bed::leader());
        life.inflow.send(Inflow::Leadership(true)).await.unwrap();
        until(client, "it is back", |all| all.contains_key(CELL)).await;
    });
    run.await;
}

/// A fall costs nothing but a new connection; too many of them show on the cluster, whose other actors go on.
#[tokio::test]
async fn a_topology_actor_that_falls_comes_back_and_is_given_up_at_last() {
    let mut site = Site::new("falls").await;
    let falls = Arc::new(AtomicUsize::new(2));
    let left = falls.clone();
    site.bed.hooks.before_decision = Some(Arc::new(move |id, _, _| {
        let fall = || left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        assert!(!id.topology || fall().is_err(), "a fall of this test");
    }));
    let Site {
        bed,
        cluster,
        client,
        ..
    } = &mut site;
    let end = bed.life(async |life| {
        bed.healthy(cluster).await;
        let after = actor(life, settled).await;
        assert_eq!(
            (&after["restarts"], &after["incarnation"]),
            (&json!(2), &json!(3))
        );
        let before = revision(client).await;
        falls.store(100, Ordering::Release);
        client
            .put(format!("{ROOT}/poolers/x/Pooler"), "?", None)
            .await
            .unwrap();
        let stalled = told(bed, cluster, "Stalled", is("True")).await.unwrap();
        assert_eq!(stalled["reason"], "ActorStalled");
        assert!(
            stalled["message"]
                .as_str()
                .unwrap()
                .contains("TopologyActor"),
            "{stalled}"
        );
        assert_eq!(revision(client).await, before + 1);
        falls.store(0, Ordering::Release);
        bed.server.edit(cluster, |object| {
            object["spec"]["logLevels"] = json!({"pooler": "debug"})
        });
        told(bed, cluster, "Stalled", is("False")).await;
        actor(life, settled).await;
    });
    assert_eq!(end.await, End::Done(()));
}

/// The records stay when the cluster goes (managed stores go with it, external ones are the user's); the actor ends.
#[tokio::test]
async fn the_actor_ends_with_its_cluster() {
    let mut site = Site::new("ends").await;
    let run = site.run(async |bed, cluster, client, life| {
        bed.server.delete(cluster);
        let gone = |state: &crate::server::State| !state.objects.contains_key(cluster);
        bed.server.until("the cluster is gone", gone).await;
        // Nobody is left who could put back what is deleted.
        seen(life, "no TopologyActor", |told| {
            topology(told).is_none().then_some(())
        })
        .await;
        let before = revision(client).await;
        client.delete(CELL, None).await.unwrap();
        quiet(life).await;
        assert_eq!(revision(client).await, before + 1);
        assert_eq!(
            life.metric("multigres_operator_topology_reachable").await,
            0.0
        );
    });
    run.await;
}
