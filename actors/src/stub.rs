//! The stub that takes the seat of an actor that fell too often: it writes only `Stalled`, answers `Inspect`, and ends when
//! the resource is edited.

use std::rc::Rc;

use actix::prelude::*;
use serde_json::{Value, json};

use crate::action::{Action, Event, Planned};
use crate::life::{ExitNotice, RETELL};
use crate::object::Kind;
use crate::room::{ActorId, Inspect, PoolReport, Report, Stop, Wake};
use crate::status::{self, Condition};
use crate::topology::known::Known;
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

    fn tell(&self, ctx: &mut Context<Self>) {
        self.world.inbox_taken(&self.id);
        if let Some(from) = self.id.pool.clone() {
            let report = PoolReport {
                stalled: Some(self.reason.clone()),
                ..PoolReport::default()
            };
            if !self.world.tell(&self.id, Report { from, report }) {
                ctx.run_later(RETELL, |stub, ctx| stub.tell(ctx));
            }
            return;
        }
        if self.id.topology {
            // The status is the ClusterActor's.
            let before = self.world.topology(&self.id.uid).unwrap_or_default();
            let known = Known {
                stalled: Some(self.reason.clone()),
                cells: before.cells.clone(),
                ..Known::default()
            };
            self.world.publish(&self.id.uid, known);
            return;
        }
        let Some(observed) = self.world.snapshot(&self.id) else {
            return;
        };
        let me = &observed.me;
        let now = self.world.clock.now();
        let before = me.status_value();
        let base = complete(before.clone(), me.key().kind);
        let conditions = [
            Condition::new("Ready", false, "ActorStalled", &self.reason),
            Condition::new("Stalled", true, "ActorStalled", &self.reason),
        ];
        let next = status::with_conditions(base, &before, &conditions, me.generation, now);
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
            version: None,
            status: next,
            manager: status::manager(me.key().kind),
            events: vec![event],
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

/// The status with what the schema requires of its kind (`api.md` trap T11); what is there stays.
fn complete(status: Value, kind: Kind) -> Value {
    let mut fields = match status {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    let required: &[(&str, Value)] = match kind {
        Kind::Cell => &[
            ("gatewayReplicas", json!(0)),
            ("gatewayReadyReplicas", json!(0)),
        ],
        Kind::TableGroup => &[("readyShards", json!(0)), ("totalShards", json!(0))],
        Kind::Shard => &[("orchReady", json!(false)), ("poolsReady", json!(false))],
        _ => &[],
    };
    for (name, value) in required {
        fields.entry(*name).or_insert_with(|| value.clone());
    }
    fields.insert("phase".into(), "Degraded".into());
    Value::Object(fields)
}

impl Actor for Stub {
    type Context = Context<Self>;
}

impl Handler<Wake> for Stub {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.tell(ctx);
    }
}

impl Handler<Report> for Stub {
    type Result = ();

    fn handle(&mut self, _: Report, _: &mut Self::Context) {
        // The next life asks the pools again.
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
