//! Links to the data plane: which pods get one, and whom their news concerns.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use jiff::Timestamp;

use super::Supervisor;
use crate::effects::dataplane::{Report, Tls};
use crate::entry::Entry;
use crate::links::{self, Wanted};
use crate::object::{Key, Kind};
use crate::room::ActorId;
use crate::store::Reference;
use crate::topology_store::peer::Outcome;

impl Supervisor {
    /// A pod is new or different: it gets the link that it deserves.
    pub(super) fn dial(&self, pod: &Entry) {
        if !self.world.links.borrow().are_on() || !self.world.executor.borrow().leads() {
            return;
        }
        let wanted = links::wanted(pod).filter(|wanted| self.is_known(wanted));
        let identity = wanted.as_ref().and_then(|wanted| wanted.identity.as_ref());
        let material = identity.and_then(|identity| self.material(&identity.secret));
        let now = self.world.clock.now();
        let mut links = self.world.links.borrow_mut();
        links.follow(pod.key(), wanted, material, now);
    }

    /// Pool pods of Shards that we know, and what is not a pool pod.
    fn is_known(&self, wanted: &Wanted) -> bool {
        let store = self.world.store.borrow();
        wanted.shard.as_ref().is_none_or(|uid| {
            let owner = store.by_uid(uid);
            owner.is_some_and(|owner| owner.key().kind == Kind::Shard)
        })
    }

    /// The content of the Secret with our certificate, ours or the user's.
    fn material(&self, secret: &Key) -> Option<u64> {
        let store = self.world.store.borrow();
        let entry = store.get(secret).or(match store.reference(secret) {
            Some(Reference::Present(entry)) => Some(entry),
            _ => None,
        });
        links::material(entry?)
    }

    /// All pods that are known.
    pub(super) fn dial_all(&self) {
        self.dial_those(|_| true);
    }

    /// The Secret with our certificate for a cluster is new, different or gone.
    pub(super) fn reidentify(&self, secret: &Key) {
        self.dial_those(|pod| {
            pod.key().namespace == secret.namespace
                && links::wanted(pod)
                    .and_then(|wanted| wanted.identity)
                    .is_some_and(|identity| identity.secret == *secret)
        });
    }

    fn dial_those(&self, those: impl Fn(&Entry) -> bool) {
        let store = self.world.store.borrow();
        let pods: Vec<_> = store
            .of_kind(Kind::Pod)
            .filter(|pod| those(pod))
            .cloned()
            .collect();
        drop(store);
        for pod in pods {
            self.dial(&pod);
        }
    }

    /// Our certificate was read, or not.
    pub(super) fn identified(
        &self,
        secret: Key,
        content: u64,
        result: Result<Arc<Tls>, (String, Outcome)>,
        ctx: &mut Context<Self>,
    ) {
        let now = self.world.clock.now();
        let again = {
            let mut links = self.world.links.borrow_mut();
            links.identified(&secret, content, result, now)
        };
        if let Some(at) = again {
            ctx.run_later(until(at, now), move |supervisor, _| {
                let now = supervisor.world.clock.now();
                let mut links = supervisor.world.links.borrow_mut();
                links.read(&secret, now);
            });
        }
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

impl StreamHandler<Report> for Supervisor {
    fn handle(&mut self, report: Report, _: &mut Context<Self>) {
        let now = self.world.clock.now();
        let concerned = self.world.links.borrow_mut().hear(report, now);
        if let Some(concerned) = concerned {
            let id = ActorId::custom(Kind::Shard, &concerned.shard);
            self.world.wake(&id, &concerned.pod);
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // The default stops the actor; the end of the process does that in order.
    }
}
