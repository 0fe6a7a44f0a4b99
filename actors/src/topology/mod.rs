//! TopologyActor: one per MultigresCluster. Follows its topology stores, keeps cells and databases registered, prunes what is
//! surely gone, and tells the other actors of the cluster what is there.
//!
//! ```text
//! informers ─► spec, places ─► stores (effects) ─► known ─► ClusterActor, CellActors, ShardActors
//!                                 ▲                  │
//!                                 └──── decide ◄─────┘   registration, pruning
//! ```
//! Lost on restart: everything. The stores are read again; what is in them, and what the specification says, decides.

pub mod decide;
pub mod known;
pub mod places;
pub mod reachable;
pub mod readiness;
pub mod spec;
pub mod stores;
mod told;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use actix::prelude::*;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::decide::{Input, Memory};
use self::known::Known;
use self::places::Places;
use self::spec::{Reader, ShardSpec, Spec};
use self::stores::{Moves, Stores};
use self::told::Diary;
use crate::action::{Action, Planned};
use crate::effects::etcd::{Event, Report};
use crate::effects::topologies::{Door, Topologies};
use crate::entry::Entry;
use crate::life::ExitNotice;
use crate::pace::{PACE, Pace, Paced};
use crate::plan::Plan;
use crate::room::{ActorId, Inspect, Observed, Report as PoolNews, Stop, Wake, stream};
use crate::status::State;
use crate::topology_store::key::ShardId;
use crate::world::World;

pub use readiness::{Topology, condition, current, for_cell, local, of, phase};

/// Reports of stores that may wait; more slow their watches down.
const REPORTS: usize = 64;

/// The actor of a cluster's topology.
pub struct TopologyActor {
    id: ActorId,
    incarnation: u64,
    world: Rc<World>,
    effects: Topologies,
    reports: Option<mpsc::Receiver<Report>>,
    reader: Reader,
    /// What the last decision looked at.
    sight: Option<Sight>,
    stores: Stores,
    memory: Memory,
    diary: Diary,
    decisions: u64,
    pace: Pace,
    _exit: ExitNotice,
}

/// What was read of the last snapshot. The snapshot itself is let go: it would keep objects alive that have changed since.
struct Sight {
    me: Rc<Entry>,
    spec: Rc<Spec>,
    shards: BTreeMap<ShardId, ShardSpec>,
    places: Places,
}

impl TopologyActor {
    /// A new life, without a connection.
    pub fn new(
        id: ActorId,
        incarnation: u64,
        world: Rc<World>,
        door: Door,
        exit: ExitNotice,
    ) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS);
        Self {
            id,
            incarnation,
            world,
            effects: Topologies::new(door, sender),
            reports: Some(reports),
            reader: Reader::default(),
            sight: None,
            stores: Stores::default(),
            memory: Memory::default(),
            diary: Diary::default(),
            decisions: 0,
            pace: Pace::default(),
            _exit: exit,
        }
    }

    /// Reads the snapshot, and follows the stores where they are now.
    fn look(&mut self, observed: &Observed, now: Timestamp) {
        let mut plan = Plan::new(observed, State::default(), now);
        let spec = self.reader.spec(&mut plan, &self.world.defaults);
        let Some(spec) = spec else {
            self.world.refer(&self.id, &plan.decision.references);
            return;
        };
        let mut wishes = spec.wishes.clone();
        for cell in decide::shared_cells(&self.stores.views, &spec.global) {
            wishes.add_shared(&cell);
        }
        let places = wishes.find(&mut plan);
        self.world.refer(&self.id, &plan.decision.references);
        let Moves { opened, closed } = self.stores.arrange(&places);
        for (store, link) in opened {
            self.effects.open(&store, link.place, link.life);
        }
        for store in closed {
            self.effects.close(&store);
        }
        let shards = self.reader.shards(observed);
        self.sight = Some(Sight {
            me: observed.me.clone(),
            spec,
            shards,
            places,
        });
    }

    /// Takes in what live reads found.
    fn answers(&mut self, now: Timestamp) {
        for (key, exists) in self.world.live_answers(&self.id) {
            let Some(question) = &mut self.memory.question else {
                continue;
            };
            if !question.hear(&key, exists) {
                continue;
            }
            let spec = self.sight.as_ref().map(|sight| &sight.spec);
            let desired = spec.and_then(|spec| spec.desired.as_ref().ok());
            // What cannot be read any more names nothing: that is no evidence.
            let desired = desired.filter(|_| self.reader.problem.is_none());
            let gone = question.gone(desired);
            let key = question.confirm.key.clone();
            self.memory.pruning.confirmed(&key, gone, now);
            self.memory.question = None;
        }
    }

    /// Decides about writes and reads, and sends them.
    fn act(&mut self, group: &[Rc<Entry>], now: Timestamp) -> Option<Timestamp> {
        let sight = self.sight.as_ref()?;
        let testimonies = sight.shards.values();
        let testimonies: Vec<_> = testimonies
            .filter_map(|shard| self.world.testimony(&shard.uid))
            .collect();
        let input = sight.input(group, &self.stores, &testimonies);
        let decision = decide::decide(&input, &self.memory, now);
        self.memory = decision.memory;
        for (store, write) in decision.writes {
            let (key, shard) = (
                write.key.clone(),
                told::shard_of(&self.stores.views, &store, &write),
            );
            self.diary.sends(now, &store, &write, shard);
            if !self.effects.write(&store, write) {
                self.answered(&key, "unknown", now);
            }
        }
        for action in decision.reads {
            let reason = "is what a topology record stands for gone?".to_owned();
            self.world.submit(&self.id, Planned { action, reason });
        }
        decision.wake
    }

    /// Tells the other actors what is known; whom a difference concerns is woken.
    fn tell(&self, decided: bool, now: Timestamp) -> Option<Timestamp> {
        let sight = self.sight.as_ref()?;
        let input = sight.input(&[], &self.stores, &[]);
        let before = self.world.topology(&self.id.uid).unwrap_or_default();
        let (known, wake) = decide::known(&input, decided.then_some(&self.memory), &before, now);
        self.log(sight, &before, &known);
        self.world.publish(&self.id.uid, known);
        wake
    }

    /// One line when the topology comes into or goes out of reach, and none between.
    fn log(&self, sight: &Sight, before: &Known, known: &Known) {
        if before.reachable == known.reachable {
            return;
        }
        let Some(reachable) = &known.reachable else {
            return;
        };
        let object = sight.me.key();
        let message = reachable.message();
        if known.alarming {
            tracing::warn!(actor = %self.id, %object, message, "topology out of reach");
        } else {
            tracing::info!(actor = %self.id, %object, message, "topology");
        }
    }

    fn answered(&mut self, key: &str, code: &'static str, now: Timestamp) {
        let Some(write) = self.diary.ends(key, code, now) else {
            return;
        };
        if write.prunes {
            self.memory.pruning.answered(key);
        } else {
            self.memory.registration.answered(key, now);
        }
    }

    fn take_in(&mut self, report: Report) {
        let now = self.world.clock.now();
        if let Some((operation, code, latency)) = told::request(&report, &self.diary) {
            let mut requests = self.world.topology_requests.borrow_mut();
            requests.count(operation, code, latency);
        }
        if let Event::Lost { endpoint, error } = &report.event {
            tracing::debug!(actor = %self.id, endpoint, error, "a member of a topology store was lost");
        }
        if let Some(answered) = self.stores.take_in(report, now) {
            self.answered(&answered.key, answered.code, now);
        }
    }

    /// Sends the events of what was written since the last time.
    fn announce(&mut self) {
        let Some(sight) = &self.sight else { return };
        for (shard, events) in self.diary.news() {
            let shard = shard.and_then(|id| sight.shards.get(&id));
            let me = &sight.me;
            let (key, uid) = match shard {
                Some(shard) => (shard.key.clone(), shard.uid.clone()),
                None => (me.key().clone(), me.uid.clone()),
            };
            let action = Action::Announce { key, uid, events };
            let reason = "a topology record was written".to_owned();
            self.world.submit(&self.id, Planned { action, reason });
        }
    }
}

impl Paced for TopologyActor {
    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    fn think(&mut self, ctx: &mut Context<Self>) {
        self.pace.rest(PACE);
        let Some(observed) = self.world.snapshot(&self.id) else {
            return;
        };
        if let Some(hook) = &self.world.hooks.before_decision {
            hook(&self.id, observed.me.key(), self.incarnation);
        }
        self.world.inbox_taken(&self.id);
        self.decisions += 1;
        let now = self.world.clock.now();
        self.look(&observed, now);
        self.answers(now);
        let wake = self.act(&observed.group, now);
        let told = self.tell(true, now);
        self.announce();
        self.set_timer([wake, told].into_iter().flatten().min(), now, ctx);
    }
}

impl Sight {
    fn input<'a>(
        &'a self,
        group: &'a [Rc<Entry>],
        stores: &'a Stores,
        testimonies: &'a [Rc<known::Testimony>],
    ) -> Input<'a> {
        Input {
            me: &self.me,
            group,
            spec: &self.spec,
            shards: &self.shards,
            places: &self.places,
            stores,
            testimonies,
        }
    }
}

impl Actor for TopologyActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(reports) = self.reports.take() {
            ctx.add_stream(stream(reports));
        }
    }
}

impl StreamHandler<Report> for TopologyActor {
    fn handle(&mut self, report: Report, ctx: &mut Self::Context) {
        self.take_in(report);
        // What is known is told at once; what follows from it for the topology can wait for the pace.
        self.tell(false, self.world.clock.now());
        self.soon(ctx);
    }

    fn finished(&mut self, _: &mut Self::Context) {
        // The default stops the actor; its resource or the supervisor does that.
    }
}

impl Handler<Wake> for TopologyActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.soon(ctx);
    }
}

impl Handler<PoolNews> for TopologyActor {
    type Result = ();

    fn handle(&mut self, _: PoolNews, _: &mut Self::Context) {
        // Pools tell their shard.
    }
}

impl Handler<Stop> for TopologyActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Inspect> for TopologyActor {
    type Result = MessageResult<Inspect>;

    fn handle(&mut self, _: Inspect, _: &mut Self::Context) -> Self::Result {
        let places = self.sight.as_ref().map(|sight| &sight.places);
        let known = self.world.topology(&self.id.uid).unwrap_or_default();
        MessageResult(json!({
            "actor": self.id.to_string(),
            "room": self.id.room(),
            "incarnation": self.incarnation,
            "decisions": self.decisions,
            "stores": self.stores.told(places),
            "historiesLost": self.stores.rewound,
            "historiesCompacted": self.stores.compacted,
            "registered": known.cells,
            "state": serde_json::to_value(&self.memory).unwrap_or(Value::Null),
            "writes": self.diary.lines(),
            "problem": self.reader.problem,
            "nextWake": self.pace.next(),
        }))
    }
}
