//! The lessons about topology that pure code can show, each under the name of what it says.

use std::collections::{BTreeMap, BTreeSet};

use actors::proto::clustermetadata as wire;
use actors::topology_store::desired::{Desired, DurabilityPolicy, Unusable};
use actors::topology_store::key::{Path, ShardId};
use actors::topology_store::prune::{self, Confirm, Facts, Pruning, Subject};
use actors::topology_store::record::{Lifecycle, ProcessId, Record};
use actors::topology_store::view::{Item, View, Views};
use actors::topology_store::{Write, edit, identity, register};
use jiff::{SignedDuration, Timestamp};
use prost::Message;

use crate::edits::{cell, database};
use crate::samples::{at, item, pooler, pooler_item};

const GLOBAL: &str = "/multigres/global";
pub const ZONE1: &str = "/multigres/zone1";

/// Everything that the decisions of one cluster look at, owned.
pub struct Cluster {
    pub views: Views,
    pub desired: Desired,
    pub enabled: bool,
    pub synced: bool,
    pub registered: bool,
    pub pods: BTreeSet<Box<str>>,
    pub addresses: BTreeSet<std::net::IpAddr>,
    pub nodes_gone: BTreeSet<Box<str>>,
    pub wanted: BTreeMap<ShardId, usize>,
    pub answering: BTreeSet<ProcessId>,
    pub cohorts: BTreeMap<ShardId, BTreeSet<ProcessId>>,
    pub cells: BTreeSet<Box<str>>,
    pub inhabited: BTreeSet<Box<str>>,
    pub strangers: BTreeSet<Box<str>>,
    pub volumes: BTreeSet<ShardId>,
    pub state: prune::State,
    pub now: Timestamp,
}

fn shard() -> ShardId {
    ShardId::new("postgres", "default", "0-inf")
}

pub fn pod(n: usize) -> String {
    format!("demo-a-{n}")
}

/// zone1 with a store of its own and zone2 in the global one; `poolers` live poolers in zone1, all with pods.
pub fn cluster(poolers: usize) -> Cluster {
    let mut desired = Desired {
        cells: vec![cell()],
        databases: vec![database()],
    };
    let mut two = cell();
    two.name = "zone2".to_owned();
    two.root = GLOBAL.to_owned();
    desired.cells.push(two);
    let mut global = View::new(GLOBAL);
    let mut items: Vec<Item> = desired
        .cells
        .iter()
        .map(|cell| {
            item(
                &Path::Cell(cell.name.as_str().into()).under(GLOBAL),
                &edit::cell(&[], cell).unwrap(),
                1,
            )
        })
        .collect();
    items.push(item(
        &Path::Database("postgres".into()).under(GLOBAL),
        &edit::database(&[], &database()).unwrap(),
        2,
    ));
    global.replace(10, items);
    let mut zone1 = View::new(ZONE1);
    zone1.replace(
        10,
        (0..poolers).map(|n| pooler_item(ZONE1, &pooler("zone1", &pod(n)), 3)),
    );
    Cluster {
        views: Views {
            global,
            cells: BTreeMap::from([("zone1".into(), Some(zone1)), ("zone2".into(), None)]),
        },
        desired,
        enabled: true,
        synced: true,
        registered: true,
        pods: (0..poolers).map(|n| pod(n).into()).collect(),
        addresses: BTreeSet::new(),
        nodes_gone: BTreeSet::new(),
        wanted: BTreeMap::from([(shard(), poolers)]),
        answering: BTreeSet::new(),
        cohorts: BTreeMap::from([(shard(), BTreeSet::new())]),
        cells: BTreeSet::from(["zone1".into(), "zone2".into()]),
        inhabited: BTreeSet::from(["zone1".into()]),
        strangers: BTreeSet::new(),
        volumes: BTreeSet::new(),
        state: prune::State::default(),
        now: at(100_000),
    }
}

impl Cluster {
    pub fn zone1(&mut self) -> &mut View {
        self.views.cells.get_mut("zone1").unwrap().as_mut().unwrap()
    }

    pub fn decide(&mut self) -> Pruning {
        let facts = Facts {
            enabled: self.enabled,
            synced: self.synced,
            registered: self.registered,
            namespace: "db",
            desired: &self.desired,
            pods: self.pods.clone(),
            addresses: self.addresses.clone(),
            nodes_gone: self.nodes_gone.clone(),
            wanted: self.wanted.clone(),
            answering: self.answering.clone(),
            cohorts: self.cohorts.clone(),
            cells: self.cells.clone(),
            inhabited: self.inhabited.clone(),
            strangers: self.strangers.clone(),
            volumes: self.volumes.clone(),
        };
        let plan = prune::decide(&facts, &self.views, &self.state, self.now);
        self.state = plan.state.clone();
        plan
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now = self
            .now
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap();
    }

    /// Lets time pass and answers live reads with `gone` until a write comes, or nothing more is asked.
    fn run(
        &mut self,
        gone: impl Fn(&Subject) -> Option<bool>,
    ) -> Option<(Option<Box<str>>, Write)> {
        for _ in 0..200 {
            let plan = self.decide();
            if plan.write.is_some() {
                assert!(plan.confirm.is_none(), "one thing per pass");
                return plan.write;
            }
            if let Some(Confirm { key, subject }) = plan.confirm {
                self.state.confirmed(&key, gone(&subject), self.now);
                continue;
            }
            let wake = plan.wake?;
            assert!(wake > self.now, "a wake in the past never ends");
            self.now = wake;
        }
        None
    }

    /// Runs until nothing happens any more; carries writes out in the view. Returns keys of what was written.
    pub fn settle(&mut self, gone: impl Fn(&Subject) -> Option<bool>) -> Vec<String> {
        let mut written = Vec::new();
        while let Some((cell, write)) = self.run(&gone) {
            let version = 1_000 + i64::try_from(written.len()).unwrap();
            let item = Item {
                key: write.key.to_string(),
                value: write.value,
                version,
            };
            match cell {
                Some(_) => self.zone1().wrote(item),
                None => self.views.global.wrote(item),
            }
            self.state.answered(&write.key);
            written.push(write.key.to_string());
            assert!(written.len() < 500, "never settles: {written:?}");
        }
        written
    }

    fn register(&self, state: &register::State) -> register::Registration {
        register::decide(&self.desired, &self.views, |_| Some(true), state, self.now)
    }
}

fn gone(_: &Subject) -> Option<bool> {
    Some(true)
}

pub fn pooler_key(n: usize) -> String {
    pooler_item(ZONE1, &pooler("zone1", &pod(n)), 0).key
}

/// L-TOPO-01: another shard's records are not read, even when only the database differs.
#[test]
fn records_of_other_shards_are_not_read() {
    let mut cluster = cluster(2);
    let mut other = pooler("zone1", "other-0");
    other.shard_key.as_mut().unwrap().database = "second".to_owned();
    let other = pooler_item(ZONE1, &other, 4);
    cluster.zone1().advance(11, [other]);
    let id = shard();
    let own: Vec<_> = cluster
        .views
        .shard(&id)
        .map(|(cell, _, _, pooler)| (cell, pooler.id.name.clone()))
        .collect();
    assert_eq!(own.len(), 2);
    assert_eq!(
        cluster
            .views
            .shard(&ShardId::new("second", "default", "0-inf"))
            .count(),
        1
    );
    assert_eq!(
        cluster
            .views
            .shard(&ShardId::new("postgres", "default", "inf-0"))
            .count(),
        0
    );
}

/// L-TOPO-01, stores shared by cells: a cell's poolers are those that say so, not all under the root.
#[test]
fn cells_that_share_a_store_do_not_share_poolers() {
    let mut cluster = cluster(0);
    cluster.views.cells.insert("zone3".into(), None);
    let items = [
        pooler_item(GLOBAL, &pooler("zone2", "demo-b-0"), 4),
        pooler_item(GLOBAL, &pooler("zone3", "demo-c-0"), 5),
        pooler_item(GLOBAL, &pooler("zone9", "strange-0"), 6),
    ];
    cluster.views.global.advance(11, items);
    let id = shard();
    let cells: Vec<_> = cluster
        .views
        .shard(&id)
        .map(|(cell, ..)| cell.to_owned())
        .collect();
    assert_eq!(cells, ["zone2", "zone3"]);
}

/// L-TOPO-02: full names, short names, in any case; neighbours, other namespaces and addresses are no match.
#[test]
fn records_are_matched_with_pods_by_parsed_names() {
    for (hostname, pod) in [
        ("demo-a-1.demo-pods.db.svc.cluster.local", Some("demo-a-1")),
        ("demo-a-1.demo-pods.db.svc.cluster.local.", Some("demo-a-1")),
        ("demo-a-1.demo-pods.db.svc", Some("demo-a-1")),
        ("demo-a-1.demo-pods", Some("demo-a-1")),
        ("demo-a-1", Some("demo-a-1")),
        ("demo-a-1.demo-pods.other.svc.cluster.local", None),
        ("10.0.0.7", None),
        ("fd00::7", None),
        ("localhost", None),
        ("", None),
        (".db", None),
        ("demo-a-1/log?x=.db", None),
        ("../secrets", None),
    ] {
        assert_eq!(identity::pod_of(hostname, "db"), pod, "{hostname:?}");
    }
    let mut record = pooler("zone1", "demo-a-1");
    for (hostname, pod, matches) in [
        ("demo-a-1.demo-pods.db.svc.cluster.local", "demo-a-1", true),
        ("DEMO-A-1.demo-pods.DB.svc", "demo-a-1", true),
        (
            "demo-a-11.demo-pods.db.svc.cluster.local",
            "demo-a-1",
            false,
        ),
        (
            "demo-a-1.demo-pods.db.svc.cluster.local",
            "demo-a-11",
            false,
        ),
        (
            "demo-a-1.demo-pods.else.svc.cluster.local",
            "demo-a-1",
            false,
        ),
        ("", "demo-a-1", true),
        ("", "demo-a-2", false),
    ] {
        record.hostname = hostname.to_owned();
        let value = record.encode_to_vec();
        let key = Path::parse(ZONE1, &pooler_key(1)).unwrap();
        let Ok(Record::Pooler(decoded)) = actors::topology_store::record::decode(&key, &value)
        else {
            panic!("not a pooler");
        };
        assert_eq!(
            identity::is_of(&decoded, pod, "db"),
            matches,
            "{hostname:?} {pod:?}"
        );
    }
}

/// L-TOPO-02: a matching that finds no pod at all is more likely broken than right.
#[test]
fn pruning_refuses_to_mark_every_pooler_of_a_shard() {
    let mut cluster = cluster(3);
    cluster.pods = BTreeSet::from(["else-0".into()]);
    assert_eq!(cluster.settle(gone), Vec::<String>::new());
    let plan = cluster.decide();
    assert_eq!(plan.held.len(), 3);
    assert!(
        plan.held[0]
            .why
            .contains("no pooler of its shard has a pod"),
        "{:?}",
        plan.held
    );
}

/// L-TOPO-02: two looks, a live read in between, one record per pass.
#[test]
fn a_pooler_is_marked_after_two_looks_and_a_live_read() {
    let mut cluster = cluster(3);
    cluster.pods.remove(pod(1).as_str());
    let first = cluster.decide();
    assert_eq!((first.confirm, first.write), (None, None));
    cluster.pass(9);
    assert_eq!(cluster.decide().confirm, None, "seen for 9 s");
    cluster.pass(1);
    let second = cluster.decide();
    let confirm = second.confirm.unwrap();
    assert_eq!(confirm.subject, Subject::Pod(pod(1).into()));
    assert_eq!(cluster.decide().confirm, None, "asked already");
    cluster
        .state
        .confirmed(&confirm.key, Some(true), cluster.now);
    let (store, write) = cluster.decide().write.unwrap();
    assert_eq!(store.as_deref(), Some("zone1"));
    assert_eq!((&*write.key, write.version), (pooler_key(1).as_str(), 3));
    let marked = wire::Multipooler::decode(&write.value.unwrap()[..]).unwrap();
    assert_eq!(marked.lifecycle_status.unwrap().reason, edit::NO_POD);
    assert_eq!(cluster.decide().write, None, "sent already");
}

/// L-TOPO-02: old evidence is no evidence.
#[test]
fn a_live_read_is_believed_for_a_moment_only() {
    let mut cluster = cluster(3);
    cluster.pods.remove(pod(1).as_str());
    cluster.decide();
    cluster.pass(10);
    let key = cluster.decide().confirm.unwrap().key;
    cluster.state.confirmed(&key, Some(true), cluster.now);
    cluster.pass(6);
    let plan = cluster.decide();
    assert_eq!(plan.write, None);
    assert_eq!(plan.confirm.unwrap().key, key, "read again");
}

/// L-TOPO-03: whatever is empty, partial, stale or failing, nothing live is touched. Issue 5, figure 5.
#[test]
fn nothing_heard_and_empty_lists_prune_nothing() {
    type Fault = fn(&mut Cluster);
    let faults: [(&str, Fault); 10] = [
        ("informers not synced", |cluster| cluster.synced = false),
        ("no pods listed", |cluster| cluster.pods.clear()),
        ("no cells desired", |cluster| cluster.desired.cells.clear()),
        ("no databases desired", |cluster| {
            cluster.desired.databases.clear()
        }),
        ("registration not settled", |cluster| {
            cluster.registered = false
        }),
        ("global watch lost", |cluster| cluster.views.global.lost()),
        ("a cell's watch lost", |cluster| cluster.zone1().lost()),
        ("a cell never read", |cluster| {
            *cluster.zone1() = View::new(ZONE1)
        }),
        ("a cell not known yet", |cluster| {
            cluster
                .views
                .cells
                .insert("zone3".into(), Some(View::new("/multigres/zone3")));
        }),
        ("pruning switched off", |cluster| cluster.enabled = false),
    ];
    for (name, fault) in faults {
        let mut cluster = cluster(100);
        // Without the fault this would be a suspect.
        cluster.pods.remove(pod(7).as_str());
        fault(&mut cluster);
        assert_eq!(cluster.settle(gone), Vec::<String>::new(), "{name}");
    }
    assert_eq!(
        cluster(100).settle(gone),
        Vec::<String>::new(),
        "all is well"
    );
}

/// L-TOPO-03: a stale informer makes suspects, the live read acquits them; a read that fails proves nothing.
#[test]
fn a_stale_pod_list_marks_nobody_who_lives() {
    for answer in [Some(false), None] {
        let mut cluster = cluster(100);
        cluster.pods.retain(|name| name.ends_with('7'));
        assert_eq!(cluster.run(|_| answer), None);
    }
}

/// L-TOPO-03: a hundred poolers are gone at once, and some of them answer or are listed late: exactly the dead are marked.
#[test]
fn a_hundred_poolers_gone_at_once_are_marked_one_by_one_and_no_other() {
    let mut cluster = cluster(120);
    let dead = |name: &str| {
        name.trim_start_matches("demo-a-")
            .parse::<usize>()
            .is_ok_and(|n| n < 100)
    };
    // Ten more are missing from a stale list, and five of the dead pods' processes still answer.
    cluster.pods.retain(|name| {
        !dead(name) && name.trim_start_matches("demo-a-").parse::<usize>().unwrap() >= 110
    });
    for n in 0..5 {
        cluster
            .answering
            .insert(ProcessId::new("zone1", &crds::name::service_id(&pod(n))));
    }
    let written = cluster.settle(|subject| match subject {
        Subject::Pod(name) => Some(dead(name)),
        _ => Some(false),
    });
    let expected: BTreeSet<String> = (5..100).map(pooler_key).collect();
    assert_eq!(written.len(), 95);
    assert_eq!(written.into_iter().collect::<BTreeSet<_>>(), expected);
    let id = shard();
    let shut = cluster
        .views
        .shard(&id)
        .filter(|(_, _, _, pooler)| pooler.lifecycle == Lifecycle::Shutdown);
    assert_eq!(shut.count(), 95);
}

/// L-TOPO-04: what becomes an `application_name` fits into PostgreSQL's 63 bytes.
#[test]
fn application_names_fit_for_the_longest_names() {
    let cell = "c".repeat(30);
    let pod = "p".repeat(63);
    let name = format!("{cell}_{}", crds::name::service_id(&pod));
    assert!(name.len() <= 63, "{name}");
}

/// L-TOPO-06: a record without a quorum type would make every election impossible.
#[test]
fn an_unknown_durability_policy_is_an_error_and_never_a_record() {
    for name in ["", "AT_LEAST_3", "at_least_2"] {
        assert_eq!(
            DurabilityPolicy::named(name),
            Err(Unusable::Policy(name.to_owned()))
        );
    }
    for (name, quorum_type) in [("AT_LEAST_2", 3), ("MULTI_CELL_AT_LEAST_2", 4)] {
        let mut desired = database();
        desired.durability = DurabilityPolicy::named(name).unwrap();
        let record = edit::database(&[], &desired).unwrap();
        let policy = wire::Database::decode(&record[..])
            .unwrap()
            .bootstrap_durability_policy
            .unwrap();
        assert_eq!(
            (
                policy.policy_name.as_str(),
                policy.quorum_type,
                policy.required_count
            ),
            (name, quorum_type, 2)
        );
    }
}

/// L-TOPO-07: a pooler that registers again between our look and our write wins: the write names the version that was judged.
#[test]
fn a_record_that_changed_is_judged_anew() {
    let mut cluster = cluster(3);
    cluster.pods.remove(pod(1).as_str());
    cluster.decide();
    cluster.pass(10);
    let key = cluster.decide().confirm.unwrap().key;
    let again = pooler_item(ZONE1, &pooler("zone1", &pod(1)), 12);
    cluster.zone1().advance(12, [again]);
    cluster.state.confirmed(&key, Some(true), cluster.now);
    assert_eq!(
        cluster.decide().write,
        None,
        "the evidence was about version 3"
    );
    let (_, write) = cluster.run(gone).unwrap();
    assert_eq!(write.version, 12);
}

/// L-TOPO-07: a record is marked, never deleted, while anybody may still count on it.
#[test]
fn records_are_deleted_only_when_everybody_has_forgotten_the_pooler() {
    let shutdown = |updated: i64, version| {
        let mut record = pooler("zone1", &pod(1));
        let life = record.lifecycle_status.as_mut().unwrap();
        life.status = wire::PoolerLifecycleStatus::LifecycleShutdown.into();
        life.updated = Some(prost_types::Timestamp {
            seconds: updated,
            nanos: 0,
        });
        pooler_item(ZONE1, &record, version)
    };
    let member = ProcessId::new("zone1", &crds::name::service_id(&pod(1)));
    let hour = 3_600;
    for (name, age, in_cohort, told, has_pod, expected) in [
        ("long dead and forgotten", 5 * hour, false, true, false, 1),
        ("dead lately", 3 * hour, false, true, false, 0),
        ("still in a cohort", 5 * hour, true, true, false, 0),
        ("nobody tells the cohort", 5 * hour, false, false, false, 0),
        ("its pod is back", 5 * hour, false, true, true, 0),
    ] {
        let mut cluster = cluster(3);
        let updated = cluster.now.as_second() - age;
        cluster.zone1().advance(20, [shutdown(updated, 20)]);
        if !has_pod {
            cluster.pods.remove(pod(1).as_str());
        }
        if in_cohort {
            cluster
                .cohorts
                .get_mut(&shard())
                .unwrap()
                .insert(member.clone());
        }
        if !told {
            cluster.cohorts.clear();
        }
        if name == "dead lately" {
            assert_eq!(
                cluster.decide().wake,
                Some(at(updated + 4 * hour)),
                "an hour from now"
            );
            continue;
        }
        let written = cluster.run(gone);
        assert_eq!(usize::from(written.is_some()), expected, "{name}");
        if let Some((_, write)) = written {
            assert_eq!((write.value, write.version), (None, 20));
        }
    }
}

/// L-TOPO-08: cells and databases are registered once, from the specification, and poolers' records are left to poolers.
#[test]
fn registration_writes_differences_only_and_nothing_but_cells_and_databases() {
    let mut cluster = cluster(3);
    let settled = cluster.register(&register::State::default());
    assert!(settled.settled && settled.writes.is_empty() && settled.wake.is_none());
    cluster.views.global = View::new(GLOBAL);
    let unread = cluster.register(&register::State::default());
    assert!(
        unread.writes.is_empty() && !unread.settled,
        "nothing is made before the store was read"
    );
    cluster.views.global.replace(1, []);
    let plan = cluster.register(&register::State::default());
    let keys: Vec<&str> = plan.writes.iter().map(|write| &*write.key).collect();
    assert_eq!(
        keys,
        [
            "/multigres/global/cells/zone1/Cell",
            "/multigres/global/cells/zone2/Cell",
            "/multigres/global/databases/postgres/Database"
        ]
    );
    assert!(plan.writes.iter().all(|write| write.version == 0));
    assert!(
        cluster.register(&plan.state).writes.is_empty(),
        "sent already"
    );
    for write in plan.writes {
        cluster.views.global.wrote(Item {
            key: write.key.to_string(),
            value: write.value,
            version: 5,
        });
    }
    let settled = cluster.register(&plan.state);
    assert!(settled.settled && settled.writes.is_empty(), "{settled:?}");
}

/// Somebody who changes a record again and again is answered at once a few times, then ever more slowly.
#[test]
fn registration_does_not_fight() {
    let mut cluster = cluster(1);
    let mut state = register::State::default();
    let mut waits = Vec::new();
    let key = "/multigres/global/databases/postgres/Database";
    for version in 0..12 {
        cluster.views.global.wrote(Item {
            key: key.to_owned(),
            value: None,
            version: 100 + version,
        });
        let mut plan = cluster.register(&state);
        let asked = cluster.now;
        while plan.writes.is_empty() {
            cluster.now = plan.wake.unwrap();
            plan = cluster.register(&plan.state);
        }
        waits.push(cluster.now.duration_since(asked));
        state = plan.state;
        state.answered(key, cluster.now);
    }
    assert!(waits[..5].iter().all(SignedDuration::is_zero), "{waits:?}");
    assert!(waits[11] >= SignedDuration::from_secs(4), "{waits:?}");
}

/// Garbage is set apart, reported and never acted on, by registration or by pruning.
#[test]
fn garbage_is_reported_and_never_acted_on() {
    let mut cluster = cluster(3);
    let lying = edit::cell(&[], &cluster.desired.cells[1]).unwrap();
    cluster.views.global.advance(
        30,
        [
            item("/multigres/global/cells/zone1/Cell", &lying, 30),
            item("/multigres/global/cells/zone8/Cell", &lying, 30),
            item("/multigres/global/databases/postgres/Database", &[0xff], 30),
            item("/multigres/global/databases/old/Database", &[0xff], 30),
        ],
    );
    let plan = cluster.register(&register::State::default());
    assert!(plan.writes.is_empty());
    assert_eq!(plan.held.len(), 2, "{:?}", plan.held);
    cluster
        .zone1()
        .advance(30, [item(&pooler_key(1), &[0xff], 30)]);
    cluster.pods.remove(pod(1).as_str());
    assert_eq!(cluster.settle(gone), Vec::<String>::new());
    let held: Vec<_> = cluster
        .decide()
        .held
        .into_iter()
        .map(|held| held.key)
        .collect();
    assert_eq!(
        held,
        [
            "/multigres/global/databases/old/Database".into(),
            "/multigres/global/cells/zone8/Cell".into()
        ] as [Box<str>; 2]
    );
    assert_eq!(
        cluster.views.cells["zone1"]
            .as_ref()
            .unwrap()
            .garbage()
            .count(),
        1
    );
}

/// A cell whose poolers live elsewhere than the specification says is not moved from under them.
#[test]
fn a_live_cell_is_not_moved_and_a_wrong_record_is_put_right() {
    let mut cluster = cluster(2);
    cluster.desired.cells[0].root = "/elsewhere".to_owned();
    cluster
        .views
        .cells
        .insert("zone1".into(), Some(View::new("/elsewhere")));
    let plan = cluster.register(&register::State::default());
    assert!(
        plan.writes.is_empty() && plan.held[0].why.contains("moves cell zone1"),
        "{plan:?}"
    );
    let empty = register::decide(
        &cluster.desired,
        &cluster.views,
        |_| Some(false),
        &register::State::default(),
        cluster.now,
    );
    assert_eq!(empty.writes.len(), 1, "no pods: nobody is cut off");
    // The poolers are where the specification says, and somebody pointed the record elsewhere.
    let mut cluster = self::cluster(2);
    let mut wrong = cell();
    wrong.root = "/wrong".to_owned();
    let key = "/multigres/global/cells/zone1/Cell";
    cluster
        .views
        .global
        .advance(40, [item(key, &edit::cell(&[], &wrong).unwrap(), 40)]);
    let plan = cluster.register(&register::State::default());
    assert_eq!((&*plan.writes[0].key, plan.writes[0].version), (key, 40));
    assert_eq!(
        plan.writes[0].value.as_deref(),
        Some(&edit::cell(&[], &cell()).unwrap()[..])
    );
}

/// A database leaves: first its poolers, then its record, then its volumes, then the claim that would block a successor.
#[test]
fn a_removed_database_goes_in_order_and_takes_its_claim_along() {
    let mut cluster = cluster(2);
    let old = ShardId::new("old", "default", "0-inf");
    let mut record = database();
    record.name = "old".to_owned();
    let (key, claim) = (
        Path::Database("old".into()).under(GLOBAL),
        Path::InitClaim(old.clone()).under(GLOBAL),
    );
    let items = [
        item(&key, &edit::database(&[], &record).unwrap(), 30),
        item(&claim, &[], 31),
    ];
    cluster.views.global.advance(31, items);
    cluster.volumes.insert(old.clone());
    let mut live = pooler("zone1", "old-0");
    live.shard_key.as_mut().unwrap().database = "old".to_owned();
    cluster.pods.insert("old-0".into());
    cluster.zone1().advance(32, [pooler_item(ZONE1, &live, 32)]);
    assert_eq!(
        cluster.settle(gone),
        Vec::<String>::new(),
        "its pooler lives"
    );
    cluster.pods.remove("old-0");
    let written = cluster.settle(gone);
    let pooler = pooler_item(ZONE1, &live, 0).key;
    assert_eq!(
        written,
        [pooler.clone(), key, pooler],
        "marked, removed, and forgotten four hours later"
    );
    cluster.volumes.clear();
    assert_eq!(cluster.settle(gone), [claim]);
}

/// A cell goes last: when no database lists it and nobody lives in it.
#[test]
fn a_removed_cell_goes_last() {
    let mut cluster = cluster(2);
    cluster.desired.cells.pop();
    let key = "/multigres/global/cells/zone2/Cell".to_owned();
    assert_eq!(
        cluster.settle(gone),
        Vec::<String>::new(),
        "its custom resource exists, a database lists it"
    );
    cluster.cells.remove("zone2");
    assert_eq!(
        cluster.settle(gone),
        Vec::<String>::new(),
        "a database lists it"
    );
    cluster.desired.databases[0].cells.pop();
    let plan = cluster.register(&register::State::default());
    assert_eq!(plan.writes.len(), 1);
    let write = plan.writes[0].clone();
    cluster.views.global.wrote(Item {
        key: write.key.to_string(),
        value: write.value,
        version: 50,
    });
    cluster.inhabited.insert("zone2".into());
    assert_eq!(cluster.settle(gone), Vec::<String>::new(), "it has pods");
    cluster.inhabited.remove("zone2");
    assert_eq!(cluster.run(|_| Some(false)), None, "the live read finds it");
    assert_eq!(cluster.settle(gone), [key]);
}

/// Gateways and multiorchs that died leave records that use up numbers and mislead admin calls.
#[test]
fn leftovers_of_gateways_go_after_a_while() {
    let mut cluster = cluster(1);
    let gateway = wire::Multigateway {
        id: Some(crate::samples::id("zone1", "w8t2m4zc")),
        hostname: "demo-zone1-gateway-abc".to_owned(),
        ..Default::default()
    };
    let key = format!("{ZONE1}/gateways/multigateway-zone1-w8t2m4zc/Gateway");
    cluster
        .zone1()
        .advance(30, [item(&key, &gateway.encode_to_vec(), 30)]);
    let start = cluster.now;
    let (_, write) = cluster.run(gone).unwrap();
    assert_eq!(
        (&*write.key, write.value, write.version),
        (key.as_str(), None, 30)
    );
    assert!(cluster.now.duration_since(start) >= SignedDuration::from_mins(10));
}
