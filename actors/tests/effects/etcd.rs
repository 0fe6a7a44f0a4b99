//! The store effect against a real etcd process.

use std::net::TcpListener;

use actors::effects::etcd::{Access, DEADLINE, Event, Report, Source, Store, Tls, Written};
use actors::effects::executor::Leadership;
use actors::topology_store::Write;
use actors::topology_store::view::Item;
use etcd_client::CompactionOptions;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::certificates::Authority;
use crate::process::{Etcd, free_port};
use crate::{find, next};

const ROOT: &str = "/multigres/global";

fn leader() -> watch::Receiver<Leadership> {
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(3600);
    watch::channel(Leadership::Leader { until }).1
}

fn open(
    endpoints: &[String],
    tls: Option<Tls>,
    capacity: usize,
) -> (Store, mpsc::Receiver<Report>) {
    let (sender, reports) = mpsc::channel(capacity);
    (open_into(endpoints, tls, sender), reports)
}

fn open_into(endpoints: &[String], tls: Option<Tls>, sender: mpsc::Sender<Report>) -> Store {
    let source = Source {
        store: "".into(),
        life: 7,
    };
    let access = Access {
        endpoints: endpoints.to_vec(),
        tls,
        root: ROOT.to_owned(),
    };
    Store::open(&Handle::current(), source, access, leader(), sender)
}

async fn read(reports: &mut mpsc::Receiver<Report>) -> (i64, Vec<Item>) {
    find(reports, |report| match &report.event {
        Event::Read {
            revision, items, ..
        } => Some((*revision, items.clone())),
        _ => None,
    })
    .await
}

async fn changed(reports: &mut mpsc::Receiver<Report>) -> Vec<Item> {
    find(reports, |report| match &report.event {
        Event::Changed { items, .. } => Some(items.clone()),
        _ => None,
    })
    .await
}

async fn lost(reports: &mut mpsc::Receiver<Report>) -> (String, String) {
    find(reports, |report| match &report.event {
        Event::Lost { endpoint, error } => Some((endpoint.clone(), error.clone())),
        _ => None,
    })
    .await
}

async fn written(reports: &mut mpsc::Receiver<Report>) -> Written {
    find(reports, |report| match &report.event {
        Event::Written { outcome, .. } => Some(outcome.clone()),
        _ => None,
    })
    .await
}

fn write(key: &str, value: Option<&str>, version: i64) -> Write {
    Write {
        key: key.into(),
        value: value.map(|value| value.as_bytes().to_vec()),
        version,
        reason: "test",
    }
}

#[tokio::test]
async fn a_store_is_read_in_pages_at_one_revision_and_followed() {
    let etcd = Etcd::start("pages");
    let mut client = etcd.client().await;
    for n in 0..1_201 {
        client
            .put(format!("{ROOT}/poolers/{n:04}/Pooler"), "x", None)
            .await
            .unwrap();
    }
    client
        .put("/multigres/globalX/cells/a/Cell", "foreign", None)
        .await
        .unwrap();
    let (_store, mut reports) = open(&[etcd.endpoint()], None, 8);
    let first = next(&mut reports).await;
    assert_eq!((&*first.source.store, first.source.life), ("", 7));
    let Event::Read {
        endpoint,
        revision,
        items,
    } = first.event
    else {
        panic!("{first:?}");
    };
    assert_eq!(endpoint, etcd.endpoint());
    assert_eq!(
        items.len(),
        1_201,
        "two full pages and a rest, and nothing of the neighbour"
    );
    assert!(items.windows(2).all(|pair| pair[0].key < pair[1].key));
    assert!(
        items
            .iter()
            .all(|item| item.version <= revision && item.value.as_deref() == Some(b"x"))
    );
    client
        .put("/multigres/globalX/cells/a/Cell", "foreign", None)
        .await
        .unwrap();
    client
        .put(format!("{ROOT}/cells/a/Cell"), "y", None)
        .await
        .unwrap();
    client
        .delete(format!("{ROOT}/cells/a/Cell"), None)
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(changed(&mut reports).await);
    }
    let values: Vec<_> = seen
        .iter()
        .map(|item| (item.key.as_str(), item.value.as_deref()))
        .collect();
    let key = format!("{ROOT}/cells/a/Cell");
    assert_eq!(
        values,
        [(key.as_str(), Some(&b"y"[..])), (key.as_str(), None)]
    );
    assert!(seen[0].version > revision && seen[1].version > seen[0].version);
}

#[tokio::test]
async fn writes_compare_and_swap() {
    let etcd = Etcd::start("swap");
    let mut client = etcd.client().await;
    let (store, mut reports) = open(&[etcd.endpoint()], None, 8);
    read(&mut reports).await;
    let key = format!("{ROOT}/cells/a/Cell");
    store.write(write(&key, Some("one"), 0)).unwrap();
    let Written::Done(one) = written(&mut reports).await else {
        panic!("not created");
    };
    assert_eq!(one.value.as_deref(), Some(&b"one"[..]));
    store.write(write(&key, Some("again"), 0)).unwrap();
    assert_eq!(
        written(&mut reports).await,
        Written::Conflict(one.clone()),
        "it exists"
    );
    client.put(key.as_str(), "theirs", None).await.unwrap();
    store.write(write(&key, Some("two"), one.version)).unwrap();
    let Written::Conflict(theirs) = written(&mut reports).await else {
        panic!("their write is lost");
    };
    assert_eq!(theirs.value.as_deref(), Some(&b"theirs"[..]));
    store.write(write(&key, None, theirs.version)).unwrap();
    let Written::Done(gone) = written(&mut reports).await else {
        panic!("not deleted");
    };
    assert_eq!(gone.value, None);
    assert!(gone.version > theirs.version);
    store
        .write(write(&key, Some("late"), theirs.version))
        .unwrap();
    let Written::Conflict(absent) = written(&mut reports).await else {
        panic!("written over a deletion");
    };
    assert_eq!((absent.value, absent.version), (None, gone.version));
    assert!(
        client
            .get(key.as_str(), None)
            .await
            .unwrap()
            .kvs()
            .is_empty()
    );
}

#[tokio::test]
async fn nobody_writes_without_the_lease() {
    let etcd = Etcd::start("lease");
    etcd.client().await;
    let (sender, mut reports) = mpsc::channel(8);
    let source = Source {
        store: "".into(),
        life: 0,
    };
    let access = Access {
        endpoints: vec![etcd.endpoint()],
        tls: None,
        root: ROOT.to_owned(),
    };
    let (_leadership, follower) = watch::channel(Leadership::Standby);
    let store = Store::open(&Handle::current(), source, access, follower, sender);
    read(&mut reports).await;
    store
        .write(write("/multigres/global/cells/a/Cell", Some("x"), 0))
        .unwrap();
    assert_eq!(written(&mut reports).await, Written::NotLeader);
}

/// A compaction under the watch: the history between our read and our watch is gone, so the store is read again.
#[tokio::test]
async fn a_compaction_under_the_watch_reads_the_store_again() {
    let etcd = Etcd::start("compaction");
    let mut client = etcd.client().await;
    for _ in 0..20 {
        let (sender, mut reports) = mpsc::channel(1);
        // The only place is taken, so the store waits with its first report and does not watch yet.
        let place = sender.clone().reserve_owned().await.unwrap();
        let _store = open_into(&[etcd.endpoint()], None, sender);
        let mut last = 0;
        for n in 0..50 {
            let put = client
                .put(format!("{ROOT}/cells/{n}/Cell"), "x", None)
                .await;
            last = put.unwrap().header().unwrap().revision();
        }
        client
            .compact(last, Some(CompactionOptions::new().with_physical()))
            .await
            .unwrap();
        drop(place);
        let (first, _) = read(&mut reports).await;
        if first >= last - 1 {
            continue; // read late: nothing was compacted under the watch
        }
        let why = find(&mut reports, |report| match &report.event {
            Event::Compacted => Some("compacted"),
            Event::Lost { .. } => Some("lost"),
            _ => None,
        });
        assert_eq!(why.await, "compacted", "why it is read again");
        let (second, items) = read(&mut reports).await;
        assert!(
            second >= last && items.len() == 50,
            "{first} {second} {last}"
        );
        client
            .put(format!("{ROOT}/cells/new/Cell"), "x", None)
            .await
            .unwrap();
        assert_eq!(changed(&mut reports).await.len(), 1, "and followed again");
        return;
    }
    panic!("the store never read before the compaction");
}

/// L-TOPO-09: a member that takes connections and never answers costs its deadline, and the next one is tried.
#[tokio::test]
async fn a_member_that_hangs_or_refuses_is_passed_over() {
    let etcd = Etcd::start("members");
    etcd.client().await;
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging_address = hanging.local_addr().unwrap().to_string();
    let refusing = format!("127.0.0.1:{}", free_port());
    let started = tokio::time::Instant::now();
    let (_store, mut reports) = open(
        &[hanging_address.clone(), refusing.clone(), etcd.endpoint()],
        None,
        8,
    );
    let (endpoint, error) = lost(&mut reports).await;
    assert_eq!(endpoint, hanging_address, "{error}");
    let (endpoint, error) = lost(&mut reports).await;
    assert_eq!(endpoint, refusing);
    assert!(error.contains("refused"), "{error}");
    read(&mut reports).await;
    assert!(started.elapsed() < DEADLINE * 2, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_member_that_is_killed_and_comes_back_is_read_again() {
    let mut etcd = Etcd::start("killed");
    let mut client = etcd.client().await;
    client
        .put(format!("{ROOT}/cells/a/Cell"), "x", None)
        .await
        .unwrap();
    let (store, mut reports) = open(&[etcd.endpoint()], None, 8);
    let (before, _) = read(&mut reports).await;
    etcd.kill();
    lost(&mut reports).await;
    store
        .write(write("/multigres/global/cells/b/Cell", Some("x"), 0))
        .unwrap();
    let outcome = written(&mut reports).await;
    assert!(matches!(outcome, Written::Unknown(_)), "{outcome:?}");
    etcd.start_again();
    let (after, items) = read(&mut reports).await;
    assert!(after >= before && items.len() == 1);
}

#[tokio::test]
async fn a_wiped_history_shows_as_a_revision_that_went_back() {
    let mut etcd = Etcd::start("wiped");
    let mut client = etcd.client().await;
    for _ in 0..5 {
        client
            .put(format!("{ROOT}/cells/a/Cell"), "x", None)
            .await
            .unwrap();
    }
    let (_store, mut reports) = open(&[etcd.endpoint()], None, 8);
    let (before, _) = read(&mut reports).await;
    etcd.kill();
    std::fs::remove_dir_all(etcd.folder.join("data")).unwrap();
    etcd.start_again();
    let (after, items) = read(&mut reports).await;
    assert!(after < before && items.is_empty(), "{before} → {after}");
}

#[tokio::test]
async fn mutual_tls_with_a_client_certificate_and_not_without() {
    let authority = Authority::new();
    let server = authority.leaf("127.0.0.1");
    let etcd = Etcd::with("tls", |folder| {
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        vec![
            format!("--cert-file={}", file("server.crt", &server.certificate)),
            format!("--key-file={}", file("server.key", &server.key)),
            format!("--trusted-ca-file={}", file("ca.crt", &authority.pem())),
            "--client-cert-auth=true".to_owned(),
        ]
    });
    let ca = authority.pem().into_bytes();
    let client = authority.leaf("operator");
    let with = Tls {
        ca: Some(ca.clone()),
        client: Some((client.certificate.into_bytes(), client.key.into_bytes())),
    };
    let (_store, mut reports) = open(&[etcd.endpoint()], Some(with.clone()), 8);
    read(&mut reports).await;
    assert_eq!(format!("{with:?}"), "Tls(..)", "keys are not printed");
    let (_store, mut reports) = open(
        &[etcd.endpoint()],
        Some(Tls {
            ca: Some(ca),
            client: None,
        }),
        8,
    );
    let (_, error) = lost(&mut reports).await;
    assert!(!error.is_empty());
    let other = Tls {
        ca: Some(Authority::new().pem().into_bytes()),
        client: None,
    };
    let (_store, mut reports) = open(&[etcd.endpoint()], Some(other), 8);
    let (_, error) = lost(&mut reports).await;
    assert!(error.contains("certificate"), "{error}");
}
