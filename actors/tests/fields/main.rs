//! Every field has an effect: each entry of the API's tables is changed and shows in a named output, which is found by comparing
//! what the rooms render and decide. `SHOW_EFFECTS=1` prints entry and outputs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../../../crds/tests/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the tests of the rooms use the rest")]
#[path = "../rooms/desk.rs"]
mod desk;
mod elsewhere;
mod outputs;
mod path;
mod statuses;
#[path = "../tree/mod.rs"]
mod tree;

use std::collections::BTreeMap;

use common::random::{SAMPLES, remove};
use crds::schema::{Field, fields};
use elsewhere::ELSEWHERE;
use path::{Paths, below};

/// What a change of an entry leads to.
#[derive(Clone, Debug, PartialEq)]
enum Effect {
    /// Outputs that differ.
    Seen(Vec<String>),
    /// Nothing but fields of children that are listed, with the reason there.
    Waits(&'static str),
    /// Whatever the value, it is refused; so nothing is known.
    Refused(String),
    /// Nothing at all.
    None,
}

/// What the table says of an entry; what it says of an object holds for all its members.
fn listed(kind: &str, path: &str) -> Option<&'static str> {
    let here = |of: &str| of == path || below(of, path);
    let row = ELSEWHERE
        .iter()
        .find(|(kinds, of, _)| kinds.split(' ').any(|k| k == kind) && here(of));
    row.map(|(_, _, reason)| *reason)
}

/// Children before those who write them, so that what is known of a child's field is known of the field it comes from.
const ORDER: [&str; 8] = [
    "TopoServer",
    "Shard",
    "Cell",
    "TableGroup",
    "MultigresCluster",
    "CoreTemplate",
    "CellTemplate",
    "ShardTemplate",
];

type Effects = BTreeMap<(String, String), Effect>;

/// Where a field of a child has its effect, when that is elsewhere.
fn waits(kind: &str, path: &str, known: &Effects) -> Option<&'static str> {
    let here = known.get(&(kind.to_owned(), path.to_owned())).cloned();
    let effect = here.unwrap_or_else(|| whole(kind, path, known));
    let derived = match effect {
        Effect::Waits(reason) => Some(reason),
        _ => None,
    };
    listed(kind, path).or(derived)
}

/// The effect of a leaf of a spec: of another value, or of its absence.
fn leaf(paths: &Paths, kind: &str, path: &str, known: &Effects) -> Effect {
    let variants = SAMPLES.variants(kind, path);
    let [a, b] = variants.unwrap_or_else(|| panic!("no values for {kind} {path}"));
    let mut without = a.clone();
    let apart = path.replace("[]", ".[]").replace("{}", ".{}");
    remove(&mut without, &apart.split('.').collect::<Vec<_>>());
    let [a, b] = [a, b].map(|object| outputs::of(kind, path, object));
    if outputs::refused(&a) && outputs::refused(&b) {
        return Effect::Refused(a.to_string());
    }
    let mut found = outputs::differences(&a, &b);
    if found.is_empty() && is_optional(kind, path) {
        found = outputs::differences(&a, &outputs::of(kind, path, without));
    }
    if found.is_empty() {
        return Effect::None;
    }
    // A field of a child is an effect if that field has one itself.
    let reason = |at: &String| {
        let (kind, path) = paths.child(at)?;
        waits(kind, &path, known)
    };
    let reasons: Option<Vec<&'static str>> = found.iter().map(reason).collect();
    match reasons.as_deref() {
        Some([reason, ..]) => Effect::Waits(reason),
        _ => Effect::Seen(found),
    }
}

/// The effect of an object, list or map is that of what it holds.
fn whole(kind: &str, path: &str, leaves: &Effects) -> Effect {
    let inside = leaves
        .iter()
        .filter(|((of, leaf), _)| of == kind && (path == "$" || below(path, leaf)));
    let mut result = Effect::None;
    for (_, effect) in inside {
        match (effect, &result) {
            (Effect::Seen(_), _) => return effect.clone(),
            (Effect::Waits(_), Effect::None) => result = effect.clone(),
            _ => {}
        }
    }
    result
}

fn is_optional(kind: &str, path: &str) -> bool {
    let field = SAMPLES.field(kind, path).unwrap();
    !field.required && !path.ends_with([']', '}'])
}

fn is_whole(field: &Field) -> bool {
    matches!(field.of.as_str(), "object" | "array" | "map")
}

/// Figure 3 of the API: no entry without an effect but those of the table, and none in the table that has one.
#[test]
fn every_entry_has_an_effect() {
    let all = fields().unwrap();
    let paths = Paths::new(&all);
    let statuses = statuses::observed();
    let mut effects = Effects::new();
    let of_kind = |kind: &'static str| all.iter().filter(move |field| field.kind == kind);
    let leaves = ORDER.into_iter().flat_map(of_kind);
    for field in leaves.filter(|field| !is_whole(field)) {
        let (kind, path) = (field.kind.as_str(), field.path.as_str());
        let effect = if path.starts_with("status.") {
            statuses.effect(kind, path)
        } else {
            leaf(&paths, kind, path, &effects)
        };
        effects.insert((kind.to_owned(), path.to_owned()), effect);
    }
    let wholes = all.iter().filter(|field| is_whole(field)).map(|field| {
        let effect = whole(&field.kind, &field.path, &effects);
        ((field.kind.clone(), field.path.clone()), effect)
    });
    let wholes: Vec<_> = wholes.collect();
    effects.extend(wholes);

    let (mut seen, mut waiting, mut wrong) = (0, 0, Vec::new());
    for ((kind, path), effect) in &effects {
        if std::env::var_os("SHOW_EFFECTS").is_some() {
            println!("{kind}\t{path}\t{effect:?}");
        }
        match (effect, listed(kind, path)) {
            (Effect::Seen(_), None) => seen += 1,
            (Effect::Waits(_), None) | (Effect::None, Some(_)) => waiting += 1,
            (effect, None) => wrong.push(format!("{kind} {path}: {effect:?}")),
            (effect, Some(_)) => wrong.push(format!("{kind} {path}: listed, but {effect:?}")),
        }
    }
    assert_eq!(effects.len(), all.len());
    println!(
        "{} entries: {seen} with an effect, {waiting} that have theirs elsewhere",
        effects.len()
    );
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    for (kinds, path, _) in ELSEWHERE {
        for kind in kinds.split(' ') {
            let key = (kind.to_owned(), path.to_owned());
            assert!(effects.contains_key(&key), "there is no {kind} {path}");
        }
    }
}
