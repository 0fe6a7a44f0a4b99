//! The only spawner: takes in observations, keeps a flat registry of actors, wakes whom a change concerns, restarts who fell.
//!
//! ```text
//! informers ─┐                       ┌─► inbox + Wake ─► actor ─► actions ─┐
//! answers  ──┴─► Inflow ─► store ────┤ routing                             ▼
//!                                    └─► seats: spawn, stop        executor ─► API server
//! ```
//! Lost on restart: everything. Rebuilt from the next lists.

mod answers;
mod introspection;
mod links;
pub mod messages;
mod routing;
mod seats;

use std::collections::BTreeMap;
use std::rc::Rc;

use actix::prelude::*;
use tokio::sync::{mpsc, oneshot, watch};

pub use messages::{Collect, Drain, Exited, Inflow, Inspection, Ping, Question};
use seats::Record;

use crate::effects::dataplane;
use crate::object::{Key, Kind};
use crate::room::{ActorId, stream};
use crate::world::World;

/// The supervisor.
pub struct Supervisor {
    world: Rc<World>,
    inflow: Option<mpsc::Receiver<Inflow>>,
    reports: Option<mpsc::Receiver<dataplane::Report>>,
    relist: watch::Sender<u64>,
    listed: BTreeMap<Kind, u64>,
    records: BTreeMap<ActorId, Record>,
    /// Falls of all actors, those that are gone included.
    restarts: u64,
    ready: std::sync::Arc<std::sync::atomic::AtomicBool>,
    idle: Vec<oneshot::Sender<()>>,
}

impl Supervisor {
    /// A supervisor without actors.
    pub fn new(
        world: Rc<World>,
        inflow: mpsc::Receiver<Inflow>,
        reports: mpsc::Receiver<dataplane::Report>,
        relist: watch::Sender<u64>,
        ready: std::sync::Arc<std::sync::atomic::AtomicBool>,
    ) -> Self {
        Self {
            world,
            inflow: Some(inflow),
            reports: Some(reports),
            relist,
            listed: BTreeMap::new(),
            records: BTreeMap::new(),
            restarts: 0,
            ready,
            idle: Vec::new(),
        }
    }

    fn take_in(&mut self, inflow: Inflow, ctx: &mut Context<Self>) {
        match inflow {
            Inflow::Listing(kind) => self.world.store.borrow_mut().list_begins(kind),
            Inflow::Seen(entry) => self.seen(*entry, ctx),
            Inflow::Listed(kind, epoch) => self.listed(kind, epoch),
            Inflow::Unserved(kind, epoch) => self.unserved(kind, epoch),
            Inflow::Left(key, uid) => self.left(&key, Some(&uid)),
            Inflow::ForeignListing(kind) => {
                self.world.store.borrow_mut().foreign_list_begins(kind);
            }
            Inflow::Foreign(key, version) => self.foreign(&key, version),
            Inflow::ForeignListed(kind) => self.foreign_listed(kind),
            Inflow::Answer(answer) => self.answered(*answer, ctx),
            Inflow::Leadership(leads) => self.leadership(leads),
            Inflow::Identity(secret, content, result) => {
                self.identified(secret, content, result, ctx);
            }
        }
    }

    fn listed(&mut self, kind: Kind, epoch: u64) {
        let missing = self.world.store.borrow_mut().list_ends(kind);
        for key in missing {
            self.left(&key, None);
        }
        let newly = kind.is_optional() && self.world.served.borrow_mut().insert(kind);
        self.known(kind, epoch);
        if newly {
            self.wake_all();
        }
    }

    /// The definition of an optional kind is gone, and its objects with it.
    fn unserved(&mut self, kind: Kind, epoch: u64) {
        self.world.store.borrow_mut().list_begins(kind);
        let gone = self.world.store.borrow_mut().list_ends(kind);
        for key in gone {
            self.removed(&key, None);
        }
        let newly = self.world.served.borrow_mut().remove(&kind);
        self.known(kind, epoch);
        if newly {
            self.wake_all();
        }
    }

    /// All objects of a kind are in the store, as of this epoch.
    fn known(&mut self, kind: Kind, epoch: u64) {
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
            self.dial_all();
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

    fn leadership(&mut self, leads: bool) {
        let mut executor = self.world.executor.borrow_mut();
        executor.informed = false;
        if leads {
            drop(executor);
            // What was listed before we led may be older than the last write of the leader before us.
            self.relist.send_modify(|epoch| *epoch += 1);
        } else {
            executor.clear();
            self.world.links.borrow_mut().close_all();
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(inflow) = self.inflow.take() {
            ctx.add_stream(stream(inflow));
        }
        if let Some(reports) = self.reports.take() {
            ctx.add_stream(stream(reports));
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

impl Handler<Ping> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
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
