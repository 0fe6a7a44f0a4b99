//! L-TOPO-04: the longest names that admission lets pass, through every name that is made of them.

use std::collections::BTreeSet;

use actors::object::{Desired, Kind};
use crds::resolve::Templates;
use serde_json::{Value, json};

use super::render::{render_with, uid_of};

/// A DNS label, a value of a label; also the most of an `application_name` (`NAMEDATALEN` - 1).
const LABEL: usize = 63;
/// A name in the domain name system.
const DOMAIN: usize = 253;

/// So many characters, legal everywhere.
fn long(length: usize, first: char) -> String {
    let mut name = String::from(first);
    name.push_str(&"abcdefghi-".repeat(7));
    name.truncate(length - 1);
    name.push('z');
    name
}

/// Every name as long as the schema allows: `metadata.name` 25 (CEL-01), cells 30, table groups 25, pools 25 (CEL-21); the namespace 63.
fn cluster() -> Value {
    let cells = [long(30, 'a'), long(30, '1')];
    let pools = json!({
        (long(25, 'p')): {"type": "readWrite", "cells": cells, "replicasPerCell": 11},
        (long(25, '9')): {"type": "readWrite", "cells": cells, "replicasPerCell": 1},
    });
    let shard = json!({"name": "0-inf", "spec": {"multiorch": {"cells": cells}, "pools": pools}});
    let group =
        |name: &str, default: bool| json!({"name": name, "default": default, "shards": [shard]});
    let cell = |name: &String| {
        json!({
            "name": name, "zoneId": "z", "spec": {"localTopoServer": {"etcd": {"replicas": 3}}},
        })
    };
    json!({
        "apiVersion": "multigres.com/v1alpha1", "kind": "MultigresCluster",
        "metadata": {"name": long(25, 'c'), "namespace": long(63, 'n'), "uid": "u"},
        "spec": {
            "postgresPasswordSecretRef": {"name": long(63, 's'), "key": "password"},
            "globalTopoServer": {"etcd": {"replicas": 3}},
            "cells": [cell(&cells[0]), cell(&cells[1])],
            "databases": [{"name": "postgres", "default": true, "tablegroups": [
                group("default", true), group(&long(25, 't'), false),
            ]}],
        },
    })
}

/// The longest name that an object of this kind may have so that nothing that is made of it becomes too long.
fn most(object: &Desired) -> usize {
    match object.key.kind {
        // Names of hosts and of Services are labels of the domain name system.
        Kind::Pod | Kind::Service => LABEL,
        // Its pods get `-<index>`, its revisions `-<10 characters>`, which become a label.
        Kind::StatefulSet => 52,
        _ => DOMAIN,
    }
}

fn is_label(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= LABEL && text.chars().all(legal) && text.starts_with(edge) && text.ends_with(edge)
}

/// All values of `labels` and `matchLabels`, wherever they stand.
fn labels(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (field, value) in map {
                if matches!(field.as_str(), "labels" | "matchLabels" | "selector") {
                    let pairs = value.as_object().into_iter().flatten();
                    let pairs = pairs
                        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
                    found.extend(pairs);
                }
                labels(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| labels(value, found)),
        _ => {}
    }
}

/// The value of a flag of a pod's containers.
fn flag(pod: &Value, name: &str) -> String {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let args = containers
        .iter()
        .flat_map(|one| one["args"].as_array().into_iter().flatten());
    let mut values = args.filter_map(|arg| arg.as_str()?.strip_prefix(name)?.strip_prefix('='));
    values.next().unwrap().to_owned()
}

/// Names of objects, labels, hosts, and what PostgreSQL, etcd and the domain name system are told.
#[test]
fn the_longest_legal_names_fit_wherever_they_lead() {
    let objects = render_with(&cluster(), &Templates::default(), uid_of);
    let mut names = BTreeSet::new();
    let mut applications = BTreeSet::new();
    for object in &objects {
        let (kind, name) = (object.key.kind, &object.key.name);
        assert!(
            name.len() <= most(object),
            "{} has {} characters",
            object.key,
            name.len()
        );
        assert!(names.insert((kind, name.clone())), "{} twice", object.key);
        let mut found = Vec::new();
        labels(&object.body, &mut found);
        for (label, value) in found {
            let part = label.rsplit('/').next().unwrap();
            assert!(
                part.len() <= LABEL && value.len() <= LABEL,
                "{}: {label}={value}",
                object.key
            );
        }
        match kind {
            // The first character of a Service may be no digit.
            Kind::Service => {
                assert!(is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()))
            }
            Kind::StatefulSet => {
                let (service, replicas) = (
                    &object.body["spec"]["serviceName"],
                    &object.body["spec"]["replicas"],
                );
                let host = format!(
                    "{name}-{replicas}.{}.{}.svc.cluster.local",
                    service.as_str().unwrap(),
                    object.key.namespace
                );
                assert!(
                    host.len() <= DOMAIN && host.split('.').all(is_label),
                    "{host}"
                );
            }
            Kind::Pod => {
                let body = &*object.body;
                let spec = &body["spec"];
                assert_eq!(
                    spec["hostname"], **name,
                    "the pooler's own idea of its name is that of its pod"
                );
                let (cell, id) = (flag(body, "--cell"), flag(body, "--service-id"));
                assert_eq!(id, crds::name::service_id(name));
                // `<cell>_<id>`: split at the first underscore, compared in full by synchronous_standby_names.
                let application = format!("{cell}_{id}");
                assert!(application.len() <= LABEL, "{application}");
                assert_eq!(application.matches('_').count(), 1, "{application}");
                assert!(
                    applications.insert(application),
                    "{name} has another's identity"
                );
                let host = format!(
                    "{name}.{}.{}.svc.cluster.local",
                    spec["subdomain"].as_str().unwrap(),
                    object.key.namespace
                );
                assert!(
                    host.len() <= DOMAIN && host.split('.').all(is_label),
                    "{host}"
                );
            }
            _ => {}
        }
    }
    // Two table groups × (11 + 1) pods × two cells.
    assert_eq!(applications.len(), 48);
}
