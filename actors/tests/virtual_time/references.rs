//! Objects that the user names in the spec, where their names are not what they seem.

use std::time::Duration;

use actors::object::{Key, Kind, MANAGED_BY};
use actors::supervisor::Inflow;
use serde_json::{Value, json};

use crate::bed::{Bed, End};
use crate::shapes::{MINIMAL, PASSWORD, cluster, key};
use crate::watches::Travel;

/// The two Secrets that a Shard makes for pgBackRest: authority and leaf.
const AUTHORITY: &str = "minimal-postgres-default-0-inf-1e3c045c-pgbackrest-ca";
const LEAF: &str = "minimal-postgres-default-0-inf-1e3c045c-pgbackrest-tls";

/// A cluster whose password is in this Secret.
fn with_password(bed: &Bed, name: &str, of: &str) -> Key {
    let (cluster, mut body) = cluster(MINIMAL);
    body["spec"]["postgresPasswordSecretRef"] = json!({"name": name, "key": of});
    bed.server.add(&cluster, body);
    cluster
}

fn stalled(bed: &Bed) -> String {
    let shard = bed.server.get(&bed.shard()).unwrap();
    let list = shard["status"]["conditions"].as_array().unwrap();
    let condition = list.iter().find(|c| c["type"] == "Stalled").unwrap();
    condition["message"].as_str().unwrap().to_owned()
}

fn password(text: &str) -> Value {
    json!({"data": {"password": text}})
}

/// What we are told when we want to write is about our own object, though the user refers to one of that name: it is told that
/// the name is taken, and not tried without end. The user's Secret serves for what the user named it.
#[tokio::test(start_paused = true)]
async fn a_users_secret_under_a_name_of_ours_is_told_and_left_alone() {
    for name in [AUTHORITY, LEAF] {
        let bed = Bed::new(90);
        let secret = key(Kind::Secret, name);
        bed.server.add(&secret, password("eA=="));
        let cluster = with_password(&bed, name, "password");
        let end = bed.life(async |_| {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let told = stalled(&bed);
            assert!(told.contains(name) && told.contains("exists"), "{told}");
            let mark = bed.server.mark();
            tokio::time::sleep(Duration::from_secs(600)).await;
            let calls = bed.server.since(mark);
            assert!(calls.len() < 100, "{} calls in ten minutes", calls.len());
            assert!(calls.iter().all(|call| !call.writes()));
            bed.server
                .edit(&secret, |object| object["data"] = json!({"password": ""}));
            tokio::time::sleep(Duration::from_secs(60)).await;
            let shard = bed.server.get(&bed.shard()).unwrap();
            let status = shard["status"].to_string();
            assert!(status.contains("is empty"), "{status}");
            bed.server.edit(&cluster, |object| {
                object["spec"]["postgresPasswordSecretRef"]["name"] = "another".into();
            });
            bed.server
                .add(&key(Kind::Secret, "another"), password("eA=="));
            bed.server.delete(&secret);
            bed.healthy(&cluster).await;
            let ours = bed.server.get(&secret).unwrap();
            assert_eq!(ours["metadata"]["labels"][MANAGED_BY.0], MANAGED_BY.1);
        });
        assert_eq!(end.await, End::Done(()), "{name}");
    }
}

/// One of our own as reference: it is made once, and what is known of it is known to whoever refers to it.
#[tokio::test(start_paused = true)]
async fn a_secret_of_ours_that_the_user_refers_to_is_made_once() {
    let bed = Bed::new(91);
    let cluster = with_password(&bed, LEAF, "tls.key");
    let end = bed.life(async |_| {
        bed.healthy(&cluster).await;
        bed.silence().await;
        let secret = key(Kind::Secret, LEAF);
        let made = bed
            .server
            .writes_since(0)
            .into_iter()
            .filter(|write| write.key.as_ref() == Some(&secret));
        assert_eq!(made.count(), 1);
        bed.server.delete(&secret);
        bed.silence().await;
        assert!(bed.server.get(&secret).is_some(), "it is made again");
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
}

/// A user's Secret with our label is followed by our own watch, and its changes are noticed all the same; with the label
/// on or off.
#[tokio::test(start_paused = true)]
async fn a_users_secret_that_carries_our_label_is_followed() {
    let bed = Bed::new(92);
    let secret = key(Kind::Secret, "mine");
    let mut body = password("eA==");
    body["metadata"] = json!({"labels": {MANAGED_BY.0: MANAGED_BY.1}});
    bed.server.add(&secret, body);
    let cluster = with_password(&bed, "mine", "password");
    let end = bed.life(async |_| {
        bed.healthy(&cluster).await;
        for labels in [json!({MANAGED_BY.0: MANAGED_BY.1}), json!({})] {
            bed.server.edit(&secret, |object| {
                object["metadata"]["labels"] = labels.clone();
            });
            bed.silence().await;
            bed.server
                .edit(&secret, |object| object["data"] = json!({"password": ""}));
            bed.silence().await;
            assert!(stalled(&bed).contains("is empty"), "{labels}");
            bed.server.edit(&secret, |object| {
                object["data"] = json!({"password": "eA=="})
            });
            bed.healthy(&cluster).await;
        }
        bed.server.delete(&secret);
        bed.silence().await;
        assert!(stalled(&bed).contains("does not exist"));
        let of_secret = |write: &crate::server::Request| write.key.as_ref() == Some(&secret);
        assert!(!bed.server.writes_since(0).iter().any(of_secret));
    });
    assert_eq!(end.await, End::Done(()));
}

/// A watch that was interrupted for too long starts over with a list, which tells of no deletion.
#[tokio::test(start_paused = true)]
async fn a_secret_that_went_while_its_watch_was_interrupted_is_missed() {
    let bed = Bed::new(93);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.healthy(&cluster).await;
        bed.silence().await;
        let list = async |named: bool| {
            let mark = bed.server.mark();
            let secret = key(Kind::Secret, PASSWORD);
            let mut news = vec![Inflow::ForeignListing(Kind::Secret)];
            news.extend(named.then_some(Inflow::Foreign(secret, Some(1))));
            news.push(Inflow::ForeignListed(Kind::Secret));
            for news in news {
                life.inflow.send(news).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            bed.server.since(mark).len()
        };
        assert_eq!(list(true).await, 0, "what the list names is not read");
        let never = Duration::from_secs(24 * 3600);
        bed.travel(Travel {
            least: never,
            most: never,
            ..Travel::default()
        });
        bed.server.delete(&key(Kind::Secret, PASSWORD));
        assert!(list(false).await > 0);
        assert!(
            stalled(&bed).contains("does not exist"),
            "{}",
            stalled(&bed)
        );
    });
    assert_eq!(end.await, End::Done(()));
}
