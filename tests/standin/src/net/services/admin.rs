//! The admin service (`topology.md` 3.5), with the faults of the real one: the pooler for a backup is chosen by records
//! alone, `GetPoolers` with a shard fails, `SwitchPrimary` takes the PRIMARY record that is listed last.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use actors::proto::clustermetadata as wire;
use actors::proto::multiadmin as data;
use actors::proto::multiadmin::multiadmin_service_server::MultiadminService;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{refused, unimplemented};
use crate::{
    backup::Backup,
    message::{self, backups, status},
    name::{Id, ShardKey},
    net::{
        admin::{Admin, Job},
        live::Live,
    },
    shard::Shard,
};

pub(super) struct Service(pub(super) Arc<Admin>);

type Answer<T> = Result<Response<T>, Status>;

/// One failing cell fails a whole list.
fn unavailable(error: anyhow::Error) -> Status {
    Status::unavailable(format!("{error:#}"))
}

fn key(database: &str, table_group: &str, shard: &str) -> ShardKey {
    ShardKey {
        database: database.to_owned(),
        table_group: table_group.to_owned(),
        shard: if shard.is_empty() { "0-inf" } else { shard }.to_owned(),
    }
}

impl Service {
    /// First segments below a prefix, each once.
    async fn names(&self, prefix: &str) -> Result<Vec<String>, Status> {
        let (entries, _) = self
            .0
            .topology
            .global
            .list(prefix)
            .await
            .map_err(unavailable)?;
        let name = |key: String| Some(key.strip_prefix(prefix)?.split('/').next()?.to_owned());
        let names: BTreeSet<String> = entries
            .into_iter()
            .filter_map(|entry| name(entry.key))
            .collect();
        Ok(names.into_iter().collect())
    }

    /// The records of one kind in these cells, or in all.
    async fn records<T: Message + Default>(
        &self,
        cells: &[String],
        prefix: &str,
        cell_of: impl Fn(&T) -> Option<&wire::Id>,
    ) -> Result<Vec<T>, Status> {
        let cells = if cells.is_empty() {
            self.names("cells/").await?
        } else {
            cells.to_vec()
        };
        let mut records = Vec::new();
        for name in cells {
            let cell = self.0.topology.cell(&name).await.map_err(unavailable)?;
            let (entries, _) = cell.store.list(prefix).await.map_err(unavailable)?;
            for entry in entries {
                let record = T::decode(entry.value.as_slice())
                    .map_err(|error| Status::internal(error.to_string()))?;
                if cell_of(&record).is_some_and(|id| id.cell == name) {
                    records.push(record);
                }
            }
        }
        Ok(records)
    }

    async fn poolers(&self, key: &ShardKey) -> Result<Vec<wire::Multipooler>, Status> {
        let all = self.records(&[], "poolers/", |p: &wire::Multipooler| p.id.as_ref());
        let own = |pooler: &wire::Multipooler| {
            let shard = pooler.shard_key.clone().unwrap_or_default();
            shard.database == key.database && shard.table_group == key.table_group
        };
        Ok(all.await?.into_iter().filter(own).collect())
    }

    /// The pooler for a backup, by what the records say.
    async fn chosen(&self, key: &ShardKey, primary: bool) -> Result<Option<Id>, Status> {
        let serving = |pooler: &wire::Multipooler| {
            pooler.serving_status() == wire::PoolerServingStatus::Serving
        };
        let mut poolers = self.poolers(key).await?;
        poolers.retain(|pooler| serving(pooler) && leads(pooler) == primary);
        let chosen = if primary {
            poolers.iter().max_by_key(|pooler| number(pooler))
        } else {
            poolers.first()
        };
        Ok(chosen.and_then(|pooler| message::parse_id(pooler.id.as_ref()?)))
    }

    fn pooler(&self, id: Option<&wire::Id>) -> Result<(Arc<Live>, Id), Status> {
        let id = id.and_then(message::parse_id);
        let id = id.ok_or_else(|| Status::invalid_argument("pooler_id is missing"))?;
        let live = self.0.shard_of(&id);
        let live = live.ok_or_else(|| Status::not_found(format!("{id} is not known")))?;
        Ok((live, id))
    }

    /// Where a list of backups comes from: one pooler that is not primary.
    async fn source(&self, key: &ShardKey) -> Result<Arc<Live>, Status> {
        let chosen = self.chosen(key, false).await?;
        let id = chosen.ok_or_else(|| Status::not_found("no pooler serves"))?;
        let live = self.0.shard(key);
        let (answers, reachable) = live.read(|shard, _| {
            let pooler = shard.pooler(&id);
            let answers = pooler.is_some_and(|pooler| pooler.answers());
            let reachable = pooler.is_none_or(|pooler| !pooler.without_repository);
            (answers, reachable)
        });
        match (answers, reachable) {
            (true, true) => Ok(live),
            (false, _) => Err(Status::unavailable(format!("{id} does not answer"))),
            (_, false) => Err(Status::internal(
                "pgbackrest: the repository cannot be reached",
            )),
        }
    }
}

fn leads(pooler: &wire::Multipooler) -> bool {
    let role = pooler.routing_state.as_ref().map(wire::RoutingState::role);
    role == Some(wire::RoutingRole::Primary)
}

fn number(pooler: &wire::Multipooler) -> (i64, i64) {
    let rule = pooler
        .routing_state
        .as_ref()
        .and_then(|routing| routing.rule);
    rule.map_or((0, 0), |rule| (rule.coordinator_term, rule.leader_subterm))
}

fn info(shard: &Shard, backup: &Backup) -> data::BackupInfo {
    let metadata = backups::metadata(&shard.key, backup);
    data::BackupInfo {
        backup_id: metadata.backup_id,
        database: shard.key.database.clone(),
        table_group: metadata.table_group,
        shard: metadata.shard,
        r#type: metadata.r#type,
        status: data::BackupStatus::Complete.into(),
        backup_size_bytes: metadata.backup_size_bytes,
        multipooler_service_id: metadata.multipooler_id,
        routing_role: metadata.routing_role,
        start_lsn: metadata.start_lsn,
        stop_lsn: metadata.stop_lsn,
        pg_version: metadata.pg_version,
        start_timestamp: metadata.start_timestamp,
        stop_timestamp: metadata.stop_timestamp,
        job_id: metadata.job_id,
    }
}

fn job_status(
    shard: &Shard,
    id: &str,
    job: Option<&Job>,
) -> Option<data::GetBackupJobStatusResponse> {
    use data::JobStatus as State;
    let finished = shard.repository.by_job(id);
    let failed = match shard.repository.outcome(id) {
        Some(Err(text)) => Some(text.clone()),
        _ => None,
    };
    // What is not in memory is found by its annotation, once it is complete.
    if job.is_none() && finished.is_none() {
        return None;
    }
    let status = match (&finished, &failed) {
        (Some(_), _) => State::Completed,
        (None, Some(_)) => State::Failed,
        (None, None) => State::Running,
    };
    Some(data::GetBackupJobStatusResponse {
        job_id: id.to_owned(),
        job_type: data::JobType::Backup.into(),
        status: status.into(),
        error_message: failed.unwrap_or_default(),
        database: shard.key.database.clone(),
        table_group: shard.key.table_group.clone(),
        shard: shard.key.shard.clone(),
        backup_type: job.map(|job| job.kind.clone()).unwrap_or_default(),
        requested_backup_id: String::new(),
        backup_id: finished
            .map(|backup| backup.label.clone())
            .unwrap_or_default(),
    })
}

#[tonic::async_trait]
impl MultiadminService for Service {
    async fn get_cell(
        &self,
        request: Request<data::GetCellRequest>,
    ) -> Answer<data::GetCellResponse> {
        let key = format!("cells/{}/Cell", request.into_inner().name);
        let value = self
            .0
            .topology
            .global
            .get(&key)
            .await
            .map_err(unavailable)?;
        let value = value.ok_or_else(|| Status::not_found("no such cell"))?;
        let cell = wire::Cell::decode(value.as_slice());
        let cell = Some(cell.map_err(|error| Status::internal(error.to_string()))?);
        Ok(Response::new(data::GetCellResponse { cell }))
    }

    async fn get_database(
        &self,
        request: Request<data::GetDatabaseRequest>,
    ) -> Answer<data::GetDatabaseResponse> {
        let key = format!("databases/{}/Database", request.into_inner().name);
        let value = self
            .0
            .topology
            .global
            .get(&key)
            .await
            .map_err(unavailable)?;
        let value = value.ok_or_else(|| Status::not_found("no such database"))?;
        let database = wire::Database::decode(value.as_slice());
        let database = Some(database.map_err(|error| Status::internal(error.to_string()))?);
        Ok(Response::new(data::GetDatabaseResponse { database }))
    }

    async fn get_cell_names(
        &self,
        _: Request<data::GetCellNamesRequest>,
    ) -> Answer<data::GetCellNamesResponse> {
        let names = self.names("cells/").await?;
        Ok(Response::new(data::GetCellNamesResponse { names }))
    }

    async fn get_database_names(
        &self,
        _: Request<data::GetDatabaseNamesRequest>,
    ) -> Answer<data::GetDatabaseNamesResponse> {
        let names = self.names("databases/").await?;
        Ok(Response::new(data::GetDatabaseNamesResponse { names }))
    }

    async fn get_gateways(
        &self,
        request: Request<data::GetGatewaysRequest>,
    ) -> Answer<data::GetGatewaysResponse> {
        let cells = request.into_inner().cells;
        let all = self.records(&cells, "gateways/", |g: &wire::Multigateway| g.id.as_ref());
        Ok(Response::new(data::GetGatewaysResponse {
            gateways: all.await?,
        }))
    }

    async fn get_poolers(
        &self,
        request: Request<data::GetPoolersRequest>,
    ) -> Answer<data::GetPoolersResponse> {
        let request = request.into_inner();
        if !request.shard.is_empty() && !request.database.is_empty() {
            return Err(Status::internal("bad input: shard without table group"));
        }
        let all = self.records(&request.cells, "poolers/", |p: &wire::Multipooler| {
            p.id.as_ref()
        });
        let own = |pooler: &wire::Multipooler| {
            let shard = pooler.shard_key.as_ref();
            request.database.is_empty() || shard.is_some_and(|key| key.database == request.database)
        };
        Ok(Response::new(data::GetPoolersResponse {
            poolers: all.await?.into_iter().filter(own).collect(),
        }))
    }

    async fn get_orchs(
        &self,
        request: Request<data::GetOrchsRequest>,
    ) -> Answer<data::GetOrchsResponse> {
        let cells = request.into_inner().cells;
        let all = self.records(&cells, "orchs/", |o: &wire::Multiorch| o.id.as_ref());
        Ok(Response::new(data::GetOrchsResponse { orchs: all.await? }))
    }

    async fn get_pooler_status(
        &self,
        request: Request<data::GetPoolerStatusRequest>,
    ) -> Answer<data::GetPoolerStatusResponse> {
        let (live, id) = self.pooler(request.into_inner().pooler_id.as_ref())?;
        let status = live.read(|shard, now| {
            let pooler = shard.pooler(&id).filter(|pooler| pooler.answers())?;
            Some(status::response(
                shard,
                pooler,
                now,
                jiff::SignedDuration::ZERO,
            ))
        });
        let status = status.ok_or_else(|| Status::unavailable(format!("{id} does not answer")))?;
        Ok(Response::new(data::GetPoolerStatusResponse {
            status: status.status,
            consensus_status: status.consensus_status,
        }))
    }

    async fn set_postgres_restarts_enabled(
        &self,
        request: Request<data::SetPostgresRestartsEnabledRequest>,
    ) -> Answer<data::SetPostgresRestartsEnabledResponse> {
        let request = request.into_inner();
        let (live, id) = self.pooler(request.pooler_id.as_ref())?;
        live.change(|shard, now| shard.restarts(&id, request.enabled, now));
        Ok(Response::new(data::SetPostgresRestartsEnabledResponse {}))
    }

    async fn get_gateway_queries(
        &self,
        _: Request<data::GetGatewayQueriesRequest>,
    ) -> Answer<data::GetGatewayQueriesResponse> {
        unimplemented()
    }

    async fn get_gateway_consolidator(
        &self,
        _: Request<data::GetGatewayConsolidatorRequest>,
    ) -> Answer<data::GetGatewayConsolidatorResponse> {
        unimplemented()
    }

    async fn backup(&self, request: Request<data::BackupRequest>) -> Answer<data::BackupResponse> {
        let request = request.into_inner();
        let key = key(&request.database, &request.table_group, &request.shard);
        let chosen = self.chosen(&key, request.force_primary).await?;
        let id = chosen.ok_or_else(|| Status::failed_precondition("no pooler serves"))?;
        let (live, kind) = (self.0.shard(&key), request.r#type);
        let begun =
            live.change(|shard, now| shard.backup(&id, &kind, request.force_primary, None, now));
        let job_id = begun.map_err(refused)?;
        self.0.jobs().insert(job_id.clone(), Job { key, kind });
        Ok(Response::new(data::BackupResponse { job_id }))
    }

    async fn get_backup_job_status(
        &self,
        request: Request<data::GetBackupJobStatusRequest>,
    ) -> Answer<data::GetBackupJobStatusResponse> {
        let request = request.into_inner();
        let job = self.0.jobs().get(&request.job_id).cloned();
        let key = match &job {
            Some(job) => job.key.clone(),
            None => key(&request.database, &request.table_group, &request.shard),
        };
        let live = self.0.shard(&key);
        let status = live.read(|shard, _| job_status(shard, &request.job_id, job.as_ref()));
        status
            .map(Response::new)
            .ok_or_else(|| Status::not_found("no such job"))
    }

    async fn get_backups(
        &self,
        request: Request<data::GetBackupsRequest>,
    ) -> Answer<data::GetBackupsResponse> {
        let request = request.into_inner();
        let key = key(&request.database, &request.table_group, &request.shard);
        let live = self.source(&key).await?;
        let count = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let count = if count == 0 { usize::MAX } else { count };
        let backups = live.read(|shard, _| {
            let first = shard.repository.backups.iter().take(count);
            first.map(|backup| info(shard, backup)).collect()
        });
        Ok(Response::new(data::GetBackupsResponse { backups }))
    }

    async fn expire_backups(
        &self,
        request: Request<data::ExpireBackupsRequest>,
    ) -> Answer<data::ExpireBackupsResponse> {
        let request = request.into_inner();
        let key = key(&request.database, &request.table_group, &request.shard);
        let live = self.source(&key).await?;
        let full = request.overrides.get("repo1_retention_full");
        let full = full.and_then(|count| count.parse().ok());
        let removed = live.change(|shard, now| shard.expire(full, now));
        removed
            .map(|expired_backup_ids| {
                Response::new(data::ExpireBackupsResponse { expired_backup_ids })
            })
            .map_err(refused)
    }

    async fn verify_backups(
        &self,
        request: Request<data::VerifyBackupsRequest>,
    ) -> Answer<data::VerifyBackupsResponse> {
        let request = request.into_inner();
        let key = key(&request.database, &request.table_group, &request.shard);
        self.source(&key).await?;
        Ok(Response::new(data::VerifyBackupsResponse {
            duration: Some(message::duration(Duration::from_secs(1))),
            raw_output: "stanza: multigres\nstatus: ok\n".to_owned(),
        }))
    }

    async fn apply_certified_rule_change(
        &self,
        _: Request<data::ApplyCertifiedRuleChangeRequest>,
    ) -> Answer<data::ApplyCertifiedRuleChangeResponse> {
        unimplemented()
    }

    async fn switch_primary(
        &self,
        request: Request<data::SwitchPrimaryRequest>,
    ) -> Answer<data::SwitchPrimaryResponse> {
        let Some(key_of) = request.into_inner().shard_key else {
            return Err(Status::invalid_argument("shard_key is missing"));
        };
        let key = key(&key_of.database, &key_of.table_group, &key_of.shard);
        let poolers = self.poolers(&key).await?;
        let last = poolers.iter().rfind(|pooler| leads(pooler));
        let id = last.and_then(|pooler| message::parse_id(pooler.id.as_ref()?));
        let id = id.ok_or_else(|| Status::not_found("no PRIMARY"))?;
        if poolers.len() < 2 {
            return Err(Status::failed_precondition("there is no standby"));
        }
        let live = self.0.shard(&key);
        let begun = live.change(|shard, now| {
            let alive = shard.pooler(&id).is_some_and(|pooler| pooler.answers());
            alive.then(|| shard.resign(&id, now))
        });
        match begun {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return Err(Status::internal(format!("{id} did not resign"))),
        }
        live.until(|shard| shard.stepped_down(&id)).await;
        Ok(Response::new(data::SwitchPrimaryResponse {
            old_leader_id: Some(message::id(&id)),
        }))
    }
}
