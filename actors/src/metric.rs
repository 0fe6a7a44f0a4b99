//! Metrics are read from living state at scrape time, so nothing stale remains after a deletion (`lessons.md` L-MET-03).

use serde_json::Value;

use crate::object::Kind;
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
            }
            _ => {}
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
