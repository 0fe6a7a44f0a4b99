//! `StreamPoolerHealth`: the cheap feed of serving status, role and lag.

use std::{pin::Pin, sync::Arc, time::Duration};

use actors::proto::multipoolerservice::{
    StreamPoolerHealthRequest, StreamPoolerHealthResponse,
    multipooler_service_server::MultipoolerService,
};
use futures::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::{
    message::{self, record},
    net::pooler::Pooler,
};

/// Silence that a reader should bear.
const STALENESS: Duration = Duration::from_secs(90);

pub(super) struct Feed(pub(super) Arc<Pooler>);

struct Reader {
    pooler: Arc<Pooler>,
    version: watch::Receiver<u64>,
    last: Option<StreamPoolerHealthResponse>,
}

fn message(pooler: &Pooler) -> Option<StreamPoolerHealthResponse> {
    let message = |model: &crate::pooler::Pooler| {
        model.answers().then(|| StreamPoolerHealthResponse {
            pooler_id: Some(message::id(&pooler.id)),
            serving_status: record::serving(model.record.serving).into(),
            routing_state: record::routing(&model.record),
            recommended_staleness_timeout: Some(message::duration(STALENESS)),
            replication_lag_ns: 0,
        })
    };
    pooler.look(message).flatten()
}

impl Reader {
    async fn next(mut self) -> Option<(Result<StreamPoolerHealthResponse, Status>, Option<Self>)> {
        let heartbeat = self.pooler.live.read(|shard, _| shard.timing.heartbeat);
        let heartbeat = tokio::time::sleep(heartbeat);
        tokio::pin!(heartbeat);
        let mut beat = false;
        loop {
            self.version.mark_unchanged();
            let Some(message) = message(&self.pooler) else {
                return Some((Err(Status::unavailable("shutting down")), None));
            };
            if beat || self.last.as_ref() != Some(&message) {
                self.last = Some(message.clone());
                return Some((Ok(message), Some(self)));
            }
            tokio::select! {
                _ = self.version.changed() => {}
                () = &mut heartbeat => beat = true,
            }
        }
    }
}

#[tonic::async_trait]
impl MultipoolerService for Feed {
    type StreamPoolerHealthStream =
        Pin<Box<dyn Stream<Item = Result<StreamPoolerHealthResponse, Status>> + Send>>;

    async fn stream_pooler_health(
        &self,
        _: Request<StreamPoolerHealthRequest>,
    ) -> Result<Response<Self::StreamPoolerHealthStream>, Status> {
        let reader = Reader {
            pooler: Arc::clone(&self.0),
            version: self.0.live.subscribe(),
            last: None,
        };
        let next = |reader: Option<Reader>| async move { reader?.next().await };
        Ok(Response::new(Box::pin(stream::unfold(Some(reader), next))))
    }
}
