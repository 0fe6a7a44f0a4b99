//! Every object we make, byte for byte, and compared with what the Go operator made for the same cluster on a real API server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod tree;

use std::collections::{BTreeMap, BTreeSet};

use actors::object::{Desired, Kind, MANAGED_BY};
use crds::MultigresCluster;
use crds::resolve::{OperatorDefaults, Templates, resolve};
use serde_json::{Value, json};
use tree::uid_of;

const GO: &str = include_str!("golden/go-objects-ha.yaml");

const SHAPES: [(&str, &str); 3] = [
    ("minimal", include_str!("../../docs/samples/minimal.yaml")),
    (
        "three-cells",
        include_str!("../../docs/samples/three-cells.yaml"),
    ),
    (
        "external-etcd",
        include_str!("../../docs/samples/external-etcd.yaml"),
    ),
];

// ---- Rendering ----

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

fn cluster_of(text: &str) -> Value {
    let mut all = documents(text).into_iter();
    let mut cluster = all.find(|d| d["kind"] == "MultigresCluster").unwrap();
    // The samples leave it to who applies them.
    cluster["metadata"]["namespace"] = "default".into();
    cluster
}

/// The templates of a file.
fn templates_of(text: &str) -> Templates {
    let mut templates = Templates::default();
    for document in documents(text) {
        let name = document["metadata"]["name"].as_str().unwrap().to_owned();
        match document["kind"].as_str().unwrap() {
            "CoreTemplate" => {
                let template = serde_json::from_value(document).unwrap();
                templates.core.insert(name, template);
            }
            "CellTemplate" => {
                let template = serde_json::from_value(document).unwrap();
                templates.cell.insert(name, template);
            }
            "ShardTemplate" => {
                let template = serde_json::from_value(document).unwrap();
                templates.shard.insert(name, template);
            }
            _ => {}
        }
    }
    templates
}

/// All objects of a cluster without templates.
fn render(cluster: &Value, uid: fn(&str) -> String) -> Vec<Desired> {
    render_with(cluster, &Templates::default(), uid)
}

fn render_with(cluster: &Value, templates: &Templates, uid: fn(&str) -> String) -> Vec<Desired> {
    let cluster: MultigresCluster = tree::received(cluster, uid);
    let defaults = OperatorDefaults::with_images(&BTreeMap::new());
    let resolved = resolve(&cluster, templates, &defaults).unwrap();
    tree::render(&cluster, &resolved, uid).unwrap()
}

// ---- Golden manifests ----

#[test]
fn matches_the_golden_manifests() {
    for (shape, text) in SHAPES {
        let objects = render(&cluster_of(text), uid_of);
        let text: String = objects
            .iter()
            .map(|d| format!("---\n{}", serde_saphyr::to_string(&d.body).unwrap()))
            .collect();
        let bodies: Vec<&Value> = objects.iter().map(|d| &d.body).collect();
        assert_eq!(
            documents(&text).iter().collect::<Vec<_>>(),
            bodies,
            "{shape}: the file does not say what we send"
        );
        let path = format!("{}/tests/golden/{shape}.yaml", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        let differing = golden
            .lines()
            .zip(text.lines())
            .position(|(old, new)| old != new);
        assert!(
            golden == text,
            "{path} differs from line {differing:?} (counted from 0); UPDATE_GOLDEN=1 rewrites it"
        );
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
    for (shape, text) in SHAPES {
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
    for (shape, text) in SHAPES {
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
    for (shape, text) in SHAPES {
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
    // Metadata.
    (
        "Shard",
        "metadata finalizers multigres.com/shard-pvc-orphan",
        "design.md 4: owner references of claims follow the policy, so no finalizer",
    ),
    (
        "Pod",
        "metadata annotations multigres.com/spec-hash",
        "design.md 8: our own hash, with its version in front",
    ),
    (
        "Pod",
        "metadata annotations multigres.com/postgres-config-hash",
        "T15: what needs a restart is decided per setting; timezone is reloadable",
    ),
    (
        "Pod",
        "metadata annotations multigres.com/postgres-reload-hash",
        "T15: what needs a restart is decided per setting; timezone is reloadable",
    ),
    // etcd.
    (
        "StatefulSet",
        "spec template metadata labels multigres.com/toposerver",
        "T1: a label that only this server's members carry",
    ),
    (
        "Service",
        "spec selector multigres.com/toposerver",
        "T1: Services of the global etcd select its own members only",
    ),
    (
        "StatefulSet",
        "spec volumeClaimTemplates data metadata labels",
        "T33: claims of etcd are seen by informers and by label-scoped tools",
    ),
    (
        "StatefulSet",
        "spec volumeClaimTemplates data metadata ownerReferences",
        "design.md 4: volumes of etcd follow the policy, without a finalizer; they survive their StatefulSet (L-PVC-08)",
    ),
    (
        "PodDisruptionBudget",
        "ha-global-topo-pdb",
        "T41: node drains take one member of etcd at a time",
    ),
    (
        "TopoServer",
        "spec images",
        "T8: pull policy and Secrets reach etcd too",
    ),
    (
        "StatefulSet",
        "spec template spec affinity",
        "T41: members on different nodes where possible",
    ),
    (
        "StatefulSet",
        "spec template spec containers etcd startupProbe httpGet path",
        "T17: startup asks whether the process serves, not its peers",
    ),
    // Identity and rights.
    (
        "Deployment|StatefulSet",
        "spec template spec automountServiceAccountToken",
        "T42: nothing in the pod talks to Kubernetes",
    ),
    (
        "Pod",
        "spec automountServiceAccountToken",
        "T42: nothing in the pod talks to Kubernetes",
    ),
    (
        "Deployment|StatefulSet",
        "spec template spec securityContext seccompProfile",
        "T42: the runtime's seccomp profile",
    ),
    (
        "Pod",
        "spec securityContext seccompProfile",
        "T42: the runtime's seccomp profile",
    ),
    (
        "Deployment|StatefulSet",
        "spec template spec containers * securityContext",
        "T42: no privileges, no root where the image allows it",
    ),
    (
        "Pod",
        "spec containers * securityContext allowPrivilegeEscalation",
        "T42: no privileges",
    ),
    (
        "Pod",
        "spec containers * securityContext capabilities",
        "T42: no capabilities",
    ),
    (
        "Pod",
        "spec initContainers postgres securityContext allowPrivilegeEscalation",
        "T42: no privileges",
    ),
    (
        "Pod",
        "spec initContainers postgres securityContext capabilities",
        "T42: no capabilities",
    ),
    (
        "Pod",
        "spec securityContext fsGroup",
        "T5: without a group the certificates belong to root and PostgreSQL cannot read them",
    ),
    (
        "Pod",
        "spec securityContext fsGroupChangePolicy",
        "T5: the group is not set again on a volume that has it",
    ),
    // Stateless components.
    (
        "Deployment",
        "spec template spec containers * startupProbe httpGet path",
        "T17: startup asks whether the process serves, not its peers",
    ),
    (
        "Deployment",
        "spec template spec containers * env POD_IP",
        "T18: an address that resolves from other pods",
    ),
    (
        "Deployment",
        "spec template spec containers * args --hostname",
        "T18: an address that resolves from other pods",
    ),
    (
        "Deployment",
        "spec template spec containers multiadmin-web env POSTGRES_PASSWORD",
        "T9: else the web falls back to a literal password",
    ),
    (
        "Deployment",
        "spec template spec containers multigateway args --buffer-window",
        "design.md 8: buffers through a planned switchover",
    ),
    (
        "Deployment",
        "spec template spec containers multigateway args --buffer-max-failover-duration",
        "design.md 8: buffers through a planned switchover",
    ),
    (
        "Deployment",
        "spec template spec containers multigateway args --buffer-min-time-between-failovers",
        "design.md 8: buffers through the next switchover too",
    ),
    (
        "Deployment",
        "spec template spec containers multigateway args --buffer-drain-concurrency",
        "design.md 8: what was buffered is drained at once",
    ),
    (
        "Deployment",
        "spec strategy type",
        "design.md 8: an orchestrator with a stable id never runs twice",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --service-id",
        "design.md 8: a restarted orchestrator resumes what it had begun",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --leader-failover-grace-period-base",
        "design.md 8: failover within seconds",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --leader-failover-grace-period-max-jitter",
        "design.md 8: failover within seconds",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --pooler-health-check-interval",
        "design.md 8: failover within seconds",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --recovery-cycle-interval",
        "design.md 8: failover within seconds",
    ),
    // Pool pods.
    (
        "Pod",
        "spec terminationGracePeriodSeconds",
        "design.md 8: covers the pooler's own time limits and PostgreSQL's stop",
    ),
    (
        "Pod",
        "spec containers multipooler args --onterm-timeout",
        "design.md 8: time limits that add up to the grace period",
    ),
    (
        "Pod",
        "spec containers multipooler args --onclose-timeout",
        "design.md 8: time limits that add up to the grace period",
    ),
    (
        "Pod",
        "spec containers multipooler args --lameduck-period",
        "design.md 8: time limits that add up to the grace period",
    ),
    (
        "Pod",
        "spec containers multipooler args --postgres-unrecoverable-timeout",
        "T19: off by default, and then no pooler ever asks to be replaced",
    ),
    (
        "Pod",
        "spec containers multipooler args --service-map",
        "T20: no effect on poolers",
    ),
    (
        "Pod",
        "spec containers multipooler readinessProbe httpGet path",
        "T17: readiness asks the component, not just its process",
    ),
    (
        "Pod",
        "spec initContainers postgres readinessProbe httpGet path",
        "T17: readiness asks the component, not just its process",
    ),
    (
        "Pod",
        "spec containers multipooler volumeMounts /var/run/postgresql",
        "T35: nothing uses the directory",
    ),
    (
        "Pod",
        "spec initContainers postgres volumeMounts /var/run/postgresql",
        "T35: nothing uses the directory",
    ),
    (
        "Pod",
        "spec volumes socket-dir",
        "T35: nothing uses the directory",
    ),
];

fn segment(pattern: &str, segment: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == segment, |start| segment.starts_with(start))
}

fn matches(pattern: &str, path: &[String]) -> bool {
    let pattern: Vec<&str> = pattern.split(' ').collect();
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(p, s)| segment(p, s))
}

fn ends(pattern: &str, path: &[String]) -> bool {
    let length = pattern.split(' ').count();
    path.len() >= length && matches(pattern, &path[path.len() - length..])
}

/// A difference: where, what the Go operator has, what we have.
struct Difference {
    kind: &'static str,
    name: String,
    path: Vec<String>,
    go: Option<Value>,
    ours: Option<Value>,
}

#[derive(Default)]
struct Comparison {
    unexplained: Vec<String>,
    explained: BTreeSet<usize>,
    ignored: BTreeSet<usize>,
    defaulted: BTreeSet<usize>,
}

/// Items of a list by what identifies them, so that one more argument is one difference.
fn items(list: &[Value]) -> Vec<(String, Value)> {
    let mut result: Vec<(String, Value)> = Vec::new();
    let mut rest = list.iter().enumerate().peekable();
    while let Some((at, item)) = rest.next() {
        let pair = if let Some(text) = item.as_str() {
            if let Some((flag, value)) = text.split_once('=').filter(|_| text.starts_with("--")) {
                (flag.to_owned(), format!("={value}").into())
            } else if text.starts_with("--")
                && let Some((_, value)) =
                    rest.next_if(|(_, v)| v.as_str().is_some_and(|v| !v.starts_with("--")))
            {
                (text.to_owned(), value.clone())
            } else {
                (text.to_owned(), json!(true))
            }
        } else {
            let name = ["mountPath", "name", "key"]
                .iter()
                .find_map(|key| item.get(key)?.as_str());
            let name = name.or_else(|| item.pointer("/metadata/name")?.as_str());
            (
                name.map_or_else(|| at.to_string(), str::to_owned),
                item.clone(),
            )
        };
        assert!(
            result.iter().all(|(name, _)| *name != pair.0),
            "two items {} in {list:?}",
            pair.0
        );
        result.push(pair);
    }
    result
}

impl Comparison {
    fn compare(&mut self, found: Difference) {
        let Difference {
            kind,
            path,
            go,
            ours,
            ..
        } = &found;
        if go == ours {
            return;
        }
        let of = |wanted: &str| wanted.is_empty() || wanted == *kind;
        // A Service without address is a choice, any other address the server's.
        let headless =
            path.last().is_some_and(|at| at == "clusterIP") && *go == Some(json!("None"));
        let ignored = SERVER.iter().position(|(k, p)| of(k) && matches(p, path));
        if let Some(at) = ignored.filter(|_| ours.is_none() && !headless) {
            self.ignored.insert(at);
            return;
        }
        if let (Some(go), None) = (go, ours) {
            let defaulted = DEFAULTS.iter().position(|(k, p, default)| {
                of(k) && ends(p, path) && *go == serde_json::from_str::<Value>(default).unwrap()
            });
            if let Some(at) = defaulted {
                self.defaulted.insert(at);
                return;
            }
        }
        let explained = DIFFERENT
            .iter()
            .position(|(kinds, p, _)| kinds.split('|').any(&of) && matches(p, path));
        if let Some(at) = explained {
            self.explained.insert(at);
            return;
        }
        let children = |value: &Option<Value>| match value {
            Some(Value::Object(map)) => Some(map.clone().into_iter().collect()),
            Some(Value::Array(list)) => Some(items(list)),
            None => Some(Vec::new()),
            Some(_) => None,
        };
        if let (Some(left), Some(right)) = (children(go), children(ours))
            && left.len() + right.len() > 0
        {
            self.lists(&found, left, right);
            return;
        }
        let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        self.unexplained.push(format!(
            "{kind} {} | {} | {} | {}",
            found.name,
            path.join(" "),
            text(go),
            text(ours)
        ));
    }

    fn lists(&mut self, at: &Difference, left: Vec<(String, Value)>, right: Vec<(String, Value)>) {
        let below = |name: &str, go, ours| Difference {
            kind: at.kind,
            name: at.name.clone(),
            path: at.path.iter().cloned().chain([name.to_owned()]).collect(),
            go,
            ours,
        };
        let common = |one: &[(String, Value)], other: &[(String, Value)]| -> Vec<Value> {
            let there = |name: &String| other.iter().any(|(n, _)| n == name);
            let names = one.iter().map(|(name, _)| name);
            names.filter(|n| there(n)).map(|n| json!(n)).collect()
        };
        let order = (common(&left, &right), common(&right, &left));
        if order.0 != order.1 {
            let text = |names: Vec<Value>| Some(json!(json!(names).to_string()));
            self.compare(below("(order)", text(order.0), text(order.1)));
        }
        let (left, mut right): (Vec<_>, BTreeMap<_, _>) = (left, right.into_iter().collect());
        for (name, go) in left {
            let ours = right.remove(&name);
            self.compare(below(&name, Some(go), ours));
        }
        for (name, ours) in right {
            self.compare(below(&name, None, Some(ours)));
        }
    }
}

#[test]
fn differs_from_the_go_operator_only_where_we_say_so() {
    let kind_of = |body: &Value| {
        let kinds = Kind::ALL.iter().map(|kind| kind.name());
        kinds
            .into_iter()
            .find(|kind| body["kind"] == *kind)
            .unwrap()
    };
    let mut go: BTreeMap<(&str, String), Value> = documents(GO)
        .into_iter()
        .map(|d| {
            (
                (
                    kind_of(&d),
                    d["metadata"]["name"].as_str().unwrap().to_owned(),
                ),
                d,
            )
        })
        .collect();
    let cluster = go.remove(&("MultigresCluster", "ha".to_owned())).unwrap();
    let mut ours: BTreeMap<(&str, String), Value> = render(&cluster, |_| "\u{2026}".to_owned())
        .into_iter()
        .map(|d| ((d.key.kind.name(), d.key.name.to_string()), d.body))
        .collect();
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
    let mut comparison = Comparison::default();
    let mut both = 0;
    let names: BTreeSet<(&str, String)> = go.keys().chain(ours.keys()).cloned().collect();
    for (kind, name) in names {
        let key = (kind, name.clone());
        let (theirs, own) = (go.remove(&key), ours.remove(&key));
        both += usize::from(theirs.is_some() && own.is_some());
        // An object that only one side has is one difference, at its name.
        let path = if theirs.is_some() && own.is_some() {
            Vec::new()
        } else {
            vec![name.clone()]
        };
        let whole = |side: Option<Value>| match (path.is_empty(), side) {
            (false, Some(_)) => Some(json!("(the whole object)")),
            (_, side) => side,
        };
        comparison.compare(Difference {
            kind,
            name,
            go: whole(theirs),
            ours: whole(own),
            path,
        });
    }
    assert!(
        comparison.unexplained.is_empty(),
        "{} unexplained (kind name | path | Go | ours):\n{}",
        comparison.unexplained.len(),
        comparison.unexplained.join("\n")
    );
    assert!(both >= 20, "only {both} objects compared");
    let idle = |length: usize, used: &BTreeSet<usize>| -> Vec<usize> {
        (0..length).filter(|at| !used.contains(at)).collect()
    };
    let explains_nothing: Vec<_> = idle(DIFFERENT.len(), &comparison.explained)
        .into_iter()
        .map(|at| DIFFERENT[at])
        .collect();
    assert!(
        explains_nothing.is_empty(),
        "explains nothing: {explains_nothing:?}"
    );
    let fills_nothing: Vec<_> = idle(DEFAULTS.len(), &comparison.defaulted)
        .into_iter()
        .map(|at| DEFAULTS[at])
        .collect();
    assert!(
        fills_nothing.is_empty(),
        "no such default seen: {fills_nothing:?}"
    );
    let not_seen: Vec<_> = idle(SERVER.len(), &comparison.ignored)
        .into_iter()
        .map(|at| SERVER[at])
        .collect();
    assert!(not_seen.is_empty(), "not in the recording: {not_seen:?}");
}
