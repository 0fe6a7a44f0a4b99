//! Pods are frozen: a pod that is rendered otherwise than by the release before restarts every fleet, so it must be meant.
//!
//! `golden/shard/plain.yaml` is a Shard with its pools, `golden/shard/differences.txt` what each option changes of it.
//! `golden/pods.tsv` holds a digest of every pod and pod template of all shapes and samples. Its own digest stands in
//! `CHANGELOG.md` as `Pods change: <digest>`, with what changes and for whom. `UPDATE_GOLDEN=1` rewrites the files, never the note.

use std::collections::BTreeSet;

use actors::manifest::Manifest;
use actors::object::{Desired, Kind};
use serde_json::Value;

use super::files::{SAMPLES, assert_golden, manifest};
use super::render::{cluster_of, documents, render_with, templates_of, uid_of};
use super::{room_shapes, shard_shapes};

fn samples() -> Vec<(String, Vec<Desired>)> {
    let sample = |(name, text): (&str, &str)| {
        let objects = render_with(&cluster_of(text), &templates_of(text), uid_of);
        (format!("sample {name}"), objects)
    };
    SAMPLES.into_iter().map(sample).collect()
}

pub fn all() -> Vec<(String, Vec<Desired>)> {
    let shard = shard_shapes::shapes()
        .into_iter()
        .map(|(name, objects)| (format!("shard {name}"), objects));
    let rooms = room_shapes::shapes()
        .into_iter()
        .map(|(name, objects)| (format!("room {name}"), objects));
    shard.chain(rooms).chain(samples()).collect()
}

/// What a pod is made from: the pod, or the template of its workload.
fn template(object: &Desired) -> Option<&Value> {
    match object.key.kind {
        Kind::Pod => Some(&object.body),
        Kind::Deployment | Kind::StatefulSet => object.body.pointer("/spec/template"),
        _ => None,
    }
}

/// One line per pod: shape, object, digest.
fn table(shapes: &[(String, Vec<Desired>)]) -> String {
    let mut lines = Vec::new();
    for (shape, objects) in shapes {
        for object in objects {
            let Some(template) = template(object) else {
                continue;
            };
            let digest = Manifest::from(template.clone()).hash();
            lines.push(format!(
                "{shape}\t{} {}\t{digest}\n",
                object.key.kind.name(),
                object.key.name
            ));
        }
    }
    lines.concat()
}

/// The digest that the newest note of the changelog names.
fn noted() -> Option<String> {
    let changelog = include_str!("../../../CHANGELOG.md");
    let (_, rest) = changelog.split_once("Pods change: `")?;
    Some(rest.split_once('`')?.0.to_owned())
}

#[test]
fn a_pod_changes_only_with_a_note_in_the_changelog() {
    let shapes = all();
    let text = table(&shapes);
    assert_golden("pods.tsv", &text);
    let digest = Manifest::from(Value::String(text)).hash();
    assert_eq!(
        noted().as_deref(),
        Some(digest.as_str()),
        "pods are rendered otherwise than the changelog says: tell there, under Unreleased, what changes and whose pods it restarts, \
         as an entry that begins with `Pods change: `{digest}``"
    );
}

#[test]
fn shapes_are_many_and_no_two_are_alike() {
    let shapes = all();
    assert!(shapes.len() >= 20, "{} shapes", shapes.len());
    let of_shards = shard_shapes::shapes();
    let mut seen = BTreeSet::new();
    for (name, objects) in &of_shards {
        let text: Vec<String> = objects
            .iter()
            .map(|object| object.body.to_string())
            .collect();
        assert!(seen.insert(text.concat()), "{name} changes nothing");
    }
}

/// A line per value; what stands in a list goes by its name, so that one more argument is one more line.
fn lines(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                lines(&format!("{path} {name}"), value, found);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for item in list {
                let name = ["mountPath", "name", "key"]
                    .iter()
                    .find_map(|key| item.get(*key)?.as_str());
                lines(
                    &format!("{path} [{}]", name.unwrap_or_default()),
                    item,
                    found,
                );
            }
        }
        other => {
            found.insert(format!("{path} = {other}"));
        }
    }
}

fn described(objects: &[Desired]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for object in objects {
        lines(
            &format!("{} {}:", object.key.kind.name(), object.key.name),
            &object.body,
            &mut found,
        );
    }
    found
}

#[test]
fn options_of_a_shard_change_what_is_listed() {
    let shapes = shard_shapes::shapes();
    let (_, plain) = &shapes[0];
    let text = manifest(plain);
    assert_eq!(documents(&text).len(), plain.len());
    assert_golden("shard/plain.yaml", &text);
    let before = described(plain);
    let mut text = String::new();
    for (name, objects) in &shapes[1..] {
        text.push_str(&format!("## {name}\n"));
        let after = described(objects);
        let gone = before.difference(&after).map(|line| format!("- {line}\n"));
        let new = after.difference(&before).map(|line| format!("+ {line}\n"));
        text.extend(gone.chain(new));
    }
    assert_golden("shard/differences.txt", &text);
}

/// The table of decisions is whole, and what it names exists.
#[test]
fn every_trap_is_decided_somewhere() {
    let decisions = include_str!("../../../docs/pod-decisions.md");
    let (_, traps) = decisions.split_once("## Every trap").unwrap();
    let rows: Vec<&str> = traps
        .lines()
        .filter(|line| line.starts_with("| T"))
        .collect();
    let numbers: Vec<&str> = rows
        .iter()
        .map(|row| row[2..].split(' ').next().unwrap())
        .collect();
    let all: Vec<String> = (1..=55).map(|number| format!("T{number}")).collect();
    assert_eq!(numbers, all);
    let root = format!("{}/..", env!("CARGO_MANIFEST_DIR"));
    for row in decisions
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"))
    {
        let (_, place) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        for file in place.split(", ").filter(|file| *file != "decided in") {
            let path = file.trim_matches('`');
            assert!(
                std::path::Path::new(&root).join(path).is_file(),
                "{row}: {path}"
            );
        }
    }
}
