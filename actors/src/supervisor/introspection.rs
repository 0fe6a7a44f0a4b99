//! Questions from outside, answered from the actors' state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde_json::{Value, json};

use super::{Collect, Inspection, Question, Supervisor};
use crate::object::{Key, Kind};
use crate::room::{ActorId, Inspect};

/// How long an actor may take to answer; one that does not is shown without its state.
const ANSWER: Duration = Duration::from_secs(1);

impl Supervisor {
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
        let poolers = (*id == ActorId::custom(Kind::Shard, &id.uid))
            .then(|| self.world.links.borrow().describe(&id.uid));
        json!({
            "object": object,
            "poolers": poolers,
            "restarts": record.map_or(0, |record| record.total),
            "stalled": record.is_some_and(|record| record.stalled_at.is_some()),
            "inbox": {
                "depth": inbox.depth(), "oldest": inbox.oldest(),
                "coalesced": inbox.coalesced, "refused": inbox.refused,
            },
            "pending": pending,
            "findings": self.world.findings.borrow().of(id),
        })
    }
}

impl Handler<Question> for Supervisor {
    type Result = ResponseFuture<Option<Value>>;

    fn handle(&mut self, Question(inspection): Question, _: &mut Self::Context) -> Self::Result {
        let store = self.world.store.borrow();
        let group = |namespace: &str, name: &str| (Arc::from(namespace), Arc::from(name));
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
            "objects": store.census().into_iter().map(|(kind, (count, _))| (kind.name(), count)).collect::<BTreeMap<_, _>>(),
            "bytes": store.census().into_iter().map(|(kind, (_, bytes))| (kind.name(), bytes)).collect::<BTreeMap<_, _>>(),
            "findings": &*self.world.findings.borrow(),
        });
        let whole = wanted.is_none();
        let seats = self.world.seats.borrow();
        let actors: Vec<_> = seats
            .iter()
            .filter(|(id, _)| wanted.as_ref().is_none_or(|uids| uids.contains(&id.uid)))
            .map(|(id, seat)| (self.describe(id), seat.inspect.clone()))
            .collect();
        Box::pin(async move {
            let asked = actors.into_iter().map(|(description, inspect)| async move {
                let answer = tokio::time::timeout(ANSWER, inspect.send(Inspect)).await;
                let answer = answer.ok().and_then(Result::ok);
                (
                    description,
                    answer.unwrap_or_else(|| json!({"answer": "none"})),
                )
            });
            let mut out = Vec::new();
            for (mut description, answer) in futures::future::join_all(asked).await {
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
        MessageResult(crate::metric::collect(&self.world, self.restarts))
    }
}
