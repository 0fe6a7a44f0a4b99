//! Volumes under our names: whose they are is never guessed.

use std::time::Duration;

use actors::object::{Key, Kind, MANAGED_BY};
use serde_json::{Value, json};

use crate::bed::{Bed, End};
use crate::shapes::{MINIMAL, key};

const CLUSTER: &str = "multigres.com/cluster";

fn claims(bed: &Bed) -> Vec<Key> {
    let all = bed.server.all(Kind::PersistentVolumeClaim).into_iter();
    all.map(|(key, _)| key).collect()
}

/// The pods that mount a claim.
fn pods_on(bed: &Bed, claim: &Key) -> Vec<Key> {
    let mounts = |pod: &Value| {
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        volumes
            .iter()
            .any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim.name.as_ref())
    };
    let pods = bed.server.all(Kind::Pod).into_iter();
    let pods = pods.filter(|(_, pod)| mounts(pod));
    pods.map(|(key, _)| key).collect()
}

fn stalled(bed: &Bed) -> String {
    let shard = bed.server.get(&bed.shard()).unwrap();
    let list = shard["status"]["conditions"].as_array().unwrap();
    let condition = list.iter().find(|c| c["type"] == "Stalled").unwrap();
    condition["message"].as_str().unwrap().to_owned()
}

/// A cluster that was there for a while, and is without operator now.
async fn settled(policy: &str) -> (Bed, Key) {
    let bed = Bed::new(95);
    let cluster = bed.create(MINIMAL);
    bed.server.edit(&cluster, |object| {
        object["spec"]["pvcDeletionPolicy"] = json!({"whenDeleted": policy});
    });
    let end = bed.life(async |_| bed.silence().await);
    assert_eq!(end.await, End::Done(()));
    assert_eq!(claims(&bed).len(), 3);
    (bed, cluster)
}

fn strip(bed: &Bed, claim: &Key) {
    bed.server.edit(claim, |object| {
        object["metadata"].as_object_mut().unwrap().remove("labels");
    });
}

/// A retained volume lost its labels while nobody looked: neither used, deleted nor replaced, but told with the remedy. The
/// remedy brings it back, with its data.
#[tokio::test(start_paused = true)]
async fn a_kept_volume_that_lost_its_labels_unseen_is_told_and_comes_back_by_the_remedy() {
    for number in 0..3 {
        for pods_live in [true, false] {
            let (bed, cluster) = settled("Retain").await;
            let claim = claims(&bed)[number].clone();
            let before = bed.server.get(&claim).unwrap();
            let pods = pods_on(&bed, &claim);
            strip(&bed, &claim);
            if !pods_live {
                pods.iter().for_each(|pod| bed.server.delete(pod));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let end = bed.life(async |_| {
                let mark = bed.server.mark();
                tokio::time::sleep(Duration::from_secs(120)).await;
                let told = stalled(&bed);
                let remedy = format!(
                    "kubectl label pvc -n default {} {CLUSTER}=minimal",
                    claim.name
                );
                assert!(told.contains(&remedy), "{claim}: {told}");
                let touched = |write: &crate::server::Request| {
                    write.changed && write.key.as_ref() == Some(&claim)
                };
                assert!(!bed.server.writes_since(mark).iter().any(touched));
                let left = if pods_live { pods.clone() } else { Vec::new() };
                assert_eq!(pods_on(&bed, &claim), left, "{claim}");
                bed.server.edit(&claim, |object| {
                    object["metadata"]["labels"] = json!({CLUSTER: "minimal"});
                });
                bed.healthy(&cluster).await;
                bed.silence().await;
                let after = bed.server.get(&claim).unwrap();
                assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
                assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
                assert_eq!(pods_on(&bed, &claim), pods, "{claim}");
            });
            assert_eq!(end.await, End::Done(()));
        }
    }
}

/// An owner is proof: its UID is not guessed.
#[tokio::test(start_paused = true)]
async fn a_volume_with_its_owner_gets_its_labels_back() {
    let (bed, cluster) = settled("Delete").await;
    let before: Vec<Value> = claims(&bed)
        .iter()
        .map(|claim| bed.server.get(claim).unwrap()["metadata"]["labels"].clone())
        .collect();
    claims(&bed).iter().for_each(|claim| strip(&bed, claim));
    let end = bed.life(async |_| {
        bed.silence().await;
        bed.healthy(&cluster).await;
        for (claim, labels) in claims(&bed).iter().zip(&before) {
            let now = bed.server.get(claim).unwrap();
            assert_eq!(&now["metadata"]["labels"], labels, "{claim}");
        }
    });
    assert_eq!(end.await, End::Done(()));
}

/// No pod is made on a volume of somebody else, whatever comes first.
#[tokio::test(start_paused = true)]
async fn no_pod_is_made_on_a_volume_of_somebody_else() {
    let (bed, _) = settled("Retain").await;
    let names = claims(&bed);
    for name in names {
        let bed = Bed::new(96);
        let claim = key(Kind::PersistentVolumeClaim, &name.name);
        let labels = json!({CLUSTER: "another", MANAGED_BY.0: "somebody"});
        bed.server
            .add(&claim, json!({"metadata": {"labels": labels}, "spec": {}}));
        let cluster = bed.create(MINIMAL);
        let end = bed.life(async |_| {
            tokio::time::sleep(Duration::from_secs(120)).await;
            assert_eq!(pods_on(&bed, &claim), Vec::<Key>::new(), "{claim}");
            let posted = |write: &crate::server::Request| {
                write.method == "POST" && write.body.to_string().contains(&*claim.name)
            };
            let made = bed.server.writes_since(0).into_iter().filter(posted);
            let pods = made.filter(|write| write.key.as_ref().unwrap().kind == Kind::Pod);
            assert_eq!(pods.count(), 0, "{claim}");
            let told = stalled(&bed);
            assert!(
                told.contains(&*claim.name) && told.contains("not controlled by"),
                "{told}"
            );
            bed.server.delete(&claim);
            bed.healthy(&cluster).await;
        });
        assert_eq!(end.await, End::Done(()), "{claim}");
    }
}
