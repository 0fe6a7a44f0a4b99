//! Mutated bytes against every decoder and the editor, on the stable toolchain: nothing panics, what is no message is never
//! edited, and an edit is still a message. `FUZZ_SECONDS` sets how long; inputs that behave in a new way are added to the folder
//! `FUZZ_CORPUS` and are starting points of the next run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use actors::proto::{clustermetadata, multipoolermanagerdata};
use actors::shard::pooler_health;
use actors::topology_store::key::{Component, Path, ShardId};
use actors::topology_store::{edit, record, wire};
use prost::Message;

use crate::edits::{Random, cell, database};
use crate::samples::{at, bytes, real};

/// How an input behaves: which decoders take it, which edits succeed, how it fails.
fn behaviour(input: &[u8]) -> String {
    let shard = ShardId::new("postgres", "default", "0-inf");
    let decoded: Vec<&str> = [
        Path::Cell("zone-a".into()),
        Path::Database("postgres".into()),
        Path::InitClaim(shard.clone()),
        Path::BackupLock(shard),
        Path::Process(Component::Pooler, "multipooler-zone-a-p-18cef458".into()),
        Path::Process(Component::Gateway, "multigateway-zone-a-bdxsg2h5".into()),
        Path::Process(Component::Orch, "multiorch-zone-a-bj5sjgkx".into()),
    ]
    .iter()
    .map(|path| match record::decode(path, input) {
        Ok(_) => "ok",
        Err(record::Garbage::Lies(_)) => "lies",
        Err(record::Garbage::Undecodable(_)) => "undecodable",
    })
    .collect();
    if let Ok(answer) = multipoolermanagerdata::StatusResponse::decode(input) {
        let _ = pooler_health::health(&answer);
    }
    let check = wire::check(input);
    let edits: Vec<_> = [
        edit::cell(input, &cell()),
        edit::database(input, &database()),
        edit::mark_dead(input, at(9), false),
        edit::mark_dead(input, at(9), true),
        edit::mark_serving(input, false),
    ]
    .into_iter()
    .map(|edited| {
        assert!(
            check.is_ok() || edited.is_err(),
            "edited what is no message: {input:?}"
        );
        if let Ok(edited) = &edited {
            assert_eq!(wire::check(edited), Ok(()), "{input:?} became {edited:?}");
        }
        edited.is_ok()
    })
    .collect();
    // What the data plane's decoder takes, ours takes too: a record may be poor, never uneditable.
    if clustermetadata::Multipooler::decode(input).is_ok() {
        let marked = edit::mark_dead(input, at(9), true).unwrap();
        let marked = clustermetadata::Multipooler::decode(&marked[..]).unwrap();
        assert_eq!(marked.lifecycle_status.unwrap().status, 4);
        assert_eq!(marked.routing_state, None);
    }
    format!(
        "{decoded:?} {edits:?} {:?}",
        check.err().map(|why| std::mem::discriminant(&why))
    )
}

fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let place = random.below(input.len() + 1);
        match random.below(6) {
            0 => input.truncate(place),
            1 => input.insert(place, random.next().to_le_bytes()[0]),
            2 if place < input.len() => {
                input.remove(place);
            }
            3 if place < input.len() => input[place] ^= 1 << random.below(8),
            4 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                input.splice(place..place, other[from..].iter().copied().take(40));
            }
            _ if place < input.len() => input[place] = [0, 0x7f, 0x80, 0xff][random.below(4)],
            _ => {}
        }
    }
    input
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the run is bounded by real time")]
fn nothing_that_can_stand_in_a_record_breaks_us() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let mut random = Random(seed);
    let folder = std::env::var_os("FUZZ_CORPUS").map(PathBuf::from);
    let mut corpus: Vec<Vec<u8>> = real().iter().map(|sample| bytes(&sample.hex)).collect();
    corpus.push(Vec::new());
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder).unwrap();
        for file in std::fs::read_dir(folder).unwrap() {
            corpus.push(std::fs::read(file.unwrap().path()).unwrap());
        }
    }
    let mut seen: BTreeSet<String> = corpus.iter().map(|input| behaviour(input)).collect();
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(1));
    let mut inputs = 0_u64;
    while Instant::now() < end {
        let input = mutate(&corpus, &mut random);
        inputs += 1;
        if !seen.insert(behaviour(&input)) {
            continue;
        }
        if let Some(folder) = &folder {
            let name = format!("{seed}-{inputs}");
            std::fs::write(folder.join(name), &input).unwrap();
        }
        corpus.push(input);
    }
    println!("{inputs} inputs, {} ways to behave", seen.len());
    assert!(seen.len() > 10, "{seen:?}");
}
