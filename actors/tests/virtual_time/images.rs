//! News of default images: told when the record or the condition that tells of them changes, and not again.

use actors::object::{Key, Kind};
use serde_json::{Value, json};

use crate::bed::{Bed, End};
use crate::server::Fault;
use crate::shapes::MINIMAL;

const RECORD: &str = "multigres.com/applied-images";

/// Reasons of the events sent since a mark, phases apart.
fn told(bed: &Bed, mark: u64) -> Vec<String> {
    let events = bed.server.since(mark).into_iter();
    let reasons = events.filter(|request| request.body["kind"] == "Event");
    reasons
        .map(|event| event.body["reason"].as_str().unwrap().to_owned())
        .filter(|reason| reason != "PhaseChange")
        .collect()
}

/// The record names another image of the gateway than the operator has.
fn older(bed: &Bed, cluster: &Key) {
    let key = cluster.clone();
    let record = bed.server.get(&key).unwrap()["metadata"]["annotations"][RECORD].clone();
    let mut set: Value = serde_json::from_str(record.as_str().unwrap()).unwrap();
    set["multigateway"] = "registry/older:1".into();
    bed.server.edit(cluster, |object| {
        object["metadata"]["annotations"][RECORD] = set.to_string().into();
    });
}

#[tokio::test(start_paused = true)]
async fn new_images_are_told_once_when_they_are_on_record() {
    let bed = Bed::new(97);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.silence().await;
        let mark = bed.server.mark();
        // The first write of the record is refused: it is told of the second.
        let key = cluster.clone();
        bed.server.fail(Fault::Refuse(409), 1, move |request| {
            request.writes() && !request.status && request.key.as_ref() == Some(&key)
        });
        older(&bed, &cluster);
        bed.silence().await;
        assert_eq!(told(&bed, mark), ["ImagesUpdated"]);
        life.relist().await;
        assert_eq!(told(&bed, mark), ["ImagesUpdated"]);
        let mark = bed.server.mark();
        bed.server.edit(&cluster, |object| {
            object["metadata"]["annotations"][RECORD] = "{".into();
        });
        bed.silence().await;
        assert_eq!(told(&bed, mark), ["ImagesRecordInvalid"]);
    });
    assert_eq!(end.await, End::Done(()));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_acknowledgement_is_told_once_for_each_that_is_wrong() {
    let bed = Bed::new(98);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.silence().await;
        let acknowledge = |revision: &str| {
            bed.server.edit(&cluster, |object| {
                object["spec"]["imageUpdatePolicy"] =
                    json!({"strategy": "lazy", "acknowledgedRevision": revision});
            });
        };
        acknowledge("");
        older(&bed, &cluster);
        bed.silence().await;
        let mark = bed.server.mark();
        acknowledge("one");
        bed.silence().await;
        life.relist().await;
        assert_eq!(told(&bed, mark), ["ImagesRevisionMismatch"]);
        acknowledge("two");
        bed.silence().await;
        assert_eq!(told(&bed, mark), ["ImagesRevisionMismatch"; 2]);
        acknowledge("");
        bed.silence().await;
        assert_eq!(told(&bed, mark).len(), 2);
    });
    // A new process says nothing that was said.
    assert_eq!(end.await, End::Done(()));
    let mark = bed.server.mark();
    bed.life(async |_| bed.silence().await).await;
    assert_eq!(told(&bed, mark), Vec::<String>::new());
}

/// Everything but the cluster itself, whose status tells of the newer images.
fn children(bed: &Bed) -> Vec<(Key, Value)> {
    let all = bed.server.peek(|state| state.objects.clone());
    all.into_iter()
        .filter(|(key, _)| key.kind != Kind::MultigresCluster)
        .collect()
}

/// L-GIT-02 "Images frozen in, or images rolling at once": a new operator changes no child of a lazy cluster by itself; once
/// acknowledged, its images are taken over.
#[tokio::test(start_paused = true)]
async fn an_upgrade_of_the_operator_alone_changes_no_child_of_a_lazy_cluster() {
    const NEWER: &str = "registry/newer:2";
    let mut bed = Bed::new(99);
    let cluster = bed.create(MINIMAL);
    let policy = |bed: &Bed, revision: &str| {
        bed.server.edit(&cluster, |object| {
            object["spec"]["imageUpdatePolicy"] =
                json!({"strategy": "lazy", "acknowledgedRevision": revision});
        });
    };
    policy(&bed, "");
    let end = bed.life(async |_| bed.silence().await);
    assert_eq!(end.await, End::Done(()));
    let before = children(&bed);
    for component in ["MULTIGATEWAY", "MULTIPOOLER"] {
        let variable = format!("MULTIGRES_IMAGE_{component}");
        bed.variables.insert(variable, NEWER.to_owned());
    }
    let end = bed.life(async |_| {
        bed.silence().await;
        assert_eq!(children(&bed), before);
        let images = bed.server.get(&cluster).unwrap()["status"]["images"].clone();
        policy(&bed, images["availableRevision"].as_str().unwrap());
        bed.silence().await;
        let gateways = bed.server.all(Kind::Deployment).into_iter();
        let newer = gateways.filter(|(_, object)| object["spec"].to_string().contains(NEWER));
        assert_eq!(newer.count(), 1, "the gateway has the newer image");
    });
    assert_eq!(end.await, End::Done(()));
}
