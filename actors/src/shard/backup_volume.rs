//! The volume that all pods of a Shard back up to, unless their backups go to an object store.

use std::collections::BTreeSet;

use crds::{Shard, StorageSpec};

use super::identity::Identity;
use crate::object::{Desired, Key, Kind};
use crate::plan::Plan;
use crate::status::Condition;
use crate::storage_class;
use crate::workload::{self, RenderError};

/// The claim; `None` without backups on a volume.
///
/// # Errors
/// When the claim cannot be serialised.
pub fn claim(shard: &Shard, identity: &Identity<'_>) -> Result<Option<Desired>, RenderError> {
    let Some(storage) = storage(shard) else {
        return Ok(None);
    };
    let metadata = identity.claim(
        name(identity),
        identity.labels("shard-pool"),
        workload::deleted_with_owner(shard.spec.pvc_deletion_policy.as_ref()),
    );
    let spec = workload::claim_spec(Some(&storage), "10Gi");
    Ok(Some(Desired::new(
        Kind::PersistentVolumeClaim,
        &metadata,
        &spec,
    )?))
}

/// Settings of the volume; `None` without backups on one.
pub fn storage(shard: &Shard) -> Option<StorageSpec> {
    let backup = shard.spec.backup.as_ref()?;
    if workload::is_s3(backup) {
        return None;
    }
    let filesystem = backup.filesystem.as_ref();
    Some(
        filesystem
            .and_then(|f| f.storage.clone())
            .unwrap_or_default(),
    )
}

/// May a pod be made that mounts the volume? Not before its claim is there, ours, and no longer being provisioned.
///
/// # Errors
/// When a name cannot be made.
pub fn usable<S>(plan: &mut Plan<'_, S>, shard: &Shard) -> Result<bool, RenderError> {
    if storage(shard).is_none() {
        return Ok(true);
    }
    let name = name(&Identity::new(shard)?);
    let me = &plan.observed.me;
    let key = Key::new(Kind::PersistentVolumeClaim, &me.key().namespace, &name);
    let claim = plan.observed.get(&key).cloned();
    let Some(claim) = claim.filter(|claim| claim.belongs_to(me)) else {
        return Ok(false);
    };
    Ok(!storage_class::provisions(plan, &claim))
}

/// Name of the claim.
pub fn name(identity: &Identity<'_>) -> String {
    let Identity {
        cluster,
        database,
        table_group,
        shard,
        ..
    } = identity;
    crds::name::backup_claim(cluster, database, table_group, shard)
}

/// A volume that one node can mount, for pods of several cells: some would wait for it for ever, or all end up in one place
/// (`lessons.md` L-PVC-03).
pub fn unshareable(shard: &Shard) -> Option<Condition> {
    let storage = storage(shard)?;
    let cells: BTreeSet<&String> = shard
        .spec
        .pools
        .values()
        .flat_map(|pool| &pool.cells)
        .collect();
    let shareable = storage
        .access_modes
        .iter()
        .any(|mode| mode == "ReadWriteMany");
    if shareable || cells.len() < 2 {
        return None;
    }
    let message = "pods of several cells share the backup volume, but one node only can mount it: set \
                   backup.filesystem.storage.accessModes to [ReadWriteMany], or back up to s3";
    Some(Condition::new(
        "BackupVolumeShareable",
        false,
        "OneNodeOnly",
        message,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::Bed;

    /// L-PVC-03: one repository per shard, for all places where pods run; said when the volume cannot be in all of them.
    #[test]
    fn a_volume_for_one_node_is_told_when_pods_run_in_several_cells() {
        let cases = [
            (vec![vec!["a"]], vec![], true, "one cell"),
            (
                vec![vec!["a", "b"]],
                vec![],
                false,
                "two cells, default mode",
            ),
            (
                vec![vec!["a"], vec!["b"]],
                vec![],
                false,
                "two pools in different cells",
            ),
            (
                vec![vec!["a"], vec!["a"]],
                vec![],
                true,
                "two pools in one cell",
            ),
            (
                vec![vec!["a", "b"]],
                vec!["ReadWriteOnce"],
                false,
                "one node",
            ),
            (
                vec![vec!["a", "b"]],
                vec!["ReadWriteOncePod"],
                false,
                "one pod",
            ),
            (
                vec![vec!["a", "b"]],
                vec!["ReadWriteMany"],
                true,
                "many nodes",
            ),
            (
                vec![vec!["a", "b"]],
                vec!["ReadWriteOnce", "ReadWriteMany"],
                true,
                "many nodes too",
            ),
        ];
        for (pools, modes, fine, why) in cases {
            let mut bed = Bed::new();
            let pools = pools.iter().enumerate();
            bed.shard["spec"]["pools"] = pools
                .map(|(index, cells)| (format!("p{index}"), json!({"cells": cells})))
                .collect();
            bed.shard["spec"]["backup"]["filesystem"]["storage"]["accessModes"] = json!(modes);
            assert_eq!(unshareable(&bed.typed()).is_none(), fine, "{why}");
            bed.shard["spec"]["backup"] =
                json!({"type": "s3", "s3": {"bucket": "b", "region": "r"}});
            assert_eq!(unshareable(&bed.typed()), None, "{why}");
        }
    }

    #[test]
    fn there_is_a_claim_exactly_when_pods_mount_it() {
        let mut bed = Bed::new();
        let filesystem = bed.shard["spec"]["backup"].clone();
        let s3 = json!({"type": "s3", "s3": {"bucket": "b", "region": "r"}});
        for (backup, expected) in [(filesystem, true), (s3, false), (json!(null), false)] {
            bed.shard["spec"]["backup"] = backup;
            let shard = bed.typed();
            let claim = claim(&shard, &Identity::new(&shard).unwrap()).unwrap();
            let pod = crate::pool::objects::pod(&shard, "default", "a", 0).unwrap();
            let volumes = pod.body["spec"]["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|v| v["name"] == "backup-data").unwrap();
            assert_eq!(volume.get("persistentVolumeClaim").is_some(), expected);
            assert_eq!(claim.is_some(), expected);
        }
    }
}
