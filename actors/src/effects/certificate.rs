//! The pgBackRest authority and its certificates (`workloads.md` 11.3).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

/// Clocks of nodes may lag by this much.
const BACKDATED: Duration = Duration::from_secs(3600);
/// Life of the authority: ten years.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Life of a leaf: one year.
const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// The only client name that the pgBackRest server accepts (`workloads.md` 10.3).
const LEAF_NAME: &str = "pgbackrest";

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Key or certificate generation failed.
    #[error("failed to generate a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The authority's Secret lacks a key.
    #[error("the authority lacks {0}")]
    Missing(&'static str),
}

/// Data of a Secret, in PEM.
pub type Material = BTreeMap<String, String>;

fn params(now: Timestamp, life: Duration) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::default();
    let at = |seconds: i64| time_of(seconds).ok_or(CertificateError::Generate(rcgen::Error::Time));
    let start = now.as_second() - i64::try_from(BACKDATED.as_secs()).unwrap_or_default();
    params.not_before = at(start)?;
    params.not_after = at(now.as_second() + i64::try_from(life.as_secs()).unwrap_or_default())?;
    Ok(params)
}

fn time_of(seconds: i64) -> Option<time::OffsetDateTime> {
    time::OffsetDateTime::from_unix_timestamp(seconds).ok()
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "Multigres");
    name
}

/// A new authority: `ca.crt`, `ca.key`.
///
/// # Errors
/// When no key can be generated.
pub fn authority(now: Timestamp) -> Result<Material, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = params(now, AUTHORITY_LIFE)?;
    params.distinguished_name = name("Multigres CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.self_signed(&key)?;
    Ok(Material::from([
        ("ca.crt".to_owned(), certificate.pem()),
        ("ca.key".to_owned(), key.serialize_pem()),
    ]))
}

/// A new certificate signed by `authority`: `tls.crt`, `tls.key`.
///
/// # Errors
/// When the authority is incomplete or unreadable.
pub fn leaf(
    authority: &Material,
    names: &[String],
    now: Timestamp,
) -> Result<Material, CertificateError> {
    let ca_crt = authority
        .get("ca.crt")
        .ok_or(CertificateError::Missing("ca.crt"))?;
    let ca_key = authority
        .get("ca.key")
        .ok_or(CertificateError::Missing("ca.key"))?;
    let issuer = Issuer::from_ca_cert_pem(ca_crt, KeyPair::from_pem(ca_key)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = params(now, LEAF_LIFE)?;
    params.distinguished_name = name(LEAF_NAME);
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = names
        .iter()
        .map(|n| Ok(rcgen::SanType::DnsName(n.as_str().try_into()?)))
        .collect::<Result<_, rcgen::Error>>()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Material::from([
        ("tls.crt".to_owned(), certificate.pem()),
        ("tls.key".to_owned(), key.serialize_pem()),
    ]))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn leaf_is_signed_by_its_authority_and_names_every_headless_service() {
        let now: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let ca = authority(now).unwrap();
        let names = vec![
            "pgbackrest.default.svc".to_owned(),
            "*.a.default.svc".to_owned(),
        ];
        let leaf = leaf(&ca, &names, now).unwrap();
        let parse = |pem: &str| parse_x509_pem(pem.as_bytes()).unwrap().1;
        let (ca_pem, leaf_pem) = (parse(&ca["ca.crt"]), parse(&leaf["tls.crt"]));
        let (ca, leaf) = (ca_pem.parse_x509().unwrap(), leaf_pem.parse_x509().unwrap());
        assert!(ca.is_ca());
        assert_eq!(leaf.issuer(), ca.subject());
        assert_eq!(
            leaf.subject()
                .iter_common_name()
                .next()
                .unwrap()
                .as_str()
                .unwrap(),
            "pgbackrest"
        );
        let sans: Vec<String> = leaf
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .iter()
            .map(|name| match name {
                GeneralName::DNSName(name) => (*name).to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sans, names);
        let days = (leaf.validity().not_after.timestamp() - now.as_second()) / 86400;
        assert_eq!(days, 365);
    }
}
