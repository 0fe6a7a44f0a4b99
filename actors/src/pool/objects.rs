//! The objects of one pool in one cell: headless Service, claims, pods.

use crds::name::Limit;
use crds::{PoolSpec, Shard, ShardSpec};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, PersistentVolumeClaim,
    PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec, ProjectedVolumeSource,
    SecretProjection, SecurityContext, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::labels;
use crate::object::{Desired, Kind};
use crate::pool::spec_hash;
use crate::shard::identity::Identity;
use crate::shard::objects::{backup_claim_name, config, nodes, pull};
use crate::shard::postgres_config::Hashes;
use crate::workload::{
    self, Attributes, READABLE, RenderError, Telemetry, config_volume, env, env_secret, item,
    mount, mount_ro, port, probes, secret_volume, service_port, strings,
};

/// How long a pooler serves on after it was asked to stop, in milliseconds.
pub const LAMEDUCK_MILLISECONDS: u32 = 500;
/// How long a pooler may take to drain.
pub const ONTERM_SECONDS: u32 = 30;
/// How long a pooler may take to close what is left.
pub const ONCLOSE_SECONDS: u32 = 10;
/// What stopping PostgreSQL may take beyond that: `fast`, then `immediate`.
const MARGIN_SECONDS: u32 = 15;
/// The pod's grace period: the sum of all the above, so that nothing is killed while it still stops in order.
pub const GRACE_SECONDS: u32 =
    LAMEDUCK_MILLISECONDS.div_ceil(1000) + ONTERM_SECONDS + ONCLOSE_SECONDS + MARGIN_SECONDS;

/// User and group that own PostgreSQL's files, whatever the image is called.
const POSTGRES_ID: i64 = 999;
/// Mode of the pgBackRest key: it refuses a key that others may read.
const KEY_MODE: i32 = 0o440;

const POOLER_HTTP: i32 = 15200;
/// Port of the pooler's gRPC services.
pub const POOLER_GRPC: i32 = 15270;
const PGCTLD_HTTP: i32 = 15400;
const PGCTLD_GRPC: i32 = 15470;
const PG_PORT: i32 = 5432;
const EXPORTER_PORT: i32 = 9187;

const POOLER_DIR: &str = "/var/lib/pooler";
const PASSWORD_DIR: &str = "/etc/postgres-password";
const CERTIFICATE_DIR: &str = "/certs/pgbackrest";
const CIPHER_DIR: &str = "/secrets/pgbackrest-cipher";
const MESH_DIR: &str = "/etc/multigres/tls";

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
    format!("data-{}", pod_name(shard, pool, cell, index))
}

/// Name of the Service that names the pods.
pub fn headless_name(identity: &Identity, pool: &str, cell: &str) -> String {
    identity.joined(Limit::Service, &["pool", pool, cell, "headless"])
}

/// Identity of a pooler in the topology. It follows the pod's name, so a restarted pod keeps it.
pub fn service_id(pod: &str) -> String {
    crds::name::service_id(pod)
}

/// The Service that names the pods, ready or not.
///
/// # Errors
/// When the Shard is not one from the API server, or belongs to no cluster.
pub fn headless_service(shard: &Shard, pool: &str, cell: &str) -> Result<Desired, RenderError> {
    let identity = Identity::new(shard)?;
    let own = identity.pool_labels(pool, cell);
    let service = workload::headless(
        identity
            .owner
            .child(headless_name(&identity, pool, cell), own.clone()),
        labels::selector(&own),
        vec![
            service_port("http", POOLER_HTTP),
            service_port("grpc", POOLER_GRPC),
            service_port("postgres", PG_PORT),
            service_port("metrics", EXPORTER_PORT),
        ],
    );
    Ok(Desired::from_typed(Kind::Service, &service)?)
}

/// The data volume of one pod.
///
/// # Errors
/// When the Shard is not one from the API server, or has no such pool.
pub fn claim(shard: &Shard, pool: &str, cell: &str, index: i32) -> Result<Desired, RenderError> {
    let identity = Identity::new(shard)?;
    let spec = pool_spec(shard, pool)?;
    let storage = spec.storage.clone().unwrap_or_default();
    let claim = PersistentVolumeClaim {
        metadata: identity.claim(
            claim_name(shard, pool, cell, index),
            identity.pool_labels(pool, cell),
            deleted_with_shard(shard, spec),
        ),
        spec: Some(workload::claim_spec(
            storage.size.as_deref().unwrap_or("1Gi"),
            storage.class.as_deref(),
            &storage.access_modes,
        )),
        status: None,
    };
    Ok(Desired::from_typed(Kind::PersistentVolumeClaim, &claim)?)
}

/// True when the claims of a pool go with the Shard: its own policy, else the Shard's.
pub fn deleted_with_shard(shard: &Shard, pool: &PoolSpec) -> bool {
    let policy = crds::resolve::merge_pvc_policy(
        pool.pvc_deletion_policy.as_ref(),
        shard.spec.pvc_deletion_policy.as_ref(),
    );
    workload::deleted_with_owner(policy.as_ref())
}

/// One pod of a Shard without `postgresConfigRef`.
///
/// # Errors
/// As [`pod_with`].
pub fn pod(shard: &Shard, pool: &str, cell: &str, index: i32) -> Result<Desired, RenderError> {
    let hashes = config(shard, &Identity::new(shard)?, None).hashes;
    pod_with(shard, pool, cell, index, &hashes)
}

/// One pod, with the hashes that tell later whether it is still the pod we want.
///
/// # Errors
/// When the Shard is not one from the API server, has no such pool, or gives the pooler another user than PostgreSQL.
pub fn pod_with(
    shard: &Shard,
    pool: &str,
    cell: &str,
    index: i32,
    hashes: &Hashes,
) -> Result<Desired, RenderError> {
    let identity = Identity::new(shard)?;
    let builder = Builder {
        shard,
        identity: &identity,
        spec: pool_spec(shard, pool)?,
        cell,
    };
    let name = pod_name(shard, pool, cell, index);
    let mut annotations = labels::pod_annotations(None, &identity.project);
    for (key, value) in labels::SCRAPE {
        annotations.insert(key.to_owned(), value.to_owned());
    }
    for (key, hash) in [
        (labels::CONFIG_HASH, &hashes.restart),
        (labels::RELOAD_HASH, &hashes.reload),
    ] {
        if !hash.is_empty() {
            annotations.insert(key.to_owned(), hash.clone());
        }
    }
    let metadata = identity
        .owner
        .child(name.clone(), identity.pool_labels(pool, cell));
    let mut pod = Pod {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            ..metadata
        },
        spec: Some(PodSpec {
            subdomain: Some(headless_name(&identity, pool, cell)),
            ..builder.spec(&name, claim_name(shard, pool, cell, index))?
        }),
        status: None,
    };
    let hash = spec_hash::of(&pod)?;
    pod.metadata
        .annotations
        .get_or_insert_default()
        .insert(labels::SPEC_HASH.to_owned(), hash);
    Ok(Desired::from_typed(Kind::Pod, &pod)?)
}

fn pool_spec<'a>(shard: &'a Shard, pool: &str) -> Result<&'a PoolSpec, RenderError> {
    shard
        .spec
        .pools
        .get(pool)
        .ok_or_else(|| RenderError::Invalid(format!("no pool {pool}")))
}

struct Builder<'a> {
    shard: &'a Shard,
    identity: &'a Identity,
    spec: &'a PoolSpec,
    cell: &'a str,
}

impl Builder<'_> {
    fn spec(&self, name: &str, claim: String) -> Result<PodSpec, RenderError> {
        let pull = pull(self.shard);
        let pulled = |container: Container| Container {
            image_pull_policy: pull.policy.clone(),
            ..container
        };
        let backup = self.shard.spec.backup.as_ref();
        let account = backup
            .and_then(|b| b.s3.as_ref())
            .and_then(|s3| s3.service_account_name.clone());
        Ok(PodSpec {
            hostname: Some(name.to_owned()),
            termination_grace_period_seconds: Some(GRACE_SECONDS.into()),
            // Without a group the projected certificates belong to root and PostgreSQL cannot read them.
            security_context: Some(PodSecurityContext {
                fs_group: Some(self.spec.fs_group.unwrap_or(POSTGRES_ID)),
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                ..workload::pod_security()
            }),
            service_account_name: account.filter(|account| !account.is_empty()),
            automount_service_account_token: Some(false),
            node_selector: nodes(self.shard, self.cell),
            affinity: self.spec.affinity.clone(),
            tolerations: workload::listed(self.spec.tolerations.clone()),
            image_pull_secrets: pull.secrets.clone(),
            // A sidecar stops after the containers, so the pooler can still ask it to stop PostgreSQL.
            init_containers: Some(vec![pulled(self.postgres())]),
            containers: vec![pulled(self.multipooler(name)?), pulled(self.exporter())],
            volumes: Some(self.volumes(claim)),
            ..PodSpec::default()
        })
    }

    fn superuser(&self) -> String {
        let user = self
            .shard
            .spec
            .postgres_superuser
            .as_deref()
            .filter(|user| !user.is_empty());
        user.unwrap_or("postgres").to_owned()
    }

    fn telemetry(&self, component: &str) -> Telemetry {
        let Identity {
            project, cluster, ..
        } = self.identity;
        let attributes = Attributes {
            project,
            cluster,
            component,
        };
        workload::telemetry(self.shard.spec.observability.as_ref(), Some(&attributes))
    }

    /// Where the repository is mounted: at the path that the topology announces.
    fn backup_path(&self) -> String {
        let filesystem = self
            .shard
            .spec
            .backup
            .as_ref()
            .and_then(|b| b.filesystem.as_ref());
        filesystem
            .and_then(|f| f.path.clone())
            .filter(|p| !p.is_empty())
            .unwrap_or_else(|| "/backups".to_owned())
    }

    fn common_env(&self) -> Vec<EnvVar> {
        vec![
            env("PGDATA", format!("{POOLER_DIR}/pg_data")),
            env("POSTGRES_USER", self.superuser()),
            env("POSTGRES_PASSWORD_FILE", format!("{PASSWORD_DIR}/password")),
        ]
    }

    fn s3_env(&self) -> Vec<EnvVar> {
        let Some(backup) = self
            .shard
            .spec
            .backup
            .as_ref()
            .filter(|b| workload::is_s3(b))
        else {
            return Vec::new();
        };
        let Some(s3) = &backup.s3 else {
            return Vec::new();
        };
        let mut result = vec![env("AWS_REGION", s3.region.clone())];
        if let Some(secret) = s3
            .credentials_secret
            .as_deref()
            .filter(|secret| !secret.is_empty())
        {
            result.extend(
                ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
                    .map(|name| env_secret(name, secret, name)),
            );
        }
        result
    }

    /// pgctld and PostgreSQL. `/live` for startup and liveness; `/ready` waits for its gRPC server.
    fn postgres(&self) -> Container {
        let spec = &self.shard.spec;
        let telemetry = self.telemetry("pgctld");
        let mut args = vec![
            "server".to_owned(),
            format!("--pooler-dir={POOLER_DIR}"),
            format!("--grpc-port={PGCTLD_GRPC}"),
            format!("--pg-port={PG_PORT}"),
            "--pg-listen-addresses=*".to_owned(),
            format!(
                "--log-level={}",
                workload::log_level(spec.log_levels.as_ref().and_then(|l| l.pgctld.as_ref()))
            ),
            format!("--grpc-socket-file={POOLER_DIR}/pgctld.sock"),
            "--pg-hba-template=/etc/pgctld/pg_hba_template.conf".to_owned(),
            format!("--http-port={PGCTLD_HTTP}"),
        ];
        let mut env_list = self.common_env();
        if let Some(initdb) = spec.initdb_args.as_deref().filter(|args| !args.is_empty()) {
            env_list.push(env("POSTGRES_INITDB_ARGS", initdb));
        }
        env_list.push(env(
            "POSTGRES_INITDB_EXTRA_CONF",
            "/etc/pgctld/postgres-config/postgresql.conf",
        ));
        env_list.extend(self.s3_env());
        env_list.extend(telemetry.env);
        let mut mounts = vec![
            mount("pgdata", POOLER_DIR),
            mount("backup-data", &self.backup_path()),
            mount_ro("pg-hba-template", "/etc/pgctld"),
            mount_ro("postgres-password", PASSWORD_DIR),
            mount_ro("postgres-config", "/etc/pgctld/postgres-config"),
        ];
        if spec.backup.is_some() {
            args.push(format!("--pgbackrest-cert-dir={CERTIFICATE_DIR}"));
            args.push("--pgbackrest-port=8432".to_owned());
            mounts.push(mount_ro("pgbackrest-certs", CERTIFICATE_DIR));
        }
        mounts.extend(telemetry.mount);
        let config = self.spec.postgres.as_ref();
        let container = Container {
            name: "postgres".to_owned(),
            image: Some(workload::image(
                &spec.images.postgres,
                crds::image::POSTGRES,
            )),
            restart_policy: Some("Always".to_owned()),
            command: Some(strings(["/usr/local/bin/pgctld"])),
            args: Some(args),
            env: Some(env_list),
            resources: config.and_then(|c| c.resources.clone()),
            security_context: Some(identity_of(
                config.and_then(|c| c.run_as_user),
                config.and_then(|c| c.run_as_group),
            )),
            volume_mounts: Some(mounts),
            ..Container::default()
        };
        probes("/live", "/ready", PGCTLD_HTTP).on(container)
    }

    fn multipooler(&self, pod: &str) -> Result<Container, RenderError> {
        let spec = &self.shard.spec;
        let telemetry = self.telemetry("multipooler");
        let mut mounts: Vec<VolumeMount> = vec![
            mount("pgdata", POOLER_DIR),
            mount("backup-data", &self.backup_path()),
            mount_ro("postgres-password", PASSWORD_DIR),
        ];
        let mut args = self.pooler_args(pod);
        if let Some(backup) = &spec.backup {
            args.extend([
                format!("--pgbackrest-cert-file={CERTIFICATE_DIR}/pgbackrest.crt"),
                format!("--pgbackrest-key-file={CERTIFICATE_DIR}/pgbackrest.key"),
                format!("--pgbackrest-ca-file={CERTIFICATE_DIR}/ca.crt"),
            ]);
            mounts.push(mount_ro("pgbackrest-certs", CERTIFICATE_DIR));
            if backup.encryption.is_some() {
                mounts.push(mount_ro("pgbackrest-cipher", CIPHER_DIR));
            }
        }
        if workload::mesh(spec.internal_tls.as_ref()) {
            args.extend(workload::serve_tls(MESH_DIR));
            mounts.push(mount_ro("tls-certs", MESH_DIR));
        }
        if spec.backup.as_ref().is_some_and(|b| b.encryption.is_some()) {
            args.push(format!(
                "--pgbackrest-cipher-key-file={CIPHER_DIR}/keys.json"
            ));
        }
        mounts.extend(telemetry.mount);
        let mut env_list = self.common_env();
        env_list.extend(self.s3_env());
        env_list.extend(telemetry.env);
        let config = self.spec.multipooler.as_ref();
        let container = Container {
            name: "multipooler".to_owned(),
            image: Some(workload::image(
                &spec.images.multipooler,
                crds::image::MULTIPOOLER,
            )),
            args: Some(args),
            env: Some(env_list),
            ports: Some(vec![
                port("http", POOLER_HTTP),
                port("grpc", POOLER_GRPC),
                port("postgres", PG_PORT),
            ]),
            resources: config.and_then(|c| c.resources.clone()),
            security_context: Some(self.pooler_identity()?),
            volume_mounts: Some(mounts),
            ..Container::default()
        };
        Ok(probes("/live", "/ready", POOLER_HTTP).on(container))
    }

    /// Both work in the data directory, and pgBackRest keeps files for one user only.
    fn pooler_identity(&self) -> Result<SecurityContext, RenderError> {
        let postgres = self.spec.postgres.as_ref().and_then(|c| c.run_as_user);
        let pooler = self.spec.multipooler.as_ref().and_then(|c| c.run_as_user);
        if pooler.is_some() && pooler != postgres {
            return Err(RenderError::Invalid(
                "multipooler.runAsUser differs from postgres.runAsUser, and both work in one data directory".to_owned(),
            ));
        }
        Ok(identity_of(
            postgres,
            self.spec.multipooler.as_ref().and_then(|c| c.run_as_group),
        ))
    }

    fn pooler_args(&self, pod: &str) -> Vec<String> {
        let spec = &self.shard.spec;
        let Identity {
            database,
            table_group,
            shard,
            ..
        } = self.identity;
        vec![
            "multipooler".to_owned(),
            format!("--http-port={POOLER_HTTP}"),
            format!("--grpc-port={POOLER_GRPC}"),
            format!("--pooler-dir={POOLER_DIR}"),
            format!("--socket-file={POOLER_DIR}/pg_sockets/.s.PGSQL.{PG_PORT}"),
            format!(
                "--topo-global-server-addresses={}",
                spec.global_topo_server.address
            ),
            format!("--topo-global-root={}", spec.global_topo_server.root_path),
            format!("--cell={}", self.cell),
            format!("--database={database}"),
            format!("--table-group={table_group}"),
            format!("--shard={shard}"),
            format!("--service-id={}", service_id(pod)),
            format!("--pgctld-addr=localhost:{PGCTLD_GRPC}"),
            format!("--pg-port={PG_PORT}"),
            // Together below max_connections, with room for replication and the exporter.
            "--connpool-global-capacity=40".to_owned(),
            "--connpool-admin-capacity=5".to_owned(),
            format!(
                "--log-level={}",
                workload::log_level(
                    spec.log_levels
                        .as_ref()
                        .and_then(|l| l.multipooler.as_ref())
                )
            ),
            format!("--onterm-timeout={ONTERM_SECONDS}s"),
            format!("--onclose-timeout={ONCLOSE_SECONDS}s"),
            format!("--lameduck-period={LAMEDUCK_MILLISECONDS}ms"),
            // Off by default, and then no pooler ever asks to be replaced.
            "--postgres-unrecoverable-timeout=5m".to_owned(),
        ]
    }

    fn exporter(&self) -> Container {
        Container {
            name: "postgres-exporter".to_owned(),
            image: Some(crds::image::POSTGRES_EXPORTER.to_owned()),
            args: Some(vec![
                format!("--web.listen-address=:{EXPORTER_PORT}"),
                "--extend.query-path=/etc/postgres-exporter/queries.yml".to_owned(),
            ]),
            env: Some(vec![
                env(
                    "DATA_SOURCE_URI",
                    "localhost:5432/postgres?sslmode=disable&connect_timeout=5&options=-c%20statement_timeout%3D8s",
                ),
                env("DATA_SOURCE_USER", self.superuser()),
                env("DATA_SOURCE_PASS_FILE", format!("{PASSWORD_DIR}/password")),
            ]),
            ports: Some(vec![port("metrics", EXPORTER_PORT)]),
            security_context: Some(identity_of(None, None)),
            volume_mounts: Some(vec![
                mount_ro("postgres-password", PASSWORD_DIR),
                mount_ro("postgres-exporter-queries", "/etc/postgres-exporter"),
            ]),
            ..Container::default()
        }
    }

    fn volumes(&self, claim: String) -> Vec<Volume> {
        let spec = &self.shard.spec;
        let claimed = |name: &str, claim_name: String| Volume {
            name: name.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name,
                read_only: None,
            }),
            ..Volume::default()
        };
        let on_disk = spec.backup.as_ref().is_some_and(|b| !workload::is_s3(b));
        let backup_data = if on_disk {
            claimed("backup-data", backup_claim_name(self.identity))
        } else {
            Volume {
                name: "backup-data".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            }
        };
        let password = &spec.postgres_password_secret_ref;
        let of = |suffix| self.identity.suffixed(suffix);
        let mut volumes = vec![
            claimed("pgdata", claim),
            backup_data,
            config_volume("pg-hba-template", &of("pg-hba"), None),
            secret_volume(
                "postgres-password",
                &password.name,
                READABLE,
                Some(vec![item(&password.key, "password")]),
            ),
            config_volume(
                "postgres-config",
                &of("postgres-config"),
                Some(vec![item("postgresql.conf", "postgresql.conf")]),
            ),
            config_volume("postgres-exporter-queries", &of("exporter-queries"), None),
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
                name: "pgbackrest-certs".to_owned(),
                projected: Some(ProjectedVolumeSource {
                    default_mode: Some(KEY_MODE),
                    sources: Some(sources),
                }),
                ..Volume::default()
            });
            if let Some(encryption) = &backup.encryption {
                volumes.push(secret_volume(
                    "pgbackrest-cipher",
                    &encryption.secret_name,
                    READABLE,
                    None,
                ));
            }
        }
        if workload::mesh(spec.internal_tls.as_ref()) {
            let Identity { cluster, owner, .. } = self.identity;
            let secret = workload::certificate_name("multipooler", cluster, &owner.namespace);
            volumes.push(secret_volume("tls-certs", &secret, READABLE, None));
        }
        volumes.extend(self.telemetry("pgctld").volume);
        volumes
    }
}

/// The user's numbers, else those of PostgreSQL's files.
fn identity_of(user: Option<i64>, group: Option<i64>) -> SecurityContext {
    workload::unprivileged(
        Some(user.unwrap_or(POSTGRES_ID)),
        Some(group.unwrap_or(POSTGRES_ID)),
    )
}

fn projection(name: String, files: &[(&str, &str)]) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name,
            items: Some(files.iter().map(|(key, path)| item(key, path)).collect()),
            optional: None,
        }),
        ..VolumeProjection::default()
    }
}
