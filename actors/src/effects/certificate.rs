//! The pgBackRest authority and its certificates (`workloads.md` 11.3).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use x509_parser::prelude::{FromDer, Pem, X509Certificate};

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
    /// A private key that is not in PEM.
    #[error("the private key is not in PEM")]
    Unreadable,
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

/// A new authority in place of `before`. Certificates of `before` that are still valid stay behind the new one, so that
/// peers with a leaf of either authority go on trusting each other while the new files spread.
///
/// # Errors
/// As [`authority`].
pub fn renewed_authority(before: &Material, now: Timestamp) -> Result<Material, CertificateError> {
    let mut material = authority(now)?;
    let trusted = before
        .get("ca.crt")
        .map(String::as_bytes)
        .unwrap_or_default();
    let valid = Pem::iter_from_buffer(trusted)
        .map_while(Result::ok)
        .filter(|block| {
            X509Certificate::from_der(&block.contents).is_ok_and(|(_, it)| {
                it.is_ca() && it.validity().not_after.timestamp() > now.as_second()
            })
        });
    let bundle = material.entry("ca.crt".to_owned()).or_default();
    for block in valid {
        bundle.push_str(&pem("CERTIFICATE", &block.contents));
    }
    Ok(material)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = serde_json::to_value(ByteString(der.to_vec())).unwrap_or_default();
    let lines: Vec<&str> = text
        .as_str()
        .unwrap_or_default()
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A private key in PEM: PKCS#8, or the older form for elliptic curves that authorities made by the Go operator have.
///
/// # Errors
/// When it is neither, or not a key that certificates can be signed with.
pub fn key_pair(text: &str) -> Result<KeyPair, CertificateError> {
    let block = Pem::iter_from_buffer(text.as_bytes())
        .find_map(Result::ok)
        .ok_or(CertificateError::Unreadable)?;
    if block.label != "EC PRIVATE KEY" {
        return Ok(KeyPair::from_pem(text)?);
    }
    let wrapped = pkcs8(&block.contents).ok_or(CertificateError::Unreadable)?;
    Ok(KeyPair::from_pem(&pem("PRIVATE KEY", &wrapped))?)
}

/// Algorithm identifier of a key on the curve P-256, in DER.
const P256: [u8; 21] = [
    0x30, 0x13, // SEQUENCE
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, // id-ecPublicKey
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, // prime256v1
];

/// PKCS#8 around an elliptic curve key of RFC 5915; `None` when it is too long to be one on P-256.
fn pkcs8(key: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(key.len())
        .ok()
        .filter(|length| *length < 0x80)?;
    let content: Vec<u8> = [0x02, 0x01, 0x00] // version 0
        .into_iter()
        .chain(P256)
        .chain([0x04, length]) // OCTET STRING
        .chain(key.iter().copied())
        .collect();
    let total = u8::try_from(content.len()).ok()?;
    Some([0x30, 0x81, total].into_iter().chain(content).collect())
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
    let issuer = Issuer::from_ca_cert_pem(ca_crt, key_pair(ca_key)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = params(now, LEAF_LIFE)?;
    params.distinguished_name = name(LEAF_NAME);
    // All authorities have one name; only this tells which of a bundle signed.
    params.use_authority_key_identifier_extension = true;
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

    /// An authority as the Go operator leaves it: its key is not in PKCS#8.
    const ADOPTED: [(&str, &str); 2] = [
        (
            "ca.key",
            "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIApwhFSoCvi/o5wgKAtqzH3+kDE+vpF4UTmYFvXfTMKtoAoGCCqGSM49
AwEHoUQDQgAEhorQDJgxkXNZfhp/mtuFH/piOMazUBp/hPT1lU04ovDB4rDYKXS2
GeM2fFC3VatMd26RChgVexZRn+uxhxhj3Q==
-----END EC PRIVATE KEY-----
",
        ),
        (
            "ca.crt",
            "-----BEGIN CERTIFICATE-----
MIIB1jCCAX2gAwIBAgIUU424qKBN9Z8N0yOdDKQiIr7rTyAwCgYIKoZIzj0EAwIw
KzESMBAGA1UECgwJTXVsdGlncmVzMRUwEwYDVQQDDAxNdWx0aWdyZXMgQ0EwHhcN
MjYxMTI0MTUxNDIxWhcNMzYxMTIxMTUxNDIxWjArMRIwEAYDVQQKDAlNdWx0aWdy
ZXMxFTATBgNVBAMMDE11bHRpZ3JlcyBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABIaK0AyYMZFzWX4af5rbhR/6YjjGs1Aaf4T09ZVNOKLwweKw2Cl0thnjNnxQ
t1WrTHdukQoYFXsWUZ/rsYcYY92jfzB9MB0GA1UdDgQWBBRc1OZhkcg5Aat4VUk0
/7u93/LDBTAfBgNVHSMEGDAWgBRc1OZhkcg5Aat4VUk0/7u93/LDBTAPBgNVHRMB
Af8EBTADAQH/MAsGA1UdDwQEAwIChDAdBgNVHSUEFjAUBggrBgEFBQcDAQYIKwYB
BQUHAwIwCgYIKoZIzj0EAwIDRwAwRAIgMHgA1vak72cJLgIGuaS61TjchEsdEaiK
DAi0qUtV0fICIA8I6vkcyE4fbvLTNVMGm6qGs/tLXmNUli09S30qTID0
-----END CERTIFICATE-----
",
        ),
    ];

    #[test]
    fn an_authority_made_by_the_go_operator_signs_on() {
        let ca: Material = ADOPTED.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let now: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        let leaf = leaf(&ca, &["a.n.svc".to_owned()], now).unwrap();
        let (_, ca) = parse_x509_pem(ca["ca.crt"].as_bytes()).unwrap();
        let (_, leaf) = parse_x509_pem(leaf["tls.crt"].as_bytes()).unwrap();
        let (ca, leaf) = (ca.parse_x509().unwrap(), leaf.parse_x509().unwrap());
        leaf.verify_signature(Some(ca.public_key())).unwrap();
    }

    #[test]
    fn only_authorities_that_are_still_valid_are_trusted_on() {
        let [first, second, third]: [Timestamp; 3] = [
            "2026-01-01T00:00:00Z",
            "2035-12-10T00:00:00Z",
            "2045-11-20T00:00:00Z",
        ]
        .map(|at| at.parse().unwrap());
        let count = |ca: &Material| Pem::iter_from_buffer(ca["ca.crt"].as_bytes()).count();
        let one = authority(first).unwrap();
        let two = renewed_authority(&one, second).unwrap();
        let three = renewed_authority(&two, third).unwrap();
        assert_eq!((count(&one), count(&two), count(&three)), (1, 2, 2));
        assert!(
            three["ca.crt"].contains(two["ca.crt"].split("-----END").next().unwrap().trim_end())
        );
    }
}
