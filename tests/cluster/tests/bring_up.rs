//! What a bring-up costs, and the silence after it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::introspection::Inspector;
use cluster::transitions::Transitions;
use cluster::{Bed, NAMESPACE, PASSWORD, pass};
use control_plane::{Audit, Entry, Mark, chart, wait};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};

use crate::ONE;

/// Custom resources of a minimal cluster.
const RESOURCES: usize = 5;

/// Figures 3, 4 and 6: a bring-up costs few writes and one event per transition, a settled operator is silent, a restart
/// writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_bring_up_costs_little_and_a_settled_operator_is_silent() {
    let one = ONE.lock().await;
    let bed = Bed::start("settled", &[]).await.unwrap();
    let mut operator = bed.operator().await.unwrap();
    let inspector = Inspector::new(&bed.plane).await.unwrap();
    let (audit, user) = (bed.plane.audit(), chart::user());
    let transitions = Transitions::follow(&bed.plane.client());

    let begin = audit.settle().await.unwrap();
    let names = ["one", "two", "three"];
    for name in names {
        bed.create(name, PASSWORD).await.unwrap();
    }
    for name in names {
        bed.phase(name, "Healthy").await.unwrap();
    }
    inspector.settled(&operator).await.unwrap();
    let settled = audit.settle().await.unwrap();
    cost(&audit.writes(begin, &user).unwrap(), names.len(), 0);
    events(&bed, &transitions).await;
    hashes_survive_the_round_trip(&bed).await;

    let lines = operator.log_lines().unwrap().len();
    drop(one); // nothing but time is needed, so another test may use it
    pass(Duration::from_secs(60)).await.unwrap();
    let _one = ONE.lock().await;
    let after = audit.settle().await.unwrap();
    silent(&audit, settled, "while settled");
    assert_eq!(
        operator.log_lines().unwrap().len(),
        lines,
        "log lines while settled"
    );

    operator.terminate().await.unwrap();
    let restart = Instant::now();
    let operator = bed.operator().await.unwrap();
    let ready = restart.elapsed();
    assert!(ready < Duration::from_secs(3), "ready after {ready:?}");
    inspector.settled(&operator).await.unwrap();
    audit.settle().await.unwrap();
    silent(&audit, after, "after a restart");
}

/// L-ROLL-04: what the API server made of a pool pod still has the hash that was computed before it was sent.
async fn hashes_survive_the_round_trip(bed: &Bed) {
    let pods: Api<Pod> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let pool = ListParams::default().labels("app.kubernetes.io/component=shard-pool");
    let pods = pods.list(&pool).await.unwrap().items;
    assert!(!pods.is_empty());
    for pod in pods {
        let annotations = pod.metadata.annotations.unwrap_or_default();
        let hash = annotations.get("multigres.com/spec-hash");
        let spec = actors::canonical::text_without_nulls(&pod.spec).unwrap();
        let read = actors::labels::borrowed(&annotations);
        let read = actors::pool::spec_hash::of(&read, &spec);
        assert_eq!(hash, Some(&read), "{:?}", pod.metadata.name);
    }
}

/// Nothing but lease and reviews was written.
fn silent(audit: &Audit, since: Mark, when: &str) {
    let user = chart::user();
    let noise: Vec<Entry> = audit.writes(since, &user).unwrap();
    assert!(noise.is_empty(), "writes {when}: {noise:#?}");
    let noise = audit.events(since, &user).unwrap();
    assert!(noise.is_empty(), "events {when}: {noise:#?}");
}

/// What the steps of a pooler on its way up may cost: its shard tells of the topology, of its first role, of the first backup
/// and of the first primary as they come, and the pod is labelled.
const STEPS: usize = 5;

/// Figure 3: at most 1.1 × (objects + 2 per custom resource), and the steps of the poolers that are followed.
pub fn cost(writes: &[Entry], clusters: usize, poolers: usize) {
    // What StatefulSets and Deployments make is not ours.
    let created = writes
        .iter()
        .filter(|write| write.subresource.is_empty() && write.code == 201);
    let made = created.count();
    let limit = 1.1 * (made + 2 * RESOURCES * clusters + STEPS * poolers) as f64;
    println!(
        "{clusters} clusters: {} writes, {made} objects, limit {limit:.0}",
        writes.len()
    );
    assert!(
        writes.len() as f64 <= limit,
        "{} writes, {limit} allowed",
        writes.len()
    );
}

/// At most one event per transition, resource by resource.
async fn events(bed: &Bed, transitions: &Transitions) {
    let api: Api<Event> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for event in api.list(&ListParams::default()).await.unwrap() {
        let ours =
            event.reporting_controller.as_deref() == Some("multigres.com/multigres-operator");
        if let Some(uid) = event
            .regarding
            .and_then(|object| object.uid)
            .filter(|_| ours)
        {
            *told.entry(uid).or_insert(0) += 1;
        }
    }
    assert!(!told.is_empty(), "a bring-up has transitions to tell of");
    // The watch may be a moment behind the events.
    let mut missing = Vec::new();
    let covered = wait::until(
        "a transition for every event",
        Duration::from_secs(10),
        async || {
            let seen = transitions.counts();
            let more = |(uid, events): &(&String, &usize)| seen.get(*uid).unwrap_or(&0) < *events;
            missing = told
                .iter()
                .filter(more)
                .map(|(uid, events)| {
                    format!("{uid}: {events} events, {:?} transitions", seen.get(uid))
                })
                .collect();
            Ok(missing.is_empty().then_some(()))
        },
    )
    .await;
    assert!(covered.is_ok(), "{missing:#?}");
}
