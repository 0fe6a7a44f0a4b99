//! How often custom resources changed what an event tells: their phase, or what stalls them.

use std::{collections::BTreeMap, pin::pin};

use futures::{StreamExt, stream};
use kube::{
    Api, Client,
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;

use crate::fleet::kind;

const KINDS: [(&str, &str); 5] = [
    ("MultigresCluster", "multigresclusters"),
    ("TopoServer", "toposervers"),
    ("Cell", "cells"),
    ("TableGroup", "tablegroups"),
    ("Shard", "shards"),
];

/// Phase, and reason and message of a stall.
type Said = (String, Option<(String, String)>);

/// Counts the transitions in a namespace while something goes on.
///
/// # Errors
/// When that fails.
pub async fn during<T>(
    client: Client,
    namespace: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, usize)> {
    let watches = KINDS.map(|(name, plural)| {
        let resource = kind("multigres.com", "v1alpha1", name, plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        watcher::watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .boxed()
    });
    let mut seen = stream::select_all(watches);
    let mut work = pin!(work);
    let mut ledger = Ledger::default();
    loop {
        tokio::select! {
            result = &mut work => return result.map(|value| (value, ledger.transitions)),
            Some(event) = seen.next() => {
                if let Ok(object) = event {
                    ledger.enter(object.metadata.uid.unwrap_or_default(), said(&object.data));
                }
            }
        }
    }
}

#[derive(Default)]
struct Ledger {
    last: BTreeMap<String, Said>,
    transitions: usize,
}

impl Ledger {
    fn enter(&mut self, uid: String, said: Said) {
        let last = self.last.entry(uid).or_default();
        if *last != said {
            *last = said;
            self.transitions += 1;
        }
    }
}

fn said(object: &Value) -> Said {
    let text = |value: &Value, pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let stall = conditions.into_iter().flatten().find(|condition| {
        text(condition, "/type") == "Stalled" && text(condition, "/status") == "True"
    });
    let stall = stall.map(|stall| (text(stall, "/reason"), text(stall, "/message")));
    (text(object, "/status/phase"), stall)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_phase_or_a_stall_is_a_transition_and_a_count_is_none() {
        let mut ledger = Ledger::default();
        let mut enter = |status: Value| {
            ledger.enter("u".to_owned(), said(&json!({ "status": status })));
            ledger.transitions
        };
        assert_eq!(enter(json!({})), 0);
        assert_eq!(enter(json!({"phase": "Progressing"})), 1);
        assert_eq!(
            enter(json!({"phase": "Progressing", "readyReplicas": 2})),
            1
        );
        let stalled = json!([{"type": "Stalled", "status": "True", "reason": "ConfigError"}]);
        assert_eq!(
            enter(json!({"phase": "Progressing", "conditions": stalled})),
            2
        );
        assert_eq!(enter(json!({"phase": "Healthy"})), 3);
    }
}
