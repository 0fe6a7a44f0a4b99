//! What an entry costs in memory.

use super::Entry;

/// Bytes that the allocator sets aside for a piece of memory of this size: eight for itself, in steps of sixteen.
pub(crate) const fn piece(bytes: usize) -> usize {
    const LEAST: usize = 32;
    if bytes == 0 {
        return 0;
    }
    let rounded = (bytes + 8).next_multiple_of(16);
    if rounded < LEAST { LEAST } else { rounded }
}

/// Bytes of the nodes of a tree of this many keys and values, filled as trees are that grew by and by.
const fn tree(len: usize, key: usize, value: usize) -> usize {
    /// Pairs in a full node.
    const FULL: usize = 11;
    if len == 0 {
        return 0;
    }
    let nodes = len.div_ceil(8);
    nodes * piece(16 + FULL * (key + value))
}

impl Entry {
    /// Bytes that this entry takes, its own included and shared texts aside; an estimate, good enough to see what grows.
    pub fn bytes(&self) -> usize {
        /// Two counters of an `Rc`.
        const COUNTERS: usize = 16;
        let text = |text: &str| piece(text.len());
        let optional = |held: &Option<Box<str>>| held.as_deref().map_or(0, text);
        let mut sum = piece(size_of::<Self>() + COUNTERS);
        sum += text(&self.uid) + optional(&self.owner) + optional(&self.hash);
        sum += self
            .key
            .as_ref()
            .map_or(0, |key| piece(key.name.len() + COUNTERS));
        sum += piece(self.labels.bytes()) + piece(self.annotations.bytes());
        sum += piece(self.owners.len()) + piece(self.spec.len()) + text(&self.status);
        sum += piece(size_of_val(&*self.finalizers));
        sum += self.finalizers.iter().map(|name| text(name)).sum::<usize>();
        sum += tree(self.data.len(), size_of::<Box<str>>(), size_of::<u64>());
        sum += self.data.keys().map(|name| text(name)).sum::<usize>();
        sum += tree(
            self.texts.len(),
            size_of::<Box<str>>(),
            size_of::<Box<str>>(),
        );
        sum += self
            .texts
            .iter()
            .map(|(k, v)| text(k) + text(v))
            .sum::<usize>();
        if let Some(pod) = &self.pod {
            sum += piece(size_of_val(&**pod)) + text(&pod.phase);
            sum += optional(&pod.trouble) + optional(&pod.address) + optional(&pod.node);
        }
        sum + self.certificates.as_ref().map_or(0, |facts| facts.bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::entry::Watched;
    use crate::object::Kind;

    fn entry(kind: Kind, more: &Value) -> Entry {
        let mut object = json!({
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
                "labels": {"l": "v"}, "annotations": {"a": "v"},
            },
            "spec": {"replicas": 1}, "status": {"phase": "Running"}, "data": {"k": "dg=="},
        });
        crate::fixtures::merge(&mut object, more);
        let watched: Watched = serde_json::from_value(object).unwrap();
        watched.trim(kind).unwrap()
    }

    #[test]
    fn whatever_is_kept_counts() {
        let long = "x".repeat(1000);
        let cases = [
            (Kind::Cell, "/metadata/name"),
            (Kind::Cell, "/metadata/uid"),
            (Kind::Cell, "/spec/field"),
            (Kind::Cell, "/status/field"),
            (Kind::Deployment, "/spec/replicas"),
            (Kind::Deployment, "/spec/compared"),
            (Kind::Pod, "/status/phase"),
            (Kind::Pod, "/status/podIP"),
            (Kind::Pod, "/spec/nodeName"),
        ];
        for (kind, field) in cases {
            let before = entry(kind, &json!({})).bytes();
            let mut more = json!(long);
            for name in field.rsplit('/').filter(|name| !name.is_empty()) {
                more = json!({ name: more });
            }
            let after = entry(kind, &more).bytes();
            assert!(
                after >= before + 960,
                "{kind:?} {field}: {before} → {after}"
            );
        }
    }

    #[test]
    fn what_is_not_looked_at_does_not_count() {
        let long = "x".repeat(1000);
        let cases = [
            (Kind::Pod, json!({"spec": {"hostname": long}})),
            (Kind::Pod, json!({"status": {"message": long}})),
            (Kind::Secret, json!({"data": {"k": long}})),
            (Kind::Deployment, json!({"status": {"message": long}})),
            (
                Kind::Cell,
                json!({"metadata": {"managedFields": [{"manager": long}]}}),
            ),
            (
                Kind::Cell,
                json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": long}}}),
            ),
        ];
        for (kind, more) in cases {
            let (before, after) = (entry(kind, &json!({})).bytes(), entry(kind, &more).bytes());
            assert!(after < before + 100, "{kind:?} {more}: {before} → {after}");
        }
    }

    #[test]
    fn more_keys_cost_more() {
        let labels = |count: usize| {
            let labels = (0..count).map(|number| (number.to_string(), json!("v")));
            let labels = Value::Object(labels.collect());
            entry(Kind::Pod, &json!({"metadata": {"labels": labels}})).bytes()
        };
        assert!(labels(20) >= labels(10) + 10 * 32);
        let bytes = |count: usize| {
            let data: Value = (0..count)
                .map(|number| (number.to_string(), json!("dg==")))
                .collect::<serde_json::Map<_, _>>()
                .into();
            entry(Kind::ConfigMap, &json!({ "data": data })).bytes()
        };
        assert!(bytes(200) > bytes(100) + 100 * 32);
    }

    #[test]
    fn what_the_comparison_needed_is_gone_once_it_came_out_well() {
        let template =
            json!({"spec": {"template": {"x": "y".repeat(3000)}}, "status": {"readyReplicas": 1}});
        let workload = entry(Kind::Deployment, &template);
        let before = workload.bytes();
        assert!(workload.comparable().pointer("/spec/template").is_some());
        workload.cover(7);
        assert!(workload.bytes() + 3000 < before);
        assert!(workload.is_settled(7) && !workload.is_settled(8));
        assert_eq!(workload.replicas, Some(1));
        assert_eq!(workload.status_number("readyReplicas"), 1);
        let set = entry(Kind::StatefulSet, &template);
        set.cover(7);
        assert_eq!(set.comparable()["spec"], json!({"replicas": 1}));
    }
}
