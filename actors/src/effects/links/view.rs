//! What is seen of the links: by ShardActors, metrics and introspection.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Count, Links, Place, Poolers, Seen};
use crate::links::Component;
use crate::shard::members::FRESH;

impl Links {
    /// What a ShardActor sees; `None`: this process does not talk to the data plane.
    pub fn of_shard(&self, shard: &str) -> Option<Poolers> {
        if !self.are_on() {
            return None;
        }
        let places = self.places_of(shard);
        let mut poolers = Poolers {
            backups: self.backups.get(shard).cloned(),
            ..Poolers::default()
        };
        for place in places {
            let calls = place.under_way.values();
            let own = calls.filter(|asked| *asked.by.uid == *shard);
            poolers.under_way.extend(own.map(|asked| asked.method));
            poolers
                .pods
                .insert((&*place.pod.name).into(), self.seen(place));
        }
        Some(poolers)
    }

    fn places_of(&self, shard: &str) -> impl Iterator<Item = &Place> {
        let names = self.by_shard.get(shard).into_iter().flatten();
        names.filter_map(|name| self.places.get(name))
    }

    fn seen(&self, place: &Place) -> Seen {
        let reading = place.wanted.identity.as_ref().is_some_and(|identity| {
            let known = self.identities.get(&identity.secret);
            known.is_some_and(|known| known.observed.is_some() && known.peer.failures == 0)
        });
        Seen {
            pending: !place.told && (place.connection.is_some() || reading),
            said: place.health.as_ref().map(|(health, at)| {
                let until = at.checked_add(FRESH).unwrap_or(*at);
                (health.clone(), (!place.open).then_some(until))
            }),
            failures: place.calls.failures,
            not_before: place.calls.not_before,
        }
    }

    /// How calls ended, by method and gRPC code.
    pub fn counts(&self) -> impl Iterator<Item = (&(&'static str, String), &Count)> {
        self.counts.iter()
    }

    /// Links to poolers, and how many of them have their health stream open.
    pub fn streams(&self) -> (usize, usize) {
        let poolers = || {
            let places = self.places.values();
            places.filter(|place| place.wanted.component == Component::Pooler)
        };
        (
            poolers().count(),
            poolers().filter(|place| place.open).count(),
        )
    }

    /// How far each pooler of a shard is behind its leader, in bytes of WAL received, by pod; those of which it is not known are
    /// left out.
    pub fn lags(&self, shard: &str) -> BTreeMap<Box<str>, u64> {
        let decided = |place: &&Place| Some(place.health.as_ref()?.0.decision.as_ref()?.rule);
        let leader = self.places_of(shard).filter(|place| place.open);
        let leader = leader.max_by_key(decided).and_then(|place| {
            let decision = place.health.as_ref()?.0.decision.as_ref()?;
            Some(decision.leader.clone())
        });
        let head = self.places_of(shard).find_map(|place| {
            let (health, _) = place.health.as_ref().filter(|_| place.open)?;
            (health.id == leader && leader.is_some()).then_some(health.position)?
        });
        let behind = |place: &Place| {
            let (health, _) = place.health.as_ref().filter(|_| place.open)?;
            let lag = head?.saturating_sub(health.position?);
            (health.id != leader).then(|| ((&*place.pod.name).into(), lag))
        };
        self.places_of(shard).filter_map(behind).collect()
    }

    /// The links of a shard, for introspection.
    pub fn describe(&self, shard: &str) -> Value {
        let lags = self.lags(shard);
        let of = |place: &Place| {
            let heard = place.health.as_ref();
            let calls: Vec<Value> = place
                .under_way
                .values()
                .map(|asked| json!({"method": asked.method, "since": asked.at}))
                .collect();
            json!({
                "pod": place.pod.name, "address": place.wanted.address.to_string(),
                "tls": place.wanted.identity.as_ref().map(|identity| identity.server.clone()),
                "streaming": place.open, "trouble": place.trouble, "stream": place.stream, "calls": place.calls,
                "underWay": calls, "lagBytes": lags.get(&*place.pod.name),
                "heard": heard.map(|(health, at)| json!({"at": at, "health": **health})),
            })
        };
        self.places_of(shard).map(of).collect()
    }
}
