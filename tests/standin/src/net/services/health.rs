//! `ManagerHealthStream`: full snapshots on open, on change, on demand and from time to time.

use std::{pin::Pin, sync::Arc, time::Duration};

use actors::proto::multipoolermanagerdata::{
    ManagerHealthSnapshot, ManagerHealthStreamClientMessage as Said, ManagerHealthStreamResponse,
    ManagerHealthStreamStartRequest, ManagerHealthStreamStartResponse, SnapshotTrigger,
    StatusResponse, manager_health_stream_client_message::Message as Asked,
    manager_health_stream_response::Message,
};
use futures::{Stream, stream};
use tokio::{sync::watch, time::Instant};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    message::{self, status},
    net::pooler::Pooler,
};

/// Between two snapshots, when the client names no interval.
const INTERVAL: Duration = Duration::from_secs(5);
/// Silence that a client should bear, when it names none.
const STALENESS: Duration = Duration::from_secs(90);

pub(super) type Answers =
    Pin<Box<dyn Stream<Item = Result<ManagerHealthStreamResponse, Status>> + Send>>;

struct Conversation {
    pooler: Arc<Pooler>,
    said: Streaming<Said>,
    version: watch::Receiver<u64>,
    interval: Duration,
    staleness: Duration,
    started: bool,
    /// What was sent last, without what changes all the time.
    last: Option<StatusResponse>,
    next: Instant,
}

fn asked(length: Option<&prost_types::Duration>, default: Duration) -> Duration {
    let asked = length.and_then(|length| Duration::try_from(*length).ok());
    asked.filter(|length| !length.is_zero()).unwrap_or(default)
}

/// Begins a conversation; the client must speak first.
pub(super) async fn converse(
    pooler: Arc<Pooler>,
    request: Request<Streaming<Said>>,
) -> Result<Response<Answers>, Status> {
    let mut said = request.into_inner();
    let first = said.message().await?.and_then(|said| said.message);
    let Some(Asked::Start(ManagerHealthStreamStartRequest {
        snapshot_interval,
        staleness_timeout,
    })) = first
    else {
        return Err(Status::invalid_argument("the first message must be start"));
    };
    let conversation = Conversation {
        version: pooler.live.subscribe(),
        interval: asked(snapshot_interval.as_ref(), INTERVAL),
        staleness: asked(staleness_timeout.as_ref(), STALENESS),
        started: false,
        last: None,
        next: Instant::now(),
        said,
        pooler,
    };
    let next = |state: Option<Conversation>| async move { state?.next().await };
    Ok(Response::new(Box::pin(stream::unfold(
        Some(conversation),
        next,
    ))))
}

type Step = (
    Result<ManagerHealthStreamResponse, Status>,
    Option<Conversation>,
);

impl Conversation {
    async fn next(mut self) -> Option<Step> {
        if !self.started {
            self.started = true;
            let start = ManagerHealthStreamStartResponse {
                snapshot_interval: Some(message::duration(self.interval)),
                staleness_timeout: Some(message::duration(self.staleness)),
            };
            return Some((Ok(response(Message::Start(start))), Some(self)));
        }
        let mut trigger = self.last.is_none().then_some(SnapshotTrigger::Initial);
        loop {
            self.version.mark_unchanged();
            let Some(status) = self.status() else {
                return Some((Err(Status::unavailable("shutting down")), None));
            };
            let essence = status::essence(status.clone());
            if self.last.as_ref() != Some(&essence) {
                trigger = trigger.or(Some(SnapshotTrigger::Broadcast));
            }
            if let Some(trigger) = trigger {
                self.last = Some(essence);
                self.next = Instant::now() + self.interval;
                let snapshot = self.snapshot(status, trigger);
                return Some((Ok(response(Message::Snapshot(snapshot))), Some(self)));
            }
            tokio::select! {
                _ = self.version.changed() => {}
                () = tokio::time::sleep_until(self.next) => trigger = Some(SnapshotTrigger::Heartbeat),
                said = self.said.message() => match said {
                    Ok(Some(Said { message: Some(Asked::Poll(_)) })) => trigger = Some(SnapshotTrigger::Poll),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return None,
                },
            }
        }
    }

    fn status(&self) -> Option<StatusResponse> {
        let skew = self.pooler.skew();
        self.pooler.live.read(|shard, now| {
            let pooler = shard.pooler(&self.pooler.id)?;
            pooler
                .answers()
                .then(|| status::response(shard, pooler, now, skew))
        })
    }

    fn snapshot(&self, status: StatusResponse, trigger: SnapshotTrigger) -> ManagerHealthSnapshot {
        let now = jiff::Timestamp::now();
        let captured = now.checked_add(self.pooler.skew()).unwrap_or(now);
        ManagerHealthSnapshot {
            status: Some(status),
            timeout: Some(message::duration(self.staleness)),
            trigger: trigger.into(),
            captured_at: Some(message::time(captured)),
        }
    }
}

fn response(message: Message) -> ManagerHealthStreamResponse {
    ManagerHealthStreamResponse {
        message: Some(message),
    }
}
