//! The TopologyActor against a real etcd, and a double of the API server. These tests run in real time.

mod pruning;
mod reach;
mod records;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use actors::object::{Key, Kind};
use actors::topology_store::key::Component;
use etcd_client::{Client, GetOptions, WatchOptions};
use serde_json::{Value, json};

use crate::bed::{Bed, End, Life};
use crate::process::Etcd;
use crate::server::State;

const EXTERNAL: &str = include_str!("../../../docs/samples/external-etcd.yaml");
/// The root of the sample.
const ROOT: &str = "/multigres/external";
const CELL: &str = "/multigres/external/cells/zone-a/Cell";
const DATABASE: &str = "/multigres/external/databases/postgres/Database";

/// Longest wait for anything that should happen; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on which stores are looked at, and the sample's cluster with its store at `endpoints`.
fn bed(endpoints: &[String]) -> (Bed, Key) {
    let mut bed = Bed::new(7);
    bed.stores = true;
    bed.password();
    let (cluster, mut body) = crate::shapes::cluster(EXTERNAL);
    body["spec"]["globalTopoServer"]["external"]["endpoints"] = json!(endpoints);
    bed.server.add(&cluster, body);
    (bed, cluster)
}

/// Everything below the root.
async fn records(client: &mut Client) -> BTreeMap<String, Vec<u8>> {
    let all = GetOptions::new().with_prefix();
    let answer = client.get(ROOT, Some(all)).await.unwrap();
    let pairs = answer.kvs().iter();
    pairs
        .map(|pair| (pair.key_str().unwrap().to_owned(), pair.value().to_vec()))
        .collect()
}

/// Waits until the records are such.
async fn until(
    client: &mut Client,
    what: &str,
    holds: impl Fn(&BTreeMap<String, Vec<u8>>) -> bool,
) -> BTreeMap<String, Vec<u8>> {
    let waiting = async {
        let all = WatchOptions::new().with_prefix();
        let mut changes = client.watch(ROOT, Some(all)).await.unwrap();
        loop {
            let records = records(client).await;
            if holds(&records) {
                return records;
            }
            changes.message().await.unwrap();
        }
    };
    let within = tokio::time::timeout(PATIENCE, waiting).await;
    within.unwrap_or_else(|_| panic!("never: {what}"))
}

/// The revision of the store: any write moves it.
async fn revision(client: &mut Client) -> i64 {
    let answer = client.get("x", None).await.unwrap();
    answer.header().unwrap().revision()
}

/// A condition of a resource.
fn condition(state: &State, key: &Key, kind: &str) -> Option<Value> {
    let conditions = state.objects.get(key)?["status"]["conditions"].as_array()?;
    let mut found = conditions.iter().filter(|one| one["type"] == kind);
    found.next().cloned()
}

/// Waits until a condition of a resource is such.
async fn told(
    bed: &Bed,
    key: &Key,
    kind: &str,
    holds: impl Fn(Option<&Value>) -> bool,
) -> Option<Value> {
    let what = format!("{kind} of {key}");
    let told = bed
        .server
        .until(&what, |state| holds(condition(state, key, kind).as_ref()));
    let within = tokio::time::timeout(PATIENCE, told).await;
    within.unwrap_or_else(|_| panic!("{kind} of {key} is {}", json!(condition_of(bed, key, kind))));
    condition_of(bed, key, kind)
}

fn condition_of(bed: &Bed, key: &Key, kind: &str) -> Option<Value> {
    bed.server.peek(|state| condition(state, key, kind))
}

fn is(status: &'static str) -> impl Fn(Option<&Value>) -> bool {
    move |found| found.is_some_and(|found| found["status"] == status)
}

/// The TopologyActor as introspection shows it, once it is such.
async fn actor(life: &Life<'_>, holds: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let actors = life.actors().await;
            let mut topology = actors
                .into_iter()
                .filter(|one| one["room"] == "TopologyActor");
            if let Some(found) = topology.next().filter(&holds) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let within = tokio::time::timeout(PATIENCE, waiting).await;
    within.expect("the TopologyActor never came to that")
}

/// It has read its stores and found everything registered.
fn settled(actor: &Value) -> bool {
    let stores = actor["stores"].as_array().cloned().unwrap_or_default();
    let complete = stores.iter().all(|store| store["complete"] == true);
    !stores.is_empty() && complete && actor["registered"] == json!(["zone-a"])
}

/// Reasons of the events that were sent, in order.
fn events(bed: &Bed) -> Vec<(String, String)> {
    let requests = bed.server.since(0);
    let events = requests.iter().filter(|request| request.key.is_none());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events
        .map(|event| {
            (
                text(&event.body["reason"]),
                text(&event.body["regarding"]["kind"]),
            )
        })
        .collect()
}

fn pooler_key(pod: &str) -> String {
    let id = Component::Pooler.id("zone-a", &crds::name::service_id(pod));
    format!("{ROOT}/poolers/{id}/Pooler")
}

/// Pool pods of the cluster.
fn pods(bed: &Bed) -> Vec<String> {
    let pods = bed.server.all(Kind::Pod).into_iter();
    let pods = pods.filter(|(key, _)| key.name.contains("-pool-"));
    pods.map(|(key, _)| key.name.to_string()).collect()
}

/// A store and its cluster, Healthy and registered.
struct Site {
    bed: Bed,
    cluster: Key,
    client: Client,
    etcd: Etcd,
}

impl Site {
    async fn new(name: &str) -> Self {
        let etcd = Etcd::start(name);
        let client = etcd.client().await;
        let (bed, cluster) = bed(&[format!("http://{}", etcd.endpoint())]);
        Self {
            bed,
            cluster,
            client,
            etcd,
        }
    }

    /// A life in which the cluster is Healthy and registered before the scenario begins.
    async fn run(&mut self, scenario: impl AsyncFnOnce(&Bed, &Key, &mut Client, &Life<'_>)) {
        let Self {
            bed,
            cluster,
            client,
            ..
        } = self;
        let end = bed.life(async |life| {
            bed.healthy(cluster).await;
            actor(life, settled).await;
            scenario(bed, cluster, client, life).await;
        });
        assert_eq!(end.await, End::Done(()));
    }
}
