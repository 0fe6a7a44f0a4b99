//! A Shard and its pools, for every option that they have.

use std::collections::BTreeSet;

use actors::object::Desired;
use actors::pool::objects::{Inputs, claim, headless_service, pod_with};
use actors::shard::certificates;
use actors::shard::objects::{Inputs as ShardInputs, render_with};
use crds::Shard;
use serde_json::{Value, json};

/// A Shard of the cluster `minimal` with `changes` over the smallest spec; `metadata` likewise.
fn shard(changes: &Value, metadata: &Value) -> Shard {
    let mut body = json!({
        "metadata": {
            "name": "minimal-postgres-default-0-inf-1e3c045c", "namespace": "default",
            "uid": "uid-of-minimal-postgres-default-0-inf-1e3c045c",
            "labels": {
                "multigres.com/cluster": "minimal", "multigres.com/database": "postgres",
                "multigres.com/tablegroup": "default", "multigres.com/shard": "0-inf",
            },
        },
        "spec": {
            "databaseName": "postgres", "tableGroupName": "default", "shardName": "0-inf", "replicas": 2,
            "images": {
                "multiorch": "ghcr.io/multigres/multigres:sha-66d2310", "multipooler": "ghcr.io/multigres/multigres:sha-66d2310",
                "postgres": "ghcr.io/multigres/pgctld:sha-66d2310", "imagePullPolicy": "IfNotPresent",
            },
            "globalTopoServer": {
                "address": "minimal-global-topo.default.svc:2379", "rootPath": "/multigres/global", "implementation": "etcd",
            },
            "multiorch": {
                "replicas": 1, "cells": ["zone-a"],
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            },
            "pools": {"default": pool(&json!({}))},
            "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "logLevels": {"pgctld": "info", "multipooler": "info", "multiorch": "info"},
            "backup": {"type": "filesystem", "filesystem": {"path": "/backups", "storage": {"size": "10Gi"}}},
            "durabilityPolicy": "AT_LEAST_2", "postgresSuperuser": "postgres",
            "postgresPasswordSecretRef": {"name": "multigres-admin-password", "key": "password"},
            "cellTopologyLabels": {"zone-a": {"topology.k8s.aws/zone-id": "us-central1-a"}},
        },
    });
    for (part, changes) in [("spec", changes), ("metadata", metadata)] {
        for (field, value) in changes.as_object().unwrap() {
            body[part][field] = value.clone();
        }
    }
    serde_json::from_value(body).unwrap()
}

fn pool(changes: &Value) -> Value {
    let mut pool = json!({
        "type": "readWrite", "cells": ["zone-a"], "replicasPerCell": 1, "storage": {"size": "1Gi"},
        "postgres": {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}},
        "multipooler": {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}},
    });
    for (field, value) in changes.as_object().unwrap() {
        pool[field] = value.clone();
    }
    pool
}

/// Everything that the ShardActor and its PoolActors ask for.
fn objects(shard: &Shard, referenced: Option<&str>, certificates_hash: &str) -> Vec<Desired> {
    let inputs = ShardInputs {
        referenced,
        ..ShardInputs::default()
    };
    let rendered = render_with(shard, inputs).unwrap();
    let inputs = Inputs {
        hashes: &rendered.config.hashes,
        certificates: certificates_hash,
    };
    let mut all = rendered.base;
    all.extend(rendered.multiorch);
    if let Some(plan) = certificates::wanted(shard, &BTreeSet::new()).unwrap() {
        all.extend([plan.ca, plan.leaf]);
    }
    for (name, pool) in &shard.spec.pools {
        for cell in &pool.cells {
            all.push(headless_service(shard, name, cell).unwrap());
            for index in 0..pool.replicas_per_cell.unwrap_or(1) {
                all.push(claim(shard, name, cell, index).unwrap());
                all.push(pod_with(shard, (name, cell), index, inputs).unwrap());
            }
        }
    }
    all
}

fn s3(more: &Value) -> Value {
    let mut s3 = json!({"bucket": "pgbackups", "region": "eu-central-1"});
    for (field, value) in more.as_object().unwrap() {
        s3[field] = value.clone();
    }
    json!({"backup": {"type": "s3", "s3": s3}})
}

fn filesystem(more: (&str, Value)) -> Value {
    let (field, value) = more;
    json!({"backup": {"type": "filesystem", "filesystem": {"path": "/backups", "storage": {"size": "10Gi"}}, field: value}})
}

fn pools(changes: &Value) -> Value {
    json!({"pools": {"default": pool(changes)}})
}

fn store(more: &Value) -> Value {
    let mut store = json!({"address": "https://etcd.example:2379", "rootPath": "/multigres/minimal", "implementation": "etcd"});
    for (field, value) in more.as_object().unwrap() {
        store[field] = value.clone();
    }
    json!({"globalTopoServer": store})
}

/// What a change of the spec makes of the Shard.
fn changes() -> Vec<(&'static str, Value)> {
    let toleration =
        json!([{"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}]);
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}]}}});
    let resources =
        json!({"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}});
    let telemetry = json!({
        "otlpEndpoint": "http://collector:4318", "otlpMetricsEndpoint": "http://metrics:4318", "otlpProtocol": "http/protobuf",
        "tracesExporter": "otlp", "metricsExporter": "otlp", "logsExporter": "none", "metricExportInterval": "15000",
        "metricsTemporality": "delta", "histogramAggregation": "base2_exponential_bucket_histogram",
        "tracesSampler": "multigres_custom", "samplingConfigRef": {"name": "sampling", "key": "rules.yaml"},
    });
    let two_cells = json!({"zone-a": {"topology.k8s.aws/zone-id": "a"}, "zone-b": {"topology.kubernetes.io/region": "b"}});
    let registry = json!({
        "multiorch": "registry.example/o@sha256:00", "multipooler": "registry.example/p:1", "postgres": "registry.example/g:1",
        "imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}],
    });
    vec![
        ("plain", json!({})),
        ("store-external", store(&json!({}))),
        (
            "store-external-tls",
            store(&json!({"caSecret": "etcd-ca", "clientCertSecret": "etcd-client"})),
        ),
        (
            "store-external-ca-only",
            store(&json!({"caSecret": "etcd-ca"})),
        ),
        ("mesh", json!({"internalTLS": {"enabled": true}})),
        (
            "s3-service-account",
            s3(&json!({"keyPrefix": "prod", "serviceAccountName": "pgbackrest-irsa"})),
        ),
        (
            "s3-secret",
            s3(
                &json!({"endpoint": "https://minio.example:9000", "useEnvCredentials": true, "credentialsSecret": "s3-credentials"}),
            ),
        ),
        ("s3-instance", s3(&json!({}))),
        (
            "backup-class",
            json!({"backup": {"type": "filesystem", "filesystem": {
            "path": "/repository", "storage": {"size": "50Gi", "class": "shared", "accessModes": ["ReadWriteMany"]}}}}),
        ),
        (
            "backup-encrypted",
            filesystem(("encryption", json!({"secretName": "repo-key"}))),
        ),
        (
            "backup-own-certificates",
            filesystem(("pgbackrestTLS", json!({"secretName": "my-pgbackrest"}))),
        ),
        ("backup-none", json!({"backup": null})),
        (
            "data-class",
            pools(
                &json!({"storage": {"size": "100Gi", "class": "fast", "accessModes": ["ReadWriteOncePod"]}}),
            ),
        ),
        (
            "data-kept",
            json!({"pvcDeletionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}),
        ),
        (
            "pool-policy",
            pools(&json!({"pvcDeletionPolicy": {"whenDeleted": "Retain"}})),
        ),
        (
            "resources",
            pools(
                &json!({"postgres": {"resources": resources}, "multipooler": {"resources": resources}}),
            ),
        ),
        (
            "identities",
            pools(&json!({
            "fsGroup": 26, "postgres": {"runAsUser": 26, "runAsGroup": 26}, "multipooler": {"runAsUser": 26, "runAsGroup": 26}})),
        ),
        (
            "placement",
            pools(&json!({"affinity": affinity, "tolerations": toleration})),
        ),
        (
            "region",
            json!({"cellTopologyLabels": {"zone-a": {"topology.kubernetes.io/region": "us-central1"}}}),
        ),
        ("any-node", json!({"cellTopologyLabels": {}})),
        (
            "pools-and-cells",
            json!({
                "pools": {
                    "main": pool(&json!({"cells": ["zone-a", "zone-b"], "replicasPerCell": 2})),
                    "near": pool(&json!({"type": "readWrite", "cells": ["zone-b"]})),
                },
                "cellTopologyLabels": two_cells, "multiorch": {"cells": []},
            }),
        ),
        ("images", json!({"images": registry})),
        (
            "log-levels",
            json!({"logLevels": {"pgctld": "warn", "multipooler": "debug", "multiorch": "error"}}),
        ),
        ("telemetry", json!({"observability": telemetry})),
        (
            "telemetry-disabled",
            json!({"observability": {"otlpEndpoint": "disabled", "samplingConfigRef": {"name": "sampling"}}}),
        ),
        (
            "superuser",
            json!({
            "postgresSuperuser": "admin", "postgresPasswordSecretRef": {"name": "other", "key": "pw"}, "initdbArgs": "--locale=C"}),
        ),
        (
            "settings-restart",
            json!({"postgresConfig": {"max_connections": "200"}}),
        ),
        (
            "settings-reload",
            json!({"postgresConfig": {"work_mem": "32MB"}}),
        ),
        (
            "multiorch-all-options",
            json!({"multiorch": {
            "replicas": 3, "cells": ["zone-a"], "resources": resources, "affinity": affinity, "placement": {"tolerations": toleration},
            "podLabels": {"team": "db", "app.kubernetes.io/instance": "not-ours"},
            "podAnnotations": {"example.com/note": "kept", "prometheus.io/scrape": "true"}}}),
        ),
    ]
}

/// Name and objects of each shape.
pub fn shapes() -> Vec<(&'static str, Vec<Desired>)> {
    let plain = json!({});
    let mut shapes: Vec<(&str, Vec<Desired>)> = changes()
        .into_iter()
        .map(|(name, changes)| (name, objects(&shard(&changes, &plain), None, "")))
        .collect();
    let referenced = json!({"postgresConfigRef": {"name": "settings", "key": "postgresql.conf"}});
    let referenced = shard(&referenced, &plain);
    let text = "max_connections = 200\nwork_mem = 8MB\n";
    shapes.push(("settings-referenced", objects(&referenced, Some(text), "")));
    let project = json!({"annotations": {"multigres.com/project-ref": "proj1"}});
    shapes.push(("project", objects(&shard(&plain, &project), None, "")));
    let secrets = store(&json!({"caSecret": "etcd-ca"}));
    let hash = "0123456789abcdef";
    shapes.push((
        "certificates-read",
        objects(&shard(&secrets, &plain), None, hash),
    ));
    shapes
}
