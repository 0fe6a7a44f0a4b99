//! The statuses that the rooms write along the life of a few clusters; an entry has its effect when it is seen to change.

use std::collections::{BTreeMap, BTreeSet};

use actors::action::Action;
use actors::object::{Desired, Key, Kind};
use serde_json::{Value, json};

use crate::Effect;
use crate::common::OLD_IMAGES;
use crate::common::random::SAMPLES;
use crate::desk::{Desk, key};
use crate::outputs::{complete, world};
use crate::tree;

/// By kind, all statuses.
#[derive(Default)]
pub struct Statuses(BTreeMap<&'static str, Vec<Value>>);

impl Statuses {
    /// Whether an entry differed between two statuses.
    pub fn effect(&self, kind: &str, path: &str) -> Effect {
        let mut seen = BTreeSet::new();
        for status in self.0.get(kind).into_iter().flatten() {
            let apart = path.replace("[]", ".[]").replace("{}", ".{}");
            let steps: Vec<&str> = apart.split('.').skip(1).collect();
            let mut found = Vec::new();
            values(status, &steps, &mut found);
            seen.insert(json!(found).to_string());
        }
        if seen.len() > 1 {
            Effect::Seen(vec![path.to_owned()])
        } else {
            Effect::None
        }
    }

    /// Notes the statuses that rooms wrote.
    fn note(&mut self, desk: &Desk, by_room: impl Fn(Kind) -> bool) {
        let written = desk.objects.iter().filter(|(key, body)| {
            CUSTOM.contains(&key.kind) && by_room(key.kind) && !body["status"].is_null()
        });
        for (key, body) in written {
            let of_kind = self.0.entry(key.kind.name()).or_default();
            of_kind.push(body["status"].clone());
        }
    }
}

const CUSTOM: [Kind; 5] = [
    Kind::MultigresCluster,
    Kind::TopoServer,
    Kind::Cell,
    Kind::TableGroup,
    Kind::Shard,
];

fn values<'a>(at: &'a Value, steps: &[&str], found: &mut Vec<&'a Value>) {
    match steps {
        [] => found.push(at),
        ["[]", rest @ ..] => {
            for item in at.as_array().into_iter().flatten() {
                values(item, rest, found);
            }
        }
        ["{}", rest @ ..] => {
            for item in at.as_object().into_iter().flat_map(|map| map.values()) {
                values(item, rest, found);
            }
        }
        [name, rest @ ..] => {
            if let Some(member) = at.get(*name) {
                values(member, rest, found);
            }
        }
    }
}

/// Clusters that come up, one with its images on record and templates, exposed; and a Shard.
pub fn observed() -> Statuses {
    let mut all = Statuses::default();
    let address = |ip: &str| json!({"enabled": true, "externalIPs": [ip]});
    let template =
        |name: &str| json!({"coreTemplate": name, "cellTemplate": name, "shardTemplate": name});
    let database = |name: &str, groups: &[&str]| {
        let group = |name: &&str| json!({"name": name, "default": *name == "default"});
        let groups: Vec<Value> = groups.iter().map(group).collect();
        json!({"name": name, "default": true, "tablegroups": groups})
    };
    for spec in [
        json!({}),
        json!({
            "cells": [
                {"name": "zone-a", "zoneId": "one", "spec": {"localTopoServer": {"etcd": {"replicas": 1}}}},
                {"name": "zone-b", "zoneId": "two"},
            ],
            "databases": [database("postgres", &["default", "second"])],
        }),
        json!({
            "templateDefaults": template("alpha"), "imageUpdatePolicy": {"strategy": "lazy"},
            "externalGateway": address("10.0.0.1"), "externalAdminWeb": address("10.0.0.2"),
        }),
        json!({
            "templateDefaults": template("beta"), "images": {"postgres": "chosen"}, "imageUpdatePolicy": {"strategy": "immediate"},
        }),
    ] {
        cluster(spec, &mut all);
    }
    table_group_without_shards(&mut all);
    shard(&mut all);
    all
}

fn cluster(spec: Value, all: &mut Statuses) {
    // The desk makes the statuses of Shards up.
    let mut note = |desk: &Desk| all.note(desk, |kind| kind != Kind::Shard);
    let mut desk = Desk::cluster(spec);
    for template in world(None) {
        let kind = crate::outputs::kind(template["kind"].as_str().unwrap());
        let name = template["metadata"]["name"].as_str().unwrap().to_owned();
        desk.put(key(kind, &name), template);
    }
    let me = key(Kind::MultigresCluster, "minimal");
    let recorded = json!({"multigres.com/applied-images": OLD_IMAGES});
    desk.patch(&me, &json!({"metadata": {"annotations": recorded}}));
    desk.settle();
    note(&desk);
    desk.bring_up();
    note(&desk);
    // The operator comes with other images, and the spec has a new generation.
    let images = [
        "MULTIGATEWAY",
        "MULTIORCH",
        "MULTIPOOLER",
        "MULTIADMIN",
        "MULTIADMIN_WEB",
        "POSTGRES",
    ];
    let newer = images.map(|image| (format!("MULTIGRES_IMAGE_{image}"), "newer".to_owned()));
    desk.variables = newer.into();
    let change = json!({"logLevels": {"pgctld": "warn"}, "images": {"imagePullPolicy": "Never"}});
    desk.patch(&me, &json!({"spec": change}));
    desk.bring_up();
    note(&desk);
}

fn table_group_without_shards(all: &mut Statuses) {
    let me = key(Kind::TableGroup, "sample");
    let mut body = SAMPLES.base("TableGroup");
    body["metadata"]["labels"] = json!({"multigres.com/cluster": "c"});
    let mut desk = Desk::default();
    desk.put(me.clone(), body);
    tell(&mut desk, &me, all);
}

/// A Shard before it has anything, with its pods and orchestrators, in one more cell, and with a mistake in its settings.
fn shard(all: &mut Statuses) {
    let mut body = SAMPLES.base("Shard");
    complete("Shard", &mut body);
    body["metadata"]["labels"] = json!({
        "app.kubernetes.io/managed-by": "multigres-operator", "multigres.com/cluster": "c",
    });
    let me = key(Kind::Shard, "sample");
    let mut desk = Desk::default();
    let password = &body["spec"]["postgresPasswordSecretRef"];
    let of = |field: &str| password[field].as_str().unwrap();
    let secret = json!({"data": {of("key"): "c2VjcmV0"}});
    desk.put(key(Kind::Secret, of("name")), secret);
    desk.put(me.clone(), body.clone());
    desk.objects.get_mut(&me).unwrap()["metadata"]["uid"] = json!(tree::uid_of("sample"));
    tell(&mut desk, &me, all);
    let desired = Desired {
        key: me.clone(),
        body: body.into(),
    };
    for Desired { key, body } in tree::children(&desired, tree::uid_of).unwrap() {
        let mut body = Value::from(body);
        if key.kind == Kind::Pod {
            let ready = json!([{"type": "Ready", "status": "True"}]);
            body["status"] = json!({"phase": "Running", "conditions": ready});
        }
        desk.put(key, body);
    }
    tell(&mut desk, &me, all);
    desk.roll_out();
    tell(&mut desk, &me, all);
    let more = json!({"pools": {"main": {"cells": ["zone-a", "zone-b"]}}});
    desk.patch(&me, &json!({"spec": more}));
    tell(&mut desk, &me, all);
    let missing = json!({"name": "missing", "key": "postgresql.conf"});
    desk.patch(&me, &json!({"spec": {"postgresConfigRef": missing}}));
    tell(&mut desk, &me, all);
}

/// Takes the status that a decision writes, and what it applies.
fn tell(desk: &mut Desk, me: &Key, all: &mut Statuses) {
    for planned in desk.decide(me).actions {
        match planned.action {
            Action::Status { status, .. } => desk.patch(me, &json!({"status": status})),
            Action::Apply { object, .. } => desk.put(object.key, object.body.into()),
            _ => {}
        }
    }
    all.note(desk, |_| true);
}
