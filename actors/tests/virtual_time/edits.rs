//! Edits of a living cluster: done wherever no pool pod has to go, told where one would have to.

use actors::object::{Key, Kind};
use serde_json::{Value, json};

use crate::bed::{Bed, End};
use crate::server::Fault;
use crate::shapes::{MINIMAL, THREE_CELLS};
use crate::watches::Travel;

/// Each of these needs something new to become Ready.
/// An edit of a manifest.
type Edit = fn(&mut Value);

fn growing() -> Vec<(&'static str, Edit)> {
    vec![
        ("more pods", |spec| {
            spec["databases"] = pools(&json!({"default": pool(&["zone-a"], 4)}))
        }),
        ("another pool", |spec| {
            spec["databases"] =
                pools(&json!({"default": pool(&["zone-a"], 2), "reports": pool(&["zone-a"], 1)}));
        }),
        ("more gateways", |spec| {
            spec["cells"][0]["spec"] = json!({"multigateway": {"replicas": 3}})
        }),
        ("another cell", |spec| {
            spec["cells"] = json!([{"name": "zone-a", "zoneId": "us-central1-a"}, {"name": "zone-b", "zoneId": "us-central1-b"}]);
        }),
        ("more admins", |spec| {
            spec["multiadmin"] = json!({"spec": {"replicas": 2}})
        }),
    ]
}

pub fn pool(cells: &[&str], replicas: i64) -> Value {
    json!({"type": "readWrite", "cells": cells, "replicasPerCell": replicas, "storage": {"size": "1Gi"}})
}

/// The only database, with these pools.
pub fn pools(pools: &Value) -> Value {
    json!([{"name": "postgres", "default": true, "tablegroups": [{
        "name": "default", "default": true,
        "shards": [{"name": "0-inf", "spec": {"pools": pools}}],
    }]}])
}

/// The invariant that judges each status does the work: nobody is Healthy for a spec whose pods were never Ready
/// (`lessons.md` L-STAT-02), however late the news is.
#[tokio::test(start_paused = true)]
async fn nobody_is_healthy_for_a_new_spec_before_its_pods_are() {
    for seconds in [0, 5] {
        for (what, edit) in growing() {
            let bed = Bed::new(30);
            let cluster = bed.create(MINIMAL);
            let end = bed.life(async |_| {
                bed.healthy(&cluster).await;
                bed.silence().await;
                bed.travel(Travel {
                    most: std::time::Duration::from_secs(seconds).max(Travel::default().most),
                    ..Travel::default()
                });
                bed.server
                    .edit(&cluster, |object| edit(&mut object["spec"]));
                bed.healthy(&cluster).await;
                bed.silence().await;
                let status = bed.server.get(&cluster).unwrap()["status"].clone();
                assert_eq!(status["phase"], "Healthy", "{what}");
            });
            assert_eq!(end.await, End::Done(()), "{what}");
        }
    }
}

/// What somebody else made of a workload is not what was asked for, however ready it is; a mere label is no reason.
#[tokio::test(start_paused = true)]
async fn nobody_is_healthy_while_somebody_elses_spec_is_in_force() {
    let bed = Bed::new(32);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |_| {
        bed.healthy(&cluster).await;
        bed.silence().await;
        let workloads = [Kind::StatefulSet, Kind::Deployment]
            .into_iter()
            .flat_map(|kind| bed.server.all(kind));
        for (workload, before) in workloads.collect::<Vec<_>>() {
            let key = workload.clone();
            bed.server.fail(Fault::Refuse(500), 4, move |request| {
                request.writes() && request.key.as_ref() == Some(&key)
            });
            bed.server
                .edit(&workload, |object| object["spec"]["replicas"] = 7.into());
            bed.phase(&cluster, "Progressing").await;
            bed.healthy(&cluster).await;
            bed.silence().await;
            let after = bed.server.get(&workload).unwrap();
            assert_eq!(after["spec"], before["spec"], "{workload}");
            let mark = bed.server.mark();
            bed.server.edit(&workload, |object| {
                object["metadata"]["labels"]["app.kubernetes.io/name"] = "other".into();
            });
            bed.silence().await;
            let writes = bed.server.writes_since(mark);
            assert_eq!(writes.len(), 1, "{workload}: {writes:?}");
        }
    });
    assert_eq!(end.await, End::Done(()));
}

fn held(bed: &Bed, key: &Key) -> String {
    let object = bed.server.get(key).unwrap();
    let list = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let of = |kind: &str| {
        list.iter()
            .find(|c| c["type"] == kind && c["status"] == "True")
            .cloned()
    };
    [of("RemovalHeld"), of("RollingUpdate")]
        .into_iter()
        .flatten()
        .map(|condition| condition["message"].as_str().unwrap().to_owned())
        .collect()
}

/// What would take a pod or a volume away is not done, and named where the user looks.
#[tokio::test(start_paused = true)]
async fn what_would_take_a_pod_away_is_told_and_not_done() {
    let shrinking: [(&str, Edit, &str); 4] = [
        (
            "fewer pods",
            |spec| *replicas(spec, "reports") = 0.into(),
            "-reports-",
        ),
        (
            "fewer cells of a pool",
            |spec| spec_pools(spec)["main"]["cells"] = json!(["zone-a"]),
            "-main-",
        ),
        (
            "a pool less",
            |spec| drop(spec_pools(spec).as_object_mut().unwrap().remove("reports")),
            "-reports-",
        ),
        (
            "other resources",
            |spec| {
                spec_pools(spec)["main"]["postgres"]["resources"]["requests"]["cpu"] =
                    "750m".into();
            },
            "-main-",
        ),
    ];
    for (what, edit, named) in shrinking {
        let bed = Bed::new(31);
        let cluster = bed.create(THREE_CELLS);
        let end = bed.life(async |_| {
            bed.healthy(&cluster).await;
            bed.silence().await;
            let before = pods_and_claims(&bed);
            bed.server
                .edit(&cluster, |object| edit(&mut object["spec"]));
            bed.silence().await;
            assert_eq!(pods_and_claims(&bed), before, "{what}");
            let told = held(&bed, &bed.shard());
            assert!(told.contains(named), "{what}: {told:?}");
        });
        assert_eq!(end.await, End::Done(()), "{what}");
    }
}

fn spec_pools(spec: &mut Value) -> &mut Value {
    &mut spec["databases"][0]["tablegroups"][0]["shards"][0]["spec"]["pools"]
}

fn replicas<'a>(spec: &'a mut Value, pool: &str) -> &'a mut Value {
    &mut spec_pools(spec)[pool]["replicasPerCell"]
}

fn pods_and_claims(bed: &Bed) -> Vec<(Key, Value)> {
    let uid = |(key, object): (Key, Value)| (key, object["metadata"]["uid"].clone());
    let all = [Kind::Pod, Kind::PersistentVolumeClaim]
        .into_iter()
        .flat_map(|kind| bed.server.all(kind));
    all.map(uid).collect()
}
