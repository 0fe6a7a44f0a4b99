//! The objects of one pool in one cell: headless Service, claims; its pods are in [`super::pod`].

use crds::name::Limit;
use crds::{PoolSpec, Shard, ShardSpec};

use super::containers::{EXPORTER_PORT, PG_PORT, POOLER_GRPC, POOLER_HTTP};
pub use super::pod::{Inputs, pod, pod_with, secrets};
use crate::labels;
use crate::object::{Desired, Kind};
use crate::shard::identity::Identity;
use crate::workload::{self, RenderError, service_port};

/// Name of one pod.
pub fn pod_name(shard: &Shard, pool: &str, cell: &str, index: i32) -> String {
    let cluster = shard
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(labels::CLUSTER))
        .map_or("", String::as_str);
    let ShardSpec {
        database_name,
        table_group_name,
        shard_name,
        ..
    } = &shard.spec;
    crds::name::pool_pod(
        cluster,
        database_name,
        table_group_name,
        shard_name,
        pool,
        cell,
        index,
    )
}

/// Name of one pod's claim.
pub fn claim_name(shard: &Shard, pool: &str, cell: &str, index: i32) -> String {
    claim_of(&pod_name(shard, pool, cell, index))
}

/// Name of the claim of a pod.
pub fn claim_of(pod: &str) -> String {
    format!("data-{pod}")
}

/// Name of the Service that names the pods.
pub fn headless_name(identity: &Identity<'_>, pool: &str, cell: &str) -> String {
    identity.joined(Limit::Service, &["pool", pool, cell, "headless"])
}

/// The Service that names the pods, ready or not.
///
/// # Errors
/// When the Shard is not one from the API server, or belongs to no cluster.
pub fn headless_service(shard: &Shard, pool: &str, cell: &str) -> Result<Desired, RenderError> {
    let identity = Identity::new(shard)?;
    let own = identity.pool_labels(pool, cell);
    let service = workload::headless(
        labels::selector(&own),
        vec![
            service_port("http", POOLER_HTTP),
            service_port("grpc", POOLER_GRPC),
            service_port("postgres", PG_PORT),
            service_port("metrics", EXPORTER_PORT),
        ],
    );
    let metadata = identity
        .owner
        .child(headless_name(&identity, pool, cell), own);
    Ok(Desired::new(Kind::Service, &metadata, &service)?)
}

/// The data volume of one pod.
///
/// # Errors
/// When the Shard is not one from the API server, or has no such pool.
pub fn claim(shard: &Shard, pool: &str, cell: &str, index: i32) -> Result<Desired, RenderError> {
    let identity = Identity::new(shard)?;
    let spec = pool_spec(shard, pool)?;
    let metadata = identity.claim(
        claim_name(shard, pool, cell, index),
        identity.pool_labels(pool, cell),
        deleted_with_shard(shard, spec),
    );
    let claim = workload::claim_spec(spec.storage.as_ref(), "1Gi");
    Ok(Desired::new(
        Kind::PersistentVolumeClaim,
        &metadata,
        &claim,
    )?)
}

/// True when the claims of a pool go with the Shard: its own policy, else the Shard's.
pub fn deleted_with_shard(shard: &Shard, pool: &PoolSpec) -> bool {
    let policy = crds::resolve::merge_pvc_policy(
        pool.pvc_deletion_policy.as_ref(),
        shard.spec.pvc_deletion_policy.as_ref(),
    );
    workload::deleted_with_owner(policy.as_ref())
}

/// The pool of this name.
pub(super) fn pool_spec<'a>(shard: &'a Shard, pool: &str) -> Result<&'a PoolSpec, RenderError> {
    shard
        .spec
        .pools
        .get(pool)
        .ok_or_else(|| RenderError::Invalid(format!("no pool {pool}")))
}
