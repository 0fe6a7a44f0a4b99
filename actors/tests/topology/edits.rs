//! Every edit we make, on real bytes and on records with fields that this version does not know.

use actors::proto::clustermetadata as wire;
use actors::topology_store::desired::{Backup, DesiredCell, DesiredDatabase, DurabilityPolicy, S3};
use actors::topology_store::edit;
use prost::Message;

use crate::samples::{at, bytes, id, pooler, real, real_at};

pub fn cell() -> DesiredCell {
    DesiredCell {
        name: "zone1".to_owned(),
        servers: vec!["etcd.ns.svc:2379".to_owned()],
        root: "/multigres/zone1".to_owned(),
    }
}

pub fn database() -> DesiredDatabase {
    DesiredDatabase {
        name: "postgres".to_owned(),
        backup: Backup::Filesystem {
            path: "/backups".to_owned(),
        },
        encrypted: false,
        cells: vec!["zone1".to_owned(), "zone2".to_owned()],
        durability: DurabilityPolicy::AtLeastTwo,
    }
}

/// The byte-exact samples of `topology.md` 1.9.
#[test]
fn records_we_make_are_those_of_the_data_plane_byte_for_byte() {
    assert_eq!(
        edit::cell(&[], &cell()).unwrap(),
        bytes(
            "0a057a6f6e65311210657463642e6e732e7376633a323337391a102f6d756c7469677265732f7a6f6e6531"
        )
    );
    assert_eq!(
        edit::database(&[], &database()).unwrap(),
        bytes(
            "0a08706f737467726573120c0a0a0a082f6261636b7570731a057a6f6e65311a057a6f6e653222100a0a41545f4c454153545f3218032002"
        )
    );
    assert_eq!(
        edit::mark_dead(&[], at(1_767_225_600), false).unwrap(),
        bytes(
            "622f080412236f70657261746f723a206e6f206261636b696e6720706f6420666f7220706f6f6c65721a060880f2d6ca06"
        )
    );
    let multipooler = bytes(
        "0a15080112057a6f6e65311a0a702d3161326233633464121a0a08706f737467726573120764656661756c741a05302d696e6630014220\
         64656d6f2d302e706f64732e6e732e7376632e636c75737465722e6c6f63616c4a090a046772706310a6774a090a046874747010e0764a\
         0f0a0a70676261636b7265737410f0414a0d0a08706f73746772657310b82a520f2f7661722f6c69622f706f6f6c65725a172f7661722f\
         6c69622f706f6f6c65722f70675f64617461621f08021213706f7374677265732069732072756e6e696e671a060880f2d6ca066a080801\
         120408011003",
    );
    let record = wire::Multipooler::decode(&multipooler[..]).unwrap();
    assert_eq!(record.encode_to_vec(), multipooler);
    assert_eq!(record.port_map["pgbackrest"], 8432);
}

/// The drain mark is what the pooler itself writes when it stops: real records, before and after.
#[test]
fn the_drain_mark_is_the_poolers_own_step_to_disabled() {
    let (before, after) = (real_at(94), real_at(95));
    assert_eq!(edit::mark_serving(&before, false).unwrap(), after);
    assert_eq!(edit::mark_serving(&after, true).unwrap(), before);
}

/// What a pooler leaves and what we leave for one whose node is gone differ in reason and time only.
#[test]
fn a_mark_for_a_process_that_is_surely_gone_is_what_the_pooler_leaves() {
    let left = wire::Multipooler::decode(&real_at(98)[..]).unwrap();
    let marked = edit::mark_dead(&real_at(78), at(77), true).unwrap();
    let mut marked = wire::Multipooler::decode(&marked[..]).unwrap();
    let life = marked.lifecycle_status.as_mut().unwrap();
    assert_eq!(
        (life.reason.as_str(), life.updated.unwrap().seconds),
        (edit::NO_POD, 77)
    );
    life.reason = "pooler shutdown".to_owned();
    life.updated = left.lifecycle_status.as_ref().unwrap().updated;
    assert_eq!(marked, left);
}

#[test]
fn the_mark_of_a_pooler_whose_node_may_live_touches_its_lifecycle_only() {
    let before = real_at(93);
    let marked = edit::mark_dead(&before, at(77), false).unwrap();
    let mut expected = wire::Multipooler::decode(&before[..]).unwrap();
    expected.lifecycle_status = wire::Multipooler::decode(&marked[..])
        .unwrap()
        .lifecycle_status;
    assert_eq!(wire::Multipooler::decode(&marked[..]).unwrap(), expected);
}

/// Real cell and database records need no write, and an edit to what they say leaves them as they are.
#[test]
fn real_records_that_are_as_desired_stay_byte_for_byte() {
    let desired = DesiredCell {
        name: "zone-a".to_owned(),
        servers: vec!["ha-global-topo.default.svc:2379".to_owned()],
        root: "/multigres/global".to_owned(),
    };
    let record = real_at(76);
    assert!(desired.matches(&wire::Cell::decode(&record[..]).unwrap()));
    assert_eq!(edit::cell(&record, &desired).unwrap(), record);
    let desired = DesiredDatabase {
        cells: vec!["zone-a".to_owned()],
        ..database()
    };
    let record = real_at(77);
    assert!(desired.matches(&wire::Database::decode(&record[..]).unwrap()));
    assert_eq!(edit::database(&record, &desired).unwrap(), record);
}

/// The repository's generation belongs to the data plane: the Go operator resets it with each write.
#[test]
fn a_database_keeps_the_generation_of_its_repository() {
    let mut record = wire::Database::decode(&real_at(77)[..]).unwrap();
    record
        .backup_location
        .as_mut()
        .unwrap()
        .authoritative_generation = 3;
    let edited = edit::database(&record.encode_to_vec(), &database()).unwrap();
    let edited = wire::Database::decode(&edited[..]).unwrap();
    assert_eq!(edited.backup_location.unwrap().authoritative_generation, 3);
    assert_eq!(edited.cells, ["zone1", "zone2"]);
}

// ---- Fields of the future -------------------------------------------------------------------------------------------

/// A generator that a number starts and that a failure names (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn text(&mut self) -> String {
        (0..self.below(12))
            .map(|_| char::from(b'a' + u8::try_from(self.below(26)).unwrap()))
            .collect()
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn length_delimited(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, number << 3 | 2);
    varint(&mut out, bytes.len() as u64);
    out.extend(bytes);
    out
}

/// A field that no version knows, of any wire type, groups included.
fn unknown(random: &mut Random) -> Vec<u8> {
    let number = 100 + random.next() % 100_000;
    let mut out = Vec::new();
    match random.below(5) {
        0 => {
            varint(&mut out, number << 3);
            varint(&mut out, random.next());
        }
        1 => {
            varint(&mut out, number << 3 | 1);
            out.extend(random.next().to_le_bytes());
        }
        2 => {
            varint(&mut out, number << 3 | 5);
            out.extend(&random.next().to_le_bytes()[..4]);
        }
        3 => {
            varint(&mut out, number << 3 | 3);
            for _ in 0..random.below(3) {
                out.extend(unknown(random));
            }
            varint(&mut out, number << 3 | 4);
        }
        _ => {
            let text = random.text();
            out = length_delimited(number, text.as_bytes());
        }
    }
    out
}

/// The fields of a message, whole, in order. For messages that are known to be well formed.
fn split(message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn number(message: &[u8], at: &mut usize) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = message[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    fn skip(message: &[u8], at: &mut usize) -> u64 {
        let tag = number(message, at);
        match tag & 7 {
            0 => {
                number(message, at);
            }
            1 => *at += 8,
            2 => {
                let length = number(message, at);
                *at += usize::try_from(length).unwrap();
            }
            3 => while skip(message, at) & 7 != 4 {},
            5 => *at += 4,
            _ => {}
        }
        tag
    }
    let mut fields = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let start = at;
        let tag = skip(message, &mut at);
        fields.push((tag >> 3, message[start..at].to_vec()));
    }
    fields
}

/// The content of a length-delimited field.
fn content(field: &[u8]) -> Vec<u8> {
    let tag = field.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let length = field[tag..].iter().position(|byte| *byte < 0x80).unwrap() + 1;
    field[tag + length..].to_vec()
}

/// Mixes unknown fields into a message and into the messages at `nested` below it; sometimes a message comes in two parts.
fn enrich(message: &[u8], nested: &[&[u64]], random: &mut Random) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    for (number, field) in split(message) {
        let below: Vec<&[u64]> = nested
            .iter()
            .filter(|path| path.first() == Some(&number))
            .map(|path| &path[1..])
            .collect();
        if below.is_empty() {
            fields.push(field);
            continue;
        }
        fields.push(length_delimited(
            number,
            &enrich(&content(&field), &below, random),
        ));
        if random.below(4) == 0 {
            fields.push(length_delimited(number, &enrich(&[], &[], random)));
        }
    }
    for _ in 0..random.below(4) {
        let place = random.below(fields.len() + 1);
        fields.insert(place, unknown(random));
    }
    fields.concat()
}

/// All unknown fields of the message at a path, in order, over all its parts.
fn strangers(message: &[u8], path: &[u64]) -> Vec<Vec<u8>> {
    split(message)
        .into_iter()
        .flat_map(|(number, field)| match path.split_first() {
            None if number >= 100 => vec![field],
            Some((first, rest)) if *first == number => strangers(&content(&field), rest),
            _ => Vec::new(),
        })
        .collect()
}

/// Fields outside those that an edit names, in order.
fn others(message: &[u8], edited: &[u64]) -> Vec<Vec<u8>> {
    split(message)
        .into_iter()
        .filter(|(number, _)| !edited.contains(number))
        .map(|(_, field)| field)
        .collect()
}

/// Cases of a property test; a long run sets `PROPTEST_CASES`. `SEED` repeats one.
fn cases(property: impl Fn(&mut Random)) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let first = number("SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20);
    let count = if number("SEED").is_some() {
        1
    } else {
        number("PROPTEST_CASES").unwrap_or(2_000)
    };
    for seed in first..first + count {
        let case = std::panic::AssertUnwindSafe(|| property(&mut Random(seed)));
        if let Err(panic) = std::panic::catch_unwind(case) {
            println!("SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn unknown_fields_of_poolers_survive_our_marks() {
    cases(|random| {
        let mut record = pooler("zone1", &random.text());
        record.serving_status = [0, 1, 4][random.below(3)];
        record.r#type = i32::try_from(random.below(4)).unwrap();
        if random.below(3) == 0 {
            record.routing_state = None;
        }
        if random.below(3) == 0 {
            record.lifecycle_status = None;
        }
        let before = enrich(&record.encode_to_vec(), &[&[1], &[2], &[12], &[13]], random);

        let after = edit::mark_serving(&before, false).unwrap();
        record.serving_status = 1;
        assert_eq!(wire::Multipooler::decode(&after[..]).unwrap(), record);
        assert_eq!(others(&after, &[7]), others(&before, &[7]));
        record.serving_status = 0;
        let back = edit::mark_serving(&after, true).unwrap();
        assert_eq!(wire::Multipooler::decode(&back[..]).unwrap(), record);

        let node_gone = random.below(2) == 0;
        let after = edit::mark_dead(&before, at(77), node_gone).unwrap();
        record = wire::Multipooler::decode(&before[..]).unwrap();
        record.lifecycle_status = Some(wire::PoolerLifecycle {
            status: 4,
            reason: edit::NO_POD.to_owned(),
            updated: Some(prost_types::Timestamp {
                seconds: 77,
                nanos: 0,
            }),
        });
        let mut edited = vec![12];
        if node_gone {
            record.serving_status = 1;
            record.r#type = 0;
            record.routing_state = None;
            edited.extend([6, 7, 13]);
        }
        assert_eq!(wire::Multipooler::decode(&after[..]).unwrap(), record);
        assert_eq!(others(&after, &edited), others(&before, &edited));
        assert_eq!(strangers(&after, &[12]), strangers(&before, &[12]));
    });
}

#[test]
fn unknown_fields_of_cells_survive_registration() {
    cases(|random| {
        let record = wire::Cell {
            name: random.text(),
            server_addresses: (0..random.below(4)).map(|_| random.text()).collect(),
            root: random.text(),
        };
        let before = enrich(&record.encode_to_vec(), &[], random);
        let desired = DesiredCell {
            name: random.text(),
            servers: (0..random.below(4)).map(|_| random.text()).collect(),
            root: random.text(),
        };
        let after = edit::cell(&before, &desired).unwrap();
        assert!(desired.matches(&wire::Cell::decode(&after[..]).unwrap()));
        assert_eq!(others(&after, &[1, 2, 3]), others(&before, &[1, 2, 3]));
        assert_eq!(edit::cell(&after, &desired).unwrap(), after);
    });
}

#[test]
fn unknown_fields_of_databases_survive_registration() {
    cases(|random| {
        let location = match random.below(3) {
            0 => None,
            1 => Some(wire::backup_location::Location::Filesystem(
                wire::FilesystemBackup {
                    path: random.text(),
                },
            )),
            _ => Some(wire::backup_location::Location::S3(wire::S3Backup {
                bucket: random.text(),
                region: random.text(),
                endpoint: random.text(),
                key_prefix: random.text(),
                use_env_credentials: random.below(2) == 0,
            })),
        };
        let record = wire::Database {
            name: random.text(),
            backup_location: Some(wire::BackupLocation {
                require_initial_repo_encryption: random.below(2) == 0,
                authoritative_generation: i64::try_from(random.below(3)).unwrap(),
                location,
            }),
            cells: (0..random.below(4)).map(|_| random.text()).collect(),
            bootstrap_durability_policy: Some(wire::DurabilityPolicy {
                policy_name: random.text(),
                policy_version: 7,
                quorum_type: 4,
                required_count: 5,
                description: random.text(),
            }),
        };
        let before = enrich(
            &record.encode_to_vec(),
            &[&[2], &[2, 1], &[2, 2], &[4]],
            random,
        );
        let to_s3 = random.below(2) == 0;
        let desired = DesiredDatabase {
            backup: if to_s3 {
                Backup::S3(S3 {
                    bucket: "b".to_owned(),
                    region: "r".to_owned(),
                    endpoint: random.text(),
                    key_prefix: random.text(),
                    use_env_credentials: random.below(2) == 0,
                })
            } else {
                Backup::Filesystem {
                    path: "/backups".to_owned(),
                }
            },
            encrypted: random.below(2) == 0,
            durability: DurabilityPolicy::MultiCellAtLeastTwo,
            ..database()
        };
        let after = edit::database(&before, &desired).unwrap();
        let decoded = wire::Database::decode(&after[..]).unwrap();
        assert!(desired.matches(&decoded), "{decoded:?}");
        let policy = decoded.bootstrap_durability_policy.unwrap();
        let old = record.bootstrap_durability_policy.unwrap();
        assert_eq!(
            (policy.policy_version, policy.description),
            (7, old.description)
        );
        assert_eq!(
            others(&after, &[1, 2, 3, 4]),
            others(&before, &[1, 2, 3, 4])
        );
        let chosen: &[u64] = if to_s3 { &[2, 2] } else { &[2, 1] };
        for path in [&[2][..], &[4], chosen] {
            assert_eq!(
                strangers(&after, path),
                strangers(&before, path),
                "{path:?}"
            );
        }
        assert_eq!(edit::database(&after, &desired).unwrap(), after);
    });
}

/// Edits of real records change nothing but what they name.
#[test]
fn real_poolers_keep_every_other_byte() {
    for sample in real()
        .into_iter()
        .filter(|sample| sample.key.ends_with("/Pooler"))
    {
        let before = bytes(&sample.hex);
        let after = edit::mark_dead(&before, at(5), true).unwrap();
        assert_eq!(
            others(&after, &[6, 7, 12, 13]),
            others(&before, &[6, 7, 12, 13]),
            "{}",
            sample.mod_revision
        );
    }
    assert_eq!(id("a", "b").encode_to_vec()[..2], [8, 1]);
}
