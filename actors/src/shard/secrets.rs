//! The user's Secrets that the pods of a Shard mount. They are never changed, copied or labelled; what is wrong with one is
//! told, and pods are made only when all of them are known to be usable, or they would hang (`workloads.md` 7.2, 12).

use crds::Shard;
use jiff::{SignedDuration, Timestamp};

use crate::action::Decision;
use crate::object::{Key, Kind};
use crate::room::Observed;
use crate::status::{Condition, Obstacle};
use crate::store::Reference;
use crate::workload;

/// How long before its end the user is told to renew a certificate.
const BEFORE_EXPIRY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A Secret that must hold these keys.
struct Required<'a> {
    name: &'a str,
    keys: Vec<&'a str>,
    reason: &'static str,
    field: &'static str,
}

fn required(shard: &Shard) -> Vec<Required<'_>> {
    let password = &shard.spec.postgres_password_secret_ref;
    let mut all = vec![Required {
        name: &password.name,
        keys: vec![&password.key],
        reason: "PasswordSecretInvalid",
        field: "spec.postgresPasswordSecretRef",
    }];
    let Some(backup) = &shard.spec.backup else {
        return all;
    };
    if let Some(name) = certificates_of(shard) {
        all.push(Required {
            name,
            keys: vec!["ca.crt", "tls.crt", "tls.key"],
            reason: "CertificateSecretInvalid",
            field: "backup.pgbackrestTLS.secretName",
        });
    }
    if let Some(encryption) = &backup.encryption {
        all.push(Required {
            name: &encryption.secret_name,
            keys: vec!["keys.json"],
            reason: "CipherSecretInvalid",
            field: "backup.encryption.secretName",
        });
    }
    let s3 = backup.s3.as_ref().filter(|_| workload::is_s3(backup));
    if let Some(name) = s3
        .and_then(|s3| s3.credentials_secret.as_deref())
        .filter(|n| !n.is_empty())
    {
        all.push(Required {
            name,
            keys: vec!["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            reason: "CredentialsSecretInvalid",
            field: "backup.s3.credentialsSecret",
        });
    }
    all
}

/// The Secret with the user's own certificates for pgBackRest.
fn certificates_of(shard: &Shard) -> Option<&str> {
    let tls = shard.spec.backup.as_ref()?.pgbackrest_tls.as_ref()?;
    tls.secret_name.as_deref().filter(|name| !name.is_empty())
}

/// Declares the Secrets, so that they are read and watched.
pub fn refer<S>(decision: &mut Decision<S>, observed: &Observed, shard: &Shard) {
    let namespace = &observed.me.key().namespace;
    for secret in required(shard) {
        let key = Key::new(Kind::Secret, namespace, secret.name);
        if !decision.references.contains(&key) {
            decision.references.push(key);
        }
    }
}

/// What is wrong with them. What has not been read yet is not wrong.
pub fn obstacles(observed: &Observed, shard: &Shard) -> Vec<Obstacle> {
    let namespace = &observed.me.key().namespace;
    let told = |secret: Required<'_>| {
        let problem = problem(observed, &secret).err()??;
        Some(Obstacle {
            reason: secret.reason,
            message: format!(
                "{problem}: create it in namespace {namespace}; it is named by {} of the MultigresCluster",
                secret.field
            ),
        })
    };
    required(shard).into_iter().filter_map(told).collect()
}

/// True once all of them are known to be usable.
pub fn known(observed: &Observed, shard: &Shard) -> bool {
    required(shard)
        .iter()
        .all(|secret| problem(observed, secret).is_ok())
}

/// `Err(None)` while it has not been read.
fn problem(observed: &Observed, secret: &Required<'_>) -> Result<(), Option<String>> {
    let name = secret.name;
    let key = Key::new(Kind::Secret, &observed.me.key().namespace, name);
    let entry = match observed.references.get(&key) {
        None | Some(Reference::Unknown) => return Err(None),
        Some(Reference::Absent) => return Err(Some(format!("Secret {name} does not exist"))),
        Some(Reference::Present(entry)) => entry,
    };
    for key in &secret.keys {
        match entry.data.get(*key) {
            None => return Err(Some(format!("Secret {name} has no key {key:?}"))),
            Some(0) => return Err(Some(format!("key {key:?} of Secret {name} is empty"))),
            Some(_) => {}
        }
    }
    Ok(())
}

/// What is to be told about the user's own certificates: they expire, and nobody but the user can renew them. With the
/// instant at which there will be something to tell.
pub fn expiry(
    observed: &Observed,
    shard: &Shard,
    now: Timestamp,
) -> (Option<Condition>, Option<Timestamp>) {
    let certificate = || {
        let name = certificates_of(shard)?;
        let key = Key::new(Kind::Secret, &observed.me.key().namespace, name);
        let Some(Reference::Present(entry)) = observed.references.get(&key) else {
            return None;
        };
        Some((name, entry.certificates.as_ref()?.leaf.as_ref()?.not_after))
    };
    let Some((name, end)) = certificate() else {
        return (None, None);
    };
    let due = end.checked_sub(BEFORE_EXPIRY).unwrap_or(Timestamp::MIN);
    if now < due {
        return (None, Some(due));
    }
    let (reason, verb, wake) = if now < end {
        ("CertificateExpiresSoon", "expires", Some(end))
    } else {
        ("CertificateExpired", "expired", None)
    };
    let message = format!(
        "the certificate in Secret {name} {verb} at {end}: renew it, and restart the pool pods for them to load it"
    );
    (
        Some(Condition::new("CertificatesValid", false, reason, message)),
        wake,
    )
}
