//! What the operator believes: answers and events that are lost, late, repeated, or not what they look like.

use std::time::Duration;

use actors::object::{Key, Kind, MANAGED_BY};
use serde_json::json;

use crate::bed::{Bed, End};
use crate::edits::{pool, pools};
use crate::server::{Fault, Request};
use crate::shapes::{MINIMAL, NAMESPACE, THREE_CELLS, key};
use crate::watches::Travel;

/// Events later than any answer.
fn late() -> Travel {
    Travel {
        least: Duration::from_secs(3),
        most: Duration::from_secs(9),
        ..Travel::default()
    }
}

/// No answer is not a failure: the object is read before anything is decided, and not made again.
#[tokio::test(start_paused = true)]
async fn after_a_lost_answer_the_object_is_read_and_not_made_again() {
    let bed = Bed::new(20);
    bed.travel(late());
    bed.server.fail(Fault::LoseAnswer, usize::MAX, {
        let mut lost = std::collections::BTreeSet::new();
        let lost = std::sync::Mutex::new(move |request: &crate::server::Request| {
            request.writes() && lost.insert((request.key.clone(), request.status))
        });
        move |request| (lost.lock().unwrap())(request)
    });
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |_| bed.healthy(&cluster).await);
    assert_eq!(end.await, End::Done(()));
    let log = bed.server.since(0);
    for lost in log
        .iter()
        .filter(|request| request.writes() && !request.status && request.key.is_some())
    {
        let next = log
            .iter()
            .find(|next| next.number > lost.number && next.key == lost.key && !next.status);
        let read = next
            .is_none_or(|next| next.method == "GET" || next.key.as_ref().unwrap().kind.is_custom());
        assert!(read, "{lost:?} was followed by {next:?}");
    }
    for (key, _) in bed.server.peek(|state| state.objects.clone()) {
        let made = log.iter().filter(|request| {
            request.changed && request.key.as_ref() == Some(&key) && !request.status
        });
        assert!(made.count() <= 1, "{key} was written more than once");
    }
}

#[tokio::test(start_paused = true)]
async fn late_and_repeated_events_after_own_writes_are_ignored() {
    let bed = Bed::new(21);
    bed.travel(Travel { twice: 3, ..late() });
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |_| {
        bed.healthy(&cluster).await;
        bed.silence().await;
    });
    assert_eq!(end.await, End::Done(()));
    let mut made = std::collections::BTreeMap::new();
    for request in bed
        .server
        .writes_since(0)
        .into_iter()
        .filter(|request| !request.status)
    {
        assert_eq!(request.code, 200, "a conflict: {request:?}");
        *made.entry(request.key.unwrap()).or_insert(0) += 1;
    }
    assert!(made.values().all(|times| *times == 1), "{made:?}");
}

/// Every kind that is kept by apply: its label goes, it leaves the watch, it is read once and put back by one write.
#[tokio::test(start_paused = true)]
async fn an_object_that_only_lost_its_label_is_read_and_put_back_once() {
    let bed = Bed::new(22);
    bed.create(MINIMAL);
    let end = bed.life(async |_| {
        bed.silence().await;
        for (key, object) in bed.server.peek(|state| state.objects.clone()) {
            let kept = matches!(
                key.kind,
                Kind::TopoServer
                    | Kind::Cell
                    | Kind::TableGroup
                    | Kind::Shard
                    | Kind::StatefulSet
                    | Kind::Deployment
                    | Kind::Service
                    | Kind::ConfigMap
                    | Kind::PodDisruptionBudget
            );
            if !kept {
                continue;
            }
            let mark = bed.server.mark();
            bed.server.edit(&key, |object| {
                object["metadata"]["labels"]
                    .as_object_mut()
                    .unwrap()
                    .remove(MANAGED_BY.0);
            });
            bed.silence().await;
            let back = bed.server.get(&key).unwrap();
            assert_eq!(back["metadata"]["uid"], object["metadata"]["uid"], "{key}");
            assert_eq!(
                back["metadata"]["labels"], object["metadata"]["labels"],
                "{key}"
            );
            let calls: Vec<_> = bed
                .server
                .since(mark)
                .into_iter()
                .filter(|call| call.key.as_ref() == Some(&key))
                .collect();
            let methods: Vec<_> = calls
                .iter()
                .filter(|call| !call.status)
                .map(|call| call.method)
                .collect();
            assert_eq!(methods, ["GET", "PATCH"], "{key}");
        }
    });
    assert_eq!(end.await, End::Done(()));
}

/// The labels say whose an object is; one that names another pool still belongs to the one that made it.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_said_to_be_of_another_pool_is_put_back() {
    let bed = Bed::new(27);
    bed.create(THREE_CELLS);
    let end = bed.life(async |_| {
        bed.silence().await;
        for kind in [Kind::Pod, Kind::PersistentVolumeClaim, Kind::Service] {
            let mut all = bed.server.all(kind);
            all.retain(|(_, object)| object["metadata"]["labels"]["multigres.com/pool"] == "main");
            let (key, object) = all[0].clone();
            let mark = bed.server.mark();
            bed.server.edit(&key, |object| {
                object["metadata"]["labels"]["multigres.com/pool"] = "reports".into()
            });
            bed.silence().await;
            assert_eq!(
                bed.server.get(&key).unwrap()["metadata"]["labels"],
                object["metadata"]["labels"],
                "{key}"
            );
            let writes = bed.server.writes_since(mark).into_iter();
            assert_eq!(
                writes
                    .filter(|write| write.key.as_ref() == Some(&key))
                    .count(),
                1,
                "{key}"
            );
        }
    });
    assert_eq!(end.await, End::Done(()));
}

/// Of a volume that policy keeps, no owner can be asked; it must not be taken for gone either.
#[tokio::test(start_paused = true)]
async fn a_kept_volume_that_lost_its_label_is_not_made_again() {
    let bed = Bed::new(23);
    bed.create(THREE_CELLS);
    let end = bed.life(async |_| {
        bed.silence().await;
        let (claim, object) = bed.server.all(Kind::PersistentVolumeClaim)[0].clone();
        let mark = bed.server.mark();
        bed.server.edit(&claim, |object| {
            object["metadata"]["labels"]
                .as_object_mut()
                .unwrap()
                .remove(MANAGED_BY.0);
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        let calls: Vec<_> = bed
            .server
            .since(mark)
            .into_iter()
            .map(|call| (call.method, call.key))
            .collect();
        assert_eq!(
            calls,
            [("GET", Some(claim.clone())), ("PATCH", Some(claim.clone()))]
        );
        assert_eq!(
            bed.server.get(&claim).unwrap()["metadata"]["labels"],
            object["metadata"]["labels"]
        );
    });
    assert_eq!(end.await, End::Done(()));
}

/// An event tells of a write that succeeded; after a conflict nothing was written.
#[tokio::test(start_paused = true)]
async fn a_refused_write_is_not_told_of() {
    let bed = Bed::new(27);
    let cluster = bed.create(MINIMAL);
    let told_healthy = {
        let cluster = cluster.clone();
        move |request: &Request| {
            request.status
                && request.key.as_ref() == Some(&cluster)
                && request.body["status"]["phase"] == "Healthy"
        }
    };
    bed.server.fail(Fault::Refuse(409), 1, told_healthy.clone());
    let end = bed.life(async |_| {
        bed.healthy(&cluster).await;
        bed.silence().await;
    });
    assert_eq!(end.await, End::Done(()));
    let log = bed.server.since(0);
    let written = |code| {
        let found = log
            .iter()
            .find(|request| told_healthy(request) && request.code == code);
        found.unwrap().number
    };
    let told: Vec<u64> = log
        .iter()
        .filter(|request| request.body["regarding"]["kind"] == "MultigresCluster")
        .map(|request| request.number)
        .collect();
    assert!(written(409) < written(200));
    assert_eq!(told.len(), 1, "one transition, one event");
    assert!(written(200) < told[0]);
}

/// Only an answer tells what the server made of a write: after none, or a refusal, the object is as it was, and the write is
/// tried again.
#[tokio::test(start_paused = true)]
async fn a_write_that_was_not_carried_out_is_not_taken_for_one_in_vain() {
    for fault in [Fault::Hang, Fault::Refuse(409)] {
        let bed = Bed::new(28);
        let cluster = bed.create(MINIMAL);
        let end = bed.life(async |life| {
            bed.silence().await;
            for kind in [Kind::TableGroup, Kind::Deployment] {
                bed.server.fail(fault, 1, move |request| {
                    request.writes()
                        && !request.status
                        && request.key.as_ref().is_some_and(|key| key.kind == kind)
                });
            }
            bed.server.edit(&cluster, |object| {
                object["spec"]["databases"] = pools(&json!({"default": pool(&["zone-a"], 4)}));
            });
            let (deployment, before) = bed.server.all(Kind::Deployment).remove(0);
            bed.server
                .edit(&deployment, |object| object["spec"]["replicas"] = 7.into());
            bed.silence().await;
            let after = bed.server.get(&deployment).unwrap();
            assert_eq!(after["spec"], before["spec"], "{fault:?}");
            let status = bed.server.get(&cluster).unwrap()["status"].clone();
            assert_eq!(status["phase"], "Healthy", "{fault:?}");
            assert_eq!(bed.server.all(Kind::Pod).len(), 4, "{fault:?}");
            assert_eq!(life.process().await["findings"], json!({}), "{fault:?}");
        });
        assert_eq!(end.await, End::Done(()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_by_hand_is_made_again_though_the_first_look_fails() {
    let bed = Bed::new(24);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |_| {
        for kind in [
            Kind::Service,
            Kind::ConfigMap,
            Kind::Deployment,
            Kind::StatefulSet,
            Kind::Pod,
            Kind::Secret,
            Kind::Cell,
        ] {
            bed.healthy(&cluster).await;
            bed.silence().await;
            let mut all = bed.server.all(kind);
            all.retain(|(_, object)| object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1);
            let (key, object) = all[0].clone();
            let of = key.clone();
            bed.server.fail(Fault::Refuse(500), 1, move |request| {
                request.method == "GET" && request.key.as_ref() == Some(&of)
            });
            bed.server.delete(&key);
            bed.server
                .until(&format!("{key} is back"), |state| {
                    let now = state.objects.get(&key);
                    now.is_some_and(|now| now["metadata"]["uid"] != object["metadata"]["uid"])
                })
                .await;
        }
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
}

/// The Secret cannot be read at first: the pods come as soon as it can.
#[tokio::test(start_paused = true)]
async fn a_reference_that_cannot_be_read_at_first_is_read_again() {
    for fault in [Fault::Refuse(500), Fault::Refuse(429), Fault::Hang] {
        let bed = Bed::new(25);
        bed.server.fail(fault, 2, |request| {
            request.method == "GET"
                && request
                    .key
                    .as_ref()
                    .is_some_and(|key| &*key.name == crate::shapes::PASSWORD)
        });
        let cluster = bed.create(MINIMAL);
        let end = bed.life(async |_| bed.healthy(&cluster).await);
        assert_eq!(end.await, End::Done(()), "{fault:?}");
    }
}

fn stranger() -> serde_json::Value {
    json!({"metadata": {"labels": {"made-by": "somebody"}}, "spec": {"ports": []}})
}

/// An object of somebody else under our name: said where the user looks, never written, left in peace, and ours once it is gone.
#[tokio::test(start_paused = true)]
async fn a_foreign_object_is_never_taken_over() {
    let names: [(Kind, &str); 5] = [
        (Kind::Service, "minimal-multiadmin"),
        (Kind::Deployment, "minimal-multiadmin"),
        (Kind::Cell, "minimal-zone-a-96c88ae0"),
        (
            Kind::PersistentVolumeClaim,
            "data-minimal-postgres-default-0-inf-pool-default-zone-a-a3a0d77b-0",
        ),
        (
            Kind::Pod,
            "minimal-postgres-default-0-inf-pool-default-zone-a-a3a0d77b-0",
        ),
    ];
    for (kind, name) in names {
        let bed = Bed::new(26);
        let taken = key(kind, name);
        bed.server.add(&taken, stranger());
        let theirs = |bed: &Bed| {
            let object = bed.server.get(&taken).unwrap();
            let metadata = &object["metadata"];
            (
                metadata["labels"].clone(),
                metadata["ownerReferences"].clone(),
                object["spec"].clone(),
            )
        };
        let before = theirs(&bed);
        let cluster = bed.create(MINIMAL);
        let end = bed.life(async |_| {
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(theirs(&bed), before, "{taken}");
            let taken_over =
                |call: &crate::server::Request| call.changed && call.key.as_ref() == Some(&taken);
            assert!(
                !bed.server.writes_since(0).iter().any(taken_over),
                "{taken} was written"
            );
            let told = |key: &Key| {
                bed.server
                    .get(key)
                    .is_some_and(|object| object["status"].to_string().contains("NameTaken"))
            };
            let told = bed
                .server
                .peek(|state| state.objects.keys().cloned().collect::<Vec<_>>())
                .iter()
                .any(told);
            assert!(told, "nobody says that {taken} is taken");
            let mark = bed.server.mark();
            tokio::time::sleep(Duration::from_secs(600)).await;
            let calls = bed.server.since(mark);
            assert!(
                calls.len() < 100,
                "{taken}: {} calls in ten minutes",
                calls.len()
            );
            assert!(calls.iter().all(|call| !call.writes()), "{taken}");
            bed.server.delete(&taken);
            bed.healthy(&cluster).await;
        });
        assert_eq!(end.await, End::Done(()), "{taken} in {NAMESPACE}");
    }
}
