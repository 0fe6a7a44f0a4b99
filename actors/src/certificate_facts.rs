//! What the store keeps of the certificates in a Secret. Private keys never get here: they are looked at once, when the
//! object is trimmed, and only the answer "fits its certificate" stays.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use x509_parser::prelude::{FromDer, GeneralName, Pem, X509Certificate};

use crate::effects::certificate::key_pair;
use crate::entry::{digest, piece};

/// File names of an authority: certificates and the key of the first of them.
pub const AUTHORITY_FILES: (&str, &str) = ("ca.crt", "ca.key");
/// File names of a leaf.
pub const LEAF_FILES: (&str, &str) = ("tls.crt", "tls.key");

/// The certificates of one Secret.
#[derive(Clone, Debug, Default)]
pub struct CertificateFacts {
    /// `ca.crt`: the authority in use, then those that are still trusted.
    pub authorities: Vec<CertificateFact>,
    /// `tls.crt`: the first certificate.
    pub leaf: Option<CertificateFact>,
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct CertificateFact {
    /// As it is signed; a few hundred bytes, so that a signature can be checked against whatever authority comes later.
    der: Box<[u8]>,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Its DNS names.
    pub names: BTreeSet<Box<str>>,
    /// It may sign others.
    pub is_authority: bool,
    /// The private key beside it belongs to it. Meaningless for authorities after the first.
    pub key_fits: bool,
    /// Digest of the authority that was last found to have signed it; spares the arithmetic while nothing changes.
    signed_by: Cell<u64>,
}

impl CertificateFacts {
    /// Bytes that this takes, its own included; an estimate.
    pub fn bytes(&self) -> usize {
        let fact = |fact: &CertificateFact| {
            let names = fact
                .names
                .iter()
                .map(|name| piece(name.len()) + 2 * size_of::<Box<str>>());
            size_of::<CertificateFact>() + piece(fact.der.len()) + names.sum::<usize>()
        };
        let facts = self.authorities.iter().chain(&self.leaf);
        piece(size_of::<Self>()) + facts.map(fact).sum::<usize>()
    }
}

/// Reads the `data` of a Secret, in base64 as the API server sends it. `None` when it holds no certificate files.
pub fn read(data: &BTreeMap<String, String>) -> Option<Box<CertificateFacts>> {
    if ![AUTHORITY_FILES.0, LEAF_FILES.0]
        .iter()
        .any(|file| data.contains_key(*file))
    {
        return None;
    }
    let facts = CertificateFacts {
        authorities: certificates(data, AUTHORITY_FILES),
        leaf: certificates(data, LEAF_FILES).into_iter().next(),
    };
    Some(Box::new(facts))
}

/// The certificates of a file; none when one of them is unreadable, since TLS libraries would refuse the file too.
fn certificates(
    data: &BTreeMap<String, String>,
    (file, key): (&str, &str),
) -> Vec<CertificateFact> {
    let Some(pem) = data.get(file).and_then(|text| decode(text)) else {
        return Vec::new();
    };
    let key = data
        .get(key)
        .and_then(|text| decode(text))
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|pem| key_pair(&pem).ok());
    Pem::iter_from_buffer(&pem)
        .map(|block| CertificateFact::read(&block.ok()?.contents, key.as_ref()))
        .collect::<Option<_>>()
        .unwrap_or_default()
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    let text: serde::de::value::StrDeserializer<'_, ValueError> = base64.into_deserializer();
    ByteString::deserialize(text).ok().map(|bytes| bytes.0)
}

impl CertificateFact {
    fn read(der: &[u8], key: Option<&rcgen::KeyPair>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = parsed
            .subject_alternative_name()
            .ok()?
            .map(|names| names.value.general_names.clone())
            .unwrap_or_default()
            .into_iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.into()),
                _ => None,
            })
            .collect();
        Some(Self {
            not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?,
            names,
            is_authority: parsed.is_ca(),
            key_fits: key.is_some_and(|key| {
                parsed.public_key().subject_public_key.data == key.public_key_raw()
            }),
            der: der.into(),
            signed_by: Cell::new(0),
        })
    }

    /// True when `authority` signed this certificate.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let fingerprint = digest(&authority.der).max(1);
        if self.signed_by.get() == fingerprint {
            return true;
        }
        let (Ok((_, own)), Ok((_, issuer))) = (
            X509Certificate::from_der(&self.der),
            X509Certificate::from_der(&authority.der),
        ) else {
            return false;
        };
        let signed = own.issuer() == issuer.subject()
            && own.verify_signature(Some(issuer.public_key())).is_ok();
        if signed {
            self.signed_by.set(fingerprint);
        }
        signed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::certificate::{Material, authority, leaf, renewed_authority};

    /// As the API server shows `material`.
    fn data(material: &Material) -> BTreeMap<String, String> {
        let encoded = |text: &String| {
            let value = serde_json::to_value(ByteString(text.clone().into_bytes())).unwrap();
            value.as_str().unwrap().to_owned()
        };
        material
            .iter()
            .map(|(file, text)| (file.clone(), encoded(text)))
            .collect()
    }

    fn now() -> Timestamp {
        "2026-11-24T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_we_generate_is_found_in_order() {
        let ca = authority(now()).unwrap();
        let names = ["a.n.svc".to_owned(), "*.b.n.svc".to_owned()];
        let made = leaf(&ca, &names, now()).unwrap();
        let (ca, made) = (read(&data(&ca)).unwrap(), read(&data(&made)).unwrap());
        let (authority, leaf) = (&ca.authorities[0], made.leaf.as_ref().unwrap());
        assert!(authority.is_authority && authority.key_fits);
        assert!(!leaf.is_authority && leaf.key_fits);
        assert_eq!(
            leaf.names,
            names.iter().map(|n| n.as_str().into()).collect()
        );
        assert_eq!(
            leaf.not_after,
            now() + jiff::SignedDuration::from_hours(365 * 24)
        );
        assert!(leaf.is_signed_by(authority) && leaf.is_signed_by(authority));
        assert!(!authority.is_signed_by(leaf));
    }

    #[test]
    fn an_authority_of_the_same_name_did_not_sign() {
        let (one, other) = (authority(now()).unwrap(), authority(now()).unwrap());
        let made = read(&data(&leaf(&one, &["a".to_owned()], now()).unwrap())).unwrap();
        let other = read(&data(&other)).unwrap();
        assert!(!made.leaf.unwrap().is_signed_by(&other.authorities[0]));
    }

    #[test]
    fn a_renewed_authority_still_trusts_the_one_before() {
        let old = authority(now()).unwrap();
        let made = read(&data(&leaf(&old, &["a".to_owned()], now()).unwrap())).unwrap();
        let new = read(&data(&renewed_authority(&old, now()).unwrap())).unwrap();
        let leaf = made.leaf.unwrap();
        assert_eq!(new.authorities.len(), 2);
        assert!(!leaf.is_signed_by(&new.authorities[0]));
        assert!(leaf.is_signed_by(&new.authorities[1]));
    }

    #[test]
    fn damage_is_seen() {
        let ca = authority(now()).unwrap();
        let whole = leaf(&ca, &["a".to_owned()], now()).unwrap();
        let other = leaf(&ca, &["a".to_owned()], now()).unwrap();
        let with = |file: &str, text: &str| {
            let mut changed = whole.clone();
            changed.insert(file.to_owned(), text.to_owned());
            read(&data(&changed)).unwrap().leaf
        };
        assert!(with("tls.crt", "").is_none());
        assert!(
            with(
                "tls.crt",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            )
            .is_none()
        );
        assert!(!with("tls.key", &other["tls.key"]).unwrap().key_fits);
        assert!(!with("tls.key", "nonsense").unwrap().key_fits);
        assert!(with("more", "x").unwrap().key_fits);
    }

    #[test]
    fn secrets_of_other_kinds_have_none() {
        assert!(
            read(&data(&Material::from([(
                "password".to_owned(),
                "x".to_owned()
            )])))
            .is_none()
        );
        let garbage = BTreeMap::from([("ca.crt".to_owned(), "not base64!".to_owned())]);
        assert!(read(&garbage).unwrap().authorities.is_empty());
    }
}
