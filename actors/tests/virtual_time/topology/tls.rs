//! External stores with TLS from the user's Secrets.

use std::path::{Path, PathBuf};
use std::process::Command;

use actors::object::Kind;
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use super::{actor, bed, is, told};
use crate::bed::{Bed, End};
use crate::process::Etcd;
use crate::shapes::key;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key for a name.
fn leaf(by: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    (
        params.signed_by(&key, by).unwrap().pem(),
        key.serialize_pem(),
    )
}

/// An etcd that asks for client certificates; the authority's certificate lies in its folder.
fn etcd(name: &str, by: &Authority) -> Etcd {
    let (certificate, secret) = leaf(by, "127.0.0.1");
    Etcd::with(name, |folder: &Path| {
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        vec![
            format!("--cert-file={}", file("server.crt", &certificate)),
            format!("--key-file={}", file("server.key", &secret)),
            format!("--trusted-ca-file={}", file("ca.crt", &by.pem())),
            "--client-cert-auth=true".to_owned(),
        ]
    })
}

fn secret(bed: &Bed, name: &str, files: &[(&str, &str)]) {
    let data: serde_json::Map<String, Value> = files
        .iter()
        .map(|(file, text)| {
            (
                (*file).to_owned(),
                json!(ByteString(text.as_bytes().to_vec())),
            )
        })
        .collect();
    bed.server
        .add(&key(Kind::Secret, name), json!({"data": data}));
}

fn names(bed: &Bed, cluster: &actors::object::Key, ca: Option<&str>) {
    bed.server.edit(cluster, |object| {
        let external = &mut object["spec"]["globalTopoServer"]["external"];
        external["clientCertSecret"] = "etcd-client".into();
        if let Some(ca) = ca {
            external["caSecret"] = ca.into();
        }
    });
}

/// A Secret that comes late is waited for by name; one that is exchanged for another is used.
#[tokio::test]
async fn certificates_come_from_the_secrets_that_the_user_names() {
    let by = authority();
    let etcd = etcd("secrets", &by);
    let (bed, cluster) = bed(&[format!("https://{}", etcd.endpoint())]);
    bed.server.edit(&cluster, |object| {
        object["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z".into();
    });
    names(&bed, &cluster, Some("etcd-ca"));
    secret(&bed, "etcd-ca", &[("ca.crt", &authority().pem())]);
    let end = bed.life(async |life| {
        let lacks = |found: Option<&Value>| {
            found.is_some_and(|found| {
                found["message"]
                    .to_string()
                    .contains("Secret etcd-client does not exist")
            })
        };
        told(&bed, &cluster, "TopologyReachable", lacks).await;
        let (certificate, private) = leaf(&by, "operator");
        secret(
            &bed,
            "etcd-client",
            &[("tls.crt", &certificate), ("tls.key", &private)],
        );
        actor(life, |actor| {
            let error = &actor["stores"][0]["members"][0]["error"];
            error
                .as_str()
                .is_some_and(|error| error.contains("certificate"))
        })
        .await;
        let right = json!(ByteString(by.pem().into_bytes()));
        bed.server.edit(&key(Kind::Secret, "etcd-ca"), |object| {
            object["data"]["ca.crt"] = right
        });
        told(&bed, &cluster, "TopologyReachable", is("True")).await;
        let shown = actor(life, |_| true).await.to_string();
        assert!(!shown.contains("PRIVATE KEY") && !shown.contains("BEGIN CERTIFICATE"));
    });
    assert_eq!(end.await, End::Done(()));
}

/// Without a CA Secret the system's authorities count. One that signed the store's certificate is there in the child process,
/// whose environment names it, and not in this one: here the condition says what to do.
#[tokio::test]
async fn without_a_ca_the_authorities_of_the_system_count() {
    const INNER: &str = "MULTIGRES_TEST_SYSTEM_ROOTS";
    let trusted = std::env::var(INNER).ok();
    if trusted.is_none() {
        let folder = std::env::temp_dir().join(format!("multigres-roots-{}", std::process::id()));
        let folder = Folder::new(folder);
        let by = authority();
        let (ca, private) = (by.pem(), by.key().serialize_pem());
        std::fs::write(folder.0.join("ca.crt"), &ca).unwrap();
        std::fs::write(folder.0.join("ca.key"), private).unwrap();
        let test = "topology::tls::without_a_ca_the_authorities_of_the_system_count";
        let inner = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact"])
            .env(INNER, &folder.0)
            .env("SSL_CERT_FILE", folder.0.join("ca.crt"))
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&inner.stdout).into_owned();
        assert!(
            inner.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }
    let by = match &trusted {
        Some(folder) => {
            let read = |file| std::fs::read_to_string(Path::new(folder).join(file)).unwrap();
            let key = KeyPair::from_pem(&read("ca.key")).unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, key).unwrap()
        }
        None => authority(),
    };
    let name = if trusted.is_some() {
        "roots-inner"
    } else {
        "roots"
    };
    let etcd = etcd(name, &by);
    let (bed, cluster) = bed(&[etcd.endpoint()]);
    bed.server.edit(&cluster, |object| {
        object["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z".into();
    });
    names(&bed, &cluster, None);
    let (certificate, private) = leaf(&by, "operator");
    secret(
        &bed,
        "etcd-client",
        &[("tls.crt", &certificate), ("tls.key", &private)],
    );
    let end = bed.life(async |_| {
        if trusted.is_some() {
            told(&bed, &cluster, "TopologyReachable", is("True")).await;
            return;
        }
        let told = told(&bed, &cluster, "TopologyReachable", is("False"))
            .await
            .unwrap();
        let text = told["message"].as_str().unwrap();
        assert!(
            text.contains("no caSecret is named, while clientCertSecret names Secret etcd-client")
                && text.contains("name the Secret that holds its ca.crt"),
            "{text}"
        );
    });
    assert_eq!(end.await, End::Done(()));
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
