//! How often custom resources changed their state, as a watch saw it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, pin_mut};
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::bed::{NAMESPACE, kind};

/// Our kinds with their plurals.
pub const KINDS: [(&str, &str); 5] = [
    ("MultigresCluster", "multigresclusters"),
    ("TopoServer", "toposervers"),
    ("Cell", "cells"),
    ("TableGroup", "tablegroups"),
    ("Shard", "shards"),
];

/// Transitions by UID, and the state last seen.
type Seen = Arc<Mutex<BTreeMap<String, (usize, String)>>>;

/// Watches the custom resources while it lives.
pub struct Transitions {
    seen: Seen,
    _watches: JoinSet<()>,
}

impl Transitions {
    /// Starts the watches. Resources made from now on are followed from their first state on.
    pub fn follow(client: &Client) -> Self {
        let seen = Seen::default();
        let mut watches = JoinSet::new();
        for (name, plural) in KINDS {
            let api = Api::namespaced_with(client.clone(), NAMESPACE, &kind(name, plural));
            watches.spawn(note(api, seen.clone()));
        }
        Self {
            seen,
            _watches: watches,
        }
    }

    /// Transitions so far, by UID.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .map(|(uid, (count, _))| (uid.clone(), *count))
            .collect()
    }
}

async fn note(api: Api<DynamicObject>, seen: Seen) {
    let kind = api.resource_url().to_owned();
    let events = watcher(api, watcher::Config::default());
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let state = state(&object.data);
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let (count, last) = seen.entry(object.uid().unwrap_or_default()).or_default();
                if *last != state {
                    *count += 1;
                    *last = state;
                }
            }
            Ok(_) => {}
            Err(error) => eprintln!("the watch of {kind} goes on after: {error}"),
        }
    }
}

/// Phase, and what stalls it; empty before the first status.
fn state(object: &Value) -> String {
    let phase = object.pointer("/status/phase").and_then(Value::as_str);
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let stalled = conditions.into_iter().flatten().find(|condition| {
        let field = |name: &str| condition.get(name).and_then(Value::as_str);
        field("type") == Some("Stalled") && field("status") == Some("True")
    });
    let message = stalled.and_then(|condition| condition.get("message")?.as_str());
    [phase, message]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ")
}
