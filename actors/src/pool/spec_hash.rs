//! The hash that decides whether a pool pod has drifted (`workloads.md` 8), and how pods that carry none of ours are recognised.
//!
//! It covers the whole spec of a pod but for what is listed here: what is no reason to restart a fleet is applied to the next
//! pod that is made for another reason. It reads a pod the same before it is sent and as the API server hands it out: what the
//! server fills in counts as absent, and an amount counts by its value.

use serde::Serialize;

use super::containers::{
    CHOSEN_FLAGS, EXPORTER_CONTAINER, POOLER_CONTAINER, POSTGRES_CONTAINER, POSTGRES_ID,
};
use crate::canonical::{self, Node};
use crate::entry::digest;
use crate::labels::{self, Labels};
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

/// The hash of a desired pod with these annotations and this spec, for the annotation `multigres.com/spec-hash`. The spec is
/// [canonical text](canonical::text_without_nulls).
pub fn of(annotations: &Labels<'_>, spec: &str) -> String {
    let mut spec = Node::of(spec);
    keep_covered(&mut spec, View::Whole);
    let annotation = |name: &str| {
        // A text is always JSON.
        let text = canonical::text(&annotations.get(name)).unwrap_or_default();
        Node::Scalar(text.into())
    };
    let mut covered = vec![
        ("configHash", annotation(labels::CONFIG_HASH)),
        ("spec", spec),
    ];
    if annotations.contains_key(labels::TLS_HASH) {
        covered.push(("tlsHash", annotation(labels::TLS_HASH)));
    }
    let digits = crds::digest::sha256(&text(&Node::Map(covered)), DIGITS);
    format!("{VERSION}{digits}")
}

fn text(of: &Node<'_>) -> String {
    let mut text = String::with_capacity(8192);
    of.write(&mut text);
    text
}

/// True for a hash that can be compared with those of [`of`].
pub fn is_ours(hash: &str) -> bool {
    hash.strip_prefix(VERSION)
        .is_some_and(|digits| digits.len() == DIGITS)
}

/// A digest of what a pod has in common with one that the Go operator would have made for the same Shard. Pods without a hash
/// of ours are adopted as they are when it equals that of the pod we want, and their PostgreSQL settings agree.
///
/// # Errors
/// When the spec is none of JSON.
pub fn common(spec: &impl Serialize) -> Result<u64, serde_json::Error> {
    let spec = canonical::text_without_nulls(spec)?;
    let mut spec = Node::of(&spec);
    keep_covered(&mut spec, View::Common);
    Ok(digest(text(&spec).as_bytes()))
}

/// Leaves of a pod's spec what is covered.
fn keep_covered(spec: &mut Node<'_>, view: View) {
    let mut map = taken(spec);
    map.retain_mut(|(name, value)| {
        let improved = view == View::Common && *name == "automountServiceAccountToken";
        let passed_over =
            NOT_OF_THE_POD.contains(name) || is_filled_in(&FILLED_IN, name, value) || improved;
        !passed_over
            && match *name {
                "containers" | "initContainers" => containers(value, view),
                "tolerations" => tolerations(value),
                "securityContext" => security(value, view),
                _ => says_something(name, value),
            }
    });
    *spec = Node::Map(map);
    if view == View::Common {
        only_mounted(spec);
    }
}

/// The members of a map, taken out of it; none of anything else.
fn taken<'a>(node: &mut Node<'a>) -> Vec<(&'a str, Node<'a>)> {
    match std::mem::replace(node, Node::List(Vec::new())) {
        Node::Map(members) => members,
        _ => Vec::new(),
    }
}

/// Is it what the API server writes when nothing is said?
fn is_filled_in(defaults: &[(&str, &str)], name: &str, value: &Node<'_>) -> bool {
    let Node::Scalar(scalar) = value else {
        return false;
    };
    let plain = value.text().unwrap_or(scalar);
    defaults.contains(&(name, plain))
}

/// Takes out of a value what the server fills in. False when it then says nothing.
fn says_something(name: &str, value: &mut Node<'_>) -> bool {
    match value {
        Node::Map(map) => {
            if name == "resources" {
                resources(map);
            } else if !AS_THEY_ARE.contains(&name) {
                map.retain_mut(|(name, value)| {
                    !is_filled_in(&FILLED_IN_BELOW, name, value) && says_something(name, value)
                });
            }
            !map.is_empty() || !EMPTY_IS_ABSENT.contains(&name)
        }
        Node::List(list) => {
            for item in &mut *list {
                says_something("", item);
            }
            !list.is_empty()
        }
        Node::Scalar(scalar) => !matches!(&**scalar, "null" | "\"\""),
    }
}

/// Amounts by value. A request that equals its limit is left out, since the server fills it in from there.
fn resources<'a>(of: &mut Vec<(&'a str, Node<'a>)>) {
    let mut amounts = |name: &str| {
        let at = of.iter().position(|(key, _)| *key == name);
        match at.map(|at| of.remove(at).1) {
            Some(Node::Map(mut amounts)) => {
                for (_, amount) in &mut amounts {
                    quantity(amount);
                }
                amounts
            }
            _ => Vec::new(),
        }
    };
    let (limits, mut requests) = (amounts("limits"), amounts("requests"));
    requests.retain(|request| !limits.contains(request));
    of.retain_mut(|(name, value)| says_something(name, value));
    for (name, amounts) in [("limits", limits), ("requests", requests)] {
        if !amounts.is_empty() {
            of.push((name, Node::Map(amounts)));
        }
    }
    of.sort_by_key(|(name, _)| *name);
}

/// In thousandths, if it is an amount; else the text it is.
fn quantity(value: &mut Node<'_>) {
    let mut written = String::new();
    value.write(&mut written);
    let plain = value.text().unwrap_or(&written);
    match thousandths(plain) {
        Some(amount) => *value = Node::Scalar(amount.to_string().into()),
        None if value.text().is_none() => {
            let text = serde_json::Value::from(written).to_string();
            *value = Node::Scalar(text.into());
        }
        None => {}
    }
}

/// Leaves the items of a list that are to be kept; false when nothing is left.
fn keep(name: &str, list: &mut Node<'_>, keep: impl Fn(&Node<'_>) -> bool) -> bool {
    let Node::List(items) = list else {
        return false;
    };
    items.retain(keep);
    says_something(name, list)
}

fn tolerations(of: &mut Node<'_>) -> bool {
    keep("tolerations", of, |item| {
        let text = |name: &str| item.get(name).and_then(Node::text).unwrap_or_default();
        let added = ADDED_TOLERATIONS.contains(&text("key"))
            && text("operator") == "Exists"
            && text("effect") == "NoExecute"
            && item.get("tolerationSeconds") == Some(&Node::Scalar("300".into()));
        !added
    })
}

fn containers(of: &mut Node<'_>, view: View) -> bool {
    let ours = |item: &Node<'_>| {
        let name = item.get("name").and_then(Node::text).unwrap_or_default();
        view == View::Whole
            || [POSTGRES_CONTAINER, POOLER_CONTAINER, EXPORTER_CONTAINER].contains(&name)
    };
    let Node::List(list) = of else {
        return false;
    };
    list.retain(ours);
    for item in list {
        container(item, view);
    }
    true
}

fn container(of: &mut Node<'_>, view: View) {
    let mut map = taken(of);
    map.retain_mut(|(name, value)| match *name {
        name if NOT_OF_CONTAINERS.contains(&name) => false,
        "args" => keep("args", value, |arg| is_covered_argument(arg, view)),
        "volumeMounts" if view == View::Common => keep("volumeMounts", value, is_common_mount),
        "securityContext" => security(value, view),
        name => says_something(name, value),
    });
    *of = Node::Map(map);
}

/// Flags with values of our choosing are not covered: a better value is no reason to restart a fleet. The Go operator passes a
/// flag without effect (`workloads.md` T20).
fn is_covered_argument(arg: &Node<'_>, view: View) -> bool {
    let text = arg.text().unwrap_or_default();
    let chosen = CHOSEN_FLAGS.iter().any(|flag| {
        text.strip_prefix(flag)
            .is_some_and(|rest| rest.starts_with('='))
    });
    !chosen && (view == View::Whole || text != "--service-map=grpc-pooler")
}

/// Not a folder that nothing uses (T35), nor what the API server mounts for the Kubernetes API (T42).
fn is_common_mount(mount: &Node<'_>) -> bool {
    let path = mount.get("mountPath").and_then(Node::text);
    !matches!(
        path,
        Some("/var/run/postgresql" | "/var/run/secrets/kubernetes.io/serviceaccount")
    )
}

/// Rights as they are; in common with the Go operator are those that it sets too, or leaves to chance (T5, T42).
fn security(of: &mut Node<'_>, view: View) -> bool {
    if view == View::Common
        && let Node::Map(map) = of
    {
        let postgres = POSTGRES_ID.to_string();
        let improvements = [
            ("allowPrivilegeEscalation", "false"),
            ("capabilities", r#"{"drop":["ALL"]}"#),
            ("fsGroup", &postgres),
            ("fsGroupChangePolicy", r#""OnRootMismatch""#),
            ("seccompProfile", r#"{"type":"RuntimeDefault"}"#),
        ];
        map.retain(|(name, value)| !improvements.contains(&(*name, &text(value))));
    }
    says_something("securityContext", of)
}

/// Leaves the volumes that a container looked at mounts: others are of no account, or somebody else's.
fn only_mounted(spec: &mut Node<'_>) {
    let lists = ["containers", "initContainers"];
    let mounts = lists
        .iter()
        .flat_map(|list| spec.get(list).map_or(&[][..], Node::items))
        .flat_map(|container| container.get("volumeMounts").map_or(&[][..], Node::items));
    let mounted: Vec<Node<'_>> = mounts
        .filter_map(|mount| mount.get("name").cloned())
        .collect();
    let Node::Map(members) = spec else { return };
    for (name, volumes) in members {
        if let ("volumes", Node::List(volumes)) = (*name, volumes) {
            volumes.retain(|volume| {
                volume
                    .get("name")
                    .is_some_and(|name| mounted.contains(name))
            });
        }
    }
}

#[cfg(test)]
mod tests;
