//! Lessons of the reference that can be shown here, each named by what it says. Others: L-STAT-02 in `edits`, the idle half of
//! L-STAT-01 in `bring_up`, L-CACHE-03's lost and late answers in `answers`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actors::health;
use actors::object::{Key, Kind, MANAGED_BY};
use actors::status::{Condition, with_conditions};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bed::{Bed, End, Life};
use crate::rebuild::{assert_same, essence};
use crate::server::Fault;
use crate::shapes::{MINIMAL, PASSWORD, THREE_CELLS, cluster, key};
use crate::watches::{Travel, entry};

fn condition(bed: &Bed, of: &Key, kind: &str) -> Value {
    let object = bed.server.get(of).unwrap();
    let list = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    list.into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default()
}

async fn decisions(life: &Life<'_>) -> BTreeMap<String, u64> {
    let actors = life.actors().await;
    let count = |actor: &Value| {
        let name = format!("{} of {}", actor["actor"], actor["object"]);
        (name, actor["decisions"].as_u64().unwrap())
    };
    actors.iter().map(count).collect()
}

// ---- L-CACHE ----

/// L-CACHE-01: objects of others are neither stored nor asked for.
#[tokio::test(start_paused = true)]
async fn objects_of_others_cost_nothing() {
    let bed = Bed::new(80);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.healthy(&cluster).await;
        bed.silence().await;
        let before = (
            bed.server.mark(),
            life.process().await["objects"].clone(),
            decisions(life).await,
        );
        for number in 0..300 {
            for kind in [Kind::Secret, Kind::ConfigMap] {
                bed.server.add(
                    &key(kind, &format!("foreign-{number}")),
                    json!({"data": {"blob": "x".repeat(1000)}}),
                );
            }
        }
        bed.silence().await;
        let after = (
            bed.server.mark(),
            life.process().await["objects"].clone(),
            decisions(life).await,
        );
        assert_eq!(before, after);
    });
    assert_eq!(end.await, End::Done(()));
}

/// L-CACHE-01: what is stored is trimmed; managed fields and kubectl's copy of the manifest are most of an object.
#[test]
fn what_is_stored_is_trimmed() {
    let big = "x".repeat(100_000);
    let object = json!({"metadata": {
        "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
        "managedFields": [{"manager": big}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": big, "mine": "1"},
    }, "data": {"secret": big}, "status": {"message": big}});
    let trimmed = entry(Kind::Secret, &object);
    assert_eq!(trimmed.annotation("mine"), Some("1"));
    assert_eq!(trimmed.data.len(), 1);
    let size = format!("{trimmed:?}").len();
    assert!(size < 1000, "{size} bytes are kept: {trimmed:?}");
}

/// L-CACHE-01: a Secret that is no longer referred to when its read is answered is not kept either.
#[tokio::test(start_paused = true)]
async fn a_secret_that_nobody_refers_to_any_more_is_not_kept() {
    let bed = Bed::new(81);
    let cluster = bed.create(MINIMAL);
    let other = key(Kind::Secret, "other-password");
    bed.server
        .add(&other, json!({"data": {"password": "b3RoZXI="}}));
    let end = bed.life(async |life| {
        bed.healthy(&cluster).await;
        bed.silence().await;
        let before = life.known(Kind::Secret).await;
        let slow = other.clone();
        bed.server.fail(Fault::Hang, 1, move |request| {
            request.method == "GET" && request.key.as_ref() == Some(&slow)
        });
        let refer = |name: &'static str| {
            bed.server.edit(&cluster, |object| {
                object["spec"]["postgresPasswordSecretRef"]["name"] = name.into()
            });
        };
        refer("other-password");
        tokio::time::sleep(Duration::from_secs(1)).await;
        refer(PASSWORD);
        bed.silence().await;
        assert_eq!(life.known(Kind::Secret).await, before);
    });
    assert_eq!(end.await, End::Done(()));
}

/// L-CACHE-02: the user's Secret has no label of ours; it works, and what happens to it is noticed and told.
#[tokio::test(start_paused = true)]
async fn an_unlabelled_secret_works_and_its_changes_are_noticed() {
    let bed = Bed::new(82);
    let (cluster, body) = cluster(MINIMAL);
    bed.server.add(&cluster, body);
    let secret = key(Kind::Secret, PASSWORD);
    let end = bed.life(async |_| {
        bed.phase(&cluster, "Degraded").await;
        let shard = bed.shard();
        let told = || {
            condition(&bed, &shard, "Stalled")["message"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert!(told().contains("does not exist"), "{}", told());
        assert!(bed.server.all(Kind::Pod).is_empty());
        bed.server.add(&secret, json!({"data": {"other": "eA=="}}));
        bed.silence().await;
        assert!(told().contains("no key"), "{}", told());
        bed.server
            .edit(&secret, |object| object["data"] = json!({"password": ""}));
        bed.silence().await;
        assert!(told().contains("is empty"), "{}", told());
        bed.server.edit(&secret, |object| {
            object["data"] = json!({"password": "eA=="})
        });
        bed.healthy(&cluster).await;
        bed.server.delete(&secret);
        bed.phase(&cluster, "Degraded").await;
        assert_eq!(
            bed.server.all(Kind::Pod).len(),
            2,
            "pods that run are left alone"
        );
        bed.password();
        bed.healthy(&cluster).await;
        let written = bed
            .server
            .writes_since(0)
            .into_iter()
            .filter(|write| write.key.as_ref() == Some(&secret));
        assert_eq!(written.count(), 0);
    });
    assert_eq!(end.await, End::Done(()));
}

/// L-CACHE-03: watch events arrive seconds late, and others write the same objects all the while: nothing is done twice and no
/// conflict surfaces.
#[tokio::test(start_paused = true)]
async fn late_news_and_foreign_writes_cause_no_second_action_and_no_conflict() {
    let bed = Bed::new(83);
    bed.travel(Travel {
        least: Duration::from_secs(1),
        most: Duration::from_secs(6),
        twice: 4,
        ..Travel::default()
    });
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |_| {
        for round in 0..40 {
            let all = bed
                .server
                .peek(|state| state.objects.keys().cloned().collect::<Vec<_>>());
            for of in all.into_iter().filter(|of| &*of.name != PASSWORD) {
                bed.server.edit(&of, |object| {
                    object["metadata"]["annotations"]["example.com/round"] =
                        round.to_string().into()
                });
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        bed.healthy(&cluster).await;
        bed.silence().await;
    });
    assert_eq!(end.await, End::Done(()));
    let mut written: BTreeMap<Key, usize> = BTreeMap::new();
    for write in bed.server.writes_since(0) {
        assert!(write.code < 300, "{write:?}");
        if !write.status {
            *written.entry(write.key.unwrap()).or_default() += 1;
        }
    }
    assert!(written.values().all(|times| *times == 1), "{written:?}");
}

/// L-CACHE-04: a change is looked at by those it concerns, and by nobody else's actors.
#[tokio::test(start_paused = true)]
async fn a_change_wakes_only_whom_it_concerns() {
    let bed = Bed::new(84);
    let first = bed.create(MINIMAL);
    let (mut second, mut body) = cluster(MINIMAL);
    second.name = "second".into();
    body["metadata"]["name"] = "second".into();
    body["spec"]["templateDefaults"] = json!({"shardTemplate": "large"});
    let template = key(Kind::ShardTemplate, "large");
    bed.server
        .add(&template, json!({"spec": {"multiorch": {"replicas": 1}}}));
    bed.server.add(&second, body);
    let end = bed.life(async |life| {
        bed.healthy(&first).await;
        bed.healthy(&second).await;
        bed.silence().await;
        let before = decisions(life).await;
        let service = key(Kind::Service, "minimal-multiadmin");
        bed.server.edit(&service, |object| {
            object["metadata"]["annotations"]["example.com/touched"] = "1".into()
        });
        bed.silence().await;
        let after = decisions(life).await;
        assert_eq!(awake(&before, &after), ["MultigresCluster default/minimal"]);
        bed.server.edit(&template, |object| {
            object["metadata"]["annotations"]["example.com/touched"] = "1".into()
        });
        bed.silence().await;
        assert_eq!(
            awake(&after, &decisions(life).await),
            ["MultigresCluster default/second"]
        );
    });
    assert_eq!(end.await, End::Done(()));
}

/// Resources whose actors decided in between.
fn awake(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<String> {
    let more = after.iter().filter(|(name, count)| before[*name] < **count);
    more.map(|(name, _)| name.split('"').rev().nth(1).unwrap().to_owned())
        .collect()
}

// ---- L-STAT ----

/// L-STAT-01: the order in which conditions are computed or were stored leaves no trace, and times move with values only.
#[test]
fn shuffled_conditions_give_identical_bytes() {
    const KINDS: [&str; 6] = [
        "Ready",
        "Available",
        "Stalled",
        "Reconciling",
        "RollingUpdate",
        "RemovalHeld",
    ];
    let of = |(kind, value): (usize, bool)| Condition::new(KINDS[kind], value, "Reason", "message");
    let list = prop::collection::btree_map(0..KINDS.len(), any::<bool>(), 1..6);
    let shuffled = list.prop_flat_map(|map| {
        let list: Vec<_> = map.into_iter().collect();
        (Just(list.clone()), Just(list).prop_shuffle())
    });
    let (one, two) = (
        "2026-01-01T00:00:00Z".parse().unwrap(),
        "2026-01-02T00:00:00Z".parse().unwrap(),
    );
    proptest!(|((list, other) in shuffled)| {
        let conditions = |list: &[(usize, bool)]| list.iter().copied().map(of).collect::<Vec<_>>();
        let first = with_conditions(json!({}), &json!({}), &conditions(&list), 1, one);
        let mixed = with_conditions(json!({}), &json!({}), &conditions(&other), 1, one);
        prop_assert_eq!(first.to_string(), mixed.to_string());
        let again = with_conditions(json!({}), &first, &conditions(&other), 1, two);
        prop_assert_eq!(first.to_string(), again.to_string());
    });
}

/// L-STAT-01: in whatever order the news comes, the end is the same to the byte.
#[tokio::test(start_paused = true)]
async fn the_order_of_events_leaves_no_trace() {
    let mut first = None;
    for seed in [85, 1085, 2085] {
        let bed = Bed::new(seed);
        bed.travel(Travel {
            most: Duration::from_millis(400),
            ..Travel::default()
        });
        bed.create(THREE_CELLS);
        assert_eq!(bed.life(async |_| bed.silence().await).await, End::Done(()));
        let end = bed.server.peek(essence);
        assert_same(
            first.get_or_insert(end.clone()),
            &end,
            &format!("seed {seed}"),
        );
    }
}

/// L-STAT-03: old news never brings an old status back: on the way up, no condition and no phase goes there and back.
#[tokio::test(start_paused = true)]
async fn no_status_goes_back_while_news_is_late() {
    let bed = Bed::new(86);
    bed.travel(Travel {
        least: Duration::from_millis(10),
        most: Duration::from_secs(5),
        twice: 2,
        ..Travel::default()
    });
    let cluster = bed.create(THREE_CELLS);
    let end = bed.life(async |_| {
        bed.healthy(&cluster).await;
        bed.silence().await;
    });
    assert_eq!(end.await, End::Done(()));
    let mut phases: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    for write in bed
        .server
        .writes_since(0)
        .into_iter()
        .filter(|write| write.status)
    {
        let seen = phases.entry(write.key.unwrap()).or_default();
        let phase = write.body["status"]["phase"].to_string();
        if seen.last() != Some(&phase) {
            assert!(!seen.contains(&phase), "{phase} again after {seen:?}");
            seen.push(phase);
        }
    }
    assert!(phases.len() >= 7, "{phases:?}");
}

/// L-STAT-04: Available is "serves users now", Ready is "everything asked for is in place".
#[tokio::test(start_paused = true)]
async fn a_gateway_less_leaves_a_cluster_available_and_not_ready() {
    let bed = Bed::new(87);
    let of = bed.create(THREE_CELLS);
    let end = bed.life(async |_| {
        bed.healthy(&of).await;
        bed.silence().await;
        let cells = bed.server.all(Kind::Cell);
        let (cell, _) = cells
            .iter()
            .find(|(_, cell)| cell["spec"]["name"] == "zone-a")
            .unwrap();
        let uid = bed.server.get(cell).unwrap()["metadata"]["uid"].clone();
        let deployments = bed.server.all(Kind::Deployment);
        let (gateways, _) = deployments
            .iter()
            .find(|(_, it)| it["metadata"]["ownerReferences"][0]["uid"] == uid)
            .unwrap();
        let verdicts = |of: &Key| {
            let value = |kind| condition(&bed, of, kind)["status"].as_str().unwrap() == "True";
            (value("Available"), value("Ready"))
        };
        for (ready, of_cell) in [
            (2, (true, true)),
            (1, (true, false)),
            (0, (false, false)),
            (2, (true, true)),
        ] {
            bed.server.with(|state| {
                state.held.insert(gateways.clone());
            });
            bed.server.edit(gateways, |object| {
                object["status"]["readyReplicas"] = ready.into()
            });
            bed.silence().await;
            assert_eq!(
                verdicts(cell),
                of_cell,
                "{ready} of 2 gateways: (Available, Ready) of the Cell"
            );
            assert_eq!(
                verdicts(&of),
                of_cell,
                "{ready} of 2 gateways: (Available, Ready) of the cluster"
            );
        }
    });
    assert_eq!(end.await, End::Done(()));
}

/// States of a container, in a list of a pod's status, and whether they are a fault.
fn states() -> Vec<(&'static str, Value, bool)> {
    let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
    let ended = |restarts: i32| json!({"restartCount": restarts, "state": {"terminated": {"reason": "Error", "exitCode": 1}}});
    vec![
        ("a crash loop", waiting("CrashLoopBackOff"), true),
        (
            "an image that cannot be had",
            waiting("ImagePullBackOff"),
            true,
        ),
        (
            "an image that could not be had just now",
            waiting("ErrImagePull"),
            true,
        ),
        ("a bad image name", waiting("InvalidImageName"), true),
        (
            "a missing ConfigMap key",
            waiting("CreateContainerConfigError"),
            true,
        ),
        (
            "a runtime that refuses",
            waiting("CreateContainerError"),
            true,
        ),
        (
            "a container that cannot be run",
            waiting("RunContainerError"),
            true,
        ),
        ("an end for the fourth time", ended(4), true),
        ("being made", waiting("ContainerCreating"), false),
        ("waiting for its turn", waiting("PodInitializing"), false),
        ("running", json!({"state": {"running": {}}}), false),
        ("an end for the first time", ended(0), false),
        (
            "many restarts long ago",
            json!({"restartCount": 9, "state": {"running": {}}}),
            false,
        ),
    ]
}

fn pod(status: &Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "status": status})
}

/// L-STAT-05: whichever container is broken, native sidecars under init containers included, it is seen.
#[test]
fn a_broken_container_is_seen_in_every_list() {
    let now = "2026-01-01T00:10:00Z".parse().unwrap();
    let broken = |status: Value| {
        health::of_pods([Rc::new(entry(Kind::Pod, &pod(&status)))].iter(), now).broken
    };
    for (what, state, fault) in states() {
        for list in ["initContainerStatuses", "containerStatuses"] {
            let fine = json!({"state": {"running": {}}});
            let found = broken(json!({"phase": "Pending", list: [fine, state]}));
            assert_eq!(found.is_some(), fault, "{what} in {list}: {found:?}");
        }
    }
    assert!(broken(json!({"phase": "Failed", "reason": "Evicted"})).is_some());
    let unschedulable = |at: &str| {
        json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": at,
        }]})
    };
    assert!(broken(unschedulable("2026-01-01T00:00:00Z")).is_some());
    assert!(
        broken(unschedulable("2026-01-01T00:09:55Z")).is_none(),
        "volumes are bound within seconds"
    );
}

/// L-STAT-05: the two reasons of an image that cannot be had alternate; the status says Degraded once and stays so.
#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_had_makes_no_status_flap() {
    let bed = Bed::new(88);
    let of = bed.create(MINIMAL);
    let end = bed.life(async |_| {
        bed.healthy(&of).await;
        bed.silence().await;
        let (pod, _) = bed.server.all(Kind::Pod)[0].clone();
        bed.server.with(|state| {
            state.held.insert(pod.clone());
        });
        let mut mark = 0;
        for round in 0..10 {
            let reason = if round % 2 == 0 {
                "ErrImagePull"
            } else {
                "ImagePullBackOff"
            };
            bed.server.edit(&pod, |object| {
                object["status"] = json!({
                    "phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}],
                    "initContainerStatuses": [{"state": {"waiting": {"reason": reason}}}],
                });
            });
            tokio::time::sleep(Duration::from_secs(20)).await;
            if round == 0 {
                mark = bed.server.mark();
            }
        }
        let shard = bed.server.get(&bed.shard()).unwrap();
        assert_eq!(shard["status"]["phase"], "Degraded");
        let writes = bed.server.writes_since(mark);
        assert!(
            writes.is_empty(),
            "{} writes, the last {:?}",
            writes.len(),
            writes.last()
        );
    });
    assert_eq!(end.await, End::Done(()));
}

// ---- L-GIT ----

/// L-GIT-01: what the user wrote stays as it is, so that applying the manifest again changes nothing.
#[tokio::test(start_paused = true)]
async fn the_users_manifest_is_never_completed() {
    for shape in [MINIMAL, THREE_CELLS] {
        let bed = Bed::new(89);
        let of = bed.create(shape);
        let before = bed.server.get(&of).unwrap();
        let end = bed.life(async |_| {
            bed.healthy(&of).await;
            bed.silence().await;
        });
        assert_eq!(end.await, End::Done(()));
        let after = bed.server.get(&of).unwrap();
        assert_eq!(after["spec"], before["spec"]);
        assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
        assert_eq!(
            after["metadata"]["finalizers"],
            before["metadata"]["finalizers"]
        );
        assert_eq!(
            after["metadata"]["generation"],
            before["metadata"]["generation"]
        );
    }
}

/// L-GIT-06: the project annotation is an input though it changes no generation: it reaches every child and every pod, in place.
#[tokio::test(start_paused = true)]
async fn the_project_annotation_reaches_children_and_pods_in_place() {
    const PROJECT: &str = "multigres.com/project-ref";
    let bed = Bed::new(90);
    let of = bed.create(MINIMAL);
    let end = bed.life(async |_| {
        bed.healthy(&of).await;
        bed.silence().await;
        let uids = |kind| {
            let all = bed.server.all(kind).into_iter();
            all.map(|(key, object)| (key, object["metadata"]["uid"].clone()))
                .collect::<Vec<_>>()
        };
        let before = uids(Kind::Pod);
        bed.server.edit(&of, |object| {
            object["metadata"]["annotations"][PROJECT] = "blue".into()
        });
        bed.silence().await;
        for kind in [
            Kind::Cell,
            Kind::TableGroup,
            Kind::TopoServer,
            Kind::Shard,
            Kind::Pod,
        ] {
            for (key, object) in bed.server.all(kind) {
                assert_eq!(object["metadata"]["annotations"][PROJECT], "blue", "{key}");
            }
        }
        assert_eq!(uids(Kind::Pod), before);
        assert_eq!(
            condition(&bed, &bed.shard(), "RollingUpdate")["status"],
            "False"
        );
    });
    assert_eq!(end.await, End::Done(()));
}

// ---- L-DEL ----

/// L-DEL-05: a cluster deleted and made again under its name, at every step of the teardown: the new one never meets the old
/// one's state, and ends as if there had been none.
#[tokio::test(start_paused = true)]
async fn a_cluster_made_again_under_its_name_ends_as_the_first() {
    let mut first = None;
    for after in [0, 1, 50, 101, 150, 205, 260, 310, 1000] {
        let bed = Bed::new(91);
        let of = bed.create(MINIMAL);
        let body = bed.server.get(&of).unwrap();
        let end = bed.life(async |_| {
            bed.silence().await;
            let end = bed.server.peek(essence);
            bed.server.delete(&of);
            tokio::time::sleep(Duration::from_millis(after)).await;
            bed.server
                .add(&of, json!({"metadata": {}, "spec": body["spec"]}));
            bed.healthy(&of).await;
            bed.silence().await;
            assert_same(
                first.get_or_insert(end),
                &bed.server.peek(essence),
                &format!("made again after {after} ms"),
            );
        });
        assert_eq!(end.await, End::Done(()), "made again after {after} ms");
    }
}

/// Unknown is not gone: a pod of a workload that a list leaves out may only have lost its label, and is looked up.
#[tokio::test(start_paused = true)]
async fn a_workloads_pod_that_leaves_the_watch_is_looked_up() {
    let bed = Bed::new(97);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.healthy(&cluster).await;
        bed.silence().await;
        let (_, set) = bed.server.all(Kind::StatefulSet).remove(0);
        let pod = key(Kind::Pod, "etcd-0");
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set["metadata"]["name"],
            "uid": set["metadata"]["uid"], "controller": true,
        });
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        bed.server.add(
            &pod,
            json!({"metadata": {"labels": labels, "ownerReferences": [owner]}, "spec": {}, "status": {"phase": "Running"}}),
        );
        bed.silence().await;
        let known = life.known(Kind::Pod).await;
        bed.server.edit(&pod, |object| {
            let labels = object["metadata"]["labels"].as_object_mut().unwrap();
            labels.remove(MANAGED_BY.0).unwrap();
        });
        bed.silence().await;
        assert_eq!(life.known(Kind::Pod).await, known, "{pod}");
    });
    assert_eq!(end.await, End::Done(()));
}
