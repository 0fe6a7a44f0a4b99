use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::certificate_facts::CertificateFacts;
use crate::fixtures::{Bed, NAMESPACE, base64, start};
use crate::object::{Key, Kind};

const CA: &str = "c-postgres-default-0-inf-pgbackrest-ca";
const LEAF: &str = "c-postgres-default-0-inf-pgbackrest-tls";

fn key(name: &str) -> Key {
    Key::new(Kind::Secret, NAMESPACE, name)
}

fn facts(bed: &Bed, name: &str) -> CertificateFacts {
    let observed = bed.observed();
    *observed
        .get(&key(name))
        .unwrap()
        .certificates
        .clone()
        .unwrap()
}

/// What the ShardActor would do to the two Secrets now: (Secret, why).
fn planned(bed: &Bed) -> Vec<(String, String)> {
    bed.shard_decides()
        .actions
        .into_iter()
        .filter(|planned| planned.action.lane().0.kind == Kind::Secret)
        .map(|planned| (planned.action.lane().0.name.to_string(), planned.reason))
        .collect()
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

#[test]
fn the_leaf_is_made_when_its_authority_is_there() {
    let mut bed = Bed::new();
    assert_eq!(
        planned(&bed),
        [(CA.to_owned(), "Secret does not exist".to_owned())]
    );
    bed.settle();
    let (ca, leaf) = (facts(&bed, CA), facts(&bed, LEAF));
    assert!(leaf.leaf.unwrap().is_signed_by(&ca.authorities[0]));
    assert_eq!(planned(&bed), []);
}

/// L-CERT-04: a timer for a known instant, whatever else is wrong with the shard, and no write before it.
#[test]
fn rotation_needs_nobody_to_look() {
    let mut bed = Bed::new();
    bed.settle();
    bed.secrets.clear();
    bed.settle();
    let wake = bed.shard_decides().wake.unwrap();
    assert_eq!(wake, start() + days(365 - 30));
    bed.now = wake - SignedDuration::from_secs(1);
    assert_eq!(planned(&bed), []);
    bed.now = wake;
    assert_eq!(
        planned(&bed),
        [(LEAF.to_owned(), "it expires soon".to_owned())]
    );
    assert!(bed.settle() <= 2, "the Secret, and at most a status");
    assert_eq!(facts(&bed, LEAF).leaf.unwrap().not_after, wake + days(365));
    assert_eq!(bed.shard_decides().wake, Some(wake + days(365 - 30)));
}

/// L-CERT-04: over eleven years, driven by the timer alone, pods that read their files within the same fortnight always trust
/// each other, and nothing is ever served that has expired.
#[test]
fn an_authority_is_replaced_with_overlap() {
    let mut bed = Bed::new();
    let end = start() + days(11 * 365);
    let mut read: Vec<(Timestamp, CertificateFacts, CertificateFacts)> = Vec::new();
    let mut writes = 0;
    while bed.now < end {
        writes += bed.settle();
        read.push((bed.now, facts(&bed, CA), facts(&bed, LEAF)));
        bed.now = bed.shard_decides().wake.unwrap();
    }
    assert!(
        read.len() < 20 && writes < 60,
        "{} wakes, {writes} writes",
        read.len()
    );
    let replaced = read
        .iter()
        .filter(|(_, ca, _)| ca.authorities.len() == 2)
        .count();
    assert!(replaced > 0, "the authority was replaced once");
    for (at, (left, _, _)) in read.iter().zip(read.iter().skip(1)) {
        let leaf = at.2.leaf.as_ref().unwrap();
        assert!(
            *left < leaf.not_after,
            "a leaf expired at {}",
            leaf.not_after
        );
    }
    for (index, (_, ca, leaf)) in read.iter().enumerate() {
        let Some((replaced_at, _, _)) = read.get(index + 1) else {
            break;
        };
        for (at, later_ca, later_leaf) in &read[index..] {
            if *at >= *replaced_at + days(15) {
                break;
            }
            for (leaf, ca) in [(leaf, later_ca), (later_leaf, ca)] {
                let leaf = leaf.leaf.as_ref().unwrap();
                let trusted = ca
                    .authorities
                    .iter()
                    .any(|ca| leaf.is_signed_by(ca) && *at < ca.not_after);
                assert!(
                    trusted,
                    "at {at} a pod does not trust one that read its files elsewhen"
                );
            }
        }
    }
}

/// L-CERT-02: what somebody strips or damages is put right, with few writes.
#[test]
fn a_stripped_secret_is_labelled_again_and_a_damaged_one_replaced() {
    let mut bed = Bed::new();
    bed.settle();
    let whole = bed.objects.clone();

    bed.objects.get_mut(&key(LEAF)).unwrap()["metadata"]["labels"] = json!({});
    assert_eq!(
        planned(&bed),
        [(LEAF.to_owned(), "its metadata is not as desired".to_owned())]
    );
    assert_eq!(bed.settle(), 1);
    assert_eq!(bed.objects[&key(LEAF)]["data"], whole[&key(LEAF)]["data"]);

    let other = crate::effects::certificate::authority(start()).unwrap();
    let cases = [
        (CA, "ca.crt", json!(""), "no authority can be read from it"),
        (
            CA,
            "ca.key",
            base64(&other["ca.key"]),
            "its key does not belong to its certificate",
        ),
        (
            LEAF,
            "tls.crt",
            base64("garbage"),
            "no certificate can be read from it",
        ),
        (
            LEAF,
            "tls.key",
            base64(&other["ca.key"]),
            "its key does not belong to its certificate",
        ),
        (
            CA,
            "ca.crt",
            serde_json::Value::Null,
            "no authority can be read from it",
        ),
    ];
    for (secret, file, content, why) in cases {
        let mut bed = Bed::new();
        bed.objects = whole.clone();
        let data = &mut bed.objects.get_mut(&key(secret)).unwrap()["data"];
        if content.is_null() {
            data.as_object_mut().unwrap().remove(file);
        } else {
            data[file] = content;
        }
        assert_eq!(planned(&bed), [(secret.to_owned(), why.to_owned())]);
        assert!(bed.settle() <= 3, "{file}");
        let (ca, leaf) = (facts(&bed, CA), facts(&bed, LEAF).leaf.unwrap());
        assert!(leaf.key_fits && ca.authorities[0].key_fits, "{file}");
        assert!(
            ca.authorities.iter().any(|ca| leaf.is_signed_by(ca)),
            "{file}"
        );
    }
}

#[test]
fn who_keeps_damaging_a_secret_does_not_keep_us_busy() {
    let mut bed = Bed::new();
    bed.settle();
    for _ in 0..2 {
        bed.objects.get_mut(&key(LEAF)).unwrap()["data"]["tls.crt"] = base64("garbage");
        let before = bed.now;
        let decision = bed.shard_decides();
        if planned(&bed).is_empty() {
            assert_eq!(decision.wake, Some(before + SignedDuration::from_secs(60)));
            bed.now = decision.wake.unwrap();
            assert_eq!(planned(&bed).len(), 1);
            return;
        }
        bed.settle();
    }
    panic!("replaced twice at one instant");
}

/// L-CERT-03: names are compared as a set; a new place is a new certificate, a new pod is not.
#[test]
fn new_places_are_named_and_more_pods_change_nothing() {
    let mut bed = Bed::new();
    bed.settle();
    bed.shard["spec"]["pools"]["default"]["replicasPerCell"] = json!(5);
    assert_eq!(planned(&bed), []);
    bed.shard["spec"]["pools"]["default"]["cells"] = json!(["a", "b"]);
    assert_eq!(
        planned(&bed),
        [(LEAF.to_owned(), "the pods have other names".to_owned())]
    );
    bed.settle();
    // A pod of a dropped place still runs: its name stays until it is gone.
    bed.shard["spec"]["pools"]["default"]["cells"] = json!(["b"]);
    assert_eq!(planned(&bed), []);
    bed.now += SignedDuration::from_secs(60);
    bed.objects.retain(|key, body| {
        key.kind != Kind::Pod || body["metadata"]["labels"]["multigres.com/cell"] == "b"
    });
    assert_eq!(
        planned(&bed),
        [(LEAF.to_owned(), "the pods have other names".to_owned())]
    );
}

#[test]
fn the_users_own_certificates_are_never_touched() {
    let mut bed = Bed::new();
    bed.shard["spec"]["backup"]["pgbackrestTLS"] = json!({"secretName": "mine"});
    bed.settle();
    assert_eq!(bed.names(Kind::Secret), []);
    assert_eq!(bed.names(Kind::Pod), [], "pods wait for it");
    assert!(
        bed.condition("Stalled").unwrap()["message"]
            .as_str()
            .unwrap()
            .contains("Secret mine does not exist")
    );
    let ca = crate::effects::certificate::authority(start()).unwrap();
    let made = crate::effects::certificate::leaf(&ca, &["pgbackrest".to_owned()], start()).unwrap();
    let data = [
        ("ca.crt", &ca["ca.crt"]),
        ("tls.crt", &made["tls.crt"]),
        ("tls.key", &made["tls.key"]),
    ];
    let data: BTreeMap<_, _> = data
        .into_iter()
        .map(|(file, text)| (file, base64(text)))
        .collect();
    bed.secrets.insert("mine".to_owned(), json!(data));
    bed.settle();
    assert_eq!(bed.names(Kind::Pod).len(), 2);
    assert_eq!(bed.names(Kind::Secret), []);
    assert_eq!(bed.condition("CertificatesValid"), None);

    let wake = bed.shard_decides().wake.unwrap();
    assert_eq!(wake, start() + days(365 - 30));
    bed.now = wake;
    bed.settle();
    assert_eq!(
        bed.condition("CertificatesValid").unwrap()["reason"],
        "CertificateExpiresSoon"
    );
    bed.now = bed.shard_decides().wake.unwrap();
    bed.settle();
    assert_eq!(
        bed.condition("CertificatesValid").unwrap()["reason"],
        "CertificateExpired"
    );
    assert_eq!(bed.names(Kind::Secret), []);
}

#[test]
fn a_secret_of_somebody_else_is_left_alone() {
    let mut bed = Bed::new();
    bed.objects.insert(
        key(CA),
        json!({"metadata": {"name": CA, "namespace": NAMESPACE, "uid": "x", "resourceVersion": "3"}, "data": {"ca.crt": ""}}),
    );
    let before = bed.objects[&key(CA)].clone();
    bed.settle();
    assert_eq!(bed.objects[&key(CA)], before);
    assert_eq!(bed.condition("Stalled").unwrap()["reason"], "NameTaken");
}

/// Does a certificate for `pattern` cover `host`? A wildcard stands for exactly one label.
fn covers(pattern: &str, host: &str) -> bool {
    pattern == host
        || pattern.strip_prefix("*.").is_some_and(|rest| {
            host.split_once('.')
                .is_some_and(|(_, parent)| parent == rest)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// L-CERT-03: whatever the layout and however long the names, the certificate covers the name of every pod.
    #[test]
    fn every_pod_of_every_layout_is_named(
        pools in proptest::collection::btree_map("[a-z]([a-z0-9-]{0,22}[a-z0-9])?", (1_usize..4, 1_i32..4), 1..4),
        cells in proptest::collection::vec("[a-z]([a-z0-9-]{0,28}[a-z0-9])?", 3),
        database in "[a-z]{1,30}",
    ) {
        let mut bed = Bed::new();
        bed.shard["spec"]["databaseName"] = json!(database);
        bed.shard["spec"]["pools"] = pools
            .iter()
            .map(|(name, (count, replicas))| {
                (name.clone(), json!({"cells": &cells[..*count], "replicasPerCell": replicas}))
            })
            .collect();
        let shard = bed.typed();
        let names = wanted(&shard, &BTreeSet::new()).unwrap().unwrap().dns_names;
        for (pool, of) in &shard.spec.pools {
            for cell in &of.cells {
                for index in 0..of.replicas_per_cell.unwrap() {
                    let pod = crate::pool::objects::pod(&shard, pool, cell, index).unwrap();
                    let spec = &pod.body["spec"];
                    let host = format!(
                        "{}.{}.{NAMESPACE}.svc.cluster.local",
                        spec["hostname"].as_str().unwrap(),
                        spec["subdomain"].as_str().unwrap(),
                    );
                    prop_assert!(names.iter().any(|name| covers(name, &host)), "{host} in {names:?}");
                }
            }
        }
        prop_assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "sorted, without duplicates");
    }
}
