//! A cluster of stand-ins without Kubernetes: real etcd processes, real sockets.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests run in real time, and all of this file is test"
)]

mod support;

use std::time::Duration;

use actors::proto::{
    clustermetadata as wire,
    multiadmin::{
        BackupRequest, GetBackupJobStatusRequest, JobStatus,
        multiadmin_service_client::MultiadminServiceClient,
    },
    multiorch::{
        ShardStatusRequest, TriggerRecoveryNowRequest,
        multiorch_service_client::MultiorchServiceClient,
    },
    multipoolermanagerdata as data,
    multipoolermanagerdata::{
        manager_health_stream_client_message::Message as Asked,
        manager_health_stream_response::Message as Told,
    },
    multipoolerservice::{
        StreamPoolerHealthRequest, multipooler_service_client::MultipoolerServiceClient,
    },
};
use control_plane::{http, wait};
use futures::stream;
use standin::{
    name::Id,
    net::fault::{Faults, Network},
    pooler::Lifecycle,
};
use support::{Bed, LONG, ROOT, p, until};
use tonic::{Code, Streaming};

/// A cluster with one etcd, one coordinator and three members; pooler `p<n>` has address `n`.
async fn cluster(name: &str) -> Bed {
    let bed = Bed::new(name, 20).await;
    bed.topo_server("topo", 0, 1, 100).ready().await;
    bed.register(ROOT).await;
    bed.other(
        "multiorch",
        ROOT,
        110,
        &["--service-id=o-1", "--watch-targets=postgres/default/0-inf"],
    );
    for number in 1..=3 {
        bed.pooler(ROOT, number, 0, number);
    }
    whole(&bed).await;
    bed
}

async fn whole(bed: &Bed) {
    until(&bed.shard(ROOT), "a whole shard", |shard| {
        shard.primary().is_some() && shard.members().len() == 3 && shard.problems().is_empty()
    })
    .await;
}

fn leader(bed: &Bed) -> (u16, Id) {
    let id = bed
        .shard(ROOT)
        .read(|shard, _| shard.primary().cloned())
        .unwrap();
    (id.name.trim_start_matches('p').parse().unwrap(), id)
}

fn replica(bed: &Bed) -> (u16, Id) {
    let (number, _) = leader(bed);
    let other = 1 + number % 3;
    (other, p(other))
}

async fn primary_record(bed: &Bed, id: &Id) {
    bed.record_that(ROOT, id, |record| {
        let routing = record.routing_state;
        routing.is_some_and(|routing| {
            routing.role() == wire::RoutingRole::Primary && routing.rule.is_some()
        })
    })
    .await;
}

type Snapshots = Streaming<data::ManagerHealthStreamResponse>;

async fn health(bed: &Bed, address: u16) -> Snapshots {
    let start = data::ManagerHealthStreamClientMessage {
        message: Some(Asked::Start(Default::default())),
    };
    let said = futures::StreamExt::chain(stream::iter([start]), stream::pending());
    let mut snapshots = bed
        .manager(address)
        .manager_health_stream(said)
        .await
        .unwrap()
        .into_inner();
    let first = snapshots.message().await.unwrap().unwrap().message.unwrap();
    let Told::Start(start) = first else {
        panic!("{first:?}")
    };
    assert_eq!(start.snapshot_interval.unwrap().seconds, 5);
    assert_eq!(start.staleness_timeout.unwrap().seconds, 90);
    snapshots
}

async fn snapshot(snapshots: &mut Snapshots) -> data::ManagerHealthSnapshot {
    let next = tokio::time::timeout(LONG, snapshots.message())
        .await
        .unwrap();
    match next.unwrap().unwrap().message.unwrap() {
        Told::Snapshot(snapshot) => snapshot,
        Told::Start(_) => panic!("a second start"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_follow_the_life_of_a_pooler() {
    let bed = cluster("records").await;
    let (_, leader) = leader(&bed);
    primary_record(&bed, &leader).await;
    let claim = bed
        .topology(ROOT)
        .claim(&bed.shard(ROOT).read(|shard, _| shard.key.clone()))
        .await
        .unwrap();
    assert_eq!(claim.unwrap().claimer, Id::orch("zone-a", "o-1"));
    let (number, id) = replica(&bed);
    let mut handle = bed.fleet.peer(&format!("{ROOT}-p{number}-0")).unwrap();
    assert!(handle.state.borrow().ready);
    handle.stop();
    handle.end().await;
    // The last record is written before the process ends.
    let record = bed.record(ROOT, &id).await.unwrap();
    assert_eq!(
        record.lifecycle_status.as_ref().unwrap().status(),
        wire::PoolerLifecycleStatus::LifecycleShutdown
    );
    assert_eq!(
        (record.routing_state, record.r#type, record.serving_status()),
        (None, 0, wire::PoolerServingStatus::Disabled)
    );
    until(&bed.shard(ROOT), "its exit", |shard| {
        shard.members().len() == 2
    })
    .await;
    bed.pooler(ROOT, number, 1, number).ready().await;
    whole(&bed).await;
    assert_eq!(
        bed.shard(ROOT)
            .read(|shard, _| shard.ledger.violations().to_vec()),
        []
    );
}

/// `topology.md` 1.7: an edit from outside stays, and the coordinators believe it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_a_record_is_not_healed_and_is_believed() {
    let bed = cluster("edit").await;
    let (_, id) = replica(&bed);
    let mut record = bed.record(ROOT, &id).await.unwrap();
    let before = record.clone();
    record.lifecycle_status = Some(wire::PoolerLifecycle {
        status: 4,
        reason: "operator".into(),
        updated: None,
    });
    let store = bed.topology(ROOT).global.clone();
    let key = format!("poolers/{id}/Pooler");
    store
        .put(&key, prost::Message::encode_to_vec(&record))
        .await
        .unwrap();
    until(&bed.shard(ROOT), "its exit", |shard| {
        shard.members().len() == 2
    })
    .await;
    assert_eq!(bed.record(ROOT, &id).await.unwrap(), record, "not healed");
    store
        .put(&key, prost::Message::encode_to_vec(&before))
        .await
        .unwrap();
    whole(&bed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_shows_in_streams_and_records() {
    let bed = cluster("switchover").await;
    let (number, old) = leader(&bed);
    let (other, _) = replica(&bed);
    let mut snapshots = health(&bed, other).await;
    let first = snapshot(&mut snapshots).await;
    assert_eq!(first.trigger(), data::SnapshotTrigger::Initial);
    let mut feed = MultipoolerServiceClient::new(bed.channel(number, 15270));
    let mut feed = feed
        .stream_pooler_health(StreamPoolerHealthRequest {})
        .await
        .unwrap()
        .into_inner();
    let role = |message: Option<actors::proto::multipoolerservice::StreamPoolerHealthResponse>| {
        message.unwrap().routing_state.unwrap().role()
    };
    assert_eq!(
        role(feed.message().await.unwrap()),
        wire::RoutingRole::Primary
    );

    let refused = bed
        .manager(other)
        .resign_leadership(data::ResignLeadershipRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let resigned = bed
        .manager(number)
        .resign_leadership(data::ResignLeadershipRequest {})
        .await
        .unwrap();
    assert!(resigned.into_inner().flush_lsn.starts_with("0/"));
    let mut orch = MultiorchServiceClient::new(bed.channel(110, 15370));
    let key = first_key();
    let status = orch
        .get_shard_status(ShardStatusRequest {
            shard_key: Some(key),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.problems[0].code, "LeaderResigned");
    let unknown = wire::ShardKey {
        database: "other".into(),
        ..first_key()
    };
    let refused = orch
        .get_shard_status(ShardStatusRequest {
            shard_key: Some(unknown),
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let done = orch
        .trigger_recovery_now(TriggerRecoveryNowRequest { max_cycles: 1 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(done.remaining_problem_codes[0], "LeaderNeedsReplacement");
    let (_, new) = leader(&bed);
    assert_ne!(new, old);
    let decided = |snapshot: &data::ManagerHealthSnapshot| {
        let consensus = snapshot.status.as_ref()?.consensus_status.as_ref()?;
        let decision = consensus
            .current_position
            .as_ref()?
            .position
            .as_ref()?
            .decision
            .as_ref()?;
        Some((decision.leader_id.clone()?.name, decision.rule_number?))
    };
    let told = loop {
        let snapshot = snapshot(&mut snapshots).await;
        if let Some((name, number)) = decided(&snapshot).filter(|(name, _)| *name == new.name) {
            assert_eq!(snapshot.trigger(), data::SnapshotTrigger::Broadcast);
            break (name, number.coordinator_term, number.leader_subterm);
        }
    };
    assert_eq!(told, (new.name.clone(), 2, 0));
    while role(feed.message().await.unwrap()) != wire::RoutingRole::Replica {}
    bed.record_that(ROOT, &new, |record| {
        record
            .routing_state
            .is_some_and(|routing| routing.rule.is_some_and(|rule| rule.coordinator_term == 2))
    })
    .await;
    whole(&bed).await;
}

fn first_key() -> wire::ShardKey {
    wire::ShardKey {
        database: "postgres".into(),
        table_group: "default".into(),
        shard: "0-inf".into(),
    }
}

/// `topology.md` 3.3: a backup holds the action lock, and `Status` needs none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_blocks_other_actions_and_not_status() {
    let bed = cluster("backup").await;
    let (number, _) = replica(&bed);
    bed.shard(ROOT)
        .change(|shard, _| shard.timing.backup = LONG);
    let request = data::BackupRequest {
        r#type: "full".into(),
        job_id: "mine".into(),
        ..Default::default()
    };
    let mut client = bed.manager(number);
    let running = tokio::spawn(async move { client.backup(request).await });
    let live = bed.shard(ROOT);
    until(&live, "the backup", |shard| {
        shard.repository.running.is_some()
    })
    .await;
    let lock = bed.topology(ROOT).global.clone();
    wait::quietly("the lock", LONG, async || {
        Ok(lock
            .get("backups/postgres/default/0-inf/lock")
            .await?
            .map(drop))
    })
    .await
    .unwrap();
    bed.manager(number)
        .status(data::StatusRequest {})
        .await
        .unwrap();
    let mut list = tonic::Request::new(data::GetBackupsRequest { limit: 0 });
    list.set_timeout(Duration::from_millis(300));
    let blocked = bed.manager(number).get_backups(list).await.unwrap_err();
    assert!(
        matches!(blocked.code(), Code::Cancelled | Code::DeadlineExceeded),
        "{blocked:?}"
    );
    let (other, _) = {
        let (leader, _) = leader(&bed);
        let third = 6 - leader - number;
        (third, p(third))
    };
    // A second backup steals the lock: the first one fails.
    live.change(|shard, _| shard.timing.backup = Duration::from_millis(50));
    let stolen = data::BackupRequest {
        r#type: "differential".into(),
        ..Default::default()
    };
    let label = bed
        .manager(other)
        .backup(stolen)
        .await
        .unwrap()
        .into_inner()
        .backup_id;
    assert!(label.ends_with('D'), "{label}");
    assert_eq!(running.await.unwrap().unwrap_err().code(), Code::Internal);
    let list = bed
        .manager(number)
        .get_backups(data::GetBackupsRequest { limit: 1 })
        .await
        .unwrap()
        .into_inner();
    assert!(
        list.backups[0].backup_id.ends_with('F'),
        "the limit keeps the oldest"
    );
    wait::quietly("the lock's end", LONG, async || {
        Ok(lock
            .get("backups/postgres/default/0-inf/lock")
            .await?
            .is_none()
            .then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_befall_one_peer() {
    let bed = cluster("faults").await;
    let (number, id) = replica(&bed);
    let peer = format!("ns/pod-{number}");
    let set = |network| {
        bed.fleet
            .faults
            .change(&peer, |faults| faults.network = network)
    };
    let mut client = bed.manager(number);
    let mut ask = async |milliseconds| {
        let mut request = tonic::Request::new(data::StatusRequest {});
        request.set_timeout(Duration::from_millis(milliseconds));
        client
            .status(request)
            .await
            .map(drop)
            .map_err(|status| status.code())
    };
    ask(5_000).await.unwrap();
    set(Network::Hang);
    assert!(matches!(
        ask(300).await,
        Err(Code::Cancelled | Code::DeadlineExceeded)
    ));
    set(Network::Fine);
    ask(5_000).await.unwrap();
    set(Network::Refuse);
    assert!(ask(5_000).await.is_err(), "the open connection is reset");
    // Refused while it dials, or reset while it had just dialled.
    assert!(matches!(
        ask(5_000).await,
        Err(Code::Unavailable | Code::Cancelled)
    ));
    set(Network::Garbage);
    assert!(ask(5_000).await.is_err());
    set(Network::Fine);
    wait::quietly("an answer", LONG, async || Ok(ask(5_000).await.ok()))
        .await
        .unwrap();
    bed.fleet
        .faults
        .change(&peer, |faults| faults.slow_milliseconds = 200);
    #[allow(clippy::disallowed_methods, reason = "slowness is measured")]
    let start = std::time::Instant::now();
    ask(5_000).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    bed.fleet.faults.set(&peer, Faults::default());

    // A crash leaves the record as it was; the process comes back when the fault ends.
    let before = bed.record(ROOT, &id).await.unwrap();
    bed.fleet.faults.change(&peer, |faults| faults.crash = true);
    until(&bed.shard(ROOT), "the crash", |shard| {
        !shard.pooler(&id).unwrap().answers()
    })
    .await;
    assert!(ask(5_000).await.is_err(), "the open connection is reset");
    assert_eq!(ask(5_000).await, Err(Code::Unavailable));
    assert_eq!(bed.record(ROOT, &id).await.unwrap(), before);
    bed.fleet
        .faults
        .change(&peer, |faults| faults.crash = false);
    whole(&bed).await;
    let handle = bed.fleet.peer(&format!("{ROOT}-p{number}-0")).unwrap();
    assert_eq!(handle.state.borrow().restarts, 1);

    // Skew shows in times, a garbage record in the topology, lag and partition in the model.
    bed.fleet.faults.change(&peer, |faults| {
        faults.clock_skew_milliseconds = -3_600_000;
        faults.garbage_record = true;
        faults.lag = true;
    });
    let mut snapshots = health(&bed, number).await;
    let captured = snapshot(&mut snapshots).await.captured_at.unwrap().seconds;
    assert!(jiff::Timestamp::now().as_second() - captured >= 3_600);
    wait::quietly("a record that is none", LONG, async || {
        Ok(bed.record(ROOT, &id).await.is_none().then_some(()))
    })
    .await
    .unwrap();
    until(&bed.shard(ROOT), "the lag", |shard| {
        shard.pooler(&id).unwrap().held
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_pooler_is_quarantined_after_its_flag() {
    let bed = cluster("quarantine").await;
    let (number, id) = replica(&bed);
    let peer = format!("ns/pod-{number}");
    bed.fleet
        .faults
        .change(&peer, |faults| faults.damaged_volume = true);
    until(&bed.shard(ROOT), "the failure", |shard| {
        !shard.pooler(&id).unwrap().ready()
    })
    .await;
    // Without the flag it never gives up.
    let lifecycle = bed
        .shard(ROOT)
        .read(|shard, _| shard.pooler(&id).unwrap().record.lifecycle);
    assert_eq!(lifecycle, Lifecycle::Active);
    let status = bed
        .manager(number)
        .status(data::StatusRequest {})
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert!(!status.postgres_ready && status.is_initialized && status.replication_status.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_components_register_answer_and_say_goodbye() {
    let bed = cluster("others").await;
    let mut gateway = bed.other(
        "multigateway",
        ROOT,
        120,
        &["--service-id", "g1", "--pg-port", "5432"],
    );
    let mut admin = bed.other("multiadmin", ROOT, 130, &[]);
    gateway.ready().await;
    admin.ready().await;
    let page = async |address, port, path: &str| {
        http::get((bed.address(address), port).into(), path)
            .await
            .unwrap()
            .0
    };
    for (address, port, path) in [
        (1, 15200, "/ready"),
        (1, 15400, "/live"),
        (110, 15300, "/ready"),
        (120, 15100, "/ready"),
        (130, 18000, "/version"),
    ] {
        assert_eq!(page(address, port, path).await, 200, "{port}{path}");
    }
    let store = bed.topology(ROOT).global.clone();
    let gateways = async || store.list("gateways/").await.unwrap().0.len();
    assert_eq!(gateways().await, 1);
    let mut client = MultiadminServiceClient::new(bed.channel(130, 18070));
    let (leader, id) = leader(&bed);
    primary_record(&bed, &id).await;
    let request = BackupRequest {
        database: "postgres".into(),
        table_group: "default".into(),
        shard: "0-inf".into(),
        r#type: "full".into(),
        force_primary: false,
    };
    // The record of the first pooler that is not primary is chosen.
    let job_id = client.backup(request).await.unwrap().into_inner().job_id;
    let chosen = if leader == 1 { "p2" } else { "p1" };
    assert!(job_id.ends_with(chosen), "{job_id}");
    wait::quietly("the backup", LONG, async || {
        let request = GetBackupJobStatusRequest {
            job_id: job_id.clone(),
            ..Default::default()
        };
        let status = client.get_backup_job_status(request).await?.into_inner();
        Ok((status.status() == JobStatus::Completed).then_some(()))
    })
    .await
    .unwrap();
    gateway.stop();
    gateway.end().await;
    assert_eq!(gateways().await, 0);
}

/// Members are killed together and come back at other addresses: the names they stand for stay, and so does the data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_of_three_members_survives_the_loss_of_all() {
    let bed = Bed::new("etcd", 20).await;
    let members: Vec<_> = (0..3)
        .map(|i| bed.topo_server(&format!("a{i}"), i, 3, 1 + i))
        .collect();
    for mut member in members.clone() {
        member.ready().await;
    }
    bed.register(ROOT).await;
    for member in &members {
        member.kill();
    }
    for mut member in members {
        member.end().await;
    }
    let store = bed.topology(ROOT).global.clone();
    assert!(store.get("cells/zone-a/Cell").await.is_err());
    for i in 0..3 {
        bed.topo_server(&format!("b{i}"), i, 3, 11 + i);
    }
    wait::quietly("the record", LONG, async || {
        Ok(store.get("cells/zone-a/Cell").await.ok().flatten())
    })
    .await
    .unwrap();
    // A volume that is wiped takes the data along.
    bed.fleet.wipe("etcd-0");
    assert!(!bed.folder.join("etcd/etcd-0").exists());
}

const CONFIGURATION: &str = "/etc/pgctld/postgres-config/postgresql.conf";

/// `topology.md` 3.3: the outcomes of a reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_has_four_outcomes() {
    let bed = Bed::new("reload", 20).await;
    let write = |text: &str| {
        bed.files
            .lock()
            .unwrap()
            .insert(CONFIGURATION.into(), text.as_bytes().to_vec());
    };
    write("work_mem = '4MB'\nmax_connections = '100'\n");
    bed.topo_server("topo", 0, 1, 100).ready().await;
    bed.register(ROOT).await;
    for number in 1..=2 {
        bed.pooler(ROOT, number, 0, number);
    }
    let live = bed.shard(ROOT);
    until(&live, "PostgreSQL", |shard| {
        shard
            .pooler(&p(1))
            .is_some_and(standin::pooler::Pooler::ready)
    })
    .await;
    let ask = async |name: &str, value: &str| {
        let expected_settings = [(name.to_owned(), value.to_owned())].into();
        let request = data::ReloadConfigRequest { expected_settings };
        bed.manager(1)
            .reload_config(request)
            .await
            .unwrap()
            .into_inner()
    };
    wait::quietly("the settings", LONG, async || {
        Ok(ask("max_connections", "100").await.config_load_time)
    })
    .await
    .unwrap();
    write("work_mem = '32MB'\nmax_connections = '200'\n");
    let done = ask("work_mem", "32MB").await;
    assert!(done.config_load_time.is_some() && done.mismatches.is_empty());
    let late = ask("work_mem", "64MB").await;
    assert!(late.config_load_time.is_none() && !late.needs_restart && late.mismatches.len() == 1);
    let restart = ask("max_connections", "200").await;
    assert!(restart.config_load_time.is_none() && restart.needs_restart);
    live.change(|shard, now| {
        shard.restarts(&p(1), false, now);
        shard.crash_postgres(&p(1), now);
    });
    assert_eq!(
        ask("work_mem", "32MB").await,
        data::ReloadConfigResponse::default()
    );
}

/// `topology.md` 3.1: mutual TLS under the component's name, which is not the host's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_with_certificates_demands_one() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

    const NAME: &str = "multipooler.demo.ns.multigres.internal";
    let authority = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = parameters.self_signed(&authority).unwrap().pem();
    let issuer = Issuer::new(parameters, authority);
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (
            parameters.signed_by(&key, &issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    };
    let bed = Bed::new("tls", 20).await;
    let (certificate, key) = issue(NAME);
    {
        let mut files = bed.files.lock().unwrap();
        for (name, text) in [
            ("tls.crt", &certificate),
            ("tls.key", &key),
            ("ca.crt", &ca),
        ] {
            files.insert(format!("/certs/{name}"), text.clone().into_bytes());
        }
    }
    bed.topo_server("topo", 0, 1, 100).ready().await;
    bed.register(ROOT).await;
    let flags = [
        "--grpc-cert=/certs/tls.crt",
        "--grpc-key=/certs/tls.key",
        "--grpc-ca=/certs/ca.crt",
    ];
    bed.pooler_with(ROOT, 1, 0, 1, &flags).ready().await;
    let ask = async |identity: Option<Identity>| {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&ca))
            .domain_name(NAME);
        let tls = match identity {
            Some(identity) => tls.identity(identity),
            None => tls,
        };
        let uri = format!("https://{}:15270", bed.address(1));
        let channel = Endpoint::from_shared(uri)
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect_lazy();
        let mut client =
            actors::proto::multipoolermanager::multipooler_manager_client::MultipoolerManagerClient::new(channel);
        client.status(data::StatusRequest {}).await.map(drop)
    };
    let (certificate, key) = issue("operator");
    ask(Some(Identity::from_pem(certificate, key)))
        .await
        .unwrap();
    assert!(ask(None).await.is_err(), "a client without a certificate");
    assert!(
        bed.manager(1).status(data::StatusRequest {}).await.is_err(),
        "a client without TLS"
    );
    // HTTP stays plain.
    assert_eq!(
        http::get((bed.address(1), 15200).into(), "/ready")
            .await
            .unwrap()
            .0,
        200
    );
}
