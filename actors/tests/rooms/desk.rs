//! A desk to try decisions on: objects as an API server would hand them out, decisions carried out on them, no actors.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use actors::action::{Action, Decision};
use actors::entry::{Entry, Watched};
use actors::object::{Key, Kind};
use actors::room::Observed;
use actors::status::State;
use actors::store::Reference;
use crds::resolve::OperatorDefaults;
use jiff::Timestamp;
use serde_json::{Value, json};

pub const NAMESPACE: &str = "default";

pub fn key(kind: Kind, name: &str) -> Key {
    Key::new(kind, NAMESPACE, name)
}

pub fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

#[derive(Default)]
pub struct Desk {
    pub objects: BTreeMap<Key, Value>,
    pub served: BTreeSet<Kind>,
    /// The operator's environment.
    pub variables: BTreeMap<String, String>,
    /// Storage classes that do not exist; all others do.
    no_class: BTreeSet<String>,
    /// Every deletion that was carried out.
    pub deleted: Vec<Key>,
    version: u64,
    /// The version at which an actor had nothing to do.
    idle: BTreeMap<Key, u64>,
}

impl Desk {
    /// A MultigresCluster `minimal` with these fields on top of the smallest spec.
    pub fn cluster(spec: Value) -> Self {
        let mut whole = json!({
            "postgresPasswordSecretRef": {"name": "multigres-admin-password", "key": "password"},
            "cells": [{"name": "zone-a", "zoneId": "us-central1-a"}],
        });
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let mut desk = Self::default();
        desk.put(
            key(Kind::MultigresCluster, "minimal"),
            json!({"spec": whole}),
        );
        desk
    }

    /// Makes or replaces an object; a changed spec is a new generation.
    pub fn put(&mut self, key: Key, body: Value) {
        self.version += 1;
        let before = self.objects.get(&key);
        let number = |pointer: &str| {
            before
                .and_then(|b| b.pointer(pointer)?.as_i64())
                .unwrap_or(0)
        };
        let changed = before.is_none_or(|before| before["spec"] != body["spec"]);
        let mut body = body;
        body["metadata"]["name"] = json!(key.name);
        body["metadata"]["namespace"] = json!(key.namespace);
        body["metadata"]["generation"] = json!(number("/metadata/generation") + i64::from(changed));
        body["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let uid = before.map_or_else(
            || json!(format!("uid-{}-{}", key.kind.name(), self.version)),
            |before| before["metadata"]["uid"].clone(),
        );
        body["metadata"]["uid"] = uid;
        if let Some(status) = before.map(|before| before["status"].clone())
            && body.get("status").is_none()
        {
            body["status"] = status;
        }
        if body["status"].is_null() {
            body.as_object_mut().unwrap().remove("status");
        }
        self.objects.insert(key, body);
    }

    /// Changes an object by a JSON merge patch.
    pub fn patch(&mut self, key: &Key, patch: &Value) {
        let mut body = self.objects[key].clone();
        merge(&mut body, patch);
        if body != self.objects[key] {
            self.put(key.clone(), body);
        }
    }

    /// Somebody makes or deletes a storage class.
    pub fn class(&mut self, name: &str, exists: bool) {
        self.version += 1;
        if exists {
            self.no_class.remove(name);
        } else {
            self.no_class.insert(name.to_owned());
        }
    }

    /// Somebody deletes an object.
    pub fn remove(&mut self, key: &Key) {
        self.version += 1;
        self.objects.remove(key);
    }

    pub fn uid(&self, key: &Key) -> String {
        self.objects[key]["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn entry(key: &Key, body: &Value) -> Rc<Entry> {
        let watched: Watched = serde_json::from_str(&body.to_string()).unwrap();
        Rc::new(watched.trim(key.kind).unwrap())
    }

    /// What the actor of `me` sees, with the users' objects it refers to.
    pub fn observed(&self, me: &Key, references: &[Key]) -> Observed {
        let ours = |body: &Value| {
            body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "multigres-operator"
        };
        let group = self.objects.iter().filter(|(key, body)| {
            key.kind == Kind::MultigresCluster || (!key.kind.is_template() && ours(body))
        });
        let state = |key: &Key| match self.objects.get(key) {
            // Every class exists but those that a test takes away.
            None if key.kind == Kind::StorageClass && !self.no_class.contains(&*key.name) => {
                Reference::Present(Rc::new(Entry::default()))
            }
            Some(body) => Reference::Present(Self::entry(key, body)),
            None => Reference::Absent,
        };
        Observed {
            me: Self::entry(me, &self.objects[me]),
            group: group.map(|(key, body)| Self::entry(key, body)).collect(),
            troubles: BTreeMap::new(),
            references: references
                .iter()
                .map(|key| (key.clone(), state(key)))
                .collect(),
            served: self.served.clone(),
            templates: self
                .objects
                .iter()
                .filter(|(key, _)| key.kind.is_template())
                .map(|(key, body)| Self::entry(key, body))
                .collect(),
            wants: BTreeMap::new(),
            topology: None,
            poolers: None,
        }
    }

    /// The decision of an actor that knows everything it refers to.
    pub fn decide(&self, me: &Key) -> Decision<State> {
        let defaults = OperatorDefaults::with_images(&self.variables);
        let mut references = Vec::new();
        loop {
            let observed = self.observed(me, &references);
            let (state, now) = (State::default(), now());
            let decision = match me.kind {
                Kind::MultigresCluster => {
                    actors::cluster::decide::decide(&observed, &state, now, &defaults)
                }
                Kind::TopoServer => actors::toposerver::decide::decide(&observed, &state, now),
                Kind::Cell => actors::cell::decide::decide(&observed, &state, now),
                Kind::TableGroup => actors::tablegroup::decide::decide(&observed, &state, now),
                Kind::Shard => plain(actors::shard::decide::decide(
                    &observed,
                    &Default::default(),
                    now,
                )),
                other => panic!("{} has no actor here", other.name()),
            };
            if decision.references == references {
                return decision;
            }
            references.clone_from(&decision.references);
        }
    }

    /// Carries out a decision.
    pub fn perform(&mut self, decision: &Decision<State>) {
        for planned in &decision.actions {
            match &planned.action {
                Action::Apply { object, uid } => {
                    assert_eq!(uid.is_some(), self.objects.contains_key(&object.key));
                    self.put(object.key.clone(), object.body.clone().into());
                }
                Action::Restore { object, .. } => self.patch(&object.key, &object.body),
                Action::Metadata { key, patch, .. } => {
                    let mut patch = patch.clone();
                    for precondition in ["uid", "resourceVersion"] {
                        patch.as_object_mut().unwrap().remove(precondition);
                    }
                    self.patch(key, &json!({"metadata": patch}));
                }
                Action::Expand { key, size, .. } => {
                    let requests = json!({"storage": size});
                    let spec = json!({"resources": {"requests": requests}});
                    self.patch(key, &json!({"spec": spec}));
                }
                Action::Delete { key, .. } => {
                    self.deleted.push(key.clone());
                    self.remove(key);
                }
                Action::Status { key, status, .. } => {
                    let mut body = self.objects[key].clone();
                    body["status"] = status.clone();
                    self.put(key.clone(), body);
                }
                other => panic!("not expected: {other:?}"),
            }
        }
    }

    /// The actors of our rooms decide until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            let mut quiet = true;
            for me in self.resources() {
                // Nothing changed since it had nothing to do.
                if self.idle.get(&me) == Some(&self.version) {
                    continue;
                }
                let decision = self.decide(&me);
                if decision.actions.is_empty() {
                    self.idle.insert(me, self.version);
                } else {
                    quiet = false;
                    self.perform(&decision);
                }
            }
            if quiet {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn resources(&self) -> Vec<Key> {
        let here = |key: &&Key| {
            matches!(
                key.kind,
                Kind::MultigresCluster | Kind::TopoServer | Kind::Cell | Kind::TableGroup
            )
        };
        self.objects.keys().filter(here).cloned().collect()
    }

    /// Every Deployment and StatefulSet is rolled out, as its controller would report.
    pub fn roll_out(&mut self) {
        let workloads: Vec<Key> = self
            .objects
            .keys()
            .filter(|key| matches!(key.kind, Kind::Deployment | Kind::StatefulSet))
            .cloned()
            .collect();
        for key in workloads {
            self.report(&key, |wanted| wanted);
        }
    }

    /// A workload reports that so many of the wanted pods are Ready.
    pub fn report(&mut self, key: &Key, ready: impl Fn(i64) -> i64) {
        let body = &self.objects[key];
        let wanted = body["spec"]["replicas"].as_i64().unwrap();
        let status = json!({
            "observedGeneration": body["metadata"]["generation"], "replicas": wanted,
            "updatedReplicas": wanted, "readyReplicas": ready(wanted),
        });
        self.patch(key, &json!({"status": status}));
    }

    /// Shards are not decided here: their status is what this says.
    pub fn shards_are(&mut self, phase: &str, available: bool) {
        let shards: Vec<Key> = self
            .objects
            .keys()
            .filter(|key| key.kind == Kind::Shard)
            .cloned()
            .collect();
        for key in shards {
            let generation = self.objects[&key]["metadata"]["generation"].clone();
            let value = if available { "True" } else { "False" };
            let status = json!({
                "observedGeneration": generation, "phase": phase, "message": "as the test says",
                "conditions": [{"type": "Available", "status": value}],
            });
            self.patch(&key, &json!({"status": status}));
        }
    }

    /// Everything is rolled out and every status written.
    pub fn bring_up(&mut self) {
        for _ in 0..6 {
            self.settle();
            let before = self.version;
            self.roll_out();
            self.shards_are("Healthy", true);
            if self.version == before {
                return;
            }
        }
        panic!("it does not come up");
    }

    /// The only object of a kind whose name ends so.
    pub fn named(&self, kind: Kind, part: &str) -> Key {
        let mut found = self
            .objects
            .keys()
            .filter(|key| key.kind == kind && key.name.contains(part));
        let key = found
            .next()
            .unwrap_or_else(|| panic!("no {} {part}", kind.name()));
        assert!(found.next().is_none(), "several {} {part}", kind.name());
        key.clone()
    }

    pub fn status(&self, key: &Key) -> &Value {
        &self.objects[key]["status"]
    }

    /// Status and reason of a condition; None when it is not there.
    pub fn condition(&self, key: &Key, kind: &str) -> Option<(String, String)> {
        let list = self.status(key)["conditions"].as_array()?;
        let found = list.iter().find(|condition| condition["type"] == kind)?;
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        Some((text("status"), text("reason")))
    }

    /// Phase, then status and reason of a condition, in one text.
    pub fn says(&self, key: &Key, kind: &str) -> String {
        let (status, reason) = self.condition(key, kind).unwrap_or_default();
        let phase = self.status(key)["phase"].as_str().unwrap_or_default();
        format!("{phase} {status} {reason}")
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, change) in changes {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(field);
        } else {
            merge(&mut target[field], change);
        }
    }
}

/// What a ShardActor decides, without what it remembers and whom it calls.
fn plain<S>(decision: Decision<S>) -> Decision<State> {
    Decision {
        actions: decision.actions,
        wake: decision.wake,
        references: decision.references,
        inputs: decision.inputs,
        ..Decision::idle(State::default())
    }
}
