//! Who lives: spawning, restarts with back-off, and the stub for who falls too often.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;

use super::{Exited, Supervisor};
use crate::entry::Entry;
use crate::life::{ExitNotice, Life};
use crate::object::Kind;
use crate::room::{ActorId, Inspect, Report, Room, Stop, Wake};
use crate::stub::Stub;
use crate::topology::TopologyActor;
use crate::world::{Seat, World};

/// First wait before a restart.
const RESTART_FIRST: Duration = Duration::from_millis(100);
/// Longest wait before a restart.
const RESTART_LONGEST: Duration = Duration::from_secs(10);
/// Falls within [`RESTART_PERIOD`] after which an actor is given up until its resource changes.
const RESTART_BUDGET: usize = 5;
/// Falls longer ago are forgotten.
const RESTART_PERIOD: Duration = Duration::from_secs(600);

/// What is remembered of an actor beyond its lives.
#[derive(Default)]
pub(super) struct Record {
    falls: VecDeque<tokio::time::Instant>,
    /// Falls since the process started.
    pub(super) total: u64,
    lives: u64,
    /// Between two lives: the back-off decides when the next begins, not what happens meanwhile.
    waits: bool,
    /// Generation of the resource at which the actor was given up.
    pub(super) stalled_at: Option<i64>,
}

impl Supervisor {
    /// Spawns the actors of a custom resource that have no seat, and ends those of pools it no longer has.
    pub(super) fn seat(&mut self, entry: &Entry, ctx: &mut Context<Self>) {
        let kind = entry.key().kind;
        if kind != Kind::MultigresCluster && entry.owner.is_none() {
            // Somebody else's under a name of ours: whoever wants the name says so, and nothing is done with it.
            return;
        }
        let mut wanted = BTreeSet::from([ActorId::custom(kind, &entry.uid)]);
        if kind == Kind::Shard {
            wanted.extend(crate::pool::seats(entry));
        }
        if kind == Kind::MultigresCluster && self.world.stores.is_some() {
            wanted.insert(ActorId::topology(&entry.uid));
        }
        for id in self
            .actors_of(kind, &entry.uid)
            .iter()
            .filter(|id| !wanted.contains(*id))
        {
            self.stop(id);
        }
        for id in wanted {
            let stalled = self.records.get(&id).and_then(|record| record.stalled_at);
            let edited = stalled.is_some_and(|generation| generation != entry.generation);
            if edited {
                if let Some(record) = self.records.get_mut(&id) {
                    record.stalled_at = None;
                    record.waits = false;
                    record.falls.clear();
                }
                if let Some(seat) = self.world.seats.borrow_mut().remove(&id) {
                    let _ = seat.stop.try_send(Stop);
                }
                tracing::info!(actor = %id, object = %entry.key(), "the resource was edited: the stalled actor starts again");
            }
            let waits = self.records.get(&id).is_some_and(|record| record.waits);
            if !waits && !self.world.seats.borrow().contains_key(&id) {
                self.spawn(&id, ctx);
            }
        }
    }

    fn spawn(&mut self, id: &ActorId, ctx: &Context<Self>) {
        let record = self.records.entry(id.clone()).or_default();
        record.lives += 1;
        record.waits = false;
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
            (Kind::MultigresCluster, _) if id.topology => {
                // Such an id exists only where stores are looked at.
                let Some(door) = self.world.stores.clone() else {
                    return;
                };
                let actor = TopologyActor::new(id.clone(), lives, world, door, exit);
                take_seat(actor, lives)
            }
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
            if id.kind == Kind::Shard && id.pool.is_none() {
                // A new life of a shard knows no reports: its pools decide again and tell.
                for pool in self.world.pools_of(&id.uid) {
                    self.world.wake(&pool, &key);
                }
            }
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
    pub(super) fn end(&mut self, kind: Kind, uid: &str) {
        for id in self.actors_of(kind, uid) {
            self.stop(&id);
        }
    }

    /// The actors of a resource, those between two lives included.
    fn actors_of(&self, kind: Kind, uid: &str) -> Vec<ActorId> {
        let of_resource = |id: &&ActorId| id.kind == kind && *id.uid == *uid;
        self.records.keys().filter(of_resource).cloned().collect()
    }
}

fn life<R: Room>(id: &ActorId, lives: u64, world: Rc<World>, exit: ExitNotice) -> Life<R> {
    Life::new(id.clone(), lives, world, exit)
}

fn take_seat<A>(actor: A, incarnation: u64) -> Seat
where
    A: Actor<Context = Context<A>>
        + Handler<Wake>
        + Handler<Report>
        + Handler<Inspect>
        + Handler<Stop>,
{
    let address = actor.start();
    Seat {
        incarnation,
        wake: address.clone().recipient(),
        report: address.clone().recipient(),
        inspect: address.clone().recipient(),
        stop: address.recipient(),
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
        record.waits = true;
        record.total += 1;
        self.restarts += 1;
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
            // Its resource, or the pool in it, may be gone by now, or an edit began the next life.
            let record = supervisor.records.get(&exited.id);
            if record.is_some_and(|record| record.waits && record.lives == exited.incarnation) {
                supervisor.spawn(&exited.id, ctx);
            }
        });
    }
}
