//! Backups as the calls list them.

use actors::proto::{clustermetadata as wire, multipoolermanagerdata as manager};

use super::time;
use crate::{backup::Backup, name::ShardKey, pooler::Role};

/// Size of every backup, in bytes.
const SIZE: u64 = 57_164_428;
const POSTGRES_VERSION: &str = "17.11";

/// One backup.
pub fn metadata(key: &ShardKey, backup: &Backup) -> manager::BackupMetadata {
    let role = match backup.role {
        Role::Primary => wire::RoutingRole::Primary,
        Role::Replica => wire::RoutingRole::Replica,
    };
    manager::BackupMetadata {
        table_group: key.table_group.clone(),
        shard: key.shard.clone(),
        status: manager::backup_metadata::Status::Complete.into(),
        backup_id: backup.label.clone(),
        stop_lsn: backup.data.wal.head().to_string(),
        job_id: backup.job.clone(),
        backup_size_bytes: SIZE,
        r#type: backup.kind.short().to_owned(),
        multipooler_id: backup.pooler.name.clone(),
        routing_role: role.into(),
        start_timestamp: Some(time(backup.started)),
        stop_timestamp: Some(time(backup.stopped)),
        start_lsn: backup.start.to_string(),
        pg_version: POSTGRES_VERSION.to_owned(),
    }
}

/// All backups, oldest first; with a limit only the first so many.
pub fn list<'a>(
    key: &ShardKey,
    backups: impl IntoIterator<Item = &'a Backup>,
    limit: u32,
) -> manager::GetBackupsResponse {
    let count = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = if limit == 0 { usize::MAX } else { count };
    manager::GetBackupsResponse {
        backups: backups
            .into_iter()
            .take(count)
            .map(|backup| metadata(key, backup))
            .collect(),
    }
}
