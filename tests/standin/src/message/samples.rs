//! Records and answers have the same fields set as those of real Multigres processes in the same situations.
//!
//! `samples/` holds records and answers of real processes (one cell, three members, AT_LEAST_2).

use std::{collections::BTreeSet, path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value as Field};
use serde_json::Value;

use super::{backups, claim, problems, record, status};
use crate::{
    name::{Id, ShardKey},
    policy::Policy,
    pooler::Site,
    shard::Shard,
    timing::Timing,
};

/// The paths of all fields that are set; elements of lists and maps count once.
type Paths = BTreeSet<String>;

fn pool() -> DescriptorPool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../actors/proto");
    let files = ["clustermetadata", "multipoolermanagerdata", "multiorch"]
        .map(|name| folder.join(name).with_extension("proto"));
    let set = protox::compile(files, [&folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(set).unwrap()
}

fn decode(name: &str, bytes: &[u8]) -> DynamicMessage {
    let descriptor = pool().get_message_by_name(name).unwrap();
    DynamicMessage::decode(descriptor, bytes).unwrap()
}

fn of_message(message: &DynamicMessage) -> Paths {
    let mut paths = Paths::new();
    walk_message(message, "", &mut paths);
    paths
}

fn walk_message(message: &DynamicMessage, path: &str, paths: &mut Paths) {
    assert_eq!(message.unknown_fields().count(), 0, "{path}");
    // Times and durations are one value in JSON.
    if message
        .descriptor()
        .full_name()
        .starts_with("google.protobuf")
    {
        return;
    }
    for (field, value) in message.fields() {
        let path = format!("{path}.{}", field.json_name());
        walk_field(value, &path, paths);
        paths.insert(path);
    }
}

fn walk_field(value: &Field, path: &str, paths: &mut Paths) {
    match value {
        Field::Message(message) => walk_message(message, path, paths),
        Field::List(list) => list.iter().for_each(|item| walk_field(item, path, paths)),
        Field::Map(map) => paths.extend(map.keys().map(|key| format!("{path}[{key:?}]"))),
        _ => {}
    }
}

fn of_json(value: &Value) -> Paths {
    let mut paths = Paths::new();
    walk_json(value, "", &mut paths);
    paths
}

fn walk_json(value: &Value, path: &str, paths: &mut Paths) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                walk_json(value, &path, paths);
                paths.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk_json(item, path, paths)),
        _ => {}
    }
}

fn sample_record(name: &str, kind: &str) -> Paths {
    let samples: Value = serde_json::from_str(include_str!("../../samples/records.json")).unwrap();
    let hex = samples[name].as_str().unwrap();
    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    of_message(&decode(kind, &bytes))
}

fn sample_answer(name: &str) -> Paths {
    let samples: Value = serde_json::from_str(include_str!("../../samples/answers.json")).unwrap();
    of_json(&samples[name])
}

fn ours(kind: &str, message: &impl Message) -> Paths {
    of_message(&decode(kind, &message.encode_to_vec()))
}

/// A shard that was switched once, as the samples' was.
struct Bed {
    shard: Shard,
    now: Timestamp,
}

impl Bed {
    fn new() -> Self {
        let key = ShardKey {
            database: "postgres".into(),
            table_group: "default".into(),
            shard: "0-inf".into(),
        };
        let now = Timestamp::from_second(1_795_000_000).unwrap() + Duration::from_millis(250);
        let mut bed = Self {
            shard: Shard::new(key, Timing::default()),
            now,
        };
        bed.shard.database(Some(Policy::at_least(2)), now);
        bed.shard.orch_started(Id::orch("zone-a", "o1"), now);
        for number in 1..=3 {
            bed.start(&p(number));
        }
        bed.pass(60_000);
        bed.shard.switch(Some(p(2)), bed.now);
        bed.pass(10_000);
        bed
    }

    fn start(&mut self, id: &Id) {
        let site = Site {
            id: id.clone(),
            host: format!("{}.pods", id.name),
            volume: id.name.clone(),
            unrecoverable_after: None,
        };
        self.shard.start(site, self.now);
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.shard.advance(self.now);
    }

    /// Stops and starts the third member: the cohort changes twice under the leader, as it had in the samples.
    fn restart_third(&mut self) {
        self.shard.terminate(&p(3), self.now);
        self.pass(5_000);
        self.start(&p(3));
        self.pass(30_000);
    }

    fn record(&self, id: &Id) -> Paths {
        let ports = [
            ("grpc", 15270),
            ("http", 15200),
            ("postgres", 5432),
            ("pgbackrest", 8432),
        ];
        let place = record::Place {
            address: record::Address {
                host: "pod".into(),
                ports: ports.map(|(name, port)| (name.to_owned(), port)).into(),
            },
            pooler_dir: "/var/lib/pooler".into(),
            data_dir: "/var/lib/pooler/pg_data".into(),
        };
        let own = &self.shard.pooler(id).unwrap().record;
        let message = record::pooler(id, &self.shard.key, &place, own, SignedDuration::ZERO);
        ours("clustermetadata.Multipooler", &message)
    }

    fn status(&self, id: &Id) -> Paths {
        let pooler = self.shard.pooler(id).unwrap();
        let message = status::response(&self.shard, pooler, self.now, SignedDuration::ZERO);
        ours("multipoolermanagerdata.StatusResponse", &message)
    }
}

fn p(number: usize) -> Id {
    Id::pooler("zone-a", format!("p{number}"))
}

fn pooler_sample(name: &str) -> Paths {
    sample_record(name, "clustermetadata.Multipooler")
}

#[test]
fn settled_records() {
    let mut bed = Bed::new();
    let mut seen = vec![
        (bed.record(&p(2)), "new primary"),
        (bed.record(&p(1)), "replica"),
    ];
    bed.shard.terminate(&p(3), bed.now);
    bed.pass(5_000);
    seen.push((bed.record(&p(2)), "primary after a change of the cohort"));
    for (paths, name) in seen {
        assert_eq!(paths, pooler_sample(name), "{name}");
    }
}

#[test]
fn records_of_a_stop_and_a_start() {
    let mut bed = Bed::new();
    let mut seen = Vec::new();
    bed.shard.terminate(&p(3), bed.now);
    seen.push((bed.record(&p(3)), "stopping"));
    bed.pass(100);
    seen.push((bed.record(&p(3)), "stopping and disabled"));
    bed.pass(2_000);
    seen.push((bed.record(&p(3)), "shut down"));
    bed.start(&p(3));
    seen.push((bed.record(&p(3)), "starting"));
    bed.pass(600);
    seen.push((bed.record(&p(3)), "starting and draining"));
    bed.pass(3_000);
    seen.push((bed.record(&p(3)), "active again"));
    for (paths, name) in seen {
        assert_eq!(paths, pooler_sample(name), "{name}");
    }
}

#[test]
fn records_of_a_resignation() {
    let mut bed = Bed::new();
    bed.restart_third();
    bed.shard.resign(&p(2), bed.now).unwrap();
    assert_eq!(bed.record(&p(2)), pooler_sample("primary that resigns"));
    bed.pass(400);
    assert_eq!(
        bed.record(&p(2)),
        pooler_sample("former primary that restarts")
    );
    bed.pass(1_600);
    assert_eq!(bed.record(&p(2)), pooler_sample("former primary"));
}

#[test]
fn records_of_other_components() {
    let address = |ports: &[(&str, i32)]| record::Address {
        host: "pod".into(),
        ports: ports
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect(),
    };
    let orch = record::orch(
        &Id::orch("a", "o"),
        &address(&[("grpc", 15370), ("http", 15300)]),
    );
    assert_eq!(
        ours("clustermetadata.Multiorch", &orch),
        sample_record("coordinator", "clustermetadata.Multiorch")
    );
    let ports = [
        ("grpc", 15170),
        ("http", 15100),
        ("postgres", 5432),
        ("postgres_replica", 5433),
    ];
    let id = Id::new(crate::name::Component::Multigateway, "a", "g");
    let gateway = record::gateway(&id, &address(&ports), 1838);
    assert_eq!(
        ours("clustermetadata.Multigateway", &gateway),
        sample_record("gateway", "clustermetadata.Multigateway")
    );
    let bed = Bed::new();
    assert_eq!(
        ours(
            "clustermetadata.ShardInitClaim",
            &claim(bed.shard.claim().unwrap())
        ),
        sample_record("first claim", "clustermetadata.ShardInitClaim")
    );
}

#[test]
fn answers_of_a_leader_and_a_replica() {
    let mut bed = Bed::new();
    bed.restart_third();
    assert_eq!(bed.status(&p(2)), sample_answer("leader"), "leader");
    assert_eq!(bed.status(&p(3)), sample_answer("replica"), "replica");
}

#[test]
fn answers_about_backups() {
    let bed = Bed::new();
    let list = backups::list(&bed.shard.key, &bed.shard.repository.backups, 0);
    assert_eq!(
        ours("multipoolermanagerdata.GetBackupsResponse", &list),
        sample_answer("backups")
    );
}

#[test]
fn what_a_coordinator_says_after_a_resignation() {
    let mut bed = Bed::new();
    bed.shard.resign(&p(2), bed.now).unwrap();
    bed.pass(2_000);
    let answer = problems::shard_status(&bed.shard, bed.now);
    assert_eq!(
        ours("multiorch.ShardStatusResponse", &answer),
        sample_answer("resigned leader")
    );
    let problem = &answer.problems[0];
    assert_eq!(
        (
            problem.code.as_str(),
            problem.check_name.as_str(),
            problem.priority,
            problem.scope.as_str()
        ),
        ("LeaderResigned", "LeaderNeedsReplacement", 1_000, "Shard")
    );
    assert_eq!(answer.problems.len(), 1);
}
