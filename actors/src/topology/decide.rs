//! What is written into a topology, what is asked before, and what the other actors are told: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::Timestamp;
use serde::Serialize;

use super::known::{Known, Records, Testimony, shard_of};
use super::places::{Places, address};
use super::reachable;
use super::spec::{ShardSpec, Spec};
use super::stores::Stores;
use crate::action::Action;
use crate::entry::Entry;
use crate::labels;
use crate::object::{Key, Kind};
use crate::topology_store::desired::Desired;
use crate::topology_store::key::{Path, ShardId};
use crate::topology_store::prune::{self, Confirm, Facts, Subject};
use crate::topology_store::record::Record;
use crate::topology_store::view::{View, Views};
use crate::topology_store::{Held, Write, register};

/// Most records that are told of in a condition; introspection names them all.
const TOLD: usize = 5;

/// Everything that is looked at.
pub struct Input<'a> {
    /// The MultigresCluster.
    pub me: &'a Entry,
    /// The cluster's objects; telling what is known does not look at them.
    pub group: &'a [Rc<Entry>],
    /// What it wants.
    pub spec: &'a Spec,
    /// Its shards.
    pub shards: &'a BTreeMap<ShardId, ShardSpec>,
    /// Where its stores are.
    pub places: &'a Places,
    /// What is known of them.
    pub stores: &'a Stores,
    /// What ShardActors told.
    pub testimonies: &'a [Rc<Testimony>],
}

/// What is remembered between decisions; lost on restart without harm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Memory {
    /// Of registration.
    pub registration: register::State,
    /// Of pruning.
    pub pruning: prune::State,
    /// The live read that is under way.
    pub question: Option<Question>,
    /// What is wrong and left alone.
    pub held: Vec<Held>,
}

/// A question for the API server that takes one read or two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Question {
    /// What for.
    pub confirm: Confirm,
    /// What has not been answered yet.
    open: BTreeSet<Key>,
    /// What was found not to exist.
    absent: BTreeSet<Key>,
}

impl Question {
    /// A question about the topology of `cluster`.
    pub fn new(confirm: Confirm, cluster: &Key) -> Self {
        let own = |kind, name: &str| Key::new(kind, &cluster.namespace, name);
        let open = match &confirm.subject {
            Subject::Pod(pod) => BTreeSet::from([own(Kind::Pod, pod)]),
            Subject::Address(address) => BTreeSet::from([own(Kind::Pod, &address.to_string())]),
            Subject::Cell(cell) => {
                let name = crds::name::cell(&cluster.name, cell);
                BTreeSet::from([cluster.clone(), own(Kind::Cell, &name)])
            }
            Subject::Database(_) => BTreeSet::from([cluster.clone()]),
        };
        Self {
            confirm,
            open,
            absent: BTreeSet::new(),
        }
    }

    /// What is to be asked.
    pub fn reads(&self) -> impl Iterator<Item = Action> {
        self.open.iter().map(|key| match self.confirm.subject {
            Subject::Address(address) => Action::Seek {
                key: key.clone(),
                address,
            },
            _ => Action::Read { key: key.clone() },
        })
    }

    /// Hears whether an object exists; `None`: nobody knows. Returns true when that was the last thing to hear.
    pub fn hear(&mut self, key: &Key, exists: Option<bool>) -> bool {
        if !self.open.remove(key) {
            return false;
        }
        match exists {
            Some(true) => {}
            Some(false) => {
                self.absent.insert(key.clone());
            }
            // One answer that failed makes the rest worthless.
            None => {
                self.absent.clear();
                self.open = BTreeSet::from([key.clone()]);
                return true;
            }
        }
        self.open.is_empty()
    }

    /// Is the subject gone? `desired` is what the specification says by now, the live read of the cluster included.
    pub fn gone(&self, desired: Option<&Desired>) -> Option<bool> {
        if !self.open.is_empty() {
            return None;
        }
        let absent = |kind| self.absent.iter().any(|key| key.kind == kind);
        match &self.confirm.subject {
            Subject::Pod(_) | Subject::Address(_) => Some(absent(Kind::Pod)),
            _ if absent(Kind::MultigresCluster) => None,
            Subject::Cell(cell) => {
                let named = desired?.cells.iter().any(|kept| *kept.name == **cell);
                Some(absent(Kind::Cell) && !named)
            }
            Subject::Database(name) => {
                let mut kept = desired?.databases.iter();
                Some(!kept.any(|kept| *kept.name == **name))
            }
        }
    }
}

/// The decision.
pub struct Decision {
    /// What to remember.
    pub memory: Memory,
    /// Writes to send now, each with the store (empty: the global one).
    pub writes: Vec<(Box<str>, Write)>,
    /// Live reads to ask for now.
    pub reads: Vec<Action>,
    /// When to look again though nothing changed.
    pub wake: Option<Timestamp>,
}

/// Decides about writes.
pub fn decide(input: &Input<'_>, memory: &Memory, now: Timestamp) -> Decision {
    let mut decision = Decision {
        memory: memory.clone(),
        writes: Vec::new(),
        reads: Vec::new(),
        wake: None,
    };
    let desired = match &input.spec.desired {
        Ok(desired) if !input.me.deleting => desired,
        Ok(_) => return decision,
        Err(problem) => {
            decision.memory.held = vec![Held {
                key: "the specification".into(),
                why: format!("nothing is registered: {problem}"),
            }];
            return decision;
        }
    };
    let views = &input.stores.views;
    let mut facts = facts(input, desired);
    let registration = register::decide(
        desired,
        views,
        |cell| Some(facts.inhabited.contains(cell)),
        &memory.registration,
        now,
    );
    facts.registered = registration.settled;
    let pruning = prune::decide(&facts, views, &memory.pruning, now);
    let global = registration.writes.into_iter();
    decision.writes = global.map(|write| (Box::default(), write)).collect();
    let pruned = pruning.write.into_iter();
    decision
        .writes
        .extend(pruned.map(|(cell, write)| (cell.unwrap_or_default(), write)));
    decision.memory = Memory {
        registration: registration.state,
        pruning: pruning.state,
        question: memory.question.clone(),
        held: registration.held.into_iter().chain(pruning.held).collect(),
    };
    if let Some(confirm) = pruning.confirm {
        let question = Question::new(confirm, input.me.key());
        decision.reads = question.reads().collect();
        decision.memory.question = Some(question);
    }
    decision.wake = [registration.wake, pruning.wake]
        .into_iter()
        .flatten()
        .min();
    decision
}

/// What pruning looks at, from the informers. Whether everything is registered is not known yet.
fn facts<'a>(input: &'a Input<'_>, desired: &'a Desired) -> Facts<'a> {
    let group = input.group;
    let of_kind = |kind| group.iter().filter(move |entry| entry.key().kind == kind);
    let cell = |entry: &Entry| entry.label(labels::CELL).map(Into::into);
    let told = input.testimonies.iter();
    let shards = input.shards.iter();
    Facts {
        enabled: input.spec.pruning,
        // Who has a snapshot has informers that listed completely.
        synced: true,
        registered: false,
        namespace: &input.me.key().namespace,
        desired,
        pods: of_kind(Kind::Pod)
            .map(|pod| pod.key().name.as_ref().into())
            .collect(),
        addresses: of_kind(Kind::Pod)
            .filter_map(|pod| pod.pod.as_ref()?.address.as_deref()?.parse().ok())
            .collect(),
        // Nodes are not followed, so that of no pod is it known that its node is gone.
        nodes_gone: BTreeSet::new(),
        wanted: shards.map(|(id, spec)| (id.clone(), spec.pods)).collect(),
        answering: told
            .clone()
            .flat_map(|told| told.answering.iter().cloned())
            .collect(),
        cohorts: told
            .filter_map(|told| Some((told.shard.clone()?, told.cohort.clone()?)))
            .collect(),
        cells: of_kind(Kind::Cell).filter_map(|one| cell(one)).collect(),
        inhabited: of_kind(Kind::Pod).filter_map(|pod| cell(pod)).collect(),
        strangers: strangers(input),
        volumes: of_kind(Kind::PersistentVolumeClaim)
            .filter_map(|claim| shard_of(claim))
            .collect(),
    }
}

/// Cells by their record that nobody names any more, and whose store is neither followed nor one of ours that went with them.
fn strangers(input: &Input<'_>) -> BTreeSet<Box<str>> {
    let me = input.me.key();
    let views = &input.stores.views;
    let records = cell_records(views);
    let unknown = records.filter(|(cell, servers, _)| {
        !input.places.cells.contains_key(*cell)
            && !input.stores.ended.contains(*cell)
            && **servers != [address(&me.name, &me.namespace, cell)]
    });
    unknown.map(|(cell, ..)| cell.into()).collect()
}

/// Cells whose record says that they live in the global store at this address, whoever made them.
pub fn shared_cells(views: &Views, global: &(String, String)) -> Vec<Box<str>> {
    let (at, root) = global;
    let records = cell_records(views);
    let shared = records.filter(|(_, servers, place)| **servers == [at.as_str()] && *place == root);
    shared.map(|(cell, ..)| cell.into()).collect()
}

/// The records of cells that can be read: name, servers, root.
fn cell_records(views: &Views) -> impl Iterator<Item = (&str, &Vec<String>, &String)> {
    let records = views.global.records();
    records.filter_map(|(path, seen)| match (path, &seen.record) {
        (Path::Cell(name), Ok(Record::Cell(cell))) => {
            Some((name.as_ref(), &cell.server_addresses, &cell.root))
        }
        _ => None,
    })
}

/// What the other actors are told, and when that changes by itself. Without `memory`, which is of the decision before, what
/// was left alone then is told again.
pub fn known(
    input: &Input<'_>,
    memory: Option<&Memory>,
    before: &Known,
    now: Timestamp,
) -> (Known, Option<Timestamp>) {
    let stores = input.stores;
    let created = input.me.created.unwrap_or(Timestamp::UNIX_EPOCH);
    let all = input.places.cells.keys().map(AsRef::as_ref);
    let verdict = reachable::judge(stores, input.places, all, created, now);
    let mut wake = verdict.as_ref().and_then(|verdict| verdict.wake);
    let shards = input.shards.iter().map(|(id, spec)| {
        let cells = spec.cells.iter().map(AsRef::as_ref);
        let verdict = reachable::judge(stores, input.places, cells, created, now);
        let again = verdict.as_ref().and_then(|verdict| verdict.wake);
        wake = [wake, again].into_iter().flatten().min();
        let told = before.shards.get(id);
        let records = Records {
            reachable: verdict
                .map(|verdict| verdict.condition)
                .or_else(|| told?.reachable.clone()),
            ..Records::of(&stores.views, id)
        };
        (id.clone(), Rc::new(records))
    });
    let shards = shards.collect();
    let known = Known {
        alarming: verdict
            .as_ref()
            .map_or(before.alarming, |verdict| verdict.alarming),
        reachable: verdict
            .map(|verdict| verdict.condition)
            .or_else(|| before.reachable.clone()),
        // Not before every store was read at least once.
        held: memory
            .filter(|_| stores.views.all().all(View::known))
            .map(|memory| told(&stores.views, memory))
            .or_else(|| before.held.clone()),
        cells: match &input.spec.desired {
            Ok(desired) => registered(&stores.views, desired),
            Err(_) => before.cells.clone(),
        },
        shards,
        stalled: None,
    };
    (known, wake)
}

/// Cells whose record is as desired.
fn registered(views: &Views, desired: &Desired) -> BTreeSet<Box<str>> {
    let cells = desired.cells.iter().filter(|cell| {
        let seen = views.global.get(&Path::Cell(cell.name.as_str().into()));
        seen.is_some_and(
            |seen| matches!(&seen.record, Ok(Record::Cell(found)) if cell.matches(found)),
        )
    });
    cells.map(|cell| cell.name.as_str().into()).collect()
}

/// Records that are wrong and left alone, in words.
fn told(views: &Views, memory: &Memory) -> Vec<String> {
    let garbage = views.all().flat_map(|view| {
        let garbage = view.garbage();
        garbage.map(|(path, why)| format!("{}: {why}", path.under(view.root())))
    });
    let held = memory.held.iter();
    // Why nothing at all is pruned is told by other conditions.
    let held = held.filter(|held| *held.key != *views.global.root());
    let held = held.map(|held| format!("{}: {}", held.key, held.why));
    let all: BTreeSet<String> = garbage.chain(held).collect();
    let more = all.len().saturating_sub(TOLD);
    let mut told: Vec<String> = all.into_iter().take(TOLD).collect();
    if more > 0 {
        told.push("and more".to_owned());
    }
    told
}
