//! Hands that meddle with what the operator keeps.

use std::time::Duration;

use cluster::introspection::Inspector;
use cluster::owned::{Snapshot, fields, select};
use cluster::{Bed, HEALTHY, pass};
use control_plane::{Audit, Entry, Mark, chart, wait};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::{ONE, rights};

/// Longest time from the foreign edit to the answer to the write that undoes it.
const SOON: Duration = Duration::from_secs(1);

/// A kind, the object of it that is meddled with (the first whose name ends like this), and an edit of its fields.
struct Case {
    kind: (&'static str, &'static str, &'static str),
    end: &'static str,
    edit: Value,
    /// May it be deleted without taking pods or volumes along?
    deletable: bool,
}

fn cases() -> Vec<Case> {
    let case = |kind, end, edit, deletable| Case {
        kind,
        end,
        edit,
        deletable,
    };
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/component": "edited"}}});
    let ours = |kind, plural| ("multigres.com/v1alpha1", kind, plural);
    vec![
        case(
            ours("TopoServer", "toposervers"),
            "-global-topo",
            json!({"spec": {"pvcDeletionPolicy": {"whenScaled": "Retain"}}}),
            false,
        ),
        case(
            ours("Cell", "cells"),
            "",
            json!({"spec": {"topologyReconciliation": {"prunePoolers": false}}}),
            false,
        ),
        case(
            ours("TableGroup", "tablegroups"),
            "",
            json!({"spec": {"topologyPruning": {"enabled": false}}}),
            false,
        ),
        case(
            ours("Shard", "shards"),
            "",
            json!({"spec": {"topologyPruning": {"enabled": false}}}),
            false,
        ),
        case(
            ("apps/v1", "StatefulSet", "statefulsets"),
            "",
            json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain"}}}),
            false,
        ),
        case(
            ("apps/v1", "Deployment", "deployments"),
            "-multiadmin",
            json!({"spec": {"replicas": 2}}),
            true,
        ),
        case(
            ("v1", "Service", "services"),
            "-multigateway",
            json!({"spec": {"ports": [{"name": "postgres", "port": 5999, "targetPort": "postgres"}]}}),
            true,
        ),
        case(
            ("v1", "ConfigMap", "configmaps"),
            "-pg-hba",
            json!({"data": {"pg_hba_template.conf": "host all all all trust"}}),
            true,
        ),
        case(
            ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            "",
            json!({"spec": {"minAvailable": 0}}),
            true,
        ),
        case(
            ("v1", "Secret", "secrets"),
            "-pgbackrest-tls",
            label.clone(),
            true,
        ),
        case(
            ("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            "-0",
            label.clone(),
            false,
        ),
        case(("v1", "Pod", "pods"), "-0", label, false),
    ]
}

/// Figures 6 and 11, and the no-op test of `covers`: what the server stores covers what is desired, for every kind and
/// every sample, so a restart writes nothing; what somebody else edits, strips of its labels or deletes is put back within
/// a second by one write. Then the rights that all of this took are compared with those that the chart grants (L-CACHE-05).
#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_put_back_at_once_and_nothing_else_is_written() {
    let _one = ONE.lock().await;
    let bed = Bed::start("repair", &[]).await.unwrap();
    let audit = bed.plane.audit();
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
    inspector.settled(&operator).await.unwrap();

    let mark = audit.settle().await.unwrap();
    operator.terminate().await.unwrap();
    let operator = bed.operator().await.unwrap();
    inspector.settled(&operator).await.unwrap();
    audit.settle().await.unwrap();
    let noise = audit.writes(mark, &chart::user()).unwrap();
    assert!(noise.is_empty(), "writes after a restart: {noise:#?}");

    for case in cases() {
        meddle(&bed, &inspector, &case).await;
    }
    drop(operator);
    rights::check(&bed, begin).await;
}

/// Edits, strips and deletes one object.
async fn meddle(bed: &Bed, inspector: &Inspector, case: &Case) {
    let (api_version, kind, plural) = case.kind;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    let api: Api<DynamicObject> = Api::default_namespaced_with(bed.plane.client(), &resource);
    let name = victim(bed, kind, case.end).await;
    let mut hands = vec![
        ("edited", Some(case.edit.clone())),
        (
            "stripped of its labels",
            Some(json!({"metadata": {"labels": null}})),
        ),
    ];
    if case.deletable {
        hands.push(("deleted", None));
    }
    let _ = inspector;
    for (how, patch) in hands {
        let before = api.get(&name).await.unwrap();
        let audit = bed.plane.audit();
        let mark = audit.settle().await.unwrap();
        match patch {
            Some(patch) => drop(
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .unwrap(),
            ),
            None => drop(api.delete(&name, &DeleteParams::default()).await.unwrap()),
        }
        let what = format!("{kind} {name}, {how}, to be put back");
        let restored = wait::until(&what, Duration::from_secs(10), async || {
            let now = api.get_opt(&name).await?;
            Ok(now.filter(|now| same(&before, now, kind)).map(drop))
        });
        if let Err(error) = restored.await {
            println!("FAIL {error:#}");
            continue;
        }
        let took = undone(&audit, mark, plural, &name).await;
        println!("{kind} {how}: {took:?}");
    }
}
fn same(before: &DynamicObject, now: &DynamicObject, kind: &str) -> bool {
    let value = |object: &DynamicObject| serde_json::to_value(object).unwrap();
    let (before, now) = (value(before), value(now));
    let fields = Value::Object(fields(&before));
    let part = |object: &Value| {
        let mut part = select(&fields, object);
        if kind == "Secret" {
            part.as_object_mut().unwrap().remove("data");
        }
        part.as_object_mut().unwrap().remove("status");
        part
    };
    part(&before) == part(&now)
}

async fn undone(audit: &Audit, mark: Mark, plural: &str, name: &str) -> Vec<String> {
    audit.settle().await.unwrap();
    let entries = audit.entries_since(mark).unwrap();
    let hand = entries
        .iter()
        .find(|e| e.user == "admin" && e.is_write() && e.resource == plural && e.name == name)
        .unwrap();
    let base = hand.answered;
    entries
        .iter()
        .filter(|e| e.user == chart::user() && e.is_write())
        .map(|e| {
            format!(
                "{} {} {} {} {:?}",
                e.verb,
                e.target(),
                e.name,
                e.code,
                e.answered.duration_since(base)
            )
        })
        .collect()
}

async fn victim(bed: &Bed, kind: &str, end: &str) -> String {
    let snapshot = Snapshot::take(&bed.plane.client()).await.unwrap();
    let names = snapshot.names("minimal", kind);
    names.into_iter().find(|name| name.ends_with(end)).unwrap()
}
