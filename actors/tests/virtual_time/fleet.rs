//! What stands in for the data plane at the effect's boundary: it says what a test lets it say, and notes what it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::effects::dataplane::{Answer, Call, Event, Failure, Report, Source, Target};
use actors::operator::{Connection, Dialer};
use actors::proto::multipoolermanagerdata as manager;
use actors::shard::pooler_health::{Decision, Health, Postgres};
use actors::shard::quorum::Policy;
use actors::topology_store::record::{ProcessId, Rule};
use tokio::sync::mpsc;
use tonic::Code;

/// How long a connection to a process that does not answer takes to fail.
pub const GIVEN_UP: Duration = Duration::from_secs(7);

/// A data plane without processes.
#[derive(Clone, Default)]
pub struct Fleet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Open connections by peer (`namespace/pod`).
    open: BTreeMap<String, Opened>,
    /// What each pod says: as soon as it is listened to, and on each change.
    words: BTreeMap<String, Health>,
    /// Pods that are connected to and never answer.
    hanging: BTreeSet<String>,
    /// Pods that hang in calls, though they stream.
    busy: BTreeSet<String>,
    backups: Vec<manager::BackupMetadata>,
    calls: Vec<(String, &'static str)>,
    dialled: Vec<(String, bool, bool)>,
}

struct Opened {
    source: Source,
    reports: mpsc::Sender<Report>,
}

struct Line {
    fleet: Fleet,
    source: Source,
    reports: mpsc::Sender<Report>,
}

impl Dialer for Fleet {
    fn open(
        &self,
        source: Source,
        target: &Target,
        health: bool,
        reports: mpsc::Sender<Report>,
    ) -> Result<Box<dyn Connection>, String> {
        let peer = source.peer.to_string();
        let mut state = self.0.lock().unwrap();
        let secure = target.tls.is_some();
        state.dialled.push((peer.clone(), health, secure));
        if health {
            let opened = Opened {
                source: source.clone(),
                reports: reports.clone(),
            };
            state.open.insert(peer.clone(), opened);
            drop(state);
            self.speak(&peer);
            let (fleet, own) = (self.clone(), source.clone());
            tokio::runtime::Handle::current().spawn(async move { fleet.repeat(own).await });
        }
        Ok(Box::new(Line {
            fleet: self.clone(),
            source,
            reports,
        }))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.fleet.0.lock().unwrap();
        let peer = &*self.source.peer;
        if state
            .open
            .get(peer)
            .is_some_and(|open| open.source == self.source)
        {
            state.open.remove(peer);
        }
    }
}

impl Connection for Line {
    fn call(&mut self, number: u64, call: Call) {
        let peer = self.source.peer.to_string();
        let method = call.method();
        let mut state = self.fleet.0.lock().unwrap();
        state.calls.push((peer.clone(), method));
        let busy = state.busy.contains(&peer);
        let answer = Answer::Backups(manager::GetBackupsResponse {
            backups: state.backups.clone(),
        });
        let report = Report {
            source: self.source.clone(),
            event: Event::Answered {
                call: number,
                method,
                result: if busy { Err(silent()) } else { Ok(answer) },
                latency: Duration::from_millis(1),
            },
        };
        let wait = if busy {
            call.deadline()
        } else {
            Duration::from_millis(1)
        };
        later(wait, self.reports.clone(), report);
    }
}

fn silent() -> Failure {
    Failure {
        code: Code::DeadlineExceeded,
        message: "no answer".to_owned(),
    }
}

fn later(wait: Duration, reports: mpsc::Sender<Report>, report: Report) {
    tokio::runtime::Handle::current().spawn(async move {
        tokio::time::sleep(wait).await;
        let _ = reports.send(report).await;
    });
}

fn peer(pod: &str) -> String {
    format!("{}/{pod}", crate::shapes::NAMESPACE)
}

/// The pooler of a pod.
pub fn id(pod: &str) -> ProcessId {
    ProcessId::new("zone-a", pod)
}

/// What a pooler says in a settled shard of these pods: the first leads, two copies of each commit.
pub fn settled(pods: &[&str], leader: &str, term: i64, of: &str) -> Health {
    let leads = leader == of;
    Health {
        id: Some(id(of)),
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
            leader: id(leader),
            cohort: pods.iter().map(|pod| id(pod)).collect(),
            policy: Some(Policy::AtLeast(2)),
        }),
        revoked_below: term,
        eligible: true,
        streaming: !leads,
        position: Some(1000),
        ..Health::default()
    }
}

impl Fleet {
    /// A pod says this, now and to whoever listens later.
    pub fn say(&self, pod: &str, health: Health) {
        let peer = peer(pod);
        self.0.lock().unwrap().words.insert(peer.clone(), health);
        self.speak(&peer);
    }

    /// The pods form a shard.
    pub fn form(&self, pods: &[&str], leader: &str, term: i64) {
        for pod in pods {
            self.say(pod, settled(pods, leader, term, pod));
        }
    }

    /// A pod's stream breaks, and it is not heard any more.
    pub fn silence(&self, pod: &str) {
        let peer = peer(pod);
        let mut state = self.0.lock().unwrap();
        state.hanging.insert(peer.clone());
        if let Some(open) = state.open.get(&peer) {
            let report = Report {
                source: open.source.clone(),
                event: Event::Lost(silent()),
            };
            later(Duration::ZERO, open.reports.clone(), report);
        }
    }

    /// A pod that was silent speaks again.
    pub fn awake(&self, pod: &str) {
        let peer = peer(pod);
        self.0.lock().unwrap().hanging.remove(&peer);
        self.speak(&peer);
    }

    /// A pod does not answer calls.
    pub fn keep_busy(&self, pod: &str) {
        self.0.lock().unwrap().busy.insert(peer(pod));
    }

    /// What every pod lists when it is asked for backups.
    pub fn backups(&self, backups: Vec<manager::BackupMetadata>) {
        self.0.lock().unwrap().backups = backups;
    }

    /// Calls so far: peer and method.
    pub fn calls(&self) -> Vec<(String, &'static str)> {
        self.0.lock().unwrap().calls.clone()
    }

    /// Connections so far: peer, followed, with TLS.
    pub fn dialled(&self) -> Vec<(String, bool, bool)> {
        self.0.lock().unwrap().dialled.clone()
    }

    /// Streams that are open now.
    pub fn open(&self) -> usize {
        self.0.lock().unwrap().open.len()
    }

    /// Poolers repeat what they say.
    async fn repeat(&self, source: Source) {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let peer = &*source.peer;
            let silent = {
                let state = self.0.lock().unwrap();
                if state
                    .open
                    .get(peer)
                    .is_none_or(|open| open.source != source)
                {
                    return;
                }
                state.hanging.contains(peer) || !state.words.contains_key(peer)
            };
            if !silent {
                self.speak(peer);
            }
        }
    }

    fn speak(&self, peer: &str) {
        let state = self.0.lock().unwrap();
        let Some(open) = state.open.get(peer) else {
            return;
        };
        let event = match state.words.get(peer) {
            _ if state.hanging.contains(peer) => Event::Lost(silent()),
            Some(health) => Event::Health(Box::new(health.clone())),
            None => Event::Lost(Failure {
                code: Code::Unavailable,
                message: "connection refused".to_owned(),
            }),
        };
        let wait = if state.hanging.contains(peer) {
            GIVEN_UP
        } else {
            Duration::from_millis(1)
        };
        let report = Report {
            source: open.source.clone(),
            event,
        };
        later(wait, open.reports.clone(), report);
    }
}
