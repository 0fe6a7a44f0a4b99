//! The rooms above the shard, for every option that they have.

use std::collections::BTreeMap;

use actors::object::{Desired, Kind};
use actors::workload::Owner;
use crds::resolve::{OperatorDefaults, Templates, resolve};
use crds::{Cell, MultigresCluster, TableGroup, TopoServer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A resource of the cluster `minimal` as the API server would hand it out.
fn received<T: DeserializeOwned>(name: &str, labels: &Value, spec: &Value) -> T {
    let annotations = json!({"multigres.com/project-ref": "proj1"});
    let metadata = json!({
        "name": name, "namespace": "default", "uid": format!("uid-of-{name}"),
        "labels": labels, "annotations": annotations,
    });
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn over(base: Value, changes: &Value) -> Value {
    let mut whole = base;
    for (field, value) in changes.as_object().unwrap() {
        whole[field] = value.clone();
    }
    whole
}

fn global() -> Value {
    json!({"address": "minimal-global-topo.default.svc:2379", "rootPath": "/multigres/global", "implementation": "etcd"})
}

fn external() -> Value {
    json!({
        "address": "https://etcd.example:2379", "rootPath": "/multigres/minimal", "implementation": "etcd",
        "caSecret": "etcd-ca", "clientCertSecret": "etcd-client",
    })
}

fn telemetry() -> Value {
    json!({
        "otlpEndpoint": "http://collector:4318", "otlpMetricsEndpoint": "http://metrics:4318", "otlpProtocol": "http/protobuf",
        "tracesExporter": "otlp", "metricsExporter": "otlp", "logsExporter": "none", "metricExportInterval": "15000",
        "metricsTemporality": "delta", "histogramAggregation": "base2_exponential_bucket_histogram",
        "tracesSampler": "multigres_custom", "samplingConfigRef": {"name": "sampling", "key": "rules.yaml"},
    })
}

/// Every setting that a Deployment of ours can have.
fn stateless() -> Value {
    json!({
        "replicas": 3,
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}]}}},
        "podLabels": {"team": "db", "app.kubernetes.io/instance": "not-ours"},
        "podAnnotations": {"example.com/note": "kept", "prometheus.io/scrape": "true"},
    })
}

fn tolerations() -> Value {
    json!({"tolerations": [{"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}]})
}

fn pulled(image: (&str, &str)) -> Value {
    json!({"imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}], image.0: image.1})
}

fn cell(changes: &Value) -> Vec<Desired> {
    let base = json!({
        "name": "zone-a", "zoneId": "us-central1-a",
        "images": {"multigateway": "ghcr.io/multigres/multigres:sha-66d2310", "imagePullPolicy": "IfNotPresent"},
        "multigateway": {
            "replicas": 1, "buffer": {"enabled": true},
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        },
        "allCells": ["zone-a"], "globalTopoServer": global(),
        "logLevels": {"multigateway": "info"},
    });
    let labels = json!({"multigres.com/cluster": "minimal", "multigres.com/cell": "zone-a"});
    let cell: Cell = received("minimal-zone-a-96c88ae0", &labels, &over(base, changes));
    actors::cell::objects::render(&cell).unwrap()
}

fn toposerver(name: &str, labels: &Value, spec: &Value) -> Vec<Desired> {
    let server: TopoServer = received(name, labels, spec);
    actors::toposerver::objects::render(&server).unwrap()
}

fn cluster(changes: &Value) -> Vec<Desired> {
    let base = json!({
        "postgresPasswordSecretRef": {"name": "multigres-admin-password", "key": "password"},
        "cells": [{"name": "zone-a", "zoneId": "us-central1-a"}],
    });
    let cluster: MultigresCluster = received("minimal", &json!({}), &over(base, changes));
    let defaults = OperatorDefaults::with_images(&BTreeMap::new());
    let resolved = resolve(&cluster, &Templates::default(), &defaults).unwrap();
    let owner = Owner::new(Kind::MultigresCluster, &cluster.metadata).unwrap();
    let mut all = actors::cluster::objects::render(&cluster, &resolved).unwrap();
    all.extend(
        actors::cluster::certificates::render(&owner, &resolved, &defaults.issuance).unwrap(),
    );
    all
}

fn table_group() -> Vec<Desired> {
    let pool = |cells: &[&str]| json!({"type": "readWrite", "cells": cells, "replicasPerCell": 2});
    let shard = json!({
        "name": "0-inf", "multiorch": {"replicas": 1, "cells": ["zone-a", "zone-b"]}, "initdbArgs": "--locale=C",
        "postgresConfig": {"work_mem": "4MB"}, "postgresConfigRef": {"name": "settings", "key": "postgresql.conf"},
        "pools": {"main": pool(&["zone-a", "zone-b"]), "near": pool(&["zone-a"])},
        "pvcDeletionPolicy": {"whenDeleted": "Retain"},
    });
    let spec = json!({
        "databaseName": "postgres", "tableGroupName": "default", "default": true,
        "images": {"multiorch": "o:1", "multipooler": "p:1", "postgres": "g:1", "imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}]},
        "globalTopoServer": external(), "shards": [shard], "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        "internalTLS": {"enabled": true}, "observability": telemetry(), "logLevels": {"pgctld": "warn"},
        "backup": {"type": "s3", "s3": {"bucket": "b", "region": "r"}}, "topologyPruning": {"enabled": false},
        "durabilityPolicy": "MULTI_CELL_AT_LEAST_2", "postgresSuperuser": "admin",
        "postgresPasswordSecretRef": {"name": "multigres-admin-password", "key": "password"},
        "cellTopologyLabels": {"zone-a": {"topology.k8s.aws/zone-id": "a"}, "zone-b": {"topology.kubernetes.io/region": "b"}},
    });
    let labels = json!({"multigres.com/cluster": "minimal"});
    let group: TableGroup = received("minimal-postgres-default-f7d4ad4a", &labels, &spec);
    actors::tablegroup::objects::render(&group).unwrap()
}

/// Name and objects of each shape.
pub fn shapes() -> Vec<(&'static str, Vec<Desired>)> {
    let of_cluster = json!({"multigres.com/cluster": "minimal"});
    let of_cell = json!({"multigres.com/cluster": "minimal", "multigres.com/cell": "zone-a"});
    let buffer = json!({
        "enabled": true, "window": "5s", "maxFailoverDuration": "1m0s", "minTimeBetweenFailovers": "2m0s",
        "size": 500, "drainConcurrency": 8,
    });
    vec![
        ("cell-plain", cell(&json!({}))),
        (
            "cell-region",
            cell(
                &json!({"zoneId": null, "region": "us-central1", "multigateway": {"buffer": {"enabled": false}}}),
            ),
        ),
        (
            "cell-all-options",
            cell(&json!({
                "images": pulled(("multigateway", "registry.example/multigres@sha256:00")),
                "multigateway": over(stateless(), &json!({"buffer": buffer})), "multigatewayPlacement": tolerations(),
                "observability": telemetry(), "logLevels": {"multigateway": "debug"},
            })),
        ),
        (
            "cell-mesh-and-public",
            cell(&json!({"internalTLS": {"enabled": true}, "certCommonName": "db.example.com"})),
        ),
        (
            "cell-external-tls",
            cell(&json!({"globalTopoServer": external()})),
        ),
        (
            "cell-local-store",
            cell(&json!({
                "images": pulled(("multigateway", "m:1")),
                "topoServer": {"etcd": {"image": "etcd:1", "replicas": 1, "rootPath": "/multigres/zone-a", "storage": {"size": "1Gi"},
                    "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"}}},
            })),
        ),
        (
            "cell-local-external",
            cell(
                &json!({"topoServer": {"external": {"endpoints": ["http://near:2379"], "rootPath": "/multigres/zone-a"}}}),
            ),
        ),
        (
            "cell-telemetry-disabled",
            cell(
                &json!({"observability": {"otlpEndpoint": "disabled", "samplingConfigRef": {"name": "sampling"}}}),
            ),
        ),
        (
            "toposerver-plain",
            toposerver(
                "minimal-global-topo",
                &of_cluster,
                &json!({
                    "etcd": {"image": "gcr.io/etcd-development/etcd:v3.6.7", "replicas": 3, "storage": {"size": "1Gi"}, "rootPath": "/multigres/global",
                        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}},
                    "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"}, "images": {"imagePullPolicy": "IfNotPresent"},
                }),
            ),
        ),
        (
            "toposerver-all-options",
            toposerver(
                "minimal-global-topo",
                &of_cluster,
                &json!({
                    "etcd": {"image": "registry.example/etcd@sha256:00", "replicas": 5, "resources": stateless()["resources"],
                        "storage": {"size": "20Gi", "class": "fast", "accessModes": ["ReadWriteOncePod"]}},
                    "pvcDeletionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}, "placement": tolerations(),
                    "images": {"imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}]},
                }),
            ),
        ),
        (
            "toposerver-of-a-cell",
            toposerver(
                "minimal-zone-a-96c88ae0-topo-26e28848",
                &of_cell,
                &json!({
                    "etcd": {"replicas": 1}, "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
                }),
            ),
        ),
        ("cluster-plain", cluster(&json!({}))),
        (
            "cluster-all-options",
            cluster(&json!({
                "images": {"imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}], "multiadmin": "a:1", "multiadminWeb": "w:1"},
                "multiadmin": {"spec": stateless(), "placement": tolerations()}, "multiadminWeb": {"spec": stateless()},
                "observability": telemetry(), "logLevels": {"multiadmin": "error"}, "postgresSuperuser": "admin",
                "globalTopoServer": {"etcd": {"rootPath": "/elsewhere"}, "placement": tolerations()},
                "topologyPruning": {"enabled": false},
            })),
        ),
        (
            "cluster-exposed",
            cluster(&json!({
                "externalGateway": {"enabled": true, "externalIPs": ["192.0.2.7", "2001:db8::7"], "annotations": {"example.com/pool": "public"}},
                "externalAdminWeb": {"enabled": true, "externalIPs": ["192.0.2.8"], "annotations": {"example.com/pool": "office"}},
            })),
        ),
        (
            "cluster-mesh",
            cluster(&json!({"internalTLS": {"enabled": true}})),
        ),
        (
            "cluster-public",
            cluster(&json!({"certCommonName": "db.example.com"})),
        ),
        (
            "cluster-external-tls",
            cluster(&json!({"globalTopoServer": {"external": {
            "endpoints": ["https://etcd.example:2379", "https://spare.example:2379"], "rootPath": "/multigres/minimal",
            "caSecret": "etcd-ca", "clientCertSecret": "etcd-client"}}})),
        ),
        ("tablegroup-all-options", table_group()),
    ]
}
