//! A read that waits for its turn is not lost with the one who asked, nor with the lease: nobody would ever ask again.

use std::time::Duration;

use actors::object::{Key, Kind};
use actors::operator::Leadership;
use actors::supervisor::Inflow;
use serde_json::Value;

use crate::bed::{Bed, End, Life};
use crate::server::{Fault, Request};
use crate::shapes::{MINIMAL, PASSWORD, cluster, key};
use crate::watches::Travel;

/// Two clusters with one password Secret. It changes while no request can be sent, since reads of everything else hang, so
/// its read waits. Returns the cluster on whose behalf.
async fn a_read_waits(bed: &Bed) -> Key {
    bed.create(MINIMAL);
    let (mut second, mut body) = cluster(MINIMAL);
    second.name = "second".into();
    body["metadata"]["name"] = "second".into();
    bed.server.add(&second, body);
    bed.silence().await;
    let uid = |(_, shard): &(Key, Value)| shard["metadata"]["uid"].to_string();
    let (_, shard) = bed
        .server
        .all(Kind::Shard)
        .into_iter()
        .min_by_key(uid)
        .unwrap();
    let asks = shard["metadata"]["labels"]["multigres.com/cluster"]
        .as_str()
        .unwrap()
        .to_owned();
    bed.server.fail(Fault::Hang, usize::MAX, |request| {
        request.method == "GET"
            && request
                .key
                .as_ref()
                .is_some_and(|key| &*key.name != PASSWORD)
    });
    let mut all = bed.server.peek(|state| state.objects.clone());
    all.retain(|key, object| {
        let instance = object["metadata"]["labels"]["app.kubernetes.io/instance"].as_str();
        !key.kind.is_custom() && instance.is_some_and(|instance| instance != asks)
    });
    for key in all.keys() {
        bed.server.edit(key, |object| {
            drop(object["metadata"].as_object_mut().unwrap().remove("labels"))
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    bed.server.edit(&key(Kind::Secret, PASSWORD), |object| {
        object["data"]["password"] = "bmV3".into()
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!is_read(bed), "it was read at once: nothing waits");
    key(Kind::MultigresCluster, &asks)
}

/// The Secret was read since its last change.
fn is_read(bed: &Bed) -> bool {
    let secret = key(Kind::Secret, PASSWORD);
    let version = bed.server.get(&secret).unwrap()["metadata"]["resourceVersion"].clone();
    let changed: u64 = version.as_str().unwrap().parse().unwrap();
    let read = |request: &Request| {
        request.method == "GET"
            && request.key.as_ref() == Some(&secret)
            && request.version >= changed
    };
    bed.server.since(0).iter().any(read)
}

async fn lead(life: &Life<'_>, leads: bool) {
    let now = if leads {
        Bed::leader()
    } else {
        Leadership::Standby
    };
    life.leadership.send_replace(now);
    life.inflow.send(Inflow::Leadership(leads)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_survives_the_loss_of_leadership() {
    let bed = Bed::new(46);
    let end = bed.life(async |life| {
        a_read_waits(&bed).await;
        lead(life, false).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        bed.server.with(|state| state.rules.clear());
        lead(life, true).await;
        bed.silence().await;
        assert!(is_read(&bed));
    });
    assert_eq!(end.await, End::Done(()));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_survives_the_one_who_asked() {
    let bed = Bed::new(47);
    let end = bed.life(async |life| {
        let asks = a_read_waits(&bed).await;
        // The owner's end is heard before its children's.
        bed.travel(Travel {
            most: Duration::from_millis(1),
            ..Travel::default()
        });
        bed.server.delete(&asks);
        tokio::time::sleep(Duration::from_millis(500)).await;
        bed.server.with(|state| state.rules.clear());
        bed.silence().await;
        assert!(is_read(&bed));
        // Children that left the watch before their owner did are gone too, actors and all.
        let of_the_dead = |actor: &Value| {
            actor["object"]
                .as_str()
                .is_some_and(|object| object.contains(&format!("/{}", asks.name)))
        };
        let actors = life.actors().await;
        assert!(!actors.iter().any(of_the_dead), "{actors:?}");
        let objects = bed.server.peek(|state| state.objects.clone());
        let left = objects.iter().find(|(_, object)| {
            object["metadata"]["labels"]["app.kubernetes.io/instance"] == *asks.name
        });
        assert!(left.is_none(), "{left:?}");
    });
    assert_eq!(end.await, End::Done(()));
}
