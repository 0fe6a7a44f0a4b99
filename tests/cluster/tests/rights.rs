//! Least privilege: what the operator may do, against what it does.

use cluster::owned::Snapshot;
use cluster::rights::{Right, granted, used};
use cluster::{Bed, HEALTHY, NAMESPACE};
use control_plane::{Entry, Mark, chart, wait};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Rights that no request here uses, and why they are granted. `*` stands for anything.
const IDLE: [(&str, &str); 7] = [
    ("update */finalizers.multigres.com", BLOCKED),
    ("delete *s.multigres.com", OWNED),
    ("delete statefulsets.apps", OWNED),
    ("delete persistentvolumeclaims", OWNED),
    ("delete secrets", CERT_MANAGER),
    ("delete pods", QUARANTINE),
    ("* certificates.cert-manager.io", CERT_MANAGER),
];
/// Without it, `blockOwnerDeletion` would be refused. The API server asks its authorizer and logs no request.
const BLOCKED: &str = "whoever lets an owner reference block the owner's deletion";
/// Without it, an owner reference that was changed by hand could not be put back (`repair.rs` changes them all).
const OWNED: &str = "whoever changes an object's owner references must be allowed to delete it";
const QUARANTINE: &str = "used only for a pooler that gave up, and no pod here is one that could";
const CERT_MANAGER: &str = "used only while cert-manager is installed, which it is not here";

/// L-CACHE-05: everything granted is used or has its reason, and nothing was refused. `since` is where the operator began.
/// Makes the operator do first what is seldom needed.
pub async fn check(bed: &Bed, since: Mark) {
    fewer_multiorchs(bed).await;
    leftovers(bed).await;
    a_broken_certificate(bed).await;
    the_end_of_a_cluster_of_the_go_operator(bed).await;

    let audit = bed.plane.audit();
    audit.settle().await.unwrap();
    let mut entries = audit.entries_since(since).unwrap();
    entries.retain(|entry| entry.user == chart::user());
    let refused: Vec<&Entry> = entries.iter().filter(|entry| entry.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let (granted, used) = (granted(&bed.plane.client()).await.unwrap(), used(&entries));
    let idle: Vec<String> = granted.difference(&used).map(Right::to_string).collect();
    let unexplained: Vec<&String> = idle
        .iter()
        .filter(|right| !IDLE.iter().any(|(pattern, _)| matches(pattern, right)))
        .collect();
    assert!(
        unexplained.is_empty(),
        "granted, but not used: {unexplained:#?}"
    );
    for (pattern, reason) in IDLE {
        let needed = idle.iter().any(|right| matches(pattern, right));
        assert!(needed, "{pattern:?} needs no excuse any more ({reason})");
    }
}

fn matches(pattern: &str, right: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => right.starts_with(start) && right.ends_with(end),
        None => pattern == right,
    }
}

async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    wait::gone(api.clone(), name, HEALTHY).await.unwrap();
}

/// A cell that multiorch leaves loses its Deployment there.
async fn fewer_multiorchs(bed: &Bed) {
    let clusters = bed.clusters();
    let mut cluster = clusters.get("three-cells").await.unwrap();
    let cells = cluster
        .data
        .pointer_mut("/spec/databases/0/tablegroups/0/shards/0/spec/multiorch/cells")
        .unwrap();
    *cells = json!(["zone-a", "zone-b"]);
    let deployments: Api<Deployment> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let selection = "app.kubernetes.io/component=multiorch,app.kubernetes.io/instance=three-cells,multigres.com/cell=zone-c";
    let there = deployments
        .list(&ListParams::default().labels(selection))
        .await
        .unwrap();
    assert_eq!(there.items.len(), 1);
    clusters
        .replace("three-cells", &PostParams::default(), &cluster)
        .await
        .unwrap();
    gone(&deployments, &there.items[0].name_any()).await;
}

/// What an earlier version made and this one does not.
async fn leftovers(bed: &Bed) {
    let client = bed.plane.client();
    let cluster = serde_json::to_value(bed.clusters().get("minimal").await.unwrap()).unwrap();
    let shards = bed.api("Shard", "shards");
    let names = Snapshot::take(&client)
        .await
        .unwrap()
        .names("minimal", "Shard");
    let shard = serde_json::to_value(shards.get(&names[0]).await.unwrap()).unwrap();
    leftover::<Service>(bed, &cluster, json!({"spec": {"ports": [{"port": 80}]}})).await;
    leftover::<ConfigMap>(bed, &shard, json!({"data": {"a": "b"}})).await;
    leftover::<PodDisruptionBudget>(bed, &shard, json!({"spec": {"minAvailable": 1}})).await;
}

async fn leftover<K>(bed: &Bed, owner: &Value, mut object: Value)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + DeserializeOwned
        + Send
        + 'static,
{
    let field = |pointer: &str| owner.pointer(pointer).unwrap();
    object["metadata"] = json!({
        "name": "leftover",
        "labels": {
            "app.kubernetes.io/managed-by": "multigres-operator", "app.kubernetes.io/instance": "minimal",
        },
        "ownerReferences": [{
            "apiVersion": field("/apiVersion"), "kind": field("/kind"), "name": field("/metadata/name"),
            "uid": field("/metadata/uid"), "controller": true,
        }],
    });
    let api: Api<K> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    gone(&api, "leftover").await;
}

/// A certificate that cannot be read is made anew.
async fn a_broken_certificate(bed: &Bed) {
    let client = bed.plane.client();
    let names = Snapshot::take(&client)
        .await
        .unwrap()
        .names("three-cells", "Secret");
    let name = names.iter().find(|name| name.ends_with("-tls")).unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let broken = json!({"stringData": {"tls.crt": "broken"}});
    secrets
        .patch(name, &PatchParams::default(), &Patch::Merge(broken))
        .await
        .unwrap();
    wait::until(
        "a certificate that its authority signed",
        HEALTHY,
        async || {
            Ok(Snapshot::take(&client)
                .await?
                .cluster("three-cells")
                .is_ok()
                .then_some(()))
        },
    )
    .await
    .unwrap();
}

/// The Go operator holds clusters by a finalizer; nothing waits for it any more.
async fn the_end_of_a_cluster_of_the_go_operator(bed: &Bed) {
    let clusters = bed.clusters();
    let finalizer = json!({"metadata": {"finalizers": ["multigres.com/cluster-cleanup"]}});
    clusters
        .patch(
            "external-etcd",
            &PatchParams::default(),
            &Patch::Merge(finalizer),
        )
        .await
        .unwrap();
    bed.delete("external-etcd").await.unwrap();
    let selection = watcher::Config::default().fields("metadata.name=external-etcd");
    wait::objects(
        clusters,
        selection,
        "the end of the cluster",
        HEALTHY,
        |known| known.is_empty().then_some(()),
    )
    .await
    .unwrap();
}
