//! What a settled cluster needs as time goes by, on a real API server with its admission: owners of volumes, growth, renewal
//! of certificates, metadata of objects that are made once.

use std::time::Duration;

use cluster::{Bed, NAMESPACE};
use control_plane::wait;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

fn ours(cluster: &str) -> ListParams {
    ListParams::default().labels(&format!(
        "multigres.com/cluster={cluster},app.kubernetes.io/component=shard-pool"
    ))
}

async fn claims(bed: &Bed) -> Vec<PersistentVolumeClaim> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(bed.plane.client(), NAMESPACE);
    api.list(&ours("kept")).await.unwrap().items
}

async fn edit(bed: &Bed, spec: serde_json::Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    let clusters = bed.clusters();
    clusters
        .patch("kept", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// L-PVC-01 on a server that enforces rights on owner references; L-CERT-02; labels of what is made once.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_certificates_and_labels_are_kept_true() {
    let _one = crate::ONE.lock().await;
    let bed = Bed::start("upkeep", &[]).await.unwrap();
    let operator = bed.operator().await.unwrap();
    bed.create("kept", "multigres-admin-password")
        .await
        .unwrap();
    bed.phase("kept", "Healthy").await.unwrap();
    owners_follow(&bed).await;
    sizes_follow(&bed).await;
    secrets_are_mended(&bed).await;
    pods_are_labelled(&bed).await;
    bed.phase("kept", "Healthy").await.unwrap();
    drop(operator);
}

async fn owners_follow(bed: &Bed) {
    for (policy, owners) in [("Retain", 0), ("Delete", 1), ("Retain", 0)] {
        edit(
            bed,
            json!({"pvcDeletionPolicy": {"whenDeleted": policy, "whenScaled": "Delete"}}),
        )
        .await;
        wait::until(&format!("owners after {policy}"), SOON, async || {
            let claims = claims(bed).await;
            assert_eq!(claims.len(), 3);
            let counts = claims
                .iter()
                .map(|claim| claim.metadata.owner_references.iter().flatten().count());
            Ok(counts
                .into_iter()
                .all(|count| count == owners)
                .then_some(()))
        })
        .await
        .unwrap();
    }
}

async fn sizes_follow(bed: &Bed) {
    let size = |size: &str| json!({"backup": {"type": "filesystem", "filesystem": {"storage": {"size": size}}}});
    edit(bed, size("20Gi")).await;
    let shards = bed.api("Shard", "shards");
    let list = shards.list(&ListParams::default()).await.unwrap();
    let shard = list.items[0].metadata.name.clone().unwrap();
    wait::until("the backup volume to grow", SOON, async || {
        let grown = claims(bed).await.into_iter().any(|claim| {
            let requests = claim
                .spec
                .and_then(|spec| spec.resources)
                .and_then(|r| r.requests);
            requests.is_some_and(|r| r["storage"].0 == "20Gi")
        });
        Ok(grown.then_some(()))
    })
    .await
    .unwrap();
    edit(bed, size("5Gi")).await;
    wait::until("the shrink to be refused", SOON, async || {
        let held = bed.condition(&shards, &shard, "VolumeChangeHeld").await?;
        Ok(held
            .filter(|(_, reason, _)| reason == "ShrinkRefused")
            .map(drop))
    })
    .await
    .unwrap();
    edit(bed, size("20Gi")).await;
}

async fn secrets_are_mended(bed: &Bed) {
    let api: Api<Secret> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let label = ListParams::default().labels("app.kubernetes.io/component=pgbackrest-tls");
    let all = api.list(&label).await.unwrap().items;
    let names: Vec<String> = all
        .into_iter()
        .filter_map(|secret| secret.metadata.name)
        .collect();
    let leaf = names.iter().find(|name| name.ends_with("-tls")).unwrap();
    let damage = json!({"stringData": {"tls.crt": "garbage", "more": "x"}});
    api.patch(leaf, &PatchParams::default(), &Patch::Merge(damage))
        .await
        .unwrap();
    wait::until("a new certificate", SOON, async || {
        let data = api.get(leaf).await?.data.unwrap_or_default();
        let whole = data["tls.crt"].0.starts_with(b"-----BEGIN CERTIFICATE");
        Ok((whole && data.keys().eq(["tls.crt", "tls.key"])).then_some(()))
    })
    .await
    .unwrap();
    let before = api.get(leaf).await.unwrap();
    let strip = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    api.patch(leaf, &PatchParams::default(), &Patch::Merge(strip))
        .await
        .unwrap();
    wait::until("the label of the Secret", SOON, async || {
        let secret = api.get(leaf).await?;
        assert_eq!(secret.data, before.data);
        let labels = secret.metadata.labels.unwrap_or_default();
        Ok(labels
            .contains_key("app.kubernetes.io/managed-by")
            .then_some(()))
    })
    .await
    .unwrap();
}

/// Also L-GIT-06: the project reaches pods without a restart.
async fn pods_are_labelled(bed: &Bed) {
    let api: Api<Pod> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let pods = api.list(&ours("kept")).await.unwrap().items;
    let name = pods[0].metadata.name.as_deref().unwrap();
    let strip = json!({"metadata": {"labels": {"multigres.com/pool": null}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(strip))
        .await
        .unwrap();
    let project = json!({"metadata": {"annotations": {"multigres.com/project-ref": "p1"}}});
    let clusters = bed.clusters();
    clusters
        .patch("kept", &PatchParams::default(), &Patch::Merge(project))
        .await
        .unwrap();
    wait::until("label and project of the pod", SOON, async || {
        let pod = api.get(name).await?;
        assert_eq!(pod.metadata.uid, pods[0].metadata.uid);
        let labels = pod.metadata.labels.unwrap_or_default();
        let annotations = pod.metadata.annotations.unwrap_or_default();
        let project = annotations
            .get("multigres.com/project-ref")
            .is_some_and(|p| p == "p1");
        Ok((labels.contains_key("multigres.com/pool") && project).then_some(()))
    })
    .await
    .unwrap();
}
