//! What all actors share: identity, the snapshot a decision looks at, and the thin shell that carries messages and effects.
//!
//! A room is one kind of actor. It brings a view (what is desired) and `decide`; the shell does the rest:
//! `Wake` → take the snapshot → `decide` → hand the actions to the executor → set the timer.
//! Nothing in a shell survives a restart, and nothing needs to: state is rebuilt from the store.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::action::{Decision, Planned, Want};
use crate::entry::Entry;
use crate::object::{Key, Kind};
use crate::store::{Reference, Trouble};
use crate::supervisor::Exited;
use crate::world::World;

/// Who an actor is: the UID of its custom resource and, for a pool, its name and cell. A resource that is deleted and made
/// again has another UID, so it never meets its predecessor's state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ActorId {
    /// Kind of the resource.
    pub kind: Kind,
    /// Its UID.
    pub uid: Box<str>,
    /// Pool and cell, for a PoolActor.
    pub pool: Option<(Box<str>, Box<str>)>,
}

impl ActorId {
    /// The actor of a custom resource.
    pub fn custom(kind: Kind, uid: &str) -> Self {
        Self {
            kind,
            uid: uid.into(),
            pool: None,
        }
    }

    /// The actor of a pool in a cell.
    pub fn pool(shard: &str, pool: &str, cell: &str) -> Self {
        Self {
            kind: Kind::Shard,
            uid: shard.into(),
            pool: Some((pool.into(), cell.into())),
        }
    }

    /// The name of its room.
    pub const fn room(&self) -> &'static str {
        match (self.kind, &self.pool) {
            (_, Some(_)) => "PoolActor",
            (Kind::MultigresCluster, _) => "ClusterActor",
            (Kind::TopoServer, _) => "TopoServerActor",
            (Kind::Cell, _) => "CellActor",
            (Kind::TableGroup, _) => "TableGroupActor",
            _ => "ShardActor",
        }
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}", self.room(), self.uid)?;
        if let Some((pool, cell)) = &self.pool {
            write!(f, ", {pool}, {cell}")?;
        }
        f.write_str(")")
    }
}

/// Everything a decision may look at: one consistent snapshot of a cluster's objects.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The actor's own resource.
    pub me: Rc<Entry>,
    /// All objects of the same MultigresCluster, sorted by key.
    pub group: Vec<Rc<Entry>>,
    /// Failed writes by object.
    pub troubles: BTreeMap<Key, Trouble>,
    /// User objects we refer to.
    pub references: BTreeMap<Key, Reference>,
    /// What pools want, and pools whose actor is stalled with the reason (ShardActor only).
    pub wants: BTreeMap<(Box<str>, Box<str>), PoolReport>,
}

/// What a PoolActor tells its ShardActor: the newest state, never a delta.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolReport {
    /// Pods it wants taken away.
    pub wants: Vec<Want>,
    /// The pool's actor gave up, with the reason.
    pub stalled: Option<String>,
}

impl Observed {
    /// The object of this name.
    pub fn get(&self, key: &Key) -> Option<&Rc<Entry>> {
        self.group
            .binary_search_by(|entry| entry.key().cmp(key))
            .ok()
            .and_then(|index| self.group.get(index))
    }

    /// Objects of a kind that our resource controls.
    pub fn controlled(&self, kind: Kind) -> impl Iterator<Item = &Rc<Entry>> {
        self.group.iter().filter(move |entry| {
            entry.key().kind == kind && entry.owner.as_deref() == Some(self.me.uid.as_ref())
        })
    }

    /// Objects of a kind that carry all these labels.
    pub fn labelled<'a>(
        &'a self,
        kind: Kind,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Rc<Entry>> {
        self.group.iter().filter(move |entry| {
            entry.key().kind == kind
                && labels
                    .iter()
                    .all(|(name, value)| entry.label(name) == Some(value))
        })
    }
}

/// One kind of actor.
pub trait Room: Unpin + 'static {
    /// What it remembers between decisions; lost on restart without harm.
    type State: Clone + Default + Serialize + Unpin + 'static;

    /// The decision: pure, without clock, randomness, client or logging.
    fn decide(
        id: &ActorId,
        observed: &Observed,
        state: &Self::State,
        now: Timestamp,
        defaults: &crds::resolve::OperatorDefaults,
    ) -> Decision<Self::State>;
}

/// "Look at your snapshot": sent by the supervisor when the inbox turned dirty. A repeated or lost one costs time only.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Wake;

/// Asks for the state; answered from memory.
#[derive(Message)]
#[rtype(result = "Value")]
pub struct Inspect;

/// The resource is gone: end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Decisions kept for introspection.
const HISTORY: usize = 8;

/// Shortest time between two decisions of one actor. The first is made at once; bursts of events are taken together.
const PACE: Duration = Duration::from_millis(40);

/// A decision that asked for something, as introspection shows it.
#[derive(Serialize)]
struct Recorded {
    at: Timestamp,
    inputs: Vec<String>,
    actions: Vec<(&'static str, String, String)>,
}

/// The shell of an actor.
pub struct Life<R: Room> {
    id: ActorId,
    incarnation: u64,
    world: Rc<World>,
    state: R::State,
    history: VecDeque<Recorded>,
    decisions: u64,
    wants: Vec<Want>,
    next: Option<Timestamp>,
    timer: Option<SpawnHandle>,
    rested: tokio::time::Instant,
    resting: bool,
    _exit: ExitNotice,
}

/// Tells the supervisor that a life ended, and how. Its drop runs while a panic unwinds too, so it must not fail.
pub struct ExitNotice {
    id: ActorId,
    incarnation: u64,
    supervisor: Recipient<Exited>,
}

impl Drop for ExitNotice {
    fn drop(&mut self) {
        self.supervisor.do_send(Exited {
            id: self.id.clone(),
            incarnation: self.incarnation,
            panicked: std::thread::panicking(),
        });
    }
}

impl ExitNotice {
    /// A notice for one life.
    pub const fn new(id: ActorId, incarnation: u64, supervisor: Recipient<Exited>) -> Self {
        Self {
            id,
            incarnation,
            supervisor,
        }
    }
}

impl<R: Room> Life<R> {
    /// A new life.
    pub fn new(id: ActorId, incarnation: u64, world: Rc<World>, exit: ExitNotice) -> Self {
        Self {
            id,
            incarnation,
            world,
            state: R::State::default(),
            history: VecDeque::new(),
            decisions: 0,
            wants: Vec::new(),
            next: None,
            timer: None,
            rested: crate::clock::monotonic(),
            resting: false,
            _exit: exit,
        }
    }

    fn think(&mut self, ctx: &mut Context<Self>) {
        self.rested = crate::clock::monotonic() + PACE;
        let Some(observed) = self.world.snapshot(&self.id) else {
            return;
        };
        if let Some(hook) = &self.world.hooks.before_decision {
            hook(&self.id, observed.me.key(), self.incarnation);
        }
        self.world.inbox_taken(&self.id);
        let now = self.world.clock.now();
        let mut decision = R::decide(&self.id, &observed, &self.state, now, &self.world.defaults);
        self.decisions += 1;
        steer(&mut decision, &observed, now);
        self.record(now, &decision);
        self.world.refer(&self.id, &decision.references);
        if decision.wants != self.wants {
            self.wants.clone_from(&decision.wants);
        }
        if self.id.pool.is_some() {
            self.world.report(
                &self.id,
                PoolReport {
                    wants: decision.wants,
                    stalled: None,
                },
            );
        }
        for planned in decision.actions {
            self.world.submit(&self.id, planned);
        }
        self.state = decision.state;
        self.set_timer(decision.wake, now, ctx);
    }

    fn set_timer(&mut self, wake: Option<Timestamp>, now: Timestamp, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.next = wake;
        self.timer = wake.map(|at| {
            let wait = Duration::try_from(at.duration_since(now))
                .unwrap_or_default()
                .max(PACE);
            ctx.run_later(wait, |life, ctx| {
                life.timer = None;
                life.think(ctx);
            })
        });
    }

    fn record(&mut self, at: Timestamp, decision: &Decision<R::State>) {
        if decision.actions.is_empty() {
            return;
        }
        let action = |planned: &Planned| {
            let (key, _) = planned.action.lane();
            (
                planned.action.verb(),
                key.to_string(),
                planned.reason.clone(),
            )
        };
        self.history.push_back(Recorded {
            at,
            inputs: decision.inputs.clone(),
            actions: decision.actions.iter().map(action).collect(),
        });
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }
}

/// Holds back actions on objects whose last write failed a moment ago, and wakes when they may be tried again.
fn steer<S>(decision: &mut Decision<S>, observed: &Observed, now: Timestamp) {
    let mut wake = decision.wake;
    decision.actions.retain(|planned| {
        let (key, _) = planned.action.lane();
        match observed.troubles.get(key) {
            Some(trouble) if trouble.retry_at > now => {
                wake = Some(wake.map_or(trouble.retry_at, |at| at.min(trouble.retry_at)));
                false
            }
            _ => true,
        }
    });
    decision.wake = wake;
}

impl<R: Room> Actor for Life<R> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Wake and Inspect only; a full mailbox loses a Wake that another one makes up for.
        ctx.set_mailbox_capacity(16);
    }
}

impl<R: Room> Handler<Wake> for Life<R> {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        if self.resting {
            return;
        }
        let wait = self
            .rested
            .saturating_duration_since(crate::clock::monotonic());
        if wait.is_zero() {
            self.think(ctx);
        } else {
            self.resting = true;
            ctx.run_later(wait, |life, ctx| {
                life.resting = false;
                life.think(ctx);
            });
        }
    }
}

impl<R: Room> Handler<Stop> for Life<R> {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl<R: Room> Handler<Inspect> for Life<R> {
    type Result = MessageResult<Inspect>;

    fn handle(&mut self, _: Inspect, _: &mut Self::Context) -> Self::Result {
        MessageResult(json!({
            "actor": self.id.to_string(),
            "room": self.id.room(),
            "pool": self.id.pool,
            "incarnation": self.incarnation,
            "decisions": self.decisions,
            "state": serde_json::to_value(&self.state).unwrap_or(Value::Null),
            "wants": self.wants,
            "lastDecisions": serde_json::to_value(&self.history).unwrap_or(Value::Null),
            "nextWake": self.next,
        }))
    }
}
