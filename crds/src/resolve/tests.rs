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
            "images": {"imagePullPolicy": "IfNotPresent"},
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
        (
            json!({"globalTopoServer": {"external": {"endpoints": ["https://etcd:2379"], "caSecret": "etcd-ca"}}}),
            "spec.globalTopoServer.external.caSecret",
        ),
        (
            json!({"cells": [{"name": "zone-a", "zoneId": "z", "spec": {"localTopoServer": {"external": {
                "endpoints": ["https://near:2379"], "clientCertSecret": "etcd-client"}}}}]}),
            "spec.cells[0].spec.localTopoServer.external.clientCertSecret",
        ),
        (
            json!({
                "globalTopoServer": {"external": {"endpoints": ["https://etcd:2379"], "clientCertSecret": "etcd-client"}},
                "cells": [{"name": "zone-a", "zoneId": "z", "spec": {"localTopoServer": {"etcd": {}}}}],
            }),
            "spec.cells[0].spec.localTopoServer.etcd",
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

fn template<T: serde::de::DeserializeOwned>(name: &str, spec: Value) -> BTreeMap<String, T> {
    let object = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}));
    BTreeMap::from([(name.to_owned(), object.unwrap())])
}

fn with(patch: Value) -> MultigresCluster {
    let mut spec = minimal();
    for (name, value) in patch.as_object().unwrap() {
        spec[name] = value.clone();
    }
    cluster(spec)
}

fn replicas(cluster: &MultigresCluster, templates: &Templates) -> Option<i32> {
    let resolved = resolve(cluster, templates, &OperatorDefaults::default()).unwrap();
    resolved.cells[0].multigateway.stateless.replicas
}

/// `admission.md` 2.4: own reference, else the cluster's default, else the implicit one, else none. Never two.
#[test]
fn exactly_one_template_is_consulted() {
    let mut templates = Templates::default();
    for (name, replicas) in [("own", 5), ("fallback", 6), ("default", 7)] {
        let one = template(name, json!({"multigateway": {"replicas": replicas}}));
        templates.cell.extend(one);
    }
    templates
        .cell
        .extend(template::<crate::CellTemplate>("empty", json!({})));
    let cell = |given: Value| {
        let mut cell = json!({"name": "zone-a", "zoneId": "z"});
        cell.as_object_mut()
            .unwrap()
            .extend(given.as_object().unwrap().clone());
        json!([cell])
    };
    let fallback = json!({"cellTemplate": "fallback"});
    for (given, defaults, expected) in [
        (json!({"cellTemplate": "own"}), fallback.clone(), 5),
        (json!({}), fallback.clone(), 6),
        (json!({}), json!({}), 7),
        // A template that says nothing does not let the next one in.
        (json!({"cellTemplate": "empty"}), fallback.clone(), 1),
        (
            json!({"overrides": {"multigateway": {"replicas": 3}}}),
            fallback.clone(),
            3,
        ),
        (
            json!({"spec": {"multigateway": {"replicas": 9}}, "overrides": {"multigateway": {"replicas": 3}}}),
            fallback,
            9,
        ),
    ] {
        let cluster = with(json!({"cells": cell(given.clone()), "templateDefaults": defaults}));
        assert_eq!(replicas(&cluster, &templates), Some(expected), "{given}");
    }
    // The implicit one may be absent.
    assert_eq!(replicas(&with(json!({})), &Templates::default()), Some(1));
}

#[test]
fn a_missing_template_is_named_and_only_default_may_be_absent() {
    let cluster = with(json!({
        "templateDefaults": {"coreTemplate": "default", "shardTemplate": "gone"},
        "cells": [{"name": "zone-a", "zoneId": "z", "cellTemplate": "lost"}],
    }));
    let problems = resolve(
        &cluster,
        &Templates::default(),
        &OperatorDefaults::default(),
    )
    .unwrap_err();
    let told: Vec<(&str, &str)> = problems
        .iter()
        .map(|p| (p.path.as_str(), p.value.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("spec.templateDefaults.shardTemplate", "gone"),
            ("spec.cells[0].cellTemplate", "lost")
        ]
    );
    let names = referenced(&cluster);
    assert!(
        names.contains(TemplateKind::Core, "default")
            && names.contains(TemplateKind::Shard, "gone")
    );
    assert!(
        !names.contains(TemplateKind::Shard, "default"),
        "the cluster's default stands in for it"
    );
}

/// L-HOOK-06 "Values that Kubernetes rejects later": the problem says where the bad value stands.
#[test]
fn a_problem_points_to_the_layer_that_its_value_stands_in() {
    let limits = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}});
    let templates = Templates {
        shard: template(
            "bad",
            json!({"pools": {"main": {"storage": {"size": "10foo"}}}, "postgresConfig": {"wal_level": "replica"}}),
        ),
        cell: template(
            "default",
            json!({"multigateway": {"buffer": {"window": "30s"}}}),
        ),
        core: template("default", json!({"multiadmin": {"resources": limits}})),
    };
    let cluster = with(json!({
        "databases": [{"name": "postgres", "default": true, "backup": {"type": "filesystem", "filesystem": {"storage": {"class": "Fast!"}}},
            "tablegroups": [{"name": "default", "default": true, "shards": [{"name": "0-inf", "shardTemplate": "bad",
                "overrides": {"multiorch": {"podLabels": {"a b": "c"}}, "pools": {"main": {"cells": ["nowhere"]}}}}]}]}],
    }));
    let problems = resolve(&cluster, &templates, &OperatorDefaults::default()).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
    let shard = "spec.databases[0].tablegroups[0].shards[0]";
    assert_eq!(
        paths,
        [
            "CoreTemplate default: spec.multiadmin.resources.limits.cpu",
            "CellTemplate default: spec.multigateway.buffer.window",
            "spec.databases[0].backup.filesystem.storage.class",
            &format!("{shard}.overrides.multiorch.podLabels.a b"),
            "ShardTemplate bad: spec.postgresConfig.wal_level",
            &format!("{shard}.overrides.pools.main.cells"),
            "ShardTemplate bad: spec.pools.main.storage.size",
        ]
    );
}

#[test]
fn every_value_says_where_it_comes_from() {
    let templates = Templates {
        shard: template(
            "sizes",
            json!({"pools": {"main": {"storage": {"size": "5Gi", "class": "fast"}}}, "postgresConfig": {"jit": "off"}}),
        ),
        ..Templates::default()
    };
    let cluster = with(json!({
        "images": {"postgres": "mine"},
        "backup": {"type": "s3", "s3": {"bucket": "b", "region": "r"}},
        "templateDefaults": {"shardTemplate": "sizes"},
        "databases": [{"name": "postgres", "default": true, "tablegroups": [{"name": "default", "default": true,
            "backup": {"type": "s3", "s3": {"bucket": "mine", "region": "r"}},
            "shards": [{"name": "0-inf", "overrides": {"pools": {"main": {"storage": {"class": "slow"}}}}}]}]}],
    }));
    let defaults = OperatorDefaults {
        observability: crate::ObservabilityConfig {
            otlp_endpoint: Some("http://collector".into()),
            ..Default::default()
        },
        ..OperatorDefaults::with_images(&BTreeMap::new())
    };
    let resolved = resolve(&cluster, &templates, &defaults).unwrap();
    let shard = "spec.databases[0].tablegroups[0].shards[0]";
    for (path, source) in [
        ("spec.images.postgres", "inline"),
        ("spec.images.multiorch", "operator default"),
        ("spec.images.imagePullPolicy", "built-in"),
        ("spec.observability.otlpEndpoint", "operator default"),
        ("spec.globalTopoServer.etcd.replicas", "built-in"),
        (
            "spec.globalTopoServer.pvcDeletionPolicy.whenDeleted",
            "built-in",
        ),
        (
            &format!("{shard}.pools.main.storage.size"),
            "template sizes",
        ),
        (
            &format!("{shard}.pools.main.storage.class"),
            "overrides (template sizes)",
        ),
        (&format!("{shard}.pools.main.replicasPerCell"), "built-in"),
        (&format!("{shard}.postgresConfig.jit"), "template sizes"),
        (&format!("{shard}.backup.s3.bucket"), "table group default"),
        (
            "spec.databases[0].tablegroups[0].backup.s3.bucket",
            "inline",
        ),
        ("spec.databases[0].durabilityPolicy", "built-in"),
    ] {
        let found = resolved
            .provenance
            .source(path)
            .map(|source| source.to_string());
        assert_eq!(found.as_deref(), Some(source), "{path}");
    }
    assert_eq!(resolved.provenance.source("spec.nonsense"), None);
    let paths: Vec<String> = resolved.provenance.iter().map(|(path, _)| path).collect();
    let distinct: std::collections::BTreeSet<&String> = paths.iter().collect();
    assert_eq!(
        distinct.len(),
        paths.len(),
        "a path with two sources: {paths:?}"
    );
    assert_eq!(
        resolved.observability.unwrap().otlp_endpoint.as_deref(),
        Some("http://collector")
    );
}

/// `api.md` 8.2 and trap T37.
#[test]
fn backups_pass_down_member_by_member_until_the_type_changes() {
    let shard = |levels: [Value; 4]| {
        let [cluster, database, group, shard] = levels;
        let mut spec = json!({"databases": [{"name": "postgres", "default": true, "backup": database,
            "tablegroups": [{"name": "default", "default": true, "backup": group, "shards": [{"name": "0-inf", "backup": shard}]}]}]});
        spec["backup"] = cluster;
        let resolved = resolve(
            &with(spec),
            &Templates::default(),
            &OperatorDefaults::default(),
        )
        .unwrap();
        serde_json::to_value(&resolved.table_groups[0].shards[0].backup).unwrap()
    };
    let s3 = |more: Value| {
        let mut block = json!({"bucket": "b", "region": "r"});
        block
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"type": "s3", "s3": block})
    };
    let none = Value::Null;
    let volume = |given: Value| json!({"type": "filesystem", "filesystem": given});
    assert_eq!(
        shard([
            volume(json!({"path": "/a", "storage": {"size": "1Gi", "class": "c"}})),
            none.clone(),
            none.clone(),
            volume(json!({"storage": {"size": "2Gi"}}))
        ]),
        volume(json!({"path": "/a", "storage": {"size": "2Gi", "class": "c"}}))
    );
    // Another type inherits nothing from above, not even encryption.
    let mut encrypted = volume(json!({"path": "/a"}));
    encrypted["encryption"] = json!({"secretName": "keys"});
    assert_eq!(
        shard([encrypted.clone(), none.clone(), s3(json!({})), none.clone()]),
        s3(json!({}))
    );
    // What lies above the other type is out of reach.
    assert_eq!(
        shard([encrypted, s3(json!({})), volume(json!({})), none.clone()]),
        volume(json!({"path": "/backups", "storage": {"size": "10Gi"}}))
    );
    // A block of the other type is ignored.
    let mut both = volume(json!({"path": "/a"}));
    both["s3"] = json!({"bucket": "b", "region": "r"});
    assert_eq!(
        shard([both, none.clone(), none.clone(), none.clone()]),
        volume(json!({"path": "/a", "storage": {"size": "10Gi"}}))
    );
    // A stronger level's way to credentials keeps the weaker one's out.
    let account = json!({"serviceAccountName": "account"});
    let secret = json!({"credentialsSecret": "secret"});
    let environment = json!({"useEnvCredentials": true});
    for (above, below, expected) in [
        (&account, &secret, &secret),
        (&secret, &account, &account),
        (&account, &environment, &environment),
        (&account, &json!({}), &account),
        (&environment, &account, &account),
        (
            &secret,
            &environment,
            &json!({"credentialsSecret": "secret", "useEnvCredentials": true}),
        ),
    ] {
        let found = shard([
            s3(above.clone()),
            none.clone(),
            s3(below.clone()),
            none.clone(),
        ]);
        assert_eq!(found, s3(expected.clone()), "{above} below {below}");
    }
}

/// L-PVC-04 "Schema defaults defeat inheritance": with the defaults that the API server fills in, a single member given at a
/// level means what is shown here, at every level (`api.md` trap T4).
#[test]
fn the_policy_in_force_is_known_for_each_single_member_at_each_level() {
    let schema = crate::schema::definitions().unwrap().remove(0)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let levels = ["cluster", "group", "shard", "pool"];
    for level in levels {
        for (member, value, expected) in [
            ("whenDeleted", "Retain", ("Retain", "Delete")),
            ("whenDeleted", "Delete", ("Delete", "Delete")),
            // The sibling that was left out is filled by the schema and no longer inherited.
            ("whenScaled", "Retain", ("Retain", "Retain")),
            ("whenScaled", "Delete", ("Retain", "Delete")),
        ] {
            let at = |of: &str| {
                if of == level {
                    json!({member: value})
                } else {
                    Value::Null
                }
            };
            let mut object =
                json!({"metadata": {"name": "c", "namespace": "n"}, "spec": minimal()});
            object["spec"]["databases"] = json!([{"name": "postgres", "default": true, "tablegroups": [{
            "name": "default", "default": true, "pvcDeletionPolicy": at("group"), "shards": [{"name": "0-inf", "spec": {
                "pvcDeletionPolicy": at("shard"), "pools": {"main": {"pvcDeletionPolicy": at("pool")}},
            }}]}]}]);
            object["spec"]["pvcDeletionPolicy"] = at("cluster");
            prune(&mut object);
            let stored = kube::core::cel::apply_defaults(&schema, &object);
            let resolved = resolve(
                &serde_json::from_value(stored).unwrap(),
                &Templates::default(),
                &OperatorDefaults::default(),
            );
            let group = &resolved.as_ref().unwrap().table_groups[0];
            let shard = shard_spec(group, &group.shards[0]);
            let policy = merge_pvc_policy(
                shard.pools["main"].pvc_deletion_policy.as_ref(),
                shard.pvc_deletion_policy.as_ref(),
            );
            let policy = policy.unwrap();
            assert_eq!(
                (
                    policy.when_deleted.as_deref(),
                    policy.when_scaled.as_deref()
                ),
                (Some(expected.0), Some(expected.1)),
                "{member}: {value} at {level}"
            );
        }
    }
}

/// Explicit nulls are dropped by the API server.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune);
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

#[test]
fn a_local_store_gets_its_defaults_and_the_inline_one_replaces_the_templates() {
    let templates = Templates {
        cell: template(
            "default",
            json!({"localTopoServer": {"etcd": {"replicas": 5, "image": "theirs"}}}),
        ),
        ..Templates::default()
    };
    let store = |spec: Value| {
        let cluster = with(json!({"cells": [{"name": "zone-a", "zoneId": "z", "spec": spec}]}));
        let resolved = resolve(&cluster, &templates, &OperatorDefaults::default()).unwrap();
        serde_json::to_value(&resolved.cells[0].topo_server).unwrap()
    };
    let of_template = store(json!({}));
    assert_eq!(
        (
            &of_template["etcd"]["replicas"],
            &of_template["etcd"]["rootPath"]
        ),
        (&json!(5), &json!("/multigres/zone-a"))
    );
    let external = json!({"external": {"endpoints": ["http://etcd:2379"]}});
    let resolved = json!({"external": {"endpoints": ["http://etcd:2379"], "implementation": "etcd", "rootPath": "/multigres/zone-a"}});
    assert_eq!(store(json!({"localTopoServer": external})), resolved);
    assert_eq!(
        store(json!({"localTopoServer": {"etcd": {}}}))["etcd"]["replicas"],
        3
    );
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
