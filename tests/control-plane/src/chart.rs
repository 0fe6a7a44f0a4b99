//! The operator's Helm chart on a plane: the rights, arguments and environment that it gives.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, EnvVar},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    operator::{OperatorProcess, Overrides},
    plane::Plane,
    slot::Slot,
};

/// The operator's namespace.
pub const NAMESPACE: &str = "multigres-operator";
/// The operator's Deployment.
pub const DEPLOYMENT: &str = "multigres-operator-controller-manager";
/// The operator's ServiceAccount.
pub const SERVICE_ACCOUNT: &str = "multigres-operator-controller-manager";

/// The operator's user name, as the audit log has it.
pub fn user() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}")
}

/// An installed chart.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The container's arguments.
    pub args: Vec<String>,
    /// The container's environment.
    env: Vec<EnvVar>,
    service_account: String,
    kubeconfig: PathBuf,
    dir: PathBuf,
    slot: Arc<Slot>,
    spawned: Arc<AtomicUsize>,
}

/// Installs or upgrades the chart with `--set` values. The Deployment is scaled to zero afterwards: kwok would only play
/// its pods, and [`Installed::spawn`] runs the operator in their place.
pub async fn install(plane: &Plane, values: &[(&str, &str)]) -> anyhow::Result<Installed> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/multigres-operator");
    let chart = chart.to_str().context("the chart's path is not UTF-8")?;
    let settings: Vec<String> = values
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut args = vec![
        "upgrade",
        "--install",
        NAMESPACE,
        chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
    ];
    for setting in &settings {
        args.extend(["--set", setting]);
    }
    let output = plane.helm(&args)?;
    ensure!(
        output.status.success(),
        "helm failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    installed(plane).await
}

async fn installed(plane: &Plane) -> anyhow::Result<Installed> {
    let deployments: Api<Deployment> = Api::namespaced(plane.client(), NAMESPACE);
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    let deployment = deployments
        .patch(DEPLOYMENT, &PatchParams::default(), &none)
        .await?;
    let pod = deployment
        .spec
        .and_then(|spec| spec.template.spec)
        .context("the Deployment has no pod template")?;
    let container = pod
        .containers
        .into_iter()
        .find(|container| container.name == "manager");
    let Container { args, env, .. } =
        container.context("the Deployment has no container `manager`")?;
    let service_account = pod
        .service_account_name
        .context("the Deployment has no ServiceAccount")?;
    Ok(Installed {
        args: args.unwrap_or_default(),
        env: env.unwrap_or_default(),
        kubeconfig: plane
            .service_account_kubeconfig(NAMESPACE, &service_account)
            .await?,
        service_account,
        dir: plane.dir().to_owned(),
        slot: plane.slot(),
        spawned: Arc::default(),
    })
}

impl Installed {
    /// Runs an operator binary the way the chart would run it.
    pub fn spawn(&self, binary: &Path, overrides: Overrides) -> anyhow::Result<OperatorProcess> {
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        let pod = overrides
            .pod_name
            .clone()
            .unwrap_or_else(|| format!("{DEPLOYMENT}-{number}"));
        let uid =
            std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("no random number")?;
        let mut env = Vec::new();
        for variable in &self.env {
            if let Some(value) = self.resolve(variable, &pod, uid.trim())? {
                env.push((variable.name.clone(), value));
            }
        }
        let kubeconfig = overrides
            .kubeconfig
            .clone()
            .unwrap_or_else(|| self.kubeconfig.clone());
        env.push(("KUBECONFIG".to_owned(), kubeconfig.display().to_string()));
        let log = self.dir.join("logs").join(format!("{pod}.log"));
        let mut args: Vec<String> = self
            .args
            .iter()
            .map(|argument| expand(argument, &env))
            .collect();
        for flag in ["--metrics-bind-address", "--health-probe-bind-address"] {
            set(
                &mut args,
                flag,
                Some(&format!("127.0.0.1:{}", self.slot.port()?)),
            );
        }
        OperatorProcess::start(binary, &pod, args, env, log, overrides)
    }

    fn resolve(&self, variable: &EnvVar, pod: &str, uid: &str) -> anyhow::Result<Option<String>> {
        if let Some(value) = &variable.value {
            return Ok(Some(value.clone()));
        }
        let source = variable
            .value_from
            .as_ref()
            .and_then(|source| source.field_ref.as_ref());
        let Some(field) = source else {
            eprintln!(
                "{} is left out: its source does not exist without a pod",
                variable.name
            );
            return Ok(None);
        };
        let value = match field.field_path.as_str() {
            "metadata.namespace" => NAMESPACE,
            "metadata.name" => pod,
            "metadata.uid" => uid,
            "spec.serviceAccountName" => &self.service_account,
            "spec.nodeName" => "node-a-0",
            "status.podIP" | "status.hostIP" => "127.0.0.1",
            other => anyhow::bail!("{}: the field {other} is not known here", variable.name),
        };
        Ok(Some(value.to_owned()))
    }
}

/// `$(NAME)` in an argument stands for the variable's value.
fn expand(argument: &str, env: &[(String, String)]) -> String {
    env.iter().fold(argument.to_owned(), |text, (name, value)| {
        text.replace(&format!("$({name})"), value)
    })
}

/// Replaces `--flag=value` (or `--flag value`), or takes the flag away.
pub(crate) fn set(args: &mut Vec<String>, flag: &str, value: Option<&str>) {
    let mut old = std::mem::take(args).into_iter().peekable();
    while let Some(argument) = old.next() {
        if argument == flag {
            old.next_if(|next| !next.starts_with('-'));
        } else if !argument
            .strip_prefix(flag)
            .is_some_and(|rest| rest.starts_with('='))
        {
            args.push(argument);
        }
    }
    if let Some(value) = value {
        args.push(if value.is_empty() {
            flag.to_owned()
        } else {
            format!("{flag}={value}")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_replaced_in_both_spellings() {
        let mut args = ["--a", "1", "--b=2", "--bc=3", "--leader-elect"]
            .map(str::to_owned)
            .to_vec();
        set(&mut args, "--a", Some("4"));
        set(&mut args, "--b", None);
        set(&mut args, "--leader-elect", Some(""));
        assert_eq!(args, ["--bc=3", "--a=4", "--leader-elect"]);
    }
}
