use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fixtures::Bed;
use crate::labels;
use crate::object::Kind;

/// A pod of a Shard after `edit`.
fn pod(edit: impl FnOnce(&mut Value)) -> Value {
    let mut bed = Bed::new();
    edit(&mut bed.shard["spec"]);
    super::objects::pod(&bed.typed(), "default", "a", 0)
        .unwrap()
        .body
        .into()
}

/// Containers by name, the sidecar among them.
fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"];
    let mut all = lists
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().unwrap());
    all.find(|c| c["name"] == name).unwrap()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|text| text.as_str().unwrap())
        .collect()
}

/// What `after` has in addition, in order. Whatever `before` has must still be there, in its order.
fn added(before: &Value, after: &Value) -> Vec<Value> {
    let mut left = before
        .as_array()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .peekable();
    let rest = after.as_array().cloned().unwrap_or_default().into_iter();
    let added = rest
        .filter(|item| left.next_if_eq(item).is_none())
        .collect();
    assert_eq!(left.next(), None, "gone, or at another place");
    added
}

fn names(list: &[Value]) -> Vec<&str> {
    list.iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

const ALL: [&str; 3] = ["postgres", "multipooler", "postgres-exporter"];

#[test]
fn s3_by_service_account() {
    let plain = pod(|_| {});
    let s3 = pod(|spec| {
        spec["backup"] = json!({"type": "s3", "s3": {
            "bucket": "pgbackups", "region": "eu-central-1", "keyPrefix": "prod", "serviceAccountName": "irsa",
        }});
    });
    assert_eq!(plain["spec"].get("serviceAccountName"), None);
    assert_eq!(s3["spec"]["serviceAccountName"], "irsa");
    let volumes = s3["spec"]["volumes"].as_array().unwrap();
    let backups = volumes.iter().find(|v| v["name"] == "backup-data").unwrap();
    assert_eq!(*backups, json!({"name": "backup-data", "emptyDir": {}}));
    for (name, more) in [
        ("postgres", 1),
        ("multipooler", 1),
        ("postgres-exporter", 0),
    ] {
        let env = added(
            &container(&plain, name)["env"],
            &container(&s3, name)["env"],
        );
        assert_eq!(
            env,
            vec![json!({"name": "AWS_REGION", "value": "eu-central-1"}); more],
            "{name}"
        );
        for part in ["args", "volumeMounts"] {
            assert_eq!(
                container(&plain, name)[part],
                container(&s3, name)[part],
                "{name} {part}"
            );
        }
    }
}

#[test]
fn s3_by_secret() {
    let plain = pod(|_| {});
    let s3 = pod(|spec| {
        spec["backup"] = json!({"type": "s3", "s3": {
            "bucket": "b", "region": "us-east-1", "endpoint": "https://minio:9000", "useEnvCredentials": true,
            "credentialsSecret": "keys",
        }});
    });
    for name in ["postgres", "multipooler"] {
        let env = added(
            &container(&plain, name)["env"],
            &container(&s3, name)["env"],
        );
        assert_eq!(
            names(&env),
            ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            "{name}"
        );
        for variable in &env[1..] {
            let source = &variable["valueFrom"]["secretKeyRef"];
            assert_eq!(
                *source,
                json!({"name": "keys", "key": variable["name"]}),
                "{name}"
            );
        }
    }
    assert_eq!(s3["spec"].get("serviceAccountName"), None);
}

#[test]
fn encryption_reaches_the_pooler_only() {
    let plain = pod(|_| {});
    let sealed = pod(|spec| spec["backup"]["encryption"] = json!({"secretName": "repo-key"}));
    let args = added(
        &container(&plain, "multipooler")["args"],
        &container(&sealed, "multipooler")["args"],
    );
    assert_eq!(
        args,
        [json!(
            "--pgbackrest-cipher-key-file=/secrets/pgbackrest-cipher/keys.json"
        )]
    );
    let last = strings(&container(&sealed, "multipooler")["args"])
        .last()
        .copied();
    assert_eq!(last, args[0].as_str(), "it comes last");
    for name in ["postgres", "postgres-exporter"] {
        assert_eq!(container(&plain, name), container(&sealed, name), "{name}");
    }
    let volumes = added(&plain["spec"]["volumes"], &sealed["spec"]["volumes"]);
    let secret = json!({"secretName": "repo-key", "defaultMode": 0o444});
    assert_eq!(
        volumes,
        [json!({"name": "pgbackrest-cipher", "secret": secret})]
    );
}

#[test]
fn own_certificates_replace_the_generated_ones() {
    let plain = pod(|_| {});
    let own = pod(|spec| spec["backup"]["pgbackrestTLS"] = json!({"secretName": "mine"}));
    let sources = |pod: &Value| {
        let volumes = pod["spec"]["volumes"].as_array().unwrap().clone();
        let volume = volumes
            .into_iter()
            .find(|v| v["name"] == "pgbackrest-certs")
            .unwrap();
        assert_eq!(
            volume["projected"]["defaultMode"], 0o440,
            "pgBackRest refuses a key that others may read"
        );
        volume["projected"]["sources"].as_array().unwrap().clone()
    };
    let files = |sources: &[Value]| -> BTreeSet<String> {
        let items = sources
            .iter()
            .flat_map(|s| s["secret"]["items"].as_array().unwrap().clone());
        items
            .map(|item| {
                format!(
                    "{}→{}",
                    item["key"].as_str().unwrap(),
                    item["path"].as_str().unwrap()
                )
            })
            .collect()
    };
    let (generated, mine) = (sources(&plain), sources(&own));
    assert_eq!((generated.len(), mine.len()), (2, 1));
    assert_eq!(mine[0]["secret"]["name"], "mine");
    assert_eq!(files(&generated), files(&mine));
    for name in ALL {
        assert_eq!(container(&plain, name), container(&own, name), "{name}");
    }
}

#[test]
fn internal_tls_stands_between_backup_and_cipher() {
    let plain = pod(|_| {});
    let with = |spec: &mut Value| spec["internalTLS"] = json!({"enabled": true});
    let mesh = pod(with);
    let args = added(
        &container(&plain, "multipooler")["args"],
        &container(&mesh, "multipooler")["args"],
    );
    let dir = "/etc/multigres/tls";
    let expected = [
        ("--grpc-cert", "tls.crt"),
        ("--grpc-key", "tls.key"),
        ("--grpc-ca", "ca.crt"),
        ("--grpc-server-ca", "ca.crt"),
    ];
    let expected: Vec<Value> = expected
        .iter()
        .flat_map(|(flag, file)| [json!(flag), json!(format!("{dir}/{file}"))])
        .collect();
    assert_eq!(args, expected);
    let volumes = added(&plain["spec"]["volumes"], &mesh["spec"]["volumes"]);
    assert_eq!(names(&volumes), ["tls-certs"]);
    assert_eq!(
        volumes[0]["secret"]["secretName"],
        "multipooler.c.n.multigres.internal"
    );
    for name in ["postgres", "postgres-exporter"] {
        assert_eq!(
            container(&plain, name),
            container(&mesh, name),
            "{name}: pgctld and exporter have no part in it"
        );
    }
    let both = pod(|spec| {
        with(spec);
        spec["backup"]["encryption"] = json!({"secretName": "k"});
    });
    let args = strings(&container(&both, "multipooler")["args"]).join(" ");
    let at = |flag: &str| args.find(flag).unwrap();
    assert!(
        at("--pgbackrest-ca-file") < at("--grpc-cert")
            && at("--grpc-server-ca") < at("--pgbackrest-cipher-key-file")
    );
    assert_eq!(
        pod(|spec| spec["internalTLS"] = json!({"enabled": false})),
        plain
    );
}

/// L-POD-02: what concerns all containers comes from one place and is the same in all of them.
#[test]
fn cross_cutting_settings_reach_every_container() {
    let plain = pod(|_| {});
    let traced = pod(|spec| {
        spec["observability"] = json!({
            "otlpEndpoint": "http://collector:4318", "tracesExporter": "otlp", "samplingConfigRef": {"name": "sampling"},
        });
    });
    for (name, component) in [("postgres", "pgctld"), ("multipooler", "multipooler")] {
        let env = added(
            &container(&plain, name)["env"],
            &container(&traced, name)["env"],
        );
        let expected = [
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "http://collector:4318".to_owned(),
            ),
            ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                format!("multigres.project=c,multigres.cluster=c,multigres.component={component}"),
            ),
            (
                "OTEL_TRACES_SAMPLER_CONFIG",
                "/etc/otel/sampling-config.yaml".to_owned(),
            ),
        ];
        let expected = expected.map(|(name, value)| json!({"name": name, "value": value}));
        assert_eq!(env, expected, "{name}");
        let mounts = added(
            &container(&plain, name)["volumeMounts"],
            &container(&traced, name)["volumeMounts"],
        );
        assert_eq!(names(&mounts), ["otel-sampling-config"], "{name}");
    }
    let pulled = pod(|spec| {
        spec["images"]["imagePullPolicy"] = json!("Always");
        spec["images"]["imagePullSecrets"] = json!([{"name": "registry"}]);
    });
    assert_eq!(
        pulled["spec"]["imagePullSecrets"],
        json!([{"name": "registry"}])
    );
    for name in ALL {
        assert_eq!(
            container(&pulled, name)["imagePullPolicy"],
            "Always",
            "{name}"
        );
    }
}

/// L-POD-02: containers that work on the same files run as the same user, as a matrix; nothing is inferred from the group.
#[test]
fn users_and_groups() {
    let of = |pool: Value| {
        let mut bed = Bed::new();
        for (field, value) in pool.as_object().unwrap() {
            bed.shard["spec"]["pools"]["default"][field] = value.clone();
        }
        super::objects::pod(&bed.typed(), "default", "a", 0).map(|pod| pod.body)
    };
    // postgres user and group, pooler user and group, volume group.
    let cases = [
        (json!({}), [999, 999, 999, 999, 999]),
        (json!({"fsGroup": 26}), [999, 999, 999, 999, 26]),
        (
            json!({"fsGroup": 26, "postgres": {"runAsUser": 26, "runAsGroup": 26}}),
            [26, 26, 26, 999, 26],
        ),
        (
            json!({"postgres": {"runAsUser": 26}, "multipooler": {"runAsUser": 26, "runAsGroup": 7}}),
            [26, 999, 26, 7, 999],
        ),
    ];
    for (pool, expected) in cases {
        let pod = of(pool.clone()).unwrap();
        let id = |name: &str, field: &str| {
            container(&pod, name)["securityContext"][field]
                .as_i64()
                .unwrap()
        };
        let found = [
            id("postgres", "runAsUser"),
            id("postgres", "runAsGroup"),
            id("multipooler", "runAsUser"),
            id("multipooler", "runAsGroup"),
            pod["spec"]["securityContext"]["fsGroup"].as_i64().unwrap(),
        ];
        assert_eq!(found, expected, "{pool}");
        assert_eq!(id("postgres-exporter", "runAsUser"), 999, "{pool}");
        for name in ALL {
            assert_eq!(
                container(&pod, name)["securityContext"]["runAsNonRoot"],
                true,
                "{pool} {name}"
            );
        }
    }
    for pool in [
        json!({"multipooler": {"runAsUser": 26}}),
        json!({"postgres": {"runAsUser": 25}, "multipooler": {"runAsUser": 26}}),
    ] {
        assert!(of(pool.clone()).is_err(), "{pool}");
    }
}

/// L-POD-02: the pools of the pooler fit into `max_connections`, with room for replication, the exporter and the superuser.
#[test]
fn connection_pools_fit_into_the_server() {
    let pod = pod(|_| {});
    let args = strings(&container(&pod, "multipooler")["args"]);
    let number = |flag: &str| -> i64 {
        args.iter()
            .find_map(|arg| arg.strip_prefix(flag))
            .unwrap()
            .parse()
            .unwrap()
    };
    let pooled = number("--connpool-global-capacity=") + number("--connpool-admin-capacity=");
    let config = crate::shard::objects::config(
        &Bed::new().typed(),
        &crate::shard::identity::Identity::new(&Bed::new().typed()).unwrap(),
        None,
    );
    let settings = crate::shard::postgres_config::effective(&config.text);
    let connections: i64 = settings["max_connections"].parse().unwrap();
    assert!(pooled <= connections - 10, "{pooled} of {connections}");
}

#[test]
fn the_exporter_reads_password_and_queries_from_files() {
    let pod = pod(|spec| {
        spec["postgresPasswordSecretRef"] = json!({"name": "s", "key": "k"});
        spec["postgresSuperuser"] = json!("root");
    });
    let exporter = container(&pod, "postgres-exporter");
    let env = exporter["env"].as_array().unwrap();
    let value = |name: &str| {
        env.iter().find(|e| e["name"] == name).unwrap()["value"]
            .as_str()
            .unwrap()
    };
    assert_eq!(value("DATA_SOURCE_USER"), "root");
    assert_eq!(
        value("DATA_SOURCE_PASS_FILE"),
        "/etc/postgres-password/password"
    );
    assert_eq!(
        strings(&exporter["args"])[1],
        "--extend.query-path=/etc/postgres-exporter/queries.yml"
    );
    assert!(
        !pod.to_string().contains("secretKeyRef"),
        "the password reaches pods as a file only"
    );
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let password = volumes
        .iter()
        .find(|v| v["name"] == "postgres-password")
        .unwrap();
    assert_eq!(
        password["secret"]["items"],
        json!([{"key": "k", "path": "password"}])
    );
    for name in ["postgres", "multipooler"] {
        let env = container(&pod, name)["env"].as_array().unwrap();
        assert!(
            env.iter()
                .any(|e| e["name"] == "POSTGRES_USER" && e["value"] == "root"),
            "{name}"
        );
    }
}

/// L-GIT-06: metadata that is no reason for a restart reaches pods in place.
#[test]
fn the_project_reaches_pods_without_a_restart() {
    let mut bed = Bed::new();
    bed.settle();
    let uids = |bed: &Bed| -> Vec<Value> {
        bed.names(Kind::Pod)
            .iter()
            .map(|key| bed.objects[key]["metadata"]["uid"].clone())
            .collect()
    };
    let before = uids(&bed);
    bed.shard["metadata"]["annotations"] = json!({labels::PROJECT_REF: "p1"});
    bed.settle();
    assert_eq!(uids(&bed), before);
    for key in bed.names(Kind::Pod) {
        assert_eq!(
            bed.objects[&key]["metadata"]["annotations"][labels::PROJECT_REF],
            "p1"
        );
    }
    assert!(bed.pool_decides("default", "a").wants.is_empty());
}
