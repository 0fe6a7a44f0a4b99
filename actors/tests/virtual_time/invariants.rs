//! What must hold at every request (`design.md` 7), whatever happens around it. The server asks here for each one.

use std::collections::BTreeMap;
use std::time::Duration;

use actors::object::{Desired, Key, Kind, MANAGED_BY};
use crds::resolve::{OperatorDefaults, Templates, resolve};
use crds::{MultigresCluster, Shard, TableGroup};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::server::{Request, State, owner_of};

/// How long news may take: the slowest event of the histories, and a live read with its deadline.
const NEWS: Duration = Duration::from_secs(8);

/// Judges a request that was just carried out; `before` is the object as it was.
pub fn judge(state: &mut State, request: &Request, before: Option<&Value>) {
    let mut found = Vec::new();
    if let Some(key) = request.key.as_ref().filter(|_| request.writes()) {
        found.extend(method(request, key));
        found.extend(manager(request, key));
        if request.changed {
            found.extend(owner(state, request, key, before));
            found.extend(labels(state, request, key));
            found.extend(service_ids(state, key));
        }
        if request.status && request.code == 200 {
            found.extend(generations(key, &request.body["status"]));
            found.extend(healthy(state, key, &request.body["status"]));
        }
    }
    state.violations.extend(found);
}

/// Users' specs are theirs; pods, volumes and custom resources are never taken away (invariants 4 and 7, L-GIT-01).
fn method(request: &Request, key: &Key) -> Option<String> {
    let only_metadata = || {
        request
            .body
            .as_object()
            .is_some_and(|body| body.keys().eq(["metadata"]))
    };
    let allowed = match (request.method, key.kind) {
        ("DELETE", kind) => {
            !kind.is_custom()
                && !matches!(
                    kind,
                    Kind::Pod | Kind::PersistentVolumeClaim | Kind::StatefulSet
                )
        }
        ("PUT", kind) => kind == Kind::Secret,
        (_, Kind::MultigresCluster) => request.status || only_metadata(),
        (_, kind) => !kind.is_template(),
    };
    (!allowed).then(|| format!("{} of {key}: {}", request.method, request.body))
}

/// Each part of an object is written as one manager (invariant 7).
fn manager(request: &Request, key: &Key) -> Option<String> {
    let wanted = match (request.method, request.status, key.kind) {
        ("DELETE", ..) => "",
        (_, true, Kind::Shard) => "multigres-resource-handler",
        // A merge patch of a few fields has no manager of its own.
        ("PATCH", false, _) if !request.apply && request.manager.is_empty() => "",
        _ => "multigres-operator",
    };
    (request.manager != wanted).then(|| format!("{key} written as {:?}", request.manager))
}

/// Only what a resource of ours controls is ever touched (`design.md` 2, "Never take over").
fn owner(state: &State, request: &Request, key: &Key, before: Option<&Value>) -> Option<String> {
    let before = before?;
    if request.status || key.kind == Kind::MultigresCluster {
        return None;
    }
    let ours = |uid: &str| {
        let owner = state
            .objects
            .iter()
            .find(|(_, object)| object["metadata"]["uid"] == uid);
        owner.is_none_or(|(owner, _)| owner.kind.is_custom())
    };
    let kept = key.kind == Kind::PersistentVolumeClaim
        && before["metadata"]["labels"]["multigres.com/cluster"].is_string();
    let ours = owner_of(before).map_or(kept, ours);
    (!ours).then(|| format!("{key} is not ours and was written"))
}

/// Every managed object has its labels and its owner, but for volumes that policy keeps (invariant 7).
fn labels(state: &State, request: &Request, key: &Key) -> Option<String> {
    let object = state.objects.get(key).filter(|_| !request.status)?;
    if key.kind == Kind::MultigresCluster {
        return None;
    }
    let metadata = &object["metadata"];
    let labelled = ["name", "instance", "component", "part-of"]
        .iter()
        .all(|name| metadata["labels"][format!("app.kubernetes.io/{name}")].is_string());
    let managed = metadata["labels"][MANAGED_BY.0] == MANAGED_BY.1;
    let owned = owner_of(object).is_some() || key.kind == Kind::PersistentVolumeClaim;
    (!(labelled && managed && owned)).then(|| format!("{key} lacks owner or labels: {metadata}"))
}

/// Never two pods with one service id (invariant 3).
fn service_ids(state: &State, key: &Key) -> Option<String> {
    if key.kind != Kind::Pod {
        return None;
    }
    let mut seen = BTreeMap::new();
    for (pod, object) in state
        .objects
        .iter()
        .filter(|(key, _)| key.kind == Kind::Pod)
    {
        let args = object["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten();
        let mut args =
            args.flat_map(|container| container["args"].as_array().into_iter().flatten());
        let id = args.find_map(|arg| arg.as_str()?.strip_prefix("--service-id="));
        if let Some(other) = id.and_then(|id| seen.insert(id.to_owned(), pod)) {
            return Some(format!("{pod} and {other} share a service id"));
        }
    }
    None
}

/// `observedGeneration` comes only with conditions computed for it (invariant 9).
fn generations(key: &Key, status: &Value) -> Option<String> {
    let seen = status["observedGeneration"].as_i64()?;
    let stub = status["conditions"]
        .as_array()?
        .iter()
        .any(|condition| condition["reason"] == "ActorStalled");
    let fits = |condition: &Value| {
        let of = condition["observedGeneration"].as_i64().unwrap_or_default();
        of == seen || (stub && of >= seen)
    };
    let all = status["conditions"]
        .as_array()
        .is_some_and(|list| !list.is_empty() && list.iter().all(fits));
    (!all).then(|| format!("{key}: conditions of another generation than {seen}: {status}"))
}

/// Nobody says Healthy before the pods that its newest spec asks for were Ready (invariant 9, L-STAT-02).
fn healthy(state: &State, key: &Key, status: &Value) -> Option<String> {
    let object = state.objects.get(key)?;
    if status["phase"] != "Healthy"
        || status["observedGeneration"] != object["metadata"]["generation"]
    {
        return None;
    }
    let missing = match key.kind {
        Kind::TopoServer | Kind::Cell => workloads(state, object),
        _ => pods(state, key.kind, object),
    };
    (!missing.is_empty()).then(|| {
        format!(
            "{key} says Healthy for generation {seen} without {missing:?}",
            seen = status["observedGeneration"]
        )
    })
}

/// Workloads of a Cell or TopoServer that do not have what its spec asks for.
fn workloads(state: &State, object: &Value) -> Vec<String> {
    let uid = object["metadata"]["uid"].as_str();
    let wanted = ["/spec/multigateway/replicas", "/spec/etcd/replicas"]
        .iter()
        .find_map(|path| object.pointer(path)?.as_i64());
    let mut owned = state.objects.iter().filter(|(key, object)| {
        matches!(key.kind, Kind::Deployment | Kind::StatefulSet) && owner_of(object) == uid
    });
    let fits = owned
        .any(|(_, object)| wanted.is_none_or(|wanted| object["status"]["readyReplicas"] == wanted));
    // What somebody did to it a moment ago cannot have been heard of: the event travels, and a loss is read before it is believed.
    let lately = wanted.and_then(|wanted| {
        let key = (uid?.to_owned(), wanted);
        Some(state.lately_ready.get(&key)?.elapsed() < NEWS)
    });
    if fits || lately == Some(true) {
        Vec::new()
    } else {
        vec![format!("{wanted:?} ready replicas")]
    }
}

/// Pods that were never Ready, or are gone.
fn pods(state: &State, kind: Kind, object: &Value) -> Vec<String> {
    let wanted = wanted_pods(kind, object);
    let lacking = wanted.iter().filter(|pod| !state.once_ready.contains(pod));
    lacking.map(ToString::to_string).collect()
}

/// The pool pods that a resource asks for, all the way down.
pub fn wanted_pods(kind: Kind, object: &Value) -> Vec<Key> {
    match kind {
        Kind::MultigresCluster => {
            let cluster: MultigresCluster = received(object);
            let defaults = OperatorDefaults::with_images(&BTreeMap::new());
            let Ok(resolved) = resolve(&cluster, &Templates::default(), &defaults) else {
                return Vec::new();
            };
            below(&actors::cluster::objects::render(&cluster, &resolved).unwrap())
        }
        Kind::TableGroup => {
            below(&actors::tablegroup::objects::render(&received::<TableGroup>(object)).unwrap())
        }
        Kind::Shard => actors::pool::wanted_pods(&received::<Shard>(object), &Default::default()),
        _ => Vec::new(),
    }
}

fn below(desired: &[Desired]) -> Vec<Key> {
    let children = desired.iter().flat_map(|desired| {
        let mut body = Value::clone(&desired.body);
        body["metadata"]["uid"] = "any".into();
        wanted_pods(desired.key.kind, &body)
    });
    children.collect()
}

fn received<T: DeserializeOwned>(object: &Value) -> T {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("status");
    serde_json::from_value(object).unwrap()
}
