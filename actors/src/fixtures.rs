//! A Shard and what lies around it, for tests of decisions: actions are carried out on JSON, as plainly as they are meant.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::action::{Action, Decision, Recipe};
use crate::effects::certificate::{self, Material};
use crate::effects::links::Poolers;
use crate::entry::{Entry, Watched};
use crate::object::{Desired, Key, Kind};
use crate::room::{ActorId, Observed, PoolReport};
use crate::shard::decide::State;
use crate::store::{Reference, Trouble};
use crate::topology::known::Known;
use crate::{pool, shard};

/// Namespace of everything.
pub const NAMESPACE: &str = "n";

/// An instant to start from.
pub fn start() -> Timestamp {
    "2026-11-24T00:00:00Z".parse().unwrap()
}

/// `text` as the API server sends values of Secrets.
pub fn base64(text: &str) -> Value {
    serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap()
}

/// One Shard, its objects and the user's Secrets.
pub struct Bed {
    /// The Shard, as the API server holds it.
    pub shard: Value,
    /// Everything else that is ours, by name.
    pub objects: BTreeMap<Key, Value>,
    /// The user's Secrets, as data in base64.
    pub secrets: BTreeMap<String, Value>,
    /// The user's ConfigMaps, as data.
    pub config_maps: BTreeMap<String, Value>,
    /// The storage classes of the Kubernetes cluster.
    pub classes: BTreeSet<String>,
    /// They bind claims as soon as they are made.
    pub binds_at_once: bool,
    /// Failed writes.
    pub troubles: BTreeMap<Key, Trouble>,
    /// What pools report.
    pub reports: BTreeMap<(Box<str>, Box<str>), PoolReport>,
    /// What is known of the cluster's topology.
    pub topology: Option<Rc<Known>>,
    /// What the links to its pods tell; `None`: switched off.
    pub poolers: Option<Poolers>,
    /// The time.
    pub now: Timestamp,
    version: u64,
}

impl Bed {
    /// One pool of two pods in one cell, with backups on a volume and a usable password.
    pub fn new() -> Self {
        let shard = json!({
            "apiVersion": "multigres.com/v1alpha1", "kind": "Shard",
            "metadata": {
                "name": "c-postgres-default-0-inf", "namespace": NAMESPACE, "uid": "me", "resourceVersion": "1",
                "generation": 1,
                "labels": {
                    "app.kubernetes.io/instance": "c", "multigres.com/cluster": "c",
                    "multigres.com/database": "postgres", "multigres.com/tablegroup": "default",
                    "multigres.com/shard": "0-inf",
                },
            },
            "spec": {
                "databaseName": "postgres", "tableGroupName": "default", "shardName": "0-inf",
                "images": {"postgres": "p:1", "multipooler": "m:1", "multiorch": "m:1"},
                "globalTopoServer": {"address": "etcd:2379", "rootPath": "/multigres/global", "implementation": "etcd"},
                "multiorch": {"cells": ["a"]},
                "pools": {"default": {
                    "type": "readWrite", "cells": ["a"], "replicasPerCell": 2, "storage": {"size": "1Gi"},
                }},
                "backup": {"type": "filesystem", "filesystem": {"path": "/backups", "storage": {"size": "10Gi"}}},
                "postgresPasswordSecretRef": {"name": "password", "key": "password"},
                "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            },
        });
        let cell = json!({
            "metadata": {
                "name": crds::name::cell("c", "a"), "namespace": NAMESPACE, "uid": "cell-a", "resourceVersion": "1",
                "labels": {"multigres.com/cluster": "c", "multigres.com/cell": "a"},
            },
            "spec": {"name": "a", "images": {}, "allCells": ["a"], "globalTopoServer": shard["spec"]["globalTopoServer"]},
        });
        let at = Key::new(Kind::Cell, NAMESPACE, &crds::name::cell("c", "a"));
        Self {
            shard,
            objects: BTreeMap::from([(at, cell)]),
            secrets: BTreeMap::from([("password".to_owned(), json!({"password": base64("x")}))]),
            config_maps: BTreeMap::new(),
            classes: ["fast", "slow"].map(str::to_owned).into(),
            binds_at_once: false,
            troubles: BTreeMap::new(),
            reports: BTreeMap::new(),
            topology: None,
            poolers: None,
            now: start(),
            version: 1,
        }
    }

    /// The Shard, typed.
    pub fn typed(&self) -> crds::Shard {
        serde_json::from_value(self.shard.clone()).unwrap()
    }

    /// The snapshot of an actor.
    pub fn observed(&self) -> Observed {
        let entry = |kind, body: &Value| {
            let watched: Watched = serde_json::from_value(body.clone()).unwrap();
            Rc::new(watched.trim(kind).unwrap())
        };
        let me = entry(Kind::Shard, &self.shard);
        let mut group: Vec<Rc<Entry>> = self
            .objects
            .iter()
            .map(|(key, body)| entry(key.kind, body))
            .collect();
        group.push(me.clone());
        group.sort_by(|a, b| a.key().cmp(b.key()));
        let mut references: BTreeMap<Key, Reference> = BTreeMap::new();
        for key in self.mentioned() {
            let data = match key.kind {
                Kind::ConfigMap => &self.config_maps,
                _ => &self.secrets,
            };
            let state = data.get(&*key.name).map_or(Reference::Absent, |data| {
                let body = json!({
                    "metadata": {"name": key.name, "namespace": NAMESPACE, "uid": key.name, "resourceVersion": "1"},
                    "data": data,
                });
                Reference::Present(entry(key.kind, &body))
            });
            references.insert(key, state);
        }
        for class in crate::shard::status::volume_classes(&self.typed()) {
            let there = match self.classes.contains(&class) {
                true => Reference::Present(Rc::new(Entry {
                    binds_at_once: self.binds_at_once,
                    ..Entry::default()
                })),
                false => Reference::Absent,
            };
            references.insert(Key::new(Kind::StorageClass, "", &class), there);
        }
        Observed {
            me,
            group,
            troubles: self.troubles.clone(),
            references,
            templates: Vec::new(),
            served: BTreeSet::new(),
            wants: self.reports.clone(),
            topology: self.topology.clone(),
            poolers: self.poolers.clone(),
        }
    }

    fn mentioned(&self) -> Vec<Key> {
        let backup = &self.shard["spec"]["backup"];
        let names = [
            &self.shard["spec"]["postgresPasswordSecretRef"]["name"],
            &backup["pgbackrestTLS"]["secretName"],
            &backup["encryption"]["secretName"],
            &backup["s3"]["credentialsSecret"],
        ];
        let store = &self.shard["spec"]["globalTopoServer"];
        let store = [&store["caSecret"], &store["clientCertSecret"]];
        let config_map = &self.shard["spec"]["postgresConfigRef"]["name"];
        let issued = ["multipooler", "multiorch"].map(|of| {
            let name = crate::workload::certificate_name(of, "c", NAMESPACE);
            Key::new(Kind::Secret, NAMESPACE, &name)
        });
        names
            .into_iter()
            .chain(store)
            .map(|name| (Kind::Secret, name))
            .chain([(Kind::ConfigMap, config_map)])
            .filter_map(|(kind, name)| Some(Key::new(kind, NAMESPACE, name.as_str()?)))
            .chain(issued)
            .collect()
    }

    /// What the ShardActor decides.
    pub fn shard_decides(&self) -> Decision<State> {
        shard::decide::decide(&self.observed(), &State::default(), self.now)
    }

    /// What a PoolActor decides.
    pub fn pool_decides(&self, pool: &str, cell: &str) -> Decision<()> {
        pool::decide::decide(&ActorId::pool("me", pool, cell), &self.observed(), self.now)
    }

    /// Lets the ShardActor and the PoolActors of the spec decide and act until nothing but reads is left; how many writes
    /// it took. Panics when there is no end of it.
    pub fn settle(&mut self) -> usize {
        let mut writes = 0;
        for _ in 0..20 {
            let mut actions = Vec::new();
            let pools = self.typed().spec.pools;
            for (name, of) in &pools {
                for cell in &of.cells {
                    let decision = self.pool_decides(name, cell);
                    let report = PoolReport {
                        wants: decision.wants,
                        obstacles: decision.obstacles,
                        volumes: decision.volumes,
                        undecided: decision.undecided,
                        stalled: None,
                    };
                    let place = (name.as_str().into(), cell.as_str().into());
                    self.reports.insert(place, report);
                    actions.extend(decision.actions);
                }
            }
            actions.extend(self.shard_decides().actions);
            let todo: Vec<Action> = actions
                .into_iter()
                .map(|planned| planned.action)
                .filter(|action| action.writes() && !self.troubles.contains_key(action.lane().0))
                .collect();
            if todo.is_empty() {
                return writes;
            }
            for action in todo {
                self.perform(&action);
                writes += 1;
            }
        }
        panic!("it does not settle");
    }

    /// Carries an action out, if its preconditions hold.
    pub fn perform(&mut self, action: &Action) {
        match action {
            Action::Apply { object, .. }
            | Action::Restore { object, .. }
            | Action::Create { object } => {
                self.put(object);
            }
            Action::Generate {
                object,
                recipe,
                replace,
                ..
            } => self.generate(object, recipe, replace.as_ref()),
            Action::Delete { key, .. } => {
                self.objects.remove(key);
            }
            Action::Metadata { key, patch, .. } => self.patch(key, &json!({"metadata": patch})),
            Action::Expand {
                key,
                uid,
                version,
                size,
            } => self.patch(
                key,
                &json!({
                    "metadata": {"uid": uid, "resourceVersion": version.to_string()},
                    "spec": {"resources": {"requests": {"storage": size}}},
                }),
            ),
            Action::Status {
                status, version, ..
            } => {
                // `design.md` 4: a permit is written on what was seen, everything else on whatever is there.
                let permit = |status: &Value| status.get("disruption").cloned();
                let stored = self.shard["metadata"]["resourceVersion"].as_str();
                let changes = permit(&self.shard["status"]) != permit(status);
                let asked = version.map(|version| version.to_string());
                assert_eq!(asked.as_deref(), stored.filter(|_| changes), "{status}");
                self.version += 1;
                self.shard["status"] = status.clone();
                self.shard["metadata"]["resourceVersion"] = self.version.to_string().into();
            }
            Action::Read { .. } | Action::Seek { .. } | Action::Announce { .. } => {}
        }
    }

    /// Puts an object in place as if it had been made.
    pub fn put(&mut self, desired: &Desired) {
        self.version += 1;
        let mut body = Value::clone(&desired.body);
        let known = self
            .objects
            .get(&desired.key)
            .map(|body| body["metadata"]["uid"].clone());
        body["metadata"]["uid"] = known.unwrap_or_else(|| format!("uid-{}", self.version).into());
        body["metadata"]["resourceVersion"] = self.version.to_string().into();
        // Data is compared by the digest of what is sent, so it is kept as it is sent.
        self.objects.insert(desired.key.clone(), body);
    }

    fn patch(&mut self, key: &Key, patch: &Value) {
        let body = self.objects.get_mut(key).unwrap();
        for precondition in ["uid", "resourceVersion"] {
            assert_eq!(
                patch["metadata"][precondition], body["metadata"][precondition],
                "{key}"
            );
        }
        merge(body, patch);
        self.version += 1;
        body["metadata"]["resourceVersion"] = self.version.to_string().into();
    }

    fn generate(&mut self, object: &Desired, recipe: &Recipe, replace: Option<&(Box<str>, u64)>) {
        let material = match (recipe, replace) {
            (Recipe::Authority, None) => certificate::authority(self.now).unwrap(),
            (Recipe::Authority, Some(_)) => {
                certificate::renewed_authority(&self.material(&object.key), self.now).unwrap()
            }
            (Recipe::Leaf { authority, names }, _) => {
                certificate::leaf(&self.material(authority), names, self.now).unwrap()
            }
        };
        let mut desired = object.clone();
        let data = material
            .iter()
            .map(|(file, text)| (file.clone(), base64(text)))
            .collect();
        desired.body.edit(|body| body["data"] = data);
        if let Some((uid, version)) = replace {
            let meta = &self.objects[&object.key]["metadata"];
            assert_eq!(meta["uid"], **uid);
            assert_eq!(meta["resourceVersion"], version.to_string());
        }
        self.put(&desired);
    }

    /// The content of one of our Secrets.
    pub fn material(&self, key: &Key) -> Material {
        let secret: k8s_openapi::api::core::v1::Secret =
            serde_json::from_value(self.objects[key].clone()).unwrap();
        let text =
            |(file, bytes): (String, ByteString)| Some((file, String::from_utf8(bytes.0).ok()?));
        secret
            .data
            .unwrap_or_default()
            .into_iter()
            .filter_map(text)
            .collect()
    }

    /// The names of all objects of a kind.
    pub fn names(&self, kind: Kind) -> Vec<Key> {
        self.objects
            .keys()
            .filter(|key| key.kind == kind)
            .cloned()
            .collect()
    }

    /// A condition of the Shard, as last written.
    pub fn condition(&self, kind: &str) -> Option<Value> {
        let conditions = self.shard["status"]["conditions"].as_array()?;
        conditions.iter().find(|c| c["type"] == kind).cloned()
    }
}

/// JSON merge patch (RFC 7386).
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
