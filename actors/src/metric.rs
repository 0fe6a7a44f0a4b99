//! Metrics are read from living state at scrape time, so nothing stale remains after a deletion (`lessons.md` L-MET-03).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::certificate_facts;
use crate::entry::Entry;
use crate::labels;
use crate::object::Kind;
use crate::shard::members::Role;
use crate::status::text;
use crate::store::Store;
use crate::world::World;

/// Gauge or counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// May go down.
    Gauge,
    /// Only grows within one life of the process.
    Counter,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Gauge or counter.
    pub kind: SampleKind,
    /// Labels.
    pub labels: Vec<(&'static str, String)>,
    /// Value.
    pub value: f64,
}

/// Operations on topology stores and how they may end.
const REQUESTS: [(&str, &[&str]); 4] = [
    ("read", &["ok", "lost", "compacted"]),
    ("create", WRITE_CODES),
    ("update", WRITE_CODES),
    ("delete", WRITE_CODES),
];
const WRITE_CODES: &[&str] = &["ok", "conflict", "unknown", "not_leader"];

/// Requests to topology stores.
#[derive(Debug, Default)]
pub struct Requests {
    ended: BTreeMap<(&'static str, &'static str), u64>,
    took: BTreeMap<&'static str, Duration>,
}

impl Requests {
    /// Counts a request that ended.
    pub fn count(&mut self, operation: &'static str, code: &'static str, took: Duration) {
        *self.ended.entry((operation, code)).or_default() += 1;
        *self.took.entry(operation).or_default() += took;
    }

    /// All of them, those that never happened too.
    fn samples(&self) -> Vec<Sample> {
        let sample = |name, help, labels, value| Sample {
            name,
            help,
            kind: SampleKind::Counter,
            labels,
            value,
        };
        let mut samples = Vec::new();
        for (operation, codes) in REQUESTS {
            for code in codes {
                let ended = self.ended.get(&(operation, *code));
                samples.push(sample(
                    "multigres_operator_topology_requests_total",
                    "Requests to topology stores that ended",
                    vec![
                        ("operation", operation.to_owned()),
                        ("code", (*code).to_owned()),
                    ],
                    ended.copied().unwrap_or_default() as f64,
                ));
            }
        }
        for (operation, _) in REQUESTS
            .into_iter()
            .filter(|(_, codes)| *codes == WRITE_CODES)
        {
            let took = self.took.get(operation);
            samples.push(sample(
                "multigres_operator_topology_request_seconds_total",
                "Time that writes to topology stores took",
                vec![("operation", operation.to_owned())],
                took.map_or(0.0, Duration::as_secs_f64),
            ));
        }
        samples
    }
}

fn gauge(
    name: &'static str,
    help: &'static str,
    labels: Vec<(&'static str, String)>,
    value: f64,
) -> Sample {
    Sample {
        name,
        help,
        kind: SampleKind::Gauge,
        labels,
        value,
    }
}

fn counter(name: &'static str, help: &'static str, value: f64) -> Sample {
    Sample {
        name,
        help,
        kind: SampleKind::Counter,
        labels: Vec::new(),
        value,
    }
}

/// All samples. Counts are far below 2^52, so they are exact as floating point numbers.
pub fn collect(world: &World, restarts: u64) -> Vec<Sample> {
    let mut samples = process(world, restarts);
    let store = world.store.borrow();
    for entry in store.resources() {
        let key = entry.key();
        let status = entry.status_value();
        let named = |label: &'static str| {
            vec![
                (label, key.name.to_string()),
                ("namespace", key.namespace.to_string()),
            ]
        };
        match key.kind {
            Kind::MultigresCluster => {
                let phase = status
                    .get("phase")
                    .and_then(Value::as_str)
                    .unwrap_or("Unknown")
                    .to_owned();
                let mut labels = named("name");
                labels.push(("phase", phase));
                samples.push(gauge(
                    "multigres_operator_cluster_info",
                    "Clusters by phase; always 1",
                    labels,
                    1.0,
                ));
                let known = world.topology(&entry.uid).unwrap_or_default();
                if let Some(reachable) = &known.reachable {
                    samples.push(gauge(
                        "multigres_operator_topology_reachable",
                        "1 while every topology store of a cluster is read and followed",
                        named("name"),
                        f64::from(u8::from(reachable.holds())),
                    ));
                }
                if let Some(held) = &known.held {
                    samples.push(gauge(
                        "multigres_operator_topology_held",
                        "1 while topology records of a cluster are wrong and left alone; its condition names them",
                        named("name"),
                        f64::from(u8::from(!held.is_empty())),
                    ));
                }
            }
            Kind::Cell => {
                for (state, field) in [
                    ("desired", "gatewayReplicas"),
                    ("ready", "gatewayReadyReplicas"),
                ] {
                    let mut labels = named("cell");
                    labels.push(("state", state.to_owned()));
                    let value = entry.status_number(field) as f64;
                    samples.push(gauge(
                        "multigres_operator_cell_gateway_replicas",
                        "Gateway pods of a cell",
                        labels,
                        value,
                    ));
                }
            }
            Kind::Shard => {
                let value = entry.status_number("readyReplicas") as f64;
                samples.push(gauge(
                    "multigres_operator_shard_ready_replicas",
                    "Ready pool pods of a shard",
                    named("shard"),
                    value,
                ));
                samples.extend(data_plane(world, entry, &status));
            }
            _ => {}
        }
    }
    samples.extend(certificates(&store));
    samples.extend(world.topology_requests.borrow().samples());
    samples.extend(links(world));
    samples
}

/// What is known of a shard's poolers and backups. Missing is no sample, never a default number (`lessons.md` L-MET-02).
fn data_plane(world: &World, shard: &Entry, status: &Value) -> Vec<Sample> {
    let key = shard.key();
    let labels = || {
        let cluster = shard.label(labels::CLUSTER).unwrap_or_default();
        vec![
            ("cluster", cluster.to_owned()),
            ("shard", key.name.to_string()),
            ("namespace", key.namespace.to_string()),
        ]
    };
    let mut samples = Vec::new();
    for (role, name, help) in [
        (
            Role::Primary,
            "multigres_operator_shard_primaries",
            "Poolers of a shard that lead under the highest decided rule",
        ),
        (
            Role::Quarantined,
            "multigres_operator_quarantined_pods",
            "Poolers of a shard that gave up",
        ),
    ] {
        let roles = status.get("podRoles").and_then(Value::as_object);
        if let Some(roles) = roles {
            let those = roles.values().filter(|word| *word == role.word());
            samples.push(gauge(name, help, labels(), those.count() as f64));
        }
    }
    for (pod, lag) in world.links.borrow().lags(&shard.uid) {
        let mut labels = labels();
        labels.push(("pod", pod.to_string()));
        samples.push(gauge(
            "multigres_operator_replication_lag_bytes",
            "Bytes of WAL that a replica has not received yet",
            labels,
            lag as f64,
        ));
    }
    let ended: Option<jiff::Timestamp> = text(status, "lastBackupTime").parse().ok();
    if let Some(ended) = ended {
        samples.push(gauge(
            "multigres_operator_last_backup_timestamp_seconds",
            "End of the newest complete backup of a shard, as a Unix time",
            labels(),
            ended.as_second() as f64,
        ));
        samples.push(gauge(
            "multigres_operator_last_backup_age_seconds",
            "Age of the newest complete backup of a shard",
            labels(),
            world.clock.now().duration_since(ended).as_secs_f64(),
        ));
    }
    samples
}

/// Calls to the data plane, and the health streams.
fn links(world: &World) -> Vec<Sample> {
    let links = world.links.borrow();
    let (all, open) = links.streams();
    let mut samples = vec![
        gauge(
            "multigres_operator_pooler_links",
            "Pool pods that are followed",
            Vec::new(),
            all as f64,
        ),
        gauge(
            "multigres_operator_pooler_streams_open",
            "Pool pods whose health stream is open",
            Vec::new(),
            open as f64,
        ),
    ];
    for ((method, code), count) in links.counts() {
        let labels = || vec![("method", (*method).to_owned()), ("code", code.clone())];
        for (name, help, value) in [
            (
                "multigres_operator_data_plane_calls_total",
                "Calls to components of the data plane",
                count.calls as f64,
            ),
            (
                "multigres_operator_data_plane_call_seconds_total",
                "Time until calls to components of the data plane were answered or given up",
                count.time.as_secs_f64(),
            ),
        ] {
            samples.push(Sample {
                labels: labels(),
                ..counter(name, help, value)
            });
        }
    }
    samples
}

/// The end of every certificate in Secrets that we own or refer to; `file` tells a leaf from the authority beside it.
fn certificates(store: &Store) -> Vec<Sample> {
    let mut samples = Vec::new();
    for entry in store.of_kind(Kind::Secret) {
        let Some(facts) = &entry.certificates else {
            continue;
        };
        let files = [
            (certificate_facts::LEAF_FILES.0, facts.leaf.as_ref()),
            // The first authority is the one in use.
            (
                certificate_facts::AUTHORITY_FILES.0,
                facts.authorities.first(),
            ),
        ];
        for (file, fact) in files {
            let Some(fact) = fact else { continue };
            let key = entry.key();
            let labels = vec![
                ("secret", key.name.to_string()),
                ("namespace", key.namespace.to_string()),
                ("file", file.to_owned()),
            ];
            samples.push(gauge(
                "multigres_operator_certificate_expiry_timestamp_seconds",
                "End of a certificate in a Secret that is mounted, as a Unix time",
                labels,
                fact.not_after.as_second() as f64,
            ));
        }
    }
    samples
}

fn process(world: &World, restarts: u64) -> Vec<Sample> {
    let executor = world.executor.borrow();
    let seats = world.seats.borrow();
    let inboxes: Vec<_> = seats.keys().map(|id| world.inbox(id)).collect();
    let now = world.clock.now();
    let oldest = inboxes.iter().filter_map(crate::world::Inbox::oldest).min();
    let age = oldest.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
    let (coalesced, refused) = world.crowding();
    vec![
        gauge(
            "multigres_operator_actors",
            "Living actors",
            Vec::new(),
            seats.len() as f64,
        ),
        gauge(
            "multigres_operator_leader",
            "1 while this process may write",
            Vec::new(),
            f64::from(u8::from(executor.leads())),
        ),
        counter(
            "multigres_operator_actor_restarts_total",
            "Actors restarted after a panic",
            restarts as f64,
        ),
        gauge(
            "multigres_operator_findings",
            "Objects about which something is noted that should not be; introspection names them",
            Vec::new(),
            world.findings.borrow().len() as f64,
        ),
        gauge(
            "multigres_operator_inbox_depth",
            "Changed objects that actors have not looked at yet",
            Vec::new(),
            inboxes
                .iter()
                .map(crate::world::Inbox::depth)
                .sum::<usize>() as f64,
        ),
        gauge(
            "multigres_operator_inbox_oldest_seconds",
            "Age of the oldest unseen change",
            Vec::new(),
            age,
        ),
        counter(
            "multigres_operator_inbox_coalesced_total",
            "Changes that joined an earlier one",
            coalesced as f64,
        ),
        counter(
            "multigres_operator_inbox_refused_total",
            "Changes beyond the bound of an inbox",
            refused as f64,
        ),
        gauge(
            "multigres_operator_requests_under_way",
            "Requests to the API server",
            Vec::new(),
            executor.lanes().running() as f64,
        ),
        gauge(
            "multigres_operator_requests_waiting",
            "Actions waiting for the window",
            Vec::new(),
            executor.lanes().waiting() as f64,
        ),
        gauge(
            "multigres_operator_request_window",
            "Requests that may be under way",
            Vec::new(),
            executor.window().size() as f64,
        ),
        counter(
            "multigres_operator_writes_total",
            "Write requests sent",
            executor.writes as f64,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::effects::certificate::{Material, authority, leaf};
    use crate::entry::{Entry, Watched};
    use crate::fixtures::{base64, start};
    use crate::object::Key;

    fn secret(name: &str, version: u64, material: &Material) -> Entry {
        let data: serde_json::Map<String, Value> = material
            .iter()
            .map(|(file, text)| (file.clone(), base64(text)))
            .collect();
        let body = json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": version.to_string()},
            "data": data,
        });
        let watched: Watched = serde_json::from_value(body).unwrap();
        watched.trim(Kind::Secret).unwrap()
    }

    fn told(store: &Store) -> Vec<(String, String, i64)> {
        let of = |sample: &Sample, label: &str| {
            let found = sample.labels.iter().find(|(name, _)| *name == label);
            found.unwrap().1.clone()
        };
        let days = |sample: &Sample| (sample.value as i64 - start().as_second()) / 86_400;
        certificates(store)
            .iter()
            .map(|sample| (of(sample, "secret"), of(sample, "file"), days(sample)))
            .collect()
    }

    /// L-CERT-04 "Nothing shows the remaining lifetime": ours and the users', each once, and nothing of one that is gone.
    #[test]
    fn every_certificate_shows_when_it_ends() {
        let ca = authority(start()).unwrap();
        let mut made = leaf(&ca, &["a".to_owned()], start()).unwrap();
        let mut store = Store::default();
        store.observe(secret("leaf", 1, &made), None);
        store.observe(secret("ca", 2, &ca), None);
        let password = Material::from([("password".to_owned(), "x".to_owned())]);
        store.observe(secret("password", 3, &password), None);
        let given = Key::new(Kind::Secret, "n", "given");
        let twice = Key::new(Kind::Secret, "n", "leaf");
        store.refer(&given);
        store.refer(&twice);
        made.insert("ca.crt".to_owned(), ca["ca.crt"].clone());
        store.learn_reference(&given, Some(secret("given", 4, &made)));
        store.learn_reference(&twice, Some(secret("leaf", 1, &made)));
        let expected = |name: &str, file: &str, days| (name.to_owned(), file.to_owned(), days);
        let ours = [
            expected("ca", "ca.crt", 3650),
            expected("leaf", "tls.crt", 365),
        ];
        let users = [
            expected("given", "tls.crt", 365),
            expected("given", "ca.crt", 3650),
        ];
        assert_eq!(told(&store), [&ours[..], &users].concat());
        store.learn_reference(&given, None);
        assert_eq!(told(&store), ours);
    }
}
