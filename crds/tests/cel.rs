//! Every CEL rule lets pass what it should and refuses what it should, at every place where it stands. The same cases run against
//! a real API server in `tests/cluster`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use crds::sample::{CelCase, Samples, rules};
use crds::schema::{MESSAGES, definitions, fields};
use kube::core::cel::{Validator, compile_schema};
use serde_json::Value;

fn schemas() -> BTreeMap<String, Value> {
    let all = definitions().unwrap().into_iter();
    all.map(|definition| {
        let kind = definition["spec"]["names"]["kind"]
            .as_str()
            .unwrap()
            .to_owned();
        (
            kind,
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone(),
        )
    })
    .collect()
}

#[test]
fn every_rule_has_a_case_that_passes_and_one_that_fails_at_every_place() {
    let cases = Samples::new().unwrap().cel_cases().unwrap();
    let mut places = 0;
    for field in fields().unwrap() {
        for rule in rules(&field) {
            places += 1;
            let here = |case: &&CelCase| {
                case.rule == rule && case.kind == field.kind && case.path == field.path
            };
            let found: BTreeSet<bool> = cases.iter().filter(here).map(|case| case.passes).collect();
            assert_eq!(found.len(), 2, "{rule} at {} {}", field.kind, field.path);
        }
    }
    assert_eq!(places, 113);
    let named: BTreeSet<&str> = cases.iter().map(|case| case.rule.as_str()).collect();
    assert_eq!(named, MESSAGES.iter().map(|(id, _)| *id).collect());
    println!(
        "{} rules at {places} places, {} cases",
        named.len(),
        cases.len()
    );
}

/// L-TOPO-10: an even number of etcd members is refused wherever a number can be given. That it is fixed once the members are
/// there is the operator's business (`actors/tests/rooms/stores.rs`).
#[test]
fn the_number_of_etcd_members_is_odd_everywhere() {
    let fields = fields().unwrap();
    let given = fields.iter().filter(|field| {
        let path = field.path.to_lowercase();
        path.ends_with("etcd.replicas") || path.ends_with("toposerver.replicas")
    });
    let mut places = 0;
    for field in given {
        places += 1;
        let odd = rules(field).any(|rule| rule == "CEL-03");
        assert!(odd, "{} {}", field.kind, field.path);
    }
    assert_eq!(places, 6);
}

#[test]
fn the_cases_are_decided_as_they_say() {
    let compiled: BTreeMap<_, _> = schemas()
        .into_iter()
        .map(|(kind, schema)| {
            let compiled = compile_schema(&schema);
            assert!(
                !compiled.has_errors(),
                "{kind}: {:?}",
                compiled.compilation_errors()
            );
            (kind, compiled)
        })
        .collect();
    let mut wrong = Vec::new();
    for case in Samples::new().unwrap().cel_cases().unwrap() {
        let message = MESSAGES.iter().find(|(id, _)| *id == case.rule).unwrap().1;
        let result = Validator::new().validate_compiled(
            &compiled[&case.kind],
            &case.object,
            case.old.as_ref(),
        );
        let said: BTreeSet<String> = match &result {
            Ok(()) => BTreeSet::new(),
            Err(errors) => errors
                .as_slice()
                .iter()
                .map(|error| error.message.clone())
                .collect(),
        };
        let expected: BTreeSet<String> = (!case.passes)
            .then(|| message.to_owned())
            .into_iter()
            .collect();
        if said != expected {
            wrong.push(format!(
                "{} at {} {}: {said:?} for {}",
                case.rule, case.kind, case.path, case.object["spec"]
            ));
        }
        // An old object must itself be valid.
        if let Some(old) = &case.old {
            let valid = Validator::new().validate_compiled(&compiled[&case.kind], old, None);
            assert!(
                valid.is_ok(),
                "{} at {} {}: {valid:?}",
                case.rule,
                case.kind,
                case.path
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
