//! The stub that takes the seat of an actor that fell too often: it writes only `Stalled`, answers `Inspect`, and ends when
//! the resource is edited.

use std::rc::Rc;

use actix::prelude::*;
use serde_json::json;

use crate::action::{Action, Event, Planned};
use crate::room::{ActorId, ExitNotice, Inspect, Stop, Wake};
use crate::status::{self, Condition};
use crate::world::World;

/// See the module.
pub struct Stub {
    id: ActorId,
    reason: String,
    world: Rc<World>,
    _exit: ExitNotice,
}

impl Stub {
    /// A stub that says `reason`.
    pub const fn new(id: ActorId, reason: String, world: Rc<World>, exit: ExitNotice) -> Self {
        Self {
            id,
            reason,
            world,
            _exit: exit,
        }
    }

    fn tell(&self) {
        if self.id.pool.is_some() {
            self.world
                .report(&self.id, crate::supervisor::stalled_report(&self.reason));
            return;
        }
        let Some(observed) = self.world.snapshot(&self.id) else {
            return;
        };
        let me = &observed.me;
        self.world.inbox_taken(&self.id);
        let now = self.world.clock.now();
        let before = me.status_value();
        let conditions = [
            Condition::new("Ready", false, "ActorStalled", &self.reason),
            Condition::new("Stalled", true, "ActorStalled", &self.reason),
        ];
        let next =
            status::with_conditions(before.clone(), &before, &conditions, me.generation, now);
        if next == before {
            return;
        }
        let event = Event {
            reason: "Stalled".into(),
            message: format!("{}; edit the resource to try again", self.reason),
            warning: true,
        };
        let action = Action::Status {
            key: me.key().clone(),
            uid: me.uid.clone(),
            status: next,
            manager: status::manager(me.key().kind),
            event: Some(event),
        };
        self.world.submit(
            &self.id,
            Planned {
                action,
                reason: self.reason.clone(),
            },
        );
    }
}

impl Actor for Stub {
    type Context = Context<Self>;
}

impl Handler<Wake> for Stub {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Self::Context) {
        self.tell();
    }
}

impl Handler<Stop> for Stub {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Inspect> for Stub {
    type Result = MessageResult<Inspect>;

    fn handle(&mut self, _: Inspect, _: &mut Self::Context) -> Self::Result {
        MessageResult(
            json!({"actor": self.id.to_string(), "room": "Stub", "of": self.id.room(), "reason": self.reason}),
        )
    }
}
