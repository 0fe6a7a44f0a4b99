//! Topology stores: managed and external, of the cluster and of a cell, and the volumes of managed ones.

use actors::object::{Key, Kind};
use serde_json::{Value, json};

use crate::desk::{Desk, key};

fn local(global: Value) -> Desk {
    Desk::cluster(json!({
        "globalTopoServer": global,
        "cells": [{"name": "zone-a", "zoneId": "z", "spec": {"localTopoServer": {"etcd": {"replicas": 1}}}}],
    }))
}

const LOCAL: &str = "minimal-zone-a-96c88ae0-topo-26e28848";

/// `design.md` 3, order of creation.
#[test]
fn gateways_wait_for_every_store_they_need_and_then_stay() {
    let mut desk = local(json!({"etcd": {}}));
    desk.settle();
    let gateway = |desk: &Desk| {
        desk.objects
            .keys()
            .any(|key| key.kind == Kind::Deployment && key.name.contains("multigateway"))
    };
    let cell = desk.named(Kind::Cell, "zone-a");
    assert!(!gateway(&desk));
    assert_eq!(
        desk.says(&cell, "Available"),
        "Progressing False MultigatewayUnavailable"
    );
    desk.report(&key(Kind::StatefulSet, "minimal-global-topo"), |n| n);
    desk.settle();
    assert!(!gateway(&desk), "the cell's own store is not Ready");
    assert_eq!(
        desk.says(&cell, "Ready"),
        "Progressing False LocalTopoServerNotReady"
    );
    assert_eq!(
        desk.says(&cell, "Available"),
        "Progressing False LocalTopoServerNotReady"
    );
    desk.bring_up();
    assert!(gateway(&desk));
    assert_eq!(
        desk.says(&cell, "Available"),
        "Healthy True MultigatewayAvailable"
    );
    desk.report(&key(Kind::StatefulSet, LOCAL), |_| 0);
    desk.settle();
    assert!(gateway(&desk));
    assert_eq!(
        desk.says(&cell, "Available"),
        "Progressing True MultigatewayAvailable"
    );
}

#[test]
fn a_cell_owns_its_store() {
    let mut desk = local(json!({"etcd": {}}));
    desk.settle();
    let server = &desk.objects[&key(Kind::TopoServer, LOCAL)];
    let cell = desk.named(Kind::Cell, "zone-a");
    assert_eq!(
        server["metadata"]["ownerReferences"][0]["uid"],
        desk.uid(&cell)
    );
    assert_eq!(
        server["metadata"]["labels"]["app.kubernetes.io/component"],
        "local-topo"
    );
    assert_eq!(server["spec"]["etcd"]["rootPath"], "/multigres/zone-a");
    assert_eq!(
        server["spec"]["pvcDeletionPolicy"],
        Value::Null,
        "the cluster's policy is not a cell's"
    );
}

/// L-DEL-07: with the global store outside, nothing of a cell's own store is ever touched.
#[test]
fn an_external_global_store_leaves_local_ones_alone() {
    let mut desk = local(json!({"external": {"endpoints": ["http://etcd.example:2379"]}}));
    desk.bring_up();
    desk.settle();
    assert_eq!(desk.deleted, []);
    let set = key(Kind::StatefulSet, LOCAL);
    let uid = desk.uid(&set);
    desk.patch(
        &key(Kind::MultigresCluster, "minimal"),
        &json!({"spec": {"logLevels": {"multiadmin": "debug"}}}),
    );
    desk.bring_up();
    assert_eq!((desk.deleted.len(), desk.uid(&set)), (0, uid));
}

/// L-DEL-07: switching to an external store takes no managed one away, and says so.
#[test]
fn a_store_that_is_no_longer_named_is_kept_and_told() {
    let mut desk = local(json!({"etcd": {}}));
    desk.bring_up();
    let cluster = key(Kind::MultigresCluster, "minimal");
    let external = json!({"etcd": null, "external": {"endpoints": ["http://etcd.example:2379"]}});
    desk.patch(&cluster, &json!({"spec": {"globalTopoServer": external, "cells": [{"name": "zone-a", "zoneId": "z"}]}}));
    desk.bring_up();
    assert_eq!(desk.deleted, []);
    let held = Some(("True".to_owned(), "WouldRemovePods".to_owned()));
    assert_eq!(desk.condition(&cluster, "RemovalHeld"), held);
    assert_eq!(
        desk.condition(&desk.named(Kind::Cell, "zone-a"), "RemovalHeld"),
        held
    );
}

/// L-DEL-07, `workloads.md` T1: no Service selects members of another store.
#[test]
fn services_select_members_of_their_own_store_only() {
    let mut desk = local(json!({"etcd": {}}));
    desk.settle();
    let labels = |name: &str| {
        desk.objects[&key(Kind::StatefulSet, name)]["spec"]["template"]["metadata"]["labels"]
            .clone()
    };
    let (global, own) = (labels("minimal-global-topo"), labels(LOCAL));
    let selects = |service: &str, pods: &Value| {
        let selector = desk.objects[&key(Kind::Service, service)]["spec"]["selector"].clone();
        selector
            .as_object()
            .unwrap()
            .iter()
            .all(|(label, value)| pods[label] == *value)
    };
    for (service, mine, other) in [
        ("minimal-global-topo", &global, &own),
        ("minimal-global-topo-headless", &global, &own),
        (LOCAL, &own, &global),
        (
            "minimal-zone-a-96c88ae0-topo-26e28848-headless",
            &own,
            &global,
        ),
    ] {
        assert!(
            selects(service, mine) && !selects(service, other),
            "{service}"
        );
    }
}

/// Members that the Go operator started lack our label: until they are replaced, Services must go on finding them.
#[test]
fn services_find_members_that_are_yet_to_be_labelled() {
    let mut desk = Desk::cluster(json!({}));
    desk.bring_up();
    let set = key(Kind::StatefulSet, "minimal-global-topo");
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x", "uid": desk.uid(&set), "controller": true}]);
    let labels = json!({"app.kubernetes.io/managed-by": "multigres-operator", "app.kubernetes.io/component": "toposerver"});
    let pod = key(Kind::Pod, "minimal-global-topo-2");
    desk.put(
        pod.clone(),
        json!({"metadata": {"labels": labels, "ownerReferences": owner}}),
    );
    desk.settle();
    let selector = |desk: &Desk| {
        desk.objects[&key(Kind::Service, "minimal-global-topo-headless")]["spec"]["selector"]["multigres.com/toposerver"].clone()
    };
    assert_eq!(selector(&desk), Value::Null);
    desk.remove(&pod);
    desk.settle();
    assert_eq!(selector(&desk), "minimal-global-topo");
}

fn claim(desk: &mut Desk, index: usize) -> Key {
    let set = &desk.objects[&key(Kind::StatefulSet, "minimal-global-topo")];
    let template = &set["spec"]["volumeClaimTemplates"][0];
    let mut body = template.clone();
    for (label, value) in set["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        body["metadata"]["labels"][label] = value.clone();
    }
    let key = key(
        Kind::PersistentVolumeClaim,
        &format!("data-minimal-global-topo-{index}"),
    );
    desk.put(key.clone(), body);
    key
}

fn owners(desk: &Desk, key: &Key) -> Vec<Value> {
    let owners = desk.objects[key]["metadata"]["ownerReferences"].as_array();
    owners.cloned().unwrap_or_default()
}

/// L-PVC-08: a StatefulSet that is replaced leaves its volumes; a cluster that is deleted takes them where policy says so.
#[test]
fn volumes_of_etcd_go_with_the_topology_server_and_not_with_its_stateful_set() {
    let mut desk = Desk::cluster(json!({}));
    desk.settle();
    let server = key(Kind::TopoServer, "minimal-global-topo");
    let set = key(Kind::StatefulSet, "minimal-global-topo");
    let retention = desk.objects[&set]["spec"]["persistentVolumeClaimRetentionPolicy"].clone();
    assert_eq!(
        retention,
        json!({"whenDeleted": "Retain", "whenScaled": "Delete"})
    );
    let made = claim(&mut desk, 0);
    desk.settle();
    let [owner] = &owners(&desk, &made)[..] else {
        panic!()
    };
    assert_eq!(owner["uid"], desk.uid(&server));
    assert_eq!(
        owner["controller"],
        Value::Null,
        "the StatefulSet controller ignores claims that others control"
    );
}

/// L-PVC-08: the policy is followed on volumes that exist, and the template that cannot change is left alone.
#[test]
fn a_changed_volume_policy_reaches_the_volumes_and_not_the_template() {
    let mut desk = Desk::cluster(json!({}));
    desk.bring_up();
    let made = claim(&mut desk, 0);
    desk.settle();
    let set = key(Kind::StatefulSet, "minimal-global-topo");
    let template = desk.objects[&set]["spec"]["volumeClaimTemplates"].clone();
    let cluster = key(Kind::MultigresCluster, "minimal");
    for (policy, count) in [("Retain", 0), ("Delete", 1)] {
        desk.patch(&cluster, &json!({"spec": {"pvcDeletionPolicy": {"whenDeleted": policy, "whenScaled": "Retain"}}}));
        desk.settle();
        assert_eq!(owners(&desk, &made).len(), count, "{policy}");
        let spec = &desk.objects[&set]["spec"];
        assert_eq!(spec["volumeClaimTemplates"], template);
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"]["whenScaled"],
            "Retain"
        );
    }
}

/// The template comes back with what the server fills in, and no write follows from that.
#[test]
fn a_completed_claim_template_is_still_the_wanted_one() {
    let mut desk = Desk::cluster(json!({}));
    desk.bring_up();
    let set = key(Kind::StatefulSet, "minimal-global-topo");
    let mut body = desk.objects[&set].clone();
    let template = &mut body["spec"]["volumeClaimTemplates"][0];
    template["metadata"]["creationTimestamp"] = Value::Null;
    template["spec"]["volumeMode"] = json!("Filesystem");
    template["status"] = json!({"phase": "Pending"});
    desk.put(set.clone(), body);
    desk.report(&set, |wanted| wanted);
    let decision = desk.decide(&key(Kind::TopoServer, "minimal-global-topo"));
    assert_eq!(decision.actions, []);
}

/// A StatefulSet made by the Go operator has claims without labels, and a template that the server completed.
#[test]
fn claims_of_an_adopted_topology_server_are_found_by_name() {
    let mut desk = Desk::cluster(json!({}));
    desk.bring_up();
    let set = key(Kind::StatefulSet, "minimal-global-topo");
    let mut body = desk.objects[&set].clone();
    let template = json!([{
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "creationTimestamp": null},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"},
        "status": {"phase": "Pending"},
    }]);
    body["spec"]["volumeClaimTemplates"] = template;
    desk.put(set.clone(), body);
    let decision = desk.decide(&key(Kind::TopoServer, "minimal-global-topo"));
    let read: Vec<String> = decision
        .actions
        .iter()
        .filter(|p| p.action.verb() == "read")
        .map(|p| p.action.lane().0.name.to_string())
        .collect();
    assert_eq!(
        read,
        [
            "data-minimal-global-topo-0",
            "data-minimal-global-topo-1",
            "data-minimal-global-topo-2"
        ]
    );
    let applied = decision
        .actions
        .iter()
        .find_map(|p| p.action.puts())
        .unwrap();
    assert_eq!(
        applied.body["spec"]["volumeClaimTemplates"],
        json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]),
        "else the server refuses the whole StatefulSet",
    );
}

/// The claims come with the StatefulSet, and one of a class that does not exist would wait for ever.
#[test]
fn etcd_waits_for_the_storage_class_it_names() {
    let mut desk =
        Desk::cluster(json!({"globalTopoServer": {"etcd": {"storage": {"class": "slow"}}}}));
    desk.class("slow", false);
    desk.bring_up();
    let set = key(Kind::StatefulSet, "minimal-global-topo");
    let server = key(Kind::TopoServer, "minimal-global-topo");
    assert!(!desk.objects.contains_key(&set));
    let told = |desk: &Desk, kind: &str| desk.condition(&server, kind);
    let not_found = |status: &str| Some((status.to_owned(), "StorageClassNotFound".to_owned()));
    assert_eq!(told(&desk, "StorageClassValid"), not_found("False"));
    assert_eq!(told(&desk, "Stalled"), not_found("True"));
    desk.class("slow", true);
    desk.bring_up();
    assert!(desk.objects.contains_key(&set));
    assert_eq!(told(&desk, "StorageClassValid").unwrap().0, "True");
    desk.class("slow", false);
    desk.bring_up();
    assert!(desk.objects.contains_key(&set), "what runs goes on");
    assert_eq!(told(&desk, "StorageClassValid"), not_found("False"));
    assert_eq!(told(&desk, "Stalled").unwrap().0, "False");
}

/// `api.md` WH-13; without admission the same must not break a running etcd.
#[test]
fn what_running_members_cannot_change_is_told_and_not_tried() {
    let mut desk =
        Desk::cluster(json!({"globalTopoServer": {"etcd": {"storage": {"class": "slow"}}}}));
    desk.bring_up();
    let made = claim(&mut desk, 0);
    desk.bring_up();
    let set = key(Kind::StatefulSet, "minimal-global-topo");
    let cluster = key(Kind::MultigresCluster, "minimal");
    let before = desk.objects[&set]["spec"].clone();
    let server = key(Kind::TopoServer, "minimal-global-topo");
    let etcd = json!({"replicas": 5, "storage": {"size": "2Gi", "class": "fast"}});
    desk.patch(
        &cluster,
        &json!({"spec": {"globalTopoServer": {"etcd": etcd}}}),
    );
    desk.bring_up();
    assert_eq!(desk.objects[&set]["spec"], before);
    assert_eq!(
        desk.objects[&made]["spec"]["resources"]["requests"]["storage"], "2Gi",
        "a volume can grow"
    );
    let reason = |desk: &Desk, kind: &str| desk.condition(&server, kind).map(|(_, reason)| reason);
    assert_eq!(
        reason(&desk, "MemberChangeHeld").as_deref(),
        Some("MembersAreFixed")
    );
    assert_eq!(
        reason(&desk, "VolumeChangeHeld").as_deref(),
        Some("FieldIsFixed")
    );
    let status = desk.status(&server).to_string();
    for told in ["etcd keeps its 3 members", "keeps its storageClassName"] {
        assert!(status.contains(told), "{told}: {status}");
    }
    let etcd = json!({"replicas": 3, "storage": {"size": "2048Mi", "class": "slow"}});
    desk.patch(
        &cluster,
        &json!({"spec": {"globalTopoServer": {"etcd": etcd}}}),
    );
    desk.bring_up();
    assert_eq!(reason(&desk, "MemberChangeHeld"), None);
    assert_eq!(
        reason(&desk, "VolumeChangeHeld"),
        None,
        "the same size in other words"
    );
    assert_eq!(desk.objects[&set]["spec"], before);
}

/// L-TOPO-10: members find each other before they are Ready, are probed where nobody asks for a client certificate, listen in every
/// family of addresses, and stay as many as they were made.
#[test]
fn etcd_can_be_bootstrapped_and_keeps_its_members() {
    let mut desk = Desk::cluster(json!({"globalTopoServer": {"etcd": {"replicas": 5}}}));
    desk.bring_up();
    let set = key(Kind::StatefulSet, "minimal-global-topo");
    let spec = desk.objects[&set]["spec"].clone();
    assert_eq!(
        (&spec["replicas"], &spec["podManagementPolicy"]),
        (&json!(5), &json!("Parallel")),
        "no member waits for another to be Ready"
    );
    let headless = key(Kind::Service, "minimal-global-topo-headless");
    assert_eq!(spec["serviceName"], *headless.name);
    let service = &desk.objects[&headless]["spec"];
    assert_eq!(
        (&service["clusterIP"], &service["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    for service in [headless, key(Kind::Service, "minimal-global-topo")] {
        let families = &desk.objects[&service]["spec"]["ipFamilyPolicy"];
        assert_eq!(families, "PreferDualStack", "{service}");
    }
    let etcd = &spec["template"]["spec"]["containers"][0];
    let named = |list: &str, name: &str| {
        let mut all = etcd[list].as_array().unwrap().iter();
        all.find(|one| one["name"] == name).unwrap().clone()
    };
    let metrics = named("ports", "metrics")["containerPort"].clone();
    assert_ne!(metrics, named("ports", "client")["containerPort"]);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(etcd[probe]["httpGet"]["port"], metrics, "{probe}");
    }
    for (listener, port) in [
        ("CLIENT", "client"),
        ("PEER", "peer"),
        ("METRICS", "metrics"),
    ] {
        let variable = named("env", &format!("ETCD_LISTEN_{listener}_URLS"));
        let port = &named("ports", port)["containerPort"];
        assert_eq!(variable["value"], format!("http://[::]:{port}"));
    }
    let members = named("env", "ETCD_INITIAL_CLUSTER")["value"].clone();
    let members = members.as_str().unwrap().split(',');
    assert_eq!(members.clone().count(), 5);
    for (number, member) in members.enumerate() {
        let name = format!("minimal-global-topo-{number}");
        let host = format!("{name}.minimal-global-topo-headless.default.svc.cluster.local");
        assert_eq!(member, format!("{name}=http://{host}:2380"));
    }
    for replicas in [3, 7] {
        desk.patch(
            &key(Kind::MultigresCluster, "minimal"),
            &json!({"spec": {"globalTopoServer": {"etcd": {"replicas": replicas}}}}),
        );
        desk.bring_up();
        assert_eq!(desk.objects[&set]["spec"], spec, "{replicas} members");
    }
}

/// `workloads.md` T36: TLS towards the user's etcd reaches every process that talks to it.
#[test]
fn an_external_store_with_tls_is_reached_with_the_given_secrets() {
    let mut desk = Desk::cluster(json!({"globalTopoServer": {"external": {
        "endpoints": ["https://etcd.example:2379"], "caSecret": "etcd-ca", "clientCertSecret": "etcd-client"}}}));
    desk.settle();
    let cell = desk.named(Kind::Cell, "zone-a");
    let cluster = key(Kind::MultigresCluster, "minimal");
    for me in [&cell, &cluster] {
        let (status, reason) = desk.condition(me, "Stalled").unwrap();
        assert_eq!((&*status, &*reason), ("True", "SecretInvalid"), "{me}");
    }
    let workloads = |desk: &Desk| -> Vec<String> {
        desk.objects
            .keys()
            .filter(|k| k.kind == Kind::Deployment)
            .map(|k| k.name.to_string())
            .collect()
    };
    assert_eq!(
        workloads(&desk),
        ["minimal-multiadmin-web"],
        "pods without their Secrets would hang"
    );
    desk.put(
        key(Kind::Secret, "etcd-ca"),
        json!({"data": {"ca.crt": "Y2E="}}),
    );
    desk.put(
        key(Kind::Secret, "etcd-client"),
        json!({"data": {"tls.crt": "Y3J0", "tls.key": "a2V5"}}),
    );
    desk.bring_up();
    assert_eq!(desk.says(&cluster, "Ready"), "Healthy True Healthy");
    for name in ["minimal-multiadmin", "minimal-zone-a-multigateway-0ccc2e8b"] {
        let pod = &desk.objects[&key(Kind::Deployment, name)]["spec"]["template"];
        let args = pod["spec"]["containers"][0]["args"].to_string();
        for pair in [
            r#""--topo-etcd-tls-cert","/etc/multigres/topo-tls/tls.crt""#,
            r#""--topo-etcd-tls-key","/etc/multigres/topo-tls/tls.key""#,
            r#""--topo-etcd-tls-ca","/etc/multigres/topo-tls/ca.crt""#,
        ] {
            assert!(args.contains(pair), "{name}: {args}");
        }
    }
}
