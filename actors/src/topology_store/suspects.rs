//! Which records look as if they should go. Everything here may be judged from stale observations: it makes suspects only.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::key::{Path, ShardId};
use super::prune::{Facts, Subject};
use super::record::{Lifecycle, Pooler, Record};
use super::view::{Seen, View, Views};
use super::{Held, edit, identity};

/// Two looks at least this far apart before a pooler is marked, a cell or a database removed.
const SECOND_LOOK: SignedDuration = SignedDuration::from_secs(10);
/// A gateway or multiorch may be registered before its pod is listed; it never matters that it goes late.
const LEFTOVER: SignedDuration = SignedDuration::from_mins(10);
/// multiorch remembers a member this long after its end (`topology.md` 5.5).
const TOMBSTONE: SignedDuration = SignedDuration::from_hours(4);

/// A record that looks as if it should go.
pub struct Candidate {
    /// Whose store it is in; `None`: the global one.
    pub cell: Option<Box<str>>,
    /// Its key.
    pub key: Box<str>,
    /// The version that was judged.
    pub version: i64,
    /// What must be gone.
    pub subject: Subject,
    /// How long it must have been a suspect.
    pub patience: SignedDuration,
    /// Why it should go.
    pub reason: &'static str,
    /// What is to be written; `None`: the record is deleted.
    pub value: Option<Vec<u8>>,
}

/// All candidates, the most urgent first; what is left alone, and why; and when the next record is long dead.
pub fn find(
    facts: &Facts<'_>,
    views: &Views,
    now: Timestamp,
) -> (Vec<Candidate>, Vec<Held>, Option<Timestamp>) {
    let mut held = Vec::new();
    let mut candidates = poolers(facts, views, &mut held, now);
    candidates.extend(processes(facts, views));
    candidates.extend(databases(facts, views, &mut held));
    candidates.extend(cells(facts, views, &mut held));
    let long_dead = each_cell(views)
        .flat_map(|(cell, view)| view.poolers(cell))
        .filter(|(_, _, pooler)| pooler.lifecycle == Lifecycle::Shutdown)
        .filter_map(|(_, _, pooler)| pooler.updated?.checked_add(TOMBSTONE).ok())
        .filter(|at| *at > now)
        .min();
    (candidates, held, long_dead)
}

/// The store that a cell's records are written to: `None` when that is the global one.
fn store_of(views: &Views, cell: &str) -> Option<Box<str>> {
    matches!(views.cells.get(cell), Some(Some(_))).then(|| cell.into())
}

/// Poolers without a pod: marked when they do not know of their end, deleted when everybody has forgotten them.
fn poolers(
    facts: &Facts<'_>,
    views: &Views,
    held: &mut Vec<Held>,
    now: Timestamp,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let mut living: BTreeMap<&ShardId, usize> = BTreeMap::new();
    let mut dying: BTreeMap<&ShardId, Vec<Candidate>> = BTreeMap::new();
    for (cell, view) in each_cell(views) {
        for (path, seen, pooler) in view.poolers(cell) {
            let key: Box<str> = path.under(view.root()).into();
            let shutdown = pooler.lifecycle == Lifecycle::Shutdown;
            if !shutdown {
                *living.entry(&pooler.shard).or_default() += 1;
            }
            let Some(pod) = identity::backing_pod(pooler, facts.namespace) else {
                held.push(Held {
                    key,
                    why: format!("host {:?} is no pod of this namespace", pooler.hostname),
                });
                continue;
            };
            // Names of pods are in small letters; the domain name system does not mind.
            let pod = pod.to_ascii_lowercase();
            if facts.pods.contains(pod.as_str()) || facts.answering.contains(&pooler.id) {
                continue;
            }
            let candidate = |value, reason, patience| Candidate {
                cell: store_of(views, cell),
                key,
                version: seen.version,
                subject: Subject::Pod(pod.as_str().into()),
                patience,
                reason,
                value,
            };
            if shutdown && forgotten(facts, views, pooler, now) {
                candidates.push(candidate(
                    None,
                    "ended long ago, and in no cohort",
                    SECOND_LOOK,
                ));
            } else if !shutdown {
                match edit::mark_dead(&seen.value, now, facts.nodes_gone.contains(pod.as_str())) {
                    Ok(value) => dying.entry(&pooler.shard).or_default().push(candidate(
                        Some(value),
                        "its pod is gone",
                        SECOND_LOOK,
                    )),
                    Err(why) => held.push(Held {
                        key: path.under(view.root()).into(),
                        why: why.to_string(),
                    }),
                }
            }
        }
    }
    for (shard, suspects) in dying {
        let all = living.get(shard).copied().unwrap_or_default() == suspects.len();
        let wanted = facts.wanted.get(shard).copied().unwrap_or_default() > 0;
        if all && wanted {
            // More likely we match records with pods wrongly, or see too few pods.
            held.extend(suspects.into_iter().map(|suspect| Held {
                key: suspect.key,
                why: "no pooler of its shard has a pod: not marked, one of them must be seen first".to_owned(),
            }));
        } else {
            candidates.extend(suspects);
        }
    }
    candidates
}

/// Shut down longer than anybody remembers, and in no cohort that a live pooler knows of.
fn forgotten(facts: &Facts<'_>, views: &Views, pooler: &Pooler, now: Timestamp) -> bool {
    let long_dead = pooler
        .updated
        .is_some_and(|at| now.duration_since(at) >= TOMBSTONE);
    let in_no_cohort = match facts.cohorts.get(&pooler.shard) {
        Some(cohort) => !cohort.contains(&pooler.id),
        // Nobody tells: only when the whole shard is gone.
        None => {
            !facts.wanted.contains_key(&pooler.shard)
                && views
                    .shard(&pooler.shard)
                    .all(|(_, _, _, other)| other.lifecycle == Lifecycle::Shutdown)
        }
    };
    long_dead && in_no_cohort
}

/// Gateways and multiorchs that ended without taking their record along.
fn processes(facts: &Facts<'_>, views: &Views) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (cell, view) in each_cell(views) {
        for (path, seen, _, process) in view.processes(cell) {
            let subject = match identity::address_of(&process.hostname) {
                Some(address) if facts.addresses.contains(&address) => continue,
                Some(address) => Subject::Address(address),
                None => {
                    let Some(pod) = identity::pod_of(&process.hostname, facts.namespace) else {
                        continue;
                    };
                    let pod = pod.to_ascii_lowercase();
                    if facts.pods.contains(pod.as_str()) {
                        continue;
                    }
                    Subject::Pod(pod.into())
                }
            };
            candidates.push(Candidate {
                cell: store_of(views, cell),
                key: path.under(view.root()).into(),
                version: seen.version,
                subject,
                patience: LEFTOVER,
                reason: "its pod is gone",
                value: None,
            });
        }
    }
    candidates
}

/// Databases that left the specification, and the claims that would block a database made again under the same name.
fn databases(facts: &Facts<'_>, views: &Views, held: &mut Vec<Held>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (path, seen) in views.global.records() {
        let database = match path {
            Path::Database(name) => name,
            Path::InitClaim(shard) => &shard.database,
            _ => continue,
        };
        if facts
            .desired
            .databases
            .iter()
            .any(|kept| *kept.name == **database)
        {
            continue;
        }
        let key: Box<str> = path.under(views.global.root()).into();
        let in_use = in_use(facts, views, database, path);
        if let Some(why) = in_use.or_else(|| seen.record.as_ref().err().map(ToString::to_string)) {
            held.push(Held { key, why });
            continue;
        }
        candidates.push(global(key, seen, Subject::Database(database.clone())));
    }
    candidates
}

/// Why a database that left the specification must stay for now.
fn in_use(facts: &Facts<'_>, views: &Views, database: &str, path: &Path) -> Option<String> {
    let live = each_cell(views).any(|(cell, view)| {
        view.poolers(cell).any(|(_, _, pooler)| {
            *pooler.shard.database == *database && pooler.lifecycle != Lifecycle::Shutdown
        })
    });
    let wanted = facts
        .wanted
        .keys()
        .any(|shard| *shard.database == *database);
    if live || wanted {
        return Some(format!(
            "database {database} left the specification and still has poolers"
        ));
    }
    // The claim says that the data was initialised; it goes with the data.
    match path {
        Path::InitClaim(shard) if facts.volumes.contains(shard) => {
            Some(format!("shard {} still has volumes", shard.shard))
        }
        Path::InitClaim(_) if views.global.get(&Path::Database(database.into())).is_some() => {
            Some(format!("the record of database {database} goes first"))
        }
        _ => None,
    }
}

/// Cells that left the specification, once no database lists them and their poolers ended.
fn cells(facts: &Facts<'_>, views: &Views, held: &mut Vec<Held>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (path, seen) in views.global.records() {
        let Path::Cell(cell) = path else {
            continue;
        };
        if facts.desired.cells.iter().any(|kept| *kept.name == **cell) {
            continue;
        }
        let key: Box<str> = path.under(views.global.root()).into();
        let listed = views
            .global
            .records()
            .any(|(_, other)| match &other.record {
                Ok(Record::Database(database)) => {
                    database.cells.iter().any(|name| **name == **cell)
                }
                _ => false,
            });
        let live = each_cell(views)
            .filter(|(name, _)| **name == **cell)
            .any(|(name, view)| {
                view.poolers(name)
                    .any(|(_, _, pooler)| pooler.lifecycle != Lifecycle::Shutdown)
            });
        let why = match &seen.record {
            Err(why) => Some(why.to_string()),
            Ok(_) if facts.cells.contains(cell) => Some(format!("Cell {cell} still exists")),
            Ok(_) if listed => Some(format!(
                "a database still lists cell {cell}, or cannot be read"
            )),
            Ok(_) if facts.strangers.contains(cell) => Some(format!(
                "cell {cell} left the specification, and its store is none that is looked into: delete the record by hand \
                 when nothing of the cell is left"
            )),
            Ok(_) if live || facts.inhabited.contains(cell) => {
                Some(format!("cell {cell} still has poolers"))
            }
            Ok(_) => None,
        };
        match why {
            Some(why) => held.push(Held { key, why }),
            None => candidates.push(global(key, seen, Subject::Cell(cell.clone()))),
        }
    }
    candidates
}

fn global(key: Box<str>, seen: &Seen, subject: Subject) -> Candidate {
    Candidate {
        cell: None,
        key,
        version: seen.version,
        subject,
        patience: SECOND_LOOK,
        reason: "left the specification",
        value: None,
    }
}

fn each_cell(views: &Views) -> impl Iterator<Item = (&str, &View)> {
    views
        .cells
        .keys()
        .filter_map(|cell| Some((cell.as_ref(), views.of_cell(cell)?)))
}
