//! A fleet of minimal clusters: up, looked at, and away.

use std::time::Duration;

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
use serde_json::{Value, json};
use tokio::time::Instant;

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

/// Creates clusters `c000` and so on at once and waits until all are Healthy; the time from the first request on.
pub async fn bring_up(client: Client, namespace: &str, count: usize) -> anyhow::Result<Duration> {
    let api = clusters(client, namespace);
    let objects: Vec<DynamicObject> = (0..count)
        .map(minimal)
        .collect::<Result<_, serde_json::Error>>()?;
    let description = format!("{count} clusters to be Healthy");
    let mut shown = 0;
    let healthy = wait::objects(
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
    );
    let start = Instant::now();
    tokio::try_join!(healthy, post(&api, &objects))?;
    Ok(start.elapsed())
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

/// As `docs/samples/minimal.yaml`.
fn minimal(number: usize) -> Result<DynamicObject, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "multigres.com/v1alpha1",
        "kind": "MultigresCluster",
        "metadata": { "name": format!("c{number:03}") },
        "spec": {
            "postgresPasswordSecretRef": { "name": SECRET, "key": "password" },
            "cells": [{ "name": "zone-a", "zoneId": "us-central1-a" }],
        },
    }))
}

fn is_healthy(object: &DynamicObject) -> bool {
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
