//! What actors on one thread share: the store, the executor, the directory of seats and their inboxes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use serde::Serialize;

use crate::action::{Action, Planned};
use crate::clock::Clock;
use crate::effects::dataplane::Call;
use crate::effects::executor::Executor;
use crate::effects::links::Links;
use crate::effects::topologies::Door;
use crate::findings::Findings;
use crate::metric::Requests;
use crate::object::{Key, Kind};
use crate::room::{ActorId, Inspect, Observed, Report, Stop, Wake};
use crate::store::{Group, Reference, Store};
use crate::topology::known::{Known, Testimony};

/// Called before each decision with the actor, its resource and the incarnation; for tests that force a panic.
pub type DecisionHook = Arc<dyn Fn(&ActorId, &Key, u64) + Send + Sync>;

/// Points where a test may interfere. Production sets none.
#[derive(Clone, Default)]
pub struct Hooks {
    /// See [`DecisionHook`].
    pub before_decision: Option<DecisionHook>,
}

/// Most dirty keys an inbox names; beyond that the actor looks at everything anyway, so only the count goes on.
const INBOX_KEYS: usize = 64;

/// What changed since an actor last looked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inbox {
    dirty: BTreeMap<Key, jiff::Timestamp>,
    /// Changes of keys that were dirty already.
    pub coalesced: u64,
    /// Changes beyond the bound, which wake but are not named.
    pub refused: u64,
}

impl Inbox {
    /// Keys waiting to be looked at.
    pub fn depth(&self) -> usize {
        self.dirty.len()
    }

    /// Since when the oldest one waits.
    pub fn oldest(&self) -> Option<jiff::Timestamp> {
        self.dirty.values().min().copied()
    }

    fn put(&mut self, key: Key, now: jiff::Timestamp) {
        if self.dirty.contains_key(&key) {
            self.coalesced += 1;
        } else if self.dirty.len() >= INBOX_KEYS {
            self.refused += 1;
        } else {
            self.dirty.insert(key, now);
        }
    }
}

/// An object that was read live, and whether it exists.
type Live = (Key, Option<bool>);

/// Where an actor sits.
pub struct Seat {
    /// Number of lives this seat has seen.
    pub incarnation: u64,
    /// Its address.
    pub wake: Recipient<Wake>,
    /// Its address, for what pools tell.
    pub report: Recipient<Report>,
    /// Its address, for questions.
    pub inspect: Recipient<Inspect>,
    /// Its address, for the end.
    pub stop: Recipient<Stop>,
}

/// The shared part.
pub struct World {
    /// Observations.
    pub store: RefCell<Store>,
    /// Lanes to the API server.
    pub executor: RefCell<Executor>,
    /// Links to the data plane.
    pub links: RefCell<Links>,
    /// The time.
    pub clock: Clock,
    /// See [`Hooks`].
    pub hooks: Hooks,
    /// Images and other values of the operator's own environment.
    pub defaults: crds::resolve::OperatorDefaults,
    /// Every kind was listed at least once.
    pub synced: Cell<bool>,
    /// Optional kinds that the API server serves.
    pub served: RefCell<BTreeSet<Kind>>,
    /// See [`Findings`].
    pub findings: RefCell<Findings>,
    /// Who sits where.
    pub seats: RefCell<BTreeMap<ActorId, Seat>>,
    inboxes: RefCell<BTreeMap<ActorId, Inbox>>,
    /// Coalesced and refused changes of actors that are gone: the counts of the process never fall.
    past: Cell<(u64, u64)>,
    referrers: RefCell<BTreeMap<ActorId, BTreeSet<Key>>>,
    /// What it takes to open topology stores; `None`: this operator does not look at topologies.
    pub stores: Option<Door>,
    /// Requests to topology stores since the process started.
    pub topology_requests: RefCell<Requests>,
    /// What TopologyActors tell, by UID of the MultigresCluster.
    topologies: RefCell<BTreeMap<Box<str>, Rc<Known>>>,
    /// What live reads of TopologyActors found and they have not taken in yet.
    live: RefCell<BTreeMap<ActorId, Vec<Live>>>,
    /// What ShardActors tell the TopologyActor of their cluster, by UID of the Shard.
    testimonies: RefCell<BTreeMap<Box<str>, Rc<Testimony>>>,
}

impl World {
    /// A world in which nothing is known.
    pub fn new(
        executor: Executor,
        links: Links,
        clock: Clock,
        hooks: Hooks,
        defaults: crds::resolve::OperatorDefaults,
        stores: Option<Door>,
    ) -> Self {
        Self {
            store: RefCell::default(),
            executor: RefCell::new(executor),
            links: RefCell::new(links),
            clock,
            hooks,
            defaults,
            synced: Cell::new(false),
            served: RefCell::default(),
            findings: RefCell::default(),
            seats: RefCell::default(),
            inboxes: RefCell::default(),
            past: Cell::default(),
            referrers: RefCell::default(),
            stores,
            topology_requests: RefCell::default(),
            topologies: RefCell::default(),
            live: RefCell::default(),
            testimonies: RefCell::default(),
        }
    }

    /// The snapshot for a decision; None while informers are not synced or when the resource is gone.
    pub fn snapshot(&self, id: &ActorId) -> Option<Observed> {
        if !self.synced.get() || !self.executor.borrow().leads() {
            return None;
        }
        let store = self.store.borrow();
        let me = store.by_uid(&id.uid)?.clone();
        let group = store.group(store.group_of(me.key())?);
        let troubles = group
            .iter()
            .map(|entry| entry.key())
            .filter_map(|key| Some((key.clone(), store.trouble(key)?.clone())));
        let mut troubles: BTreeMap<_, _> = troubles.collect();
        troubles.extend(store.troubles_in(&me.key().namespace));
        let references = self
            .referrers
            .borrow()
            .get(id)
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>();
        let references = references
            .into_iter()
            .map(|key| {
                let state = store.reference(&key).cloned().unwrap_or(Reference::Unknown);
                (key, state)
            })
            .collect();
        let templates = if me.key().kind == Kind::MultigresCluster {
            store.templates(&me.key().namespace)
        } else {
            Vec::new()
        };
        Some(Observed {
            group,
            troubles,
            references,
            templates,
            served: self.served.borrow().clone(),
            wants: BTreeMap::new(),
            topology: self.topology_of(store.group_of(me.key())?, &store),
            me,
            poolers: (*id == ActorId::custom(Kind::Shard, &id.uid))
                .then(|| self.links.borrow().of_shard(&id.uid))
                .flatten(),
        })
    }

    /// The UID of the MultigresCluster of a group.
    fn cluster_of(group: &Group, store: &Store) -> Option<Box<str>> {
        let key = Key::new(Kind::MultigresCluster, &group.0, &group.1);
        store.get(&key).map(|cluster| cluster.uid.clone())
    }

    /// What is known of a cluster's topology; as good as nothing before its actor told.
    fn topology_of(&self, group: &Group, store: &Store) -> Option<Rc<Known>> {
        self.stores.as_ref()?;
        let cluster = Self::cluster_of(group, store);
        Some(
            cluster
                .and_then(|cluster| self.topology(&cluster))
                .unwrap_or_default(),
        )
    }

    /// What the TopologyActor of a MultigresCluster with this UID told last.
    pub fn topology(&self, cluster: &str) -> Option<Rc<Known>> {
        self.topologies.borrow().get(cluster).cloned()
    }

    /// A live read of a TopologyActor found out whether an object exists; `None`: nobody knows.
    pub fn answer(&self, id: &ActorId, key: &Key, exists: Option<bool>) {
        let mut live = self.live.borrow_mut();
        live.entry(id.clone())
            .or_default()
            .push((key.clone(), exists));
    }

    /// Takes out what was found.
    pub fn live_answers(&self, id: &ActorId) -> Vec<Live> {
        self.live.borrow_mut().remove(id).unwrap_or_default()
    }

    /// A TopologyActor tells what is known now. Whom a difference concerns is woken at once.
    pub fn publish(&self, cluster: &str, known: Known) {
        let before = self.topology(cluster);
        if before.as_deref() == Some(&known) {
            return;
        }
        let before = before.unwrap_or_default();
        let store = self.store.borrow();
        let Some(me) = store.by_uid(cluster).cloned() else {
            return;
        };
        let concerned = known.concerns(&before);
        let mut topologies = self.topologies.borrow_mut();
        topologies.insert(cluster.into(), Rc::new(known));
        drop(topologies);
        let group = store.group_of(me.key()).map(|group| store.group(group));
        drop(store);
        for entry in group.iter().flatten() {
            if concerned.contains(entry) {
                let id = ActorId::custom(entry.key().kind, &entry.uid);
                self.wake(&id, me.key());
            }
        }
    }

    /// A ShardActor tells of its poolers. The newest replaces what it told before; nothing is woken for the same again.
    pub fn testify(&self, shard: &ActorId, testimony: Testimony) {
        let known = self.testimonies.borrow().get(&shard.uid).cloned();
        if known.is_some_and(|known| *known == testimony) {
            return;
        }
        let mut testimonies = self.testimonies.borrow_mut();
        testimonies.insert(shard.uid.clone(), Rc::new(testimony));
        drop(testimonies);
        let store = self.store.borrow();
        let me = store.by_uid(&shard.uid).cloned();
        let cluster = me.as_ref().and_then(|me| {
            let group = store.group_of(me.key())?;
            Self::cluster_of(group, &store)
        });
        drop(store);
        if let (Some(me), Some(cluster)) = (me, cluster) {
            self.wake(&ActorId::topology(&cluster), me.key());
        }
    }

    /// What the ShardActor of a Shard with this UID told last.
    pub fn testimony(&self, shard: &str) -> Option<Rc<Testimony>> {
        self.testimonies.borrow().get(shard).cloned()
    }

    /// Marks `key` dirty for an actor and wakes it. Who has no seat looks at everything when it takes one.
    pub fn wake(&self, id: &ActorId, key: &Key) {
        let seats = self.seats.borrow();
        let Some(seat) = seats.get(id) else { return };
        let now = self.clock.now();
        self.inboxes
            .borrow_mut()
            .entry(id.clone())
            .or_default()
            .put(key.clone(), now);
        // A full mailbox holds a Wake already.
        let _ = seat.wake.try_send(Wake);
    }

    /// The actor looked at its snapshot.
    pub fn inbox_taken(&self, id: &ActorId) {
        if let Some(inbox) = self.inboxes.borrow_mut().get_mut(id) {
            inbox.dirty.clear();
        }
    }

    /// An actor's inbox.
    pub fn inbox(&self, id: &ActorId) -> Inbox {
        self.inboxes.borrow().get(id).cloned().unwrap_or_default()
    }

    /// Changes that were coalesced and refused since the process started.
    pub fn crowding(&self) -> (u64, u64) {
        let inboxes = self.inboxes.borrow();
        inboxes
            .values()
            .fold(self.past.get(), |(coalesced, refused), inbox| {
                (coalesced + inbox.coalesced, refused + inbox.refused)
            })
    }

    /// Hands an action to the executor.
    pub fn submit(&self, id: &ActorId, planned: Planned) {
        let store = self.store.borrow();
        let me = store.by_uid(&id.uid);
        let group = me.and_then(|me| store.group_of(me.key()).cloned());
        drop(store);
        // The resource may be gone: what is asked for it is then a cluster of its own.
        let group = group.unwrap_or_else(|| ("".into(), (&*id.uid).into()));
        self.executor.borrow_mut().submit(id, group, planned);
    }

    /// Calls a pod of the data plane; the answer is in the actor's next snapshot.
    pub fn call(&self, id: &ActorId, pod: &Key, call: Call) {
        let now = self.clock.now();
        self.links.borrow_mut().call(id, pod, call, now);
    }

    /// The pools of a shard that have a seat.
    pub fn pools_of(&self, shard: &str) -> Vec<ActorId> {
        let seats = self.seats.borrow();
        let pools = seats
            .keys()
            .filter(|id| id.pool.is_some() && *id.uid == *shard);
        pools.cloned().collect()
    }

    /// Sends what a pool tells its shard. False when the shard has no seat or its mailbox is full: to be told again.
    pub fn tell(&self, pool: &ActorId, report: Report) -> bool {
        let shard = ActorId::custom(Kind::Shard, &pool.uid);
        let seats = self.seats.borrow();
        seats
            .get(&shard)
            .is_some_and(|seat| seat.report.try_send(report).is_ok())
    }

    /// Declares which user objects an actor depends on; unknown ones are read.
    pub fn refer(&self, id: &ActorId, keys: &[Key]) {
        let wanted: BTreeSet<Key> = keys.iter().cloned().collect();
        if self.referrers.borrow().get(id) == Some(&wanted)
            || (wanted.is_empty() && !self.referrers.borrow().contains_key(id))
        {
            return;
        }
        self.referrers.borrow_mut().insert(id.clone(), wanted);
        // Templates are watched and stand in the snapshot already.
        for key in keys.iter().filter(|key| !key.kind.is_template()) {
            if self.store.borrow_mut().refer(key) {
                self.read(id, key, "a reference that is not known yet");
            } else {
                self.wake(id, key);
            }
        }
        self.trim_references();
    }

    /// Who depends on a user object.
    pub fn referrers(&self, key: &Key) -> Vec<ActorId> {
        self.referrers
            .borrow()
            .iter()
            .filter(|(_, keys)| keys.contains(key))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Asks for a live read.
    pub fn read(&self, id: &ActorId, key: &Key, reason: &str) {
        self.submit(
            id,
            Planned {
                action: Action::Read { key: key.clone() },
                reason: reason.to_owned(),
            },
        );
    }

    /// An actor's resource is gone: nothing of it stays.
    pub fn forget(&self, id: &ActorId) {
        if let Some(inbox) = self.inboxes.borrow_mut().remove(id) {
            let (coalesced, refused) = self.past.get();
            self.past
                .set((coalesced + inbox.coalesced, refused + inbox.refused));
        }
        self.referrers.borrow_mut().remove(id);
        self.executor.borrow_mut().forget(id);
        self.findings.borrow_mut().forget(id);
        if id.pool.is_none() {
            self.testimonies.borrow_mut().remove(&id.uid);
        }
        if id.topology {
            self.topologies.borrow_mut().remove(&id.uid);
            self.live.borrow_mut().remove(id);
        }
        self.trim_references();
    }

    fn trim_references(&self) {
        let wanted = self
            .referrers
            .borrow()
            .values()
            .flatten()
            .cloned()
            .collect();
        self.store.borrow_mut().keep_references(&wanted);
    }
}
