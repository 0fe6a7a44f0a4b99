//! The TopologyActor against a real etcd, and a double of the API server. These tests run in real time.

mod pruning;
mod reach;
mod records;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use actors::object::{Key, Kind};
use actors::operator::Inspection;
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
    records_below(client, ROOT).await
}

async fn records_below(client: &mut Client, root: &str) -> BTreeMap<String, Vec<u8>> {
    let all = GetOptions::new().with_prefix();
    let answer = client.get(root, Some(all)).await.unwrap();
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
    until_below(client, ROOT, what, holds).await
}

/// The same below another root.
async fn until_below(
    client: &mut Client,
    root: &str,
    what: &str,
    holds: impl Fn(&BTreeMap<String, Vec<u8>>) -> bool,
) -> BTreeMap<String, Vec<u8>> {
    let waiting = async {
        let all = WatchOptions::new().with_prefix();
        let mut changes = client.watch(root, Some(all)).await.unwrap();
        loop {
            let records = records_below(client, root).await;
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

/// Looks into the process after each decision and all news until it finds what it looks for.
async fn seen<T>(life: &Life<'_>, what: &str, look: impl Fn(&Value) -> Option<T>) -> T {
    let mut news = life.bed.news();
    let waiting = async {
        loop {
            news.borrow_and_update();
            let told = life.handle.inspect(Inspection::Actors).await.unwrap();
            if let Some(found) = look(&told) {
                return found;
            }
            if under_way(&told) || told["process"]["leader"] != true {
                // The end of a request may wake nobody, and who does not lead decides nothing: there will be no news of it.
                tokio::task::yield_now().await;
            } else {
                news.changed().await.unwrap();
            }
        }
    };
    let within = tokio::time::timeout(PATIENCE, waiting).await;
    within.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Requests have not been answered yet.
fn under_way(told: &Value) -> bool {
    let process = &told["process"];
    process["underWay"] != 0 || process["waiting"] != 0
}

/// Waits until nothing is under way, nobody has news to look at, and nobody is about to: counts in a status trail by half a second.
async fn quiet(life: &Life<'_>) {
    let bed = life.bed;
    seen(life, "quiet", |told| {
        let soon = bed.now() + jiff::SignedDuration::from_secs(1);
        let rests = |actor: &Value| {
            let wake = actor["nextWake"].as_str();
            let wake = wake.map(|at| at.parse::<jiff::Timestamp>().unwrap());
            actor["inbox"]["depth"] == 0 && wake.is_none_or(|at| at > soon)
        };
        let actors = told["actors"].as_array().unwrap();
        (!under_way(told) && actors.iter().all(rests)).then_some(())
    })
    .await;
}

/// The TopologyActor as introspection shows it, once it is such.
async fn actor(life: &Life<'_>, holds: impl Fn(&Value) -> bool) -> Value {
    seen(life, "such a TopologyActor", |told| {
        topology(told).filter(|actor| holds(actor)).cloned()
    })
    .await
}

/// The TopologyActor of the only cluster.
fn topology(told: &Value) -> Option<&Value> {
    let actors = told["actors"].as_array().unwrap();
    actors.iter().find(|one| one["room"] == "TopologyActor")
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
