//! Built-in values (`api.md` 7). They are constants: what a release once resolved to, no later release resolves to something else.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::image::ComponentImages;
use crate::{
    BackupConfig, CellConfig, ComponentLogLevels, ContainerConfig, DatabaseConfig, EtcdSpec,
    FilesystemBackupConfig, GatewayBufferConfig, MultigatewaySpec, PoolSpec, PvcDeletionPolicy,
    S3BackupConfig, ShardConfig, StatelessSpec, StorageSpec, TableGroupConfig,
};

/// What the operator's own environment decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperatorDefaults {
    /// Images of components that are not pinned.
    pub images: ComponentImages,
}

impl OperatorDefaults {
    /// The compiled images with `MULTIGRES_IMAGE_*` variables over them.
    pub fn with_images(variables: &BTreeMap<String, String>) -> Self {
        Self {
            images: ComponentImages::compiled(variables),
        }
    }
}

/// Requests (cpu, memory) and memory limit (`api.md` 7.3). No CPU limits.
const RESOURCES: [(&str, &str, &str, &str); 7] = [
    ("multiadmin", "100m", "128Mi", "256Mi"),
    ("multiadmin-web", "50m", "64Mi", "128Mi"),
    ("etcd", "100m", "256Mi", "512Mi"),
    ("multigateway", "100m", "128Mi", "256Mi"),
    ("multiorch", "50m", "64Mi", "128Mi"),
    ("postgres", "100m", "256Mi", "512Mi"),
    ("multipooler", "100m", "128Mi", "256Mi"),
];

/// The given resources, or the component's when nothing at all is given (`api.md` trap T26: an empty map counts as given).
fn resources(
    given: Option<&ResourceRequirements>,
    component: &str,
) -> Option<ResourceRequirements> {
    if let Some(given) =
        given.filter(|r| r.requests.is_some() || r.limits.is_some() || r.claims.is_some())
    {
        return Some(given.clone());
    }
    let (_, cpu, memory, limit) = RESOURCES.iter().find(|(name, ..)| *name == component)?;
    let of = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())))
                .collect(),
        )
    };
    Some(ResourceRequirements {
        requests: of(&[("cpu", cpu), ("memory", memory)]),
        limits: of(&[("memory", limit)]),
        claims: None,
    })
}

/// One replica and the component's resources.
pub fn stateless(given: Option<&StatelessSpec>, component: &str) -> StatelessSpec {
    let given = given.cloned().unwrap_or_default();
    StatelessSpec {
        replicas: Some(given.replicas.unwrap_or(1)),
        resources: resources(given.resources.as_ref(), component),
        ..given
    }
}

/// A gateway that buffers.
pub fn gateway(given: Option<&MultigatewaySpec>) -> MultigatewaySpec {
    let given = given.cloned().unwrap_or_default();
    let buffer = given.buffer.unwrap_or_default();
    MultigatewaySpec {
        stateless: stateless(Some(&given.stateless), "multigateway"),
        buffer: Some(GatewayBufferConfig {
            enabled: Some(buffer.enabled.unwrap_or(true)),
            ..buffer
        }),
    }
}

/// Three members with one gibibyte each.
pub fn etcd(given: Option<&EtcdSpec>, root: &str) -> EtcdSpec {
    let given = given.cloned().unwrap_or_default();
    EtcdSpec {
        image: Some(given.image.unwrap_or_else(|| crate::image::ETCD.to_owned())),
        replicas: Some(given.replicas.unwrap_or(3)),
        storage: Some(storage(given.storage, "1Gi")),
        resources: resources(given.resources.as_ref(), "etcd"),
        root_path: Some(given.root_path.unwrap_or_else(|| root.to_owned())),
        pvc_deletion_policy: given.pvc_deletion_policy,
    }
}

fn storage(given: Option<StorageSpec>, size: &str) -> StorageSpec {
    let given = given.unwrap_or_default();
    StorageSpec {
        size: Some(
            given
                .size
                .filter(|s| !s.is_empty())
                .unwrap_or_else(|| size.to_owned()),
        ),
        ..given
    }
}

/// A pool with its cells known: two pods when it has one cell, since AT_LEAST_2 needs two, else one per cell.
pub fn pool(given: &PoolSpec) -> PoolSpec {
    let container = |given: Option<&ContainerConfig>, component| {
        let given = given.cloned().unwrap_or_default();
        Some(ContainerConfig {
            resources: resources(given.resources.as_ref(), component),
            ..given
        })
    };
    let replicas = if given.cells.len() == 1 { 2 } else { 1 };
    PoolSpec {
        replicas_per_cell: Some(given.replicas_per_cell.unwrap_or(replicas)),
        storage: Some(storage(given.storage.clone(), "1Gi")),
        postgres: container(given.postgres.as_ref(), "postgres"),
        multipooler: container(given.multipooler.as_ref(), "multipooler"),
        ..given.clone()
    }
}

/// `info` everywhere.
pub fn log_levels(given: Option<&ComponentLogLevels>) -> ComponentLogLevels {
    let given = given.cloned().unwrap_or_default();
    let level = |given: Option<String>| Some(given.unwrap_or_else(|| "info".to_owned()));
    ComponentLogLevels {
        pgctld: level(given.pgctld),
        multipooler: level(given.multipooler),
        multiorch: level(given.multiorch),
        multiadmin: level(given.multiadmin),
        multigateway: level(given.multigateway),
    }
}

/// `Delete` for both when the cluster says nothing (`api.md` trap T4).
pub fn cluster_policy(given: Option<&PvcDeletionPolicy>) -> PvcDeletionPolicy {
    let delete = || Some("Delete".to_owned());
    given.cloned().unwrap_or(PvcDeletionPolicy {
        when_deleted: delete(),
        when_scaled: delete(),
    })
}

/// The system catalogue: database `postgres`, table group `default`, shard `0-inf` (`api.md` 7.7).
pub fn catalogue(given: &[DatabaseConfig]) -> Vec<DatabaseConfig> {
    let mut databases = given.to_vec();
    if databases.is_empty() {
        databases.push(DatabaseConfig {
            name: "postgres".to_owned(),
            default: Some(true),
            ..DatabaseConfig::default()
        });
    }
    for database in &mut databases {
        if database.tablegroups.is_empty() {
            let group = TableGroupConfig {
                name: "default".to_owned(),
                default: Some(true),
                ..TableGroupConfig::default()
            };
            database.tablegroups.push(group);
        }
        for group in &mut database.tablegroups {
            if group.shards.is_empty() {
                group.shards.push(ShardConfig {
                    name: "0-inf".to_owned(),
                    ..ShardConfig::default()
                });
            }
        }
    }
    databases
}

/// Backup settings of a child over its parent's (`api.md` 8.2).
pub fn merge_backup(
    child: Option<&BackupConfig>,
    parent: Option<&BackupConfig>,
) -> Option<BackupConfig> {
    let (child, parent) = match (child, parent) {
        (None, parent) => return parent.cloned(),
        (Some(child), Some(parent)) if child.type_ == parent.type_ => (child, parent),
        (Some(child), _) => return Some(child.clone()),
    };
    let text = |a: &Option<String>, b: &Option<String>| {
        a.clone().filter(|t| !t.is_empty()).or_else(|| b.clone())
    };
    let filesystem = match (&child.filesystem, &parent.filesystem) {
        (Some(a), Some(b)) => {
            let (x, y) = (
                a.storage.clone().unwrap_or_default(),
                b.storage.clone().unwrap_or_default(),
            );
            Some(FilesystemBackupConfig {
                path: text(&a.path, &b.path),
                storage: Some(StorageSpec {
                    size: text(&x.size, &y.size),
                    class: text(&x.class, &y.class),
                    access_modes: if x.access_modes.is_empty() {
                        y.access_modes
                    } else {
                        x.access_modes
                    },
                }),
            })
        }
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    let s3 = match (&child.s3, &parent.s3) {
        (Some(a), Some(b)) => {
            let own = |a: &String, b: &String| if a.is_empty() { b.clone() } else { a.clone() };
            Some(S3BackupConfig {
                bucket: own(&a.bucket, &b.bucket),
                region: own(&a.region, &b.region),
                endpoint: text(&a.endpoint, &b.endpoint),
                key_prefix: text(&a.key_prefix, &b.key_prefix),
                use_env_credentials: a.use_env_credentials,
                credentials_secret: text(&a.credentials_secret, &b.credentials_secret),
                service_account_name: text(&a.service_account_name, &b.service_account_name),
            })
        }
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    Some(BackupConfig {
        type_: child.type_.clone(),
        filesystem,
        s3,
        pgbackrest_tls: child
            .pgbackrest_tls
            .clone()
            .or_else(|| parent.pgbackrest_tls.clone()),
        encryption: child
            .encryption
            .clone()
            .or_else(|| parent.encryption.clone()),
    })
}

/// A volume of 10Gi at /backups when nothing is said.
pub fn backup(given: Option<BackupConfig>) -> BackupConfig {
    let mut backup = given.unwrap_or(BackupConfig {
        type_: "filesystem".to_owned(),
        ..BackupConfig::default()
    });
    if backup.type_ == "filesystem" {
        let given = backup.filesystem.unwrap_or_default();
        backup.filesystem = Some(FilesystemBackupConfig {
            path: Some(
                given
                    .path
                    .filter(|p| !p.is_empty())
                    .unwrap_or_else(|| "/backups".to_owned()),
            ),
            storage: Some(storage(given.storage, "10Gi")),
        });
    }
    backup
}

/// The node selector of a cell (`workloads.md` 14).
pub fn node_labels(cell: &CellConfig) -> BTreeMap<String, String> {
    let zone = cell
        .zone_id
        .as_ref()
        .map(|zone| ("topology.k8s.aws/zone-id".to_owned(), zone.clone()));
    let region = cell
        .region
        .as_ref()
        .map(|region| ("topology.kubernetes.io/region".to_owned(), region.clone()));
    zone.or(region).into_iter().collect()
}
