//! cert-manager as the operator meets it: the kind Certificate, and somebody who issues what Certificates ask for.
#![allow(
    clippy::disallowed_methods,
    reason = "an issuer lives in real time and in a task of its own"
)]

use std::{collections::BTreeMap, pin::pin};

use anyhow::Context;
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt, watcher},
};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{certificates::authority, plane::Plane, stages};

const DEFINITION: &str = include_str!("../stages/certificate.yaml");
/// Field manager of what is issued.
const MANAGER: &str = "cert-manager-certificates-issuing";
/// Life of what is issued; what a Certificate asks for is longer, and issuers may give less.
const LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Issues until it is dropped.
#[derive(Debug)]
pub struct Issuer(JoinHandle<()>);

impl Drop for Issuer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Issuer {
    /// Installs the kind Certificate and starts to issue: one Secret for each generation of a Certificate.
    ///
    /// # Errors
    /// When the kind is there already, or no authority can be made.
    pub async fn start(plane: &Plane) -> anyhow::Result<Self> {
        install(plane).await?;
        let (client, authority) = (plane.client(), authority("issuer of the tests")?);
        Ok(Self(tokio::spawn(async move {
            let all = Api::<DynamicObject>::all_with(client.clone(), &resource());
            let mut events = pin!(
                watcher(all, watcher::Config::default())
                    .default_backoff()
                    .applied_objects()
            );
            loop {
                let outcome = match events.try_next().await {
                    Ok(None) => return,
                    Ok(Some(certificate)) => issue(&client, &authority, &certificate).await,
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = outcome {
                    eprintln!("the issuer goes on after: {error:#}");
                }
            }
        })))
    }
}

/// Installs the kind Certificate, with nobody who issues.
///
/// # Errors
/// When it is there already.
pub async fn install(plane: &Plane) -> anyhow::Result<()> {
    stages::define(&plane.client(), DEFINITION).await
}

fn resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "cert-manager.io",
        "v1",
        "Certificate",
    ))
}

/// What is read of a Certificate.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    secret_name: String,
    dns_names: Vec<String>,
    #[serde(default)]
    secret_template: serde_json::Value,
}

async fn issue(
    client: &Client,
    authority: &Authority,
    certificate: &DynamicObject,
) -> anyhow::Result<()> {
    let generation = certificate.metadata.generation.unwrap_or_default();
    let conditions = certificate.data.pointer("/status/conditions");
    let issued = conditions
        .and_then(|list| list.as_array())
        .into_iter()
        .flatten()
        .any(|one| one.get("observedGeneration").and_then(|of| of.as_i64()) == Some(generation));
    if issued || certificate.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = certificate.name_any();
    let namespace = certificate.namespace().context("no namespace")?;
    let asked: Asked =
        serde_json::from_value(certificate.data.get("spec").cloned().unwrap_or_default())?;
    let now = Timestamp::now();
    let (crt, key) = leaf(authority, &asked.dns_names, now)?;
    let params = PatchParams::apply(MANAGER).force();
    // Not `stringData`: it is never stored, so who applies it seems to change it every time.
    let data = [
        ("ca.crt", authority.pem()),
        ("tls.crt", crt),
        ("tls.key", key),
    ];
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {
            "name": asked.secret_name,
            "labels": asked.secret_template.get("labels"),
            "annotations": {"cert-manager.io/certificate-name": name},
        },
        "data": BTreeMap::from(data.map(|(file, text)| (file, ByteString(text.into_bytes())))),
    });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    secrets
        .patch(&asked.secret_name, &params, &Patch::Apply(secret))
        .await?;
    let status = json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "status": {
        "notAfter": second(now + LIFE)?,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "issued by the tests' issuer",
            "observedGeneration": generation, "lastTransitionTime": second(now)?,
        }],
    }});
    let all = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource());
    all.patch_status(&name, &params, &Patch::Apply(status))
        .await?;
    Ok(())
}

/// As the API server writes instants.
fn second(at: Timestamp) -> anyhow::Result<String> {
    Ok(at.round(jiff::Unit::Second)?.to_string())
}

/// Certificate and key in PEM. The key is on a curve, whatever was asked for: rcgen makes no RSA keys.
fn leaf(
    authority: &Authority,
    names: &[String],
    now: Timestamp,
) -> anyhow::Result<(String, String)> {
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    let mut params = CertificateParams::new(names)?;
    params.not_before = day(now);
    params.not_after = day(now + LIFE);
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
