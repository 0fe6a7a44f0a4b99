//! Keys of the topology (`topology.md` 1.2): one place that builds them and one that reads them.

use serde::Serialize;

/// A shard's place in every key and label: database, table group, shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ShardId {
    /// Database.
    pub database: Box<str>,
    /// Table group.
    pub table_group: Box<str>,
    /// Shard.
    pub shard: Box<str>,
}

impl ShardId {
    /// All three parts: none can be left out, so that no shard ever reads another's records.
    pub fn new(database: &str, table_group: &str, shard: &str) -> Self {
        Self {
            database: database.into(),
            table_group: table_group.into(),
            shard: shard.into(),
        }
    }
}

/// A process of the data plane that registers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Component {
    /// A pooler.
    Pooler,
    /// A gateway.
    Gateway,
    /// A multiorch.
    Orch,
}

impl Component {
    const ALL: [Component; 3] = [Component::Pooler, Component::Gateway, Component::Orch];

    /// Folder, first word of the id, last segment of the key.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Component::Pooler => ("poolers", "multipooler", "Pooler"),
            Component::Gateway => ("gateways", "multigateway", "Gateway"),
            Component::Orch => ("orchs", "multiorch", "Orch"),
        }
    }

    /// The id of a process in keys and metrics.
    pub fn id(self, cell: &str, name: &str) -> String {
        format!("{}-{cell}-{name}", self.words().1)
    }
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Path {
    /// The record of a cell.
    Cell(Box<str>),
    /// The record of a database.
    Database(Box<str>),
    /// The claim of the multiorch that initialises a shard.
    InitClaim(ShardId),
    /// The lease of a running backup.
    BackupLock(ShardId),
    /// The record of a process, by its whole id.
    Process(Component, Box<str>),
}

impl Path {
    /// The key under a root.
    pub fn under(&self, root: &str) -> String {
        let root = root.trim_end_matches('/');
        match self {
            Path::Cell(name) => format!("{root}/cells/{name}/Cell"),
            Path::Database(name) => format!("{root}/databases/{name}/Database"),
            Path::InitClaim(id) => format!(
                "{root}/databases/{}/{}/{}/ShardInitClaim",
                id.database, id.table_group, id.shard
            ),
            Path::BackupLock(id) => format!(
                "{root}/backups/{}/{}/{}/lock",
                id.database, id.table_group, id.shard
            ),
            Path::Process(component, id) => {
                let (folder, _, last) = component.words();
                format!("{root}/{folder}/{id}/{last}")
            }
        }
    }

    /// Reads a key below a root; `None` for keys that are not ours to know.
    pub fn parse(root: &str, key: &str) -> Option<Self> {
        let relative = key
            .strip_prefix(root.trim_end_matches('/'))?
            .strip_prefix('/')?;
        let parts: Vec<&str> = relative.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        match parts[..] {
            ["cells", name, "Cell"] => Some(Path::Cell(name.into())),
            ["databases", name, "Database"] => Some(Path::Database(name.into())),
            ["databases", database, group, shard, "ShardInitClaim"] => {
                Some(Path::InitClaim(ShardId::new(database, group, shard)))
            }
            ["backups", database, group, shard, "lock"] => {
                Some(Path::BackupLock(ShardId::new(database, group, shard)))
            }
            [folder, id, last] => Component::ALL
                .into_iter()
                .find(|component| {
                    let words = component.words();
                    (words.0, words.2) == (folder, last)
                })
                .map(|component| Path::Process(component, id.into())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_data_plane() {
        let shard = ShardId::new("postgres", "default", "0-inf");
        let id = Component::Pooler.id("zone1", "p-1a2b3c4d");
        for (path, key) in [
            (Path::Cell("zone1".into()), "/r/cells/zone1/Cell"),
            (
                Path::Database("postgres".into()),
                "/r/databases/postgres/Database",
            ),
            (
                Path::InitClaim(shard.clone()),
                "/r/databases/postgres/default/0-inf/ShardInitClaim",
            ),
            (
                Path::BackupLock(shard),
                "/r/backups/postgres/default/0-inf/lock",
            ),
            (
                Path::Process(Component::Pooler, id.into()),
                "/r/poolers/multipooler-zone1-p-1a2b3c4d/Pooler",
            ),
            (
                Path::Process(Component::Gateway, "g".into()),
                "/r/gateways/g/Gateway",
            ),
            (
                Path::Process(Component::Orch, "o".into()),
                "/r/orchs/o/Orch",
            ),
        ] {
            assert_eq!(path.under("/r"), key);
            assert_eq!(Path::parse("/r", key), Some(path.clone()));
            assert_eq!(Path::parse("/r/", key), Some(path));
        }
    }

    #[test]
    fn keys_of_others_are_not_read() {
        for key in [
            "/r",
            "/r/",
            "/rx/cells/a/Cell",
            "/r/cells//Cell",
            "/r/cells/a/Cellar",
            "/r/poolersX/a/Pooler",
            "/r/poolers/a/Gateway",
            "/r/databases/d/g/Database",
            "/r/databases/d/g/s/locks/123",
            "/other/cells/a/Cell",
        ] {
            assert_eq!(Path::parse("/r", key), None, "{key}");
        }
    }
}
