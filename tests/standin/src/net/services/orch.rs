//! The service of a coordinator (`topology.md` 3.6).

use std::sync::Arc;

use actors::proto::multiorch as data;
use actors::proto::multiorch::multiorch_service_server::MultiorchService;
use tonic::{Request, Response, Status};

use super::unimplemented;
use crate::{message::problems, name::ShardKey, net::orch::Orch};

pub(super) struct Service(pub(super) Arc<Orch>);

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    fn recovery(&self, enabled: bool) {
        for live in self.0.shards.values() {
            live.change(|shard, now| shard.orch_recovery(&self.0.id, enabled, now));
        }
    }
}

#[tonic::async_trait]
impl MultiorchService for Service {
    async fn get_shard_status(
        &self,
        request: Request<data::ShardStatusRequest>,
    ) -> Answer<data::ShardStatusResponse> {
        let key = request.into_inner().shard_key.unwrap_or_default();
        let key = ShardKey {
            database: key.database,
            table_group: key.table_group,
            shard: key.shard,
        };
        let Some(live) = self.0.shards.get(&key) else {
            return Err(Status::not_found(format!("{key} is not watched")));
        };
        Ok(Response::new(live.read(problems::shard_status)))
    }

    async fn disable_recovery(
        &self,
        _: Request<data::DisableRecoveryRequest>,
    ) -> Answer<data::DisableRecoveryResponse> {
        self.recovery(false);
        Ok(Response::new(data::DisableRecoveryResponse {
            success: true,
            message: String::new(),
        }))
    }

    async fn enable_recovery(
        &self,
        _: Request<data::EnableRecoveryRequest>,
    ) -> Answer<data::EnableRecoveryResponse> {
        self.recovery(true);
        Ok(Response::new(data::EnableRecoveryResponse {
            success: true,
            message: String::new(),
        }))
    }

    async fn get_recovery_status(
        &self,
        _: Request<data::GetRecoveryStatusRequest>,
    ) -> Answer<data::GetRecoveryStatusResponse> {
        let enabled = self
            .0
            .shards
            .values()
            .all(|live| live.read(|shard, _| shard.recovers(&self.0.id)));
        Ok(Response::new(data::GetRecoveryStatusResponse { enabled }))
    }

    /// Answers when the election that it began is over, with what was wrong before: a cycle looks once.
    async fn trigger_recovery_now(
        &self,
        request: Request<data::TriggerRecoveryNowRequest>,
    ) -> Answer<data::TriggerRecoveryNowResponse> {
        if request.into_inner().max_cycles > 1 {
            return Err(Status::invalid_argument("max_cycles must be 0 or 1"));
        }
        let mut codes = Vec::new();
        for live in self.0.shards.values() {
            let found = live.change(|shard, now| shard.recover_now(now));
            codes.extend(found.into_iter().map(|code| code.check().to_owned()));
            live.until(|shard| shard.election().is_none().then_some(()))
                .await;
        }
        Ok(Response::new(data::TriggerRecoveryNowResponse {
            remaining_problem_codes: codes,
        }))
    }

    async fn apply_certified_rule_change(
        &self,
        _: Request<data::ApplyCertifiedRuleChangeRequest>,
    ) -> Answer<data::ApplyCertifiedRuleChangeResponse> {
        unimplemented()
    }
}
