//! Calls to poolers and multiorchs. Runs on the I/O threads, holds nothing, and tells what happens by [`Report`].
//!
//! A [`Link`] is one process at one address. A pooler's link keeps one health stream open and opens it again when it breaks;
//! all other calls are made on demand, each with its deadline and in a task of its own, so that a peer that hangs costs
//! memory and nothing else. Whether a peer may be called now is the caller's to decide
//! ([`Peer`](crate::topology_store::peer::Peer)).
//!
//! Addresses are those of pods as we observe them; the certificate is checked against the component's name, not the address
//! (`topology.md` 3.1).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tracing::Instrument;

use crate::proto::MESSAGE_LIMIT;
use crate::proto::clustermetadata::ShardKey;
use crate::proto::multiorch::multiorch_service_client::MultiorchServiceClient;
use crate::proto::multiorch::{ShardStatusRequest, ShardStatusResponse, TriggerRecoveryNowRequest};
use crate::proto::multipoolermanager::multipooler_manager_client::MultipoolerManagerClient;
use crate::proto::multipoolermanagerdata as manager;
use crate::shard::pooler_health::{self, Health};
use crate::topology_store::key::ShardId;
use crate::topology_store::peer;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Servers close connections that are probed more often than every 10 s, or without a call under way.
const PROBE: Duration = Duration::from_secs(15);
/// Longest wait for the answer to a probe.
const PROBE_ANSWER: Duration = Duration::from_secs(5);
/// Longest wait for a stream to open.
const OPEN: Duration = Duration::from_secs(5);
/// How often a pooler repeats its health when nothing changes: three of them fit into the time that it is believed.
const INTERVAL: Duration = Duration::from_secs(5);
/// A stream that is silent for this long is broken: three intervals.
const SILENCE: Duration = Duration::from_secs(15);
/// Longest wait between two attempts to open a stream: a pooler that comes back is seen within seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Identity and trust of our calls, PEM. Internal TLS is mutual.
#[derive(PartialEq, Eq)]
pub struct Tls {
    /// Authority of the servers' certificates.
    pub ca: Vec<u8>,
    /// Our certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// Where a process is. Another target is another [`Link`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its pod's address and gRPC port.
    pub address: SocketAddr,
    /// TLS and the name that its certificate must carry; `None`: plain.
    pub tls: Option<(Arc<Tls>, String)>,
}

/// Who speaks: a report of an earlier life of a link is ignored by its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The receiver's name for the peer.
    pub peer: Box<str>,
    /// Counted up by the receiver with each [`Link::open`].
    pub life: u64,
}

/// What happened.
#[derive(Debug)]
pub struct Report {
    /// At which peer.
    pub source: Source,
    /// What.
    pub event: Event,
}

/// See [`Report`].
#[derive(Debug)]
pub enum Event {
    /// A snapshot of the health stream: on opening, on change, and at intervals.
    Health(Box<Health>),
    /// The health stream broke or did not open; it is opened again after a wait.
    Lost(Failure),
    /// A call was answered.
    Answered {
        /// The caller's number for it.
        call: u64,
        /// Name of the method.
        method: &'static str,
        /// The answer.
        result: Result<Answer, Failure>,
        /// How long it took.
        latency: Duration,
    },
}

/// A call that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// gRPC code.
    pub code: Code,
    /// In words, causes included.
    pub message: String,
}

impl Failure {
    /// What it means for the next call (`topology.md` 3.2).
    pub const fn outcome(&self) -> peer::Outcome {
        match self.code {
            // A refused handshake shows as Unknown.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                peer::Outcome::Unreachable
            }
            Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied => {
                peer::Outcome::Refused
            }
            _ => peer::Outcome::Answered,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            code: status.code(),
            message: super::words_of(&status),
        }
    }
}

/// A call on demand. None of them is repeated here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A pooler's own view.
    Status,
    /// A pooler's list of all backups. Waits behind a backup that runs on it.
    GetBackups,
    /// Reload PostgreSQL's settings once the file says this. Waits behind a backup that runs on it.
    ReloadConfig(BTreeMap<String, String>),
    /// Step down as leader. Not idempotent: after an ambiguous answer it is never sent again.
    ResignLeadership,
    /// A multiorch's view of a shard.
    GetShardStatus(ShardId),
    /// One recovery cycle of a multiorch, without its grace period.
    TriggerRecoveryNow,
}

impl Call {
    /// Name of the method.
    pub const fn method(&self) -> &'static str {
        match self {
            Call::Status => "Status",
            Call::GetBackups => "GetBackups",
            Call::ReloadConfig(_) => "ReloadConfig",
            Call::ResignLeadership => "ResignLeadership",
            Call::GetShardStatus(_) => "GetShardStatus",
            Call::TriggerRecoveryNow => "TriggerRecoveryNow",
        }
    }

    /// Longest wait for its answer.
    pub const fn deadline(&self) -> Duration {
        Duration::from_secs(match self {
            Call::Status | Call::GetShardStatus(_) => 5,
            Call::GetBackups => 45,
            Call::ReloadConfig(_) | Call::ResignLeadership => 60,
            Call::TriggerRecoveryNow => 30,
        })
    }
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To Status.
    Status(Box<Health>),
    /// To GetBackups.
    Backups(manager::GetBackupsResponse),
    /// To ReloadConfig.
    Reloaded(manager::ReloadConfigResponse),
    /// To ResignLeadership: the WAL position at which it stepped down.
    Resigned(String),
    /// To GetShardStatus.
    Shard(ShardStatusResponse),
    /// To TriggerRecoveryNow: codes of the problems that remain.
    Recovered(Vec<String>),
}

/// A process under observation. Dropping it closes the connection and gives up the calls under way.
#[derive(Debug)]
pub struct Link {
    io: runtime::Handle,
    channel: Channel,
    source: Source,
    reports: mpsc::Sender<Report>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Link {
    /// Begins to observe; with `health` a stream is kept open (poolers). Must be called where a runtime is entered or not at all:
    /// nothing is dialled here.
    ///
    /// # Errors
    /// Unusable TLS material, in words.
    pub fn open(
        io: &runtime::Handle,
        source: Source,
        target: &Target,
        health: bool,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, String> {
        let channel = {
            let _entered = io.enter();
            endpoint(target)
                .map_err(|error| format!("unusable TLS material: {error}"))?
                .connect_lazy()
        };
        let mut link = Self {
            io: io.clone(),
            channel,
            source,
            reports,
            tasks: Vec::new(),
        };
        if health {
            let task = follow(
                link.channel.clone(),
                link.source.clone(),
                link.reports.clone(),
            );
            link.tasks.push(io.spawn(task).abort_handle());
        }
        Ok(link)
    }

    /// Makes a call; its answer is an [`Event::Answered`] with this number.
    pub fn call(&mut self, number: u64, call: Call) {
        self.tasks.retain(|task| !task.is_finished());
        let (channel, source, reports) = (
            self.channel.clone(),
            self.source.clone(),
            self.reports.clone(),
        );
        let method = call.method();
        let span = tracing::debug_span!("call", peer = &*source.peer, method);
        let task = async move {
            let started = crate::clock::monotonic();
            let deadline = call.deadline();
            let result = match tokio::time::timeout(deadline, perform(channel, call)).await {
                Ok(result) => result.map_err(Failure::from),
                Err(_) => Err(silent(deadline)),
            };
            let event = Event::Answered {
                call: number,
                method,
                result,
                latency: crate::clock::monotonic() - started,
            };
            // The receiver is gone only when nobody waits for the answer.
            let _ = reports.send(Report { source, event }).await;
        };
        let task = self.io.spawn(task.instrument(span));
        self.tasks.push(task.abort_handle());
    }
}

fn endpoint(target: &Target) -> Result<Endpoint, tonic::transport::Error> {
    let scheme = if target.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", target.address))?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE_ANSWER)
        .keep_alive_while_idle(false);
    let Some((tls, name)) = &target.tls else {
        return Ok(endpoint);
    };
    endpoint.tls_config(
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&tls.ca))
            .identity(Identity::from_pem(&tls.certificate, &tls.key))
            .domain_name(name),
    )
}

fn silent(deadline: Duration) -> Failure {
    Failure {
        code: Code::DeadlineExceeded,
        message: format!("no answer within {} s", deadline.as_secs()),
    }
}

fn pooler(channel: Channel) -> MultipoolerManagerClient<Channel> {
    MultipoolerManagerClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT)
}

fn multiorch(channel: Channel) -> MultiorchServiceClient<Channel> {
    MultiorchServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT)
}

async fn perform(channel: Channel, call: Call) -> Result<Answer, Status> {
    // The server learns when to give up: a moment after us, so that the failure is told in our words.
    fn bounded<T>(message: T, call: &Call) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(call.deadline() + Duration::from_secs(1));
        request
    }
    Ok(match &call {
        Call::Status => {
            let request = bounded(manager::StatusRequest {}, &call);
            let answer = pooler(channel).status(request).await?;
            Answer::Status(Box::new(pooler_health::health(answer.get_ref())))
        }
        Call::GetBackups => {
            let request = bounded(manager::GetBackupsRequest { limit: 0 }, &call);
            Answer::Backups(pooler(channel).get_backups(request).await?.into_inner())
        }
        Call::ReloadConfig(expected) => {
            let message = manager::ReloadConfigRequest {
                expected_settings: expected.clone(),
            };
            let request = bounded(message, &call);
            Answer::Reloaded(pooler(channel).reload_config(request).await?.into_inner())
        }
        Call::ResignLeadership => {
            let request = bounded(manager::ResignLeadershipRequest {}, &call);
            let answer = pooler(channel).resign_leadership(request).await?;
            Answer::Resigned(answer.into_inner().flush_lsn)
        }
        Call::GetShardStatus(shard) => {
            let message = ShardStatusRequest {
                shard_key: Some(ShardKey {
                    database: shard.database.to_string(),
                    table_group: shard.table_group.to_string(),
                    shard: shard.shard.to_string(),
                }),
            };
            let request = bounded(message, &call);
            Answer::Shard(
                multiorch(channel)
                    .get_shard_status(request)
                    .await?
                    .into_inner(),
            )
        }
        Call::TriggerRecoveryNow => {
            let request = bounded(TriggerRecoveryNowRequest { max_cycles: 1 }, &call);
            let answer = multiorch(channel).trigger_recovery_now(request).await?;
            Answer::Recovered(answer.into_inner().remaining_problem_codes)
        }
    })
}

/// Keeps a health stream open until nobody listens any more.
async fn follow(channel: Channel, source: Source, reports: mpsc::Sender<Report>) {
    let mut failures = 0;
    loop {
        let mut heard = false;
        let failure = listen(channel.clone(), &source, &reports, &mut heard).await;
        let Err(failure) = failure else {
            return;
        };
        failures = if heard { 0_u32 } else { failures };
        let lost = Report {
            source: source.clone(),
            event: Event::Lost(failure),
        };
        if reports.send(lost).await.is_err() {
            return;
        }
        tokio::time::sleep(peer::delay(&source.peer, failures).min(LONGEST_WAIT)).await;
        failures = failures.saturating_add(1);
    }
}

/// Listens until the stream breaks. `Ok`: nobody listens to us any more.
async fn listen(
    channel: Channel,
    source: &Source,
    reports: &mpsc::Sender<Report>,
    heard: &mut bool,
) -> Result<(), Failure> {
    use manager::manager_health_stream_client_message::Message as Ask;
    use manager::manager_health_stream_response::Message as Told;
    let ask = manager::ManagerHealthStreamClientMessage {
        message: Some(Ask::Start(manager::ManagerHealthStreamStartRequest {
            snapshot_interval: prost_types::Duration::try_from(INTERVAL).ok(),
            staleness_timeout: None,
        })),
    };
    // Our side stays open exactly as long as we listen: one that never ends would keep the connection for ever.
    let (_listening, ended) = oneshot::channel::<()>();
    let open = stream::once(ended).filter_map(|_| std::future::ready(None));
    let asking = stream::iter([ask]).chain(open);
    // Apart: what it takes to open a stream is not held for as long as the stream is.
    let opening = Box::pin(async move { pooler(channel).manager_health_stream(asking).await });
    let mut telling = tokio::time::timeout(OPEN, opening)
        .await
        .map_err(|_| silent(OPEN))??
        .into_inner();
    loop {
        let message = tokio::time::timeout(SILENCE, telling.message())
            .await
            .map_err(|_| silent(SILENCE))??;
        let Some(message) = message else {
            return Err(Failure {
                code: Code::Unavailable,
                message: "the pooler closed its health stream".to_owned(),
            });
        };
        let Some(Told::Snapshot(snapshot)) = message.message else {
            continue;
        };
        let Some(status) = snapshot.status else {
            continue;
        };
        *heard = true;
        let event = Event::Health(Box::new(pooler_health::health(&status)));
        let report = Report {
            source: source.clone(),
            event,
        };
        if reports.send(report).await.is_err() {
            return Ok(());
        }
    }
}
