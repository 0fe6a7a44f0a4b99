//! Changing a field changes something that the resolution leads to: found by comparing, entry by entry of the inventory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{OLD_IMAGES, defaults, outputs, templates};
use crds::sample::{Samples, USER_KINDS};
use serde_json::{Value, json};

/// Entries whose change no resolution shows, and where it shows.
const ELSEWHERE: [(&str, &str, &str); 1] = [(
    "MultigresCluster",
    "spec.databases[].default",
    "it can only be true: anything else is refused by CEL-16",
)];

/// Where two outputs differ.
fn differences(a: &Value, b: &Value, at: &str, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (a, b) = (
                    a.get(name).unwrap_or(&Value::Null),
                    b.get(name).unwrap_or(&Value::Null),
                );
                differences(a, b, &format!("{at}/{name}"), found);
            }
        }
        _ if a != b => found.push(at.to_owned()),
        _ => {}
    }
}

/// Templates that the sample values of references name, each with settings of its own, and the one under test.
fn world(samples: &Samples, under_test: Option<&Value>) -> Vec<Value> {
    let mut objects: Vec<Value> = under_test.into_iter().cloned().collect();
    for (kind, path) in [
        ("CoreTemplate", "spec.multiadmin.replicas"),
        ("CoreTemplate", "spec.multiadminWeb.replicas"),
        ("CoreTemplate", "spec.globalTopoServer.etcd.rootPath"),
        ("CellTemplate", "spec.multigateway.replicas"),
        ("ShardTemplate", "spec.multiorch.replicas"),
    ] {
        for (name, value) in ["alpha", "beta"]
            .into_iter()
            .zip(samples.values(kind, path).unwrap())
        {
            let there = objects
                .iter()
                .position(|o| o["kind"] == kind && o["metadata"]["name"] == name);
            let at = there.unwrap_or_else(|| {
                let mut fresh = samples.base(kind);
                fresh["metadata"]["name"] = json!(name);
                objects.push(fresh);
                objects.len() - 1
            });
            samples.set(kind, &mut objects[at], path, value);
        }
    }
    objects
}

/// What a change of the entry changes.
fn effect(samples: &Samples, kind: &str, path: &str) -> Vec<String> {
    let [a, b] = samples
        .variants(kind, path)
        .unwrap_or_else(|| panic!("no values for {kind} {path}"));
    let [a, b] = [a, b].map(|mut object| {
        let recorded = json!({"multigres.com/applied-images": OLD_IMAGES});
        if kind == "MultigresCluster" {
            object["metadata"]["annotations"] = recorded;
            return outputs(&object, &templates(&world(samples, None)), &defaults());
        }
        object["metadata"]["name"] = json!("default");
        outputs(
            &samples.base("MultigresCluster"),
            &templates(&world(samples, Some(&object))),
            &defaults(),
        )
    });
    let mut found = Vec::new();
    differences(&a, &b, "", &mut found);
    found
}

#[test]
fn every_field_that_a_user_sets_has_an_effect() {
    let samples = Samples::new().unwrap();
    let (mut seen, mut idle) = (0, Vec::new());
    for kind in USER_KINDS {
        for path in samples.leaves(kind) {
            let listed = ELSEWHERE.iter().any(|(k, p, _)| (*k, *p) == (kind, path));
            let found = effect(&samples, kind, path);
            if std::env::var_os("SHOW_EFFECTS").is_some() {
                println!("{kind}\t{path}\t{}", found.join(" "));
            }
            match (found.is_empty(), listed) {
                (false, false) => seen += 1,
                (true, true) => {}
                (true, false) => idle.push(format!("{kind} {path}: no effect")),
                (false, true) => idle.push(format!("{kind} {path}: listed, but changes {found:?}")),
            }
        }
    }
    assert!(
        idle.is_empty(),
        "{} of {}:\n{}",
        idle.len(),
        seen + idle.len(),
        idle.join("\n")
    );
    println!("{seen} fields with an effect, {} listed", ELSEWHERE.len());
}
