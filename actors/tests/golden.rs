//! What we make, compared with what the Go operator made for the same custom resources on a real API server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use actors::object::Desired;
use crds::{Cell, Shard, TopoServer};
use serde::de::DeserializeOwned;
use serde_json::Value;

const GO: &str = include_str!("goldens/go-objects-ha.yaml");

/// Filled in by the API server, so neither sent by the Go operator nor by us.
const DEFAULTED: &[&str] = &[
    "apiVersion=v1",
    "/generation",
    "/clusterIPs",
    "/ipFamilies",
    "/internalTrafficPolicy",
    "/sessionAffinity",
    "/successThreshold",
    "/timeoutSeconds",
    "/scheme",
    "/terminationMessage",
    "/dnsPolicy",
    "/enableServiceLinks",
    "/preemptionPolicy",
    "/priority",
    "/schedulerName",
    "/serviceAccount",
    "/nodeName",
    "/defaultMode",
    "/progressDeadlineSeconds",
    "/revisionHistoryLimit",
    "/rollingUpdate",
    "/volumeMode",
    "/volumeName",
    "kube-api-access",
    "node.kubernetes.io/",
    "topology.kubernetes.io/zone",
    "/finalizers",
    "/status",
    "fieldRef/apiVersion",
    "kubernetes.io/pvc-protection",
    "pv.kubernetes.io",
    "volume.kubernetes.io",
    "deployment.kubernetes.io",
    "/clusterIP",
    "/ipFamilyPolicy",
    "/type",
    "/kind",
    "/failureThreshold",
    "/restartPolicy",
    "/strategy",
];

/// Where we differ on purpose: object, path, reason. An entry that explains nothing fails the test.
const DIFFERENT: &[(&str, &str, &str)] = &[
    (
        "",
        "multigres.com/toposerver",
        "T1: Services of the global etcd select its own members only",
    ),
    (
        "",
        "/affinity",
        "T41: etcd members on different nodes where possible",
    ),
    (
        "StatefulSet",
        "/persistentVolumeClaimRetentionPolicy",
        "volumes of etcd follow the policy, without a finalizer",
    ),
    ("", "/automountServiceAccountToken", "T42: no token"),
    (
        "",
        "/securityContext",
        "T5, T42: fsGroup, seccomp, no privileges",
    ),
    (
        "Pod",
        "/terminationGracePeriodSeconds",
        "covers the pooler's time limits",
    ),
    (
        "",
        "/startupProbe",
        "T17: startup asks whether the process serves",
    ),
    ("", "/readinessProbe", "T17: readiness asks the component"),
    ("", "POD_IP", "T18: an address that resolves elsewhere"),
    ("", "--hostname", "T18"),
    (
        "Deployment",
        "--leader-failover-grace",
        "chosen: failover speed",
    ),
    (
        "Deployment",
        "--recovery-cycle-interval",
        "chosen: failover speed",
    ),
    (
        "Deployment",
        "--pooler-health-check-interval",
        "chosen: failover speed",
    ),
    ("Deployment", "--service-id", "stable id"),
    ("Deployment", "/args", "chosen: gateway buffering"),
    ("Pod", "--onterm-timeout", "chosen: time limits"),
    ("Pod", "--onclose-timeout", "chosen: time limits"),
    ("Pod", "--lameduck-period", "chosen: time limits"),
    ("Pod", "--postgres-unrecoverable-timeout", "T19"),
    ("Pod", "--service-map", "T20: no effect on poolers"),
    ("Pod", "socket-dir", "T35: unused"),
    ("Pod", "multigres.com/spec-hash", "our own hash"),
    (
        "Pod",
        "multigres.com/postgres-",
        "T15: timezone is reloadable",
    ),
    ("ConfigMap", "/data", "written afresh"),
];

fn documents() -> Vec<Value> {
    serde_saphyr::from_multiple(GO).unwrap()
}

fn resource<T: DeserializeOwned>(kind: &str) -> T {
    let mut found = documents().into_iter().find(|d| d["kind"] == kind).unwrap();
    found["metadata"]["uid"] = "\u{2026}".into();
    found.as_object_mut().unwrap().remove("status");
    serde_json::from_value(found).unwrap()
}

fn render() -> Vec<Desired> {
    let shard: Shard = resource("Shard");
    let mut all =
        actors::toposerver::objects::render(&resource::<TopoServer>("TopoServer")).unwrap();
    all.extend(actors::cell::objects::render(&resource::<Cell>("Cell")).unwrap());
    let objects = actors::shard::objects::render(&shard).unwrap();
    all.extend(objects.base);
    all.extend(objects.multiorch);
    all.push(actors::pool::objects::headless_service(&shard, "main", "zone-a").unwrap());
    for index in 0..3 {
        all.push(actors::pool::objects::claim(&shard, "main", "zone-a", index).unwrap());
        all.push(actors::pool::objects::pod(&shard, "main", "zone-a", index).unwrap());
    }
    all
}

/// Paths with their scalars; list items go by name or value, so that one more argument is one difference.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, v)| flatten(&format!("{path}/{key}"), v, into)),
        Value::Array(list) => {
            for (at, v) in list.iter().enumerate() {
                let name = ["mountPath", "name", "path", "key"]
                    .iter()
                    .find_map(|key| v.get(key)?.as_str().map(str::to_owned));
                let name = name
                    .or_else(|| v.as_str().map(str::to_owned))
                    .unwrap_or_else(|| at.to_string());
                flatten(&format!("{path}/[{name}]"), v, into);
            }
        }
        scalar => {
            into.insert(path.to_owned(), scalar.to_string());
        }
    }
}

#[test]
fn differs_from_the_go_operator_only_where_we_say_so() {
    let go: BTreeMap<(String, String), Value> = documents()
        .into_iter()
        .map(|d| {
            (
                (
                    d["kind"].as_str().unwrap().into(),
                    d["metadata"]["name"].as_str().unwrap().into(),
                ),
                d,
            )
        })
        .collect();
    let mut used = BTreeSet::new();
    let mut unexplained = Vec::new();
    let mut compared = 0;
    for ours in render() {
        let kind = ours.key.kind.name();
        let Some(theirs) = go.get(&(kind.to_owned(), ours.key.name.to_string())) else {
            continue;
        };
        compared += 1;
        let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
        flatten("", theirs, &mut left);
        flatten("", &ours.body, &mut right);
        let paths: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        for path in paths
            .into_iter()
            .filter(|path| left.get(*path) != right.get(*path))
        {
            let entry = DIFFERENT
                .iter()
                .position(|(object, part, _)| kind.starts_with(object) && path.contains(part));
            if let Some(entry) = entry {
                used.insert(entry);
            } else if right.contains_key(path.as_str()) && left.contains_key(path.as_str())
                || !DEFAULTED.iter().any(|part| path.contains(part))
            {
                unexplained.push(format!(
                    "{} {path}: {:?} → {:?}",
                    ours.key,
                    left.get(path),
                    right.get(path)
                ));
            }
        }
    }
    assert!(compared >= 12, "only {compared} objects compared");
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    let idle: Vec<_> = DIFFERENT
        .iter()
        .enumerate()
        .filter(|(at, _)| !used.contains(at))
        .map(|(_, e)| e)
        .collect();
    assert!(idle.is_empty(), "explains nothing: {idle:?}");
}

#[test]
fn rendering_twice_gives_the_same_and_names_are_unique() {
    let (first, second) = (render(), render());
    assert_eq!(first, second);
    let keys: BTreeSet<_> = first.iter().map(|desired| desired.key.clone()).collect();
    assert_eq!(keys.len(), first.len());
}

#[test]
fn matches_the_golden_manifests() {
    let text: String = render()
        .iter()
        .map(|d| format!("---\n{}", serde_saphyr::to_string(&d.body).unwrap()))
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/ha.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        text,
        "UPDATE_GOLDEN=1 rewrites it"
    );
}
