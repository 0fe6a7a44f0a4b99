//! The yardstick: a client that only posts what the operator made, with no thought in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use control_plane::{Entry, wait};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, PostParams, TypeMeta},
    runtime::watcher,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::fleet::{kind, patience};

/// Group, version, kind and plural of all that the operator writes, in the order in which it is posted.
const KINDS: [(&str, &str, &str, &str); 14] = [
    ("multigres.com", "v1alpha1", "TopoServer", "toposervers"),
    ("multigres.com", "v1alpha1", "Cell", "cells"),
    ("multigres.com", "v1alpha1", "TableGroup", "tablegroups"),
    ("multigres.com", "v1alpha1", "Shard", "shards"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "Service", "services"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    ),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "Deployment", "deployments"),
    ("", "v1", "Pod", "pods"),
    ("batch", "v1", "Job", "jobs"),
];

/// What the operator made in one namespace.
#[derive(Debug, Default)]
pub struct Rendered {
    objects: Vec<(ApiResource, DynamicObject)>,
    /// Pods that were Ready, those of StatefulSets and Deployments included.
    pub ready_pods: usize,
}

impl Rendered {
    /// Lists what the operator wrote (by the audit log) and strips what the API server and the controllers added.
    ///
    /// # Errors
    /// When a list fails, or the operator wrote a kind that is not in the table.
    pub async fn take(client: Client, namespace: &str, writes: &[Entry]) -> anyhow::Result<Self> {
        let written = written(namespace, writes);
        let mut rendered = Self::default();
        for (group, version, name, plural) in KINDS {
            let resource = kind(group, version, name, plural);
            let Some(names) = written.get(plural) else {
                continue;
            };
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace, &resource);
            let list = api.list(&ListParams::default()).await?;
            let made = list
                .items
                .into_iter()
                .filter(|object| names.contains(object.name_any().as_str()))
                .map(|object| (resource.clone(), strip(object, &resource)));
            rendered.objects.extend(made);
        }
        let known = |plural: &&str| KINDS.iter().any(|kind| kind.3 == *plural);
        if let Some(unknown) = written.keys().find(|plural| !known(plural)) {
            anyhow::bail!("the operator writes {unknown}, which the raw client does not know");
        }
        let pods = pods(client, namespace).list(&ListParams::default()).await?;
        rendered.ready_pods = pods.items.iter().filter(|pod| is_ready(pod)).count();
        Ok(rendered)
    }

    /// The same objects with a word in them exchanged wherever it stands.
    ///
    /// # Errors
    /// When what comes of it is no object.
    pub fn exchanged(&self, old: &str, new: &str) -> anyhow::Result<Self> {
        let objects = self.objects.iter().map(|(resource, object)| {
            let text = serde_json::to_string(object)?.replace(old, new);
            Ok((resource.clone(), serde_json::from_str(&text)?))
        });
        Ok(Self {
            objects: objects.collect::<anyhow::Result<_>>()?,
            ready_pods: self.ready_pods,
        })
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// How many of them are of our own kinds.
    pub fn custom(&self) -> usize {
        self.objects
            .iter()
            .filter(|(resource, _)| resource.group == "multigres.com")
            .count()
    }

    /// Posts the objects into an empty namespace and waits until as many pods are Ready; the time of both.
    ///
    /// # Errors
    /// When an object is refused or the pods do not become Ready.
    pub async fn post(
        &self,
        client: Client,
        namespace: &str,
        in_flight: usize,
    ) -> anyhow::Result<Duration> {
        let goal = self.ready_pods;
        let description = format!("{goal} pods of the raw client to be Ready");
        let mut shown = 0;
        let ready = wait::objects(
            pods(client.clone(), namespace),
            watcher::Config::default(),
            &description,
            patience(300),
            |known| {
                let ready = known.values().filter(|pod| is_ready(pod)).count();
                if ready >= shown + goal.div_ceil(5) {
                    shown = ready;
                    eprintln!("  {ready} of {goal} pods are Ready");
                }
                (ready >= goal).then_some(())
            },
        );
        let start = Instant::now();
        tokio::try_join!(ready, self.send(client, namespace, in_flight))?;
        Ok(start.elapsed())
    }

    async fn send(&self, client: Client, namespace: &str, in_flight: usize) -> anyhow::Result<()> {
        stream::iter(&self.objects)
            .map(|(resource, object)| {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(client.clone(), namespace, resource);
                async move {
                    let answer = api.create(&PostParams::default(), object).await;
                    answer.with_context(|| {
                        format!("{} {} was refused", resource.kind, object.name_any())
                    })
                }
            })
            .buffer_unordered(in_flight)
            .try_for_each(|_| async { Ok(()) })
            .await
    }
}

/// Names by plural of the objects that were created or applied, the clusters themselves aside.
fn written<'a>(namespace: &str, writes: &'a [Entry]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let made = writes.iter().filter(|entry| {
        entry.namespace == namespace
            && entry.subresource.is_empty()
            && entry.code < 300
            && ["create", "update", "patch"].contains(&entry.verb.as_str())
            && entry.resource != "multigresclusters"
    });
    for entry in made {
        let resource = names.entry(&entry.resource).or_default();
        resource.insert(&entry.name);
    }
    names
}

fn pods(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &kind("", "v1", "Pod", "pods"))
}

fn is_ready(pod: &DynamicObject) -> bool {
    let conditions = pod.data.pointer("/status/conditions");
    conditions
        .and_then(Value::as_array)
        .is_some_and(|conditions| {
            conditions.iter().any(|condition| {
                condition.get("type").and_then(Value::as_str) == Some("Ready")
                    && condition.get("status").and_then(Value::as_str) == Some("True")
            })
        })
}

/// Leaves what a client would send: no identity, no status, nothing that a controller filled in.
fn strip(mut object: DynamicObject, resource: &ApiResource) -> DynamicObject {
    object.types = Some(TypeMeta {
        api_version: resource.api_version.clone(),
        kind: resource.kind.clone(),
    });
    let old = std::mem::take(&mut object.metadata);
    object.metadata.name = old.name;
    object.metadata.labels = old.labels;
    object.metadata.annotations = old.annotations.map(|mut annotations| {
        annotations.retain(|key, _| !key.contains("kubernetes.io/"));
        annotations
    });
    if let Some(data) = object.data.as_object_mut() {
        data.remove("status");
    }
    if let Some(spec) = object.data.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("nodeName");
        spec.remove("volumeName");
        // A headless Service is one because its author said so.
        if spec.get("clusterIP").and_then(Value::as_str) != Some("None") {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        // Claims of an owner that is not in this cluster would be collected as fast as they are made.
        let claims = spec.get_mut("volumeClaimTemplates");
        for claim in claims.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("ownerReferences");
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_posted_again_has_no_owner() {
        let owners = json!([{"kind": "TopoServer", "name": "t", "uid": "u"}]);
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "s", "ownerReferences": owners},
            "spec": {"volumeClaimTemplates": [{"metadata": {"name": "data", "ownerReferences": owners}}]},
        });
        let set: DynamicObject = serde_json::from_value(set).unwrap();
        let stripped = strip(set, &kind("apps", "v1", "StatefulSet", "statefulsets"));
        let stripped = serde_json::to_value(stripped).unwrap();
        assert!(!stripped.to_string().contains("ownerReferences"));
        let claim = &stripped["spec"]["volumeClaimTemplates"][0]["metadata"];
        assert_eq!(claim["name"], "data");
    }

    #[test]
    fn a_word_is_exchanged_wherever_it_stands() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {"root": "/a/c000"}},
            "spec": {"containers": [{"args": ["--root=/a/c000", "--other=/b"]}]},
        });
        let pod: DynamicObject = serde_json::from_value(pod).unwrap();
        let rendered = Rendered {
            objects: vec![(kind("", "v1", "Pod", "pods"), pod)],
            ready_pods: 1,
        };
        let other = rendered.exchanged("/a/", "/z/").unwrap();
        let (_, pod) = &other.objects[0];
        let text = serde_json::to_string(pod).unwrap();
        assert!(!text.contains("/a/"), "{text}");
        assert_eq!(pod.annotations()["root"], "/z/c000");
        assert_eq!((other.len(), other.ready_pods), (1, 1));
    }
}
