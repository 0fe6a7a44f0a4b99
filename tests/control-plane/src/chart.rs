//! The operator's Helm chart on a plane: the rights, arguments and environment that it gives.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, ensure};
use http::header::ACCEPT;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, EnvVar},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    operator::{OperatorProcess, Overrides},
    plane::{DEADLINE, Plane, Pods},
    slot::Slot,
    wait,
};

/// The API group of the chart's kinds.
const GROUP: &str = "multigres.com";
/// Discovery of all groups in one answer. The API server's admission plugins know kinds by this one.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

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
    pods: Pods,
    service_account: String,
    kubeconfig: PathBuf,
    dir: PathBuf,
    slot: Arc<Slot>,
    spawned: Arc<AtomicUsize>,
}

/// Installs or upgrades the chart with `--set` values, and waits until the API server serves its kinds. The Deployment is
/// scaled to zero afterwards: kwok would only play its pods, and [`Installed::spawn`] runs the operator in their place.
/// Best called between [`Plane::start_server`] and [`Plane::start_nodes`].
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
    served(plane).await?;
    installed(plane).await
}

/// Waits until discovery lists the kinds of the chart. Their definitions are accepted a moment earlier.
async fn served(plane: &Plane) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.client());
    let wanted: Vec<String> = definitions
        .list(&ListParams::default())
        .await?
        .into_iter()
        .map(|definition| definition.spec)
        .filter(|spec| spec.group == GROUP)
        .map(|spec| spec.names.plural)
        .collect();
    wait::until("the kinds of the chart", DEADLINE, async || {
        let request = ::http::Request::get("/apis")
            .header(ACCEPT, DISCOVERY)
            .body(Vec::new())?;
        let answer: Value = plane.client().request(request).await?;
        let known = resources(&answer, GROUP);
        Ok(wanted.iter().all(|kind| known.contains(kind)).then_some(()))
    })
    .await
}

/// The plurals that discovery lists in a group.
fn resources(discovery: &Value, group: &str) -> BTreeSet<String> {
    let list = |value: &Value, field: &str| -> Vec<Value> {
        let list = value.get(field).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    list(discovery, "items")
        .iter()
        .filter(|item| item.pointer("/metadata/name").and_then(Value::as_str) == Some(group))
        .flat_map(|item| list(item, "versions"))
        .flat_map(|version| list(&version, "resources"))
        .filter_map(|resource| Some(resource.get("resource")?.as_str()?.to_owned()))
        .collect()
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
        pods: plane.pods(),
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
        // Nothing answers in pods that kwok plays alone.
        let answers = self.pods == Pods::StandIn;
        for part in ["TOPOLOGY_STORES", "DATA_PLANE"] {
            env.push((part.to_owned(), answers.to_string()));
        }
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
