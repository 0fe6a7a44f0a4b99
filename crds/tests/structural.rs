//! What the API server demands of a definition, checked before it is asked: L-HOOK-07 "Schema expression and merge markers".
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crds::schema::definitions;
use kube::core::cel::{compile_schema, estimate_rule_cost};
use serde_json::{Value, json};

/// Longest JSON of a definition that client-side `kubectl apply` can keep in its annotation.
const LARGEST: usize = 256 * 1024;

fn each(check: &mut impl FnMut(&str, &str, &Value, &[&Value])) {
    for definition in definitions().unwrap() {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        walk(kind, "$", root, &mut Vec::new(), check);
    }
}

/// Calls `check` with kind, path, node and the nodes around it.
fn walk<'a>(
    kind: &str,
    path: &str,
    node: &'a Value,
    around: &mut Vec<&'a Value>,
    check: &mut impl FnMut(&str, &str, &Value, &[&Value]),
) {
    check(kind, path, node, around);
    around.push(node);
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        walk(kind, &format!("{path}.{name}"), child, around, check);
    }
    for (mark, name) in [("[]", "items"), ("{}", "additionalProperties")] {
        if let Some(child) = node.get(name) {
            walk(kind, &format!("{path}{mark}"), child, around, check);
        }
    }
    around.pop();
}

#[test]
fn a_definition_fits_into_the_annotation_of_client_side_apply() {
    for definition in definitions().unwrap() {
        let size = definition.to_string().len();
        println!("{} {size}", definition["metadata"]["name"]);
        assert!(
            size < LARGEST,
            "{}: {size} bytes",
            definition["metadata"]["name"]
        );
    }
}

/// What `kubectl explain` shows. Embedded types are those of Kubernetes, which explains them itself.
#[test]
fn every_field_of_ours_is_described() {
    let fields = crds::schema::fields().unwrap();
    let mut silent = Vec::new();
    let mut checked = 0;
    each(&mut |kind, path, node, _| {
        let path = path.strip_prefix("$.").unwrap_or(path);
        let ours = fields
            .iter()
            .any(|field| field.kind == kind && field.path == path);
        if ours && !path.ends_with(['}', ']']) {
            checked += 1;
            if node["description"].as_str().is_none_or(str::is_empty) {
                silent.push(format!("{kind} {path}"));
            }
        }
    });
    assert!(silent.is_empty(), "{silent:#?}");
    assert!(checked > 800, "{checked}");
}

#[test]
fn every_node_has_a_type_and_only_what_a_structural_schema_may_have() {
    each(&mut |kind, path, node, _| {
        let at = format!("{kind} {path}");
        let free = node["x-kubernetes-int-or-string"] == true;
        assert!(free != node["type"].is_string(), "{at} has no type");
        for name in [
            "nullable",
            "x-kubernetes-preserve-unknown-fields",
            "$ref",
            "oneOf",
            "allOf",
            "not",
            "additionalItems",
        ] {
            assert!(node.get(name).is_none(), "{at} has {name}");
        }
        if node["type"] == "object" {
            let members = node.get("properties").is_some();
            let map = node.get("additionalProperties").is_some();
            // Bare metadata is the API server's own; everything else would be pruned to nothing.
            assert!(
                members != map || path == "$.metadata",
                "{at}: members or a map, not both, not neither"
            );
        }
        assert_eq!(node["type"] == "array", node.get("items").is_some(), "{at}");
        if let Some(format) = node.get("format") {
            let known = matches!(format.as_str().unwrap(), "int32" | "int64" | "date-time");
            assert!(known, "{at}: unknown format {format}");
        }
        for name in node["required"].as_array().into_iter().flatten() {
            assert!(
                node["properties"].get(name.as_str().unwrap()).is_some(),
                "{at}: {name} is required, but no member"
            );
        }
        if let Some(pattern) = node["pattern"].as_str() {
            assert!(
                pattern.starts_with('^') && pattern.ends_with('$'),
                "{at}: {pattern} is not anchored"
            );
        }
    });
}

#[test]
fn lists_with_keys_have_scalar_keys_that_are_always_there() {
    each(&mut |kind, path, node, _| {
        let at = format!("{kind} {path}");
        match node["x-kubernetes-list-type"].as_str() {
            Some("map") => {
                for key in node["x-kubernetes-list-map-keys"].as_array().unwrap() {
                    let key = key.as_str().unwrap();
                    let item = &node["items"];
                    let required = item["required"]
                        .as_array()
                        .is_some_and(|list| list.iter().any(|n| n == key));
                    assert!(
                        required || item["properties"][key].get("default").is_some(),
                        "{at}: {key} may be missing"
                    );
                    assert!(
                        matches!(
                            item["properties"][key]["type"].as_str(),
                            Some("string" | "integer")
                        ),
                        "{at}: {key}"
                    );
                }
            }
            Some("set") => assert!(
                matches!(node["items"]["type"].as_str(), Some("string" | "integer")),
                "{at}"
            ),
            Some("atomic") | None => {}
            other => panic!("{at}: list type {other:?}"),
        }
    });
}

/// The server estimates a rule's cost from the bounds of everything that it stands in and looks at.
#[test]
fn what_a_rule_stands_in_and_looks_at_is_bounded() {
    let bounded = |node: &Value| match node["type"].as_str() {
        Some("array") => node.get("maxItems").is_some(),
        Some("object") if node.get("additionalProperties").is_some() => {
            node.get("maxProperties").is_some()
        }
        _ => true,
    };
    let mut rules = 0;
    each(&mut |kind, path, node, around| {
        let Some(list) = node["x-kubernetes-validations"].as_array() else {
            return;
        };
        rules += list.len();
        for part in around.iter().copied().chain([node]) {
            assert!(
                bounded(part),
                "{kind} {path}: a rule stands in an unbounded list or map"
            );
        }
        for rule in list {
            let text = rule["rule"].as_str().unwrap();
            assert!(
                text.is_ascii(),
                "{kind} {path}: a typographic character in {text}"
            );
            // Maps and lists that the rule goes through.
            for (name, child) in node["properties"].as_object().into_iter().flatten() {
                if text.contains(&format!("self.{name}.all(")) {
                    assert!(
                        bounded(child),
                        "{kind} {path}.{name} is unbounded under a rule"
                    );
                }
            }
            let warnings = estimate_rule_cost(text, &compile_schema(node));
            assert!(warnings.is_empty(), "{kind} {path}: {warnings:?}");
        }
    });
    assert_eq!(rules, 113);
}

/// Columns, names and subresources (`api.md` 1). On purpose otherwise: Ready of a TopoServer reads the condition that exists
/// (trap T5), the operator's kinds show their age (T40), all kinds with a status show its message under `-o wide`.
#[test]
fn kinds_are_presented_as_the_reference_says() {
    let available = ".status.conditions[?(@.type=='Available')].status";
    let ready = ".status.conditions[?(@.type=='Ready')].status";
    let message = ("Message", "string", ".status.message", 1);
    let phase = ("Phase", "string", ".status.phase", 0);
    let age = ("Age", "date", ".metadata.creationTimestamp", 0);
    let condition = |path| ("Ready", "string", path, 0);
    type Column = (&'static str, &'static str, &'static str, i32);
    type Row = (
        &'static str,
        &'static str,
        &'static str,
        Option<Vec<Column>>,
    );
    let rows: [Row; 8] = [
        (
            "MultigresCluster",
            "multigresclusters",
            "mgc",
            Some(vec![
                ("Available", "string", available, 0),
                age,
                phase,
                ("Images", "string", ".status.images.appliedRevision", 1),
                message,
            ]),
        ),
        ("CoreTemplate", "coretemplates", "cot", None),
        ("CellTemplate", "celltemplates", "cet", None),
        ("ShardTemplate", "shardtemplates", "sht", None),
        (
            "TopoServer",
            "toposervers",
            "tps",
            Some(vec![condition(ready), phase, age, message]),
        ),
        (
            "Cell",
            "cells",
            "cel",
            Some(vec![
                ("Gateway", "integer", ".status.gatewayReadyReplicas", 0),
                condition(available),
                phase,
                age,
                message,
            ]),
        ),
        (
            "TableGroup",
            "tablegroups",
            "tbg",
            Some(vec![
                ("Shards", "integer", ".status.readyShards", 0),
                phase,
                age,
                message,
            ]),
        ),
        (
            "Shard",
            "shards",
            "srd",
            // Two more than the reference has: who leads, and with `-o wide` every role.
            Some(vec![
                condition(available),
                phase,
                (
                    "Primary",
                    "string",
                    ".status.members[?(@.role=='PRIMARY')].pod",
                    0,
                ),
                age,
                ("Roles", "string", ".status.podRoles", 1),
                message,
            ]),
        ),
    ];
    let all = definitions().unwrap();
    assert_eq!(all.len(), rows.len());
    for (definition, (kind, plural, short, columns)) in all.iter().zip(rows) {
        let spec = &definition["spec"];
        assert_eq!(
            definition["metadata"],
            json!({"name": format!("{plural}.multigres.com")})
        );
        assert_eq!(
            spec["names"],
            json!({
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural,
                "singular": kind.to_lowercase(), "shortNames": [short],
            })
        );
        assert_eq!(
            (&spec["group"], &spec["scope"]),
            (&json!("multigres.com"), &json!("Namespaced"))
        );
        let version = &spec["versions"][0];
        let shown: Vec<Value> = columns.iter().flatten()
            .map(|(name, of, path, priority)| json!({"name": name, "type": of, "jsonPath": path, "priority": priority}))
            .collect();
        assert_eq!(
            version
                .get("additionalPrinterColumns")
                .cloned()
                .unwrap_or_else(|| json!([])),
            json!(shown),
            "{kind}"
        );
        let mut subresources = json!({});
        if columns.is_some() {
            subresources["status"] = json!({});
        }
        if kind == "Shard" {
            subresources["scale"] = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.readyReplicas"});
        }
        assert_eq!(version["subresources"], subresources, "{kind}");
        let root = &version["schema"]["openAPIV3Schema"];
        assert!(
            root.get("required").is_none(),
            "{kind}: nothing is required at the root (trap T1)"
        );
    }
}
