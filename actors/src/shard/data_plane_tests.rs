//! A Shard whose poolers and topology are in sight: status, labels, budgets, poolers set aside. Those that gave up: `quarantine_tests`.

use std::collections::BTreeMap;
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::backup::{Backup, Known};
use super::data_plane::PROMOTION;
use super::decide::{State, decide};
use super::pooler_health::{Decision, Health, Postgres};
use super::quorum::Policy;
use crate::action::Action;
use crate::effects::dataplane::Call;
use crate::effects::links::{Poolers, Seen};
use crate::fixtures::{Bed, NAMESPACE, merge};
use crate::labels;
use crate::object::{Key, Kind};
use crate::topology::known::{self as topology, Records};
use crate::topology_store::key::ShardId;
use crate::topology_store::record::{Lifecycle, Pooler, ProcessId, Routing, Rule};

/// A Shard of three poolers, the first of which leads. Everything is Ready and was made long ago.
pub(super) struct Shard {
    pub(super) bed: Bed,
    pub(super) pods: Vec<String>,
}

pub(super) fn id(pod: &str) -> ProcessId {
    ProcessId::new("a", &crds::name::service_id(pod))
}

fn place() -> ShardId {
    ShardId::new("postgres", "default", "0-inf")
}

impl Shard {
    pub(super) fn new() -> Self {
        let mut bed = Bed::new();
        bed.shard["spec"]["pools"]["default"]["replicasPerCell"] = 3.into();
        bed.poolers = Some(Poolers::default());
        let records = Records {
            backup_runs: Some(false),
            ..Records::default()
        };
        bed.topology = Some(Rc::new(topology::Known {
            cells: ["a".into()].into(),
            shards: BTreeMap::from([(place(), Rc::new(records))]),
            ..topology::Known::default()
        }));
        bed.settle();
        let mut shard = Self {
            pods: names(&bed, Kind::Pod),
            bed,
        };
        shard.start_all();
        let cohort = shard.pods.clone();
        shard.elect(0, &cohort, 1);
        shard.tell_backup(shard.bed.now);
        shard.bed.settle();
        assert_eq!(shard.status()["phase"], "Healthy", "{}", shard.status());
        shard
    }

    /// What runs becomes Ready.
    pub(super) fn start_all(&mut self) {
        let ready = json!({
            "metadata": {"creationTimestamp": "2026-11-23T00:00:00Z"},
            "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (key, body) in &mut self.bed.objects {
            match key.kind {
                Kind::Pod => merge(body, &ready),
                Kind::Deployment => merge(
                    body,
                    &json!({
                        "metadata": {"generation": 1},
                        "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1},
                    }),
                ),
                _ => {}
            }
        }
    }

    /// All pods say, and are on record, that the pod of this number leads this cohort.
    pub(super) fn elect(&mut self, leader: usize, cohort: &[String], term: i64) {
        for pod in self.pods.clone() {
            self.say(&pod, leader, cohort, term, |_| {});
            self.record(&pod, |_| {});
        }
    }

    pub(super) fn say(
        &mut self,
        pod: &str,
        leader: usize,
        cohort: &[String],
        term: i64,
        change: impl FnOnce(&mut Health),
    ) {
        let leads = self.pods[leader] == pod;
        let mut health = Health {
            id: Some(id(pod)),
            initialized: true,
            ready: true,
            postgres: if leads {
                Postgres::Primary
            } else {
                Postgres::Standby
            },
            primary_ready: leads,
            decision: Some(Decision {
                rule: Rule { term, subterm: 1 },
                leader: id(&self.pods[leader]),
                cohort: cohort.iter().map(|pod| id(pod)).collect(),
                policy: Some(Policy::AtLeast(2)),
            }),
            revoked_below: term,
            eligible: true,
            streaming: !leads,
            ..Health::default()
        };
        change(&mut health);
        let seen = Seen {
            said: Some((Rc::new(health), None)),
            ..Seen::default()
        };
        self.poolers().pods.insert(pod.into(), seen);
    }

    pub(super) fn poolers(&mut self) -> &mut Poolers {
        self.bed.poolers.as_mut().unwrap()
    }

    pub(super) fn records(&mut self) -> &mut Records {
        let known = Rc::make_mut(self.bed.topology.as_mut().unwrap());
        Rc::make_mut(known.shards.get_mut(&place()).unwrap())
    }

    pub(super) fn record(&mut self, pod: &str, change: impl FnOnce(&mut Pooler)) {
        let mut record = Pooler {
            id: id(pod),
            shard: place(),
            hostname: format!("{pod}.headless.{NAMESPACE}.svc").into(),
            lifecycle: Lifecycle::Active,
            reason: "".into(),
            updated: Some(self.bed.now),
            serving: true,
            routing: Routing::Replica,
            rule: None,
            drained: false,
        };
        change(&mut record);
        let all = &mut self.records().poolers;
        all.retain(|(_, other)| other.id != record.id);
        all.push(("a".into(), record));
    }

    /// The pooler of this number gives up for good.
    pub(super) fn quarantine(&mut self, number: usize) {
        let pod = self.pods[number].clone();
        let cohort = self.pods.clone();
        self.record(&pod, |record| {
            record.lifecycle = Lifecycle::Quarantined;
            record.reason = "no\nrestore".into();
        });
        self.say(&pod, 0, &cohort, 1, |health| {
            health.ready = false;
            health.eligible = false;
            health.streaming = false;
        });
    }

    pub(super) fn tell_backup(&mut self, ended: Timestamp) {
        let now = self.bed.now;
        let backup = Backup {
            ended,
            id: "20261124-000000F".into(),
            kind: "full".into(),
        };
        self.poolers().backups = Some((Known::Newest(backup), now));
    }

    pub(super) fn status(&self) -> &Value {
        &self.bed.shard["status"]
    }

    pub(super) fn reason(&self, kind: &str) -> String {
        let condition = self.bed.condition(kind).unwrap_or_default();
        condition["reason"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn deleted(&self) -> Vec<Key> {
        let decision = self.bed.pool_decides("default", "a");
        let deleted = decision
            .actions
            .into_iter()
            .filter_map(|planned| match planned.action {
                Action::Delete { key, .. } => Some(key),
                _ => None,
            });
        deleted.collect()
    }

    /// The ShardActor alone decides, and its status is written. Reasons of the events that go with it.
    pub(super) fn shard_acts(&mut self) -> Vec<String> {
        let decision = self.bed.shard_decides();
        let mut told = Vec::new();
        for planned in decision.actions {
            if let Action::Status { events, .. } = &planned.action {
                told.extend(events.iter().map(|event| event.reason.clone()));
                self.bed.perform(&planned.action);
            }
        }
        told
    }

    pub(super) fn wake(&self) -> Option<Timestamp> {
        self.bed.shard_decides().wake
    }

    pub(super) fn label(&self, number: usize) -> &Value {
        let key = Key::new(Kind::Pod, NAMESPACE, &self.pods[number]);
        &self.bed.objects[&key]["metadata"]["labels"][labels::ROLE]
    }
}

fn names(bed: &Bed, kind: Kind) -> Vec<String> {
    bed.names(kind)
        .into_iter()
        .map(|key| key.name.to_string())
        .collect()
}

// ---- status ----

/// L-STAT-04: Available means that a primary serves, Healthy that nothing is missing; the table of what may be missing.
#[test]
fn what_is_missing_has_a_name() {
    type Change = fn(&mut Shard);
    let table: &[(&str, Change, [&str; 3])] = &[
        ("nothing", |_| {}, ["Healthy", "True", "PrimaryServing"]),
        (
            "nobody answers",
            |shard| shard.poolers().pods.clear(),
            ["Progressing", "False", "NoPrimary"],
        ),
        (
            "nobody was initialised",
            |shard| {
                for pod in shard.pods.clone() {
                    shard.say(&pod, 0, &[], 0, |health| health.decision = None);
                }
            },
            ["Progressing", "False", "NoPrimary"],
        ),
        (
            "the leader's PostgreSQL is down",
            |shard| {
                let (pod, cohort) = (shard.pods[0].clone(), shard.pods.clone());
                shard.say(&pod, 0, &cohort, 1, |health| health.ready = false);
            },
            ["Degraded", "False", "PoolerNotServing"],
        ),
        (
            "a failover is under way",
            |shard| {
                let (pod, cohort) = (shard.pods[0].clone(), shard.pods.clone());
                shard.say(&pod, 0, &cohort, 1, |health| {
                    health.ready = false;
                    health.revoked_below = 2;
                });
            },
            ["Progressing", "False", "PoolerNotServing"],
        ),
        (
            "the leader's pod is gone",
            |shard| {
                let pod = Key::new(Kind::Pod, NAMESPACE, &shard.pods[0]);
                shard.bed.objects.remove(&pod);
                shard.poolers().pods.remove(&*pod.name);
            },
            ["Progressing", "False", "NoPrimary"],
        ),
        (
            "one replica does not stream",
            |shard| {
                let (pod, cohort) = (shard.pods[2].clone(), shard.pods.clone());
                shard.say(&pod, 0, &cohort, 1, |health| health.streaming = false);
            },
            ["Progressing", "True", "PrimaryServing"],
        ),
        (
            "two replicas do not stream",
            |shard| {
                let cohort = shard.pods.clone();
                for pod in &cohort[1..] {
                    shard.say(pod, 0, &cohort, 1, |health| health.streaming = false);
                }
            },
            ["Progressing", "True", "QuorumAtRisk"],
        ),
        (
            "one replica is not in the cohort",
            |shard| {
                let cohort = shard.pods[..2].to_vec();
                shard.elect(0, &cohort, 2);
            },
            ["Progressing", "True", "PrimaryServing"],
        ),
        (
            "a policy that we do not know",
            |shard| {
                let cohort = shard.pods.clone();
                for pod in &cohort {
                    shard.say(pod, 0, &cohort, 1, |health| {
                        health.decision.as_mut().unwrap().policy = None;
                    });
                }
            },
            ["Progressing", "True", "QuorumAtRisk"],
        ),
    ];
    for (what, change, [phase, available, reason]) in table {
        let mut shard = Shard::new();
        change(&mut shard);
        shard.shard_acts();
        let condition = shard.bed.condition("Available").unwrap();
        let found = [
            &shard.status()["phase"],
            &condition["status"],
            &condition["reason"],
        ];
        assert_eq!(
            found,
            [phase, available, reason],
            "{what}: {}",
            shard.status()
        );
    }
}

/// L-STAT-01 and L-STAT-03: with everything in sight, the same snapshot again writes nothing, and pools write no status.
#[test]
fn a_settled_shard_has_nothing_to_say() {
    let mut shard = Shard::new();
    assert_eq!(shard.bed.settle(), 0);
    let decision = shard.bed.pool_decides("default", "a");
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert!(
        shard.bed.shard_decides().calls.is_empty(),
        "L-CACHE-04: no question without a reason"
    );
}

/// Until a shard has its first primary, its pods are not labelled and its status says one thing: steps of a bring-up that nobody
/// acts on cost no writes.
#[test]
fn a_shard_without_a_first_primary_writes_little() {
    let mut shard = Shard::new();
    let pods = shard.pods.clone();
    for pod in &pods {
        let key = Key::new(Kind::Pod, NAMESPACE, pod);
        let labels = &mut shard.bed.objects.get_mut(&key).unwrap()["metadata"]["labels"];
        labels.as_object_mut().unwrap().remove(labels::ROLE);
        shard.say(pod, 0, &[], 0, |health| health.decision = None);
        shard.record(pod, |record| record.routing = Routing::Replica);
    }
    for field in ["members", "podRoles"] {
        let status = shard.bed.shard["status"].as_object_mut().unwrap();
        status.remove(field);
    }
    shard.bed.settle();
    let roles = shard.status()["podRoles"].as_object().unwrap();
    assert!(roles.values().all(|role| role == "REPLICA"), "{roles:?}");
    assert_eq!(roles.len(), 3);
    assert!((0..3).all(|number| shard.label(number).is_null()));
    let text = shard.bed.condition("Available").unwrap()["message"].clone();
    // The first election is no failover.
    for pod in &pods {
        shard.say(pod, 0, &[], 0, |health| {
            health.decision = None;
            health.revoked_below = 2;
        });
    }
    assert!(shard.bed.shard_decides().actions.is_empty(), "{text}");
    shard.elect(0, &pods, 1);
    shard.bed.settle();
    let labels: Vec<&Value> = (0..3).map(|number| shard.label(number)).collect();
    assert_eq!(labels, ["PRIMARY", "REPLICA", "REPLICA"]);
    // Somebody who was labelled once follows at once, primary or not.
    shard.poolers().pods.clear();
    shard.records().poolers.clear();
    shard.bed.settle();
    assert_eq!(shard.label(0), "PRIMARY", "nothing is known of anybody");
}

/// Pods that have not spoken are no members yet.
#[test]
fn members_are_told_with_the_first_word_of_one() {
    let mut shard = Shard::new();
    shard.poolers().pods.clear();
    shard.records().poolers.clear();
    let status = shard.bed.shard["status"].as_object_mut().unwrap();
    status.remove("members");
    status.remove("podRoles");
    shard.bed.settle();
    assert!(shard.status()["members"].is_null());
    let pod = shard.pods[2].clone();
    shard.record(&pod, |_| {});
    shard.bed.settle();
    assert_eq!(shard.status()["members"].as_array().unwrap().len(), 3);
}

/// Without links nothing is claimed of what runs in the pods, and what was told of them stays.
#[test]
fn an_operator_without_links_says_what_it_said_before() {
    let mut shard = Shard::new();
    let before = shard.status().clone();
    shard.bed.poolers = None;
    shard.shard_acts();
    let now = shard.status();
    assert_eq!(now["phase"], "Healthy");
    assert_eq!(now["message"], "all wanted pods are Ready");
    assert_eq!(shard.reason("Available"), "AllPodsReady");
    for kept in ["members", "podRoles", "lastBackupTime", "lastBackupType"] {
        assert_eq!(now[kept], before[kept], "{kept}");
    }
}

/// The API server refuses what it makes of a map that an apply empties.
#[test]
fn the_last_role_goes_with_its_map() {
    let mut shard = Shard::new();
    let cohort = shard.pods.clone();
    for pod in &cohort {
        shard.record(pod, |record| record.lifecycle = Lifecycle::Shutdown);
    }
    shard.shard_acts();
    assert_eq!(shard.status().get("podRoles"), None, "{}", shard.status());
    assert_eq!(shard.status()["members"][0]["lifecycle"], "Shutdown");
}

/// The topology goes out of sight: the streams still tell who leads, and what only records tell stays as it was told.
#[test]
fn a_topology_out_of_sight_takes_nothing_away() {
    let mut shard = Shard::new();
    let before = shard.status().clone();
    shard.records().silent = vec!["a".into()];
    assert!(shard.shard_acts().is_empty());
    assert_eq!(
        shard.status(),
        &before,
        "records that were read are still known"
    );
    Rc::make_mut(shard.bed.topology.as_mut().unwrap())
        .shards
        .clear();
    shard.shard_acts();
    assert_eq!(shard.status(), &before, "a new process has read none");
    let cohort = shard.pods.clone();
    for pod in &cohort {
        shard.say(pod, 1, &cohort, 2, |_| {});
    }
    shard.bed.settle();
    assert_eq!(shard.status()["podRoles"][&cohort[1]], "PRIMARY");
    assert_eq!(shard.status()["members"][0]["lifecycle"], "Active");
    assert_eq!([shard.label(0), shard.label(1)], ["REPLICA", "PRIMARY"]);
}

/// A status is not written for a process that has only just begun to listen (L-STAT-02: an old answer is no answer).
#[test]
fn before_the_poolers_have_spoken_nothing_is_said_of_them() {
    let mut shard = Shard::new();
    let before = shard.status().clone();
    for seen in shard.poolers().pods.values_mut() {
        *seen = Seen {
            pending: true,
            ..Seen::default()
        };
    }
    assert!(shard.shard_acts().is_empty());
    assert_eq!(shard.status(), &before);
}

/// A primary that has not served yet is being promoted: a fault only once that takes too long. One that served and stops is
/// one at once (`what_is_missing_has_a_name`).
#[test]
fn a_promotion_is_no_fault_until_it_takes_too_long() {
    let mut shard = Shard::new();
    let (pod, cohort) = (shard.pods[1].clone(), shard.pods.clone());
    shard.elect(1, &cohort, 2);
    shard.say(&pod, 1, &cohort, 2, |health| {
        health.ready = false;
        health.primary_ready = false;
    });
    let mut state = State::default();
    let mut acts = |shard: &mut Shard| {
        let decision = decide(&shard.bed.observed(), &state, shard.bed.now);
        state = decision.state;
        for planned in &decision.actions {
            shard.bed.perform(&planned.action);
        }
        let phase = shard.status()["phase"].clone();
        (phase, shard.reason("Available"), decision.wake)
    };
    let late = shard.bed.now + PROMOTION;
    let (phase, reason, wake) = acts(&mut shard);
    assert_eq!(
        (&phase, &*reason),
        (&json!("Progressing"), "PoolerNotServing")
    );
    assert!(wake.is_some_and(|at| at <= late), "{wake:?}");
    shard.bed.now = late;
    assert_eq!(acts(&mut shard).0, "Degraded");
    assert_eq!(acts(&mut shard).0, "Degraded", "told, it stays so");
    shard.elect(1, &cohort, 2);
    assert_eq!(acts(&mut shard).0, "Healthy");
}

// ---- budgets ----

/// One replica may be evicted while the margin allows it and the labels that the budget counts by are true.
#[test]
fn the_budget_of_replicas_follows_the_margin() {
    let budget = |shard: &Shard| {
        let budgets = shard.bed.objects.values();
        let found = budgets.filter(|body| body["kind"] == "PodDisruptionBudget");
        let mut found = found.filter(|body| body.to_string().contains("NotIn"));
        found.next().unwrap()["spec"]["minAvailable"].clone()
    };
    let mut shard = Shard::new();
    assert_eq!(budget(&shard), 1, "two replicas, of which one may go");
    let (pod, cohort) = (shard.pods[1].clone(), shard.pods.clone());
    shard.say(&pod, 0, &cohort, 1, |health| health.eligible = false);
    shard.bed.settle();
    assert_eq!(budget(&shard), 3, "no margin");
    shard.say(&pod, 0, &cohort, 1, |_| {});
    shard.bed.settle();
    assert_eq!(budget(&shard), 1);
    shard.bed.shard["status"]["disruption"] = json!({
        "pod": pod, "podUID": "x", "reason": "Drift", "id": "x", "state": "requested", "since": "2026-11-24T00:00:00Z",
    });
    shard.bed.settle();
    assert_eq!(budget(&shard), 3, "somebody is being taken away");
}

// ---- backups ----

#[test]
fn who_is_asked_for_backups() {
    let mut shard = Shard::new();
    shard.poolers().backups = None;
    let asked = |shard: &Shard| shard.bed.shard_decides().calls;
    assert_eq!(
        asked(&shard),
        [(shard.pods[1].as_str().into(), Call::GetBackups)]
    );
    shard.poolers().under_way = ["GetBackups"].into();
    assert!(asked(&shard).is_empty());
    shard.poolers().under_way.clear();
    shard.bed.shard["spec"]
        .as_object_mut()
        .unwrap()
        .remove("backup");
    assert!(asked(&shard).is_empty(), "it makes none");
}

// ---- set aside ----

/// L-SCALE-06, `lifecycle.md` 8.1: a pooler that is set aside is kept, another one stands in, and the stand-in is in surplus once
/// it is not needed.
#[test]
fn a_pooler_that_is_set_aside_is_kept_and_another_one_stands_in() {
    let mut shard = Shard::new();
    let aside = shard.pods[1].clone();
    shard.record(&aside, |record| record.drained = true);
    assert!(shard.shard_acts().contains(&"PodDrained".to_owned()));
    shard.bed.settle();
    assert_eq!(shard.label(1), "DRAINED");
    let pods = names(&shard.bed, Kind::Pod);
    assert_eq!(pods.len(), 4, "{pods:?}");
    assert_eq!(shard.status()["phase"], "Progressing");
    shard.pods = pods;
    shard.start_all();
    let mut cohort = shard.pods.clone();
    cohort.remove(1);
    shard.elect(0, &cohort, 2);
    shard.record(&aside, |record| record.drained = true);
    let (set, cohort_now) = (aside.clone(), cohort.clone());
    shard.say(&set, 0, &cohort_now, 2, |health| health.streaming = false);
    shard.bed.settle();
    assert_eq!(
        shard.status()["phase"],
        "Healthy",
        "nobody waits for it: {}",
        shard.status()
    );
    assert_eq!(shard.status()["podRoles"][&aside], "DRAINED");
    assert_eq!(shard.status()["readyReplicas"], 3);
    let wants = |shard: &Shard| shard.bed.pool_decides("default", "a").wants;
    assert!(wants(&shard).is_empty(), "{:?}", wants(&shard));
    assert!(shard.deleted().is_empty());
    // Its administrator is done with it.
    shard.record(&aside, |_| {});
    assert!(shard.shard_acts().contains(&"PodRecovered".to_owned()));
    shard.bed.settle();
    let wants = wants(&shard);
    assert_eq!(wants.len(), 1);
    assert_eq!(*wants[0].pod, *shard.pods[3]);
}
