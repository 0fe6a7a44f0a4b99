use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::Bed;

fn of(pod: &Value) -> String {
    let annotations = serde_json::from_value(pod["metadata"]["annotations"].clone()).unwrap();
    let spec = canonical::text_without_nulls(&pod["spec"]).unwrap();
    super::of(&labels::borrowed(&annotations), &spec)
}

/// A pod with every part that a pool pod can have.
fn full() -> Value {
    let mut bed = Bed::new();
    let spec = &mut bed.shard["spec"];
    spec["cellTopologyLabels"] = json!({"a": {"zone": "z1"}});
    spec["internalTLS"] = json!({"enabled": true});
    spec["initdbArgs"] = json!("--no-locale");
    spec["backup"]["encryption"] = json!({"secretName": "repo-key"});
    let pool = &mut spec["pools"]["default"];
    pool["tolerations"] =
        json!([{"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}]);
    pool["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {}},
    ]}});
    pool["postgres"] =
        json!({"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}});
    super::super::objects::pod(&bed.typed(), "default", "a", 0)
        .unwrap()
        .body
        .into()
}

/// A pod as the API server hands it out: keys in another order, what it fills in, amounts as it prints them.
fn served(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let spec = pod["spec"].as_object_mut().unwrap();
    for (name, value) in [
        ("dnsPolicy", json!("ClusterFirst")),
        ("enableServiceLinks", json!(true)),
        ("nodeName", json!("node-1")),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("priority", json!(0)),
        ("restartPolicy", json!("Always")),
        ("schedulerName", json!("default-scheduler")),
        ("serviceAccount", json!("default")),
        ("serviceAccountName", json!("default")),
    ] {
        spec.entry(name).or_insert(value);
    }
    let tolerations = spec.entry("tolerations").or_insert(json!([]));
    for key in ADDED_TOLERATIONS {
        tolerations.as_array_mut().unwrap().push(json!(
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        ));
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().unwrap() {
            container["terminationMessagePath"] = json!("/dev/termination-log");
            container["terminationMessagePolicy"] = json!("File");
            let container = container.as_object_mut().unwrap();
            container
                .entry("imagePullPolicy")
                .or_insert(json!("IfNotPresent"));
            let resources = container.entry("resources").or_insert(json!({}));
            let limits = resources["limits"].as_object().cloned().unwrap_or_default();
            for (name, limit) in limits {
                if resources.pointer(&format!("/requests/{name}")).is_none() {
                    resources["requests"][name] = limit;
                }
            }
        }
    }
    for volume in spec["volumes"].as_array_mut().unwrap() {
        for source in ["configMap", "projected", "secret"] {
            if let Some(source) = volume.get_mut(source) {
                source
                    .as_object_mut()
                    .unwrap()
                    .entry("defaultMode")
                    .or_insert(json!(420));
            }
        }
    }
    let reversed = text_reversed(&pod);
    serde_json::from_str(&reversed).unwrap()
}

/// JSON with the keys of every map in falling order.
fn text_reversed(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by(|a, b| b.cmp(a));
            let entries = keys
                .iter()
                .map(|key| format!("{}:{}", json!(key), text_reversed(&map[*key])));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(text_reversed).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

/// The paths of all values that are no map and no list, with what else could stand there.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                leaves(
                    value,
                    &format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Value::Array(list) => {
            for (at, value) in list.iter().enumerate() {
                leaves(value, &format!("{path}/{at}"), found);
            }
        }
        Value::String(text) => found.push((path.to_owned(), json!(format!("{text}x")))),
        Value::Number(number) => found.push((path.to_owned(), json!(number.as_i64().unwrap() + 1))),
        Value::Bool(is) => found.push((path.to_owned(), json!(!is))),
        Value::Null => {}
    }
}

/// L-ROLL-04: every field of a pod enters its hash unless it is listed as excluded, and the same pod always has the same hash.
#[test]
fn an_incomplete_or_unstable_fingerprint_is_not_possible() {
    let pod = full();
    let base = of(&pod);
    assert!(is_ours(&base) && base.len() >= VERSION.len() + 32, "{base}");
    assert!((0..1000).all(|_| of(&pod) == base));
    let mut fields = Vec::new();
    leaves(&pod["spec"], "/spec", &mut fields);
    let mut without_effect = std::collections::BTreeSet::new();
    for (path, other) in &fields {
        let mut changed = pod.clone();
        *changed.pointer_mut(path).unwrap() = other.clone();
        if of(&changed) == base {
            let names: Vec<&str> = path
                .split('/')
                .filter(|p| p.parse::<usize>().is_err())
                .collect();
            without_effect.insert(
                names
                    .iter()
                    .skip(2)
                    .take(2)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(" "),
            );
        }
    }
    assert!(fields.len() > 200, "{}", fields.len());
    let excluded = [
        "containers args",
        "containers livenessProbe",
        "containers ports",
        "containers readinessProbe",
        "containers startupProbe",
        "hostname ",
        "initContainers livenessProbe",
        "initContainers readinessProbe",
        "initContainers startupProbe",
        "subdomain ",
        "terminationGracePeriodSeconds ",
    ];
    assert_eq!(
        without_effect.into_iter().collect::<Vec<_>>(),
        excluded.map(str::trim)
    );
    // Of the arguments, only those that we chose.
    let mut changed = pod.clone();
    let args = changed["spec"]["containers"][0]["args"]
        .as_array_mut()
        .unwrap();
    args.retain(|arg| {
        CHOSEN_FLAGS
            .iter()
            .all(|flag| !arg.as_str().unwrap().starts_with(flag))
    });
    assert_eq!(of(&changed), base);
    for at in 0..args_of(&changed).len() {
        let mut without = changed.clone();
        without["spec"]["containers"][0]["args"]
            .as_array_mut()
            .unwrap()
            .remove(at);
        assert_ne!(of(&without), base, "{}", args_of(&changed)[at]);
    }
}

fn args_of(pod: &Value) -> &Vec<Value> {
    pod["spec"]["containers"][0]["args"].as_array().unwrap()
}

#[test]
fn of_the_annotations_only_the_settings_that_need_a_restart_count() {
    let pod = full();
    let mut other = pod.clone();
    for name in [
        labels::RELOAD_HASH,
        labels::PROJECT_REF,
        labels::SPEC_HASH,
        "prometheus.io/port",
    ] {
        other["metadata"]["annotations"][name] = json!("other");
    }
    other["metadata"]["labels"] = json!({});
    assert_eq!(of(&pod), of(&other));
    other["metadata"]["annotations"][labels::CONFIG_HASH] = json!("other");
    assert_ne!(of(&pod), of(&other));
}

#[test]
fn an_empty_selector_is_not_an_absent_one() {
    let pod = full();
    let mut other = pod.clone();
    let terms = "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0";
    other
        .pointer_mut(terms)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove("namespaceSelector");
    assert_ne!(of(&pod), of(&other));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// L-ROLL-04: the order of keys, what the API server fills in and how it prints amounts do not change the hash.
    #[test]
    fn a_round_trip_through_the_server_keeps_the_hash(
        cpu in proptest::option::of(1_u32..64),
        memory in proptest::option::of(1_u32..64),
        requests in proptest::collection::btree_map("(cpu|memory)", 1_u32..4, 0..3),
        zone in proptest::option::of("[a-z]{0,4}"),
        toleration in proptest::option::of((".{0,4}", 0_i64..600)),
        account in proptest::option::of("[a-z]{1,8}"),
        image in "[a-z]{1,8}",
    ) {
        let mut bed = Bed::new();
        let spec = &mut bed.shard["spec"];
        spec["images"]["postgres"] = json!(image);
        if let Some(zone) = &zone {
            spec["cellTopologyLabels"] = json!({"a": {"zone": zone}});
        }
        if let Some(account) = &account {
            spec["backup"] = json!({"type": "s3", "s3": {"bucket": "b", "region": "r", "serviceAccountName": account}});
        }
        let pool = &mut spec["pools"]["default"];
        if let Some((value, seconds)) = &toleration {
            pool["tolerations"] = json!([{"key": "k", "value": value, "effect": "NoExecute", "tolerationSeconds": seconds}]);
        }
        let limits = |cpu_text: &dyn Fn(u32) -> String, memory_text: &dyn Fn(u32) -> String| {
            let mut limits = serde_json::Map::new();
            limits.extend(cpu.map(|cpu| ("cpu".to_owned(), json!(cpu_text(cpu)))));
            limits.extend(memory.map(|memory| ("memory".to_owned(), json!(memory_text(memory)))));
            json!({"limits": limits, "requests": requests.iter().map(|(k, v)| (k.clone(), json!(v.to_string()))).collect::<serde_json::Map<_, _>>()})
        };
        let pod = |resources: Value| -> Value {
            let mut other = Bed::new();
            other.shard = bed.shard.clone();
            other.shard["spec"]["pools"]["default"]["postgres"] = json!({"resources": resources});
            super::super::objects::pod(&other.typed(), "default", "a", 0).unwrap().body.into()
        };
        let desired = pod(limits(&|cpu| format!("{}m", cpu * 1000), &|memory| format!("{}Mi", memory * 1024)));
        let printed = pod(limits(&|cpu| cpu.to_string(), &|memory| format!("{memory}Gi")));
        let hash = of(&desired);
        prop_assert_eq!(&hash, &of(&printed));
        prop_assert_eq!(&hash, &of(&served(&printed)));
        prop_assert_eq!(common(&desired["spec"]).unwrap(), common(&served(&printed)["spec"]).unwrap());
    }
}
