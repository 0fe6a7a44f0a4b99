//! What the API server fills in and what Kubernetes' controllers and the kubelet do, as far as decisions can see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actors::object::{Key, Kind};
use serde_json::{Value, json};

use crate::server::{Server, State, is_ready, owner_of};

/// How long the controllers take to look.
pub const REACTION: Duration = Duration::from_millis(100);

/// Server-side defaults: what nobody asked for and everybody reads back.
pub fn fill_in(kind: Kind, object: &mut Value) {
    let mut default = |pointer: &str, name: &str, value: Value| {
        if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
            map.entry(name).or_insert(value);
        }
    };
    match kind {
        Kind::Service => {
            default("/spec", "clusterIP", "10.0.0.1".into());
            default("/spec", "sessionAffinity", "None".into());
            default("/spec", "internalTrafficPolicy", "Cluster".into());
        }
        Kind::Deployment => {
            default("/spec", "progressDeadlineSeconds", 600.into());
            default("/spec", "revisionHistoryLimit", 10.into());
            default("/spec", "strategy", json!({"type": "RollingUpdate"}));
        }
        Kind::StatefulSet => {
            default("/spec", "revisionHistoryLimit", 10.into());
            default("/spec", "updateStrategy", json!({"type": "RollingUpdate"}));
        }
        _ => {}
    }
    for template in ["/spec/template/spec", "/spec"] {
        let lists = object.pointer_mut(template).and_then(Value::as_object_mut);
        let Some(lists) = lists.filter(|spec| spec.contains_key("containers")) else {
            continue;
        };
        lists.entry("restartPolicy").or_insert("Always".into());
        lists.entry("dnsPolicy").or_insert("ClusterFirst".into());
        for name in ["containers", "initContainers"] {
            for container in lists
                .get_mut(name)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                let container = container.as_object_mut().unwrap();
                container
                    .entry("terminationMessagePath")
                    .or_insert("/dev/termination-log".into());
                container
                    .entry("imagePullPolicy")
                    .or_insert("IfNotPresent".into());
            }
        }
    }
}

/// Looks whenever something changed, until the server is gone.
pub async fn run(server: Arc<Server>) {
    let mut movement = server.movement();
    loop {
        while pass(&server) {
            tokio::time::sleep(REACTION).await;
        }
        if movement.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(REACTION).await;
    }
}

/// One look at everything; true when something was done.
fn pass(server: &Server) -> bool {
    let done = server.peek(|state| state.objects.keys().cloned().collect::<Vec<_>>());
    let changes: Vec<(Key, Option<Value>)> = server.peek(|state| {
        let uids: BTreeSet<String> = state
            .objects
            .values()
            .map(|object| text(&object["metadata"]["uid"]))
            .collect();
        done.iter()
            .filter_map(|key| Some((key.clone(), next(state, key, &uids)?)))
            .collect()
    });
    if changes.is_empty() {
        return false;
    }
    server.with(|state| {
        for (key, object) in changes {
            state.commit(&key, object);
        }
    });
    true
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What becomes of an object: None = nothing, Some(None) = it goes.
#[allow(clippy::option_option, reason = "nothing to do, gone, changed")]
fn next(state: &State, key: &Key, uids: &BTreeSet<String>) -> Option<Option<Value>> {
    let object = &state.objects[key];
    let held = object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    let dying = object["metadata"].get("deletionTimestamp").is_some();
    let orphan = owner_of(object).is_some_and(|uid| !uids.contains(uid));
    if !held && (dying || orphan) {
        return Some(None);
    }
    if dying {
        return None;
    }
    let status = match key.kind {
        Kind::StatefulSet | Kind::Deployment => workload(object, state.held.contains(key)),
        Kind::Pod => pod(state, key, object)?,
        Kind::PersistentVolumeClaim => json!({"phase": "Bound"}),
        _ => return None,
    };
    if object["status"] == status {
        return None;
    }
    let mut changed = object.clone();
    changed["status"] = status;
    Some(Some(changed))
}

/// First the pods exist, then they are Ready.
fn workload(object: &Value, held: bool) -> Value {
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let generation = object["metadata"]["generation"].as_i64().unwrap();
    let before = &object["status"];
    let exist = before["observedGeneration"] == generation && before["replicas"] == wanted;
    let ready = if exist && !held {
        wanted
    } else {
        before["readyReplicas"].as_i64().unwrap_or(0).min(wanted)
    };
    json!({
        "observedGeneration": generation, "replicas": wanted, "updatedReplicas": wanted,
        "readyReplicas": ready,
    })
}

/// A pod is Ready once everything it mounts is there.
fn pod(state: &State, key: &Key, object: &Value) -> Option<Value> {
    if is_ready(object) || state.held.contains(key) {
        return None;
    }
    let there = |kind: Kind, name: &Value| {
        name.as_str().is_none_or(|name| {
            state
                .objects
                .contains_key(&Key::new(kind, &key.namespace, name))
        })
    };
    let mounted = object["spec"]["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|volume| {
            let sources = volume["projected"]["sources"]
                .as_array()
                .into_iter()
                .flatten();
            there(
                Kind::PersistentVolumeClaim,
                &volume["persistentVolumeClaim"]["claimName"],
            ) && there(Kind::ConfigMap, &volume["configMap"]["name"])
                && there(Kind::Secret, &volume["secret"]["secretName"])
                && sources
                    .into_iter()
                    .all(|source| there(Kind::Secret, &source["secret"]["name"]))
        });
    Some(json!({
        "phase": if mounted { "Running" } else { "Pending" },
        "podIP": "127.0.0.1",
        "conditions": [{"type": "Ready", "status": if mounted { "True" } else { "False" }}],
    }))
}
