//! Laws of the pure parts: comparison, hashes, lanes, window, store. `ACTORS_SEED` repeats a run, `ACTORS_CASES` makes it
//! longer.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod law;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actors::action::{Action, Manager, Planned, Slot, Urgency};
use actors::covers::covers;
use actors::effects::lanes::Lanes;
use actors::effects::window::{Outcome, Window};
use actors::entry::Entry;
use actors::manifest::Manifest;
use actors::object::{Desired, Key, Kind};
use actors::room::ActorId;
use actors::store::{Change, Group, Store};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::law::law;

// ---- Comparison ----

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-9..99_i64).prop_map(Value::from),
        "[a-z/:.]{1,6}".prop_map(Value::from),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 1..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn wanted(spec: &Value) -> Desired {
    Desired {
        key: Key::new(Kind::Service, "n", "a"),
        body: json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"field": spec}}).into(),
    }
}

fn observed(spec: &Value) -> Value {
    json!({"metadata": {"labels": {}, "annotations": {}, "ownerReferences": []}, "spec": {"field": spec, "status": 1}})
}

/// What the server adds of its own: fields in every block, also within items of lists.
fn defaulted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut map: Map<String, Value> = map
                .iter()
                .map(|(name, value)| (name.clone(), defaulted(value)))
                .collect();
            map.insert("terminationPolicy".into(), "File".into());
            map.insert("defaults".into(), json!({"a": 1}));
            Value::Object(map)
        }
        Value::Array(list) => list.iter().map(defaulted).collect(),
        other => other.clone(),
    }
}

/// Every object that is this one with one leaf changed or taken away.
fn damaged(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(map) => {
            let inside = map.iter().flat_map(|(name, value)| {
                damaged(value).into_iter().map(move |value| {
                    let mut map = map.clone();
                    map.insert(name.clone(), value);
                    Value::Object(map)
                })
            });
            let without = map.keys().map(|name| {
                let mut map = map.clone();
                map.remove(name);
                Value::Object(map)
            });
            inside.chain(without).collect()
        }
        Value::Array(list) => {
            let inside = list.iter().enumerate().flat_map(|(index, value)| {
                damaged(value).into_iter().map(move |value| {
                    let mut list = list.clone();
                    list[index] = value;
                    Value::Array(list)
                })
            });
            let more = list.iter().cloned().chain([json!("more")]).collect();
            inside
                .chain([more, list[1..].iter().cloned().collect()])
                .collect()
        }
        Value::Bool(value) => vec![(!value).into()],
        Value::Number(number) => vec![(number.as_i64().unwrap() + 1).into()],
        other => vec![format!("{}x", other.as_str().unwrap()).into()],
    }
}

#[test]
fn what_the_server_adds_is_covered_and_what_it_lacks_is_not() {
    law(300, json(), |spec| {
        let wanted = wanted(&spec);
        prop_assert!(covers(&observed(&spec), &wanted));
        let read = defaulted(&spec);
        prop_assert!(covers(&observed(&read), &wanted), "{read}");
        prop_assert!(
            covers(&observed(&defaulted(&read)), &wanted),
            "defaults are added once"
        );
        for damaged in damaged(&spec) {
            prop_assert!(
                !covers(&observed(&damaged), &wanted),
                "{damaged} covers {spec}"
            );
            prop_assert!(
                !covers(&observed(&defaulted(&damaged)), &wanted),
                "{damaged} covers {spec}"
            );
        }
        Ok(())
    });
}

/// The same amount in many forms, from a number of billionths.
fn forms(billionths: i128) -> Vec<String> {
    const UNITS: [(&str, u32); 9] = [
        ("n", 0),
        ("u", 3),
        ("m", 6),
        ("", 9),
        ("k", 12),
        ("M", 15),
        ("G", 18),
        ("e3", 12),
        ("E6", 15),
    ];
    let mut forms = Vec::new();
    for (unit, power) in UNITS {
        let scale = 10_i128.pow(power);
        if billionths % scale == 0 {
            forms.push(format!("{}{unit}", billionths / scale));
        }
        let rest = format!("{:0width$}", billionths % scale, width = power as usize);
        forms.push(
            format!("{}.{rest}{unit}", billionths / scale)
                .replace(".e", ".0e")
                .replace(".E", ".0E"),
        );
    }
    for (unit, power) in [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Ei", 60)] {
        let scale = (1_i128 << power) * 1_000_000_000;
        if billionths % scale == 0 {
            forms.push(format!("{}{unit}", billionths / scale));
        }
    }
    forms
}

#[test]
fn quantities_are_compared_by_amount_whatever_their_form() {
    let amounts = prop_oneof![
        1..10_000_i128,
        (1..10_000_i128).prop_map(|n| n * 1_000_000),
        (1..10_000_i128).prop_map(|n| n * 1_000_000_000),
        (1..64_i128).prop_map(|n| (n * 1_000_000_000) << 30),
        (1..4_i128).prop_map(|n| (n * 1_000_000_000) << 60),
    ];
    law(200, amounts, |amount| {
        let of = |form: &str| json!({"limits": {"cpu": form}});
        for one in forms(amount) {
            for two in forms(amount) {
                prop_assert!(
                    covers(&observed(&of(&one)), &wanted(&of(&two))),
                    "{one} is {two}"
                );
            }
            for other in forms(amount + 1) {
                prop_assert!(
                    !covers(&observed(&of(&one)), &wanted(&of(&other))),
                    "{one} is not {other}"
                );
            }
        }
        Ok(())
    });
}

// ---- Hashes ----

/// The text of a value with the keys of every object in another order.
fn reordered(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let parts = map.iter().rev().map(|(name, value)| {
                let mut part = format!("{} : ", Value::from(name.as_str()));
                reordered(value, &mut part);
                part
            });
            out.push_str(&format!("{{{}}}", parts.collect::<Vec<_>>().join(" , ")));
        }
        Value::Array(list) => {
            let parts = list.iter().map(|value| {
                let mut part = String::new();
                reordered(value, &mut part);
                part
            });
            out.push_str(&format!("[ {} ]", parts.collect::<Vec<_>>().join(",")));
        }
        other => out.push_str(&other.to_string()),
    }
}

#[test]
fn a_hash_is_of_the_content_and_of_nothing_else() {
    let text = |value: &Value| actors::canonical::text(value).unwrap();
    let hash = |value: &Value| Manifest::from(value.clone()).hash();
    law(300, (json(), json()), |(one, two)| {
        let mut other = String::new();
        reordered(&one, &mut other);
        let read: Value = serde_json::from_str(&other).unwrap();
        prop_assert_eq!(text(&read), text(&one));
        prop_assert_eq!(hash(&read), hash(&one));
        prop_assert_eq!(
            serde_json::from_str::<Value>(&text(&one)).unwrap(),
            one.clone()
        );
        prop_assert_eq!(text(&one) == text(&two), one == two);
        prop_assert_eq!(hash(&one) == hash(&two), one == two);
        Ok(())
    });
}

// ---- Lanes ----

#[derive(Clone, Debug)]
enum Move {
    Submit(u8, u8, u64),
    Start,
    Finish(usize),
    Clear(bool),
    Forget(u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (0..3_u8, 0..8_u8, 0..3_u64).prop_map(|(actor, lane, version)| Move::Submit(actor, lane, version)),
        4 => Just(Move::Start),
        4 => (0..8_usize).prop_map(Move::Finish),
        1 => any::<bool>().prop_map(Move::Clear),
        1 => (0..3_u8).prop_map(Move::Forget),
    ];
    prop::collection::vec(one, 1..60)
}

fn planned(lane: u8, version: u64) -> Planned {
    let key = Key::new(Kind::Shard, "n", &(lane / 4).to_string());
    let uid: Box<str> = "u".into();
    let action = match lane % 4 {
        0 => Action::Delete { key, uid, version },
        1 => Action::Metadata {
            key,
            patch: json!(version),
            events: Vec::new(),
        },
        2 => Action::Status {
            key,
            uid,
            version: None,
            status: json!(version),
            manager: Manager::ShardStatus,
            events: Vec::new(),
        },
        _ => Action::Read { key },
    };
    Planned {
        action,
        reason: String::new(),
    }
}

fn lane_of(planned: &Planned) -> (Key, Slot) {
    let (key, slot) = planned.action.lane();
    (key.clone(), slot)
}

/// Two actors to a cluster.
fn cluster_of(actor: &ActorId) -> Group {
    let number: usize = actor.uid.parse().unwrap();
    ("n".into(), (number / 2).to_string().into())
}

/// At most one request per lane; behind it waits the newest that differs; a status that waited is decided anew; deletions are
/// served first, and of each cluster the most urgent; what is forgotten is never sent, and nothing else is lost.
#[test]
fn lanes_run_one_request_each_and_the_newest_waits() {
    law(400, moves(), |moves| {
        let mut lanes = Lanes::default();
        let mut running: BTreeMap<(Key, Slot), Planned> = BTreeMap::new();
        let mut waiting: BTreeMap<(Key, Slot), (ActorId, Planned)> = BTreeMap::new();
        for step in moves {
            match step {
                Move::Submit(actor, lane, version) => {
                    let (actor, new) = (
                        ActorId::custom(Kind::Shard, &actor.to_string()),
                        planned(lane, version),
                    );
                    let lane = lane_of(&new);
                    lanes.submit(actor.clone(), cluster_of(&actor), new.clone());
                    let held = waiting
                        .get(&lane)
                        .map(|(_, planned)| planned)
                        .or(running.get(&lane));
                    if held != Some(&new) {
                        waiting.insert(lane, (actor, new));
                    }
                }
                Move::Start => {
                    let ready: Vec<(Group, Urgency)> = waiting
                        .iter()
                        .filter(|(lane, _)| !running.contains_key(lane))
                        .map(|(_, (actor, planned))| (cluster_of(actor), planned.action.urgency()))
                        .collect();
                    let started = lanes.start();
                    let served = started
                        .as_ref()
                        .map(|job| (job.group.clone(), job.planned.action.urgency()));
                    prop_assert_eq!(served.is_some(), !ready.is_empty());
                    if let Some((cluster, urgency)) = served {
                        let all = ready.iter().map(|(_, urgency)| *urgency);
                        let own = ready.iter().filter(|(of, _)| *of == cluster);
                        let first = own.map(|(_, urgency)| *urgency).min();
                        prop_assert_eq!(Some(urgency), first, "the most urgent of its cluster");
                        let deletion = all.min() == Some(Urgency::Deletion);
                        prop_assert_eq!(urgency == Urgency::Deletion, deletion);
                    }
                    if let Some(job) = started {
                        let lane = lane_of(&job.planned);
                        prop_assert!(!running.contains_key(&lane), "two requests on {:?}", lane);
                        let newest = waiting.remove(&lane);
                        prop_assert_eq!(Some((job.actor, job.planned.clone())), newest);
                        running.insert(lane, job.planned);
                    }
                }
                Move::Finish(which) => {
                    if let Some(lane) = running.keys().nth(which).cloned() {
                        running.remove(&lane);
                        lanes.finish(&lane);
                        if lane.1 == Slot::Status {
                            waiting.remove(&lane);
                        }
                    }
                }
                Move::Clear(false) => {
                    lanes.clear();
                    waiting.clear();
                }
                Move::Clear(true) => {
                    lanes.clear_writes();
                    waiting.retain(|_, (_, planned)| !planned.action.writes());
                }
                Move::Forget(actor) => {
                    let actor = ActorId::custom(Kind::Shard, &actor.to_string());
                    lanes.forget(&actor);
                    waiting.retain(|_, (of, planned)| *of != actor || !planned.action.writes());
                }
            }
            prop_assert_eq!(lanes.running(), running.len());
            prop_assert_eq!(lanes.waiting(), waiting.len());
            prop_assert_eq!(lanes.is_empty(), running.is_empty() && waiting.is_empty());
        }
        Ok(())
    });
}

// ---- Window ----

#[test]
fn the_window_stays_within_its_bounds_and_recovers() {
    let outcome = prop::sample::select(vec![Outcome::Answered, Outcome::Refused, Outcome::Lost]);
    law(
        200,
        prop::collection::vec((0..10_000_u64, outcome), 0..300),
        |answers| {
            let mut window = Window::default();
            for (latency, outcome) in answers {
                let before = window.size();
                window.learn(Duration::from_millis(latency), outcome);
                prop_assert!((1..=48).contains(&window.size()), "{}", window.size());
                if outcome != Outcome::Answered {
                    prop_assert!(window.size() <= before);
                }
            }
            for _ in 0..3000 {
                window.learn(Duration::from_millis(5), Outcome::Answered);
            }
            prop_assert_eq!(window.size(), 48, "it does not come back");
            Ok(())
        },
    );
}

// ---- Store ----

/// Versions of an object that was deleted and made again: later lives have later versions.
fn lives() -> impl Strategy<Value = Vec<(usize, u64)>> {
    let life = prop::collection::vec(1..20_u64, 1..4);
    prop::collection::vec(life, 1..4).prop_map(|lives| {
        let mut version = 0;
        let mut all = Vec::new();
        for (uid, steps) in lives.into_iter().enumerate() {
            for step in steps {
                version += step;
                all.push((uid, version));
            }
        }
        all
    })
}

fn entry(uid: usize, version: u64) -> Entry {
    Entry {
        key: Some(Key::new(Kind::Service, "n", "a")),
        uid: uid.to_string().into(),
        version,
        ..Entry::default()
    }
}

/// However observations are repeated and shuffled, the newest stays; of an object that is known to be gone, nothing returns.
#[test]
fn the_newest_observation_wins_in_any_order() {
    let shuffled = lives().prop_flat_map(|all| {
        let doubled: Vec<_> = all.iter().chain(&all).copied().collect();
        (Just(all), Just(doubled).prop_shuffle(), any::<bool>())
    });
    law(400, shuffled, |(all, order, removed)| {
        let key = Key::new(Kind::Service, "n", "a");
        let mut store = Store::default();
        let mut seen = BTreeSet::new();
        for (uid, version) in &order {
            if store.observe(entry(*uid, *version), None) == Change::Changed {
                seen.insert(*uid);
            }
        }
        let newest = all.iter().max_by_key(|(_, version)| *version).unwrap();
        let found = store.get(&key).unwrap();
        prop_assert_eq!(
            (found.uid.to_string(), found.version),
            (newest.0.to_string(), newest.1)
        );
        if removed {
            store.remove(&key, Some(&newest.0.to_string())).unwrap();
            for (uid, version) in order.iter().filter(|(uid, _)| seen.contains(uid)) {
                store.observe(entry(*uid, *version), None);
                prop_assert!(store.get(&key).is_none(), "{} came back", uid);
            }
        }
        Ok(())
    });
}

/// A list names exactly what it did not show and what was not seen while it ran.
#[test]
fn a_list_ends_with_what_is_missing() {
    let names = || prop::collection::btree_set(0..8_u8, 0..8);
    law(200, (names(), names(), names()), |(known, listed, made)| {
        let mut store = Store::default();
        let of = |name: u8, version| Entry {
            key: Some(Key::new(Kind::Pod, "n", &name.to_string())),
            uid: name.to_string().into(),
            version,
            ..Entry::default()
        };
        for name in &known {
            store.observe(of(*name, 1), None);
        }
        store.list_begins(Kind::Pod);
        for name in listed.iter().chain(&made) {
            store.observe(of(*name, 1), None);
        }
        let missing: BTreeSet<String> = store
            .list_ends(Kind::Pod)
            .iter()
            .map(|key| key.name.to_string())
            .collect();
        let expected = known
            .iter()
            .filter(|name| !listed.contains(name) && !made.contains(name));
        prop_assert_eq!(missing, expected.map(ToString::to_string).collect());
        prop_assert!(store.list_ends(Kind::Pod).is_empty(), "a list ends once");
        Ok(())
    });
}
