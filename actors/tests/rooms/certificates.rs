//! TLS between components, towards clients, and the Secrets that carry it.

use actors::cluster::certificates::common_name;
use actors::object::{Key, Kind};
use serde_json::{Value, json};

use crate::desk::{Desk, key};

fn cluster() -> Key {
    key(Kind::MultigresCluster, "minimal")
}

/// A cluster whose API server knows Certificates.
fn with_issuer(spec: Value) -> Desk {
    let mut desk = Desk::cluster(spec);
    desk.served.insert(Kind::Certificate);
    desk
}

/// What cert-manager does: a Secret for each Certificate.
fn issue(desk: &mut Desk, content: &str) {
    let certificates: Vec<(Key, Value)> = desk
        .objects
        .iter()
        .filter(|(key, _)| key.kind == Kind::Certificate)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for (of, certificate) in certificates {
        let spec = &certificate["spec"];
        let secret = key(Kind::Secret, spec["secretName"].as_str().unwrap());
        let owners = desk
            .objects
            .get(&secret)
            .map(|s| s["metadata"]["ownerReferences"].clone());
        let mut metadata = json!({
            "labels": spec["secretTemplate"]["labels"], "annotations": {"cert-manager.io/certificate-name": of.name},
        });
        if let Some(owners) = owners.filter(|owners| !owners.is_null()) {
            metadata["ownerReferences"] = owners;
        }
        let data = json!({"tls.crt": content, "tls.key": content, "ca.crt": content});
        desk.put(secret, json!({"metadata": metadata, "data": data}));
    }
}

fn certificates(desk: &Desk) -> Vec<String> {
    desk.objects
        .keys()
        .filter(|key| key.kind == Kind::Certificate)
        .map(|key| key.name.to_string())
        .collect()
}

/// `workloads.md` 11.1 and 18.11 (e); L-CERT-05: the operator is a client like the others.
#[test]
fn every_component_and_the_operator_have_an_identity_of_their_own() {
    let mut desk = with_issuer(json!({"internalTLS": {"enabled": true}}));
    desk.settle();
    assert_eq!(
        certificates(&desk),
        [
            "multiadmin.minimal.default.multigres.internal",
            "multigateway.minimal.default.multigres.internal",
            "multigres-operator.minimal.default.multigres.internal",
            "multiorch.minimal.default.multigres.internal",
            "multipooler.minimal.default.multigres.internal",
        ]
    );
    let spec = |name: &str| desk.objects[&key(Kind::Certificate, name)]["spec"].clone();
    let gateway = spec("multigateway.minimal.default.multigres.internal");
    assert_eq!(
        gateway["dnsNames"],
        json!([
            "multigateway.minimal.default.multigres.internal",
            "multipooler.minimal.default.multigres.internal"
        ])
    );
    assert_eq!(
        gateway["literalSubject"],
        "C=US, ST=Delware, L=New Castle,O=Supabase Inc, CN=multigateway.minimal.default.multigres.internal"
    );
    assert_eq!(gateway["duration"], "44640h0m0s");
    assert_eq!(
        gateway["privateKey"],
        json!({"algorithm": "RSA", "size": 2048})
    );
    assert_eq!(
        gateway["usages"],
        json!([
            "digital signature",
            "key encipherment",
            "server auth",
            "client auth"
        ])
    );
    assert_eq!(
        gateway["issuerRef"],
        json!({"kind": "ClusterIssuer", "name": "supabase-issuer", "group": "cert-manager.io"})
    );
    let operator = spec("multigres-operator.minimal.default.multigres.internal");
    assert_eq!(
        operator["usages"],
        json!(["digital signature", "key encipherment", "client auth"]),
        "it serves nobody"
    );
}

/// L-CERT-03: names that do not fit are cut in a way that keeps them apart.
#[test]
fn common_names_fit_and_stay_unique() {
    let long =
        "multigateway.production-cluster-abcdef.my-very-long-namespace-name.multigres.internal";
    assert_eq!(
        common_name(long),
        "multigateway.production-cluster-abcdef.my-very-long-nam-7d8b986c"
    );
    assert_eq!(common_name(long).len(), 64);
    let other = long.replace("name.multigres", "nome.multigres");
    assert_ne!(common_name(long), common_name(&other));
    assert_eq!(common_name(&"x".repeat(64)), "x".repeat(64));
}

/// Why a certificate is not there is known to cert-manager only: its words are told where the user looks.
#[test]
fn what_cert_manager_says_is_told() {
    let mut desk = with_issuer(json!({"certCommonName": "db.example.com"}));
    let told = |desk: &Desk| desk.condition(&cluster(), "CertificatesReady");
    let says = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    desk.settle();
    assert_eq!(told(&desk), says("False", "Pending"));
    let certificate = key(Kind::Certificate, "db.example.com");
    let conditions = |ready: &str, reason: &str| {
        json!({"status": {"conditions": [
            {"type": "Issuing", "status": "False", "reason": "Failed", "message": "the order was refused: no such zone"},
            {"type": "Ready", "status": ready, "reason": reason, "message": "Secret does not exist"},
        ]}})
    };
    desk.patch(&certificate, &conditions("False", "DoesNotExist"));
    desk.settle();
    assert_eq!(told(&desk), says("False", "DoesNotExist"));
    let status = desk.status(&cluster()).to_string();
    for text in [
        "Certificate db.example.com",
        "Secret does not exist",
        "no such zone",
    ] {
        assert!(status.contains(text), "{text}: {status}");
    }
    desk.patch(&certificate, &conditions("False", "no reason at all"));
    desk.settle();
    assert_eq!(
        told(&desk),
        says("False", "NotReady"),
        "the API takes one word"
    );
    desk.patch(&certificate, &conditions("True", "Ready"));
    issue(&mut desk, "MQ==");
    desk.bring_up();
    assert_eq!(told(&desk), says("True", "AllIssued"));
    desk.patch(&cluster(), &json!({"spec": {"certCommonName": null}}));
    desk.bring_up();
    assert_eq!(told(&desk), None, "nothing is asked any more");
}

/// L-CERT-03: the public endpoint and the mesh are switched apart.
#[test]
fn public_and_internal_tls_are_independent() {
    for (spec, wanted, mounted) in [
        (
            json!({"certCommonName": "db.example.com"}),
            vec!["db.example.com"],
            vec!["minimal-multigateway-tls"],
        ),
        (
            json!({"internalTLS": {"enabled": true}}),
            vec![
                "multiadmin.",
                "multigateway.",
                "multigres-operator.",
                "multiorch.",
                "multipooler.",
            ],
            vec!["multigateway.minimal.default.multigres.internal"],
        ),
    ] {
        let mut desk = with_issuer(spec);
        desk.settle();
        let names = certificates(&desk);
        assert_eq!(names.len(), wanted.len());
        assert!(
            names
                .iter()
                .zip(&wanted)
                .all(|(name, start)| name.starts_with(start)),
            "{names:?}"
        );
        issue(&mut desk, "MQ==");
        desk.bring_up();
        let gateway = &desk.objects[&key(Kind::Deployment, "minimal-zone-a-multigateway-0ccc2e8b")];
        let volumes = gateway["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .unwrap();
        let secrets: Vec<&str> = volumes
            .iter()
            .map(|v| v["secret"]["secretName"].as_str().unwrap())
            .collect();
        assert_eq!(secrets, mounted);
    }
}

/// `workloads.md` T11: the Secret of the public certificate is the cluster's own.
#[test]
fn the_public_certificate_names_the_domain_with_and_without_db() {
    let mut desk = with_issuer(json!({"certCommonName": "db.example.com"}));
    desk.settle();
    let spec = &desk.objects[&key(Kind::Certificate, "db.example.com")]["spec"];
    assert_eq!(spec["dnsNames"], json!(["db.example.com", "example.com"]));
    assert_eq!(spec["secretName"], "minimal-multigateway-tls");
    assert_eq!(
        spec["usages"],
        json!(["digital signature", "key encipherment", "server auth"])
    );
}

/// `workloads.md` T13: programs read certificates once, so pods are replaced when a Secret is renewed, and only then.
#[test]
fn pods_start_with_their_certificates_and_follow_their_renewal() {
    let mut desk = with_issuer(json!({"internalTLS": {"enabled": true}}));
    desk.bring_up();
    let admin = key(Kind::Deployment, "minimal-multiadmin");
    let gateway = key(Kind::Deployment, "minimal-zone-a-multigateway-0ccc2e8b");
    assert!(!desk.objects.contains_key(&admin) && !desk.objects.contains_key(&gateway));
    assert!(
        desk.status(&desk.named(Kind::Cell, "zone-a"))
            .to_string()
            .contains("multigateway.minimal.default.multigres.internal")
    );
    issue(&mut desk, "MQ==");
    desk.bring_up();
    assert_eq!(desk.says(&cluster(), "Ready"), "Healthy True Healthy");
    let hash = |desk: &Desk, key: &Key| {
        desk.objects[key]["spec"]["template"]["metadata"]["annotations"]["multigres.com/tls-hash"]
            .clone()
    };
    let first = [hash(&desk, &admin), hash(&desk, &gateway)];
    assert!(first.iter().all(Value::is_string));
    desk.bring_up();
    assert_eq!([hash(&desk, &admin), hash(&desk, &gateway)], first);
    issue(&mut desk, "Mg==");
    desk.bring_up();
    assert!(hash(&desk, &admin) != first[0] && hash(&desk, &gateway) != first[1]);
    // A Secret that vanishes changes nothing for pods that run.
    let running = desk.objects[&gateway]["spec"].clone();
    desk.remove(&key(
        Kind::Secret,
        "multigateway.minimal.default.multigres.internal",
    ));
    desk.patch(
        &cluster(),
        &json!({"spec": {"logLevels": {"multigateway": "debug"}}}),
    );
    desk.bring_up();
    assert_eq!(desk.objects[&gateway]["spec"], running);
    assert_eq!(
        desk.says(&desk.named(Kind::Cell, "zone-a"), "Available"),
        "Progressing True MultigatewayAvailable"
    );
}

/// `admission.md` 6.8: what was issued goes when it is no longer wanted, and with the cluster.
#[test]
fn issued_secrets_leave_nothing_behind() {
    let mut desk =
        with_issuer(json!({"internalTLS": {"enabled": true}, "certCommonName": "db.example.com"}));
    desk.settle();
    issue(&mut desk, "MQ==");
    let foreign = key(Kind::Secret, "users-own");
    desk.put(foreign.clone(), json!({"data": {"tls.crt": "MQ=="}}));
    desk.bring_up();
    let secrets = |desk: &Desk| -> Vec<Key> {
        desk.objects
            .keys()
            .filter(|key| key.kind == Kind::Secret)
            .cloned()
            .collect()
    };
    for secret in secrets(&desk).iter().filter(|secret| **secret != foreign) {
        let owners = &desk.objects[secret]["metadata"]["ownerReferences"];
        assert_eq!(owners[0]["uid"], desk.uid(&cluster()), "{secret}");
    }
    desk.patch(&cluster(), &json!({"spec": {"certCommonName": null}}));
    desk.bring_up();
    assert_eq!(certificates(&desk).len(), 5);
    assert!(
        !desk
            .objects
            .contains_key(&key(Kind::Secret, "minimal-multigateway-tls"))
    );
    desk.patch(
        &cluster(),
        &json!({"spec": {"internalTLS": {"enabled": false}}}),
    );
    desk.bring_up();
    assert_eq!(certificates(&desk), [""; 0]);
    assert_eq!(secrets(&desk), [foreign]);
    assert_eq!(desk.says(&cluster(), "Ready"), "Healthy True Healthy");
}

/// Another public name makes a new Certificate for the same Secret, which stays.
#[test]
fn a_renamed_certificate_keeps_its_secret() {
    let mut desk = with_issuer(json!({"certCommonName": "db.example.com"}));
    desk.settle();
    issue(&mut desk, "MQ==");
    desk.bring_up();
    desk.patch(
        &cluster(),
        &json!({"spec": {"certCommonName": "db.example.org"}}),
    );
    desk.settle();
    assert_eq!(certificates(&desk), ["db.example.org"]);
    assert!(
        desk.objects
            .contains_key(&key(Kind::Secret, "minimal-multigateway-tls"))
    );
}

/// Without cert-manager, Secrets made by hand do; what is missing is said, and nothing else stops.
#[test]
fn secrets_made_by_hand_do_without_an_issuer() {
    let mut desk = Desk::cluster(json!({"certCommonName": "db.example.com"}));
    desk.settle();
    assert_eq!(certificates(&desk), [""; 0]);
    let (status, reason) = desk.condition(&cluster(), "Stalled").unwrap();
    assert_eq!((&*status, &*reason), ("True", "CertificatesUnavailable"));
    assert!(
        desk.objects
            .contains_key(&key(Kind::TopoServer, "minimal-global-topo"))
    );
    desk.put(
        key(Kind::Secret, "minimal-multigateway-tls"),
        json!({"data": {"tls.crt": "MQ==", "tls.key": "MQ=="}}),
    );
    desk.bring_up();
    assert_eq!(desk.says(&cluster(), "Ready"), "Healthy True Healthy");
    assert_eq!(desk.deleted, []);
}
