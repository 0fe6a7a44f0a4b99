//! Input that cannot work: told where the user looks, and mended by itself once the input is.

use cluster::{Bed, HEALTHY, NAMESPACE, PASSWORD};
use control_plane::wait;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::storage::v1::StorageClass;
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
    a_class_that_comes_later(&bed).await;
    drop(operator);
}

/// etcd names a storage class that does not exist yet.
async fn a_class_that_comes_later(bed: &Bed) {
    let cluster = json!({
        "apiVersion": "multigres.com/v1alpha1", "kind": "MultigresCluster", "metadata": {"name": "noclass"},
        "spec": {
            "postgresPasswordSecretRef": {"name": PASSWORD, "key": "password"},
            "cells": [{"name": "zone-a", "zoneId": "us-central1-a"}],
            "globalTopoServer": {"etcd": {"storage": {"class": "later"}}},
        },
    });
    let clusters = bed.clusters();
    let cluster = serde_json::from_value(cluster).unwrap();
    clusters
        .create(&PostParams::default(), &cluster)
        .await
        .unwrap();
    bed.phase("noclass", "Degraded").await.unwrap();
    let (servers, server) = (bed.api("TopoServer", "toposervers"), "noclass-global-topo");
    let (status, reason, message) = bed
        .condition(&servers, server, "StorageClassValid")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "StorageClassNotFound")
    );
    assert!(message.contains("StorageClass later"), "{message}");
    let classes: Api<StorageClass> = Api::all(bed.plane.client());
    let class = json!({"metadata": {"name": "later"}, "provisioner": "nobody"});
    let class = serde_json::from_value(class).unwrap();
    classes
        .create(&PostParams::default(), &class)
        .await
        .unwrap();
    let sets: Api<StatefulSet> = Api::namespaced(bed.plane.client(), NAMESPACE);
    wait::object(sets, server, "the StatefulSet of noclass", HEALTHY, |_| {
        true
    })
    .await
    .unwrap();
    bed.phase("noclass", "Progressing").await.unwrap();
}
