//! The data-plane effect against a server with the data plane's services.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use actors::effects::dataplane::{Answer, Call, Event, Failure, Link, Report, Source, Target, Tls};
use actors::proto::MESSAGE_LIMIT;
use actors::proto::clustermetadata as wire;
use actors::proto::multiorch;
use actors::proto::multiorch::multiorch_service_server::{
    MultiorchService, MultiorchServiceServer,
};
use actors::proto::multipoolermanager::multipooler_manager_server::{
    MultipoolerManager, MultipoolerManagerServer,
};
use actors::proto::multipoolermanagerdata as manager;
use actors::topology_store::key::ShardId;
use actors::topology_store::peer::Outcome;
use futures::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::certificates::Authority;
use crate::{find, next};

/// What the server is told to do, and what it saw.
#[derive(Clone, Default)]
struct Pooler {
    seen: Arc<Mutex<Vec<String>>>,
    /// Snapshots until the stream closes; `None`: it stays open.
    snapshots: Option<usize>,
    /// GetBackups never answers.
    hang: bool,
    /// Number of open health streams.
    open: Arc<watch::Sender<usize>>,
    /// Bytes in the list of backups.
    padding: usize,
}

/// Counts itself out when the stream it belongs to ends.
struct Counted(Arc<watch::Sender<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Pooler {
    fn saw<T: std::fmt::Debug>(&self, request: &Request<T>) {
        let timeout = request
            .metadata()
            .get("grpc-timeout")
            .map(|value| value.to_str().unwrap().to_owned());
        let line = format!(
            "{:?} within {}",
            request.get_ref(),
            timeout.unwrap_or_default()
        );
        self.seen.lock().unwrap().push(line);
    }
}

fn status() -> manager::StatusResponse {
    manager::StatusResponse {
        status: Some(manager::Status {
            postgres_ready: true,
            ..Default::default()
        }),
        consensus_status: Some(wire::ConsensusStatus {
            id: Some(wire::Id {
                component: 1,
                cell: "zone1".to_owned(),
                name: "p-1".to_owned(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Methods that the operator never calls. A macro is expanded after `async_trait` has looked, so it says what that would.
macro_rules! not_here {
    ($($method:ident($request:ident) -> $response:ident;)*) => {$(
        fn $method<'a, 'b>(
            &'a self,
            _: Request<manager::$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<manager::$response>, Status>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(std::future::ready(Err(Status::unimplemented(stringify!($method)))))
        }
    )*};
}

#[tonic::async_trait]
impl MultipoolerManager for Pooler {
    type ManagerHealthStreamStream =
        Pin<Box<dyn Stream<Item = Result<manager::ManagerHealthStreamResponse, Status>> + Send>>;

    async fn manager_health_stream(
        &self,
        request: Request<Streaming<manager::ManagerHealthStreamClientMessage>>,
    ) -> Result<Response<Self::ManagerHealthStreamStream>, Status> {
        use manager::manager_health_stream_response::Message as Told;
        let mut asking = request.into_inner();
        let first = asking.message().await?;
        self.seen.lock().unwrap().push(format!("{first:?}"));
        self.open.send_modify(|count| *count += 1);
        let counted = Counted(self.open.clone());
        let told = |message| {
            Ok(manager::ManagerHealthStreamResponse {
                message: Some(message),
            })
        };
        let start = told(Told::Start(
            manager::ManagerHealthStreamStartResponse::default(),
        ));
        let snapshot = move || {
            told(Told::Snapshot(manager::ManagerHealthSnapshot {
                status: Some(status()),
                ..Default::default()
            }))
        };
        let snapshots = stream::iter((0..self.snapshots.unwrap_or(1)).map(move |_| snapshot()));
        let open = if self.snapshots.is_some() {
            stream::empty().boxed()
        } else {
            stream::pending().boxed()
        };
        let answers = stream::iter([start])
            .chain(snapshots)
            .chain(open)
            .map(move |answer| {
                let _held = (&counted, &asking);
                answer
            });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn status(
        &self,
        request: Request<manager::StatusRequest>,
    ) -> Result<Response<manager::StatusResponse>, Status> {
        self.saw(&request);
        Ok(Response::new(status()))
    }

    async fn get_backups(
        &self,
        request: Request<manager::GetBackupsRequest>,
    ) -> Result<Response<manager::GetBackupsResponse>, Status> {
        self.saw(&request);
        if self.hang {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(manager::GetBackupsResponse {
            backups: vec![manager::BackupMetadata {
                job_id: "x".repeat(self.padding),
                ..Default::default()
            }],
        }))
    }

    async fn reload_config(
        &self,
        request: Request<manager::ReloadConfigRequest>,
    ) -> Result<Response<manager::ReloadConfigResponse>, Status> {
        self.saw(&request);
        Ok(Response::new(manager::ReloadConfigResponse {
            needs_restart: true,
            ..Default::default()
        }))
    }

    async fn resign_leadership(
        &self,
        request: Request<manager::ResignLeadershipRequest>,
    ) -> Result<Response<manager::ResignLeadershipResponse>, Status> {
        self.saw(&request);
        Err(Status::failed_precondition("in recovery"))
    }

    not_here! {
        get_backup_by_job_id(GetBackupByJobIdRequest) -> GetBackupByJobIdResponse;
        backup(BackupRequest) -> BackupResponse;
        expire_backups(ExpireBackupsRequest) -> ExpireBackupsResponse;
        verify_backups(VerifyBackupsRequest) -> VerifyBackupsResponse;
        set_postgres_restarts_enabled(SetPostgresRestartsEnabledRequest) -> SetPostgresRestartsEnabledResponse;
        wait_for_lsn(WaitForLsnRequest) -> WaitForLsnResponse;
        start_replication(StartReplicationRequest) -> StartReplicationResponse;
        stop_replication(StopReplicationRequest) -> StopReplicationResponse;
        reconcile_followers(ReconcileFollowersRequest) -> ReconcileFollowersResponse;
    }
}

#[tonic::async_trait]
impl MultiorchService for Pooler {
    async fn get_shard_status(
        &self,
        request: Request<multiorch::ShardStatusRequest>,
    ) -> Result<Response<multiorch::ShardStatusResponse>, Status> {
        self.saw(&request);
        Err(Status::not_found("no such shard"))
    }

    async fn trigger_recovery_now(
        &self,
        request: Request<multiorch::TriggerRecoveryNowRequest>,
    ) -> Result<Response<multiorch::TriggerRecoveryNowResponse>, Status> {
        self.saw(&request);
        Ok(Response::new(multiorch::TriggerRecoveryNowResponse {
            remaining_problem_codes: vec!["ShardAtRisk".to_owned()],
        }))
    }

    async fn disable_recovery(
        &self,
        _: Request<multiorch::DisableRecoveryRequest>,
    ) -> Result<Response<multiorch::DisableRecoveryResponse>, Status> {
        Err(Status::unimplemented("never called"))
    }

    async fn enable_recovery(
        &self,
        _: Request<multiorch::EnableRecoveryRequest>,
    ) -> Result<Response<multiorch::EnableRecoveryResponse>, Status> {
        Err(Status::unimplemented("never called"))
    }

    async fn get_recovery_status(
        &self,
        _: Request<multiorch::GetRecoveryStatusRequest>,
    ) -> Result<Response<multiorch::GetRecoveryStatusResponse>, Status> {
        Err(Status::unimplemented("never called"))
    }

    async fn apply_certified_rule_change(
        &self,
        _: Request<multiorch::ApplyCertifiedRuleChangeRequest>,
    ) -> Result<Response<multiorch::ApplyCertifiedRuleChangeResponse>, Status> {
        Err(Status::unimplemented("never called"))
    }
}

async fn serve(pooler: Pooler, tls: Option<ServerTlsConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).unwrap();
    }
    let services = server
        .add_service(
            MultipoolerManagerServer::new(pooler.clone()).max_encoding_message_size(MESSAGE_LIMIT),
        )
        .add_service(MultiorchServiceServer::new(pooler));
    Handle::current().spawn(services.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn open(
    address: SocketAddr,
    tls: Option<(Arc<Tls>, String)>,
    health: bool,
) -> (Link, mpsc::Receiver<Report>) {
    let (sender, reports) = mpsc::channel(16);
    let source = Source {
        peer: "zone1/p-1".into(),
        life: 3,
    };
    let target = Target { address, tls };
    let link = Link::open(&Handle::current(), source, &target, health, sender).unwrap();
    (link, reports)
}

async fn lost(reports: &mut mpsc::Receiver<Report>) -> Failure {
    find(reports, |report| match &report.event {
        Event::Lost(failure) => Some(failure.clone()),
        _ => None,
    })
    .await
}

async fn heard(reports: &mut mpsc::Receiver<Report>) {
    find(reports, |report| match &report.event {
        Event::Health(health) => (health.ready && health.id.is_some()).then_some(()),
        _ => None,
    })
    .await;
}

async fn answer(
    reports: &mut mpsc::Receiver<Report>,
) -> (u64, &'static str, Result<Answer, Failure>) {
    find(reports, |report| match &report.event {
        Event::Answered {
            call,
            method,
            result,
            ..
        } => Some((*call, *method, result.clone())),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn health_streams_and_closes_with_its_link() {
    let pooler = Pooler::default();
    let mut open_streams = pooler.open.subscribe();
    let address = serve(pooler.clone(), None).await;
    let (link, mut reports) = open(address, None, true);
    let first = next(&mut reports).await;
    assert_eq!((&*first.source.peer, first.source.life), ("zone1/p-1", 3));
    let Event::Health(health) = first.event else {
        panic!("{first:?}");
    };
    assert!(health.ready);
    assert!(
        pooler.seen.lock().unwrap()[0].contains("seconds: 5"),
        "{:?}",
        pooler.seen
    );
    assert_eq!(*open_streams.borrow_and_update(), 1);
    drop(link);
    let closed = open_streams.wait_for(|count| *count == 0);
    tokio::time::timeout(crate::PATIENCE, closed)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_stream_that_closes_is_reported_and_opened_again() {
    let pooler = Pooler {
        snapshots: Some(1),
        ..Pooler::default()
    };
    let address = serve(pooler, None).await;
    let (_link, mut reports) = open(address, None, true);
    heard(&mut reports).await;
    let failure = lost(&mut reports).await;
    assert_eq!(
        (failure.code, failure.outcome()),
        (Code::Unavailable, Outcome::Unreachable)
    );
    heard(&mut reports).await;
}

#[tokio::test]
async fn a_pooler_that_refuses_connections_is_lost_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let started = tokio::time::Instant::now();
    let (mut link, mut reports) = open(address, None, true);
    let failure = lost(&mut reports).await;
    assert!(failure.message.contains("refused"), "{failure}");
    assert_eq!(failure.outcome(), Outcome::Unreachable);
    link.call(1, Call::Status);
    let (_, _, result) = answer(&mut reports).await;
    assert_eq!(result.unwrap_err().outcome(), Outcome::Unreachable);
    assert!(
        started.elapsed() < Call::Status.deadline(),
        "{:?}",
        started.elapsed()
    );
}

/// L-TOPO-09: a peer that takes connections and never speaks costs its deadlines; nothing else waits.
#[tokio::test]
async fn a_pooler_that_hangs_is_lost_after_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut link, mut reports) = open(listener.local_addr().unwrap(), None, true);
    link.call(1, Call::Status);
    let (_, method, result) = answer(&mut reports).await;
    assert_eq!(
        (method, result.unwrap_err().code),
        ("Status", Code::DeadlineExceeded)
    );
    let failure = lost(&mut reports).await;
    assert_eq!(failure.outcome(), Outcome::Unreachable, "{failure}");
}

#[tokio::test]
async fn a_call_that_hangs_does_not_hold_the_others() {
    let pooler = Pooler {
        hang: true,
        ..Pooler::default()
    };
    let address = serve(pooler, None).await;
    let (mut link, mut reports) = open(address, None, true);
    link.call(1, Call::GetBackups);
    heard(&mut reports).await;
    link.call(2, Call::Status);
    let (call, _, result) = answer(&mut reports).await;
    assert_eq!(call, 2);
    assert!(matches!(result, Ok(Answer::Status(health)) if health.ready));
}

#[tokio::test]
async fn each_call_says_what_it_should_and_has_a_deadline() {
    let pooler = Pooler::default();
    let address = serve(pooler.clone(), None).await;
    let (mut link, mut reports) = open(address, None, false);
    let settings = BTreeMap::from([("work_mem".to_owned(), "32MB".to_owned())]);
    let shard = ShardId::new("postgres", "default", "0-inf");
    let mut results = Vec::new();
    for (number, call) in [
        Call::GetBackups,
        Call::ReloadConfig(settings),
        Call::ResignLeadership,
        Call::GetShardStatus(shard),
        Call::TriggerRecoveryNow,
    ]
    .into_iter()
    .enumerate()
    {
        link.call(u64::try_from(number).unwrap(), call);
        results.push(answer(&mut reports).await);
    }
    let seen = pooler.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        [
            "GetBackupsRequest { limit: 0 } within 46000000u",
            "ReloadConfigRequest { expected_settings: {\"work_mem\": \"32MB\"} } within 61000000u",
            "ResignLeadershipRequest within 61000000u",
            "ShardStatusRequest { shard_key: Some(ShardKey { database: \"postgres\", table_group: \"default\", shard: \"0-inf\" }) } \
             within 6000000u",
            "TriggerRecoveryNowRequest { max_cycles: 1 } within 31000000u",
        ]
    );
    assert!(matches!(&results[0].2, Ok(Answer::Backups(list)) if list.backups.len() == 1));
    assert!(matches!(&results[1].2, Ok(Answer::Reloaded(reload)) if reload.needs_restart));
    let resigned = results[2].2.clone().unwrap_err();
    assert_eq!(
        (resigned.code, resigned.outcome()),
        (Code::FailedPrecondition, Outcome::Answered)
    );
    assert!(resigned.message.contains("in recovery"), "{resigned}");
    assert_eq!(results[3].2.clone().unwrap_err().code, Code::NotFound);
    assert_eq!(
        results[4].2,
        Ok(Answer::Recovered(vec!["ShardAtRisk".to_owned()]))
    );
}

#[tokio::test]
async fn answers_of_more_than_four_mebibytes_are_taken() {
    let pooler = Pooler {
        padding: 6 * 1024 * 1024,
        ..Pooler::default()
    };
    let address = serve(pooler, None).await;
    let (mut link, mut reports) = open(address, None, false);
    link.call(1, Call::GetBackups);
    let (_, _, result) = answer(&mut reports).await;
    assert!(
        matches!(result, Ok(Answer::Backups(list)) if list.backups[0].job_id.len() > 6_000_000)
    );
}

/// The server's certificate carries the component's name, the address is the pod's; the server wants a certificate of ours.
#[tokio::test]
async fn mutual_tls_by_the_name_of_the_component() {
    const NAME: &str = "multipooler.demo.db.multigres.internal";
    let authority = Authority::new();
    let server = authority.leaf(NAME);
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(&server.certificate, &server.key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let address = serve(Pooler::default(), Some(config)).await;
    let tls = |signer: &Authority| {
        let leaf = signer.leaf("multigres-operator");
        Arc::new(Tls {
            ca: authority.pem().into_bytes(),
            certificate: leaf.certificate.into_bytes(),
            key: leaf.key.into_bytes(),
        })
    };
    let (_link, mut reports) = open(address, Some((tls(&authority), NAME.to_owned())), true);
    heard(&mut reports).await;
    for (name, wrong) in [
        (
            "another component",
            Some((
                tls(&authority),
                "multiorch.demo.db.multigres.internal".to_owned(),
            )),
        ),
        (
            "a stranger's certificate",
            Some((tls(&Authority::new()), NAME.to_owned())),
        ),
        ("plain text", None),
    ] {
        let (mut link, mut reports) = open(address, wrong, false);
        link.call(1, Call::Status);
        let (_, _, result) = answer(&mut reports).await;
        let failure = result.expect_err(name);
        assert_eq!(failure.outcome(), Outcome::Unreachable, "{name}: {failure}");
    }
}
