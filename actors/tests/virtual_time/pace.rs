//! How fast: one slow object delays nobody else, and the window follows the server.

use std::time::Duration;

use actors::object::Kind;
use serde_json::Value;

use crate::bed::{Bed, End, Life};
use crate::server::Fault;
use crate::shapes::{MINIMAL, THREE_CELLS, cluster};

/// Requests on one object hang for ever: everything else comes up as fast as without it.
#[tokio::test(start_paused = true)]
async fn an_object_whose_requests_hang_delays_only_itself() {
    let bed = Bed::new(50);
    bed.create(MINIMAL);
    bed.server.fail(Fault::Hang, usize::MAX, |request| {
        request.key.as_ref().is_some_and(|key| {
            &*key.name == "minimal-multiadmin-web" && key.kind == Kind::Deployment
        })
    });
    let end = bed.life(async |life| {
        bed.server
            .until("the shard is Healthy", |state| {
                let mut shards = state
                    .objects
                    .iter()
                    .filter(|(key, _)| key.kind == Kind::Shard);
                shards.any(|(_, object)| object["status"]["phase"] == "Healthy")
            })
            .await;
        assert!(
            bed.now().as_second() - 1_767_225_600 < 3,
            "it took until {}",
            bed.now()
        );
        let window = life.process().await["window"].clone();
        assert!(window["size"].as_f64().unwrap() >= 1.0);
        bed.server.with(|state| state.rules.clear());
        bed.server
            .until("the cluster is Healthy", |state| {
                let mut clusters = state
                    .objects
                    .iter()
                    .filter(|(key, _)| key.kind == Kind::MultigresCluster);
                clusters.any(|(_, object)| object["status"]["phase"] == "Healthy")
            })
            .await;
    });
    assert_eq!(end.await, End::Done(()));
}

async fn size(life: &Life<'_>) -> f64 {
    life.process().await["window"]["size"].as_f64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_window_shrinks_while_the_server_says_too_many_and_recovers() {
    let bed = Bed::new(51);
    bed.password();
    for number in 0..5 {
        let (mut key, mut body) = cluster(THREE_CELLS);
        key.name = format!("cluster-{number}").into();
        body["metadata"]["name"] = Value::from(&*key.name);
        bed.server.add(&key, body);
    }
    let end = bed.life(async |life| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = size(life).await;
        bed.server
            .fail(Fault::Refuse(429), usize::MAX, |request| request.writes());
        tokio::time::sleep(Duration::from_secs(10)).await;
        let least = size(life).await;
        assert!(least < before / 2.0 && least >= 1.0, "{before} → {least}");
        bed.server.with(|state| state.rules.clear());
        bed.silence().await;
        for (key, object) in bed.server.all(Kind::MultigresCluster) {
            assert_eq!(object["status"]["phase"], "Healthy", "{key}");
        }
        let after = size(life).await;
        assert!(after > before, "{least} → {after}, once {before}");
    });
    assert_eq!(end.await, End::Done(()));
}
