//! The containers of a pool pod: pgctld with PostgreSQL, multipooler, exporter.

use super::pod::Builder;
use crate::shape::{Container, EnvVar, SecurityContext, Text};
use crate::shard::identity::Identity;
use crate::tls::Tls;
use crate::workload::{
    self, Attributes, RenderError, Telemetry, env, env_secret, flag, mount, mount_ro, port, probes,
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
pub(super) const POSTGRES_ID: i64 = 999;
/// Port of the pooler's HTTP server.
pub(super) const POOLER_HTTP: i32 = 15200;
/// Port of the pooler's gRPC services.
pub const POOLER_GRPC: i32 = 15270;
const PGCTLD_HTTP: i32 = 15400;
const PGCTLD_GRPC: i32 = 15470;
/// Port of PostgreSQL.
pub(super) const PG_PORT: i32 = 5432;
/// Port of the exporter.
pub(super) const EXPORTER_PORT: i32 = 9187;

/// Name of the container with pgctld and PostgreSQL.
pub(super) const POSTGRES_CONTAINER: &str = "postgres";
/// Name of the pooler's container.
pub(super) const POOLER_CONTAINER: &str = "multipooler";
/// Name of the exporter's container.
pub(super) const EXPORTER_CONTAINER: &str = "postgres-exporter";

/// Flags of the pooler with values that we choose.
pub(super) const CHOSEN_FLAGS: [&str; 4] = [
    "--onterm-timeout",
    "--onclose-timeout",
    "--lameduck-period",
    "--postgres-unrecoverable-timeout",
];

const POOLER_DIR: &str = "/var/lib/pooler";
const DATA_DIR: &str = "/var/lib/pooler/pg_data";
const PASSWORD_FILE: &str = "/etc/postgres-password/password";
const PASSWORD_DIR: &str = "/etc/postgres-password";
const CERTIFICATE_DIR: &str = "/certs/pgbackrest";
const CIPHER_DIR: &str = "/secrets/pgbackrest-cipher";
const MESH_DIR: &str = "/etc/multigres/tls";

impl<'a> Builder<'a> {
    fn superuser(&self) -> &'a str {
        workload::text(&self.shard.spec.postgres_superuser).unwrap_or("postgres")
    }

    pub(super) fn telemetry(&self, component: &str) -> Telemetry<'a> {
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
    fn backup_path(&self) -> &'a str {
        let filesystem = self
            .shard
            .spec
            .backup
            .as_ref()
            .and_then(|b| b.filesystem.as_ref());
        filesystem
            .and_then(|f| workload::text(&f.path))
            .unwrap_or("/backups")
    }

    /// What TLS adds to the pooler: it serves the other components, and reads the topology. pgctld does neither.
    pub(super) fn tls(&self) -> Tls<'a> {
        let spec = &self.shard.spec;
        let Identity { cluster, owner, .. } = self.identity;
        let mut tls = Tls::default();
        if workload::mesh(spec.internal_tls.as_ref()) {
            tls.serve(
                ("multipooler", cluster, owner.namespace),
                ("tls-certs", MESH_DIR),
            );
        }
        tls.store(&spec.global_topo_server);
        tls
    }

    fn common_env(&self) -> Vec<EnvVar<'a>> {
        vec![
            env("PGDATA", DATA_DIR),
            env("POSTGRES_USER", self.superuser()),
            env("POSTGRES_PASSWORD_FILE", PASSWORD_FILE),
        ]
    }

    fn s3_env(&self) -> Vec<EnvVar<'a>> {
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
        let mut result = vec![env("AWS_REGION", &s3.region)];
        if let Some(secret) = workload::text(&s3.credentials_secret) {
            result.extend(
                ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
                    .map(|name| env_secret(name, secret, name)),
            );
        }
        result
    }

    /// pgctld and PostgreSQL. `/live` for startup and liveness; `/ready` waits for its gRPC server.
    pub(super) fn postgres(&self) -> Container<'a> {
        let spec = &self.shard.spec;
        let telemetry = self.telemetry("pgctld");
        let mut args: Vec<Text<'a>> = vec![
            "server".into(),
            format!("--pooler-dir={POOLER_DIR}").into(),
            format!("--grpc-port={PGCTLD_GRPC}").into(),
            format!("--pg-port={PG_PORT}").into(),
            "--pg-listen-addresses=*".into(),
            flag(
                "--log-level",
                workload::log_level(spec.log_levels.as_ref().and_then(|l| l.pgctld.as_ref())),
            ),
            format!("--grpc-socket-file={POOLER_DIR}/pgctld.sock").into(),
            "--pg-hba-template=/etc/pgctld/pg_hba_template.conf".into(),
            format!("--http-port={PGCTLD_HTTP}").into(),
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
            mount("backup-data", self.backup_path()),
            mount_ro("pg-hba-template", "/etc/pgctld"),
            mount_ro("postgres-password", PASSWORD_DIR),
            mount_ro("postgres-config", "/etc/pgctld/postgres-config"),
        ];
        if spec.backup.is_some() {
            args.push(flag("--pgbackrest-cert-dir", CERTIFICATE_DIR));
            args.push("--pgbackrest-port=8432".into());
            mounts.push(mount_ro("pgbackrest-certs", CERTIFICATE_DIR));
        }
        mounts.extend(telemetry.mount);
        let config = self.spec.postgres.as_ref();
        let container = Container {
            name: POSTGRES_CONTAINER,
            image: Some(workload::image(
                &spec.images.postgres,
                crds::image::POSTGRES,
            )),
            restart_policy: Some("Always"),
            command: &["/usr/local/bin/pgctld"],
            args,
            env: env_list,
            resources: config.and_then(|c| c.resources.as_ref()),
            security_context: identity_of(
                config.and_then(|c| c.run_as_user),
                config.and_then(|c| c.run_as_group),
            ),
            volume_mounts: mounts,
            ..Container::default()
        };
        probes("/live", "/ready", PGCTLD_HTTP).on(container)
    }

    pub(super) fn multipooler(&self, pod: &str) -> Result<Container<'a>, RenderError> {
        let spec = &self.shard.spec;
        let telemetry = self.telemetry("multipooler");
        let mut mounts = vec![
            mount("pgdata", POOLER_DIR),
            mount("backup-data", self.backup_path()),
            mount_ro("postgres-password", PASSWORD_DIR),
        ];
        let mut args = self.pooler_args(pod);
        if let Some(backup) = &spec.backup {
            args.extend([
                format!("--pgbackrest-cert-file={CERTIFICATE_DIR}/pgbackrest.crt").into(),
                format!("--pgbackrest-key-file={CERTIFICATE_DIR}/pgbackrest.key").into(),
                format!("--pgbackrest-ca-file={CERTIFICATE_DIR}/ca.crt").into(),
            ]);
            mounts.push(mount_ro("pgbackrest-certs", CERTIFICATE_DIR));
            if backup.encryption.is_some() {
                mounts.push(mount_ro("pgbackrest-cipher", CIPHER_DIR));
            }
        }
        let tls = self.tls();
        args.extend(tls.args);
        mounts.extend(tls.mounts);
        if spec.backup.as_ref().is_some_and(|b| b.encryption.is_some()) {
            args.push(format!("--pgbackrest-cipher-key-file={CIPHER_DIR}/keys.json").into());
        }
        mounts.extend(telemetry.mount);
        let mut env_list = self.common_env();
        env_list.extend(self.s3_env());
        env_list.extend(telemetry.env);
        let config = self.spec.multipooler.as_ref();
        let container = Container {
            name: POOLER_CONTAINER,
            image: Some(workload::image(
                &spec.images.multipooler,
                crds::image::MULTIPOOLER,
            )),
            args,
            env: env_list,
            ports: vec![
                port("http", POOLER_HTTP),
                port("grpc", POOLER_GRPC),
                port("postgres", PG_PORT),
            ],
            resources: config.and_then(|c| c.resources.as_ref()),
            security_context: self.pooler_identity()?,
            volume_mounts: mounts,
            ..Container::default()
        };
        Ok(probes("/live", "/ready", POOLER_HTTP).on(container))
    }

    /// Both work in the data directory, and pgBackRest keeps files for one user only.
    fn pooler_identity(&self) -> Result<SecurityContext<'static>, RenderError> {
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

    fn pooler_args(&self, pod: &str) -> Vec<Text<'a>> {
        let spec = &self.shard.spec;
        let Identity {
            database,
            table_group,
            shard,
            ..
        } = self.identity;
        vec![
            "multipooler".into(),
            format!("--http-port={POOLER_HTTP}").into(),
            format!("--grpc-port={POOLER_GRPC}").into(),
            format!("--pooler-dir={POOLER_DIR}").into(),
            format!("--socket-file={POOLER_DIR}/pg_sockets/.s.PGSQL.{PG_PORT}").into(),
            flag(
                "--topo-global-server-addresses",
                &spec.global_topo_server.address,
            ),
            flag("--topo-global-root", &spec.global_topo_server.root_path),
            flag("--cell", self.cell),
            flag("--database", database),
            flag("--table-group", table_group),
            flag("--shard", shard),
            flag("--service-id", &crds::name::service_id(pod)),
            format!("--pgctld-addr=localhost:{PGCTLD_GRPC}").into(),
            format!("--pg-port={PG_PORT}").into(),
            // Together below max_connections, with room for replication and the exporter.
            "--connpool-global-capacity=40".into(),
            "--connpool-admin-capacity=5".into(),
            flag(
                "--log-level",
                workload::log_level(
                    spec.log_levels
                        .as_ref()
                        .and_then(|l| l.multipooler.as_ref()),
                ),
            ),
            format!("--onterm-timeout={ONTERM_SECONDS}s").into(),
            format!("--onclose-timeout={ONCLOSE_SECONDS}s").into(),
            format!("--lameduck-period={LAMEDUCK_MILLISECONDS}ms").into(),
            // Off by default, and then no pooler ever asks to be replaced.
            "--postgres-unrecoverable-timeout=5m".into(),
        ]
    }

    pub(super) fn exporter(&self) -> Container<'a> {
        Container {
            name: EXPORTER_CONTAINER,
            image: Some(crds::image::POSTGRES_EXPORTER),
            args: vec![
                format!("--web.listen-address=:{EXPORTER_PORT}").into(),
                "--extend.query-path=/etc/postgres-exporter/queries.yml".into(),
            ],
            env: vec![
                env(
                    "DATA_SOURCE_URI",
                    "localhost:5432/postgres?sslmode=disable&connect_timeout=5&options=-c%20statement_timeout%3D8s",
                ),
                env("DATA_SOURCE_USER", self.superuser()),
                env("DATA_SOURCE_PASS_FILE", PASSWORD_FILE),
            ],
            ports: vec![port("metrics", EXPORTER_PORT)],
            security_context: identity_of(None, None),
            volume_mounts: vec![
                mount_ro("postgres-password", PASSWORD_DIR),
                mount_ro("postgres-exporter-queries", "/etc/postgres-exporter"),
            ],
            ..Container::default()
        }
    }
}

/// The user's numbers, else those of PostgreSQL's files.
fn identity_of(user: Option<i64>, group: Option<i64>) -> SecurityContext<'static> {
    workload::unprivileged(
        Some(user.unwrap_or(POSTGRES_ID)),
        Some(group.unwrap_or(POSTGRES_ID)),
    )
}
