//! The system catalogue (`api.md` 7.7): database `postgres`, table group `default`, shard `0-inf`, where a manifest names none.

use std::sync::LazyLock;

use crate::{DatabaseConfig, MultigresClusterSpec, ShardConfig, TableGroupConfig};

static SYSTEM: LazyLock<[DatabaseConfig; 1]> = LazyLock::new(|| {
    let shard = ShardConfig {
        name: "0-inf".to_owned(),
        ..ShardConfig::default()
    };
    let group = TableGroupConfig {
        name: "default".to_owned(),
        default: Some(true),
        shards: vec![shard],
        ..TableGroupConfig::default()
    };
    [DatabaseConfig {
        name: "postgres".to_owned(),
        default: Some(true),
        tablegroups: vec![group],
        ..DatabaseConfig::default()
    }]
});

/// The databases of a cluster.
pub fn databases(spec: &MultigresClusterSpec) -> &[DatabaseConfig] {
    if spec.databases.is_empty() {
        &*SYSTEM
    } else {
        &spec.databases
    }
}

/// The table groups of a database.
pub fn table_groups(database: &DatabaseConfig) -> &[TableGroupConfig] {
    let system = || SYSTEM.first().map(|system| system.tablegroups.as_slice());
    if database.tablegroups.is_empty() {
        system().unwrap_or_default()
    } else {
        &database.tablegroups
    }
}

/// The shards of a table group.
pub fn shards(group: &TableGroupConfig) -> &[ShardConfig] {
    let system = || Some(SYSTEM.first()?.tablegroups.first()?.shards.as_slice());
    if group.shards.is_empty() {
        system().unwrap_or_default()
    } else {
        &group.shards
    }
}
