//! Random histories: edits, faults, kills, falls and hands of strangers, and then the invariants of `design.md` 7. Those that
//! hold at every instant are judged at each request (see `invariants`); those of the end are here.
//!
//! `ACTORS_SEED` repeats a run, `ACTORS_CASES` makes it longer.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actors::object::{Key, Kind, MANAGED_BY};
use actors::operator::Leadership;
use actors::supervisor::Inflow;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::bed::{Bed, End, Life, SILENCE};
use crate::edits::{pool, pools};
use crate::invariants::wanted_pods;
use crate::rebuild::essence;
use crate::server::{Fault, Kill, is_ready};
use crate::shapes::{MINIMAL, PASSWORD, cluster, key};
use crate::watches::Travel;

/// What the spec asks for.
#[derive(Clone, Debug)]
struct Wish {
    cells: usize,
    gateways: i64,
    main: i64,
    reports: Option<i64>,
    cpu: &'static str,
}

#[derive(Clone, Debug)]
enum Step {
    Ask(Wish),
    Secret(bool),
    Fault(Fault, usize),
    Kill(u64, bool),
    Fall(usize, usize),
    Strip(usize),
    Delete(usize),
    Deface(usize),
    Late(u64),
    Handover,
    Pass(u64),
}

fn wish() -> impl Strategy<Value = Wish> {
    let cpu = prop::sample::select(vec!["250m", "1", "1500m"]);
    (
        1..3_usize,
        1..3_i64,
        1..4_i64,
        prop::option::of(1..3_i64),
        cpu,
    )
        .prop_map(|(cells, gateways, main, reports, cpu)| Wish {
            cells,
            gateways,
            main,
            reports,
            cpu,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop::sample::select(vec![
        Fault::Refuse(409),
        Fault::Refuse(429),
        Fault::Refuse(500),
        Fault::Hang,
        Fault::LoseAnswer,
    ]);
    prop_oneof![
        3 => wish().prop_map(Step::Ask),
        1 => any::<bool>().prop_map(Step::Secret),
        3 => (fault, 1..6_usize).prop_map(|(fault, times)| Step::Fault(fault, times)),
        3 => (1..20_u64, any::<bool>()).prop_map(|(after, carried_out)| Step::Kill(after, carried_out)),
        1 => (0..6_usize, 1..4_usize).prop_map(|(who, times)| Step::Fall(who, times)),
        1 => any::<usize>().prop_map(Step::Strip),
        1 => any::<usize>().prop_map(Step::Delete),
        1 => any::<usize>().prop_map(Step::Deface),
        1 => (0..4000_u64).prop_map(Step::Late),
        1 => Just(Step::Handover),
        4 => (5..1500_u64).prop_map(Step::Pass),
    ]
}

fn spec(wish: &Wish) -> Value {
    const CELLS: [&str; 2] = ["zone-a", "zone-b"];
    let named = |cell: &&str| json!({"name": cell, "zoneId": format!("us-central1-{cell}"), "spec": {"multigateway": {"replicas": wish.gateways}}});
    let mut main = pool(&CELLS[..wish.cells], wish.main);
    main["postgres"] = json!({"resources": {"requests": {"cpu": wish.cpu}}});
    let mut all = json!({ "main": main });
    if let Some(replicas) = wish.reports {
        all["reports"] = pool(&["zone-a"], replicas);
    }
    json!({
        "postgresPasswordSecretRef": {"name": PASSWORD, "key": "password"},
        "cells": CELLS[..wish.cells].iter().map(named).collect::<Vec<_>>(),
        "databases": pools(&all),
    })
}

/// The bed of one history, and what its hooks look at.
struct Story {
    bed: Bed,
    cluster: Key,
    falls: Arc<[AtomicUsize; 6]>,
}

impl Story {
    fn new(first: &Wish) -> Self {
        let mut bed = Bed::new(70);
        let falls: Arc<[AtomicUsize; 6]> = Arc::default();
        let left = falls.clone();
        bed.hooks.before_decision = Some(Arc::new(move |id, _, _| {
            let who = match (id.kind, &id.pool) {
                (Kind::MultigresCluster, _) => 0,
                (Kind::TopoServer, _) => 1,
                (Kind::Cell, _) => 2,
                (Kind::TableGroup, _) => 3,
                (_, None) => 4,
                (_, Some(_)) => 5,
            };
            let more = left[who].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
            assert!(more.is_err(), "a fall of this test");
        }));
        bed.password();
        let (cluster, mut body) = cluster(MINIMAL);
        body["spec"] = spec(first);
        bed.server.add(&cluster, body);
        Self {
            bed,
            cluster,
            falls,
        }
    }

    /// An object of ours, chosen by number. Custom resources are left out: with one of them, all its pods may go.
    fn pick(&self, number: usize) -> Option<Key> {
        let mut keys = self.bed.server.peek(|state| state.objects.clone());
        keys.retain(|key, object| {
            !key.kind.is_custom() && object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1
        });
        let count = keys.len();
        keys.into_keys().nth(number.checked_rem(count)?)
    }

    async fn take(&self, step: Step, life: &Life<'_>) {
        let server = &self.bed.server;
        match step {
            Step::Ask(wish) => server.edit(&self.cluster, |object| object["spec"] = spec(&wish)),
            Step::Secret(true) => self.secret(),
            Step::Secret(false) => {
                let secret = key(Kind::Secret, PASSWORD);
                if server.get(&secret).is_some() {
                    server.delete(&secret);
                }
            }
            Step::Fault(fault, times) => server.fail(fault, times, |_| true),
            Step::Kill(after, carried_out) => {
                let at = server.mark() + after;
                server.with(|state| state.kill = Some(Kill { at, carried_out }));
            }
            Step::Fall(who, times) => self.falls[who].store(times, Ordering::Relaxed),
            Step::Strip(number) => self.hand(number, |object| {
                object["metadata"].as_object_mut().unwrap().remove("labels");
            }),
            Step::Deface(number) => self.hand(number, |object| {
                object["metadata"]["labels"]["app.kubernetes.io/name"] = "other".into();
                if object["spec"].get("replicas").is_some() {
                    object["spec"]["replicas"] = 7.into();
                }
            }),
            Step::Delete(number) => {
                if let Some(key) = self.pick(number) {
                    server.delete(&key);
                }
            }
            Step::Late(most) => self.bed.travel(Travel {
                most: Duration::from_millis(most + 1),
                ..Travel::default()
            }),
            Step::Handover => {
                life.leadership.send_replace(Leadership::Standby);
                life.inflow.send(Inflow::Leadership(false)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
                life.leadership.send_replace(Bed::leader());
                life.inflow.send(Inflow::Leadership(true)).await.unwrap();
            }
            Step::Pass(time) => tokio::time::sleep(Duration::from_millis(time)).await,
        }
    }

    fn secret(&self) {
        if self.bed.server.get(&key(Kind::Secret, PASSWORD)).is_none() {
            self.bed.password();
        }
    }

    fn hand(&self, number: usize, edit: impl FnOnce(&mut Value)) {
        if let Some(key) = self.pick(number) {
            self.bed.server.edit(&key, edit);
        }
    }

    async fn run(&self, steps: Vec<Step>) {
        let steps = RefCell::new(VecDeque::from(steps));
        loop {
            let end = self.bed.life(async |life| {
                loop {
                    let step = steps.borrow_mut().pop_front();
                    let Some(step) = step else { break };
                    self.take(step, life).await;
                }
                self.calm();
                self.obey().await;
                self.bed.silence().await;
                let settled = self.bed.server.mark();
                life.relist().await;
                let writes = self.bed.server.writes_since(settled);
                assert!(writes.is_empty(), "written after the end: {writes:?}");
            });
            if end.await == End::Done(()) {
                return;
            }
        }
    }

    /// The last change: from here on, nothing disturbs.
    fn calm(&self) {
        self.secret();
        self.bed.travel(Travel::default());
        self.bed.server.with(|state| {
            state.rules.clear();
            state.kill = None;
        });
        self.falls
            .iter()
            .for_each(|falls| falls.store(0, Ordering::Relaxed));
    }

    /// The user does what conditions ask for. A volume that was kept and lost its labels while no operator looked is nobody's
    /// until somebody says whose it is.
    async fn obey(&self) {
        tokio::time::sleep(SILENCE).await;
        for (_, shard) in self.bed.server.all(Kind::Shard) {
            let told = shard["status"]["conditions"].to_string();
            for (claim, _) in self.bed.server.all(Kind::PersistentVolumeClaim) {
                let (label, cluster) = ("multigres.com/cluster", &*self.cluster.name);
                let remedy = format!("label pvc -n default {} {label}={cluster}", claim.name);
                if told.contains(&remedy) {
                    self.bed.server.edit(&claim, |object| {
                        object["metadata"]["labels"][label] = cluster.into();
                    });
                }
            }
        }
    }

    /// What is wanted is there; pods and volumes beyond that are none of our business here.
    fn check(&self, undisturbed: &BTreeMap<Key, Value>) {
        let state = self.bed.server.peek(essence);
        for (key, wanted) in undisturbed {
            let found = state.get(key).unwrap_or_else(|| panic!("{key} is missing"));
            assert_eq!(
                found["metadata"]["labels"], wanted["metadata"]["labels"],
                "{key}"
            );
            if !matches!(
                key.kind,
                Kind::Pod | Kind::Secret | Kind::PersistentVolumeClaim
            ) {
                assert_eq!(found["spec"], wanted["spec"], "{key}");
                assert_eq!(found["data"], wanted["data"], "{key}");
            }
            if key.kind.is_custom() {
                assert_eq!(
                    found["status"]["phase"], "Healthy",
                    "{key}: {}",
                    found["status"]
                );
            }
        }
        let cluster = self.bed.server.get(&self.cluster).unwrap();
        for pod in wanted_pods(Kind::MultigresCluster, &cluster) {
            assert!(
                self.bed.server.get(&pod).is_some_and(|pod| is_ready(&pod)),
                "{pod}"
            );
        }
    }
}

async fn history(first: Wish, steps: Vec<Step>) {
    let last = steps.iter().rev().find_map(|step| match step {
        Step::Ask(wish) => Some(wish.clone()),
        _ => None,
    });
    let calm = Story::new(&last.unwrap_or_else(|| first.clone()));
    calm.run(Vec::new()).await;
    let story = Story::new(&first);
    story.run(steps).await;
    story.check(&calm.bed.server.peek(essence));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn any_history_ends_in_what_was_asked_for_last() {
    let seed = number("ACTORS_SEED")
        .unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    eprintln!("ACTORS_SEED={seed} repeats this run");
    let config = Config {
        cases: number("ACTORS_CASES").unwrap_or(6) as u32,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let histories = (wish(), prop::collection::vec(step(), 2..16));
    let outcome = runner.run(&histories, |(first, steps)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(history(first, steps));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("ACTORS_SEED={seed}: {error}");
    }
}
