//! Real "too many requests" answers for one user, from the API server's own flow control.

use std::time::Duration;

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use kube::{
    Api, Resource,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{plane::Plane, wait};

/// The API server takes up new flow schemas within a second or two.
const DEADLINE: Duration = Duration::from_secs(30);

impl Plane {
    /// Answers every request of a user with 429 from now on, or stops doing so. Returns when it is in force.
    ///
    /// One request at a time waits for about 15 s before it gets its answer, all others get it at once.
    pub async fn reject_user(&self, user: &str, reject: bool) -> anyhow::Result<()> {
        let short: String = user
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let name = format!("reject-{}", short.to_lowercase());
        let levels: Api<PriorityLevelConfiguration> = Api::all(self.client());
        let schemas: Api<FlowSchema> = Api::all(self.client());
        if reject {
            levels
                .create(&PostParams::default(), &level(&name)?)
                .await?;
            schemas
                .create(&PostParams::default(), &schema(&name, user)?)
                .await?;
        } else {
            delete(&schemas, &name).await?;
            delete(&levels, &name).await?;
        }
        let description = format!(
            "{user} to be {}",
            if reject { "rejected" } else { "served" }
        );
        wait::until(&description, DEADLINE, async || {
            // Of two at once, the second does not wait.
            let (first, second) = (self.impersonate(user), self.impersonate(user));
            let (first, second) = (std::pin::pin!(first), std::pin::pin!(second));
            let (answer, _) = futures::future::select(first, second).await.factor_first();
            let rejected = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 429);
            Ok((rejected == reject).then_some(()))
        })
        .await
    }

    async fn impersonate(&self, user: &str) -> kube::Result<String> {
        let request =
            ::http::Request::get("/api/v1/namespaces/default").header("Impersonate-User", user);
        let request = request.body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.client().request_text(request).await
    }
}

async fn delete<K>(api: &Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        answer => answer.map(drop).map_err(Into::into),
    }
}

/// A priority level without any seat. It queues one request, as one that rejects at once would serve a request whenever
/// no other is under way.
fn level(name: &str) -> anyhow::Result<PriorityLevelConfiguration> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 0,
                "lendablePercent": 0,
                "borrowingLimitPercent": 0,
                "limitResponse": {
                    "type": "Queue",
                    "queuing": { "queues": 1, "handSize": 1, "queueLengthLimit": 1 },
                },
            },
        },
    }))?)
}

fn schema(name: &str, user: &str) -> anyhow::Result<FlowSchema> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": { "name": name },
            "rules": [{
                "subjects": [{ "kind": "User", "user": { "name": user } }],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true,
                }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            }],
        },
    }))?)
}
