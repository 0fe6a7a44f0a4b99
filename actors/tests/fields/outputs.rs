//! What an object leads to, as JSON under names: everything that is rendered from it, and what its room decides besides.

use std::collections::BTreeMap;

use actors::action::Action;
use actors::object::{Desired, Key, Kind};
use crds::MultigresCluster;
use crds::resolve::resolve;
use crds::sample::CHILD_KINDS;
use serde_json::{Map, Value, json};

use crate::common::random::SAMPLES;
use crate::common::{OLD_IMAGES, defaults, templates};
use crate::desk::{Desk, NAMESPACE, key};
use crate::tree;

/// Templates that are tried on a cluster go by the name that it uses without saying so.
const IMPLICIT: &str = "default";

/// The outputs of an object that is made to try `path`.
pub fn of(kind: &str, path: &str, mut object: Value) -> Value {
    if CHILD_KINDS.contains(&kind) {
        return of_child(kind, object);
    }
    let own = kind == "MultigresCluster";
    let mut cluster = if own {
        object.clone()
    } else {
        SAMPLES.base("MultigresCluster")
    };
    if path.contains("localTopoServer.external.") && path.ends_with("Secret") {
        same_tls(&mut cluster);
        for store in [
            "/spec/localTopoServer/external",
            "/spec/cells/0/spec/localTopoServer/external",
        ] {
            let both = [&mut object, &mut cluster];
            let found = both.into_iter().filter_map(|of| of.pointer_mut(store));
            found.for_each(complete_store);
        }
    }
    if own {
        return of_cluster(cluster, &world(None));
    }
    object["metadata"]["name"] = json!(IMPLICIT);
    of_cluster(cluster, &world(Some(object)))
}

/// All stores of a cluster are reached with one setting of TLS.
fn same_tls(cluster: &mut Value) {
    let mut store = json!({"endpoints": ["https://etcd:2379"]});
    complete_store(&mut store);
    cluster["spec"]["globalTopoServer"] = json!({"external": store});
}

fn complete_store(store: &mut Value) {
    for name in ["caSecret", "clientCertSecret"] {
        let store = store.as_object_mut().unwrap();
        let given = store.entry(name).or_insert_with(|| json!("alpha"));
        if *given == "client" {
            *given = json!("alpha");
        }
    }
}

/// Is there nothing but a refusal?
pub fn refused(outputs: &Value) -> bool {
    outputs.get("refused").is_some()
}

fn of_cluster(mut given: Value, world: &[Value]) -> Value {
    given["metadata"]["annotations"] = json!({"multigres.com/applied-images": OLD_IMAGES});
    let cluster: MultigresCluster = tree::received(&given, tree::uid_of);
    let resolved = match resolve(&cluster, &templates(world), &defaults()) {
        Ok(resolved) => resolved,
        Err(problems) => return json!({"refused": problems}),
    };
    let rendered = tree::render(&cluster, &resolved, tree::uid_of).unwrap();
    let mut desk = Desk::default();
    for template in world {
        let kind = kind(template["kind"].as_str().unwrap());
        let name = template["metadata"]["name"].as_str().unwrap();
        desk.put(key(kind, name), template.clone());
    }
    let me = key(Kind::MultigresCluster, "sample");
    desk.put(me.clone(), given);
    let mut all = named(rendered);
    all.extend(decided(&desk, &me));
    Value::Object(all)
}

/// A child as the cluster's room labels it. The user's ConfigMaps that it may refer to are there.
fn of_child(of: &str, mut object: Value) -> Value {
    object["metadata"]["labels"] = json!({
        "app.kubernetes.io/instance": "c", "app.kubernetes.io/managed-by": "multigres-operator", "multigres.com/cluster": "c",
    });
    complete(of, &mut object);
    let me = key(kind(of), "sample");
    let desired = Desired {
        key: me.clone(),
        body: object.clone().into(),
    };
    let mut waiting = match tree::children(&desired, tree::uid_of) {
        Ok(children) => children,
        Err(error) => return json!({"refused": error.to_string()}),
    };
    let mut rendered = Vec::new();
    while let Some(desired) = waiting.pop() {
        waiting.extend(tree::children(&desired, tree::uid_of).unwrap());
        rendered.push(desired);
    }
    let mut desk = Desk::default();
    for name in ["alpha", "beta"] {
        desk.put(
            key(Kind::ConfigMap, name),
            json!({"data": {"alpha": "work_mem = 8MB"}}),
        );
    }
    desk.put(me.clone(), object);
    let mut all = named(rendered);
    all.extend(decided(&desk, &me));
    Value::Object(all)
}

/// Gives table groups a shard, and shards a pool in a cell, as the resolver does.
pub fn complete(kind: &str, object: &mut Value) {
    let spec = &mut object["spec"];
    match kind {
        "Shard" => complete_shard(spec),
        "TableGroup" => {
            let shards = spec["shards"].as_array_mut().unwrap();
            if shards.is_empty() {
                shards.push(json!({"name": "0-inf", "pools": {}}));
            }
            shards.iter_mut().for_each(complete_shard);
        }
        _ => {}
    }
}

fn complete_shard(spec: &mut Value) {
    let pools = spec["pools"].as_object_mut().unwrap();
    if pools.is_empty() {
        pools.insert("main".into(), json!({"type": "readWrite"}));
    }
    for pool in pools.values_mut() {
        let cells = pool.as_object_mut().unwrap().entry("cells");
        let cells = cells.or_insert_with(|| json!([]));
        if cells.as_array().unwrap().is_empty() {
            *cells = json!(["zone-a"]);
        }
    }
}

fn named(objects: Vec<Desired>) -> Map<String, Value> {
    let pair = |desired: Desired| {
        let Key { kind, name, .. } = &desired.key;
        (format!("{} {name}", kind.name()), desired.body.into())
    };
    objects.into_iter().map(pair).collect()
}

/// What the room decides beside what it renders: status, patches, and the users' objects that it reads.
fn decided(desk: &Desk, me: &Key) -> BTreeMap<String, Value> {
    let decision = desk.decide(me);
    let mut all = BTreeMap::from([("reads".to_owned(), json!(decision.references))]);
    for planned in decision.actions {
        match planned.action {
            Action::Status { status, .. } => all.insert("status".into(), status),
            Action::Metadata { key, patch, .. } => {
                all.insert(format!("patch of {}", key.name), patch)
            }
            _ => None,
        };
    }
    all
}

/// The kind of this name.
pub fn kind(name: &str) -> Kind {
    let mut all = Kind::ALL.into_iter();
    all.find(|kind| kind.name() == name).unwrap()
}

/// Templates that the sample values of references name, each with settings of its own, and the one under test.
pub fn world(under_test: Option<Value>) -> Vec<Value> {
    let mut objects = Vec::from_iter(under_test);
    for (kind, path) in [
        ("CoreTemplate", "spec.multiadmin.replicas"),
        ("CoreTemplate", "spec.multiadminWeb.replicas"),
        ("CoreTemplate", "spec.globalTopoServer.etcd.rootPath"),
        ("CellTemplate", "spec.multigateway.replicas"),
        ("ShardTemplate", "spec.multiorch.replicas"),
    ] {
        let values = SAMPLES.values(kind, path).unwrap();
        for (name, value) in ["alpha", "beta"].into_iter().zip(values) {
            let is = |o: &Value| o["kind"] == kind && o["metadata"]["name"] == name;
            let at = objects.iter().position(is).unwrap_or_else(|| {
                let mut fresh = SAMPLES.base(kind);
                fresh["metadata"]["name"] = json!(name);
                objects.push(fresh);
                objects.len() - 1
            });
            SAMPLES.set(kind, &mut objects[at], path, value);
        }
    }
    for object in &mut objects {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    objects
}

/// Where two outputs differ, as JSON pointers with unescaped names.
pub fn differences(a: &Value, b: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(a, b, "", &mut found);
    found
}

fn compare(a: &Value, b: &Value, at: &str, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let of = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or_default();
                compare(&of(a), &of(b), &format!("{at}/{name}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{at}/{index}"), found);
            }
        }
        _ if a != b => found.push(at.to_owned()),
        _ => {}
    }
}
