//! Pods that the Go operator made, read back from a real API server, under our PoolActor.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Value, json};

use crate::action::{Action, Decision, WantReason};
use crate::entry::{Entry, Watched};
use crate::fixtures::{base64, start};
use crate::labels;
use crate::object::{Key, Kind};
use crate::room::{ActorId, Observed};
use crate::store::Reference;

const GO: &str = include_str!("../../tests/golden/go-objects-ha.yaml");
const POD: &str = "ha-postgres-default-0-inf-pool-main-zone-a-6904f14d-0";

struct Made {
    shard: Value,
    pod: Value,
}

/// The recording leaves identities out; here they are put back.
fn made() -> Made {
    let all: Vec<Value> = serde_saphyr::from_multiple(GO).unwrap();
    let find = |kind: &str, prefix: &str| {
        let mut body = all
            .iter()
            .find(|body| {
                body["kind"] == kind
                    && body["metadata"]["name"]
                        .as_str()
                        .unwrap()
                        .starts_with(prefix)
            })
            .unwrap()
            .clone();
        body["metadata"]["uid"] = json!(format!("uid-of-{kind}"));
        body["metadata"]["resourceVersion"] = json!("7");
        body["metadata"]["ownerReferences"][0]["uid"] = json!("uid-of-Shard");
        body
    };
    Made {
        shard: find("Shard", ""),
        pod: find("Pod", POD),
    }
}

fn entry(kind: Kind, body: &Value) -> Rc<Entry> {
    let watched: Watched = serde_json::from_value(body.clone()).unwrap();
    Rc::new(watched.trim(kind).unwrap())
}

impl Made {
    fn decide(&self) -> Decision<()> {
        let me = entry(Kind::Shard, &self.shard);
        let secret = json!({
            "metadata": {"name": "multigres-admin-password", "namespace": "default", "uid": "s", "resourceVersion": "1"},
            "data": {"password": base64("x")},
        });
        let mut group = vec![me.clone(), entry(Kind::Pod, &self.pod)];
        group.sort_by(|a, b| a.key().cmp(b.key()));
        let observed = Observed {
            me: me.clone(),
            group,
            troubles: BTreeMap::new(),
            references: BTreeMap::from([(
                Key::new(Kind::Secret, "default", "multigres-admin-password"),
                Reference::Present(entry(Kind::Secret, &secret)),
            )]),
            templates: Vec::new(),
            served: BTreeSet::new(),
            wants: BTreeMap::new(),
            topology: None,
            poolers: None,
        };
        super::decide::decide(
            &ActorId::pool(&me.uid, "main", "zone-a"),
            &observed,
            start(),
        )
    }

    /// Is the pod one that should be replaced?
    fn drifted(&self) -> bool {
        let wants = self.decide().wants;
        wants
            .iter()
            .any(|want| want.reason == WantReason::Drift && &*want.pod == POD)
    }

    /// The patch of the pod's metadata.
    fn patch(&self) -> Option<Value> {
        let patches: Vec<Value> = self
            .decide()
            .actions
            .into_iter()
            .filter_map(|planned| match planned.action {
                Action::Metadata { key, patch, .. } if &*key.name == POD => Some(patch),
                other => {
                    assert_ne!(&*other.lane().0.name, POD, "{other:?}");
                    None
                }
            })
            .collect();
        assert!(patches.len() <= 1, "{patches:?}");
        patches.into_iter().next()
    }
}

/// L-GIT-03: an operator that renders pods otherwise does not drift those that run: where all that we own agrees, they get
/// its hashes by one patch of their metadata, and that is all.
#[test]
fn a_pod_of_the_go_operator_is_stamped_anew_and_goes_on_running() {
    let mut made = made();
    assert!(!made.drifted());
    let patch = made.patch().unwrap();
    let wanted = &patch["annotations"];
    assert_eq!(patch["uid"], "uid-of-Pod");
    assert_eq!(patch["resourceVersion"], "7");
    assert!(super::spec_hash::is_ours(
        wanted[labels::SPEC_HASH].as_str().unwrap()
    ));
    assert!(wanted[labels::CONFIG_HASH].is_string());
    // Only PostgreSQL can tell whether it has loaded the other settings.
    assert_eq!(wanted.get(labels::RELOAD_HASH), None);
    for (name, value) in wanted.as_object().unwrap() {
        made.pod["metadata"]["annotations"][name] = value.clone();
    }
    // Its role is in the Shard's status; the Go operator did not put it on the pod.
    assert_eq!(patch["labels"], json!({labels::ROLE: "PRIMARY"}));
    made.pod["metadata"]["labels"][labels::ROLE] = "PRIMARY".into();
    assert_eq!(made.patch(), None);
    assert!(!made.drifted());
    // From now on it is held to our hash.
    made.shard["spec"]["images"]["multipooler"] = json!("other");
    assert!(made.drifted());
}

#[test]
fn a_pod_that_lost_its_hash_is_recognised() {
    let mut made = made();
    let annotations = made.pod["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove(labels::SPEC_HASH);
    assert!(!made.drifted());
    assert!(made.patch().is_some());
}

#[test]
fn a_container_that_somebody_injected_is_not_ours_to_judge() {
    let mut made = made();
    let spec = &mut made.pod["spec"];
    spec["containers"].as_array_mut().unwrap().push(
        json!({"name": "mesh", "image": "i", "volumeMounts": [
            {"name": "mesh", "mountPath": "/m"},
        ]}),
    );
    spec["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "mesh", "emptyDir": {}}));
    assert!(!made.drifted());
}

/// L-ROLL-08: what the user has changed since the Go operator made the pod is drift, in content as well as in form.
#[test]
fn a_pod_of_the_go_operator_that_differs_is_drifted() {
    type Edit = fn(&mut Made);
    let cases: [(&str, Edit); 9] = [
        ("image", |made| {
            made.shard["spec"]["images"]["postgres"] = json!("other")
        }),
        ("resources", |made| {
            made.shard["spec"]["pools"]["main"]["postgres"]["resources"]["requests"]["cpu"] =
                json!("12m");
        }),
        ("group", |made| {
            made.shard["spec"]["pools"]["main"]["fsGroup"] = json!(1000)
        }),
        ("zone", |made| {
            made.shard["spec"]["cellTopologyLabels"]["zone-a"] =
                json!({"topology.k8s.aws/zone-id": "other"});
        }),
        ("setting that needs a restart", |made| {
            made.shard["spec"]["postgresConfig"] = json!({"max_connections": "70"});
        }),
        ("log level", |made| {
            made.shard["spec"]["logLevels"]["pgctld"] = json!("debug")
        }),
        ("rights of the pod", |made| {
            made.pod["spec"]["containers"][0]["securityContext"]["privileged"] = json!(true);
        }),
        ("settings unknown", |made| {
            let annotations = made.pod["metadata"]["annotations"].as_object_mut().unwrap();
            annotations.remove(labels::CONFIG_HASH);
        }),
        ("argument of the pod", |made| {
            made.pod["spec"]["containers"][0]["args"]
                .as_array_mut()
                .unwrap()
                .push(json!("--more"));
        }),
    ];
    for (what, edit) in cases {
        let mut made = made();
        edit(&mut made);
        assert!(made.drifted(), "{what}");
        let stamped = made
            .patch()
            .is_some_and(|patch| !patch["annotations"][labels::SPEC_HASH].is_null());
        assert!(!stamped, "{what}");
    }
}

#[test]
fn a_setting_that_a_reload_delivers_is_no_drift() {
    let mut made = made();
    made.shard["spec"]["postgresConfig"] = json!({"work_mem": "32MB"});
    assert!(!made.drifted());
}

/// Only such pods are parsed whole, and then one number is kept.
#[test]
fn pods_with_a_hash_of_ours_and_those_of_others_are_not_looked_into() {
    let common = |edit: fn(&mut Value)| {
        let mut pod = made().pod;
        edit(&mut pod);
        entry(Kind::Pod, &pod).pod.as_ref().unwrap().common
    };
    assert!(common(|_| {}).is_some());
    assert_eq!(
        common(|pod| pod["metadata"]["annotations"][labels::SPEC_HASH] =
            json!("v1-00112233445566778899aabbccddeeff")),
        None
    );
    assert_eq!(
        common(|pod| pod["metadata"]["labels"][labels::COMPONENT] = json!("multiorch")),
        None
    );
}
