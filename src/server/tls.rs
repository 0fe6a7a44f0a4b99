//! The certificate of the metrics server: self-signed, made at start, gone with the process.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Key or certificate could not be made.
    #[error("unable to make the serving certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS library refuses it.
    #[error("unable to use the serving certificate: {0}")]
    Use(#[from] rustls::Error),
}

/// An acceptor with a new self-signed certificate for `names`; HTTP/1.1 only.
///
/// # Errors
/// When key or certificate cannot be made.
pub fn self_signed(names: Vec<String>) -> Result<TlsAcceptor, Error> {
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
