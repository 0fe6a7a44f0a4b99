//! The thin shell of every actor: it carries messages and effects, and leaves what to do to its room.
//!
//! ```text
//! Wake ─► take the snapshot ─► decide ─► actions to the executor, report to the shard ─► set the timer
//! ```
//! Lost on restart: everything. State is rebuilt from the store, reports are told again.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::action::{Decision, Want};
use crate::entry::Entry;
use crate::history::History;
use crate::object::{Key, Kind};
use crate::pace::{self, Pace, Paced};
use crate::room::{ActorId, Inspect, Observed, PoolReport, Report, Room, Stop, Wake};
use crate::supervisor::Exited;
use crate::world::World;

/// Messages that may wait. A Wake that finds no place is made up for by what is in its place; a Report is told again.
const MAILBOX: usize = 16;

/// How soon a report that found no place is told again.
pub(crate) const RETELL: Duration = Duration::from_millis(100);

/// The shell of an actor.
pub struct Life<R: Room> {
    id: ActorId,
    incarnation: u64,
    world: Rc<World>,
    state: R::State,
    history: History,
    decisions: u64,
    wants: Vec<Want>,
    /// What pools told (ShardActor only).
    reports: BTreeMap<(Box<str>, Box<str>), PoolReport>,
    pace: Pace,
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
            history: History::default(),
            decisions: 0,
            wants: Vec::new(),
            reports: BTreeMap::new(),
            pace: Pace::default(),
            _exit: exit,
        }
    }

    /// Tells the shard of this pool; true unless it has to be told again.
    fn report(&self, report: PoolReport) -> bool {
        let Some(from) = self.id.pool.clone() else {
            return true;
        };
        self.world.tell(&self.id, Report { from, report })
    }

    /// What the pools that the spec names told. One that is between two lives told it too: silence takes nothing away.
    fn reports_of(&mut self, shard: &Entry) -> BTreeMap<(Box<str>, Box<str>), PoolReport> {
        if !self.reports.is_empty() {
            let named = crate::pool::seats(shard);
            self.reports
                .retain(|from, _| named.iter().any(|id| id.pool.as_ref() == Some(from)));
        }
        self.reports.clone()
    }
}

impl<R: Room> Paced for Life<R> {
    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    fn think(&mut self, ctx: &mut Context<Self>) {
        let (backlog, window) = self.world.load();
        self.pace.rest(pace::under(backlog, window));
        let Some(mut observed) = self.world.snapshot(&self.id) else {
            return;
        };
        observed.wants = self.reports_of(&observed.me);
        if let Some(hook) = &self.world.hooks.before_decision {
            hook(&self.id, observed.me.key(), self.incarnation);
        }
        self.world.inbox_taken(&self.id);
        let now = self.world.clock.now();
        let mut decision = R::decide(&self.id, &observed, &self.state, now, &self.world.defaults);
        self.decisions += 1;
        steer(&mut decision, &observed, now);
        self.history.add(now, &decision.inputs, &decision.actions);
        self.world.refer(&self.id, &decision.references);
        if decision.wants != self.wants {
            self.wants.clone_from(&decision.wants);
        }
        let told = self.report(PoolReport {
            wants: decision.wants,
            obstacles: decision.obstacles,
            volumes: decision.volumes,
            undecided: decision.undecided,
            stalled: None,
        });
        if let Some(testimony) = decision.testimony {
            self.world.testify(&self.id, testimony);
        }
        for planned in decision.actions {
            self.world.submit(&self.id, planned);
        }
        for (pod, call) in decision.calls {
            let pod = Key::new(Kind::Pod, &observed.me.key().namespace, &pod);
            self.world.call(&self.id, &pod, call);
        }
        self.state = decision.state;
        let again = (!told).then(|| now.saturating_add(RETELL).unwrap_or(now));
        let wake = [decision.wake, again].into_iter().flatten().min();
        self.set_timer(wake, now, ctx);
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
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl<R: Room> Handler<Wake> for Life<R> {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.soon(ctx);
    }
}

impl<R: Room> Handler<Report> for Life<R> {
    type Result = ();

    fn handle(&mut self, Report { from, report }: Report, ctx: &mut Self::Context) {
        let news = self.reports.get(&from) != Some(&report);
        if news {
            self.reports.insert(from, report);
        }
        // Reports share the mailbox with wakes, so a wake may have found it full.
        if news || self.world.inbox(&self.id).depth() > 0 {
            self.soon(ctx);
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
            "reports": self.reports.iter().map(|((pool, cell), report)| (format!("{pool}/{cell}"), report)).collect::<BTreeMap<_, _>>(),
            "lastDecisions": serde_json::to_value(&self.history).unwrap_or(Value::Null),
            "nextWake": self.pace.next(),
        }))
    }
}
