//! The hash that decides whether a pool pod has drifted (`workloads.md` 8), and how pods that carry none of ours are recognised.
//!
//! It covers the whole spec of a pod but for what is listed here: what is no reason to restart a fleet is applied to the next
//! pod that is made for another reason. It reads a pod the same before it is sent and as the API server hands it out: what the
//! server fills in counts as absent, and an amount counts by its value.

use serde_json::{Map, Value};

use super::containers::{
    CHOSEN_FLAGS, EXPORTER_CONTAINER, POOLER_CONTAINER, POSTGRES_CONTAINER, POSTGRES_ID,
};
use crate::canonical;
use crate::entry::digest;
use crate::labels;
use crate::quantity::thousandths;

/// Stands before the digest. Raised when the meaning of the hash changes: pods with another version are compared by content,
/// not by hash, and get the new hash when they agree.
const VERSION: &str = "v1-";

/// Hexadecimal digits after the version: 128 bits.
const DIGITS: usize = 32;

/// Fields of a pod's spec that are not covered: names that follow from the pod's own, how images are fetched, where the next
/// pod would be placed in doubt, how long this one may take to stop.
const NOT_OF_THE_POD: [&str; 11] = [
    "hostname",
    "imagePullSecrets",
    "nodeName",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "schedulerName",
    "serviceAccount",
    "subdomain",
    "terminationGracePeriodSeconds",
    "topologySpreadConstraints",
];

/// Fields of a container that are not covered.
const NOT_OF_CONTAINERS: [&str; 8] = [
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
];

/// What the API server fills in at the top of a pod's spec.
const FILLED_IN: [(&str, &str); 4] = [
    ("dnsPolicy", "ClusterFirst"),
    ("enableServiceLinks", "true"),
    ("restartPolicy", "Always"),
    ("serviceAccountName", "default"),
];

/// What it fills in, or leaves out, further down.
const FILLED_IN_BELOW: [(&str, &str); 3] = [
    ("apiVersion", "v1"),
    ("defaultMode", "420"),
    ("readOnly", "false"),
];

/// Blocks that mean the same empty and absent. Elsewhere an empty block says something: an empty selector selects everything.
const EMPTY_IS_ABSENT: [&str; 6] = [
    "limits",
    "matchLabels",
    "nodeSelector",
    "requests",
    "resources",
    "securityContext",
];

/// The user's own keys and values: nothing in them is filled in or left out.
const AS_THEY_ARE: [&str; 2] = ["matchLabels", "nodeSelector"];

/// Tolerations that the API server adds to every pod.
const ADDED_TOLERATIONS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// How much of a pod is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// All that is covered.
    Whole,
    /// Without what we make better than the Go operator did, and without what others put into a running pod.
    Common,
}

/// The hash of a desired pod with these annotations and this spec, for the annotation `multigres.com/spec-hash`.
pub fn of(annotations: &labels::Map, mut spec: Value) -> String {
    keep_covered(&mut spec, View::Whole);
    let annotation = |name: &str| annotations.get(name).map(|hash| Value::from(hash.as_str()));
    let config = annotation(labels::CONFIG_HASH).unwrap_or(Value::Null);
    let mut covered =
        Map::from_iter([("configHash".to_owned(), config), ("spec".to_owned(), spec)]);
    let certificates = annotation(labels::TLS_HASH);
    covered.extend(certificates.map(|hash| ("tlsHash".to_owned(), hash)));
    let digits = crds::digest::sha256(&text(&Value::Object(covered)), DIGITS);
    format!("{VERSION}{digits}")
}

fn text(of: &Value) -> String {
    // A tree is always JSON.
    canonical::text(of).unwrap_or_default()
}

/// True for a hash that can be compared with those of [`of`].
pub fn is_ours(hash: &str) -> bool {
    hash.strip_prefix(VERSION)
        .is_some_and(|digits| digits.len() == DIGITS)
}

/// A digest of what a pod has in common with one that the Go operator would have made for the same Shard. Pods without a hash
/// of ours are adopted as they are when it equals that of the pod we want, and their PostgreSQL settings agree.
pub fn common(mut spec: Value) -> u64 {
    keep_covered(&mut spec, View::Common);
    digest(text(&spec).as_bytes())
}

/// Leaves of a pod's spec what is covered.
fn keep_covered(spec: &mut Value, view: View) {
    let mut map = taken(spec);
    map.retain(|name, value| {
        let improved = view == View::Common && name == "automountServiceAccountToken";
        let passed_over = NOT_OF_THE_POD.contains(&name.as_str())
            || is_filled_in(&FILLED_IN, name, value)
            || improved;
        !passed_over
            && match name.as_str() {
                "containers" | "initContainers" => containers(value, view),
                "tolerations" => tolerations(value),
                "securityContext" => security(value, view),
                _ => says_something(name, value),
            }
    });
    if view == View::Common {
        only_mounted(&mut map);
    }
    *spec = Value::Object(map);
}

/// The map that a value is, taken out of it; an empty one for anything else.
fn taken(value: &mut Value) -> Map<String, Value> {
    match value.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Is it what the API server writes when nothing is said?
fn is_filled_in(defaults: &[(&str, &str)], name: &str, value: &Value) -> bool {
    let named = defaults.iter().find(|(field, _)| *field == name);
    named.is_some_and(|(_, default)| match value {
        Value::String(text) => text == default,
        Value::Bool(is) => default.parse() == Ok(*is),
        Value::Number(number) => default.parse().is_ok_and(|n| number.as_i64() == Some(n)),
        _ => false,
    })
}

/// Takes out of a value what the server fills in. False when it then says nothing.
fn says_something(name: &str, value: &mut Value) -> bool {
    match value {
        Value::Object(map) if AS_THEY_ARE.contains(&name) => {}
        Value::Object(map) if name == "resources" => resources(map),
        Value::Object(map) => map.retain(|name, value| {
            !is_filled_in(&FILLED_IN_BELOW, name, value) && says_something(name, value)
        }),
        Value::Array(list) => {
            for item in list {
                says_something("", item);
            }
        }
        _ => {}
    }
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty() || !EMPTY_IS_ABSENT.contains(&name),
        _ => true,
    }
}

/// Amounts by value. A request that equals its limit is left out, since the server fills it in from there.
fn resources(of: &mut Map<String, Value>) {
    let mut amounts = |name: &str| -> Map<String, Value> {
        match of.remove(name) {
            Some(Value::Object(amounts)) => amounts
                .into_iter()
                .map(|(name, amount)| (name, quantity(amount)))
                .collect(),
            _ => Map::new(),
        }
    };
    let (limits, mut requests) = (amounts("limits"), amounts("requests"));
    requests.retain(|name, amount| limits.get(name) != Some(amount));
    of.retain(|name, value| says_something(name, value));
    for (name, amounts) in [("limits", limits), ("requests", requests)] {
        if !amounts.is_empty() {
            of.insert(name.to_owned(), Value::Object(amounts));
        }
    }
}

/// In thousandths, if it is an amount.
fn quantity(value: Value) -> Value {
    let text = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    thousandths(&text).map_or(Value::String(text), Value::from)
}

/// Leaves the items of a list that are to be kept; false when nothing is left.
fn keep(name: &str, list: &mut Value, keep: impl Fn(&Value) -> bool) -> bool {
    let Some(items) = list.as_array_mut() else {
        return false;
    };
    items.retain(keep);
    says_something(name, list)
}

fn tolerations(of: &mut Value) -> bool {
    keep("tolerations", of, |item| {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let added = ADDED_TOLERATIONS.contains(&text("key"))
            && text("operator") == "Exists"
            && text("effect") == "NoExecute"
            && item.get("tolerationSeconds").and_then(Value::as_i64) == Some(300);
        !added
    })
}

fn containers(of: &mut Value, view: View) -> bool {
    let ours = |item: &Value| {
        let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
        view == View::Whole
            || [POSTGRES_CONTAINER, POOLER_CONTAINER, EXPORTER_CONTAINER].contains(&name)
    };
    let Some(list) = of.as_array_mut() else {
        return false;
    };
    list.retain(ours);
    for item in list {
        container(item, view);
    }
    true
}

fn container(of: &mut Value, view: View) {
    let mut map = taken(of);
    map.retain(|name, value| match name.as_str() {
        name if NOT_OF_CONTAINERS.contains(&name) => false,
        "args" => keep(name, value, |arg| is_covered_argument(arg, view)),
        "volumeMounts" if view == View::Common => keep(name, value, is_common_mount),
        "securityContext" => security(value, view),
        _ => says_something(name, value),
    });
    *of = Value::Object(map);
}

/// Flags with values of our choosing are not covered: a better value is no reason to restart a fleet. The Go operator passes a
/// flag without effect (`workloads.md` T20).
fn is_covered_argument(arg: &Value, view: View) -> bool {
    let text = arg.as_str().unwrap_or_default();
    let chosen = CHOSEN_FLAGS.iter().any(|flag| {
        text.strip_prefix(flag)
            .is_some_and(|rest| rest.starts_with('='))
    });
    !chosen && (view == View::Whole || text != "--service-map=grpc-pooler")
}

/// Not a folder that nothing uses (T35), nor what the API server mounts for the Kubernetes API (T42).
fn is_common_mount(mount: &Value) -> bool {
    let path = mount.get("mountPath").and_then(Value::as_str);
    !matches!(
        path,
        Some("/var/run/postgresql" | "/var/run/secrets/kubernetes.io/serviceaccount")
    )
}

/// Rights as they are; in common with the Go operator are those that it sets too, or leaves to chance (T5, T42).
fn security(of: &mut Value, view: View) -> bool {
    if view == View::Common
        && let Some(map) = of.as_object_mut()
    {
        leave_out_improvements(map);
    }
    says_something("securityContext", of)
}

fn leave_out_improvements(map: &mut Map<String, Value>) {
    let improvements = [
        ("allowPrivilegeEscalation", Value::from(false)),
        ("capabilities", serde_json::json!({"drop": ["ALL"]})),
        ("fsGroup", POSTGRES_ID.into()),
        ("fsGroupChangePolicy", "OnRootMismatch".into()),
        (
            "seccompProfile",
            serde_json::json!({"type": "RuntimeDefault"}),
        ),
    ];
    for (name, value) in improvements {
        if map.get(name) == Some(&value) {
            map.remove(name);
        }
    }
}

/// Leaves the volumes that a container looked at mounts: others are of no account, or somebody else's.
fn only_mounted(spec: &mut Map<String, Value>) {
    let mut mounted = Vec::new();
    for list in ["containers", "initContainers"] {
        for container in spec
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let mounts = container.get("volumeMounts").and_then(Value::as_array);
            let names = mounts
                .into_iter()
                .flatten()
                .filter_map(|mount| mount.get("name"));
            mounted.extend(names.cloned());
        }
    }
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.retain(|volume| {
            volume
                .get("name")
                .is_some_and(|name| mounted.contains(name))
        });
    }
}

#[cfg(test)]
mod tests;
