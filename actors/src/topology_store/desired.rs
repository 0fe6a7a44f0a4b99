//! What a cluster's specification puts into the topology: its cells and its databases, every field of meaning demanded
//! (`lessons.md` L-TOPO-06).

use crds::resolve::ResolvedCluster;
use serde::Serialize;
use thiserror::Error;

use crate::proto::clustermetadata as wire;

/// Why a specification cannot be put into the topology.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
pub enum Unusable {
    /// A durability policy that no data plane knows.
    #[error("durability policy {0:?} is none of AT_LEAST_2, MULTI_CELL_AT_LEAST_2")]
    Policy(String),
    /// A field that the data plane cannot do without.
    #[error("{0} is empty")]
    Empty(String),
    /// Watchers would take a key below such a root for another (`topology.md` 1.6).
    #[error("root {0:?} contains \"cells/\" or \"poolers/\"")]
    Root(String),
}

/// How many must hold a commit before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum DurabilityPolicy {
    /// Two poolers, wherever they are.
    AtLeastTwo,
    /// Poolers in two cells.
    MultiCellAtLeastTwo,
}

impl DurabilityPolicy {
    /// The policy of a name in a specification.
    ///
    /// # Errors
    /// [`Unusable::Policy`]: a record without a known quorum type would make every election impossible.
    pub fn named(name: &str) -> Result<Self, Unusable> {
        match name {
            "AT_LEAST_2" => Ok(DurabilityPolicy::AtLeastTwo),
            "MULTI_CELL_AT_LEAST_2" => Ok(DurabilityPolicy::MultiCellAtLeastTwo),
            other => Err(Unusable::Policy(other.to_owned())),
        }
    }

    /// The name in specifications and records.
    pub const fn name(self) -> &'static str {
        match self {
            DurabilityPolicy::AtLeastTwo => "AT_LEAST_2",
            DurabilityPolicy::MultiCellAtLeastTwo => "MULTI_CELL_AT_LEAST_2",
        }
    }

    /// `QuorumType` of the wire.
    pub const fn quorum_type(self) -> u64 {
        match self {
            DurabilityPolicy::AtLeastTwo => wire::QuorumType::AtLeastN as u64,
            DurabilityPolicy::MultiCellAtLeastTwo => wire::QuorumType::MultiCellAtLeastN as u64,
        }
    }

    /// N.
    pub const fn required(self) -> u32 {
        2
    }
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DesiredCell {
    /// Name.
    pub name: String,
    /// Endpoints of its store.
    pub servers: Vec<String>,
    /// Root of its store.
    pub root: String,
}

impl DesiredCell {
    /// From the spec of a Cell; for `store_of` see [`Desired::of`].
    pub fn of(spec: &crds::CellSpec, store_of: &impl Fn(&str) -> String) -> Self {
        let own = spec.topo_server.as_ref();
        let external = own.and_then(|own| own.external.as_ref());
        let given_root = match (external, own.and_then(|own| own.etcd.as_ref())) {
            (Some(external), _) => external.root_path.clone(),
            (None, Some(etcd)) => etcd.root_path.clone(),
            (None, None) if own.is_none() => Some(spec.global_topo_server.root_path.clone()),
            _ => None,
        };
        let servers = match (external, own) {
            (Some(external), _) => external.endpoints.clone(),
            (None, Some(_)) => vec![store_of(&spec.name)],
            (None, None) => vec![spec.global_topo_server.address.clone()],
        };
        Self {
            name: spec.name.clone(),
            servers,
            root: given_root
                .filter(|root| !root.is_empty())
                .unwrap_or_else(|| format!("/multigres/{}", spec.name)),
        }
    }

    /// True when the record says nothing else.
    pub fn matches(&self, record: &wire::Cell) -> bool {
        self.name == record.name && self.same_place(record)
    }

    /// True when the record points at the same store.
    pub fn same_place(&self, record: &wire::Cell) -> bool {
        self.servers == record.server_addresses && self.root == record.root
    }
}

/// Where backups go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Backup {
    /// A path that all poolers mount.
    Filesystem {
        /// Absolute path.
        path: String,
    },
    /// An object store.
    S3(S3),
}

/// An object store; texts that are not used are empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct S3 {
    /// Bucket.
    pub bucket: String,
    /// Region.
    pub region: String,
    /// Endpoint, when not AWS.
    pub endpoint: String,
    /// Prefix of all keys.
    pub key_prefix: String,
    /// Credentials from the environment.
    pub use_env_credentials: bool,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DesiredDatabase {
    /// Name.
    pub name: String,
    /// Where its backups go.
    pub backup: Backup,
    /// Backups are encrypted: poolers refuse to start without a key.
    pub encrypted: bool,
    /// All cells of the cluster, in their order in the specification.
    pub cells: Vec<String>,
    /// The policy of the first rule of its shards.
    pub durability: DurabilityPolicy,
}

impl DesiredDatabase {
    /// True when the record says nothing else in the fields that are ours.
    pub fn matches(&self, record: &wire::Database) -> bool {
        let location = record.backup_location.clone().unwrap_or_default();
        let policy = record
            .bootstrap_durability_policy
            .clone()
            .unwrap_or_default();
        let backup = match (&self.backup, location.location) {
            (
                Backup::Filesystem { path },
                Some(wire::backup_location::Location::Filesystem(found)),
            ) => *path == found.path,
            (Backup::S3(s3), Some(wire::backup_location::Location::S3(found))) => {
                (&s3.bucket, &s3.region, &s3.endpoint, &s3.key_prefix)
                    == (
                        &found.bucket,
                        &found.region,
                        &found.endpoint,
                        &found.key_prefix,
                    )
                    && s3.use_env_credentials == found.use_env_credentials
            }
            _ => false,
        };
        backup
            && self.name == record.name
            && self.encrypted == location.require_initial_repo_encryption
            && self.cells == record.cells
            && policy.policy_name == self.durability.name()
            && u64::try_from(policy.quorum_type) == Ok(self.durability.quorum_type())
            && u32::try_from(policy.required_count) == Ok(self.durability.required())
    }
}

/// All that a cluster puts into its topology.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// Cells, in the order of the specification.
    pub cells: Vec<DesiredCell>,
    /// Databases, in the order of the specification.
    pub databases: Vec<DesiredDatabase>,
}

impl Desired {
    /// From the resolved specification. `store_of` names the managed store of a cell: `<TopoServer>.<namespace>.svc:2379`.
    ///
    /// # Errors
    /// Every [`Unusable`] that was found; nothing of the cluster is registered then.
    pub fn of(
        resolved: &ResolvedCluster,
        store_of: impl Fn(&str) -> String,
    ) -> Result<Self, Vec<Unusable>> {
        let mut unusable = Vec::new();
        let mut desired = Desired::default();
        for spec in &resolved.cells {
            let cell = DesiredCell::of(spec, &store_of);
            if cell.root.contains("cells/") || cell.root.contains("poolers/") {
                unusable.push(Unusable::Root(cell.root.clone()));
            }
            if cell.servers.iter().all(String::is_empty) {
                unusable.push(Unusable::Empty(format!("endpoints of cell {}", cell.name)));
            }
            desired.cells.push(cell);
        }
        let cells: Vec<String> = desired.cells.iter().map(|cell| cell.name.clone()).collect();
        for group in &resolved.table_groups {
            let name = &group.database_name;
            // One record per database; its first table group is the default one.
            if desired.databases.iter().any(|known| known.name == *name) {
                continue;
            }
            match database(group, &cells) {
                Ok(database) => desired.databases.push(database),
                Err(why) => unusable.push(why),
            }
        }
        if unusable.is_empty() {
            Ok(desired)
        } else {
            Err(unusable)
        }
    }
}

fn database(group: &crds::TableGroupSpec, cells: &[String]) -> Result<DesiredDatabase, Unusable> {
    let name = &group.database_name;
    let given = group.backup.clone().unwrap_or_default();
    let backup = match given.s3 {
        Some(s3) if given.type_ == "s3" => {
            if s3.bucket.is_empty() || s3.region.is_empty() {
                return Err(Unusable::Empty(format!(
                    "bucket or region of the backups of database {name}"
                )));
            }
            Backup::S3(S3 {
                bucket: s3.bucket,
                region: s3.region,
                endpoint: s3.endpoint.unwrap_or_default(),
                key_prefix: s3.key_prefix.unwrap_or_default(),
                use_env_credentials: s3.use_env_credentials.unwrap_or_default(),
            })
        }
        _ => Backup::Filesystem {
            path: given
                .filesystem
                .and_then(|filesystem| filesystem.path)
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| "/backups".to_owned()),
        },
    };
    let policy = group.durability_policy.as_deref().unwrap_or_default();
    Ok(DesiredDatabase {
        name: name.clone(),
        backup,
        encrypted: given.encryption.is_some(),
        cells: cells.to_vec(),
        durability: DurabilityPolicy::named(if policy.is_empty() {
            "AT_LEAST_2"
        } else {
            policy
        })?,
    })
}
