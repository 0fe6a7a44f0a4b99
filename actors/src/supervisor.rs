//! The only spawner: takes in observations, keeps a flat registry of actors, wakes whom a change concerns, restarts who fell.
//!
//! ```text
//! informers ─┐                       ┌─► inbox + Wake ─► actor ─► actions ─┐
//! answers  ──┴─► Inflow ─► store ────┤                                     ▼
//!                                    └─► spawn / stop              executor ─► API server
//! ```
//! Lost on restart: everything. Rebuilt from the next lists.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::effects::executor::{Answer, Found};
use crate::effects::kubernetes::Failure;
use crate::entry::Entry;
use crate::object::{Key, Kind};
use crate::room::{ActorId, ExitNotice, Inspect, Life, PoolReport, Room, Stop};
use crate::store::Change;
use crate::stub::Stub;
use crate::world::{Seat, World};

/// What comes in from outside the actors' thread.
#[derive(Debug)]
pub enum Inflow {
    /// A list of this kind begins, in this epoch.
    Listing(Kind),
    /// An object was listed, added or changed.
    Seen(Box<Entry>),
    /// The list is complete.
    Listed(Kind, u64),
    /// An object left the watch: deleted, or stripped of its label.
    Left(Key, Box<str>),
    /// A user's Secret or ConfigMap has this version, or is gone.
    Foreign(Key, Option<u64>),
    /// A request was answered.
    Answer(Box<Answer>),
    /// Leadership came or went.
    Leadership(bool),
}

/// A life ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Exited {
    /// Whose.
    pub id: ActorId,
    /// Which of its lives.
    pub incarnation: u64,
    /// By a panic.
    pub panicked: bool,
}

/// What introspection asks for.
#[derive(Clone, Debug)]
pub enum Inspection {
    /// Every actor, in short, with executor and store.
    Actors,
    /// The actors of one cluster.
    Cluster {
        /// Namespace.
        namespace: String,
        /// Name of the MultigresCluster.
        name: String,
    },
    /// One shard and its pools.
    Shard {
        /// Namespace.
        namespace: String,
        /// Name of the Shard.
        name: String,
    },
}

/// A question from outside.
#[derive(Message)]
#[rtype(result = "Option<Value>")]
pub struct Question(pub Inspection);

/// Asks for metrics.
#[derive(Message)]
#[rtype(result = "Vec<crate::metric::Sample>")]
pub struct Collect;

/// Stop writing; answered when nothing is under way.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// First wait before a restart.
const RESTART_FIRST: Duration = Duration::from_millis(100);
/// Longest wait before a restart.
const RESTART_LONGEST: Duration = Duration::from_secs(10);
/// Falls within [`RESTART_PERIOD`] after which an actor is given up until its resource changes.
const RESTART_BUDGET: usize = 5;
/// Falls longer ago are forgotten.
const RESTART_PERIOD: Duration = Duration::from_secs(600);

#[derive(Default)]
struct Record {
    falls: VecDeque<tokio::time::Instant>,
    total: u64,
    lives: u64,
    stalled_at: Option<i64>,
}

/// The supervisor.
pub struct Supervisor {
    world: Rc<World>,
    inflow: Option<mpsc::Receiver<Inflow>>,
    relist: watch::Sender<u64>,
    listed: BTreeMap<Kind, u64>,
    records: BTreeMap<ActorId, Record>,
    ready: std::sync::Arc<std::sync::atomic::AtomicBool>,
    idle: Vec<oneshot::Sender<()>>,
}

impl Supervisor {
    /// A supervisor without actors.
    pub fn new(
        world: Rc<World>,
        inflow: mpsc::Receiver<Inflow>,
        relist: watch::Sender<u64>,
        ready: std::sync::Arc<std::sync::atomic::AtomicBool>,
    ) -> Self {
        Self {
            world,
            inflow: Some(inflow),
            relist,
            listed: BTreeMap::new(),
            records: BTreeMap::new(),
            ready,
            idle: Vec::new(),
        }
    }

    fn take_in(&mut self, inflow: Inflow, ctx: &mut Context<Self>) {
        match inflow {
            Inflow::Listing(kind) => self.world.store.borrow_mut().list_begins(kind),
            Inflow::Seen(entry) => self.seen(*entry, ctx),
            Inflow::Listed(kind, epoch) => self.listed(kind, epoch, ctx),
            Inflow::Left(key, uid) => self.left(&key, Some(&uid), ctx),
            Inflow::Foreign(key, version) => self.foreign(&key, version),
            Inflow::Answer(answer) => self.answered(*answer, ctx),
            Inflow::Leadership(leads) => self.leadership(leads, ctx),
        }
    }

    fn seen(&mut self, entry: Entry, ctx: &mut Context<Self>) {
        let key = entry.key().clone();
        let before = self
            .world
            .store
            .borrow()
            .get(&key)
            .map(|known| known.uid.clone());
        if self.world.store.borrow_mut().observe(entry, None) == Change::Changed {
            let now = self.world.store.borrow().get(&key).cloned();
            if let (Some(before), Some(now)) = (before, now)
                && before != now.uid
                && key.kind.is_custom()
            {
                self.end(key.kind, &before);
            }
            self.changed(&key, ctx);
        }
    }

    /// An object is new or different: its actor exists, and whom it concerns looks.
    fn changed(&mut self, key: &Key, ctx: &mut Context<Self>) {
        let Some(entry) = self.world.store.borrow().get(key).cloned() else {
            return;
        };
        if key.kind.is_custom() {
            self.seat(&entry, ctx);
        }
        for id in self.concerned(&entry) {
            self.world.wake(&id, key);
        }
    }

    /// Spawns the actors of a custom resource that have no seat, and ends those of pools it no longer has.
    fn seat(&mut self, entry: &Entry, ctx: &mut Context<Self>) {
        let kind = entry.key().kind;
        let mut wanted = BTreeSet::from([ActorId::custom(kind, &entry.uid)]);
        if kind == Kind::Shard {
            wanted.extend(crate::pool::seats(entry));
        }
        let present: Vec<ActorId> = self
            .world
            .seats
            .borrow()
            .keys()
            .filter(|id| id.uid == entry.uid && id.kind == kind)
            .cloned()
            .collect();
        for id in present.iter().filter(|id| !wanted.contains(*id)) {
            self.stop(id);
        }
        for id in wanted {
            let stalled = self.records.get(&id).and_then(|record| record.stalled_at);
            let edited = stalled.is_some_and(|generation| generation != entry.generation);
            if edited {
                if let Some(record) = self.records.get_mut(&id) {
                    record.stalled_at = None;
                    record.falls.clear();
                }
                if let Some(seat) = self.world.seats.borrow_mut().remove(&id) {
                    let _ = seat.stop.try_send(Stop);
                }
                tracing::info!(actor = %id, object = %entry.key(), "the resource was edited: the stalled actor starts again");
            }
            if !self.world.seats.borrow().contains_key(&id) {
                self.spawn(&id, ctx);
            }
        }
    }

    fn spawn(&mut self, id: &ActorId, ctx: &Context<Self>) {
        let record = self.records.entry(id.clone()).or_default();
        record.lives += 1;
        let lives = record.lives;
        let exit = ExitNotice::new(id.clone(), lives, ctx.address().recipient());
        let world = self.world.clone();
        let seat = match (id.kind, &id.pool) {
            _ if record.stalled_at.is_some() => {
                let reason = format!(
                    "the {} failed {RESTART_BUDGET} times within {RESTART_PERIOD:?}",
                    id.room()
                );
                take_seat(Stub::new(id.clone(), reason, world, exit), lives)
            }
            (_, Some(_)) => take_seat(life::<crate::pool::PoolRoom>(id, lives, world, exit), lives),
            (Kind::MultigresCluster, _) => take_seat(
                life::<crate::cluster::ClusterRoom>(id, lives, world, exit),
                lives,
            ),
            (Kind::TopoServer, _) => take_seat(
                life::<crate::toposerver::TopoServerRoom>(id, lives, world, exit),
                lives,
            ),
            (Kind::Cell, _) => {
                take_seat(life::<crate::cell::CellRoom>(id, lives, world, exit), lives)
            }
            (Kind::TableGroup, _) => take_seat(
                life::<crate::tablegroup::TableGroupRoom>(id, lives, world, exit),
                lives,
            ),
            _ => take_seat(
                life::<crate::shard::ShardRoom>(id, lives, world, exit),
                lives,
            ),
        };
        self.world.seats.borrow_mut().insert(id.clone(), seat);
        let key = self
            .world
            .store
            .borrow()
            .by_uid(&id.uid)
            .map(|entry| entry.key().clone());
        if let Some(key) = key {
            self.world.wake(id, &key);
        }
    }

    fn stop(&mut self, id: &ActorId) {
        if let Some(seat) = self.world.seats.borrow_mut().remove(id) {
            let _ = seat.stop.try_send(Stop);
        }
        self.records.remove(id);
        self.world.forget(id);
    }

    /// Ends all actors of a resource.
    fn end(&mut self, kind: Kind, uid: &str) {
        let ids: Vec<ActorId> = self
            .world
            .seats
            .borrow()
            .keys()
            .filter(|id| id.kind == kind && *id.uid == *uid)
            .cloned()
            .collect();
        for id in ids {
            self.stop(&id);
        }
    }

    /// Whom a change of this object concerns.
    fn concerned(&self, entry: &Entry) -> BTreeSet<ActorId> {
        let store = self.world.store.borrow();
        let mut ids = BTreeSet::new();
        let key = entry.key();
        if key.kind.is_custom() {
            ids.insert(ActorId::custom(key.kind, &entry.uid));
            let seats = self.world.seats.borrow();
            ids.extend(
                seats
                    .keys()
                    .filter(|id| id.pool.is_some() && id.uid == entry.uid)
                    .cloned(),
            );
        }
        if let Some(owner) = entry.owner.as_deref().and_then(|uid| store.by_uid(uid)) {
            let kind = owner.key().kind;
            ids.insert(ActorId::custom(kind, &owner.uid));
            if let (Kind::Shard, Some(pool), Some(cell)) = (
                kind,
                entry.label("multigres.com/pool"),
                entry.label("multigres.com/cell"),
            ) {
                ids.insert(ActorId::pool(&owner.uid, pool, cell));
            }
        } else if let Some(group) = store.group_of(key) {
            // Claims that outlive their shard have no owner; pods of Deployments and StatefulSets have another one.
            let neighbours = store.group(group);
            ids.extend(
                neighbours
                    .iter()
                    .filter(|other| cares(other, entry))
                    .map(|other| ActorId::custom(other.key().kind, &other.uid)),
            );
        }
        if key.kind == Kind::TopoServer
            && let Some(group) = store.group_of(key)
        {
            let waits = |other: &&Rc<Entry>| matches!(other.key().kind, Kind::Cell | Kind::Shard);
            ids.extend(
                store
                    .group(group)
                    .iter()
                    .filter(waits)
                    .map(|other| ActorId::custom(other.key().kind, &other.uid)),
            );
        }
        ids
    }

    fn listed(&mut self, kind: Kind, epoch: u64, ctx: &mut Context<Self>) {
        let missing = self.world.store.borrow_mut().list_ends(kind);
        for key in missing {
            self.left(&key, None, ctx);
        }
        self.listed.insert(kind, epoch);
        let current = *self.relist.borrow();
        let all = Kind::ALL
            .iter()
            .all(|kind| self.listed.get(kind).is_some_and(|epoch| *epoch >= current));
        if all && !self.world.synced.get() {
            self.world.synced.set(true);
            self.ready.store(true, std::sync::atomic::Ordering::Release);
        }
        if all && !self.world.executor.borrow().informed {
            self.world.executor.borrow_mut().informed = true;
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        let store = self.world.store.borrow();
        let seats: Vec<(ActorId, Key)> = self
            .world
            .seats
            .borrow()
            .keys()
            .filter_map(|id| Some((id.clone(), store.by_uid(&id.uid)?.key().clone())))
            .collect();
        drop(store);
        for (id, key) in seats {
            self.world.wake(&id, &key);
        }
    }

    /// An object left the watch. That may only mean a lost label, so whoever owns it asks the server first.
    fn left(&mut self, key: &Key, uid: Option<&str>, ctx: &mut Context<Self>) {
        let known = self.world.store.borrow().get(key).cloned();
        let Some(known) = known.filter(|known| uid.is_none_or(|uid| *known.uid == *uid)) else {
            return;
        };
        let owner = {
            let store = self.world.store.borrow();
            known
                .owner
                .as_deref()
                .and_then(|uid| store.by_uid(uid))
                .map(|o| ActorId::custom(o.key().kind, &o.uid))
        };
        match owner {
            Some(owner) if key.kind != Kind::MultigresCluster => {
                self.world.read(
                    &owner,
                    key,
                    "it left the watch: deleted, or stripped of its label",
                );
            }
            _ => self.removed(key, uid, ctx),
        }
    }

    /// The object is certainly gone.
    fn removed(&mut self, key: &Key, uid: Option<&str>, _ctx: &mut Context<Self>) {
        let Some(known) = self.world.store.borrow().get(key).cloned() else {
            return;
        };
        let concerned = self.concerned(&known);
        if self.world.store.borrow_mut().remove(key, uid).is_none() {
            return;
        }
        if key.kind.is_custom() {
            self.end(key.kind, &known.uid);
        }
        for id in concerned.iter().filter(|id| id.uid != known.uid) {
            self.world.wake(id, key);
        }
    }

    fn foreign(&self, key: &Key, version: Option<u64>) {
        if !self.world.store.borrow().stale_reference(key, version) {
            return;
        }
        if let Some(id) = self.world.referrers(key).first() {
            self.world.read(id, key, "a referenced object changed");
        }
    }

    fn answered(&mut self, answer: Answer, ctx: &mut Context<Self>) {
        let id = answer.job.actor.clone();
        let (key, _) = answer.job.planned.action.lane();
        let key = key.clone();
        let group = {
            let store = self.world.store.borrow();
            store
                .by_uid(&id.uid)
                .and_then(|me| store.group_of(me.key()).cloned())
        };
        let referred = self.world.store.borrow().reference(&key).is_some();
        if let Err(failure) = &answer.result
            && *failure != Failure::NotLeader
        {
            tracing::warn!(
                actor = %id, object = %key, action = answer.job.planned.action.verb(),
                code = failure.code(), error = %failure, "request failed"
            );
        }
        let now = self.world.clock.now();
        let mut answer = answer;
        let result = std::mem::replace(&mut answer.result, Ok(Found::Nothing));
        match result {
            Ok(Found::Object(entry)) if referred => self
                .world
                .store
                .borrow_mut()
                .learn_reference(&key, Some(*entry)),
            Ok(Found::Gone) if referred => {
                self.world.store.borrow_mut().learn_reference(&key, None)
            }
            Ok(Found::Object(entry)) => {
                let foreign = entry.owner.as_deref() != Some(id.uid.as_ref())
                    && entry.uid != id.uid
                    && key.kind != Kind::PersistentVolumeClaim
                    && !key.kind.is_custom();
                let puts = answer.job.planned.action.puts();
                let undone =
                    puts.is_some_and(|object| !crate::covers::covers(&entry.comparable(), object));
                let mut store = self.world.store.borrow_mut();
                if foreign {
                    store.fail(
                        &key,
                        409,
                        "an object of this name exists already".into(),
                        now,
                    );
                } else if undone {
                    // Another writer or a webhook changes it back: slow down instead of fighting.
                    store.fail(
                        &key,
                        0,
                        "the object is not as written: somebody else changes it".into(),
                        now,
                    );
                } else {
                    store.succeed(&key);
                }
                drop(store);
                self.world
                    .store
                    .borrow_mut()
                    .observe(*entry, group.as_ref());
                self.changed(&key, ctx);
            }
            Ok(Found::Gone) => {
                let was_read = !answer.job.planned.action.writes();
                self.world.store.borrow_mut().succeed(&key);
                self.removed(&key, None, ctx);
                let me = self
                    .world
                    .store
                    .borrow()
                    .by_uid(&id.uid)
                    .map(|me| me.key().clone());
                if let Some(me) = me.filter(|me| was_read && *me != key) {
                    // It may have gone because its owner went: look before anything is made again.
                    self.world.read(
                        &id,
                        &me,
                        "an owned object is gone: is its owner still there?",
                    );
                }
            }
            Ok(Found::Nothing) => self.world.store.borrow_mut().succeed(&key),
            Err(Failure::NotLeader) => {}
            Err(failure) => {
                self.world
                    .store
                    .borrow_mut()
                    .fail(&key, failure.code(), failure.to_string(), now);
            }
        }
        self.world.executor.borrow_mut().finish(&answer);
        let interested = if referred {
            self.world.referrers(&key)
        } else {
            vec![id]
        };
        for id in interested {
            self.world.wake(&id, &key);
        }
        if self.world.executor.borrow().lanes().is_empty() {
            for idle in self.idle.drain(..) {
                let _ = idle.send(());
            }
        }
    }

    fn leadership(&mut self, leads: bool, _ctx: &mut Context<Self>) {
        let mut executor = self.world.executor.borrow_mut();
        executor.informed = false;
        if leads {
            drop(executor);
            // What was listed before we led may be older than the last write of the leader before us.
            self.relist.send_modify(|epoch| *epoch += 1);
        } else {
            executor.clear();
        }
    }

    fn describe(&self, id: &ActorId) -> Value {
        let store = self.world.store.borrow();
        let object = store.by_uid(&id.uid).map(|me| me.key().to_string());
        let record = self.records.get(id);
        let inbox = self.world.inbox(id);
        let pending: Vec<Value> = self
            .world
            .executor
            .borrow()
            .lanes()
            .pending(id)
            .into_iter()
            .map(|(verb, key, reason, running)| json!({"action": verb, "object": key, "reason": reason, "sent": running}))
            .collect();
        json!({
            "object": object,
            "restarts": record.map_or(0, |record| record.total),
            "stalled": record.is_some_and(|record| record.stalled_at.is_some()),
            "inbox": {
                "depth": inbox.depth(), "oldest": inbox.oldest(),
                "coalesced": inbox.coalesced, "refused": inbox.refused,
            },
            "pending": pending,
        })
    }
}

/// Does the actor of resource `other` look at `entry`, though it does not own it?
fn cares(other: &Entry, entry: &Entry) -> bool {
    let same =
        |label: &str| entry.label(label).is_none() || other.label(label) == entry.label(label);
    match (
        other.key().kind,
        entry
            .label("app.kubernetes.io/component")
            .unwrap_or_default(),
    ) {
        (Kind::TopoServer, "toposerver") => entry
            .label("multigres.com/toposerver")
            .is_none_or(|name| name == &*other.key().name),
        (Kind::Cell, "multigateway") => same("multigres.com/cell"),
        (Kind::Shard, "multiorch" | "shard-pool") => {
            same("multigres.com/database")
                && same("multigres.com/tablegroup")
                && same("multigres.com/shard")
        }
        (Kind::MultigresCluster, "multiadmin" | "multiadmin-web") => true,
        _ => false,
    }
}

fn life<R: Room>(id: &ActorId, lives: u64, world: Rc<World>, exit: ExitNotice) -> Life<R> {
    Life::new(id.clone(), lives, world, exit)
}

fn take_seat<A>(actor: A, incarnation: u64) -> Seat
where
    A: Actor<Context = Context<A>> + Handler<crate::room::Wake> + Handler<Inspect> + Handler<Stop>,
{
    let address = actor.start();
    Seat {
        incarnation,
        wake: address.clone().recipient(),
        inspect: address.clone().recipient(),
        stop: address.recipient(),
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(inflow) = self.inflow.take() {
            let stream = futures::stream::unfold(inflow, |mut inflow| async move {
                Some((inflow.recv().await?, inflow))
            });
            ctx.add_stream(stream);
        }
    }
}

impl StreamHandler<Inflow> for Supervisor {
    fn handle(&mut self, inflow: Inflow, ctx: &mut Self::Context) {
        self.take_in(inflow, ctx);
    }

    fn finished(&mut self, _: &mut Self::Context) {
        // The default stops the actor; the end of the process does that in order.
    }
}

impl Handler<Exited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: Exited, ctx: &mut Self::Context) {
        let current = self
            .world
            .seats
            .borrow()
            .get(&exited.id)
            .map(|seat| seat.incarnation);
        if current != Some(exited.incarnation) || !exited.panicked {
            return;
        }
        self.world.seats.borrow_mut().remove(&exited.id);
        let now = crate::clock::monotonic();
        let record = self.records.entry(exited.id.clone()).or_default();
        record.falls.retain(|at| now - *at < RESTART_PERIOD);
        record.falls.push_back(now);
        record.total += 1;
        let falls = record.falls.len();
        let me = self.world.store.borrow().by_uid(&exited.id.uid).cloned();
        let Some(me) = me else { return };
        tracing::error!(actor = %exited.id, object = %me.key(), falls, "actor panicked");
        if falls >= RESTART_BUDGET {
            record.stalled_at = Some(me.generation);
        }
        let wait = RESTART_FIRST
            .saturating_mul(1 << falls.min(10).saturating_sub(1))
            .min(RESTART_LONGEST);
        ctx.run_later(wait, move |supervisor, ctx| {
            let gone = supervisor
                .world
                .store
                .borrow()
                .by_uid(&exited.id.uid)
                .is_none();
            if !gone && !supervisor.world.seats.borrow().contains_key(&exited.id) {
                supervisor.spawn(&exited.id, ctx);
            }
        });
    }
}

impl Handler<Question> for Supervisor {
    type Result = ResponseFuture<Option<Value>>;

    fn handle(&mut self, Question(inspection): Question, _: &mut Self::Context) -> Self::Result {
        let store = self.world.store.borrow();
        let group = |namespace: &str, name: &str| (Box::from(namespace), Box::from(name));
        let wanted: Option<BTreeSet<Box<str>>> = match &inspection {
            Inspection::Actors => None,
            Inspection::Cluster { namespace, name } => Some(
                store
                    .group(&group(namespace, name))
                    .iter()
                    .map(|entry| entry.uid.clone())
                    .collect(),
            ),
            Inspection::Shard { namespace, name } => Some(
                store
                    .get(&Key::new(Kind::Shard, namespace, name))
                    .map(|entry| entry.uid.clone())
                    .into_iter()
                    .collect(),
            ),
        };
        if wanted.as_ref().is_some_and(BTreeSet::is_empty) {
            return Box::pin(async { None });
        }
        let executor = self.world.executor.borrow();
        let process = json!({
            "leader": executor.leads(), "synced": self.world.synced.get(), "writes": executor.writes,
            "window": executor.window(), "underWay": executor.lanes().running(), "waiting": executor.lanes().waiting(),
            "objects": store.census().into_iter().map(|(kind, n)| (kind.name(), n)).collect::<BTreeMap<_, _>>(),
        });
        let whole = wanted.is_none();
        let seats = self.world.seats.borrow();
        let actors: Vec<_> = seats
            .iter()
            .filter(|(id, _)| wanted.as_ref().is_none_or(|uids| uids.contains(&id.uid)))
            .map(|(id, seat)| (self.describe(id), seat.inspect.clone()))
            .collect();
        Box::pin(async move {
            let mut out = Vec::new();
            for (mut description, inspect) in actors {
                let answer =
                    tokio::time::timeout(Duration::from_secs(1), inspect.send(Inspect)).await;
                let answer = answer
                    .ok()
                    .and_then(Result::ok)
                    .unwrap_or_else(|| json!({"answer": "none"}));
                if let (Some(into), Value::Object(from)) = (description.as_object_mut(), answer) {
                    into.extend(from);
                }
                out.push(description);
            }
            let mut body = json!({"actors": out});
            if whole && let Some(map) = body.as_object_mut() {
                map.insert("process".into(), process);
            }
            Some(body)
        })
    }
}

impl Handler<Collect> for Supervisor {
    type Result = MessageResult<Collect>;

    fn handle(&mut self, _: Collect, _: &mut Self::Context) -> Self::Result {
        let restarts = self.records.values().map(|record| record.total).sum();
        MessageResult(crate::metric::collect(&self.world, restarts))
    }
}

impl Handler<Drain> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.world.executor.borrow_mut().drain();
        if self.world.executor.borrow().lanes().is_empty() {
            return Box::pin(async {});
        }
        let (sender, receiver) = oneshot::channel();
        self.idle.push(sender);
        Box::pin(async move {
            let _ = receiver.await;
        })
    }
}

/// The report of a pool whose actor is given up.
pub fn stalled_report(reason: &str) -> PoolReport {
    PoolReport {
        wants: Vec::new(),
        stalled: Some(reason.to_owned()),
    }
}
