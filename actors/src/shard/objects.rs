//! The objects of a Shard: configuration, backup volume, disruption budgets, multiorch.

use std::collections::{BTreeMap, BTreeSet};

use crds::Shard;
use crds::name::{Limit, join};
use k8s_openapi::api::core::v1::{ConfigMap, Container, PersistentVolumeClaim, Secret};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::labels::{self, Map};
use crate::object::{Desired, Kind};
use crate::shard::postgres_config::{self, Rendered, Sizing, thousandths};
use crate::workload::{
    self, Attributes, Owner, Placement, Pull, READABLE, RenderError, Stateless, mount_ro, pod_ip,
    port, probes, secret_volume, service_port,
};

const HTTP_PORT: i32 = 15300;
const GRPC_PORT: i32 = 15370;
const MESH_DIR: &str = "/etc/multigres/tls";

/// What cannot be read from the Shard itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// Body of the ConfigMap that `postgresConfigRef` names.
    pub referenced: Option<&'a str>,
    /// How many replicas must stay; `None` until the data plane is in sight, and then none may go.
    pub replicas_min_available: Option<i32>,
}

/// Everything a Shard owns but for its pools.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardObjects {
    /// Created at once.
    pub base: Vec<Desired>,
    /// Deployments that exit without the topology, so wait for it.
    pub multiorch: Vec<Desired>,
    /// The certificates pgBackRest needs; `None` when the user brings their own, or without backup.
    pub certificates: Option<CertificatePlan>,
    /// The settings and their hashes, for the pools.
    pub config: Rendered,
}

/// A recipe for two generated Secrets (`workloads.md` 11.3). They come without data: that is the executor's work.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificatePlan {
    /// The Secret with the authority.
    pub ca: Desired,
    /// The Secret with the certificate of all pods.
    pub leaf: Desired,
    /// Names in the certificate, sorted.
    pub dns_names: Vec<String>,
}

/// A Shard's coordinates, as names and labels need them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The Shard itself.
    pub owner: Owner,
    /// Cluster.
    pub cluster: String,
    /// Database.
    pub database: String,
    /// Table group.
    pub table_group: String,
    /// Shard.
    pub shard: String,
    /// Project, or the cluster's name.
    pub project: String,
}

impl Identity {
    /// Reads the coordinates.
    ///
    /// # Errors
    /// When the Shard is not one from the API server, or belongs to no cluster.
    pub fn new(shard: &Shard) -> Result<Self, RenderError> {
        let owner = Owner::new(Kind::Shard, &shard.metadata)?;
        let cluster = owner.cluster()?.to_owned();
        Ok(Self {
            project: owner.project.clone().unwrap_or_else(|| cluster.clone()),
            owner,
            cluster,
            database: shard.spec.database_name.to_string(),
            table_group: shard.spec.table_group_name.to_string(),
            shard: shard.spec.shard_name.to_string(),
        })
    }

    /// Labels of everything that serves the whole shard.
    pub fn labels(&self, component: &str) -> Map {
        let further = [
            (labels::CLUSTER, self.cluster.as_str()),
            (labels::DATABASE, &self.database),
            (labels::TABLE_GROUP, &self.table_group),
            (labels::SHARD, &self.shard),
        ];
        labels::standard(&self.cluster, component, &further)
    }

    /// Labels over those of the Shard, which may carry the user's.
    fn inherited(&self, component: &str) -> Map {
        labels::merged(Some(&self.owner.labels), self.labels(component))
    }

    /// Labels of one pool in one cell.
    pub fn pool_labels(&self, pool: &str, cell: &str) -> Map {
        let mut result = self.inherited("shard-pool");
        result.insert(labels::POOL.to_owned(), pool.to_owned());
        result.insert(labels::CELL.to_owned(), cell.to_owned());
        result
    }

    /// Metadata of a claim: it follows the Shard only where the policy says so.
    pub fn claim(&self, name: String, labels: Map, deleted_with_owner: bool) -> ObjectMeta {
        let meta = self.owner.child(name, labels);
        ObjectMeta {
            owner_references: meta.owner_references.filter(|_| deleted_with_owner),
            ..meta
        }
    }

    /// A name below the shard.
    pub fn joined(&self, limit: Limit, further: &[&str]) -> String {
        let Self {
            cluster,
            database,
            table_group,
            shard,
            ..
        } = self;
        let mut parts = vec![cluster.as_str(), database, table_group, shard];
        parts.extend(further);
        join(limit, &parts)
    }

    /// Name of a ConfigMap or Secret of this Shard.
    pub fn suffixed(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.owner.name)
    }
}

/// Renders everything but the pools, as long as nothing but the Shard is known.
///
/// # Errors
/// As [`render_with`].
pub fn render(shard: &Shard) -> Result<ShardObjects, RenderError> {
    render_with(shard, Inputs::default())
}

/// Renders everything but the pools.
///
/// # Errors
/// When the Shard is not one from the API server, belongs to no cluster or has no cell to run multiorch in.
pub fn render_with(shard: &Shard, inputs: Inputs<'_>) -> Result<ShardObjects, RenderError> {
    let identity = Identity::new(shard)?;
    let config = config(shard, &identity, inputs.referenced);
    let mut base = vec![
        config_map(
            &identity,
            "pg-hba",
            "pg-hba-config",
            "pg_hba_template.conf",
            PG_HBA,
        )?,
        config_map(
            &identity,
            "exporter-queries",
            "postgres-exporter-queries",
            "queries.yml",
            EXPORTER_QUERIES,
        )?,
        config_map(
            &identity,
            "postgres-config",
            "postgres-config",
            "postgresql.conf",
            &config.text,
        )?,
    ];
    base.extend(backup_claim(shard, &identity)?);
    let total = pods(shard);
    base.push(budget(&identity, "primary", ("In", &["PRIMARY"]), total)?);
    let replicas = inputs.replicas_min_available.unwrap_or(total);
    base.push(budget(
        &identity,
        "replicas",
        ("NotIn", &["DRAINED", "PRIMARY"]),
        replicas,
    )?);
    let mut multiorch = Vec::new();
    for cell in multiorch_cells(shard)? {
        let mut own = identity.inherited("multiorch");
        own.insert(labels::CELL.to_owned(), cell.clone());
        let service = workload::service(
            identity.owner.child(
                identity.joined(Limit::Service, &["multiorch", &cell]),
                own.clone(),
            ),
            labels::selector(&own),
            vec![
                service_port("http", HTTP_PORT),
                service_port("grpc", GRPC_PORT),
            ],
        );
        base.push(Desired::from_typed(Kind::Service, &service)?);
        multiorch.push(Desired::from_typed(
            Kind::Deployment,
            &orchestrator(shard, &identity, &cell, own).build(),
        )?);
    }
    Ok(ShardObjects {
        base,
        multiorch,
        certificates: certificates(shard, &identity)?,
        config,
    })
}

/// How many pool pods the Shard wants, over all pools and cells.
pub fn pods(shard: &Shard) -> i32 {
    shard.spec.pools.values().fold(0, |total: i32, pool| {
        let cells = i32::try_from(pool.cells.len()).unwrap_or(i32::MAX);
        total.saturating_add(pool.replicas_per_cell.unwrap_or(1).saturating_mul(cells))
    })
}

/// The settings of the Shard's pods.
pub fn config(shard: &Shard, identity: &Identity, referenced: Option<&str>) -> Rendered {
    let Identity {
        cluster,
        database,
        table_group,
        shard: name,
        ..
    } = identity;
    let parts = [cluster, database, table_group, name].map(String::as_str);
    let cluster_name = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    postgres_config::render(
        &cluster_name,
        sizing(shard),
        referenced,
        &shard.spec.postgres_config,
    )
}

fn sizing(shard: &Shard) -> Sizing {
    let mut result = Sizing::default();
    for pool in shard.spec.pools.values() {
        let resources = pool.postgres.as_ref().and_then(|p| p.resources.as_ref());
        let amount = |name: &str| {
            let of = |list: Option<
                &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
            >| {
                list.and_then(|l| l.get(name))
                    .and_then(|q| thousandths(&q.0))
                    .filter(|v| *v > 0)
            };
            of(resources.and_then(|r| r.limits.as_ref()))
                .or_else(|| of(resources.and_then(|r| r.requests.as_ref())))
        };
        result.memory = result.memory.max(amount("memory").unwrap_or(0) / 1000);
        result.millicores = result.millicores.max(amount("cpu").unwrap_or(0));
        let disk = pool
            .storage
            .as_ref()
            .and_then(|s| s.size.as_deref())
            .and_then(thousandths)
            .unwrap_or(0)
            / 1000;
        if disk > 0 && (result.disk == 0 || disk < result.disk) {
            result.disk = disk;
        }
    }
    result
}

fn config_map(
    identity: &Identity,
    suffix: &str,
    component: &str,
    file: &str,
    content: &str,
) -> Result<Desired, RenderError> {
    let map = ConfigMap {
        metadata: identity
            .owner
            .child(identity.suffixed(suffix), identity.inherited(component)),
        data: Some(Map::from([(file.to_owned(), content.to_owned())])),
        ..ConfigMap::default()
    };
    Ok(Desired::from_typed(Kind::ConfigMap, &map)?)
}

/// One volume for the backups of all pods, unless they go to an object store.
fn backup_claim(shard: &Shard, identity: &Identity) -> Result<Option<Desired>, RenderError> {
    let backup = shard.spec.backup.as_ref();
    if backup.is_some_and(workload::is_s3) {
        return Ok(None);
    }
    let storage = backup
        .and_then(|b| b.filesystem.as_ref())
        .and_then(|f| f.storage.clone())
        .unwrap_or_default();
    let claim = PersistentVolumeClaim {
        metadata: identity.claim(
            backup_claim_name(identity),
            identity.labels("shard-pool"),
            workload::deleted_with_owner(shard.spec.pvc_deletion_policy.as_ref()),
        ),
        spec: Some(workload::claim_spec(
            storage.size.as_deref().unwrap_or("10Gi"),
            storage.class.as_deref(),
            &storage.access_modes,
        )),
        status: None,
    };
    Ok(Some(Desired::from_typed(
        Kind::PersistentVolumeClaim,
        &claim,
    )?))
}

/// Name of the claim for backups.
pub fn backup_claim_name(identity: &Identity) -> String {
    let Identity {
        cluster,
        database,
        table_group,
        shard,
        ..
    } = identity;
    crds::name::backup_claim(cluster, database, table_group, shard)
}

/// One of the two budgets, disjoint by role: an eviction that matched both would be refused whatever they say.
fn budget(
    identity: &Identity,
    which: &str,
    (operator, roles): (&str, &[&str]),
    min_available: i32,
) -> Result<Desired, RenderError> {
    let own = identity.labels("shard-pool");
    let name = identity.joined(Limit::Service, &[which, "pdb"]);
    let budget = PodDisruptionBudget {
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(min_available)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&own)),
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: labels::ROLE.to_owned(),
                    operator: operator.to_owned(),
                    values: Some(roles.iter().map(|role| (*role).to_owned()).collect()),
                }]),
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        metadata: identity.owner.child(name, own),
        status: None,
    };
    Ok(Desired::from_typed(Kind::PodDisruptionBudget, &budget)?)
}

/// The cells that run an orchestrator: those asked for, else those of the pools.
fn multiorch_cells(shard: &Shard) -> Result<Vec<String>, RenderError> {
    let asked = shard.spec.multiorch.cells.iter();
    let mut cells: Vec<String> = asked.map(ToString::to_string).collect();
    if cells.is_empty() {
        cells = all_cells(shard).into_iter().collect();
    }
    if cells.is_empty() {
        return Err(RenderError::Invalid(
            "neither multiorch nor any pool names a cell".to_owned(),
        ));
    }
    Ok(cells)
}

fn all_cells(shard: &Shard) -> BTreeSet<String> {
    shard
        .spec
        .pools
        .values()
        .flat_map(|pool| pool.cells.iter())
        .map(ToString::to_string)
        .collect()
}

fn orchestrator(shard: &Shard, identity: &Identity, cell: &str, own: Map) -> Stateless {
    let spec = &shard.spec;
    let Identity {
        cluster,
        database,
        table_group,
        shard: name,
        project,
        owner,
    } = identity;
    let attributes = Attributes {
        project,
        cluster,
        component: "multiorch",
    };
    let telemetry = workload::telemetry(spec.observability.as_ref(), Some(&attributes));
    let deployment = identity.joined(Limit::Default, &["multiorch", cell]);
    let stateless = &spec.multiorch.stateless;
    let replicas = stateless.replicas.unwrap_or(1);
    // A stable id lets a restarted orchestrator resume what it had begun; two pods must never share one.
    let alone = replicas <= 1;
    let mut args = vec![
        "multiorch".to_owned(),
        format!("--http-port={HTTP_PORT}"),
        format!("--grpc-port={GRPC_PORT}"),
        format!(
            "--topo-global-server-addresses={}",
            spec.global_topo_server.address
        ),
        format!("--topo-global-root={}", spec.global_topo_server.root_path),
        format!("--cell={cell}"),
        format!("--watch-targets={database}/{table_group}/{name}"),
        format!(
            "--log-level={}",
            workload::log_level(spec.log_levels.as_ref().and_then(|l| l.multiorch.as_ref()))
        ),
        "--hostname=$(POD_IP)".to_owned(),
        "--leader-failover-grace-period-base=3s".to_owned(),
        "--leader-failover-grace-period-max-jitter=1s".to_owned(),
        "--recovery-cycle-interval=500ms".to_owned(),
        "--pooler-health-check-interval=2s".to_owned(),
    ];
    if alone {
        args.push(format!(
            "--service-id=o-{}",
            crds::name::hash(&[&deployment])
        ));
    }
    let mut mounts = Vec::from_iter(telemetry.mount);
    let mut volumes = Vec::from_iter(telemetry.volume);
    if workload::mesh(spec.internal_tls.as_ref()) {
        args.extend(workload::serve_tls(MESH_DIR));
        args.extend(workload::call_tls(MESH_DIR, cluster, &owner.namespace));
        mounts.push(mount_ro("tls-certs", MESH_DIR));
        let secret = workload::certificate_name("multiorch", cluster, &owner.namespace);
        volumes.push(secret_volume("tls-certs", &secret, READABLE, None));
    }
    let mut env = vec![pod_ip()];
    env.extend(telemetry.env);
    let container = Container {
        name: "multiorch".to_owned(),
        image: Some(workload::image(
            &spec.images.multiorch,
            crds::image::MULTIORCH,
        )),
        args: Some(args),
        env: Some(env),
        ports: Some(vec![port("http", HTTP_PORT), port("grpc", GRPC_PORT)]),
        resources: stateless.resources.clone(),
        volume_mounts: workload::listed(mounts),
        security_context: Some(workload::unprivileged(None, None)),
        ..Container::default()
    };
    Stateless {
        metadata: owner.child(deployment, own),
        replicas,
        exclusive: alone,
        pod_labels: Some(stateless.pod_labels.clone()),
        pod_annotations: Some(labels::pod_annotations(
            Some(&stateless.pod_annotations),
            project,
        )),
        placement: Placement {
            nodes: nodes(shard, cell),
            affinity: stateless.affinity.clone(),
            tolerations: spec
                .multiorch
                .placement
                .as_ref()
                .and_then(|p| workload::listed(p.tolerations.clone())),
        },
        pull: pull(shard),
        container: probes("/live", "/ready", HTTP_PORT).on(container),
        volumes,
    }
}

/// The nodes of a cell.
pub fn nodes(shard: &Shard, cell: &str) -> Option<Map> {
    shard
        .spec
        .cell_topology_labels
        .get(cell)
        .filter(|nodes| !nodes.is_empty())
        .cloned()
}

/// How the Shard's images are fetched.
pub fn pull(shard: &Shard) -> Pull {
    let images = &shard.spec.images;
    Pull {
        policy: workload::text(&images.image_pull_policy),
        secrets: workload::listed(images.image_pull_secrets.clone()),
    }
}

fn certificates(
    shard: &Shard,
    identity: &Identity,
) -> Result<Option<CertificatePlan>, RenderError> {
    let Some(backup) = &shard.spec.backup else {
        return Ok(None);
    };
    if workload::own_pgbackrest_secret(backup).is_some() {
        return Ok(None);
    }
    let namespace = &identity.owner.namespace;
    let mut hosts = BTreeSet::from(["pgbackrest".to_owned()]);
    for (pool, spec) in &shard.spec.pools {
        for cell in &spec.cells {
            hosts.insert(format!(
                "*.{}",
                crate::pool::objects::headless_name(identity, pool, cell)
            ));
        }
    }
    let mut dns_names: Vec<String> = hosts
        .iter()
        .flat_map(|host| {
            [
                format!("{host}.{namespace}.svc"),
                format!("{host}.{namespace}.svc.cluster.local"),
            ]
        })
        .collect();
    dns_names.sort();
    let secret = |suffix| {
        let own = labels::standard(&identity.cluster, "pgbackrest-tls", &[]);
        let metadata = identity.owner.child(identity.suffixed(suffix), own);
        Desired::from_typed(
            Kind::Secret,
            &Secret {
                metadata,
                ..Secret::default()
            },
        )
    };
    Ok(Some(CertificatePlan {
        ca: secret("pgbackrest-ca")?,
        leaf: secret("pgbackrest-tls")?,
        dns_names,
    }))
}

/// Read by initdb only: data directories that exist keep theirs. Replication is open to every address, since standbys
/// connect from other pods; everybody needs the password.
const PG_HBA: &str = "\
# Written by multigres-operator. Takes effect when a data directory is initialised.
local  all          all                  scram-sha-256
local  replication  all                  scram-sha-256
host   replication  all  0.0.0.0/0       scram-sha-256
host   replication  all  ::0/0           scram-sha-256
host   all          all  127.0.0.1/32    scram-sha-256
host   all          all  ::1/128         scram-sha-256
host   all          all  10.0.0.0/8      scram-sha-256
host   all          all  172.16.0.0/12   scram-sha-256
host   all          all  192.168.0.0/16  scram-sha-256
host   all          all  0.0.0.0/0       scram-sha-256
host   all          all  ::0/0           scram-sha-256
";

/// Metrics the exporter does not have by itself; each is named `<query>_<column>`.
const EXPORTER_QUERIES: &str = r#"pg_database:
  query: |
    SELECT sum(pg_database_size(oid)) / 1048576.0 AS size_mb
    FROM pg_database
  master: true
  cache_seconds: 60
  metrics:
    - size_mb: {usage: GAUGE, description: "Size of all databases in MiB"}
pg_wal:
  query: |
    SELECT coalesce(sum(size), 0) / 1048576.0 AS size_mb
    FROM pg_ls_waldir()
  master: true
  cache_seconds: 60
  metrics:
    - size_mb: {usage: GAUGE, description: "Size of the WAL directory in MiB"}
pg_stat_database:
  query: |
    SELECT sum(numbackends) AS num_backends
    FROM pg_stat_database
  master: true
  cache_seconds: 60
  metrics:
    - num_backends: {usage: GAUGE, description: "Backends over all databases"}
physical_replication_lag:
  query: |
    WITH receivers AS (SELECT count(*) AS connected FROM pg_stat_wal_receiver)
    SELECT
      CASE
        WHEN NOT pg_is_in_recovery() THEN 0
        WHEN connected > 0 AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0)
      END AS seconds,
      CASE WHEN pg_is_in_recovery() AND pg_is_wal_replay_paused() THEN 1 ELSE 0 END AS is_wal_replay_paused,
      connected AS is_connected_to_primary
    FROM receivers
  master: true
  cache_seconds: 60
  metrics:
    - seconds: {usage: GAUGE, description: "Seconds this server lags behind its primary"}
    - is_wal_replay_paused: {usage: GAUGE, description: "1 while replay is paused"}
    - is_connected_to_primary: {usage: GAUGE, description: "Number of WAL receivers"}
connection_stats:
  query: |
    SELECT usename AS username, count(*) AS connection_count
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND usename IS NOT NULL
    GROUP BY usename
  master: true
  cache_seconds: 60
  metrics:
    - username: {usage: LABEL, description: "Role"}
    - connection_count: {usage: GAUGE, description: "Client connections of the role"}
max_connections:
  query: |
    SELECT current_setting('max_connections')::int AS connection_count
  master: true
  cache_seconds: 60
  metrics:
    - connection_count: {usage: GAUGE, description: "Connections the server accepts"}
"#;
