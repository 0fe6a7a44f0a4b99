//! Fuzzing on the stable toolchain: mutations of a kept corpus (`crds/fuzz/corpus`), guided by what a run leads to instead of by
//! code coverage. `FUZZ_SECONDS` bounds each target (default 1), `FUZZ_SEED` repeats a run, `FUZZ_KEEP=1` keeps inputs that led
//! to something new. An input that panics is written to the corpus and fails every run until it is mended.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking; time bounds it"
)]

mod common;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{defaults, templates};
use crds::materialise::{additions, materialise};
use crds::name::{Limit, join};
use crds::quantity::quantity;
use crds::resolve::{referenced, resolve, shard_spec};
use serde_json::Value;

/// Runs one input; what it returns stands for what happened.
type Target = fn(&[u8]) -> u64;

fn number(variable: &str, usual: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// xorshift64*: reproducible from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

fn mutate(random: &mut Random, inputs: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(16)).min(input.len());
        match random.below(7) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 => input.insert(at, u8::try_from(random.below(256)).unwrap()),
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            4 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(200)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            _ if !words.is_empty() => {
                let word = words[random.below(words.len())];
                input.splice(at..end, word.bytes());
            }
            _ => {}
        }
        input.truncate(1 << 14);
    }
    input
}

fn digest(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn fuzz(name: &str, target: Target, words: &[&str]) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut inputs: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(!inputs.is_empty(), "no corpus in {}", folder.display());
    let (seed, keep) = (
        number("FUZZ_SEED", 0x9E37_79B9_7F4A_7C15),
        number("FUZZ_KEEP", 0) == 1,
    );
    let mut random = Random(seed.max(1));
    let mut seen = BTreeSet::new();
    let mut run = |input: &[u8]| match catch_unwind(AssertUnwindSafe(|| target(input))) {
        Ok(signature) => seen.insert(signature),
        Err(_) => {
            let path = folder.join(format!("panic-{:016x}", digest(input)));
            std::fs::write(&path, input).unwrap();
            panic!("{name} panics on {} (seed {seed})", path.display());
        }
    };
    for input in &inputs {
        run(input);
    }
    let (begin, limit) = (
        Instant::now(),
        Duration::from_secs(number("FUZZ_SECONDS", 1)),
    );
    let (mut runs, mut slowest) = (0_u64, Duration::ZERO);
    while begin.elapsed() < limit {
        let input = mutate(&mut random, &inputs, words);
        runs += 1;
        let started = Instant::now();
        let new = run(&input);
        slowest = slowest.max(started.elapsed());
        if new && inputs.len() < 4000 {
            if keep {
                std::fs::write(folder.join(format!("{:016x}", digest(&input))), &input).unwrap();
            }
            inputs.push(input);
        }
    }
    println!(
        "{name}: {runs} runs, {} kinds of outcome, slowest {slowest:?}, seed {seed}",
        seen.len()
    );
}

/// A manifest and templates in YAML, whatever they are: resolution never panics, and what it accepts is whole.
fn resolver(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let objects: Vec<Value> = text
        .split("\n---\n")
        .filter_map(|part| serde_saphyr::from_str(part).ok())
        .collect();
    let Some(object) = objects
        .iter()
        .find(|object| object["kind"] == "MultigresCluster")
    else {
        return 0;
    };
    let stored = materialise(object);
    assert_eq!(additions(&stored), []);
    let Ok(cluster) = serde_json::from_value(object.clone()) else {
        return 1;
    };
    let named = |object: &&Value| object["metadata"]["name"].is_string();
    let fits = |object: &&Value| match object["kind"].as_str() {
        Some("CoreTemplate") => {
            serde_json::from_value::<crds::CoreTemplate>((*object).clone()).is_ok()
        }
        Some("CellTemplate") => {
            serde_json::from_value::<crds::CellTemplate>((*object).clone()).is_ok()
        }
        Some("ShardTemplate") => {
            serde_json::from_value::<crds::ShardTemplate>((*object).clone()).is_ok()
        }
        _ => false,
    };
    let world: Vec<Value> = objects.iter().filter(named).filter(fits).cloned().collect();
    let names = referenced(&cluster);
    match resolve(&cluster, &templates(&world), &defaults()) {
        Err(problems) => {
            assert!(!problems.is_empty());
            let paths: BTreeSet<String> = problems
                .iter()
                .map(|p| p.path.replace(|c: char| c.is_ascii_digit(), ""))
                .collect();
            digest(paths)
        }
        Ok(resolved) => {
            assert!(!resolved.cells.is_empty());
            for group in &resolved.table_groups {
                assert!(group.durability_policy.is_some() && group.backup.is_some());
                for shard in &group.shards {
                    let spec = shard_spec(group, shard);
                    assert!(!spec.pools.is_empty() && !spec.multiorch.cells.is_empty());
                    for pool in spec.pools.values() {
                        let size = pool.storage.as_ref().unwrap().size.as_deref().unwrap();
                        assert!(!pool.cells.is_empty() && quantity(size).unwrap() > 0.0);
                    }
                }
            }
            let sources: BTreeSet<String> = resolved
                .provenance
                .iter()
                .map(|(path, source)| format!("{path} {source}"))
                .collect();
            digest((
                sources.len() / 4,
                names.core.len(),
                names.cell.len(),
                names.shard.len(),
                resolved.internal_tls,
            ))
        }
    }
}

/// A quantity is finite and its sign is a sign.
fn quantities(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let Some(value) = quantity(&text) else {
        return digest(text.chars().next().map(|c| c.is_ascii_digit()));
    };
    assert!(value.is_finite());
    let bare = text.trim_start_matches(['+', '-']);
    assert_eq!(quantity(&format!("-{bare}")), Some(-value.abs()));
    digest((
        text.trim_start_matches(|c: char| c.is_ascii_digit())
            .chars()
            .take(2)
            .collect::<String>(),
        value < 0.0,
    ))
}

/// A joined name is a legal name of its kind that tells its parts apart.
fn names(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let parts: Vec<&str> = text.split('\n').collect();
    let mut lengths = Vec::new();
    for (limit, most) in [
        (Limit::Default, 253),
        (Limit::Service, 63),
        (Limit::Pod, 60),
        (Limit::StatefulSet, 52),
    ] {
        let name = join(limit, &parts);
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.len() <= most && name.chars().all(legal), "{name}");
        let first = name.chars().next().unwrap();
        assert!(
            first.is_ascii_lowercase() || (limit == Limit::Default && first.is_ascii_digit()),
            "{name}"
        );
        assert!(name.ends_with(|c: char| c.is_ascii_hexdigit()), "{name}");
        let mut apart = parts.clone();
        apart.push("");
        assert_ne!(name, join(limit, &apart));
        lengths.push(name.len() == most);
    }
    digest((lengths, parts.len().min(8), text.is_ascii()))
}

/// A setting is judged without a panic, the same with any case and blanks around its name.
fn settings(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let (name, value) = text.split_once('=').unwrap_or((&text, ""));
    let verdict = crds::guc::check(name, value);
    let shouted = format!(" {} ", name.to_ascii_uppercase());
    assert_eq!(crds::guc::check(&shouted, value), verdict, "{name}");
    let _ = crds::guc::reloadable(name);
    digest((verdict, value.len().min(4)))
}

#[test]
fn any_manifest_resolves_or_is_refused() {
    let words = [
        "templateDefaults",
        "cellTemplate: ",
        "shardTemplate: ",
        "overrides:",
        "spec:",
        "null",
        "{}",
        "[]",
        "\"\"",
        "0",
        "-1",
        "9223372036854775807",
        "10foo",
        "zone-a",
        "default",
        "pools:",
        "cells: [zone-a]",
        "resources: {}",
        "backup: {type: s3}",
        "\n---\n",
        "&a",
        "*a",
        "<<: ",
        "1e400",
        "external: {endpoints: []}",
        "acknowledgedRevision: ff",
        "strategy: lazy",
    ];
    fuzz("resolver", resolver, &words);
}

#[test]
fn any_text_is_a_quantity_or_not() {
    fuzz(
        "quantity",
        quantities,
        &[
            "1", "Ki", "m", "e", "E+", ".", "-", "+", "Gi", "1e308", "é", " ",
        ],
    );
}

#[test]
fn any_parts_join_to_a_legal_name() {
    fuzz(
        "name",
        names,
        &[
            "\n",
            "-",
            "A",
            "ä",
            "0",
            ".",
            "_",
            "postgres",
            "a-very-long-part-of-a-name-that-goes-on-and-on",
        ],
    );
}

#[test]
fn any_setting_is_judged() {
    fuzz(
        "setting",
        settings,
        &[
            "=",
            "work_mem",
            "jit",
            "wal_level",
            ".",
            "on",
            "1",
            "kB",
            "TimeZone",
            "'",
            "İ",
        ],
    );
}
