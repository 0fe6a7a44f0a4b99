//! Laws of the resolver, over random manifests and templates made of the inventory's entries. `MULTIGRES_CASES` sets how many.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::random::{SAMPLES, TEMPLATES, cluster, edit, world};
use common::{cases, defaults, outputs, templates};
use crds::materialise::{additions, materialise};
use crds::resolve::{TemplateKind, Templates, referenced};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

/// Everything in `part` is in `whole`.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|there| contains(there, value))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(a, b)| contains(a, b))
        }
        _ => whole == part,
    }
}

/// The same without what only says where in a list something stands.
fn unordered(mut outputs: Value) -> Value {
    if let Some(problems) = outputs.get_mut("refused").and_then(Value::as_array_mut) {
        for problem in problems.iter_mut() {
            problem.as_object_mut().unwrap().remove("path");
        }
        problems.sort_by_key(ToString::to_string);
        problems.dedup();
    }
    outputs
}

fn reverse(object: &mut Value) {
    for pointer in [
        "/spec/cells",
        "/spec/databases",
        "/spec/databases/0/tablegroups",
    ] {
        if let Some(list) = object.pointer_mut(pointer).and_then(Value::as_array_mut) {
            list.reverse();
        }
    }
}

/// A failure prints its seed and keeps it beside this file.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: cases(700),
        max_shrink_iters: 2000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "proptest-regressions/laws.txt",
        ))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// L-HOOK-02 "The defaulter drops or freezes user intent": what admission adds changes no meaning, now or after any edit,
    /// loses nothing, and is added once.
    #[test]
    fn materialising_never_changes_what_an_edit_means(
        cluster in cluster(), edits in vec(edit("MultigresCluster"), 0..4), world in world(),
    ) {
        let stored = materialise(&cluster);
        prop_assert!(contains(&stored, &cluster), "lost something: {stored}");
        prop_assert_eq!(additions(&stored), vec![]);
        prop_assert_eq!(outputs(&stored, &world, &defaults()), outputs(&cluster, &world, &defaults()));
        let (mut edited, mut edited_stored) = (cluster, stored);
        for edit in edits {
            edit.apply("MultigresCluster", &mut edited);
            edit.apply("MultigresCluster", &mut edited_stored);
        }
        prop_assert_eq!(outputs(&edited_stored, &world, &defaults()), outputs(&edited, &world, &defaults()));
    }

    /// L-HOOK-05 "Shared mutable objects": the same inputs lead to the same outputs, in whatever order their parts stand.
    #[test]
    fn resolution_is_a_function_and_order_means_nothing(cluster in cluster(), world in world()) {
        let before = world.clone();
        let once = outputs(&cluster, &world, &defaults());
        prop_assert_eq!(&world, &before);
        prop_assert_eq!(&outputs(&cluster, &world, &defaults()), &once);
        let mut reversed = cluster;
        reverse(&mut reversed);
        prop_assert_eq!(unordered(outputs(&reversed, &world, &defaults())), unordered(once));
    }

    /// L-HOOK-03 "References and deletion protection with holes": only templates that `referenced` names make a difference.
    #[test]
    fn a_cluster_depends_on_the_templates_that_are_referenced(cluster in cluster(), world in world()) {
        let names = referenced(&serde_json::from_value(cluster.clone()).unwrap());
        let mut needed = world.clone();
        needed.core.retain(|name, _| names.contains(TemplateKind::Core, name));
        needed.cell.retain(|name, _| names.contains(TemplateKind::Cell, name));
        needed.shard.retain(|name, _| names.contains(TemplateKind::Shard, name));
        prop_assert_eq!(outputs(&cluster, &needed, &defaults()), outputs(&cluster, &world, &defaults()));
    }
}

/// The laws are about manifests that mean something, too: the generator must not make refused ones only.
#[test]
fn most_random_manifests_resolve() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let both = (cluster(), world());
    let resolved = (0..200).filter(|_| {
        let (cluster, world) = both.new_tree(&mut runner).unwrap().current();
        outputs(&cluster, &world, &defaults())
            .get("refused")
            .is_none()
    });
    let resolved = resolved.count();
    println!("{resolved} of 200 resolve");
    assert!(resolved > 80, "only {resolved} of 200 resolve");
}

/// What a release adds to stored objects, it adds for ever: a change of this list would change the meaning of manifests that
/// were applied before. Never edit the expectation; a new constant needs a new field.
#[test]
fn what_admission_adds_is_a_golden_list() {
    let given = json!({"spec": {"cells": []}});
    let added: Vec<Value> = additions(&given)
        .into_iter()
        .map(|a| json!([a.path, a.value]))
        .collect();
    let info = json!({"pgctld": "info", "multipooler": "info", "multiorch": "info", "multiadmin": "info", "multigateway": "info"});
    let databases = json!([{"name": "postgres", "default": true, "tablegroups": [
        {"name": "default", "default": true, "shards": [{"name": "0-inf"}]},
    ]}]);
    let mut golden = vec![
        json!(["/spec/images", {"imagePullPolicy": "IfNotPresent"}]),
        json!(["/spec/logLevels", info]),
        json!(["/spec/pvcDeletionPolicy", {"whenDeleted": "Delete", "whenScaled": "Delete"}]),
        json!(["/spec/topologyPruning", {"enabled": true}]),
        json!(["/spec/durabilityPolicy", "AT_LEAST_2"]),
        json!(["/spec/postgresSuperuser", "postgres"]),
        json!(["/spec/databases", databases]),
    ];
    let sorted = |mut list: Vec<Value>| {
        list.sort_by_key(ToString::to_string);
        list
    };
    golden = sorted(golden);
    assert_eq!(sorted(added), golden);
    for given in [
        json!({}),
        json!({"spec": {}}),
        json!({"spec": {"databases": [{"name": "postgres", "tablegroups": [{"name": "default"}]}]}}),
    ] {
        let groups = materialise(&given)["spec"]["databases"][0]["tablegroups"].clone();
        assert_eq!(groups[0]["shards"], json!([{"name": "0-inf"}]));
    }
}

/// Blocks that a stronger layer replaces as a whole (`admission.md` 2.6): setting one leaf of them clears its siblings.
const WHOLE: [&str; 5] = [
    "pvcDeletionPolicy.",
    "postgresConfigRef.",
    "localTopoServer.",
    "Placement.",
    "placement.",
];

/// Where a leaf of a component stands in its template.
fn in_template(path: &str) -> Option<(&'static str, String)> {
    let under =
        |prefix: &str, kind, at: &str| Some((kind, format!("{at}{}", path.strip_prefix(prefix)?)));
    let shard = "spec.databases[].tablegroups[].shards[]";
    under("spec.cells[].overrides", "CellTemplate", "spec")
        .or_else(|| under("spec.cells[].spec", "CellTemplate", "spec"))
        .or_else(|| under(&format!("{shard}.overrides"), "ShardTemplate", "spec"))
        .or_else(|| under(&format!("{shard}.spec"), "ShardTemplate", "spec"))
        .or_else(|| {
            under(
                "spec.globalTopoServer.etcd",
                "CoreTemplate",
                "spec.globalTopoServer.etcd",
            )
        })
        .or_else(|| under("spec.multiadmin.spec", "CoreTemplate", "spec.multiadmin"))
        .or_else(|| {
            under(
                "spec.multiadmin.placement",
                "CoreTemplate",
                "spec.multiadminPlacement",
            )
        })
        .or_else(|| {
            under(
                "spec.multiadminWeb.spec",
                "CoreTemplate",
                "spec.multiadminWeb",
            )
        })
}

/// L-HOOK-02: for every leaf that can be overridden, overriding it alone leads to what the template with that leaf leads to, so
/// all other leaves survive.
#[test]
fn overriding_one_leaf_keeps_all_others() {
    let full: Vec<Value> = TEMPLATES
        .map(|kind| {
            let mut object = SAMPLES.base(kind);
            object["metadata"]["name"] = json!("default");
            for path in SAMPLES
                .leaves(kind)
                .filter(|path| !path.contains("external"))
            {
                let [first, _] = SAMPLES.values(kind, path).unwrap();
                SAMPLES.set(kind, &mut object, path, first);
            }
            object
        })
        .to_vec();
    let mut compared = 0;
    for path in SAMPLES.leaves("MultigresCluster") {
        let Some((kind, at)) = in_template(path) else {
            continue;
        };
        if WHOLE.iter().any(|block| path.contains(block)) {
            continue;
        }
        let [_, other] = SAMPLES.values("MultigresCluster", path).unwrap();
        if other.is_null() {
            continue; // an enum of one value
        }
        let mut cluster = SAMPLES.base("MultigresCluster");
        // Both cells and both leaves of a pair must say the same: only the first cell gets the override.
        if kind == "CellTemplate" {
            cluster["spec"]["cells"].as_array_mut().unwrap().truncate(1);
        }
        let mut overridden = cluster.clone();
        SAMPLES.set("MultigresCluster", &mut overridden, path, other.clone());
        let mut edited = full.clone();
        let template = edited
            .iter_mut()
            .find(|object| object["kind"] == kind)
            .unwrap();
        SAMPLES.set(kind, template, &at, other);
        assert_eq!(
            outputs(&overridden, &templates(&full), &defaults()),
            outputs(&cluster, &templates(&edited), &defaults()),
            "{path}"
        );
        compared += 1;
    }
    assert!(compared > 80, "{compared} leaves");
}

/// L-HOOK-02: a cell that is added later is picked up by shards that name no cells.
#[test]
fn adding_a_cell_later_is_picked_up() {
    let mut cluster = materialise(&SAMPLES.base("MultigresCluster"));
    cluster["spec"]["cells"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "zone-c", "region": "three"}));
    let shard = outputs(&materialise(&cluster), &Templates::default(), &defaults())["Shard postgres/default/0-inf"].clone();
    assert_eq!(
        shard["pools"]["default"]["cells"],
        json!(["zone-a", "zone-b", "zone-c"])
    );
    assert_eq!(
        shard["multiorch"]["cells"],
        json!(["zone-a", "zone-b", "zone-c"])
    );
    assert_eq!(shard["replicas"], 3);
}
