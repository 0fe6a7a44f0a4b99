//! Every object we make, byte for byte, and compared with what the Go operator made for the same cluster on a real API server.

use std::collections::BTreeSet;

use actors::object::{Desired, Kind, MANAGED_BY};
use crds::resolve::Templates;
use serde_json::Value;

use super::comparison::{Lists, compare, desired, documented};
use super::differences;
use super::files::{SAMPLES, assert_golden, manifest};
use super::render::{cluster_of, documents, render_with, templates_of, uid_of};

const GO: &str = include_str!("go-objects-ha.yaml");

/// All objects of a cluster: each level is rendered from the custom resources of the level above.
fn render(cluster: &Value, uid: fn(&str) -> String) -> Vec<Desired> {
    render_with(cluster, &Templates::default(), uid)
}

#[test]
fn matches_the_golden_manifests() {
    for (shape, text) in SAMPLES {
        let objects = render(&cluster_of(text), uid_of);
        let text = manifest(&objects);
        let bodies: Vec<&Value> = objects.iter().map(|d| &*d.body).collect();
        assert_eq!(
            documents(&text).iter().collect::<Vec<_>>(),
            bodies,
            "{shape}: the file does not say what we send"
        );
        assert_golden(&format!("{shape}.yaml"), &text);
    }
}

#[test]
fn every_sample_can_be_built() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/samples");
    let mut built = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        println!("{}", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        let objects = render_with(&cluster_of(&text), &templates_of(&text), uid_of);
        let names: BTreeSet<_> = objects.iter().map(|object| &object.key).collect();
        assert_eq!(names.len(), objects.len(), "a name is used twice");
        assert!(objects.iter().any(|object| object.key.kind == Kind::Pod));
        built += 1;
    }
    assert!(built >= 10, "{built} samples");
}

#[test]
fn rendering_twice_gives_the_same() {
    for (shape, text) in SAMPLES {
        let cluster = cluster_of(text);
        assert_eq!(
            render(&cluster, uid_of),
            render(&cluster, uid_of),
            "{shape}"
        );
    }
}

#[test]
fn no_two_objects_share_a_name() {
    for (shape, text) in SAMPLES {
        let mut seen = BTreeSet::new();
        for desired in render(&cluster_of(text), uid_of) {
            assert!(!desired.key.namespace.is_empty());
            assert!(
                seen.insert(desired.key.clone()),
                "{shape}: {} twice",
                desired.key
            );
        }
    }
}

#[test]
fn every_object_is_labelled_and_owned() {
    let mut kept = 0;
    for (shape, text) in SAMPLES {
        let cluster = cluster_of(text);
        let retain = cluster["spec"]["pvcDeletionPolicy"]["whenDeleted"] == "Retain";
        for Desired { key, body } in render(&cluster, uid_of) {
            let meta = &body["metadata"];
            assert_eq!(meta["labels"][MANAGED_BY.0], MANAGED_BY.1, "{shape}: {key}");
            let owners = meta["ownerReferences"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if retain && key.kind == Kind::PersistentVolumeClaim {
                assert!(owners.is_empty(), "{shape}: {key} would go with its owner");
                kept += 1;
                continue;
            }
            assert_eq!(owners.len(), 1, "{shape}: {key}");
            assert_eq!(owners[0]["controller"], true, "{shape}: {key}");
            let owner = owners[0]["name"].as_str().unwrap();
            assert_eq!(owners[0]["uid"], uid_of(owner).as_str(), "{shape}: {key}");
        }
    }
    assert!(kept > 0, "no shape keeps its claims");
}

// ---- Comparison with the Go operator ----

/// Set by the API server or a controller, never part of a manifest; counts only where we are silent: (kind, path).
/// Uids, times, versions and managed fields are already left out of the recording.
/// Segments are separated by blanks; `*` stands for one segment, `x*` for one that begins with x. An empty kind means all.
const SERVER: &[(&str, &str)] = &[
    ("", "status"),
    ("", "metadata generation"),
    (
        "Deployment",
        "metadata annotations deployment.kubernetes.io/revision",
    ),
    (
        "PersistentVolumeClaim",
        "metadata annotations pv.kubernetes.io/*",
    ),
    (
        "PersistentVolumeClaim",
        "metadata finalizers kubernetes.io/pvc-protection",
    ),
    ("PersistentVolumeClaim", "spec volumeName"),
    ("PersistentVolumeClaim", "spec storageClassName"),
    ("Service", "spec clusterIP"),
    ("Service", "spec clusterIPs"),
    ("Service", "spec ipFamilies"),
    ("Pod", "metadata labels topology.kubernetes.io/zone"),
    ("Pod", "spec nodeName"),
    ("Pod", "spec volumes kube-api-access-*"),
    (
        "Pod",
        "spec containers * volumeMounts /var/run/secrets/kubernetes.io/serviceaccount",
    ),
    (
        "Pod",
        "spec initContainers * volumeMounts /var/run/secrets/kubernetes.io/serviceaccount",
    ),
    ("Pod", "spec tolerations node.kubernetes.io/not-ready"),
    ("Pod", "spec tolerations node.kubernetes.io/unreachable"),
    ("Pod", "spec priority"),
    ("StatefulSet", "spec volumeClaimTemplates * status"),
];

/// What Kubernetes fills in where we are silent: (kind, end of the path, value as JSON).
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("", "terminationMessagePath", r#""/dev/termination-log""#),
    ("", "terminationMessagePolicy", r#""File""#),
    ("", "dnsPolicy", r#""ClusterFirst""#),
    ("", "schedulerName", r#""default-scheduler""#),
    ("Pod", "spec restartPolicy", r#""Always""#),
    ("", "template spec restartPolicy", r#""Always""#),
    ("", "spec terminationGracePeriodSeconds", "30"),
    ("Pod", "spec enableServiceLinks", "true"),
    ("Pod", "spec preemptionPolicy", r#""PreemptLowerPriority""#),
    ("Pod", "spec serviceAccount", r#""default""#),
    ("Pod", "spec serviceAccountName", r#""default""#),
    ("Pod", "containers * resources", "{}"),
    ("", "livenessProbe timeoutSeconds", "1"),
    ("", "readinessProbe timeoutSeconds", "1"),
    ("", "startupProbe timeoutSeconds", "1"),
    ("", "livenessProbe successThreshold", "1"),
    ("", "readinessProbe successThreshold", "1"),
    ("", "startupProbe successThreshold", "1"),
    ("", "livenessProbe failureThreshold", "3"),
    ("", "readinessProbe failureThreshold", "3"),
    ("", "httpGet scheme", r#""HTTP""#),
    ("", "fieldRef apiVersion", r#""v1""#),
    ("", "configMap defaultMode", "420"),
    ("Service", "spec sessionAffinity", r#""None""#),
    ("Service", "spec internalTrafficPolicy", r#""Cluster""#),
    ("Service", "spec ipFamilyPolicy", r#""SingleStack""#),
    ("Service", "spec type", r#""ClusterIP""#),
    ("Deployment", "spec progressDeadlineSeconds", "600"),
    ("", "spec revisionHistoryLimit", "10"),
    ("Deployment", "spec strategy type", r#""RollingUpdate""#),
    (
        "Deployment",
        "spec strategy rollingUpdate maxSurge",
        r#""25%""#,
    ),
    (
        "Deployment",
        "spec strategy rollingUpdate maxUnavailable",
        r#""25%""#,
    ),
    ("", "spec volumeMode", r#""Filesystem""#),
];

/// Where we differ on purpose: kind, path, reason. An entry that explains nothing fails the test.
const DIFFERENT: &[(&str, &str, &str)] = &[
    // Objects that only one side has.
    (
        "PersistentVolumeClaim",
        "data-ha-global-topo-0",
        "made by the StatefulSet controller from the claim template",
    ),
    (
        "Pod",
        "ha-global-topo-0",
        "made by the StatefulSet controller from the pod template",
    ),
    (
        "PersistentVolumeClaim",
        "data-ha-postgres-default-0-inf-pool-main-zone-a-6904f14d-1",
        "the recording keeps one claim of a pool",
    ),
    (
        "PersistentVolumeClaim",
        "data-ha-postgres-default-0-inf-pool-main-zone-a-6904f14d-2",
        "the recording keeps one claim of a pool",
    ),
    (
        "Pod",
        "ha-postgres-default-0-inf-pool-main-zone-a-6904f14d-1",
        "the recording keeps one pod of a pool",
    ),
    (
        "Pod",
        "ha-postgres-default-0-inf-pool-main-zone-a-6904f14d-2",
        "the recording keeps one pod of a pool",
    ),
    (
        "Secret",
        "ha-postgres-default-0-inf-393248de-pgbackrest-ca",
        "the recording has no Secrets",
    ),
    (
        "Secret",
        "ha-postgres-default-0-inf-393248de-pgbackrest-tls",
        "the recording has no Secrets",
    ),
    (
        "PodDisruptionBudget",
        "ha-postgres-default-0-inf-pool-main-zone-a-pdb-ddcc1eb3",
        "design.md 4: replaced by the two budgets by role",
    ),
    (
        "PodDisruptionBudget",
        "ha-postgres-default-0-inf-primary-pdb-636a15fe",
        "design.md 4: budgets by role, disjoint; the primary is not evicted",
    ),
    (
        "PodDisruptionBudget",
        "ha-postgres-default-0-inf-replicas-pdb-75bad3e3",
        "design.md 4: budgets by role, disjoint; replicas over the whole shard",
    ),
    (
        "PodDisruptionBudget",
        "ha-global-topo-pdb",
        "T41: node drains take one member of etcd at a time",
    ),
    // The examples do not know the value.
    (
        "Pod",
        "metadata annotations multigres.com/spec-hash",
        "design.md 8: our own hash, with its version in front",
    ),
];

#[test]
fn differs_from_the_go_operator_only_where_we_say_so() {
    let mut go = documented(documents(GO));
    let cluster = go.remove(&("MultigresCluster", "ha".to_owned())).unwrap();
    let mut ours = desired(render(&cluster, |_| "\u{2026}".to_owned()));
    // Text of ConfigMaps is not recorded.
    for body in go
        .values_mut()
        .chain(ours.values_mut())
        .filter(|b| b["kind"] == "ConfigMap")
    {
        for (_, text) in body["data"].as_object_mut().unwrap() {
            *text = "(text)".into();
        }
    }
    let lists = Lists {
        server: SERVER,
        defaults: DEFAULTS,
        different: [differences::COMMON, DIFFERENT].concat(),
    };
    compare(&lists, go, ours, 20);
}
