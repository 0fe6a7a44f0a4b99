//! What an answer of the API server means: an observation, a failure, or a finding.

use std::time::Duration;

use actix::prelude::*;
use jiff::Timestamp;

use super::Supervisor;
use crate::action::{Action, Planned};
use crate::covers;
use crate::effects::executor::{Answer, Found};
use crate::effects::kubernetes::Failure;
use crate::entry::Entry;
use crate::findings::Finding;
use crate::links;
use crate::object::{Desired, Key, Kind};
use crate::room::ActorId;

/// How the server came to show an object, and what was to be put there.
#[derive(Clone, Copy)]
enum Told<'a> {
    /// It was read: instead of a write, after a conflict, or because no answer came.
    Read(Option<&'a Desired>),
    /// It is the answer to the write.
    Written(Option<&'a Desired>),
}

impl Supervisor {
    pub(super) fn answered(&mut self, mut answer: Answer, ctx: &mut Context<Self>) {
        let id = answer.job.actor.clone();
        let key = answer.job.planned.action.lane().0.clone();
        let (referred, held) = {
            let store = self.world.store.borrow();
            (store.reference(&key).is_some(), store.get(&key).is_some())
        };
        // The user's own, or a Secret that nobody refers to any more: an answer to a write of ours is about neither.
        let users = !answer.job.planned.action.writes() && !held;
        let put = answer.job.planned.action.puts();
        let result = std::mem::replace(&mut answer.result, Ok(Found::Nothing));
        if id.topology && !answer.job.planned.action.writes() {
            let exists = match &result {
                Ok(Found::Gone) => Some(false),
                Ok(_) => Some(true),
                Err(_) => None,
            };
            self.world.answer(&id, &key, exists);
        }
        match result {
            // Whether it exists was asked, for the sake of its topology record: whose it is does not matter here.
            _ if id.topology && key.kind == Kind::Pod => {}
            _ if matches!(answer.job.planned.action, Action::Announce { .. }) => {}
            Ok(Found::Object(entry)) if users && referred => {
                let mut store = self.world.store.borrow_mut();
                store.succeed(&key);
                store.learn_reference(&key, Some(*entry));
            }
            Ok(Found::Gone) if users && referred => {
                let mut store = self.world.store.borrow_mut();
                store.succeed(&key);
                store.learn_reference(&key, None);
            }
            Ok(Found::Object(_)) if users => {}
            Ok(Found::Object(entry)) => self.found(&id, *entry, Told::Read(put), ctx),
            Ok(Found::Written(entry)) => self.found(&id, *entry, Told::Written(put), ctx),
            Ok(Found::Gone) => self.gone(&id, &key, !answer.job.planned.action.writes()),
            Ok(Found::Nothing) => self.world.store.borrow_mut().succeed(&key),
            // Decided anew by whoever leads.
            Err(Failure::NotLeader) => {}
            Err(failure) => {
                tracing::warn!(
                    actor = %id, object = %key, action = answer.job.planned.action.verb(),
                    code = failure.code(), error = %failure, "request failed"
                );
                let now = self.world.clock.now();
                let mut store = self.world.store.borrow_mut();
                store.fail(&key, failure.code(), failure.to_string(), now);
                drop(store);
                if !answer.job.planned.action.writes() {
                    self.read_again(&answer, now, ctx);
                }
            }
        }
        if users && referred && links::is_identity(&key) {
            self.reidentify(&key);
        }
        self.world.executor.borrow_mut().finish(&answer);
        let mut interested = self.world.referrers(&key);
        if !interested.contains(&id) {
            interested.push(id);
        }
        for id in interested {
            self.world.wake(&id, &key);
        }
        if self.world.executor.borrow().lanes().is_empty() {
            for idle in self.idle.drain(..) {
                let _ = idle.send(());
            }
        }
    }

    /// A failed write is decided anew; a failed read is not, since what it would have told is still unknown.
    fn read_again(&self, answer: &Answer, now: Timestamp, ctx: &mut Context<Self>) {
        let Planned { action, reason } = answer.job.planned.clone();
        let key = action.lane().0.clone();
        let retry_at = self.world.store.borrow().trouble(&key).map(|t| t.retry_at);
        let wait = retry_at.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        let id = answer.job.actor.clone();
        ctx.run_later(wait.unwrap_or_default(), move |supervisor, _| {
            let world = &supervisor.world;
            let referrer = world.referrers(&key).into_iter().next();
            let asker = referrer.or_else(|| world.store.borrow().by_uid(&id.uid).map(|_| id));
            if let Some(asker) = asker {
                world.read(&asker, &key, &reason);
            }
        });
    }

    /// The answer shows an object: an observation like any other, and what it tells of our write.
    fn found(&mut self, id: &ActorId, entry: Entry, told: Told<'_>, ctx: &mut Context<Self>) {
        let key = &entry.key().clone();
        let (Told::Read(put) | Told::Written(put)) = told;
        let undone = put.filter(|put| !covers::covers(&entry.comparable(), put));
        if let (Some(put), None) = (put, undone) {
            entry.cover(covers::fingerprint(put));
        }
        let now = self.world.clock.now();
        let mut store = self.world.store.borrow_mut();
        let me = store.by_uid(&id.uid).cloned();
        let group = me.as_ref().and_then(|me| store.group_of(me.key()).cloned());
        let foreign = key.kind != Kind::MultigresCluster
            && me.is_some_and(|me| entry.uid != me.uid && !entry.belongs_to(&me));
        let unmoved = store
            .get(key)
            .is_some_and(|known| known.uid == entry.uid && known.version == entry.version);
        match undone {
            _ if foreign => {
                store.fail(
                    key,
                    409,
                    "an object of this name exists already".into(),
                    now,
                );
            }
            // It did not get there, or met a conflict: nothing is known of what the server would make of it.
            Some(_) if matches!(told, Told::Read(_)) => {
                store.fail(key, 0, "the write was not carried out".into(), now);
            }
            Some(put) if unmoved => {
                // The server took the write and changed nothing: the same write would end the same. Remember the pair.
                if let Some(known) = store.get(key) {
                    known.vain.set(covers::fingerprint(put));
                }
                store.succeed(key);
                let finding = Finding::futile(id, now);
                self.world.findings.borrow_mut().add(key, finding);
            }
            Some(_) => {
                // Another writer or a webhook changes it back: slow down instead of fighting.
                store.fail(
                    key,
                    0,
                    "the object is not as written: somebody else changes it".into(),
                    now,
                );
            }
            None => {
                store.succeed(key);
                self.world.findings.borrow_mut().clear(key);
            }
        }
        let before = store.get(key).cloned();
        store.observe(entry, group.as_ref());
        drop(store);
        self.changed(key, before.as_deref(), ctx);
    }

    fn gone(&mut self, id: &ActorId, key: &Key, was_read: bool) {
        self.world.store.borrow_mut().succeed(key);
        self.removed(key, None);
        let me = self
            .world
            .store
            .borrow()
            .by_uid(&id.uid)
            .map(|me| me.key().clone());
        if let Some(me) = me.filter(|me| was_read && me != key) {
            // It may have gone because its owner went: look before anything is made again.
            self.world.read(
                id,
                &me,
                "an owned object is gone: is its owner still there?",
            );
        }
    }
}
