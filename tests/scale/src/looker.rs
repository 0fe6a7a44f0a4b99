//! What the operator says of itself, asked at its introspection endpoint with a token of an account that may look.

use anyhow::Context;
use control_plane::{OperatorProcess, Plane, chart};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

const ACCOUNT: &str = "looker";
/// The chart's role for looking into the operator.
const ROLE: &str = "multigres-operator-debug-reader";

/// Somebody who may look.
pub struct Looker {
    config: Config,
}

impl Looker {
    /// Makes the account and takes a token.
    ///
    /// # Errors
    /// When the account cannot be made.
    pub async fn new(plane: &Plane) -> anyhow::Result<Self> {
        let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), chart::NAMESPACE);
        let account = serde_json::from_value(json!({ "metadata": { "name": ACCOUNT } }))?;
        accounts.create(&PostParams::default(), &account).await?;
        let bindings: Api<ClusterRoleBinding> = Api::all(plane.client());
        let binding = serde_json::from_value(json!({
            "metadata": { "name": ACCOUNT },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE },
            "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": chart::NAMESPACE }],
        }))?;
        bindings.create(&PostParams::default(), &binding).await?;
        let path = plane
            .service_account_kubeconfig(chart::NAMESPACE, ACCOUNT)
            .await?;
        let file = Kubeconfig::read_from(path)?;
        let mut config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        // The operator signs its own certificate.
        config.accept_invalid_certs = true;
        config.root_cert = None;
        Ok(Self { config })
    }

    /// What belongs to the process as a whole. The answer costs the operator memory, so memory is read before.
    ///
    /// # Errors
    /// When the operator does not answer.
    pub async fn process(&self, operator: &OperatorProcess) -> anyhow::Result<Value> {
        let mut config = self.config.clone();
        config.cluster_url = format!("https://{}", operator.metrics_address()).parse()?;
        let client = Client::try_from(config)?;
        let request = http::Request::get("/debug/actors").body(Vec::new())?;
        let mut answer: Value = client
            .request(request)
            .await
            .context("the operator does not answer")?;
        let process = answer.get_mut("process").map(Value::take);
        process.context("the answer says nothing of the process")
    }
}

/// The most requests that the operator had under way at once.
pub fn peak(process: &Value) -> anyhow::Result<usize> {
    let peak = process.pointer("/window/peak").and_then(Value::as_u64);
    let peak = usize::try_from(peak.context("the window's peak is missing")?)?;
    anyhow::ensure!(peak > 0, "the operator has sent nothing");
    Ok(peak)
}

/// Bytes that an object costs in the operator's memory, by kind: kind, objects, bytes each.
pub fn bytes(process: &Value) -> Vec<(String, u64, f64)> {
    let number = |table: &str, kind: &str| {
        let value = process.get(table).and_then(|of| of.get(kind));
        value.and_then(Value::as_u64).unwrap_or_default()
    };
    let kinds = process.get("objects").and_then(Value::as_object);
    let kinds = kinds.into_iter().flat_map(|kinds| kinds.keys());
    kinds
        .map(|kind| (kind, number("objects", kind), number("bytes", kind)))
        .filter(|(_, objects, _)| *objects > 0)
        .map(|(kind, objects, bytes)| (kind.clone(), objects, bytes as f64 / objects as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shared_among_the_objects_of_a_kind() {
        let process = json!({"objects": {"Pod": 4, "Cell": 0}, "bytes": {"Pod": 10, "Cell": 0}});
        assert_eq!(bytes(&process), vec![("Pod".to_owned(), 4, 2.5)]);
    }

    #[test]
    fn a_peak_of_nothing_is_no_yardstick() {
        assert_eq!(peak(&json!({"window": {"peak": 31}})).unwrap(), 31);
        assert!(peak(&json!({"window": {"peak": 0}})).is_err());
        assert!(peak(&json!({})).is_err());
    }
}
