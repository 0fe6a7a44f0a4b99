//! One pool pod: what surrounds its containers.

use crds::{PoolSpec, Shard};

use super::containers::{GRACE_SECONDS, POSTGRES_ID};
use super::objects::{claim_name, headless_name, pod_name, pool_spec};
use super::spec_hash;
use crate::canonical::{self, Written};
use crate::labels::{self, Labels};
use crate::object::{Desired, Kind};
use crate::secrets::Needed;
use crate::shape::{Container, PodSecurityContext, PodSpec};
use crate::shard::identity::Identity;
use crate::shard::objects::{config, nodes, pull};
use crate::shard::postgres_config::Hashes;
use crate::tls::PAIR_AND_CA;
use crate::workload::{self, RenderError};

/// What of a pod cannot be read from its Shard.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The hashes of the PostgreSQL settings.
    pub hashes: &'a Hashes,
    /// Hash over the Secrets of [`secrets`]; empty without any.
    pub certificates: &'a str,
}

/// One pod of a Shard without `postgresConfigRef`, as if no Secret held anything.
///
/// # Errors
/// As [`pod_with`].
pub fn pod(shard: &Shard, pool: &str, cell: &str, index: i32) -> Result<Desired, RenderError> {
    let hashes = config(shard, &Identity::new(shard)?, None).hashes;
    let inputs = Inputs {
        hashes: &hashes,
        certificates: "",
    };
    pod_with(shard, (pool, cell), index, inputs)
}

/// The Secrets with certificates that programs of a pod read once, when they start: a pod is not made without them, and is
/// replaced when they change (`workloads.md` T13). The generated ones of pgBackRest are not among them: they are made anew
/// whenever a pool is added, which is no reason to restart anything (T30).
///
/// # Errors
/// When the Shard is not one from the API server, or has no such pool.
pub fn secrets(shard: &Shard, pool: &str, cell: &str) -> Result<Vec<Needed>, RenderError> {
    let builder = Builder {
        shard,
        identity: &Identity::new(shard)?,
        spec: pool_spec(shard, pool)?,
        cell,
    };
    let mut needed = builder.tls().secrets;
    let given = shard.spec.backup.as_ref();
    if let Some(name) = given.and_then(workload::own_pgbackrest_secret) {
        needed.push(Needed::checked(name.to_owned(), PAIR_AND_CA));
    }
    Ok(needed)
}

/// One pod, with the hashes that tell later whether it is still the pod we want.
///
/// # Errors
/// When the Shard is not one from the API server, has no such pool, or gives the pooler another user than PostgreSQL.
pub fn pod_with(
    shard: &Shard,
    (pool, cell): (&str, &str),
    index: i32,
    inputs: Inputs<'_>,
) -> Result<Desired, RenderError> {
    let Inputs {
        hashes,
        certificates,
    } = inputs;
    let identity = Identity::new(shard)?;
    let builder = Builder {
        shard,
        identity: &identity,
        spec: pool_spec(shard, pool)?,
        cell,
    };
    let name = pod_name(shard, pool, cell, index);
    let subdomain = headless_name(&identity, pool, cell);
    let spec = PodSpec {
        subdomain: Some(&subdomain),
        ..builder.spec(&name, claim_name(shard, pool, cell, index))?
    };
    let mut annotations = Labels::from(labels::SCRAPE);
    annotations.extend([
        (labels::PROJECT_REF, identity.project),
        (labels::CONFIG_HASH, &hashes.restart),
        (labels::RELOAD_HASH, &hashes.reload),
        (labels::TLS_HASH, certificates),
    ]);
    annotations.retain(|key, hash| *key == labels::PROJECT_REF || !hash.is_empty());
    let spec = canonical::text_without_nulls(&spec)?;
    let hash = spec_hash::of(&annotations, &spec);
    annotations.insert(labels::SPEC_HASH, &hash);
    let mut metadata = identity
        .owner
        .child(name.as_str(), identity.pool_labels(pool, cell));
    metadata.annotations = annotations;
    Ok(Desired::new(Kind::Pod, &metadata, &Written(&spec))?)
}

/// What the parts of a pod are made from.
pub(super) struct Builder<'a> {
    pub shard: &'a Shard,
    pub identity: &'a Identity<'a>,
    pub spec: &'a PoolSpec,
    pub cell: &'a str,
}

impl<'a> Builder<'a> {
    fn spec(&self, name: &'a str, claim: String) -> Result<PodSpec<'a>, RenderError> {
        let pull = pull(self.shard);
        let pulled = |container: Container<'a>| Container {
            image_pull_policy: pull.policy,
            ..container
        };
        let backup = self.shard.spec.backup.as_ref();
        let account = backup
            .and_then(|b| b.s3.as_ref())
            .and_then(|s3| workload::text(&s3.service_account_name));
        Ok(PodSpec {
            hostname: Some(name),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            // Without a group the projected certificates belong to root and PostgreSQL cannot read them.
            security_context: PodSecurityContext {
                fs_group: Some(self.spec.fs_group.unwrap_or(POSTGRES_ID)),
                fs_group_change_policy: Some("OnRootMismatch"),
                ..workload::pod_security()
            },
            service_account_name: account,
            automount_service_account_token: false,
            node_selector: nodes(self.shard, self.cell),
            affinity: self.spec.affinity.as_ref(),
            tolerations: &self.spec.tolerations,
            image_pull_secrets: pull.secrets,
            // A sidecar stops after the containers, so the pooler can still ask it to stop PostgreSQL.
            init_containers: vec![pulled(self.postgres())],
            containers: vec![pulled(self.multipooler(name)?), pulled(self.exporter())],
            volumes: self.volumes(claim),
            ..PodSpec::default()
        })
    }
}
