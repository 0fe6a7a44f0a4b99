//! The hash that decides whether a pool pod has drifted (`workloads.md` 8), and how pods that carry none of ours are recognised.
//!
//! It covers the whole spec of a pod but for what is listed here: what is no reason to restart a fleet is applied to the next
//! pod that is made for another reason. It reads a pod the same before it is sent and as the API server hands it out: what the
//! server fills in counts as absent, and an amount counts by its value.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::containers::{
    CHOSEN_FLAGS, EXPORTER_CONTAINER, POOLER_CONTAINER, POSTGRES_CONTAINER, POSTGRES_ID,
};
use crate::covers::canonical;
use crate::entry::digest;
use crate::labels;
use crate::quantity::thousandths;
use crate::shard::postgres_config::hex;

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

/// The hash of a desired pod, for the annotation `multigres.com/spec-hash`.
pub fn of(pod: &Value) -> String {
    let annotation = |name: &str| pod.pointer("/metadata/annotations")?.get(name).cloned();
    let config = annotation(labels::CONFIG_HASH);
    let mut covered = Map::from_iter([
        ("configHash".to_owned(), config.unwrap_or(Value::Null)),
        ("spec".to_owned(), spec(pod.get("spec"), View::Whole)),
    ]);
    let certificates = annotation(labels::TLS_HASH);
    covered.extend(certificates.map(|hash| ("tlsHash".to_owned(), hash)));
    let mut text = String::with_capacity(8192);
    canonical(&Value::Object(covered), &mut text);
    let digits = hex(&Sha256::digest(text.as_bytes()));
    format!("{VERSION}{}", digits.get(..DIGITS).unwrap_or(&digits))
}

/// True for a hash that can be compared with those of [`of`].
pub fn is_ours(hash: &str) -> bool {
    hash.strip_prefix(VERSION)
        .is_some_and(|digits| digits.len() == DIGITS)
}

/// A digest of what a pod has in common with one that the Go operator would have made for the same Shard. Pods without a hash
/// of ours are adopted as they are when it equals that of the pod we want, and their PostgreSQL settings agree.
pub fn common(of: &Value) -> u64 {
    let mut text = String::new();
    canonical(&spec(Some(of), View::Common), &mut text);
    digest(text.as_bytes())
}

fn spec(of: Option<&Value>, view: View) -> Value {
    let mut result = Map::new();
    for (name, value) in of.and_then(Value::as_object).into_iter().flatten() {
        let improved = view == View::Common && name == "automountServiceAccountToken";
        if NOT_OF_THE_POD.contains(&name.as_str())
            || is_filled_in(&FILLED_IN, name, value)
            || improved
        {
            continue;
        }
        let value = match name.as_str() {
            "containers" | "initContainers" => containers(value, view),
            "tolerations" => tolerations(value),
            "securityContext" => plain(name, &security(value, view)),
            _ => plain(name, value),
        };
        result.extend(value.map(|value| (name.clone(), value)));
    }
    if view == View::Common {
        only_mounted(&mut result);
    }
    Value::Object(result)
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

/// A value without what the server fills in; `None` when it then says nothing.
fn plain(name: &str, value: &Value) -> Option<Value> {
    let value = match value {
        Value::Object(map) if AS_THEY_ARE.contains(&name) => Value::Object(map.clone()),
        Value::Object(map) if name == "resources" => Value::Object(resources(map)),
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(name, value)| !is_filled_in(&FILLED_IN_BELOW, name, value))
                .filter_map(|(name, value)| Some((name.clone(), plain(name, value)?)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(
            list.iter()
                .map(|item| plain("", item).unwrap_or_else(|| item.clone()))
                .collect(),
        ),
        other => other.clone(),
    };
    let absent = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty() && EMPTY_IS_ABSENT.contains(&name),
        _ => false,
    };
    (!absent).then_some(value)
}

/// Amounts by value. A request that equals its limit is left out, since the server fills it in from there.
fn resources(of: &Map<String, Value>) -> Map<String, Value> {
    let amounts = |name: &str| -> Map<String, Value> {
        let amounts = of.get(name).and_then(Value::as_object);
        let amounts = amounts.into_iter().flatten();
        amounts
            .map(|(name, amount)| (name.clone(), quantity(amount)))
            .collect()
    };
    let (limits, mut requests) = (amounts("limits"), amounts("requests"));
    requests.retain(|name, amount| limits.get(name) != Some(amount));
    let mut result: Map<String, Value> = of
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), plain(name, value)?)))
        .collect();
    for (name, amounts) in [("limits", limits), ("requests", requests)] {
        result.remove(name);
        if !amounts.is_empty() {
            result.insert(name.to_owned(), Value::Object(amounts));
        }
    }
    result
}

/// In thousandths, if it is an amount.
fn quantity(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    thousandths(&text).map_or(Value::String(text), Value::from)
}

fn tolerations(of: &Value) -> Option<Value> {
    let added = |item: &Value| {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        ADDED_TOLERATIONS.contains(&text("key"))
            && text("operator") == "Exists"
            && text("effect") == "NoExecute"
            && item.get("tolerationSeconds").and_then(Value::as_i64) == Some(300)
    };
    let list = of.as_array()?.iter().filter(|item| !added(item)).cloned();
    plain("tolerations", &Value::Array(list.collect()))
}

fn containers(of: &Value, view: View) -> Option<Value> {
    let ours = |item: &&Value| {
        let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
        view == View::Whole
            || [POSTGRES_CONTAINER, POOLER_CONTAINER, EXPORTER_CONTAINER].contains(&name)
    };
    let list = of.as_array()?.iter().filter(ours);
    Some(Value::Array(
        list.map(|item| container(item, view)).collect(),
    ))
}

fn container(of: &Value, view: View) -> Value {
    let mut result = Map::new();
    for (name, value) in of.as_object().into_iter().flatten() {
        if NOT_OF_CONTAINERS.contains(&name.as_str()) {
            continue;
        }
        let kept = |keep: &dyn Fn(&Value) -> bool| {
            let list = value.as_array().into_iter().flatten();
            Value::Array(list.filter(|item| keep(item)).cloned().collect())
        };
        let value = match name.as_str() {
            "args" => plain(name, &kept(&|arg| is_covered_argument(arg, view))),
            "volumeMounts" if view == View::Common => plain(name, &kept(&is_common_mount)),
            "securityContext" => plain(name, &security(value, view)),
            _ => plain(name, value),
        };
        result.extend(value.map(|value| (name.clone(), value)));
    }
    Value::Object(result)
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
fn security(of: &Value, view: View) -> Value {
    let mut result = of.clone();
    let Some(map) = result.as_object_mut().filter(|_| view == View::Common) else {
        return result;
    };
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
    result
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
