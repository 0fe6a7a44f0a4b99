//! Poolers that gave up: what replaces them, step by step, and what keeps them.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::Value;

use super::backup::Known;
use super::data_plane_tests::{Shard, id};
use super::quarantine::ATTEMPTS;
use crate::fixtures::NAMESPACE;
use crate::labels;
use crate::object::{Key, Kind};
use crate::topology_store::record::Lifecycle;

/// From the record to the replacement, step by step; each is in the status before it is acted on.
#[test]
fn a_pooler_that_gave_up_is_replaced_on_a_fresh_volume() {
    let mut shard = Shard::new();
    // Old backups are backups.
    shard.tell_backup(shard.bed.now - SignedDuration::from_hours(24 * 365));
    let pod = shard.pods[2].clone();
    let (pod_key, claim) = (
        Key::new(Kind::Pod, NAMESPACE, &pod),
        Key::new(
            Kind::PersistentVolumeClaim,
            NAMESPACE,
            &format!("data-{pod}"),
        ),
    );
    shard.quarantine(2);
    assert!(
        shard.deleted().is_empty(),
        "nothing before the status says so"
    );
    assert!(
        shard
            .shard_acts()
            .contains(&"QuarantineRemediation".to_owned())
    );
    let condition = shard.bed.condition("PoolerQuarantined").unwrap();
    assert!(
        condition["message"]
            .as_str()
            .unwrap()
            .contains("no restore"),
        "{condition}"
    );
    assert_eq!(shard.status()["podRoles"][&pod], "QUARANTINED");
    assert_eq!(shard.label(2), "REPLICA");
    assert_eq!(shard.deleted(), std::slice::from_ref(&pod_key));
    assert!(shard.shard_acts().is_empty());
    shard.bed.objects.remove(&pod_key);
    shard.poolers().pods.remove(pod.as_str());
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"]["state"], "leaving");
    let made = |shard: &Shard| shard.bed.pool_decides("default", "a").actions.len();
    assert_eq!(
        made(&shard),
        0,
        "no pod under its name, and its volume stays"
    );
    // Its record, then the cohort.
    shard.record(&pod, |record| record.lifecycle = Lifecycle::Shutdown);
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"]["state"], "leaving");
    assert_eq!(made(&shard), 0);
    let cohort = shard.pods[..2].to_vec();
    for pod in &cohort {
        shard.say(pod, 0, &cohort, 2, |_| {});
    }
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"]["state"], "wiping");
    assert_eq!(shard.deleted(), std::slice::from_ref(&claim));
    shard.shard_acts();
    assert_eq!(
        shard.status()["disruption"]["state"],
        "wiping",
        "the claim is there still"
    );
    shard.bed.objects.remove(&claim);
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"]["state"], "replacing");
    shard.bed.settle();
    shard.start_all();
    let attempt =
        &shard.bed.objects[&pod_key]["metadata"]["annotations"][labels::QUARANTINE_ATTEMPT];
    assert_eq!(attempt, "1");
    assert_eq!(
        shard.status()["disruption"]["state"],
        "replacing",
        "it has not joined"
    );
    let cohort = shard.pods.clone();
    shard.elect(0, &cohort, 3);
    shard.bed.settle();
    assert_eq!(shard.status()["disruption"], Value::Null);
    assert_eq!(shard.bed.condition("PoolerQuarantined"), None);
    assert_eq!(shard.status()["phase"], "Healthy");
}

/// Each guard of `topology.md` 5.9 and L-SCALE-06, with what is told, and what wakes up for it.
#[test]
fn what_keeps_a_pooler_that_gave_up() {
    type Change = fn(&mut Shard);
    let table: &[(&str, Change)] = &[
        ("NoBackup", |shard| {
            let now = shard.bed.now;
            shard.poolers().backups = Some((Known::None, now));
        }),
        ("NoBackup", |shard| {
            let later = shard.bed.now + SignedDuration::from_secs(30);
            shard.poolers().backups = None;
            for seen in shard.poolers().pods.values_mut() {
                seen.not_before = Some(later);
            }
        }),
        ("PeersNotWell", |shard| {
            let (pod, cohort) = (shard.pods[1].clone(), shard.pods.clone());
            shard.say(&pod, 0, &cohort, 1, |health| health.streaming = false);
        }),
        ("PeersNotWell", |shard| {
            let (pod, cohort) = (shard.pods[0].clone(), shard.pods.clone());
            shard.say(&pod, 0, &cohort, 1, |health| health.primary_ready = false);
        }),
        ("PeersNotWell", |shard| {
            let (pod, cohort) = (shard.pods[1].clone(), shard.pods.clone());
            shard.say(&pod, 0, &cohort, 1, |health| health.revoked_below = 2);
        }),
        ("PeersNotWell", |shard| {
            shard.records().silent = vec!["b".into()]
        }),
        ("PeersNotWell", |shard| {
            shard.records().backup_runs = Some(true)
        }),
        ("PeersNotWell", |shard| shard.records().backup_runs = None),
        ("OldRecord", |shard| {
            let pod = shard.pods[2].clone();
            let all = &mut shard.records().poolers;
            let (_, record) = all
                .iter_mut()
                .find(|(_, record)| record.id == id(&pod))
                .unwrap();
            record.updated = "2026-11-22T00:00:00Z".parse().ok();
        }),
        ("NotConfirmed", |shard| {
            let pod = shard.pods[2].clone();
            shard.poolers().pods.remove(pod.as_str());
        }),
        ("NotConfirmed", |shard| {
            let (pod, cohort) = (shard.pods[2].clone(), shard.pods.clone());
            shard.say(&pod, 0, &cohort, 1, |_| {});
        }),
        ("AttemptsSpent", |shard| {
            let key = Key::new(Kind::Pod, NAMESPACE, &shard.pods[2]);
            let body = shard.bed.objects.get_mut(&key).unwrap();
            body["metadata"]["annotations"][labels::QUARANTINE_ATTEMPT] =
                ATTEMPTS.to_string().into();
        }),
        ("Young", |shard| {
            let key = Key::new(Kind::Pod, NAMESPACE, &shard.pods[2]);
            let body = shard.bed.objects.get_mut(&key).unwrap();
            body["metadata"]["creationTimestamp"] = "2026-11-23T23:58:00Z".into();
        }),
        ("Leaving", |shard| {
            let key = Key::new(Kind::Pod, NAMESPACE, &shard.pods[2]);
            let body = shard.bed.objects.get_mut(&key).unwrap();
            body["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z".into();
        }),
    ];
    for (reason, change) in table {
        let mut shard = Shard::new();
        shard.quarantine(2);
        change(&mut shard);
        shard.shard_acts();
        assert_eq!(
            shard.reason("PoolerQuarantined"),
            *reason,
            "{}",
            shard.status()
        );
        assert_eq!(shard.status()["disruption"], Value::Null, "{reason}");
        assert!(shard.deleted().is_empty());
        assert!(shard.shard_acts().is_empty(), "{reason}: told once");
        if *reason == "Young" {
            assert_eq!(shard.wake(), "2026-11-24T00:01:00Z".parse().ok());
        }
    }
}

/// A backup that was there before is asked for again, and nothing is told meanwhile.
#[test]
fn an_old_answer_about_backups_is_no_reason_to_wipe() {
    let mut shard = Shard::new();
    shard.bed.now += SignedDuration::from_secs(10);
    shard.quarantine(2);
    let calls = shard.bed.shard_decides().calls;
    assert_eq!(calls.len(), 1, "{calls:?}");
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"], Value::Null);
    assert_eq!(shard.bed.condition("PoolerQuarantined"), None);
    shard.tell_backup(shard.bed.now);
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"]["state"], "deleting");
}

/// The leader is never wiped, whatever its record says; and of two that gave up, one goes.
#[test]
fn never_the_leader_and_never_two() {
    let mut shard = Shard::new();
    shard.quarantine(0);
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"], Value::Null);
    assert!(shard.deleted().is_empty());
    let mut shard = Shard::new();
    shard.quarantine(1);
    shard.quarantine(2);
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"]["pod"], shard.pods[1].as_str());
    assert_eq!(shard.deleted().len(), 1);
}

/// A cohort that never lets it go: after a while its volume is given up on, not wiped.
#[test]
fn a_volume_whose_pooler_is_still_counted_stays() {
    let mut shard = Shard::new();
    let pod = shard.pods[2].clone();
    shard.quarantine(2);
    shard.shard_acts();
    shard
        .bed
        .objects
        .remove(&Key::new(Kind::Pod, NAMESPACE, &pod));
    shard.poolers().pods.remove(pod.as_str());
    shard.shard_acts();
    shard.record(&pod, |record| record.lifecycle = Lifecycle::Shutdown);
    shard.shard_acts();
    let bound = shard.wake().unwrap();
    shard.bed.now = bound;
    shard.shard_acts();
    assert_eq!(shard.status()["disruption"], Value::Null);
    assert!(shard.deleted().is_empty());
    let claims: BTreeMap<_, _> = shard
        .bed
        .objects
        .iter()
        .filter(|(key, _)| key.kind == Kind::PersistentVolumeClaim)
        .collect();
    assert!(claims.keys().any(|key| key.name.contains(&pod)));
}
