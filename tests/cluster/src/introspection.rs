//! What the operator tells of itself: `/debug/…`, over HTTPS, with a token that may ask.

use std::net::SocketAddr;

use anyhow::Context;
use control_plane::{OperatorProcess, Plane, chart, wait};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::bed::HEALTHY;

/// ServiceAccount of whoever asks.
const ACCOUNT: &str = "debugger";

/// The executor's in-flight window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// How many requests may be under way.
    pub size: f64,
    /// How often it was cut.
    pub cuts: u64,
}

/// Somebody who may look into operators.
pub struct Inspector {
    config: Config,
}

impl Inspector {
    /// Gives a new ServiceAccount the chart's role for it.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn new(plane: &Plane) -> anyhow::Result<Self> {
        let namespace = chart::NAMESPACE;
        let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), namespace);
        let bindings: Api<ClusterRoleBinding> = Api::all(plane.client());
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}});
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": ACCOUNT},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "multigres-operator-debug-reader",
            },
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        });
        let params = PatchParams::apply("cluster-tests");
        accounts
            .patch(ACCOUNT, &params, &Patch::Apply(account))
            .await?;
        bindings
            .patch(ACCOUNT, &params, &Patch::Apply(binding))
            .await?;
        let file =
            Kubeconfig::read_from(plane.service_account_kubeconfig(namespace, ACCOUNT).await?)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Self { config })
    }

    /// The answer to a path of an operator.
    ///
    /// # Errors
    /// When there is none, or a refusal.
    pub async fn ask(&self, operator: &OperatorProcess, path: &str) -> anyhow::Result<Value> {
        let request = http::Request::get(path).body(Vec::new())?;
        let text = self
            .client(operator.metrics_address())?
            .request_text(request)
            .await;
        let text = text.with_context(|| format!("no answer to {path}"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The state of the executor's window.
    ///
    /// # Errors
    /// When the operator does not tell.
    pub async fn window(&self, operator: &OperatorProcess) -> anyhow::Result<Window> {
        let answer = self.ask(operator, "/debug/actors").await?;
        let field = |name: &str| answer.pointer(&format!("/process/window/{name}"));
        Ok(Window {
            size: field("size").and_then(Value::as_f64).context("no size")?,
            cuts: field("cuts").and_then(Value::as_u64).context("no cuts")?,
        })
    }

    /// Waits until an operator leads, every actor has decided, and nothing is under way or waits.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn settled(&self, operator: &OperatorProcess) -> anyhow::Result<()> {
        let description = format!("{} to have nothing to do", operator.pod_name());
        wait::until(&description, HEALTHY, async || {
            let answer = self.ask(operator, "/debug/actors").await?;
            let number = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64);
            let idle =
                number("/process/underWay") == Some(0) && number("/process/waiting") == Some(0);
            let leads = answer.pointer("/process/leader") == Some(&Value::Bool(true));
            let actors = answer.get("actors").and_then(Value::as_array);
            let decided = |actor: &Value| {
                let number = |pointer: &str| actor.pointer(pointer).and_then(Value::as_u64);
                number("/decisions").is_some_and(|count| count > 0)
                    && number("/inbox/depth") == Some(0)
            };
            let all = actors.is_some_and(|actors| !actors.is_empty() && actors.iter().all(decided));
            Ok((idle && leads && all).then_some(()))
        })
        .await
    }

    fn client(&self, address: SocketAddr) -> anyhow::Result<Client> {
        let mut config = self.config.clone();
        config.cluster_url = format!("https://{address}").parse()?;
        config.root_cert = None;
        // The operator signs its certificate itself; that the caller is known is what counts here.
        config.accept_invalid_certs = true;
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }
}
