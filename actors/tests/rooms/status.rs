//! The truth tables of `lifecycle.md` 16.2–16.5 and 17.

use actors::object::{Key, Kind};
use serde_json::{Value, json};

use crate::desk::{Desk, key};

fn cluster() -> Key {
    key(Kind::MultigresCluster, "minimal")
}

fn pod(desk: &mut Desk, name: &str, labels: Value, status: Value) {
    let mut labels = labels;
    labels["app.kubernetes.io/managed-by"] = json!("multigres-operator");
    let body = json!({"metadata": {"labels": labels}, "status": status});
    desk.put(key(Kind::Pod, name), body);
}

fn looping() -> Value {
    json!({"phase": "Running", "containerStatuses": [{"restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]})
}

/// L-STAT-04, and `lifecycle.md` 16.3: a rolling gateway is not Ready but goes on being Available.
#[test]
fn a_cell_is_ready_when_all_gateways_are_and_available_when_one_is() {
    let mut desk = Desk::cluster(json!({"cells": [
        {"name": "zone-a", "zoneId": "z", "spec": {"multigateway": {"replicas": 2}}}]}));
    desk.bring_up();
    let cell = desk.named(Kind::Cell, "zone-a");
    let gateway = desk.named(Kind::Deployment, "multigateway");
    for (ready, of_ready, of_available) in [
        (
            2,
            "Healthy True MultigatewayReady",
            "Healthy True MultigatewayAvailable",
        ),
        (
            1,
            "Progressing False MultigatewayNotReady",
            "Progressing True MultigatewayAvailable",
        ),
        (
            0,
            "Progressing False MultigatewayNotReady",
            "Progressing False MultigatewayUnavailable",
        ),
    ] {
        desk.report(&gateway, |_| ready);
        desk.settle();
        assert_eq!(desk.says(&cell, "Ready"), of_ready);
        assert_eq!(desk.says(&cell, "Available"), of_available);
        assert_eq!(desk.status(&cell)["gatewayReadyReplicas"], ready);
        assert_eq!(desk.status(&cell)["gatewayReplicas"], 2);
    }
    let labels =
        json!({"app.kubernetes.io/component": "multigateway", "multigres.com/cell": "zone-a"});
    pod(&mut desk, "gateway-1", labels, looping());
    desk.report(&gateway, |wanted| wanted);
    desk.settle();
    assert_eq!(
        desk.says(&cell, "Ready"),
        "Degraded False MultigatewayNotReady"
    );
    assert_eq!(
        desk.says(&cell, "Available"),
        "Degraded True MultigatewayAvailable"
    );
}

/// `api.md` trap T15: the Go operator leaves such a cluster Progressing for ever.
#[test]
fn a_cell_that_wants_no_gateways_is_healthy() {
    let mut desk = Desk::cluster(json!({"cells": [
        {"name": "zone-a", "zoneId": "z", "spec": {"multigateway": {"replicas": 0}}}]}));
    desk.bring_up();
    let cell = desk.named(Kind::Cell, "zone-a");
    assert_eq!(
        desk.says(&cell, "Available"),
        "Healthy True MultigatewayAvailable"
    );
    assert_eq!(
        desk.says(&cluster(), "Available"),
        "Healthy True AggregatedStatus"
    );
}

/// `lifecycle.md` 16.4.
#[test]
fn a_topology_server_is_ready_when_all_members_are() {
    let mut desk = Desk::cluster(json!({}));
    desk.bring_up();
    let server = desk.named(Kind::TopoServer, "global-topo");
    let set = desk.named(Kind::StatefulSet, "global-topo");
    for (ready, says) in [
        (3, "Healthy True AllReplicasReady"),
        (2, "Progressing False NotAllReplicasReady"),
        (0, "Progressing False NotAllReplicasReady"),
    ] {
        desk.report(&set, |_| ready);
        desk.settle();
        assert_eq!(desk.says(&server, "Ready"), says);
    }
    let labels = json!({"app.kubernetes.io/component": "toposerver", "multigres.com/toposerver": "minimal-global-topo"});
    pod(&mut desk, "minimal-global-topo-0", labels, looping());
    desk.settle();
    assert_eq!(
        desk.says(&server, "Ready"),
        "Degraded False NotAllReplicasReady"
    );
    assert_eq!(desk.status(&server)["clientService"], "minimal-global-topo");
    assert_eq!(
        desk.status(&server)["peerService"],
        "minimal-global-topo-headless"
    );
    let count = desk.status(&server)["conditions"]
        .as_array()
        .unwrap()
        .iter();
    assert_eq!(count.filter(|c| c["type"] == "Ready").count(), 1);
}

/// `lifecycle.md` 16.2. Available says who is served, not whether everything is in place.
#[test]
fn a_table_group_follows_its_shards() {
    let mut desk = Desk::cluster(json!({}));
    desk.bring_up();
    let group = desk.named(Kind::TableGroup, "minimal");
    for (phase, available, says) in [
        ("Healthy", true, "Healthy True ShardsReady"),
        ("Progressing", true, "Progressing True ShardsAvailable"),
        ("Progressing", false, "Progressing False ShardsNotReady"),
        ("Degraded", false, "Degraded False ShardDegraded"),
    ] {
        desk.shards_are(phase, available);
        desk.settle();
        assert_eq!(desk.says(&group, "Available"), says);
        assert_eq!(desk.status(&group)["totalShards"], 1);
        assert_eq!(
            desk.status(&group)["readyShards"],
            i32::from(phase == "Healthy")
        );
    }
}

#[test]
fn a_table_group_without_shards_waits_for_some() {
    let mut desk = Desk::cluster(json!({}));
    let labels = json!({"app.kubernetes.io/managed-by": "multigres-operator", "multigres.com/cluster": "minimal"});
    let spec = json!({"databaseName": "postgres", "tableGroupName": "default", "shards": []});
    let group = key(Kind::TableGroup, "empty");
    desk.put(
        group.clone(),
        json!({"metadata": {"labels": labels}, "spec": spec}),
    );
    let decision = desk.decide(&group);
    desk.perform(&decision);
    assert_eq!(desk.says(&group, "Available"), "Initializing True NoShards");
}

/// `lifecycle.md` 16.5, and L-STAT-04: a cluster is available when every cell and every shard is.
#[test]
fn a_cluster_follows_its_children() {
    let mut desk = Desk::cluster(json!({}));
    desk.bring_up();
    assert_eq!(
        desk.says(&cluster(), "Available"),
        "Healthy True AggregatedStatus"
    );
    assert_eq!(
        desk.status(&cluster())["cells"],
        json!({"zone-a": {"ready": true, "gatewayReplicas": 1}})
    );
    assert_eq!(
        desk.status(&cluster())["databases"],
        json!({"postgres": {"readyShards": 1, "totalShards": 1}})
    );
    let etcd = desk.named(Kind::StatefulSet, "global-topo");
    desk.report(&etcd, |_| 2);
    desk.settle();
    assert_eq!(
        desk.says(&cluster(), "Available"),
        "Progressing True AggregatedStatus"
    );
    desk.report(&etcd, |_| 3);
    desk.shards_are("Degraded", false);
    desk.settle();
    assert_eq!(
        desk.says(&cluster(), "Available"),
        "Degraded False AggregatedStatus"
    );
    desk.shards_are("Healthy", true);
    let gateway = desk.named(Kind::Deployment, "-multigateway");
    desk.report(&gateway, |_| 0);
    desk.settle();
    assert_eq!(
        desk.says(&cluster(), "Available"),
        "Progressing False AggregatedStatus"
    );
}

/// L-STAT-02: at each step of the way down, nobody is Ready for a spec that did not reach the leaves yet.
#[test]
fn nobody_trusts_an_answer_to_an_older_question() {
    let mut desk = Desk::cluster(json!({}));
    desk.bring_up();
    let cell = desk.named(Kind::Cell, "zone-a");
    desk.patch(
        &cluster(),
        &json!({"spec": {"logLevels": {"multigateway": "debug"}}}),
    );
    // The cluster has decided about its new generation, its child has not heard of it.
    let decision = desk.decide(&cluster());
    desk.perform(&decision);
    assert_eq!(desk.status(&cluster())["observedGeneration"], 2);
    assert_eq!(
        desk.says(&cluster(), "Ready"),
        "Progressing False Progressing"
    );
    // The child has decided, its Deployment is not rolled out.
    let decision = desk.decide(&cell);
    desk.perform(&decision);
    assert_eq!(desk.status(&cell)["observedGeneration"], 2);
    assert_eq!(
        desk.says(&cell, "Ready"),
        "Progressing False MultigatewayNotReady"
    );
    desk.settle();
    assert_eq!(
        desk.says(&cluster(), "Ready"),
        "Progressing False Progressing"
    );
    desk.roll_out();
    desk.shards_are("Healthy", true);
    desk.settle();
    assert_eq!(desk.says(&cluster(), "Ready"), "Healthy True Healthy");
}

/// `lifecycle.md` 17.
#[test]
fn an_exposed_service_tells_where_it_is_reached() {
    let mut desk = Desk::cluster(json!({
        "externalGateway": {"enabled": true, "annotations": {"example.com/pool": "public"}},
        "externalAdminWeb": {"enabled": true, "externalIPs": ["192.0.2.7"]},
    }));
    desk.bring_up();
    let gateways = key(Kind::Service, "minimal-multigateway");
    assert_eq!(
        desk.objects[&gateways]["metadata"]["annotations"]["example.com/pool"],
        "public"
    );
    let says = |desk: &Desk, kind: &str| {
        let (status, reason) = desk.condition(&cluster(), kind).unwrap();
        format!("{status} {reason}")
    };
    assert_eq!(
        says(&desk, "GatewayExternalReady"),
        "False AwaitingEndpoint"
    );
    assert_eq!(
        desk.status(&cluster())["gateway"],
        json!({"externalEndpoint": ""})
    );
    assert_eq!(says(&desk, "AdminWebExternalReady"), "True EndpointReady");
    assert_eq!(
        desk.status(&cluster())["adminWeb"],
        json!({"externalEndpoint": "192.0.2.7"})
    );

    let ingress = json!([{"ip": "192.0.2.9"}, {"hostname": "db.example.com"}]);
    desk.patch(
        &gateways,
        &json!({"status": {"loadBalancer": {"ingress": ingress}}}),
    );
    desk.settle();
    assert_eq!(says(&desk, "GatewayExternalReady"), "True EndpointReady");
    assert_eq!(
        desk.status(&cluster())["gateway"],
        json!({"externalEndpoint": "db.example.com"})
    );

    let gateway = desk.named(Kind::Deployment, "-multigateway");
    let web = key(Kind::Deployment, "minimal-multiadmin-web");
    desk.report(&gateway, |_| 0);
    desk.report(&web, |_| 0);
    desk.settle();
    assert_eq!(says(&desk, "GatewayExternalReady"), "False NoReadyGateways");
    assert_eq!(
        says(&desk, "AdminWebExternalReady"),
        "False NoReadyAdminWeb"
    );

    desk.patch(
        &cluster(),
        &json!({"spec": {"externalGateway": {"enabled": false}, "externalAdminWeb": null}}),
    );
    desk.settle();
    assert_eq!(desk.condition(&cluster(), "GatewayExternalReady"), None);
    assert_eq!(desk.condition(&cluster(), "AdminWebExternalReady"), None);
    assert_eq!(desk.status(&cluster())["gateway"], Value::Null);
    let web = key(Kind::Service, "minimal-multiadmin-web");
    assert_eq!(desk.objects[&web]["spec"]["externalIPs"], Value::Null);
}

/// The children of a cluster are what its templates make of it, and follow a change of a template.
#[test]
fn templates_reach_the_children() {
    let mut desk = Desk::cluster(json!({"templateDefaults": {"cellTemplate": "big"}}));
    let template = key(Kind::CellTemplate, "big");
    let gateways = |n: i32| json!({"spec": {"multigateway": {"replicas": n}}});
    desk.put(template.clone(), gateways(3));
    desk.settle();
    let cell = desk.named(Kind::Cell, "zone-a");
    assert_eq!(desk.objects[&cell]["spec"]["multigateway"]["replicas"], 3);
    desk.put(template, gateways(4));
    desk.settle();
    assert_eq!(desk.objects[&cell]["spec"]["multigateway"]["replicas"], 4);
    assert_eq!(
        desk.status(&cluster())["resolvedTemplates"]["cellTemplates"],
        json!(["big"])
    );
}

#[test]
fn a_template_that_is_not_there_is_told() {
    let mut desk = Desk::cluster(json!({"templateDefaults": {"cellTemplate": "big"}}));
    desk.settle();
    let (status, reason) = desk.condition(&cluster(), "Stalled").unwrap();
    assert_eq!((&*status, &*reason), ("True", "ConfigError"));
}
