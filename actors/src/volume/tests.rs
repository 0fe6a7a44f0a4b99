use serde_json::json;

use super::*;
use crate::fixtures::Bed;
use crate::labels;
use crate::object::{Key, Kind};
use crate::store::Trouble;

const CLAIM: Kind = Kind::PersistentVolumeClaim;

fn settled() -> Bed {
    let mut bed = Bed::new();
    bed.settle();
    assert_eq!(bed.names(CLAIM).len(), 3, "two pods and the backups");
    bed
}

fn owned(bed: &Bed) -> Vec<bool> {
    let owned = |key: &Key| {
        let owners = bed.objects[key]["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == "me"))
    };
    bed.names(CLAIM).iter().map(owned).collect()
}

/// The claim of the first pod.
fn first(bed: &Bed) -> Key {
    let data = |key: &Key| key.name.starts_with("data-") && key.name.ends_with("-0");
    bed.names(CLAIM).into_iter().find(data).unwrap()
}

fn request(bed: &Bed, key: &Key) -> String {
    let size = &bed.objects[key]["spec"]["resources"]["requests"]["storage"];
    size.as_str().unwrap().to_owned()
}

fn held(bed: &Bed) -> Option<(String, String)> {
    let condition = bed.condition("VolumeChangeHeld")?;
    let text = |field: &str| condition[field].as_str().unwrap().to_owned();
    Some((text("reason"), text("message")))
}

/// L-PVC-01: a claim has an owner exactly while the policy says Delete, in both directions and for every claim.
#[test]
fn ownership_follows_the_policy_of_every_claim() {
    let mut bed = settled();
    assert_eq!(owned(&bed), [true; 3]);
    // Two more claims that nobody wants: beyond the count, and of a pool that is gone.
    bed.shard["spec"]["pools"]["default"]["replicasPerCell"] = json!(3);
    bed.shard["spec"]["pools"]["other"] = json!({"cells": ["a"], "replicasPerCell": 1});
    bed.settle();
    bed.shard["spec"]["pools"]["default"]["replicasPerCell"] = json!(2);
    bed.shard["spec"]["pools"]
        .as_object_mut()
        .unwrap()
        .remove("other");
    bed.reports.clear();
    bed.settle();
    assert_eq!(owned(&bed), [true; 5]);

    bed.shard["spec"]["pvcDeletionPolicy"]["whenDeleted"] = json!("Retain");
    assert!(bed.settle() >= 5);
    assert_eq!(owned(&bed), [false; 5]);
    assert_eq!(bed.settle(), 0);

    // A pool's own policy goes before the Shard's: three claims of the pool.
    bed.shard["spec"]["pools"]["default"]["pvcDeletionPolicy"] = json!({"whenDeleted": "Delete"});
    bed.settle();
    assert_eq!(owned(&bed).iter().filter(|owned| **owned).count(), 3);
    bed.shard["spec"]["pvcDeletionPolicy"]["whenDeleted"] = json!("Delete");
    bed.settle();
    assert_eq!(owned(&bed), [true; 5]);
}

/// L-PVC-01: orphans never carry an owner; one that is wanted again is none, before a pod is made on it.
#[test]
fn an_orphan_has_no_owner_and_is_taken_back_before_its_pod() {
    let mut bed = settled();
    let claim = first(&bed);
    let pod = Key::new(
        Kind::Pod,
        &claim.namespace,
        claim.name.trim_start_matches("data-"),
    );
    bed.objects.remove(&pod);
    let meta = &mut bed.objects.get_mut(&claim).unwrap()["metadata"];
    meta["labels"][labels::ORPHAN_SINCE] = json!("20260101T000000Z");
    meta["ownerReferences"] = json!([]);
    let made: Vec<Key> = bed
        .pool_decides("default", "a")
        .actions
        .iter()
        .map(|planned| planned.action.lane().0.clone())
        .collect();
    assert_eq!(made, std::slice::from_ref(&claim), "the pod waits");
    bed.settle();
    assert!(
        bed.objects[&claim]["metadata"]["labels"]
            .get(labels::ORPHAN_SINCE)
            .is_none()
    );
    assert!(bed.objects.contains_key(&pod));

    bed.shard["spec"]["pools"]["default"]["replicasPerCell"] = json!(1);
    let surplus = bed
        .names(CLAIM)
        .into_iter()
        .find(|key| key.name.ends_with("-1"))
        .unwrap();
    let meta = &mut bed.objects.get_mut(&surplus).unwrap()["metadata"];
    meta["labels"][labels::ORPHAN_SINCE] = json!("20260101T000000Z");
    meta["ownerReferences"] = json!([]);
    bed.settle();
    assert_eq!(
        bed.objects[&surplus]["metadata"]["ownerReferences"],
        json!([])
    );
}

#[test]
fn a_claim_on_its_way_out_gets_no_new_pod() {
    let mut bed = settled();
    let claim = first(&bed);
    bed.objects.retain(|key, _| key.kind != Kind::Pod);
    bed.objects.get_mut(&claim).unwrap()["metadata"]["deletionTimestamp"] =
        json!("2026-11-24T00:00:00Z");
    bed.settle();
    assert_eq!(bed.names(Kind::Pod).len(), 1);
}

#[test]
fn a_larger_size_is_patched_in_place_once() {
    let mut bed = settled();
    bed.shard["spec"]["pools"]["default"]["storage"]["size"] = json!("2Gi");
    bed.shard["spec"]["backup"]["filesystem"]["storage"]["size"] = json!("20Gi");
    let uids: Vec<_> = bed
        .names(CLAIM)
        .iter()
        .map(|key| bed.objects[key]["metadata"]["uid"].clone())
        .collect();
    bed.settle();
    let sizes: Vec<String> = bed
        .names(CLAIM)
        .iter()
        .map(|key| request(&bed, key))
        .collect();
    assert_eq!(sizes, ["20Gi", "2Gi", "2Gi"]);
    let after: Vec<_> = bed
        .names(CLAIM)
        .iter()
        .map(|key| bed.objects[key]["metadata"]["uid"].clone())
        .collect();
    assert_eq!(uids, after);
    assert_eq!(held(&bed), None);
    bed.shard["spec"]["pools"]["default"]["storage"]["size"] = json!("2048Mi");
    assert_eq!(bed.settle(), 0, "the same size in other words");
}

#[test]
fn a_smaller_size_is_refused_with_a_condition() {
    let mut bed = settled();
    bed.shard["spec"]["pools"]["default"]["storage"]["size"] = json!("500Mi");
    bed.settle();
    let (reason, message) = held(&bed).unwrap();
    assert_eq!(reason, "ShrinkRefused");
    assert!(
        message.contains(&*first(&bed).name) && message.contains("1Gi or more"),
        "{message}"
    );
    assert_eq!(request(&bed, &first(&bed)), "1Gi");
    assert_eq!(
        bed.condition("Stalled").unwrap()["status"],
        "False",
        "the pods run on"
    );
    bed.shard["spec"]["pools"]["default"]["storage"]["size"] = json!("1Gi");
    bed.settle();
    assert_eq!(held(&bed), None);
}

#[test]
fn a_class_that_cannot_expand_is_told() {
    let mut bed = settled();
    bed.shard["spec"]["pools"]["default"]["storage"]["size"] = json!("2Gi");
    let refusal = Trouble {
        code: 403,
        message: "only dynamically provisioned pvc can be resized".to_owned(),
        failures: 5,
        retry_at: bed.now,
    };
    bed.troubles.insert(first(&bed), refusal);
    bed.settle();
    let (reason, message) = held(&bed).unwrap();
    assert_eq!(reason, "ExpansionRefused");
    assert!(
        message.contains("only dynamically provisioned"),
        "{message}"
    );
    assert_eq!(
        bed.condition("Stalled").unwrap()["status"],
        "False",
        "the pods run on"
    );
}

/// L-PVC-06, as far as this version goes: what an offline resize needs is wanted and told once, and nothing is taken away.
#[test]
fn a_filesystem_that_waits_for_a_restart_is_only_told() {
    let mut bed = settled();
    let claim = first(&bed);
    bed.objects.get_mut(&claim).unwrap()["status"] = json!({"conditions": [{
        "type": "FileSystemResizePending", "status": "True", "lastTransitionTime": "2026-11-24T00:00:00Z",
    }]});
    bed.settle();
    assert_eq!(held(&bed), None, "kubelets may do it under a running pod");
    let wake = bed.pool_decides("default", "a").wake.unwrap();
    assert_eq!(wake, bed.now + RESIZES_ONLINE);
    bed.now = wake;
    let pods = bed.names(Kind::Pod);
    bed.settle();
    assert_eq!(held(&bed).unwrap().0, "RestartNeeded");
    let wants = bed.pool_decides("default", "a").wants;
    assert_eq!(wants.len(), 1);
    assert_eq!(wants[0].reason, crate::action::WantReason::Resize);
    assert_eq!(bed.names(Kind::Pod), pods);
    assert_eq!(bed.settle(), 0);
}

#[test]
fn class_and_access_modes_of_a_claim_are_fixed() {
    let mut bed = settled();
    let claim = first(&bed);
    bed.objects.get_mut(&claim).unwrap()["spec"]["storageClassName"] = json!("standard");
    assert_eq!(
        bed.settle(),
        0,
        "the server's default is not ours to compare"
    );
    bed.shard["spec"]["pools"]["default"]["storage"]["class"] = json!("fast");
    bed.settle();
    let (reason, message) = held(&bed).unwrap();
    assert_eq!(reason, "FieldIsFixed");
    assert!(
        message.contains(r#"keeps its storageClassName "standard""#),
        "{message}"
    );
}

/// What the server refuses for good is shown on the Shard, whichever actor met it.
#[test]
fn a_refused_pod_is_told_on_its_shard() {
    let mut bed = settled();
    let pod = bed.names(Kind::Pod)[0].clone();
    bed.objects.remove(&pod);
    let refusal = |failures| Trouble {
        code: 403,
        message: "exceeded quota: pods".to_owned(),
        failures,
        retry_at: bed.now,
    };
    let (early, lasting) = (refusal(1), refusal(3));
    bed.troubles.insert(pod.clone(), early);
    bed.settle();
    assert_eq!(bed.condition("Stalled").unwrap()["status"], "False");
    bed.troubles.insert(pod, lasting);
    bed.settle();
    let stalled = bed.condition("Stalled").unwrap();
    assert_eq!(stalled["reason"], "WriteRefused");
    assert!(
        stalled["message"]
            .as_str()
            .unwrap()
            .contains("exceeded quota"),
        "{stalled}"
    );
    bed.troubles.clear();
    bed.settle();
    assert_eq!(bed.condition("Stalled").unwrap()["status"], "False");
}
