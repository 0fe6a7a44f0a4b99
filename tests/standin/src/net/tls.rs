//! Mutual TLS of a component, from the certificates that its pod mounts.

use std::sync::Arc;

use anyhow::Context;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{files::Files, pod::PodSpec};

/// What a pod's gRPC port presents and demands; nothing when its flags name no certificate.
///
/// # Errors
/// When a certificate that the flags name cannot be read.
pub async fn server(files: &Files, pod: &PodSpec) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let (Some(certificate), Some(key)) = (pod.flags.get("grpc-cert"), pod.flags.get("grpc-key"))
    else {
        return Ok(None);
    };
    let chain = files.read(pod, certificate).await?;
    let key = files.read(pod, key).await?;
    let authority = match pod.flags.get("grpc-ca") {
        Some(path) => Some(files.read(pod, path).await?),
        None => None,
    };
    config(&chain, &key, authority.as_deref()).map(Some)
}

/// A server that presents a chain, and demands certificates of an authority if there is one. All in PEM.
///
/// # Errors
/// When one of them is no such thing.
pub fn config(
    chain: &[u8],
    key: &[u8],
    authority: Option<&[u8]>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(ring::default_provider());
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key).context("the key is no private key")?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(authority) {
                roots.add(certificate?)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
