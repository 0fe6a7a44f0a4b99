//! The cluster's objects: what they wait for, and the tree that they form.

use std::collections::BTreeMap;

use anyhow::Context;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
    discovery::{Discovery, Scope, verbs},
};
use serde_json::Value;

const GROUP: &str = "multigres.com";

/// An object and its kind.
pub struct Object {
    pub kind: String,
    pub object: DynamicObject,
}

impl Object {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.object.data.pointer(pointer)?.as_str()
    }

    fn number(&self, pointer: &str) -> Option<i64> {
        self.object.data.pointer(pointer)?.as_i64()
    }

    /// The operator's word for the object's state.
    pub fn phase(&self) -> Option<&str> {
        self.text("/status/phase")
    }

    /// Conditions, one a line.
    pub fn conditions(&self) -> Vec<String> {
        let conditions = self
            .object
            .data
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let field = |condition: &Value, name: &str| {
            condition
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let lines = conditions.into_iter().flatten().map(|condition| {
            let [kind, status, reason, message] =
                ["type", "status", "reason", "message"].map(|name| field(condition, name));
            format!(
                "{}/{}: {kind}={status} {reason}: {message}",
                self.kind,
                self.object.name_any()
            )
        });
        lines.collect()
    }

    fn ready_condition(&self, field: &str) -> Option<&str> {
        let conditions = self.object.data.pointer("/status/conditions")?.as_array()?;
        let wanted = |condition: &&Value| {
            matches!(
                condition.get("type").and_then(Value::as_str),
                Some("Ready" | "Available")
            )
        };
        conditions.iter().find(wanted)?.get(field)?.as_str()
    }

    /// A word on readiness, where the kind has one.
    pub fn readiness(&self) -> String {
        if let (Some(wanted), "Deployment" | "StatefulSet" | "ReplicaSet") =
            (self.number("/spec/replicas"), self.kind.as_str())
        {
            return format!(
                "{}/{wanted} ready",
                self.number("/status/readyReplicas").unwrap_or(0)
            );
        }
        let ready = self.ready_condition("status").map(|status| {
            if status == "True" {
                "Ready"
            } else {
                "not Ready"
            }
        });
        let role = self.object.labels().get("multigres.com/role");
        match (self.kind.as_str(), self.phase(), ready) {
            ("Pod", _, Some(ready)) => match role {
                Some(role) => format!("{ready}, {role}"),
                None => ready.to_owned(),
            },
            (_, None, Some(ready)) => ready.to_owned(),
            (_, Some(phase), _) => phase.to_owned(),
            (_, None, None) => String::new(),
        }
    }

    /// What the object waits for, unless it is healthy.
    pub fn waiting(&self) -> Option<String> {
        let phase = self.phase().unwrap_or("not seen yet");
        if phase == "Healthy" {
            return None;
        }
        let message = self
            .text("/status/message")
            .or_else(|| self.ready_condition("message"))
            .unwrap_or_default();
        let text = if message.is_empty() { phase } else { message };
        Some(format!(
            "waiting for {} {}: {text}",
            self.kind,
            self.object.name_any()
        ))
    }
}

/// The objects of the operator's own kinds in a namespace, the cluster first.
pub async fn operated(client: &Client, namespace: &str) -> anyhow::Result<Vec<Object>> {
    let mut found = Vec::new();
    for kind in [
        "MultigresCluster",
        "TopoServer",
        "Cell",
        "TableGroup",
        "Shard",
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let list = api
            .list(&ListParams::default())
            .await
            .with_context(|| format!("failed to list {kind}"))?;
        found.extend(list.into_iter().map(|object| Object {
            kind: kind.to_owned(),
            object,
        }));
    }
    Ok(found)
}

/// Prints what a root object owns, as a tree.
pub async fn print_tree(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let mut children: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    let mut roots = Vec::new();
    for object in everything(client, namespace).await? {
        match object.object.owner_references().first() {
            Some(owner) => children.entry(owner.uid.clone()).or_default().push(object),
            None if object.kind == "MultigresCluster" => roots.push(object),
            None => {}
        }
    }
    for root in &roots {
        print_object(root, "", "", &children);
    }
    Ok(())
}

async fn everything(client: &Client, namespace: &str) -> anyhow::Result<Vec<Object>> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut all = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let listed = capabilities.scope == Scope::Namespaced
                && capabilities.supports_operation(verbs::LIST);
            if !listed || resource.kind == "Event" || group.name() == "metrics.k8s.io" {
                continue;
            }
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace, &resource);
            let list = api.list(&ListParams::default()).await?;
            all.extend(list.into_iter().map(|object| Object {
                kind: resource.kind.clone(),
                object,
            }));
        }
    }
    all.sort_by_key(|object| (object.kind.clone(), object.object.name_any()));
    Ok(all)
}

fn print_object(
    object: &Object,
    first: &str,
    rest: &str,
    children: &BTreeMap<String, Vec<Object>>,
) {
    println!(
        "{first}{}/{}  {}",
        object.kind,
        object.object.name_any(),
        object.readiness()
    );
    let Some(owned) = object.object.uid().and_then(|uid| children.get(&uid)) else {
        return;
    };
    for (index, child) in owned.iter().enumerate() {
        let last = index + 1 == owned.len();
        let (branch, indent) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        print_object(
            child,
            &format!("{rest}{branch}"),
            &format!("{rest}{indent}"),
            children,
        );
    }
}
