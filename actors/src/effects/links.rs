//! The links to pods of the data plane: opened and closed as pods come and go ([`crate::links::wanted`]), kept by pod, with what
//! was heard last. Lives on the actors' thread; connections live on the I/O threads and report through a channel.
//!
//! A pod that hangs costs a link here and a task there, never a worker. What changes nothing that decisions look at (WAL
//! positions, repeated snapshots) wakes nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime;
use tokio::sync::mpsc;

mod view;

use super::dataplane::{Answer, Call, Event, Failure, Link, Report, Source, Target, Tls};
use super::kubernetes::Kubernetes;
use super::secret::{self, Unread};
use crate::links::{Component, Wanted};
use crate::object::Key;
use crate::room::ActorId;
use crate::shard::backup;
use crate::shard::pooler_health::Health;
use crate::supervisor::Inflow;
use crate::topology_store::peer::{Outcome, Peer};

/// Reports that may wait for the actors' thread; a full channel slows the streams down.
const REPORTS: usize = 1024;

/// Opens connections: to pods, or to what a test puts in their place.
pub trait Dialer: Send + Sync + 'static {
    /// Begins to observe a process; with `health` a health stream is kept open. What happens is told through `reports`.
    ///
    /// # Errors
    /// Unusable TLS material, in words.
    fn open(
        &self,
        source: Source,
        target: &Target,
        health: bool,
        reports: mpsc::Sender<Report>,
    ) -> Result<Box<dyn Connection>, String>;
}

/// A process under observation. Dropping it ends the observation.
pub trait Connection {
    /// Makes a call; its answer is an [`Event::Answered`] with this number.
    fn call(&mut self, number: u64, call: Call);
}

impl Connection for Link {
    fn call(&mut self, number: u64, call: Call) {
        Link::call(self, number, call);
    }
}

/// gRPC on these threads.
#[derive(Clone, Debug)]
pub struct Grpc(pub runtime::Handle);

impl Dialer for Grpc {
    fn open(
        &self,
        source: Source,
        target: &Target,
        health: bool,
        reports: mpsc::Sender<Report>,
    ) -> Result<Box<dyn Connection>, String> {
        let link = Link::open(&self.0, source, target, health, reports)?;
        Ok(Box::new(link))
    }
}

/// What a ShardActor sees of one of its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Nothing came of the link yet, neither word nor failure: what was known before may still be true.
    pub pending: bool,
    /// What it said last, if ever; with the instant until which that is believed, `None` while its stream is open.
    pub said: Option<(Rc<Health>, Option<Timestamp>)>,
    /// Failures of calls in a row. A pod that answers on its stream may still hang in a call.
    pub failures: u32,
    /// Not to be called before.
    pub not_before: Option<Timestamp>,
}

/// What a ShardActor sees of its poolers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poolers {
    /// Pods with a link, by name.
    pub pods: BTreeMap<Box<str>, Seen>,
    /// Methods of the shard's calls that are under way.
    pub under_way: BTreeSet<&'static str>,
    /// The newest answer about backups, and when it was asked for.
    pub backups: Option<(backup::Known, Timestamp)>,
}

/// One pod.
struct Place {
    pod: Key,
    wanted: Wanted,
    /// Content of the Secret with our certificate that the link was opened with.
    material: Option<u64>,
    life: u64,
    connection: Option<Box<dyn Connection>>,
    /// Why there is no connection.
    trouble: Option<String>,
    /// The health stream.
    stream: Peer,
    /// Calls on demand: apart, since a pod may stream and hang in a call.
    calls: Peer,
    told: bool,
    open: bool,
    health: Option<(Rc<Health>, Timestamp)>,
    under_way: BTreeMap<u64, Asked>,
}

struct Asked {
    by: ActorId,
    method: &'static str,
    at: Timestamp,
}

/// Our certificate for one cluster.
#[derive(Default)]
struct Identity {
    /// Content of the Secret, as observed; `None`: not there, or not complete.
    observed: Option<u64>,
    /// What is in use, and the content it was read from.
    tls: Option<(Arc<Tls>, u64)>,
    reading: bool,
    peer: Peer,
}

/// How calls of one method ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub calls: u64,
    /// How long they took together.
    pub time: Duration,
}

/// Whom a report concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// The Shard's UID.
    pub shard: Box<str>,
    /// The pod that the report is about.
    pub pod: Key,
}

/// All links of the process.
pub struct Links {
    dialer: Option<Arc<dyn Dialer>>,
    api: Arc<dyn Kubernetes>,
    io: runtime::Handle,
    inflow: mpsc::Sender<Inflow>,
    reports: mpsc::Sender<Report>,
    places: BTreeMap<Box<str>, Place>,
    by_shard: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    identities: BTreeMap<Key, Identity>,
    backups: BTreeMap<Box<str>, (backup::Known, Timestamp)>,
    lives: u64,
    numbers: u64,
    counts: BTreeMap<(&'static str, String), Count>,
}

impl Links {
    /// No links yet, and the channel through which connections report. Without a dialer there will never be any.
    pub fn new(
        dialer: Option<Arc<dyn Dialer>>,
        api: Arc<dyn Kubernetes>,
        io: runtime::Handle,
        inflow: mpsc::Sender<Inflow>,
    ) -> (Self, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(REPORTS);
        let links = Self {
            dialer,
            api,
            io,
            inflow,
            reports,
            places: BTreeMap::new(),
            by_shard: BTreeMap::new(),
            identities: BTreeMap::new(),
            backups: BTreeMap::new(),
            lives: 0,
            numbers: 0,
            counts: BTreeMap::new(),
        };
        (links, receiver)
    }

    /// This process talks to the data plane.
    pub const fn are_on(&self) -> bool {
        self.dialer.is_some()
    }

    /// Gives a pod the link it deserves; `material` tells the content of the Secret that its identity names.
    pub fn follow(
        &mut self,
        pod: &Key,
        wanted: Option<Wanted>,
        material: Option<u64>,
        now: Timestamp,
    ) {
        let name = peer_of(pod);
        let Some(wanted) = wanted.filter(|_| self.are_on()) else {
            self.close(&name);
            return;
        };
        if let Some(identity) = &wanted.identity {
            self.learn_of(&identity.secret, material, now);
        }
        if self
            .places
            .get(&name)
            .is_some_and(|place| place.wanted != wanted)
        {
            self.close(&name);
        }
        if let Some(shard) = &wanted.shard {
            let pods = self.by_shard.entry(shard.clone()).or_default();
            pods.insert(name.clone());
        }
        self.places.entry(name.clone()).or_insert_with(|| Place {
            pod: pod.clone(),
            stream: Peer::at(&wanted.address.to_string()),
            calls: Peer::at(&wanted.address.to_string()),
            wanted,
            material: None,
            life: 0,
            connection: None,
            trouble: None,
            told: false,
            open: false,
            health: None,
            under_way: BTreeMap::new(),
        });
        self.connect(&name, false);
    }

    /// Opens the connection of a place if it is due: a pooler's at once, others when they are `called`. One that was opened
    /// with an older certificate is opened anew.
    fn connect(&mut self, name: &str, called: bool) {
        let (Some(dialer), Some(place)) = (self.dialer.clone(), self.places.get_mut(name)) else {
            return;
        };
        let health = place.wanted.component == Component::Pooler;
        if !health && !called && place.connection.is_none() {
            return;
        }
        let tls = match &place.wanted.identity {
            None => None,
            Some(identity) => {
                let known = self.identities.get(&identity.secret);
                let Some((tls, content)) = known.and_then(|known| known.tls.clone()) else {
                    place.trouble = Some(match known {
                        Some(known) if known.observed.is_some() => format!(
                            "the operator's certificate is being read from {}: {}",
                            identity.secret, known.peer.error
                        ),
                        _ => format!("{} does not hold a certificate yet", identity.secret),
                    });
                    return;
                };
                Some((tls, content, identity.server.clone()))
            }
        };
        let content = tls.as_ref().map(|(_, content, _)| *content);
        if place.life > 0 && place.material == content {
            return;
        }
        self.lives += 1;
        place.life = self.lives;
        place.material = content;
        place.open = false;
        place.under_way.clear();
        let source = Source {
            peer: name.into(),
            life: place.life,
        };
        let target = Target {
            address: place.wanted.address,
            tls: tls.map(|(tls, _, server)| (tls, server)),
        };
        match dialer.open(source, &target, health, self.reports.clone()) {
            Ok(connection) => {
                place.connection = Some(connection);
                place.trouble = None;
            }
            Err(why) => {
                place.connection = None;
                place.trouble = Some(why);
            }
        }
    }

    /// The pod is gone, or deserves no link any more.
    pub fn forget(&mut self, pod: &Key) {
        self.close(&peer_of(pod));
    }

    fn close(&mut self, name: &str) {
        let Some(place) = self.places.remove(name) else {
            return;
        };
        if let Some(shard) = &place.wanted.shard
            && let Some(pods) = self.by_shard.get_mut(shard)
        {
            pods.remove(name);
            if pods.is_empty() {
                self.by_shard.remove(shard);
                self.backups.remove(shard);
            }
        }
        let Some(identity) = place.wanted.identity else {
            return;
        };
        let used = self.places.values().any(|other| {
            let other = other.wanted.identity.as_ref();
            other.is_some_and(|other| other.secret == identity.secret)
        });
        if !used {
            self.identities.remove(&identity.secret);
        }
    }

    /// Another process leads now: it does the talking.
    pub fn close_all(&mut self) {
        self.places.clear();
        self.by_shard.clear();
        self.identities.clear();
        self.backups.clear();
    }

    /// The Secret with our certificate holds this.
    fn learn_of(&mut self, secret: &Key, content: Option<u64>, now: Timestamp) {
        let identity = self.identities.entry(secret.clone()).or_default();
        if identity.observed != content {
            identity.observed = content;
            // Another content is another chance.
            identity.peer = Peer::default();
        }
        self.read(secret, now);
    }

    /// Reads our certificate if it is there, is not the one in use, is not being read and may be read by now.
    pub fn read(&mut self, secret: &Key, now: Timestamp) {
        let Some(identity) = self.identities.get_mut(secret) else {
            return;
        };
        let Some(content) = identity.observed else {
            return;
        };
        let used = identity.tls.as_ref().map(|(_, content)| *content);
        if identity.reading || used == Some(content) || identity.peer.may_call(now).is_err() {
            return;
        }
        identity.reading = true;
        let (api, inflow, key) = (self.api.clone(), self.inflow.clone(), secret.clone());
        self.io.spawn(async move {
            let files = secret::files(&*api, &key, ["ca.crt", "tls.crt", "tls.key"]).await;
            let result = match files {
                Ok([ca, certificate, key]) => Ok(Arc::new(Tls {
                    ca,
                    certificate,
                    key,
                })),
                Err(Unread::Refused(failure)) => Err((failure.to_string(), Outcome::Unreachable)),
                // Reading the same content again cannot help.
                Err(unread) => Err((format!("it {unread}"), Outcome::Refused)),
            };
            // The supervisor is gone only when the process ends.
            let _ = inflow.send(Inflow::Identity(key, content, result)).await;
        });
    }

    /// Our certificate was read, or not. Returns when to read it again.
    pub fn identified(
        &mut self,
        secret: &Key,
        content: u64,
        result: Result<Arc<Tls>, (String, Outcome)>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let identity = self.identities.get_mut(secret)?;
        identity.reading = false;
        match result {
            Ok(tls) => {
                identity.peer.learn(Outcome::Answered, "", now);
                identity.tls = Some((tls, content));
            }
            Err((why, outcome)) => identity.peer.learn(outcome, &why, now),
        }
        let again = identity.peer.not_before;
        let names: Vec<Box<str>> = self.places.keys().cloned().collect();
        for name in names {
            let place = self.places.get(&name);
            let identity = place.and_then(|place| place.wanted.identity.as_ref());
            if identity.is_some_and(|identity| identity.secret == *secret) {
                self.connect(&name, false);
            }
        }
        // What was observed meanwhile may be another one.
        self.read(secret, now);
        again
    }

    /// Makes a call for an actor, unless the peer is not to be called now or the same call of that actor is under way. Its
    /// answer is in the actor's next snapshot.
    pub fn call(&mut self, by: &ActorId, pod: &Key, call: Call, now: Timestamp) {
        let name = peer_of(pod);
        let method = call.method();
        let busy = self.places.values().any(|place| {
            let mut calls = place.under_way.values();
            calls.any(|asked| asked.by == *by && asked.method == method)
        });
        if busy {
            return;
        }
        self.connect(&name, true);
        let Some(place) = self.places.get_mut(&name) else {
            return;
        };
        if place.calls.may_call(now).is_err() {
            return;
        }
        if let Some(connection) = &mut place.connection {
            self.numbers += 1;
            let asked = Asked {
                by: by.clone(),
                method,
                at: now,
            };
            place.under_way.insert(self.numbers, asked);
            connection.call(self.numbers, call);
        }
    }

    /// Takes a report in. Returns whom it concerns: nobody when nothing changed that a decision looks at.
    pub fn hear(&mut self, report: Report, now: Timestamp) -> Option<Concerned> {
        let place = self.places.get_mut(&report.source.peer)?;
        if place.life != report.source.life {
            return None;
        }
        let first = !std::mem::replace(&mut place.told, true);
        let news = match report.event {
            Event::Health(health) => {
                place.stream.learn(Outcome::Answered, "", now);
                let opened = !std::mem::replace(&mut place.open, true);
                let known = place.health.as_ref();
                let same = known.is_some_and(|(known, _)| known.agrees(&health));
                place.health = Some((Rc::new(*health), now));
                opened || !same
            }
            Event::Lost(failure) => {
                place.stream.learn(failure.outcome(), &failure.message, now);
                std::mem::replace(&mut place.open, false)
            }
            Event::Answered {
                call,
                method,
                result,
                latency,
            } => {
                let asked = place.under_way.remove(&call)?;
                let (outcome, word, error) = match &result {
                    Ok(_) => (Outcome::Answered, "OK".to_owned(), String::new()),
                    Err(failure) => {
                        // An answer that is an error is no reason to ask again at once.
                        let outcome = match failure.outcome() {
                            Outcome::Answered => Outcome::Unreachable,
                            outcome => outcome,
                        };
                        let Failure { code, message } = failure;
                        (outcome, format!("{code:?}"), message.clone())
                    }
                };
                place.calls.learn(outcome, &error, now);
                let count = self.counts.entry((method, word)).or_default();
                count.calls += 1;
                count.time += latency;
                if let (Ok(Answer::Backups(answer)), Some(shard)) = (result, &place.wanted.place) {
                    let known = backup::newest(&answer, shard);
                    self.backups.insert(asked.by.uid.clone(), (known, asked.at));
                }
                true
            }
        };
        let shard = place.wanted.shard.clone()?;
        (news || first).then(|| Concerned {
            shard,
            pod: place.pod.clone(),
        })
    }
}

/// The peer's name in reports and back-off.
fn peer_of(pod: &Key) -> Box<str> {
    format!("{}/{}", pod.namespace, pod.name).into()
}
