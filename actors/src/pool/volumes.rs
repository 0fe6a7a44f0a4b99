//! The volumes of a pool pod.

use super::pod::Builder;
use crate::shape::{
    EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, ProjectedVolumeSource,
    SecretProjection, Text, Volume, VolumeProjection,
};
use crate::shard::backup_volume;
use crate::workload::{self, READABLE, config_volume, item, secret_volume};

/// Mode of the pgBackRest key: it refuses a key that others may read.
const KEY_MODE: i32 = 0o440;

impl<'a> Builder<'a> {
    /// In the order of `workloads.md` 7.6.
    pub(super) fn volumes(&self, claim: String) -> Vec<Volume<'a>> {
        let spec = &self.shard.spec;
        let claimed = |name, claim_name: String| Volume {
            name,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name.into(),
            }),
            ..Volume::default()
        };
        let backup_data = if backup_volume::storage(self.shard).is_some() {
            claimed("backup-data", backup_volume::name(self.identity))
        } else {
            Volume {
                name: "backup-data",
                empty_dir: Some(EmptyDirVolumeSource {}),
                ..Volume::default()
            }
        };
        let password = &spec.postgres_password_secret_ref;
        let of = |suffix| self.identity.suffixed(suffix);
        let mut volumes = vec![
            claimed("pgdata", claim),
            backup_data,
            config_volume("pg-hba-template", of("pg-hba"), Vec::new()),
            secret_volume(
                "postgres-password",
                &password.name,
                READABLE,
                vec![item(&password.key, "password")],
            ),
            config_volume(
                "postgres-config",
                of("postgres-config"),
                vec![item("postgresql.conf", "postgresql.conf")],
            ),
            config_volume(
                "postgres-exporter-queries",
                of("exporter-queries"),
                Vec::new(),
            ),
        ];
        if let Some(backup) = &spec.backup {
            let sources = match workload::own_pgbackrest_secret(backup) {
                Some(secret) => vec![projection(
                    secret,
                    &[
                        ("ca.crt", "ca.crt"),
                        ("tls.crt", "pgbackrest.crt"),
                        ("tls.key", "pgbackrest.key"),
                    ],
                )],
                None => vec![
                    projection(of("pgbackrest-ca"), &[("ca.crt", "ca.crt")]),
                    projection(
                        of("pgbackrest-tls"),
                        &[("tls.crt", "pgbackrest.crt"), ("tls.key", "pgbackrest.key")],
                    ),
                ],
            };
            volumes.push(Volume {
                name: "pgbackrest-certs",
                projected: Some(ProjectedVolumeSource {
                    default_mode: KEY_MODE,
                    sources,
                }),
                ..Volume::default()
            });
            if let Some(encryption) = &backup.encryption {
                volumes.push(secret_volume(
                    "pgbackrest-cipher",
                    &encryption.secret_name,
                    READABLE,
                    Vec::new(),
                ));
            }
        }
        volumes.extend(self.tls().volumes);
        volumes.extend(self.telemetry("pgctld").volume);
        volumes
    }
}

fn projection<'a>(name: impl Into<Text<'a>>, files: &[(&'a str, &'a str)]) -> VolumeProjection<'a> {
    VolumeProjection {
        secret: SecretProjection {
            name: name.into(),
            items: files.iter().map(|(key, path)| item(key, path)).collect(),
        },
    }
}
