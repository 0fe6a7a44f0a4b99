//! A fleet of clusters: up, looked at, and away.

use std::{ops::Range, sync::Arc, time::Duration};

use anyhow::Context;
use control_plane::{Plane, wait};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams},
    core::GroupVersionKind,
    runtime::watcher,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// The manifest of a cluster, by namespace and name.
pub type Make = Arc<dyn Fn(&str, &str) -> Value + Send + Sync>;

const SECRET: &str = "multigres-admin-password";
/// Far beyond what anything here takes, so that a fault shows as an error instead of a hang.
const PATIENCE: Duration = Duration::from_secs(300);
/// Clusters that are created at once.
const POSTS: usize = 48;

/// How long a fleet of this size may take.
pub fn patience(clusters: usize) -> Duration {
    PATIENCE + Duration::from_secs(3) * u32::try_from(clusters).unwrap_or(u32::MAX)
}

/// One kind of objects, without a type of its own.
pub fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// The MultigresClusters of a namespace.
pub fn clusters(client: Client, namespace: &str) -> Api<DynamicObject> {
    let kind = kind(
        "multigres.com",
        "v1alpha1",
        "MultigresCluster",
        "multigresclusters",
    );
    Api::namespaced_with(client, namespace, &kind)
}

/// Creates a namespace with the Secret of all clusters, and waits until pods may be created in it.
pub async fn namespace(client: Client, name: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
    namespaces.create(&PostParams::default(), &object).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), name);
    let secret = serde_json::from_value(json!({
        "metadata": { "name": SECRET },
        "stringData": { "password": "change-me" },
    }))?;
    secrets.create(&PostParams::default(), &secret).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, name);
    let description = format!("namespace {name}");
    wait::object(accounts, "default", &description, PATIENCE, |_| true).await?;
    Ok(())
}

/// The name of a cluster by its number.
pub fn name(number: usize) -> String {
    format!("c{number:03}")
}

/// Creates the clusters of these numbers at once and waits until they and all before them are Healthy; the time from the
/// first request on.
pub async fn bring_up(
    client: Client,
    namespace: &str,
    numbers: Range<usize>,
    make: &Make,
) -> anyhow::Result<Duration> {
    let (api, count) = (clusters(client, namespace), numbers.end);
    let objects: Vec<DynamicObject> = numbers
        .map(|number| serde_json::from_value(make(namespace, &name(number))))
        .collect::<Result<_, serde_json::Error>>()?;
    let start = Instant::now();
    tokio::try_join!(healthy(&api, count), post(&api, &objects))?;
    Ok(start.elapsed())
}

/// Waits until so many clusters are Healthy.
async fn healthy(api: &Api<DynamicObject>, count: usize) -> anyhow::Result<()> {
    let description = format!("{count} clusters to be Healthy");
    let mut shown = 0;
    wait::objects(
        api.clone(),
        watcher::Config::default(),
        &description,
        patience(count),
        |known| {
            let healthy = known.values().filter(|object| is_healthy(object)).count();
            if healthy >= shown + count.div_ceil(5) {
                shown = healthy;
                eprintln!("  {healthy} of {count} clusters are Healthy");
            }
            (healthy == count).then_some(())
        },
    )
    .await
}

/// Creates objects of one kind, some at a time.
async fn post(api: &Api<DynamicObject>, objects: &[DynamicObject]) -> anyhow::Result<()> {
    stream::iter(objects)
        .map(|object| async { api.create(&PostParams::default(), object).await.map(drop) })
        .buffer_unordered(POSTS)
        .try_collect::<()>()
        .await
        .context("a cluster was refused")
}

/// A cluster with this spec; its password is in the Secret of the namespace.
pub fn cluster(name: &str, spec: &Value) -> Value {
    let password = json!({ "postgresPasswordSecretRef": { "name": SECRET, "key": "password" } });
    let fields = [&password, spec].into_iter().filter_map(Value::as_object);
    let spec: Map<String, Value> = fields
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    json!({
        "apiVersion": "multigres.com/v1alpha1",
        "kind": "MultigresCluster",
        "metadata": { "name": name },
        "spec": spec,
    })
}

/// As `docs/samples/minimal.yaml`.
pub fn minimal(_: &str, name: &str) -> Value {
    cluster(
        name,
        &json!({ "cells": [{ "name": "zone-a", "zoneId": "us-central1-a" }] }),
    )
}

/// Whether a cluster's phase says so.
pub fn is_healthy(object: &DynamicObject) -> bool {
    object.data.pointer("/status/phase").and_then(Value::as_str) == Some("Healthy")
}

/// Deletes all clusters of a namespace with kubectl, as a user would, and waits until the operator let them go.
pub async fn take_down(plane: &Plane, namespace: &str) -> anyhow::Result<()> {
    let args = ["delete", "multigresclusters", "--all", "--wait=false", "-n"];
    let output = plane.kubectl(&[&args[..], &[namespace]].concat())?;
    anyhow::ensure!(
        output.status.success(),
        "kubectl failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    wait::objects(
        clusters(plane.client(), namespace),
        watcher::Config::default(),
        &format!("the end of the clusters in {namespace}"),
        patience(300),
        |known| known.is_empty().then_some(()),
    )
    .await
}

/// Deletes a namespace with all that is in it, and waits for its end.
pub async fn remove_namespace(client: Client, name: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client);
    namespaces.delete(name, &DeleteParams::default()).await?;
    wait::gone(namespaces, name, patience(300)).await
}
