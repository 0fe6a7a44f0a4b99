//! Stores that are out of reach, and stores that move.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use actors::object::{Key, Kind};
use serde_json::json;
use tokio::time::Instant;

use super::{actor, bed, condition_of, is, told, until_below};
use crate::bed::{Bed, End};
use crate::process::Etcd;
use crate::shapes::{MINIMAL, key};

/// L-TOPO-09: a store that takes connections and never answers: children are applied and status is current all the same.
#[tokio::test]
async fn a_black_hole_costs_the_kubernetes_side_nothing() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = hole.local_addr().unwrap().to_string();
    let (bed, cluster) = bed(std::slice::from_ref(&endpoint));
    // An old cluster: nobody waits for its store to come up.
    bed.server.edit(&cluster, |object| {
        object["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z".into();
    });
    let end = bed.life(async |life| {
        let began = Instant::now();
        let applied = bed
            .server
            .until("pods are made and status is current", |state| {
                let pods = state.objects.keys().filter(|key| key.kind == Kind::Pod);
                let status = &state.objects[&cluster]["status"];
                pods.count() > 0 && status["observedGeneration"] == 1
            });
        applied.await;
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        let told = told(&bed, &cluster, "TopologyReachable", is("False"))
            .await
            .unwrap();
        assert_eq!(told["reason"], "Unreachable");
        let text = told["message"].as_str().unwrap();
        assert!(
            text.starts_with("the global topology store has not answered since 20")
                && text.ends_with(&format!("tried at {endpoint}")),
            "{text}"
        );
        bed.server.edit(&cluster, |object| {
            object["spec"]["logLevels"] = json!({"pooler": "debug"})
        });
        let edited = Instant::now();
        let current = bed.server.until("status follows an edit", |state| {
            state.objects[&cluster]["status"]["observedGeneration"] == 2
        });
        current.await;
        assert!(
            edited.elapsed() < Duration::from_secs(1),
            "{:?}",
            edited.elapsed()
        );
        let warned = |state: &crate::server::State| {
            let mut log = state.log.iter();
            log.any(|request| request.body["reason"] == "TopoConnectFailed")
        };
        bed.server.until("a warning", warned).await;
        let actor = actor(life, |_| true).await;
        assert!(
            actor["stores"][0]["members"][0]["error"]
                .as_str()
                .unwrap()
                .contains("no answer"),
            "{actor}"
        );
    });
    assert_eq!(end.await, End::Done(()));
}

/// L-TOPO-08: a young cluster waits quietly: one text, no warning.
#[tokio::test]
async fn a_young_cluster_waits_quietly() {
    let port = crate::process::free_port();
    let (bed, cluster) = bed(&[format!("127.0.0.1:{port}")]);
    let end = bed.life(async |life| {
        let first = told(&bed, &cluster, "TopologyReachable", is("False"))
            .await
            .unwrap();
        assert_eq!(
            (&first["reason"], &first["message"]),
            (
                &json!("Waiting"),
                &json!("waiting for the global topology store")
            )
        );
        actor(life, |actor| {
            actor["stores"][0]["members"][0]["failures"].as_u64() > Some(3)
        })
        .await;
        assert_eq!(
            condition_of(&bed, &cluster, "TopologyReachable").unwrap(),
            first
        );
        let warnings = bed.server.since(0);
        let warnings = warnings
            .iter()
            .filter(|request| request.body["type"] == "Warning")
            .count();
        assert_eq!(warnings, 0);
    });
    assert_eq!(end.await, End::Done(()));
}

/// A pod of the managed global store, as its StatefulSet would make it.
fn member(bed: &Bed, server: &str, number: usize, address: IpAddr) -> Key {
    let set = bed.server.get(&key(Kind::StatefulSet, server)).unwrap();
    let pod = key(Kind::Pod, &format!("{server}-{number}"));
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": server, "uid": set["metadata"]["uid"], "controller": true,
    }]);
    let labels = set["spec"]["template"]["metadata"]["labels"].clone();
    bed.server.add(
        &pod,
        json!({
            "metadata": {"labels": labels, "ownerReferences": owner},
            "spec": {"containers": []},
            "status": {
                "phase": "Running", "podIP": address.to_string(),
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }),
    );
    pod
}

/// Managed stores are dialled at the addresses of their pods, and followed when they move: here to an etcd whose history is
/// another one.
#[tokio::test]
async fn a_managed_store_is_dialled_at_its_pods_and_followed_to_new_ones() {
    const SERVER: &str = "minimal-global-topo";
    const GLOBAL: &str = "/multigres/global";
    type Records = BTreeMap<String, Vec<u8>>;
    // 127.0.0.0/8 is ours; the process number keeps parallel runs apart.
    let id = std::process::id().to_le_bytes();
    let at = |last: u8| IpAddr::from([127, 200_u8.wrapping_add(id[1] % 32), id[0], last]);
    let first = Etcd::at("managed-1", at(1), 2379, |_| Vec::new());
    let mut client = first.client().await;
    let mut bed = Bed::new(7);
    bed.stores = true;
    let cluster = bed.create(MINIMAL);
    let name =
        |state: &crate::server::State| state.objects.contains_key(&key(Kind::StatefulSet, SERVER));
    let end = bed.life(async |life| {
        bed.server.until("the StatefulSet is made", name).await;
        let waits = told(&bed, &cluster, "TopologyReachable", is("False"))
            .await
            .unwrap();
        assert_eq!(waits["reason"], "Waiting", "no pod, no address: {waits}");
        let pod = member(&bed, SERVER, 0, at(1));
        told(&bed, &cluster, "TopologyReachable", is("True")).await;
        // Reachable is told before the first write.
        let registered = |all: &Records| {
            let holds = |end: &str| all.keys().any(|key| key.ends_with(end));
            holds("/Cell") && holds("/Database")
        };
        let there = until_below(&mut client, GLOBAL, "it is registered", registered).await;
        bed.healthy(&cluster).await;
        // The pod comes back elsewhere, with an empty volume.
        let second = Etcd::at("managed-2", at(2), 2379, |_| Vec::new());
        let mut other = second.client().await;
        bed.server.delete(&pod);
        let gone = |state: &crate::server::State| !state.objects.contains_key(&pod);
        bed.server.until("the pod is gone", gone).await;
        member(&bed, SERVER, 0, at(2));
        until_below(&mut other, GLOBAL, "it is registered anew", |all| {
            all.keys().eq(there.keys())
        })
        .await;
        let actor = actor(life, |actor| actor["stores"][0]["complete"] == true).await;
        assert_eq!(actor["stores"][0]["following"], format!("{}:2379", at(2)));
        told(&bed, &cluster, "TopologyReachable", is("True")).await;
    });
    assert_eq!(end.await, End::Done(()));
}
