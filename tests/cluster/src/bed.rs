//! A plane with the chart, and the plainest questions about it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use control_plane::{
    Installed, OperatorProcess, Overrides, Plane, PlaneOptions, Pods, chart, wait,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};
use standin::net::beside::Beside;

/// Longest bring-up that is waited for.
pub const HEALTHY: Duration = Duration::from_secs(120);
/// Namespace of the test clusters.
pub const NAMESPACE: &str = "default";

/// The Secret of the test clusters' passwords.
pub const PASSWORD: &str = "multigres-admin-password";

/// How many times faster than real Multigres the stand-in is.
const SPEED: u32 = 10;

/// A plane with the chart installed.
pub struct Bed {
    /// What plays the operator's pods, unless kwok does alone.
    pub data_plane: Option<Beside>,
    /// The plane.
    pub plane: Plane,
    /// The chart.
    pub installed: Installed,
}

/// One of our kinds.
pub fn kind(name: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "multigres.com".into(),
        version: "v1alpha1".into(),
        api_version: "multigres.com/v1alpha1".into(),
        kind: name.into(),
        plural: plural.into(),
    }
}

/// The operator's binary.
///
/// # Errors
/// When it was not built.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("MULTIGRES_OPERATOR_BINARY") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?
        .ancestors()
        .map(|folder| folder.join("multigres-operator"))
        .find(|path| path.is_file())
        .context("the operator is not built: run `cargo build` first")?;
    Ok(path)
}

/// Lets time pass. Only for instants that are part of what is tested; everything else is waited for.
///
/// # Errors
/// Never in practice.
pub async fn pass(time: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    wait::quietly("time to pass", time * 2 + HEALTHY, async || {
        Ok((started.elapsed() >= time).then_some(()))
    })
    .await
}

impl Bed {
    /// Starts a plane, installs the chart and creates the password Secret.
    ///
    /// # Errors
    /// When any of it fails.
    pub async fn start(name: &str, values: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_on(name, values, Pods::Instant).await
    }

    /// The same with a stand-in data plane: pods are Ready when what runs in them is.
    ///
    /// # Errors
    /// When any of it fails.
    pub async fn start_with_data_plane(name: &str) -> anyhow::Result<Self> {
        Self::start_on(name, &[], Pods::StandIn).await
    }

    async fn start_on(name: &str, values: &[(&str, &str)], pods: Pods) -> anyhow::Result<Self> {
        let mut plane = Plane::start_server(PlaneOptions {
            name: name.into(),
            pods,
            ..PlaneOptions::default()
        })
        .await?;
        let installed = chart::install(&plane, values).await?;
        plane.start_nodes().await?;
        let data_plane = match pods {
            Pods::Instant => None,
            Pods::StandIn => Some(Beside::start(&plane, SPEED)?),
        };
        let bed = Self {
            data_plane,
            plane,
            installed,
        };
        bed.secret(PASSWORD, "change-me").await?;
        Ok(bed)
    }

    /// Runs an operator.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn operator(&self) -> anyhow::Result<OperatorProcess> {
        self.operator_with(Overrides::default()).await
    }

    /// Runs an operator that differs from the chart's.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn operator_with(&self, overrides: Overrides) -> anyhow::Result<OperatorProcess> {
        let mut operator = self.installed.spawn(&binary()?, overrides)?;
        operator.ready().await?;
        Ok(operator)
    }

    /// Objects of one of our kinds.
    pub fn api(&self, name: &str, plural: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.plane.client(), NAMESPACE, &kind(name, plural))
    }

    /// MultigresClusters.
    pub fn clusters(&self) -> Api<DynamicObject> {
        self.api("MultigresCluster", "multigresclusters")
    }

    /// Creates a Secret with a password.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn secret(&self, name: &str, password: &str) -> anyhow::Result<()> {
        let api: Api<Secret> = Api::namespaced(self.plane.client(), NAMESPACE);
        let secret = serde_json::from_value(
            json!({"metadata": {"name": name}, "stringData": {"password": password}}),
        )?;
        api.create(&PostParams::default(), &secret).await?;
        Ok(())
    }

    /// Creates a minimal cluster.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(&self, name: &str, secret: &str) -> anyhow::Result<()> {
        let object = serde_json::from_value(json!({
            "apiVersion": "multigres.com/v1alpha1", "kind": "MultigresCluster", "metadata": {"name": name},
            "spec": {
                "postgresPasswordSecretRef": {"name": secret, "key": "password"},
                "cells": [{"name": "zone-a", "zoneId": "us-central1-a"}],
            },
        }))?;
        self.clusters()
            .create(&PostParams::default(), &object)
            .await?;
        Ok(())
    }

    /// Applies `docs/samples/<name>.yaml`.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn apply_sample(&self, name: &str) -> anyhow::Result<()> {
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples");
        let file = format!("{samples}/{name}.yaml");
        let output = self.plane.kubectl(&["apply", "-f", &file])?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {complaint}");
        Ok(())
    }

    /// Waits until a cluster has this phase.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn phase(&self, name: &str, phase: &str) -> anyhow::Result<()> {
        let api = self.clusters();
        wait::until(&format!("{name} to be {phase}"), HEALTHY, async || {
            let status = api.get_status(name).await?.data;
            let current = status.pointer("/status/phase").and_then(Value::as_str) == Some(phase);
            Ok(current.then_some(()))
        })
        .await
    }

    /// Deletes a cluster.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.clusters()
            .delete(name, &DeleteParams::background())
            .await?;
        Ok(())
    }

    /// Everything that carries our label, as `kind/name`, sorted.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn managed(&self) -> anyhow::Result<Vec<String>> {
        let kinds = "toposervers,cells,tablegroups,shards,statefulsets,deployments,services,configmaps,secrets,pvc,pods,pdb";
        let output = self.plane.kubectl(&[
            "get",
            kinds,
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/managed-by=multigres-operator",
            "-o",
            "name",
        ])?;
        let mut names: Vec<String> = String::from_utf8(output.stdout)?
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        Ok(names)
    }

    /// A condition of one of our objects: status, reason, message.
    ///
    /// # Errors
    /// When the object cannot be read.
    pub async fn condition(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        of: &str,
    ) -> anyhow::Result<Option<(String, String, String)>> {
        let data = api.get_status(name).await?.data;
        let list = data
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let text = |c: &Value, field: &str| {
            c.get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let found = list
            .iter()
            .find(|c| c.get("type").and_then(Value::as_str) == Some(of));
        Ok(found.map(|c| (text(c, "status"), text(c, "reason"), text(c, "message"))))
    }
}
