//! Secrets that the pods of a Shard mount: waited for, and what a change of each of them does.

use serde_json::{Value, json};

use crate::action::WantReason;
use crate::fixtures::{Bed, NAMESPACE, base64};
use crate::labels;
use crate::object::{Key, Kind};

fn secret(files: &[&str], content: &str) -> Value {
    let data = files
        .iter()
        .map(|file| ((*file).to_owned(), base64(content)));
    Value::Object(data.collect())
}

/// A Shard whose topology is the user's etcd with TLS; its Secrets are not there yet.
fn external() -> Bed {
    let mut bed = Bed::new();
    bed.shard["spec"]["globalTopoServer"] = json!({
        "address": "https://etcd.example:2379", "rootPath": "/multigres/c", "implementation": "etcd",
        "caSecret": "etcd-ca", "clientCertSecret": "etcd-client",
    });
    bed
}

fn give(bed: &mut Bed, authority: &str) {
    let pair = secret(&["tls.crt", "tls.key"], "pair");
    bed.secrets.insert("etcd-client".to_owned(), pair);
    let authority = secret(&["ca.crt"], authority);
    bed.secrets.insert("etcd-ca".to_owned(), authority);
}

fn stalled(bed: &Bed) -> (Value, String) {
    let condition = bed.condition("Stalled").unwrap();
    let message = condition["message"].as_str().unwrap().to_owned();
    (condition["reason"].clone(), message)
}

fn drifted(bed: &Bed) -> usize {
    let wants = bed.pool_decides("default", "a").wants;
    let drift = |want: &&crate::action::Want| want.reason == WantReason::Drift;
    wants.iter().filter(drift).count()
}

/// The content of all objects of a kind, versions included.
fn all(bed: &Bed, kind: Kind) -> Vec<Value> {
    let names = bed.names(kind);
    names.iter().map(|key| bed.objects[key].clone()).collect()
}

fn hash(object: &Value, metadata: &str) -> Value {
    let metadata = object.pointer(metadata).unwrap();
    metadata["annotations"][labels::TLS_HASH].clone()
}

/// `workloads.md` T36: poolers and orchestrators reach the user's etcd with the given Secrets, and wait for them: a pod without
/// them would hang.
#[test]
fn an_external_store_with_tls_is_reached_with_the_given_secrets() {
    let mut bed = external();
    bed.settle();
    assert_eq!(bed.names(Kind::Pod), []);
    assert_eq!(bed.names(Kind::Deployment), []);
    assert!(
        !bed.names(Kind::PersistentVolumeClaim).is_empty(),
        "volumes do not wait"
    );
    let (reason, message) = stalled(&bed);
    assert_eq!(reason, "SecretInvalid");
    assert!(
        message.contains("etcd-client") && message.contains("tls.key"),
        "{message}"
    );
    give(&mut bed, "one");
    bed.settle();
    assert_eq!(stalled(&bed).0, "NoObstacle");
    let (pods, deployments) = (all(&bed, Kind::Pod), all(&bed, Kind::Deployment));
    assert_eq!((pods.len(), deployments.len()), (2, 1));
    let specs = [
        (&pods[0]["spec"], true),
        (&deployments[0]["spec"]["template"]["spec"], false),
    ];
    for (spec, first) in specs {
        let container = &spec["containers"][0];
        let args = container["args"].to_string();
        for pair in [
            r#""--topo-etcd-tls-cert","/etc/multigres/topo-tls/tls.crt""#,
            r#""--topo-etcd-tls-key","/etc/multigres/topo-tls/tls.key""#,
            r#""--topo-etcd-tls-ca","/etc/multigres/topo-tls/ca.crt""#,
        ] {
            assert!(args.contains(pair), "{args}");
        }
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount =
            json!({"name": "topo-tls", "mountPath": "/etc/multigres/topo-tls", "readOnly": true});
        assert!(mounts.contains(&mount), "{mounts:?}");
        let volumes = spec["volumes"].as_array().unwrap();
        let sources = volumes.iter().find(|volume| volume["name"] == "topo-tls");
        assert_eq!(
            sources.unwrap()["projected"]["sources"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        // The other programs of a pool pod never look at the topology.
        let others = spec["initContainers"].to_string() + &spec["containers"][1].to_string();
        assert!(!others.contains("topo-tls"), "pool pod: {first}: {others}");
    }
    assert_eq!(
        hash(&pods[0], "/metadata"),
        hash(&deployments[0], "/spec/template/metadata"),
        "both mount the same"
    );
}

/// `workloads.md` T13: programs read certificates once. Deployments are rolled by Kubernetes, pool pods are to be replaced.
#[test]
fn a_changed_certificate_replaces_the_pods_that_have_read_it() {
    let mut bed = external();
    give(&mut bed, "one");
    bed.settle();
    let (pods, before) = (all(&bed, Kind::Pod), all(&bed, Kind::Deployment));
    give(&mut bed, "two");
    assert_eq!(drifted(&bed), 2);
    assert!(bed.settle() > 0);
    assert_eq!(all(&bed, Kind::Pod), pods, "not replaced by this version");
    let after = all(&bed, Kind::Deployment);
    let of = |list: &[Value]| hash(&list[0], "/spec/template/metadata");
    assert_ne!(of(&before), of(&after));
    assert_eq!(
        bed.condition("RollingUpdate").unwrap()["reason"],
        "PodsDrifted"
    );
    // Gone again: what runs goes on, and nobody says that it is as wanted.
    bed.secrets.remove("etcd-ca");
    bed.settle();
    assert_eq!(all(&bed, Kind::Deployment), after);
    assert_eq!(
        bed.condition("RollingUpdate").unwrap()["reason"],
        "PodsDrifted"
    );
    assert_eq!(stalled(&bed).0, "SecretInvalid");
    give(&mut bed, "one");
    bed.settle();
    assert_eq!(drifted(&bed), 0);
    assert_eq!(
        bed.condition("RollingUpdate").unwrap()["reason"],
        "PodsUpToDate"
    );
}

/// mTLS between components: each waits for its own certificate, and the Shard says for which.
#[test]
fn pods_wait_for_the_certificates_that_are_issued_for_them() {
    let mut bed = Bed::new();
    bed.shard["spec"]["internalTLS"] = json!({"enabled": true});
    let files = ["tls.crt", "tls.key", "ca.crt"];
    for (of, pods, deployments) in [("multiorch", 0, 1), ("multipooler", 2, 1)] {
        bed.settle();
        let name = format!("{of}.c.{NAMESPACE}.multigres.internal");
        let told = bed.shard["status"]["message"].as_str().unwrap();
        assert!(told.contains(&name), "{told}");
        assert_eq!(
            bed.shard["status"]["phase"], "Progressing",
            "it is no mistake"
        );
        bed.secrets.insert(name, secret(&files, "one"));
        bed.settle();
        let made = (
            bed.names(Kind::Pod).len(),
            bed.names(Kind::Deployment).len(),
        );
        assert_eq!(made, (pods, deployments), "{of}");
    }
    for file in files {
        let name = format!("multipooler.c.{NAMESPACE}.multigres.internal");
        let before = bed.secrets[&name].clone();
        bed.secrets.get_mut(&name).unwrap()[file] = base64("two");
        assert_eq!(drifted(&bed), 2, "{file}");
        bed.secrets.insert(name, before);
    }
}

/// T13: the user's own certificates of pgBackRest are read once by its server.
#[test]
fn own_certificates_of_pgbackrest_are_certificates_like_others() {
    let mut bed = Bed::new();
    let files = ["ca.crt", "tls.crt", "tls.key"];
    bed.shard["spec"]["backup"]["pgbackrestTLS"] = json!({"secretName": "mine"});
    bed.settle();
    assert_eq!(
        stalled(&bed).0,
        "CertificateSecretInvalid",
        "told once, by its own name"
    );
    bed.secrets.insert("mine".to_owned(), secret(&files, "one"));
    bed.settle();
    assert_eq!(bed.names(Kind::Pod).len(), 2);
    bed.secrets.insert("mine".to_owned(), secret(&files, "two"));
    assert_eq!(drifted(&bed), 2);
}

/// T30: a generated certificate is made anew when a pool is added. Running servers keep the old one, which still names them.
#[test]
fn a_generated_certificate_restarts_nothing() {
    let mut bed = Bed::new();
    bed.settle();
    let pods = all(&bed, Kind::Pod);
    let secrets = all(&bed, Kind::Secret);
    let pool = bed.shard["spec"]["pools"]["default"].clone();
    bed.shard["spec"]["pools"]["more"] = pool;
    bed.now += jiff::SignedDuration::from_hours(1);
    bed.settle();
    assert_ne!(all(&bed, Kind::Secret), secrets, "it names the new pool");
    let kept: Vec<Value> = all(&bed, Kind::Pod);
    assert!(pods.iter().all(|pod| kept.contains(pod)));
    assert_eq!(drifted(&bed), 0);
}

/// T13, `docs/operations.md`: a new password reaches PostgreSQL by hand. Its Secret, the cipher and the keys of the object store
/// are read when they are needed, so that a change of them is no change of any pod.
#[test]
fn a_changed_password_causes_no_write_and_no_drift() {
    let mut bed = Bed::new();
    bed.shard["spec"]["backup"] = json!({
        "type": "s3", "s3": {"bucket": "b", "region": "r", "credentialsSecret": "keys"},
        "encryption": {"secretName": "cipher"},
    });
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    bed.secrets.insert("keys".to_owned(), secret(&keys, "one"));
    bed.secrets
        .insert("cipher".to_owned(), secret(&["keys.json"], "one"));
    bed.settle();
    assert_eq!(bed.names(Kind::Pod).len(), 2);
    let changes = [
        ("password", vec!["password"]),
        ("keys", keys.to_vec()),
        ("cipher", vec!["keys.json"]),
    ];
    for (name, files) in changes {
        bed.secrets.insert(name.to_owned(), secret(&files, "two"));
        assert_eq!(bed.settle(), 0, "{name}");
        assert_eq!(drifted(&bed), 0, "{name}");
        assert_eq!(
            bed.condition("RollingUpdate").unwrap()["reason"],
            "PodsUpToDate"
        );
    }
}

/// `workloads.md` 14: an orchestrator exits without the topology of its cell.
#[test]
fn an_orchestrator_waits_for_the_store_of_its_own_cell() {
    let mut bed = Bed::new();
    let cell = Key::new(Kind::Cell, NAMESPACE, &crds::name::cell("c", "a"));
    let known = bed.objects.remove(&cell).unwrap();
    bed.settle();
    assert_eq!(bed.names(Kind::Deployment), [], "the cell is not known yet");
    assert_eq!(bed.names(Kind::Pod).len(), 2, "local work never waits");
    bed.objects.insert(cell.clone(), known);
    let etcd = json!({"etcd": {"replicas": 1}});
    bed.objects.get_mut(&cell).unwrap()["spec"]["topoServer"] = etcd;
    bed.settle();
    assert_eq!(bed.names(Kind::Deployment), [], "its store is not there");
    let name = crds::name::local_topo_server(&cell.name);
    let ready = |is: &str| {
        json!({
            "metadata": {
                "name": name, "namespace": NAMESPACE, "uid": "local", "resourceVersion": "1", "generation": 1,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Cell", "name": "a", "uid": "cell-a", "controller": true}],
            },
            "spec": {},
            "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": is}]},
        })
    };
    let store = Key::new(Kind::TopoServer, NAMESPACE, &name);
    bed.objects.insert(store.clone(), ready("False"));
    bed.settle();
    assert_eq!(bed.names(Kind::Deployment), [], "its store is not Ready");
    bed.objects.insert(store.clone(), ready("True"));
    bed.settle();
    assert_eq!(bed.names(Kind::Deployment).len(), 1);
    bed.objects.insert(store, ready("False"));
    bed.shard["spec"]["multiorch"]["replicas"] = json!(2);
    bed.settle();
    let deployment = &all(&bed, Kind::Deployment)[0];
    assert_eq!(deployment["spec"]["replicas"], 2, "once started it is kept");
}
