//! The decisions with what the informers show: who is told, what is asked, and what is never written.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};

use super::decide::{self, Decision, Input, Memory, Question};
use super::known::{Known, Records, Testimony};
use super::places::{Lack, Place, Places, Spot};
use super::spec::{ShardSpec, Spec};
use super::stores::Stores;
use crate::effects::etcd::{Event, Report, Source};
use crate::entry::{Entry, Watched};
use crate::object::{Key, Kind};
use crate::proto::clustermetadata as wire;
use crate::topology_store::desired::{
    Backup, Desired, DesiredCell, DesiredDatabase, DurabilityPolicy,
};
use crate::topology_store::edit;
use crate::topology_store::key::{Component, Path, ShardId};
use crate::topology_store::prune::{Confirm, Subject};
use crate::topology_store::record::ProcessId;
use crate::topology_store::view::Item;

const ROOT: &str = "/g";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn entry(kind: Kind, name: &str, labels: &Value) -> Rc<Entry> {
    let body = json!({
        "metadata": {
            "name": name, "namespace": "db", "uid": name, "resourceVersion": "1", "labels": labels,
            "creationTimestamp": "1970-01-01T00:00:00Z",
        },
    });
    let watched: Watched = serde_json::from_value(body).unwrap();
    Rc::new(watched.trim(kind).unwrap())
}

fn shard(database: &str) -> ShardId {
    ShardId::new(database, "default", "0-inf")
}

fn pod(n: usize) -> String {
    format!("demo-a-{n}")
}

fn pooler(pod: &str, database: &str) -> Item {
    let name = crds::name::service_id(pod);
    let record = wire::Multipooler {
        id: Some(wire::Id {
            component: wire::id::ComponentType::Multipooler.into(),
            cell: "zone1".to_owned(),
            name: name.clone(),
        }),
        shard_key: Some(wire::ShardKey {
            database: database.to_owned(),
            table_group: "default".to_owned(),
            shard: "0-inf".to_owned(),
        }),
        hostname: format!("{pod}.demo-pods.db.svc.cluster.local"),
        ..wire::Multipooler::default()
    };
    let id = Component::Pooler.id("zone1", &name);
    Item {
        key: Path::Process(Component::Pooler, id.into()).under(ROOT),
        value: Some(record.encode_to_vec()),
        version: 2,
    }
}

/// A cluster of one cell in the global store, whose shards are those of these databases.
struct Bed {
    me: Rc<Entry>,
    group: Vec<Rc<Entry>>,
    spec: Spec,
    shards: BTreeMap<ShardId, ShardSpec>,
    places: Places,
    stores: Stores,
    testimonies: Vec<Rc<Testimony>>,
    memory: Memory,
    now: Timestamp,
}

impl Bed {
    fn new(databases: &[&str]) -> Self {
        let me = entry(Kind::MultigresCluster, "demo", &json!({}));
        let cell = DesiredCell {
            name: "zone1".to_owned(),
            servers: vec!["etcd:2379".to_owned()],
            root: ROOT.to_owned(),
        };
        let database = |name: &&str| DesiredDatabase {
            name: (*name).to_owned(),
            backup: Backup::Filesystem {
                path: "/backups".to_owned(),
            },
            encrypted: false,
            cells: vec!["zone1".to_owned()],
            durability: DurabilityPolicy::AtLeastTwo,
        };
        let place = Place {
            endpoints: vec!["etcd:2379".to_owned()],
            root: ROOT.to_owned(),
            trust: None,
        };
        let places = Places {
            global: Spot {
                root: ROOT.to_owned(),
                place: Ok(place),
            },
            cells: BTreeMap::from([("zone1".into(), None)]),
        };
        let mut stores = Stores::default();
        stores.arrange(&places);
        let spec = Spec {
            desired: Ok(Desired {
                cells: vec![cell],
                databases: databases.iter().map(database).collect(),
            }),
            pruning: true,
            wishes: super::places::Wishes::empty(),
            global: ("etcd:2379".to_owned(), ROOT.to_owned()),
            references: Vec::new(),
        };
        let shards = databases.iter().map(|name| {
            let spec = ShardSpec {
                uid: (*name).into(),
                key: Key::new(Kind::Shard, "db", name),
                pods: 3,
                cells: BTreeSet::from(["zone1".into()]),
            };
            (shard(name), spec)
        });
        Self {
            me,
            group: vec![entry(
                Kind::Cell,
                "demo-zone1",
                &json!({"multigres.com/cell": "zone1"}),
            )],
            spec,
            shards: shards.collect(),
            places,
            stores,
            testimonies: Vec::new(),
            memory: Memory::default(),
            now: at(100_000),
        }
    }

    /// The store is read: what is desired is there, and these.
    fn read(&mut self, more: impl IntoIterator<Item = Item>) {
        let desired = self.spec.desired.as_ref().unwrap();
        let cells = desired.cells.iter().map(|cell| {
            let path = Path::Cell(cell.name.as_str().into());
            (path, edit::cell(&[], cell).unwrap())
        });
        let databases = desired.databases.iter().map(|database| {
            let path = Path::Database(database.name.as_str().into());
            (path, edit::database(&[], database).unwrap())
        });
        let items = cells.chain(databases).map(|(path, value)| Item {
            key: path.under(ROOT),
            value: Some(value),
            version: 1,
        });
        let items = items.chain(more).collect();
        self.hears(Event::Read {
            endpoint: "etcd:2379".to_owned(),
            revision: 5,
            items,
        });
    }

    fn hears(&mut self, event: Event) {
        let source = Source {
            store: "".into(),
            life: 1,
        };
        self.stores.take_in(Report { source, event }, self.now);
    }

    fn input(&self) -> Input<'_> {
        Input {
            me: &self.me,
            group: &self.group,
            spec: &self.spec,
            shards: &self.shards,
            places: &self.places,
            stores: &self.stores,
            testimonies: &self.testimonies,
        }
    }

    fn decide(&mut self) -> Decision {
        let decision = decide::decide(&self.input(), &self.memory, self.now);
        self.memory = decision.memory.clone();
        decision
    }

    fn known(&self, before: &Known) -> Known {
        decide::known(&self.input(), Some(&self.memory), before, self.now).0
    }

    /// Decides as time passes, with live reads that find only `alive`; returns the keys of what is written.
    fn run(&mut self, alive: &BTreeSet<Box<str>>) -> Vec<Box<str>> {
        let mut written = Vec::new();
        for _ in 0..200 {
            let decision = self.decide();
            for (_, write) in &decision.writes {
                written.push(write.key.clone());
                self.memory.pruning.answered(&write.key);
                let version = self.stores.views.global.revision().unwrap() + 1;
                self.hears(Event::Changed {
                    revision: version,
                    items: vec![Item {
                        key: write.key.to_string(),
                        value: write.value.clone(),
                        version,
                    }],
                });
            }
            if let Some(mut question) = self.memory.question.take() {
                for action in decision.reads {
                    let key = action.lane().0.clone();
                    let exists = key.kind == Kind::MultigresCluster || alive.contains(&*key.name);
                    if question.hear(&key, Some(exists)) {
                        let gone = question.gone(self.spec.desired.as_ref().ok());
                        let key = question.confirm.key.clone();
                        self.memory.pruning.confirmed(&key, gone, self.now);
                    }
                }
                continue;
            }
            let next = self.now.checked_add(SignedDuration::from_secs(5)).unwrap();
            self.now = decision.wake.map_or(next, |wake| wake.max(self.now));
        }
        written
    }
}

fn seen(n: usize) -> Rc<Entry> {
    entry(Kind::Pod, &pod(n), &json!({"multigres.com/cell": "zone1"}))
}

/// L-TOPO-01: a record of one database's shard concerns neither the shard of the same name of another database, nor the
/// cluster.
#[test]
fn a_record_concerns_its_own_shard_alone() {
    let mut bed = Bed::new(&["one", "two"]);
    bed.read([pooler(&pod(0), "one")]);
    bed.group.push(seen(0));
    bed.decide();
    let before = bed.known(&Known::default());
    let mut changed = pooler(&pod(1), "one");
    changed.version = 6;
    bed.hears(Event::Changed {
        revision: 6,
        items: vec![changed],
    });
    let after = bed.known(&before);
    assert_eq!(after.shards[&shard("two")].poolers, []);
    assert_eq!(after.shards[&shard("one")].poolers.len(), 2);
    let concerned = after.concerns(&before);
    let resource = |kind, database: &str| {
        let labels = json!({
            "multigres.com/database": database, "multigres.com/tablegroup": "default", "multigres.com/shard": "0-inf",
        });
        entry(kind, database, &labels)
    };
    assert!(concerned.contains(&resource(Kind::Shard, "one")));
    assert!(!concerned.contains(&resource(Kind::Shard, "two")));
    assert!(!concerned.contains(&bed.me));
    let same = bed.known(&after);
    assert_eq!(same, after, "the same is told once");
}

/// L-TOPO-03: before everything was read nobody is told that something is not there.
#[test]
fn what_was_not_read_yet_is_silent_and_not_empty() {
    let mut bed = Bed::new(&["one"]);
    bed.decide();
    let known = bed.known(&Known::default());
    assert_eq!((known.reachable, known.held), (None, None));
    let expected = Records {
        silent: vec!["zone1".into()],
        ..Records::default()
    };
    assert_eq!(*known.shards[&shard("one")], expected);
    bed.read([]);
    bed.decide();
    let known = bed.known(&Known::default());
    let records = &known.shards[&shard("one")];
    assert_eq!(
        (records.silent.len(), records.backup_runs),
        (0, Some(false))
    );
    assert!(known.reachable.unwrap().holds() && known.held == Some(Vec::new()));
    assert_eq!(known.cells, BTreeSet::from(["zone1".into()]));
}

/// A new life, or a member that is exchanged, says nothing new before it knows.
#[test]
fn what_was_told_stays_until_there_is_evidence() {
    let mut bed = Bed::new(&["one"]);
    bed.read([]);
    bed.decide();
    let told = bed.known(&Known::default());
    let place = bed.places.global.place.as_mut().unwrap();
    place.endpoints = vec!["a:2379".to_owned(), "b:2379".to_owned()];
    let lost = |endpoint: &str| Event::Lost {
        endpoint: endpoint.to_owned(),
        error: "refused".to_owned(),
    };
    bed.hears(lost("etcd:2379"));
    let places = bed.places.clone();
    assert_eq!(bed.stores.arrange(&places).opened.len(), 1);
    assert_eq!(bed.known(&told).reachable, told.reachable);
    let hears = |bed: &mut Bed, event| {
        let source = Source {
            store: "".into(),
            life: 2,
        };
        bed.stores.take_in(Report { source, event }, bed.now);
    };
    hears(&mut bed, lost("a:2379"));
    assert_eq!(bed.known(&told).reachable, told.reachable, "one is left");
    hears(&mut bed, lost("b:2379"));
    let known = bed.known(&told);
    assert!(known.alarming && !known.reachable.unwrap().holds());
    bed.places.global.place = Err(Lack::Unknown);
    assert_eq!(bed.known(&told).reachable, told.reachable);
    bed.places.global.place = Err(Lack::Secret("Secret x does not exist".to_owned()));
    bed.stores.arrange(&bed.places.clone());
    let text = bed.known(&told).reachable.unwrap();
    assert!(
        text.message()
            .ends_with("is not dialled: Secret x does not exist"),
        "{text:?}"
    );
}

#[test]
fn a_cell_or_database_is_gone_only_by_the_word_of_a_live_read() {
    let cluster = Key::new(Kind::MultigresCluster, "db", "demo");
    let cell = Key::new(Kind::Cell, "db", &crds::name::cell("demo", "zone9"));
    let desired = Bed::new(&["one"]).spec.desired.unwrap();
    let ask = |subject| {
        let key = "/g/x".into();
        Question::new(Confirm { key, subject }, &cluster)
    };
    let mut question = ask(Subject::Cell("zone9".into()));
    assert_eq!(question.reads().count(), 2);
    assert!(!question.hear(&cluster, Some(true)));
    assert!(!question.hear(&cluster, Some(true)), "asked once");
    assert!(question.hear(&cell, Some(false)));
    assert_eq!(question.gone(Some(&desired)), Some(true));
    assert_eq!(
        question.gone(None),
        None,
        "the specification cannot be read"
    );
    let mut named = ask(Subject::Cell("zone1".into()));
    named.hear(&cluster, Some(true));
    let own = Key::new(Kind::Cell, "db", &crds::name::cell("demo", "zone1"));
    named.hear(&own, Some(false));
    assert_eq!(named.gone(Some(&desired)), Some(false));
    let mut there = ask(Subject::Cell("zone9".into()));
    there.hear(&cell, Some(true));
    there.hear(&cluster, Some(true));
    assert_eq!(there.gone(Some(&desired)), Some(false));
    for lost in [&cluster, &cell] {
        let mut failed = ask(Subject::Cell("zone9".into()));
        assert!(failed.hear(lost, None), "the rest does not matter");
        assert_eq!(failed.gone(Some(&desired)), None);
    }
    let mut database = ask(Subject::Database("one".into()));
    database.hear(&cluster, Some(true));
    assert_eq!(database.gone(Some(&desired)), Some(false));
    let mut deleted = ask(Subject::Database("two".into()));
    deleted.hear(&cluster, Some(false));
    assert_eq!(deleted.gone(Some(&desired)), None, "nobody's any more");
}

/// What a shard tells of its poolers counts: one that answers is not dead, and one that is in the cohort is not forgotten.
#[test]
fn the_word_of_the_shard_keeps_records() {
    let id = |n| ProcessId::new("zone1", &crds::name::service_id(&pod(n)));
    let mut bed = Bed::new(&["one"]);
    bed.read((0..4).map(|n| pooler(&pod(n), "one")));
    bed.group.push(seen(0));
    let told = |cohort: &[usize]| Testimony {
        shard: Some(shard("one")),
        answering: BTreeSet::from([id(1)]),
        cohort: Some(cohort.iter().map(|n| id(*n)).collect()),
    };
    bed.testimonies = vec![Rc::new(told(&[0, 1, 2]))];
    let alive = BTreeSet::from([pod(0).into()]);
    let key = |n| pooler(&pod(n), "one").key.into();
    let mut written = bed.run(&alive);
    assert_eq!(
        written.pop(),
        Some(key(3)),
        "marked four hours ago, and counted by nobody"
    );
    written.sort();
    let mut marked = [key(2), key(3)];
    marked.sort();
    assert_eq!(written, marked);
    bed.testimonies = vec![Rc::new(told(&[0, 1]))];
    assert_eq!(bed.run(&alive), [key(2)]);
}

/// A cell that nobody names and whose store is not ours to look into is told of and left alone.
#[test]
fn the_cell_of_a_stranger_is_held() {
    let mut bed = Bed::new(&["one"]);
    let strange = DesiredCell {
        name: "zone9".to_owned(),
        servers: vec!["elsewhere:2379".to_owned()],
        root: "/z".to_owned(),
    };
    let path = Path::Cell("zone9".into());
    bed.read([Item {
        key: path.under(ROOT),
        value: Some(edit::cell(&[], &strange).unwrap()),
        version: 1,
    }]);
    assert_eq!(bed.run(&BTreeSet::new()), []);
    let held = bed.known(&Known::default()).held.unwrap();
    assert!(held[0].contains("by hand"), "{held:?}");
    bed.stores.ended.insert("zone9".into());
    assert_eq!(bed.run(&BTreeSet::new()), ["/g/cells/zone9/Cell".into()]);
}

/// Gateways register under the address of their pod (`--hostname=$(POD_IP)`): one that no pod has any more is a leftover,
/// after ten minutes and the word of a live read.
#[test]
fn a_leftover_is_known_by_its_address() {
    let gateway = |name: &str, address: &str| {
        let record = wire::Multigateway {
            id: Some(wire::Id {
                component: wire::id::ComponentType::Multigateway.into(),
                cell: "zone1".to_owned(),
                name: name.to_owned(),
            }),
            hostname: address.to_owned(),
            ..wire::Multigateway::default()
        };
        let id = Component::Gateway.id("zone1", name);
        Item {
            key: Path::Process(Component::Gateway, id.into()).under(ROOT),
            value: Some(record.encode_to_vec()),
            version: 2,
        }
    };
    let mut bed = Bed::new(&["one"]);
    let gone = gateway("gone", "10.0.0.3");
    bed.read([
        gateway("here", "10.0.0.1"),
        gateway("unseen", "fd00::2"),
        gone.clone(),
    ]);
    let mut here = Entry {
        key: Some(Key::new(Kind::Pod, "db", "gateway")),
        ..Entry::default()
    };
    here.pod = Some(Box::new(crate::entry::Pod {
        address: Some("10.0.0.1".into()),
        ..crate::entry::Pod::default()
    }));
    bed.group.push(Rc::new(here));
    let began = bed.now;
    let written = bed.run(&BTreeSet::from(["fd00::2".into()]));
    assert_eq!(written, [gone.key.into()]);
    assert!(bed.now.duration_since(began) >= SignedDuration::from_mins(10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// L-TOPO-03, issue 5, figure 5: whatever the informer shows, nothing that a live read would find is ever touched; and
    /// with nothing shown, nothing is.
    #[test]
    fn no_live_pooler_is_ever_marked(
        alive in prop::collection::btree_set(0_usize..12, 0..12),
        hidden in prop::collection::btree_set(0_usize..12, 0..12),
        lost in any::<bool>(),
    ) {
        let mut bed = Bed::new(&["one"]);
        bed.read((0..12).map(|n| pooler(&pod(n), "one")));
        if lost {
            bed.hears(Event::Lost { endpoint: "etcd:2379".to_owned(), error: "refused".to_owned() });
        }
        let shown: Vec<usize> = alive.difference(&hidden).copied().collect();
        bed.group.extend(shown.iter().map(|n| seen(*n)));
        let living = alive.iter().map(|n| pod(*n).into()).collect();
        let written: BTreeSet<Box<str>> = bed.run(&living).into_iter().collect();
        let dead: BTreeSet<Box<str>> = (0..12)
            .filter(|n| !alive.contains(n))
            .map(|n| pooler(&pod(n), "one").key.into())
            .collect();
        let expected = if lost || shown.is_empty() { BTreeSet::new() } else { dead };
        prop_assert_eq!(written, expected);
    }
}
