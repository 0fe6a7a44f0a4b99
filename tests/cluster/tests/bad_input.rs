//! Input that cannot work: told where the user looks, and mended by itself once the input is.

use cluster::{Bed, NAMESPACE, PASSWORD};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::{ONE, shard_of};

/// A missing Secret and a foreign object say so on the object they block, block nothing else, and heal by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_where_the_user_looks_and_heals() {
    let _one = ONE.lock().await;
    let bed = Bed::start("bad-input", &[]).await.unwrap();
    let operator = bed.operator().await.unwrap();
    let maps: Api<Service> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let foreign = serde_json::from_value(json!({
        "metadata": {"name": "taken-multiadmin"}, "spec": {"ports": [{"port": 80}]},
    }))
    .unwrap();
    maps.create(&PostParams::default(), &foreign).await.unwrap();
    bed.create("nosecret", "not-there").await.unwrap();
    bed.create("taken", PASSWORD).await.unwrap();
    bed.create("good", PASSWORD).await.unwrap();
    bed.phase("good", "Healthy").await.unwrap();
    bed.phase("nosecret", "Degraded").await.unwrap();
    bed.phase("taken", "Degraded").await.unwrap();

    let shard = shard_of(&bed, "nosecret");
    let shards = bed.api("Shard", "shards");
    let (status, reason, message) = bed
        .condition(&shards, &shard, "Stalled")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "PasswordSecretInvalid")
    );
    assert!(
        message.contains("not-there") && message.contains("postgresPasswordSecretRef"),
        "{message}"
    );
    let (_, reason, message) = bed
        .condition(&bed.clusters(), "taken", "Stalled")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(reason, "NameTaken");
    assert!(
        message.contains("Service default/taken-multiadmin"),
        "{message}"
    );

    bed.secret("not-there", "now-it-is").await.unwrap();
    maps.delete("taken-multiadmin", &DeleteParams::default())
        .await
        .unwrap();
    bed.phase("nosecret", "Healthy").await.unwrap();
    bed.phase("taken", "Healthy").await.unwrap();
    drop(operator);
}
