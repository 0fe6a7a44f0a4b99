//! The end of a cluster.

use std::time::Duration;

use cluster::{Bed, PASSWORD};
use control_plane::wait;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::ONE;

/// Deleting a cluster leaves what the volume policy keeps and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_cluster_leaves_nothing_but_kept_volumes() {
    let _one = ONE.lock().await;
    let bed = Bed::start("deletion", &[]).await.unwrap();
    let operator = bed.operator().await.unwrap();
    bed.create("gone", PASSWORD).await.unwrap();
    bed.create("kept", PASSWORD).await.unwrap();
    bed.phase("gone", "Healthy").await.unwrap();
    bed.phase("kept", "Healthy").await.unwrap();
    let policy =
        json!({"spec": {"pvcDeletionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"}}});
    bed.create("retain", PASSWORD).await.unwrap();
    bed.clusters()
        .patch("retain", &PatchParams::default(), &Patch::Merge(policy))
        .await
        .unwrap();
    bed.phase("retain", "Healthy").await.unwrap();
    bed.delete("gone").await.unwrap();
    bed.delete("retain").await.unwrap();
    let remaining = |prefix: &str| -> Vec<String> {
        let names = bed.managed().unwrap();
        names
            .into_iter()
            .filter(|name| {
                name.contains(&format!("/{prefix}")) || name.contains(&format!("-{prefix}-"))
            })
            .collect()
    };
    wait::until(
        "everything of the deleted cluster to be gone",
        Duration::from_secs(60),
        async || Ok(remaining("gone").is_empty().then_some(())),
    )
    .await
    .unwrap();
    wait::until(
        "only volumes of the other to be left",
        Duration::from_secs(60),
        async || {
            let left = remaining("retain");
            Ok(left
                .iter()
                .all(|name| name.starts_with("persistentvolumeclaim/"))
                .then_some(()))
        },
    )
    .await
    .unwrap();
    bed.phase("kept", "Healthy").await.unwrap();
    drop(operator);
}
