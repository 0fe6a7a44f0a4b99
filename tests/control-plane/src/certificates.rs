//! The plane's own certificate authority and the keys of its service accounts.

use std::{fs, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

/// An authority with this common name and a new key.
pub(crate) fn authority(name: &str) -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// Signs the certificates of one plane and writes them as `<name>.crt` and `<name>.key` into its folder.
pub(crate) struct Authority<'a> {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: &'a Path,
}

impl<'a> Authority<'a> {
    /// Makes a new authority and writes `ca.crt`.
    pub(crate) fn create(folder: &'a Path) -> anyhow::Result<Self> {
        let issuer = authority("control-plane")?;
        write_private(&folder.join("ca.crt"), &issuer.pem())?;
        Ok(Self { issuer, folder })
    }

    /// A certificate for a server on loopback.
    pub(crate) fn server(&self, name: &str) -> anyhow::Result<()> {
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(name, &params)
    }

    /// A client certificate for a user, and a kubeconfig `<name>.kubeconfig` that uses it.
    pub(crate) fn client(
        &self,
        name: &str,
        user: &str,
        group: Option<&str>,
        server: &str,
    ) -> anyhow::Result<()> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        self.sign(name, &params)?;
        let path = |end: &str| self.folder.join(format!("{name}.{end}"));
        let credentials = json!({ "client-certificate": path("crt"), "client-key": path("key") });
        write_kubeconfig(
            &path("kubeconfig"),
            server,
            &self.folder.join("ca.crt"),
            &credentials,
        )
    }

    /// The key pair that signs service account tokens: `service-accounts.key` and `service-accounts.pub`.
    pub(crate) fn service_accounts(&self) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        write_private(
            &self.folder.join("service-accounts.key"),
            &key.serialize_pem(),
        )?;
        write_private(
            &self.folder.join("service-accounts.pub"),
            &key.public_key_pem(),
        )
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_private(&self.folder.join(format!("{name}.crt")), &certificate.pem())?;
        write_private(
            &self.folder.join(format!("{name}.key")),
            &key.serialize_pem(),
        )
    }
}

/// Writes a kubeconfig of one context (JSON, which is YAML too).
pub(crate) fn write_kubeconfig(
    path: &Path,
    server: &str,
    authority: &Path,
    credentials: &serde_json::Value,
) -> anyhow::Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "plane", "cluster": { "server": server, "certificate-authority": authority } }],
        "users": [{ "name": "user", "user": credentials }],
        "contexts": [{ "name": "plane", "context": { "cluster": "plane", "user": "user" } }],
        "current-context": "plane",
    });
    write_private(path, &serde_json::to_string_pretty(&config)?)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("failed to write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
