//! Hands that meddle with what the operator keeps.

use std::collections::BTreeSet;

use cluster::introspection::Inspector;
use cluster::owned::{self, Owned, Snapshot, fields, select};
use cluster::{Bed, HEALTHY};
use control_plane::{Entry, chart, wait};
use jiff::SignedDuration;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::{ONE, rights};

/// Longest time from the answer to a foreign edit to the answer to the write that undoes it.
const SOON: SignedDuration = SignedDuration::from_secs(1);

/// What is meddled with, and how.
struct Case {
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// The first object of the kind whose name contains this.
    part: &'static str,
    /// A merge patch of something that the operator owns.
    edit: Value,
    /// Deleting it takes no pods with state and no volumes along.
    deletable: bool,
    /// Objects that are written meanwhile because they are made of this one.
    made_of_it: &'static [&'static str],
}

fn case(
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    part: &'static str,
    edit: Value,
) -> Case {
    Case {
        api_version,
        kind,
        plural,
        part,
        edit,
        deletable: !matches!(
            kind,
            "TopoServer" | "TableGroup" | "Shard" | "StatefulSet" | "PersistentVolumeClaim" | "Pod"
        ),
        made_of_it: match kind {
            "TopoServer" => &["statefulsets"],
            "Cell" => &["deployments", "services"],
            "TableGroup" => &["shards"],
            _ => &[],
        },
    }
}

impl Case {
    /// The whole object is kept as desired; of the others, which are made once, labels and what time brings.
    fn applied(&self) -> bool {
        !matches!(self.kind, "Secret" | "PersistentVolumeClaim" | "Pod")
    }
}

fn cases() -> Vec<Case> {
    const OURS: &str = "multigres.com/v1alpha1";
    let port =
        json!({"spec": {"ports": [{"name": "postgres", "port": 5999, "targetPort": "postgres"}]}});
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "edited"}}});
    let pruning = json!({"spec": {"topologyPruning": {"enabled": false}}});
    let policy = json!({"spec": {"pvcDeletionPolicy": {"whenScaled": "Retain"}}});
    let prune = json!({"spec": {"topologyReconciliation": {"prunePoolers": false}}});
    let retention =
        json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain"}}});
    let replicas = json!({"spec": {"replicas": 2}});
    let trust = json!({"data": {"pg_hba_template.conf": "host all all all trust"}});
    let budget = json!({"spec": {"minAvailable": 0}});
    vec![
        case(OURS, "TopoServer", "toposervers", "", policy),
        case(OURS, "Cell", "cells", "", prune),
        case(OURS, "TableGroup", "tablegroups", "", pruning.clone()),
        case(OURS, "Shard", "shards", "", pruning),
        case("apps/v1", "StatefulSet", "statefulsets", "", retention),
        case(
            "apps/v1",
            "Deployment",
            "deployments",
            "-multiadmin",
            replicas,
        ),
        case("v1", "Service", "services", "-multigateway", port.clone()),
        case("v1", "Service", "services", "-pool-", port),
        case("v1", "ConfigMap", "configmaps", "-pg-hba", trust),
        case("v1", "Secret", "secrets", "-pgbackrest-tls", label.clone()),
        case(
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            "-pool-",
            label.clone(),
        ),
        case("v1", "Pod", "pods", "-pool-", label),
        case(
            "policy/v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            "-pdb-",
            budget,
        ),
    ]
}

/// Figures 6 and 11, and the no-op test of `covers`: what the server stores covers what is desired, for every kind and
/// every sample, so a restart writes nothing; what somebody else edits, strips of its labels or deletes is put back within
/// a second by one write. Then the rights that all of this took are compared with those that the chart grants (L-CACHE-05).
#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_put_back_at_once_and_nothing_else_is_written() {
    let _one = ONE.lock().await;
    let bed = Bed::start("repair", &[]).await.unwrap();
    let (audit, client) = (bed.plane.audit(), bed.plane.client());
    let begin = audit.settle().await.unwrap();
    let mut operator = bed.operator().await.unwrap();
    let inspector = Inspector::new(&bed.plane).await.unwrap();
    let samples = ["minimal", "three-cells", "external-etcd"];
    for sample in samples {
        bed.apply_sample(sample).unwrap();
    }
    for sample in samples {
        bed.phase(sample, "Healthy").await.unwrap();
    }
    let calm = owned::settled(&client, "minimal").await.unwrap();
    inspector.settled(&operator).await.unwrap();

    let mark = audit.settle().await.unwrap();
    operator.terminate().await.unwrap();
    let operator = bed.operator().await.unwrap();
    inspector.settled(&operator).await.unwrap();
    audit.settle().await.unwrap();
    let noise = audit.writes(mark, &chart::user()).unwrap();
    assert!(noise.is_empty(), "writes after a restart: {noise:#?}");

    for case in cases() {
        meddle(&bed, &case, &calm).await;
    }
    rights::check(&bed, begin).await;
    drop(operator);
}

/// Edits, strips and deletes one object.
async fn meddle(bed: &Bed, case: &Case, calm: &Owned) {
    let (group, version) = case
        .api_version
        .split_once('/')
        .unwrap_or(("", case.api_version));
    let kind = GroupVersionKind::gvk(group, version, case.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, case.plural);
    let api: Api<DynamicObject> = Api::default_namespaced_with(bed.plane.client(), &resource);
    let names = Snapshot::take(&bed.plane.client())
        .await
        .unwrap()
        .names("minimal", case.kind);
    let name = names.iter().find(|name| name.contains(case.part)).unwrap();
    let stripped = json!({"metadata": {"labels": null}});
    let loosened = loosened(&api.get(name).await.unwrap());
    let mut hands = vec![
        ("edited", Some(&case.edit)),
        ("stripped of its labels", Some(&stripped)),
    ];
    if case.applied() {
        hands.push(("loosened from its owner", Some(&loosened)));
    }
    if case.deletable {
        hands.push(("deleted", None));
    }
    for (how, patch) in hands {
        let what = format!("{} {name}, {how}", case.kind);
        let before = api.get(name).await.unwrap();
        let audit = bed.plane.audit();
        let mark = audit.settle().await.unwrap();
        match patch {
            Some(patch) => drop(
                api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .unwrap(),
            ),
            None => drop(api.delete(name, &DeleteParams::default()).await.unwrap()),
        }
        wait::until(&format!("{what}, to be put back"), HEALTHY, async || {
            let now = api.get_opt(name).await?;
            Ok(now.filter(|now| same(&before, now)).map(drop))
        })
        .await
        .unwrap();
        owned::becomes(&bed.plane.client(), "minimal", calm)
            .await
            .unwrap();
        audit.settle().await.unwrap();
        undone(&audit.entries_since(mark).unwrap(), case, name, &what);
    }
}

/// An owner reference that no longer blocks the owner's deletion.
fn loosened(object: &DynamicObject) -> Value {
    let mut owners = object.metadata.owner_references.clone().unwrap();
    owners[0].block_owner_deletion = Some(false);
    json!({"metadata": {"ownerReferences": owners}})
}

/// All that the operator owned of an object is as it was, generated content aside.
fn same(before: &DynamicObject, now: &DynamicObject) -> bool {
    let value = |object: &DynamicObject| serde_json::to_value(object).unwrap();
    let (before, now) = (value(before), value(now));
    let fields = Value::Object(fields(&before));
    let part = |object: &Value| {
        let mut part = select(&fields, object);
        let map = part.as_object_mut().unwrap();
        map.remove("status");
        if object.get("kind") == Some(&json!("Secret")) {
            map.remove("data");
        }
        part
    };
    part(&before) == part(&now)
}

/// One write on the object, soon, and none on others but on those that are made of it. Status follows as it must.
fn undone(entries: &[Entry], case: &Case, name: &str, what: &str) {
    let here = |entry: &&Entry| entry.resource == case.plural && entry.name == name;
    let ours = |entry: &&Entry| {
        entry.user == chart::user()
            && entry.is_write()
            && !entry.is_event()
            && entry.subresource.is_empty()
    };
    let hand = entries
        .iter()
        .filter(here)
        .find(|entry| entry.user == "admin" && entry.is_write());
    let writes: Vec<&Entry> = entries.iter().filter(ours).filter(here).collect();
    assert_eq!(writes.len(), 1, "{what}: {writes:#?}");
    let took = writes[0].answered.duration_since(hand.unwrap().answered);
    println!("{what}: put back after {took:?}");
    assert!(took < SOON, "{what}: put back after {took:?}");
    let others: BTreeSet<&str> = entries
        .iter()
        .filter(ours)
        .filter(|entry| !here(entry))
        .map(|entry| entry.resource.as_str())
        .filter(|resource| !case.made_of_it.contains(resource))
        .collect();
    assert!(
        others.is_empty(),
        "{what}: others were written too: {others:?}"
    );
}
