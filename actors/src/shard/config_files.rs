//! Files that are the same in every Shard.

/// Read by initdb only: data directories that exist keep theirs. Replication is open to every address, since standbys
/// connect from other pods; everybody needs the password.
pub const PG_HBA: &str = "\
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
pub const EXPORTER_QUERIES: &str = r#"pg_database:
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
