//! What a MultigresCluster asks cert-manager for: a certificate per component that talks mTLS, one for the operator itself
//! (`lessons.md` L-CERT-05), and the one that PostgreSQL clients see (`workloads.md` 11.1, 11.2).

use crds::certificate::Issuance;
use crds::resolve::ResolvedCluster;
use serde_json::{Value, json};

use crate::action::Action;
use crate::entry::Entry;
use crate::labels;
use crate::object::{Desired, Key, Kind};
use crate::plan::Plan;
use crate::secrets::Needed;
use crate::status::{Condition, condition, is_true, text};
use crate::tls::{OPERATOR, PAIR, PAIR_AND_CA, public_secret};
use crate::workload::{Owner, RenderError, certificate_name};

/// Label value of Certificates and of the Secrets they are issued into.
pub const COMPONENT: &str = "certificate";

/// Components with a certificate of their own.
const COMPONENTS: [&str; 5] = [
    "multiadmin",
    "multigateway",
    "multiorch",
    "multipooler",
    OPERATOR,
];

/// Life of a certificate: 1860 days.
const DURATION: &str = "44640h0m0s";

/// Most bytes of a common name.
const COMMON_NAME: usize = 64;

/// Annotation by which cert-manager marks the Secrets it writes.
const ISSUED_FOR: &str = "cert-manager.io/certificate-name";

/// Renders the Certificates.
///
/// # Errors
/// When one cannot be serialised.
pub fn render(
    owner: &Owner<'_>,
    resolved: &ResolvedCluster,
    issuance: &Issuance,
) -> Result<Vec<Desired>, RenderError> {
    let mut all = Vec::new();
    if resolved.internal_tls {
        for component in COMPONENTS {
            let identity = certificate_name(component, owner.name, owner.namespace);
            let mut names = vec![identity.clone()];
            if component == "multigateway" {
                // Gateways call each other with the one server name they have for poolers (`workloads.md` T44).
                names.push(certificate_name("multipooler", owner.name, owner.namespace));
            }
            let usages: &[&str] = if component == OPERATOR {
                &["client auth"]
            } else {
                &["server auth", "client auth"]
            };
            all.push(certificate(
                owner, issuance, &identity, &identity, &names, usages,
            )?);
        }
    }
    if let Some(name) = &resolved.cert_common_name {
        let rest = name.strip_prefix("db.").map(str::to_owned);
        let names: Vec<String> = std::iter::once(name.clone()).chain(rest).collect();
        let secret = public_secret(owner.name);
        all.push(certificate(
            owner,
            issuance,
            name,
            &secret,
            &names,
            &["server auth"],
        )?);
    }
    Ok(all)
}

/// The Secrets that must exist where cert-manager does not.
pub fn secrets(owner: &Owner, resolved: &ResolvedCluster) -> Vec<Needed> {
    let components = COMPONENTS.iter().filter(|_| resolved.internal_tls);
    let mut needed: Vec<Needed> = components
        .map(|component| {
            let name = certificate_name(component, owner.name, owner.namespace);
            Needed::issued(name, PAIR_AND_CA)
        })
        .collect();
    if resolved.cert_common_name.is_some() {
        needed.push(Needed::issued(public_secret(owner.name), PAIR));
    }
    needed
}

fn certificate(
    owner: &Owner<'_>,
    issuance: &Issuance,
    name: &str,
    secret: &str,
    names: &[String],
    usages: &[&str],
) -> Result<Desired, RenderError> {
    let further = [(labels::CLUSTER, owner.name)];
    let own = labels::standard(owner.name, COMPONENT, &further);
    let usages: Vec<&str> = ["digital signature", "key encipherment"]
        .iter()
        .chain(usages)
        .copied()
        .collect();
    let spec = json!({
        "secretName": secret,
        // So that we see the Secret, and notice when it is renewed.
        "secretTemplate": {"labels": own},
        "dnsNames": names,
        "literalSubject": format!("{}, CN={}", issuance.subject, common_name(name)),
        "duration": DURATION,
        "privateKey": {"algorithm": "RSA", "size": 2048},
        "usages": usages,
        "issuerRef": {"kind": issuance.kind, "name": issuance.name, "group": issuance.group},
    });
    let metadata = owner.child(name, own);
    Ok(Desired::new(Kind::Certificate, &metadata, &spec)?)
}

/// A name cut to what a certificate can carry, with a hash where it was cut (L-CERT-03).
pub fn common_name(name: &str) -> String {
    if name.len() <= COMMON_NAME {
        return name.to_owned();
    }
    let hash = crds::digest::sha256(name, 8);
    let kept: String = name.chars().take(COMMON_NAME - 9).collect();
    format!("{kept}-{hash}")
}

/// Issued Secrets go with the cluster, and with their Certificate once it is no longer wanted. cert-manager leaves them behind.
pub fn tidy<S>(plan: &mut Plan<'_, S>, wanted: &[Desired]) {
    let certificates: Vec<&Desired> = wanted
        .iter()
        .filter(|desired| desired.key.kind == Kind::Certificate)
        .collect();
    plan.prune(Kind::Certificate, &certificates);
    let labels = [("app.kubernetes.io/component", COMPONENT)];
    let secrets = plan.observed.labelled(Kind::Secret, &labels);
    let secrets: Vec<_> = secrets.filter(|secret| !secret.deleting).cloned().collect();
    for secret in secrets {
        let Some(issued_for) = secret.annotation(ISSUED_FOR) else {
            continue;
        };
        let namespace = &secret.key().namespace;
        let key = Key::new(Kind::Certificate, namespace, issued_for);
        let needed = certificates.iter().any(|certificate| {
            let name = certificate.body.pointer("/spec/secretName");
            name.and_then(Value::as_str) == Some(&secret.key().name)
        });
        if !needed && plan.observed.get(&key).is_none() {
            let action = Action::Delete {
                key: secret.key().clone(),
                uid: secret.uid.clone(),
                version: secret.version,
            };
            plan.decision
                .act("its Certificate is no longer wanted", action);
        } else if let Some(patch) = owned(&plan.observed.me, &secret) {
            let key = secret.key().clone();
            plan.decision.act(
                "an issued Secret goes with its cluster",
                Action::metadata(key, patch),
            );
        }
    }
}

/// Whether everything asked of cert-manager is issued; in its own words where it is not. `None` when nothing is asked.
pub fn told<S>(plan: &Plan<'_, S>, wanted: &[Desired]) -> Option<Condition> {
    let mut all = wanted
        .iter()
        .filter(|desired| desired.key.kind == Kind::Certificate)
        .peekable();
    all.peek()?;
    let told = all.find_map(|desired| {
        let seen = plan.observed.get(&desired.key);
        let status = seen.map(|certificate| certificate.status_value());
        let (reason, problem) = problem(&status.unwrap_or_default())?;
        Some((
            reason,
            format!("Certificate {}: {problem}", desired.key.name),
        ))
    });
    Some(match told {
        Some((reason, message)) => Condition::new("CertificatesReady", false, &reason, message),
        None => Condition::new(
            "CertificatesReady",
            true,
            "AllIssued",
            "every certificate that was asked for is issued",
        ),
    })
}

/// Why a Certificate is not Ready, with what cert-manager says of its last attempt.
fn problem(of: &Value) -> Option<(String, String)> {
    let Some(ready) = condition(of, "Ready") else {
        // One text until cert-manager says more.
        return Some(("Pending".to_owned(), "not issued yet".to_owned()));
    };
    if is_true(ready) {
        return None;
    }
    let mut message = text(ready, "message").to_owned();
    let failed = condition(of, "Issuing").filter(|issuing| text(issuing, "status") == "False");
    let why = failed.map_or("", |issuing| text(issuing, "message"));
    if !why.is_empty() {
        message = format!("{message}; {why}");
    }
    let reason = text(ready, "reason");
    let is_word = !reason.is_empty() && reason.chars().all(|c| c.is_ascii_alphanumeric());
    let reason = if is_word { reason } else { "NotReady" };
    Some((reason.to_owned(), message))
}

/// The patch that makes a Secret go with the cluster; None when it does.
fn owned(me: &Entry, secret: &Entry) -> Option<Value> {
    let observed = secret.comparable();
    let owners = observed.pointer("/metadata/ownerReferences");
    let mut owners = owners
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let ours = |owner: &Value| owner.get("uid").and_then(Value::as_str) == Some(&me.uid);
    if owners.iter().any(ours) {
        return None;
    }
    let key = me.key();
    owners.push(json!({
        "apiVersion": key.kind.api_version(), "kind": key.kind.name(), "name": key.name, "uid": me.uid,
    }));
    let version = secret.version.to_string();
    Some(json!({"uid": secret.uid, "resourceVersion": version, "ownerReferences": owners}))
}
