//! Certificates in Secrets: whose they are, and who signed them.

use anyhow::{Context, anyhow, ensure};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::json;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

/// A Secret's value as text.
///
/// # Errors
/// When it is not base64 of text.
pub fn decode(base64: &str) -> anyhow::Result<String> {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(json!(base64))?;
    Ok(String::from_utf8(bytes.0)?)
}

/// The DNS names of a certificate, in order.
///
/// # Errors
/// When it cannot be read.
pub fn names(certificate: &str) -> anyhow::Result<Vec<String>> {
    let (_, pem) = parse_x509_pem(certificate.as_bytes())?;
    let certificate = pem.parse_x509()?;
    let alternative = certificate.subject_alternative_name()?;
    let names = alternative
        .iter()
        .flat_map(|names| &names.value.general_names);
    Ok(names
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            other => other.to_string(),
        })
        .collect())
}

/// The certificate belongs to the key and is signed by the authority.
///
/// # Errors
/// When it is not so.
pub fn verify(certificate: &str, key: &str, authority: &str) -> anyhow::Result<()> {
    let (_, leaf) = parse_x509_pem(certificate.as_bytes())?;
    let (_, signer) = parse_x509_pem(authority.as_bytes())?;
    let (leaf, signer) = (leaf.parse_x509()?, signer.parse_x509()?);
    ensure!(signer.is_ca(), "the signer is no authority");
    ensure!(leaf.issuer() == signer.subject(), "another issuer is named");
    leaf.verify_signature(Some(signer.public_key()))
        .map_err(|error| anyhow!("not signed by the authority: {error}"))?;
    let key = KeyPair::from_pem(key).context("unreadable key")?;
    ensure!(
        key.subject_public_key_info() == leaf.public_key().raw,
        "the key belongs to another certificate"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa};

    use super::*;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_chain_holds_only_with_its_own_authority_and_key() {
        let (one, two) = (authority(), authority());
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &one).unwrap().pem();
        assert_eq!(names(&leaf).unwrap(), ["a.example"]);
        verify(&leaf, &key.serialize_pem(), &one.pem()).unwrap();
        assert!(verify(&leaf, &key.serialize_pem(), &two.pem()).is_err());
        let other = KeyPair::generate().unwrap();
        assert!(verify(&leaf, &other.serialize_pem(), &one.pem()).is_err());
    }
}
