//! Roles, leader and cohort from records and health.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use actors::proto::clustermetadata as wire;
use actors::proto::multiorch::ShardStatusResponse;
use actors::proto::multipoolermanagerdata as manager;
use actors::shard::backup::{self, Known};
use actors::shard::members::{self, Found, Heard, Input, Members, Pod, Role};
use actors::shard::pooler_health::{self, Decision, Health, Postgres};
use actors::shard::quorum::Policy;
use actors::topology::known::Records;
use actors::topology_store::key::ShardId;
use actors::topology_store::record::{Lifecycle, ProcessId, Rule};
use actors::topology_store::view::{View, Views};
use jiff::SignedDuration;

use crate::samples::{answer, at, id, pooler, pooler_item, real};

const ROOT: &str = "/multigres/zone1";

struct Shard {
    shard: ShardId,
    views: Views,
    pods: Vec<Pod>,
    heard: BTreeMap<ProcessId, Heard>,
    before: BTreeMap<Box<str>, Role>,
}

fn name(n: usize) -> String {
    format!("demo-a-{n}")
}

fn process(n: usize) -> ProcessId {
    ProcessId::new("zone1", &crds::name::service_id(&name(n)))
}

fn decision(term: i64, leader: usize) -> Decision {
    Decision {
        rule: Rule { term, subterm: 1 },
        leader: process(leader),
        cohort: (0..3).map(process).collect(),
        policy: Some(Policy::AtLeast(2)),
    }
}

fn health(n: usize, leader: usize, term: i64) -> Health {
    let leads = n == leader;
    Health {
        id: Some(process(n)),
        initialized: true,
        ready: true,
        postgres: if leads {
            Postgres::Primary
        } else {
            Postgres::Standby
        },
        primary_ready: leads,
        decision: Some(decision(term, leader)),
        revoked_below: term,
        eligible: true,
        streaming: !leads,
        ..Health::default()
    }
}

/// Three poolers, pod 0 leads under rule 4/1, everybody was heard just now.
fn shard() -> Shard {
    let mut view = View::new(ROOT);
    view.replace(
        9,
        (0..3).map(|n| pooler_item(ROOT, &record(n, n == 0, 4), 1)),
    );
    Shard {
        shard: ShardId::new("postgres", "default", "0-inf"),
        views: Views {
            global: View::new("/g"),
            cells: BTreeMap::from([("zone1".into(), Some(view))]),
        },
        pods: (0..3)
            .map(|n| Pod {
                name: name(n).into(),
                cell: "zone1".into(),
                says: None,
            })
            .collect(),
        heard: (0..3)
            .map(|n| {
                (
                    process(n),
                    Heard {
                        health: Rc::new(health(n, 0, 4)),
                        until: Some(at(115)),
                    },
                )
            })
            .collect(),
        before: BTreeMap::new(),
    }
}

fn record(n: usize, primary: bool, term: i64) -> wire::Multipooler {
    let mut record = pooler("zone1", &name(n));
    if primary {
        record.routing_state = Some(wire::RoutingState {
            role: wire::RoutingRole::Primary.into(),
            rule: Some(wire::RuleNumber {
                coordinator_term: term,
                leader_subterm: 1,
            }),
        });
    }
    record
}

impl Shard {
    fn view(&mut self) -> &mut View {
        self.views.cells.get_mut("zone1").unwrap().as_mut().unwrap()
    }

    fn put(&mut self, record: &wire::Multipooler, version: i64) {
        let item = pooler_item(ROOT, record, version);
        self.view().advance(version, [item]);
    }

    fn at(&self, second: i64) -> Members {
        let input = Input {
            namespace: "db",
            pods: &self.pods,
            records: &Records::of(&self.views, &self.shard),
            heard: &self.heard,
            before: &self.before,
        };
        members::resolve(&input, at(second))
    }
}

fn leader(members: &Members) -> Option<&str> {
    match &members.leader {
        Found::Known(pod) => Some(pod),
        _ => None,
    }
}

#[test]
fn a_healthy_shard() {
    let members = shard().at(101);
    assert_eq!(leader(&members), Some("demo-a-0"));
    assert!(members.writable && !members.undecided && members.findings.is_empty());
    assert_eq!(members.eligible, BTreeSet::from([process(1), process(2)]));
    assert_eq!(members.cohort().unwrap().margin(&members.eligible), 1);
    let roles: Vec<_> = members.roles.values().map(|role| role.word()).collect();
    assert_eq!(roles, ["PRIMARY", "REPLICA", "REPLICA"]);
    assert!(
        members
            .members
            .iter()
            .all(|member| member.serving && member.in_cohort)
    );
    assert_eq!(members.stale_at, Some(at(115)));
}

/// L-TOPO-05: the election shows at once, from the topology and the streams alone.
#[test]
fn the_first_election_needs_no_event_of_kubernetes() {
    let mut shard = shard();
    shard.heard.clear();
    shard.put(&record(0, false, 0), 10);
    assert_eq!(shard.at(101).leader, Found::Nobody);
    shard.put(&record(1, true, 5), 11);
    assert_eq!(leader(&shard.at(101)), Some("demo-a-1"));
}

/// The highest decided rule decides; an old leader that was cut off keeps its record and its belief.
#[test]
fn an_old_leader_that_does_not_know_is_no_leader() {
    let mut shard = shard();
    for n in 1..3 {
        shard.heard.get_mut(&process(n)).unwrap().health = Rc::new(health(n, 1, 5));
    }
    let members = shard.at(101);
    assert_eq!(leader(&members), Some("demo-a-1"));
    assert_eq!(members.roles["demo-a-0"], Role::Replica);
    assert!(members.writable);
    assert_eq!(members.decision.unwrap().rule.term, 5);
}

/// Two PRIMARY records: the higher rule wins, equal rules are a contradiction; reported either way.
#[test]
fn two_primary_records_are_reported_and_a_tie_names_nobody() {
    let mut shard = shard();
    shard.heard.clear();
    shard.put(&record(1, true, 5), 11);
    let members = shard.at(101);
    assert_eq!(leader(&members), Some("demo-a-1"));
    assert_eq!(members.findings.len(), 1);
    assert!(!members.writable, "nobody was heard");
    shard.put(&record(1, true, 4), 12);
    let members = shard.at(101);
    assert_eq!(members.leader, Found::Nobody);
    assert!(
        members.findings[0].starts_with("two records say PRIMARY"),
        "{:?}",
        members.findings
    );
}

#[test]
fn poolers_that_contradict_each_other_about_a_rule_make_no_leader() {
    let mut shard = shard();
    shard.heard.get_mut(&process(1)).unwrap().health = Rc::new(health(1, 1, 4));
    let members = shard.at(101);
    assert_eq!(members.decision, None);
    assert!(
        members.findings[0].contains("poolers disagree about rule 4/1"),
        "{:?}",
        members.findings
    );
    assert_eq!(members.cohort(), None, "nothing is judged safe");
}

/// L-TOPO-01, L-TOPO-03: three outcomes, and what a silent cell said before stays.
#[test]
fn silent_cells_keep_their_roles_and_leave_the_leader_unknown() {
    let mut shard = shard();
    shard.heard.clear();
    shard.before = BTreeMap::from([
        ("demo-a-0".into(), Role::Primary),
        ("demo-a-1".into(), Role::Replica),
        ("vanished-0".into(), Role::Replica),
    ]);
    *shard.view() = View::new(ROOT);
    let members = shard.at(101);
    assert_eq!(members.leader, Found::Unknown(vec!["zone1".into()]));
    assert_eq!(
        members.roles.len(),
        2,
        "pods that are gone are not kept: {:?}",
        members.roles
    );
    shard.view().replace(20, []);
    let members = shard.at(101);
    assert_eq!(members.leader, Found::Nobody);
    assert!(members.roles.is_empty());
}

#[test]
fn what_was_heard_too_long_ago_or_from_another_is_not_believed() {
    let shard = shard();
    let members = shard.at(115);
    assert!(!members.writable && members.eligible.is_empty() && members.decision.is_none());
    assert_eq!(
        leader(&members),
        Some("demo-a-0"),
        "the record still says so"
    );
    assert!(members.members.iter().all(|member| !member.serving));
    let mut shard = self::shard();
    Rc::make_mut(&mut shard.heard.get_mut(&process(1)).unwrap().health).id = Some(process(2));
    assert_eq!(shard.at(101).eligible, BTreeSet::from([process(2)]));
}

#[test]
fn only_members_that_can_be_recruited_are_counted() {
    type Change = fn(&mut Health);
    let changes: [(&str, Change); 4] = [
        ("ineligible", |health| health.eligible = false),
        ("not streaming", |health| health.streaming = false),
        ("blocked", |health| health.recruit_blocked = true),
        ("PostgreSQL not ready", |health| health.ready = false),
    ];
    for (name, change) in changes {
        let mut shard = shard();
        change(Rc::make_mut(
            &mut shard.heard.get_mut(&process(1)).unwrap().health,
        ));
        let members = shard.at(101);
        assert_eq!(members.eligible, BTreeSet::from([process(2)]), "{name}");
        assert_eq!(
            members.cohort().unwrap().margin(&members.eligible),
            0,
            "{name}"
        );
    }
}

#[test]
fn a_leader_that_cannot_take_writes_is_no_serving_primary() {
    type Change = fn(&mut Health);
    let changes: [(&str, Change); 5] = [
        ("PostgreSQL down", |health| health.ready = false),
        ("still promoting", |health| {
            health.postgres = Postgres::Promoting
        }),
        ("not yet ready", |health| health.primary_ready = false),
        ("resigning", |health| health.resigning = true),
        ("revoked", |health| health.revoked_below = 5),
    ];
    for (name, change) in changes {
        let mut shard = shard();
        change(Rc::make_mut(
            &mut shard.heard.get_mut(&process(0)).unwrap().health,
        ));
        let members = shard.at(101);
        assert!(!members.writable, "{name}");
        assert_eq!(members.undecided, name == "revoked", "{name}");
    }
}

#[test]
fn lifecycles_in_roles() {
    let mut shard = shard();
    for (n, status) in [(1, 4), (2, 5)] {
        let mut changed = record(n, false, 0);
        changed.lifecycle_status.as_mut().unwrap().status = status;
        shard.put(&changed, 20);
    }
    let members = shard.at(101);
    assert_eq!(members.roles.get("demo-a-1"), None, "it ended");
    assert_eq!(members.roles["demo-a-2"], Role::Quarantined);
    assert_eq!(members.members[2].lifecycle, Some(Lifecycle::Quarantined));
    assert!(!members.members[2].serving);
    let mut drained = record(1, false, 0);
    drained.r#type = wire::PoolerType::Drained.into();
    shard.put(&drained, 21);
    assert_eq!(shard.at(101).roles["demo-a-1"], Role::Drained);
    for role in [
        Role::Primary,
        Role::Replica,
        Role::Quarantined,
        Role::Drained,
    ] {
        assert_eq!(Role::parse(role.word()), Some(role));
    }
    assert_eq!(Role::parse("primary"), None);
}

/// The real switchover, record by record: at no step are there two primaries, and the last word is the new one's.
#[test]
fn the_real_switchover_step_by_step() {
    const GLOBAL: &str = "/multigres/global";
    let mut views = Views {
        global: View::new(GLOBAL),
        cells: BTreeMap::from([("zone-a".into(), None)]),
    };
    views.global.replace(1, []);
    let shard = ShardId::new("postgres", "default", "0-inf");
    let pods: Vec<Pod> = (0..3)
        .map(|n| Pod {
            name: format!("ha-postgres-default-0-inf-pool-main-zone-a-6904f14d-{n}").into(),
            cell: "zone-a".into(),
            says: None,
        })
        .collect();
    let mut leaders = Vec::new();
    for sample in real() {
        let item = crate::samples::item(
            &sample.key,
            &crate::samples::bytes(&sample.hex),
            sample.mod_revision,
        );
        views.global.advance(sample.mod_revision, [item]);
        let input = Input {
            namespace: "default",
            pods: &pods,
            records: &Records::of(&views, &shard),
            heard: &BTreeMap::new(),
            before: &BTreeMap::new(),
        };
        let members = members::resolve(&input, at(0));
        let primaries = members
            .roles
            .values()
            .filter(|role| **role == Role::Primary)
            .count();
        assert!(
            primaries <= 1,
            "revision {}: {members:?}",
            sample.mod_revision
        );
        if let Some(leader) = leader(&members)
            && leaders.last().map(String::as_str) != Some(leader)
        {
            leaders.push(leader.to_owned());
        }
    }
    assert_eq!(views.global.garbage().count(), 0);
    let ordinals: Vec<_> = leaders.iter().map(|pod| &pod[pod.len() - 1..]).collect();
    assert_eq!(ordinals, ["1", "0"]);
}

#[test]
fn an_empty_answer_says_nothing_good() {
    let health = pooler_health::health(&manager::StatusResponse::default());
    assert_eq!(
        health,
        Health {
            eligible: true,
            ..Health::default()
        }
    );
    assert!(!health.ready && !health.streaming && health.decision.is_none());
}

#[test]
fn a_resignation_counts_for_its_own_term_only() {
    let answer = |leader_term| {
        let rule = wire::ShardRule {
            rule_number: Some(wire::RuleNumber {
                coordinator_term: 9,
                leader_subterm: 2,
            }),
            leader_id: Some(id("zone1", "a")),
            ..Default::default()
        };
        let answer = manager::StatusResponse {
            availability_status: Some(wire::AvailabilityStatus {
                leadership_status: Some(wire::LeadershipStatus {
                    leader_term,
                    signal: 2,
                }),
                ..Default::default()
            }),
            consensus_status: Some(wire::ConsensusStatus {
                current_position: Some(wire::PoolerPosition {
                    position: Some(wire::RulePosition {
                        decision: Some(rule),
                        proposal: None,
                    }),
                    lsn: String::new(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        pooler_health::health(&answer).resigning
    };
    assert!(answer(9));
    assert!(!answer(8), "it resigned from an earlier term");
}

#[test]
fn wal_positions() {
    assert_eq!(pooler_health::lsn("0/D0F3F40"), Some(0xD0F_3F40));
    assert_eq!(pooler_health::lsn("A/1"), Some((0xA << 32) + 1));
    for text in ["", "0", "0/", "/1", "0/G", "0/1/2"] {
        assert_eq!(pooler_health::lsn(text), None, "{text:?}");
    }
    assert!(members::FRESH == SignedDuration::from_secs(15));
}

/// What real poolers answered: leader and followers, their rule, and that nothing of it is lost on the way to a decision.
#[test]
fn real_answers_of_a_settled_shard() {
    let who = |name: &str| ProcessId::new("zone-a", name);
    let leader = pooler_health::health(&answer("Status of the leader"));
    assert_eq!(leader.id, Some(who("p-18cef458")));
    assert!(leader.ready && leader.primary_ready && leader.initialized && leader.eligible);
    assert_eq!(leader.postgres, Postgres::Primary);
    assert_eq!(leader.position, pooler_health::lsn("0/D0F4968"));
    assert_eq!(leader.revoked_below, 9);
    assert!(
        !leader.resigning
            && !leader.streaming
            && !leader.recruit_blocked
            && leader.proposal.is_none()
    );
    let decision = leader.decision.unwrap();
    assert_eq!(
        decision.rule,
        Rule {
            term: 9,
            subterm: 2
        }
    );
    assert_eq!(
        (decision.leader, decision.policy),
        (who("p-18cef458"), Some(Policy::AtLeast(2)))
    );
    assert_eq!(
        decision.cohort,
        ["p-18cef458", "p-3ed16ec1", "p-8ad66393"].map(who).into()
    );
    for (what, name, position) in [
        ("Status of the replica 0", "p-3ed16ec1", "0/D0F3F40"),
        ("Status of the replica 2", "p-8ad66393", "0/D0F4BA8"),
    ] {
        let replica = pooler_health::health(&answer(what));
        assert_eq!(
            (replica.id, replica.position),
            (Some(who(name)), pooler_health::lsn(position))
        );
        assert!(
            replica.streaming && replica.ready && replica.eligible,
            "{what}"
        );
        assert_eq!(replica.postgres, Postgres::Standby);
        assert_eq!(replica.decision.unwrap().rule.term, 9);
    }
    let Known::Newest(newest) = backup::newest(
        &answer("GetBackups"),
        &ShardId::new("postgres", "default", "0-inf"),
    ) else {
        panic!("no backup");
    };
    assert_eq!((&*newest.id, &*newest.kind), ("20261123-015632F", "full"));
    assert_eq!(newest.ended.to_string(), "2026-11-23T01:56:34Z");
    let seen: ShardStatusResponse = answer("GetShardStatus right after ResignLeadership");
    assert_eq!(seen.problems[0].code, "LeaderResigned");
    assert_eq!(seen.pooler_healths.len(), 3);
}
