use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn cluster(spec: Value) -> MultigresCluster {
    serde_json::from_value(
        json!({"metadata": {"name": "minimal", "namespace": "default"}, "spec": spec}),
    )
    .unwrap()
}

fn minimal() -> Value {
    json!({
        "postgresPasswordSecretRef": {"name": "multigres-admin-password", "key": "password"},
        "cells": [{"name": "zone-a", "zoneId": "us-central1-a"}],
    })
}

fn resolved(spec: Value) -> ResolvedCluster {
    resolve(
        &cluster(spec),
        &Templates::default(),
        &OperatorDefaults::with_images(&BTreeMap::new()),
    )
    .unwrap()
}

/// The worked example of `workloads.md` 18.2.
#[test]
fn the_minimal_cluster_resolves_to_the_worked_example() {
    let resolved = resolved(minimal());
    let levels = json!({"pgctld": "info", "multipooler": "info", "multiorch": "info", "multiadmin": "info", "multigateway": "info"});
    let topology = json!({"address": "minimal-global-topo.default.svc:2379", "rootPath": "/multigres/global", "implementation": "etcd"});
    let GlobalTopology::Managed(server) = &resolved.topology else {
        panic!("managed")
    };
    assert_eq!(
        serde_json::to_value(server).unwrap(),
        json!({
            "etcd": {
                "image": "gcr.io/etcd-development/etcd:v3.6.7", "replicas": 3, "storage": {"size": "1Gi"},
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
                "rootPath": "/multigres/global",
            },
            "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        })
    );
    assert_eq!(
        serde_json::to_value(&resolved.cells[0]).unwrap(),
        json!({
            "name": "zone-a", "zoneId": "us-central1-a",
            "images": {"multigateway": "ghcr.io/multigres/multigres:sha-66d2310", "imagePullPolicy": "IfNotPresent"},
            "multigateway": {
                "replicas": 1, "buffer": {"enabled": true},
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            },
            "allCells": ["zone-a"], "globalTopoServer": topology, "logLevels": levels,
            "topologyReconciliation": {"registerCell": true, "prunePoolers": true},
        })
    );
    let group = &resolved.table_groups[0];
    assert_eq!(
        serde_json::to_value(shard_spec(group, &group.shards[0])).unwrap(),
        json!({
            "databaseName": "postgres", "tableGroupName": "default", "shardName": "0-inf", "replicas": 2,
            "images": {
                "multiorch": "ghcr.io/multigres/multigres:sha-66d2310", "multipooler": "ghcr.io/multigres/multigres:sha-66d2310",
                "postgres": "ghcr.io/multigres/pgctld:sha-66d2310", "imagePullPolicy": "IfNotPresent",
            },
            "globalTopoServer": topology,
            "multiorch": {
                "replicas": 1, "cells": ["zone-a"],
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            },
            "pools": {"default": {
                "type": "readWrite", "cells": ["zone-a"], "replicasPerCell": 2, "storage": {"size": "1Gi"},
                "postgres": {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}},
                "multipooler": {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}},
            }},
            "pvcDeletionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "logLevels": levels,
            "backup": {"type": "filesystem", "filesystem": {"path": "/backups", "storage": {"size": "10Gi"}}},
            "topologyPruning": {"enabled": true},
            "durabilityPolicy": "AT_LEAST_2", "postgresSuperuser": "postgres",
            "postgresPasswordSecretRef": {"name": "multigres-admin-password", "key": "password"},
            "cellTopologyLabels": {"zone-a": {"topology.k8s.aws/zone-id": "us-central1-a"}},
        })
    );
}

#[test]
fn problems_name_field_value_and_remedy() {
    let cases = [
        (json!({"cells": []}), "spec.cells"),
        (json!({"durabilityPolicy": "ANY"}), "spec.durabilityPolicy"),
        (
            json!({"templateDefaults": {"coreTemplate": "x"}}),
            "spec.templateDefaults.coreTemplate",
        ),
        (
            json!({"backup": {"type": "filesystem", "filesystem": {"storage": {"size": "many"}}}}),
            "spec.backup.filesystem.storage.size",
        ),
        (
            json!({"globalTopoServer": {"etcd": {"storage": {"size": "10foo"}}}}),
            "spec.globalTopoServer.etcd.storage.size",
        ),
        (
            json!({"databases": [{"name": "postgres", "default": true, "tablegroups": [{"name": "default", "default": true,
                "shards": [{"name": "0-inf", "spec": {"pools": {"main": {"cells": ["nowhere"]}}}}]}]}]}),
            "spec.databases[0].tablegroups[0].shards[0].spec.pools.main.cells",
        ),
    ];
    for (patch, path) in cases {
        let mut spec = minimal();
        for (name, value) in patch.as_object().unwrap() {
            spec[name] = value.clone();
        }
        let problems = resolve(
            &cluster(spec),
            &Templates::default(),
            &OperatorDefaults::default(),
        )
        .unwrap_err();
        assert_eq!(
            problems.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(),
            [path]
        );
    }
}

#[test]
fn samples_resolve() {
    for name in ["minimal", "three-cells", "external-etcd"] {
        let path = format!("{}/../docs/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        let document = text
            .split("\n---\n")
            .find(|part| part.contains("kind: MultigresCluster"))
            .unwrap();
        let cluster: MultigresCluster = serde_saphyr::from_str(document).unwrap();
        resolve(
            &cluster,
            &Templates::default(),
            &OperatorDefaults::default(),
        )
        .unwrap();
    }
}

proptest::proptest! {
    #[test]
    fn resolving_is_total_and_deterministic(cells in 0_usize..4, replicas in proptest::option::of(-1_i32..40), size in ".{0,8}") {
        let mut spec = minimal();
        spec["cells"] = (0..cells).map(|i| json!({"name": format!("c{i}"), "zoneId": "z"})).collect();
        spec["databases"] = json!([{"name": "postgres", "default": true, "tablegroups": [{"name": "default", "shards": [
            {"name": "0-inf", "spec": {"pools": {"a": {"replicasPerCell": replicas, "storage": {"size": size}}}}}]}]}]);
        let cluster = cluster(spec);
        let defaults = OperatorDefaults::default();
        let once = resolve(&cluster, &Templates::default(), &defaults);
        proptest::prop_assert_eq!(once, resolve(&cluster, &Templates::default(), &defaults));
    }
}
