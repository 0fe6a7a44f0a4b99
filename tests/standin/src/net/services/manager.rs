//! The manager service of a pooler (`topology.md` 3.3).

use std::{sync::Arc, time::Duration};

use actors::proto::multipoolermanager::multipooler_manager_server::MultipoolerManager;
use actors::proto::multipoolermanagerdata as data;
use tonic::{Request, Response, Status, Streaming};

use super::{health, refused, unimplemented};
use crate::{
    message::{self, backups, status},
    net::pooler::Pooler,
    settings::{self, Settings},
    shard::Shard,
};

pub(super) struct Manager(pub(super) Arc<Pooler>);

type Answer<T> = Result<Response<T>, Status>;

impl Manager {
    /// Asks the shard about this pooler while it answers.
    fn ask<T>(
        &self,
        ask: impl FnOnce(&Shard, &crate::pooler::Pooler, jiff::Timestamp) -> T,
    ) -> Result<T, Status> {
        let answer = self.0.live.read(|shard, now| {
            let pooler = shard.pooler(&self.0.id).filter(|pooler| pooler.answers())?;
            Some(ask(shard, pooler, now))
        });
        answer.ok_or_else(|| Status::unavailable("shutting down"))
    }

    fn repository(&self) -> Result<(), Status> {
        if self.ask(|_, pooler, _| pooler.without_repository)? {
            return Err(Status::internal(
                "pgbackrest: the repository cannot be reached",
            ));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl MultipoolerManager for Manager {
    type ManagerHealthStreamStream = health::Answers;

    async fn status(&self, _: Request<data::StatusRequest>) -> Answer<data::StatusResponse> {
        let skew = self.0.skew();
        self.ask(|shard, pooler, now| status::response(shard, pooler, now, skew))
            .map(Response::new)
    }

    async fn manager_health_stream(
        &self,
        request: Request<Streaming<data::ManagerHealthStreamClientMessage>>,
    ) -> Answer<health::Answers> {
        health::converse(Arc::clone(&self.0), request).await
    }

    async fn get_backups(
        &self,
        request: Request<data::GetBackupsRequest>,
    ) -> Answer<data::GetBackupsResponse> {
        let _action = self.0.action.lock().await;
        self.repository()?;
        let limit = request.into_inner().limit;
        self.ask(|shard, _, _| backups::list(&shard.key, &shard.repository.backups, limit))
            .map(Response::new)
    }

    async fn get_backup_by_job_id(
        &self,
        request: Request<data::GetBackupByJobIdRequest>,
    ) -> Answer<data::GetBackupByJobIdResponse> {
        let job = request.into_inner().job_id;
        if job.is_empty() {
            return Err(Status::invalid_argument("job_id is empty"));
        }
        let _action = self.0.action.lock().await;
        self.repository()?;
        let backup = self.ask(|shard, _, _| {
            let backup = shard.repository.by_job(&job);
            backup.map(|backup| backups::metadata(&shard.key, backup))
        })?;
        Ok(Response::new(data::GetBackupByJobIdResponse { backup }))
    }

    async fn backup(&self, request: Request<data::BackupRequest>) -> Answer<data::BackupResponse> {
        let _action = self.0.action.lock().await;
        let request = request.into_inner();
        let (id, job) = (&self.0.id, Some(request.job_id));
        let begun = self.0.live.change(|shard, now| {
            shard.backup(id, &request.r#type, request.force_primary, job, now)
        });
        let job = begun.map_err(refused)?;
        let ended = self
            .0
            .live
            .until(|shard| shard.repository.outcome(&job).cloned());
        match ended.await {
            Ok(backup_id) => Ok(Response::new(data::BackupResponse { backup_id })),
            Err(text) => Err(Status::internal(text)),
        }
    }

    async fn expire_backups(
        &self,
        request: Request<data::ExpireBackupsRequest>,
    ) -> Answer<data::ExpireBackupsResponse> {
        let _action = self.0.action.lock().await;
        self.repository()?;
        let overrides = request.into_inner().overrides;
        let full = overrides.get("repo1_retention_full");
        let full = full.and_then(|count| count.parse().ok());
        let removed = self.0.live.change(|shard, now| shard.expire(full, now));
        removed
            .map(|expired_backup_ids| {
                Response::new(data::ExpireBackupsResponse { expired_backup_ids })
            })
            .map_err(refused)
    }

    async fn verify_backups(
        &self,
        _: Request<data::VerifyBackupsRequest>,
    ) -> Answer<data::VerifyBackupsResponse> {
        self.repository()?;
        Ok(Response::new(data::VerifyBackupsResponse {
            duration: Some(message::duration(Duration::from_secs(1))),
            raw_output: "stanza: multigres\nstatus: ok\n".to_owned(),
        }))
    }

    async fn reload_config(
        &self,
        request: Request<data::ReloadConfigRequest>,
    ) -> Answer<data::ReloadConfigResponse> {
        let _action = self.0.action.lock().await;
        let expected: Settings = request.into_inner().expected_settings;
        let file = self.0.file().await;
        let file = file.map_err(|error| Status::internal(format!("{error:#}")))?;
        let (ready, takes) = self.ask(|shard, pooler, _| (pooler.ready(), shard.timing.reload))?;
        if !ready {
            return Ok(Response::new(data::ReloadConfigResponse::default()));
        }
        let blocked = settings::mismatches(&expected, &file, &self.0.running());
        if !blocked.is_empty() {
            return Ok(Response::new(data::ReloadConfigResponse {
                config_load_time: None,
                needs_restart: blocked.iter().any(|mismatch| mismatch.requires_restart),
                mismatches: blocked
                    .into_iter()
                    .map(|mismatch| data::SettingMismatch {
                        name: mismatch.name,
                        error: String::new(),
                        requires_restart: mismatch.requires_restart,
                    })
                    .collect(),
            }));
        }
        tokio::time::sleep(takes).await;
        self.0.took(file, false);
        let now = jiff::Timestamp::now();
        Ok(Response::new(data::ReloadConfigResponse {
            config_load_time: Some(message::time(now.checked_add(self.0.skew()).unwrap_or(now))),
            ..data::ReloadConfigResponse::default()
        }))
    }

    async fn resign_leadership(
        &self,
        _: Request<data::ResignLeadershipRequest>,
    ) -> Answer<data::ResignLeadershipResponse> {
        let _action = self.0.action.lock().await;
        let id = &self.0.id;
        let begun = self.0.live.change(|shard, now| shard.resign(id, now));
        begun.map_err(refused)?;
        let done = self.0.live.until(|shard| {
            let answers = shard.pooler(id).is_some_and(|pooler| pooler.answers());
            if answers {
                shard.stepped_down(id).map(Some)
            } else {
                Some(None)
            }
        });
        match done.await {
            Some(lsn) => Ok(Response::new(data::ResignLeadershipResponse {
                flush_lsn: lsn.to_string(),
            })),
            None => Err(Status::unavailable("shutting down")),
        }
    }

    async fn set_postgres_restarts_enabled(
        &self,
        request: Request<data::SetPostgresRestartsEnabledRequest>,
    ) -> Answer<data::SetPostgresRestartsEnabledResponse> {
        let enabled = request.into_inner().enabled;
        self.0
            .live
            .change(|shard, now| shard.restarts(&self.0.id, enabled, now));
        Ok(Response::new(data::SetPostgresRestartsEnabledResponse {}))
    }

    async fn wait_for_lsn(
        &self,
        _: Request<data::WaitForLsnRequest>,
    ) -> Answer<data::WaitForLsnResponse> {
        unimplemented()
    }

    async fn start_replication(
        &self,
        _: Request<data::StartReplicationRequest>,
    ) -> Answer<data::StartReplicationResponse> {
        unimplemented()
    }

    async fn stop_replication(
        &self,
        _: Request<data::StopReplicationRequest>,
    ) -> Answer<data::StopReplicationResponse> {
        unimplemented()
    }

    async fn reconcile_followers(
        &self,
        _: Request<data::ReconcileFollowersRequest>,
    ) -> Answer<data::ReconcileFollowersResponse> {
        unimplemented()
    }
}
