//! One topology store: reads it, follows it, writes it. Runs on the I/O threads, holds nothing, and tells what happens by
//! [`Report`].
//!
//! A store is read completely at one revision, in pages, and watched from that revision on. When the watch breaks for whatever
//! reason (connection, compaction, a member without leader), the store is read again: one rule for all, and it also shows a
//! history that was wiped. Members are tried one after the other, each at its own address; a complete round without success
//! is followed by a wait. Every call has a deadline.

use std::fmt;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, Identity, KvClient,
    TlsOptions, Txn, TxnOp, TxnOpResponse, WatchClient, WatchOptions,
};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tonic::transport::Endpoint;

use super::executor::Leadership;
use crate::topology_store::view::Item;
use crate::topology_store::{Write, peer};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest wait for an answer.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How often a silent connection is probed; etcd allows no less than 5 s.
const PROBE: Duration = Duration::from_secs(10);
/// Longest wait between two rounds: a store that comes back is seen within seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// Keys per page of a read.
const PAGE: i64 = 500;
/// Writes that may wait; more are decided anew later.
const QUEUE: usize = 64;

/// Material of a TLS connection, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// Authority of the servers' certificates; `None`: those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// Certificate and key of this client.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// How a store is reached. Another access is another [`Store`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `host:port` or URL of each member.
    pub endpoints: Vec<String>,
    /// TLS; `None`: plain.
    pub tls: Option<Tls>,
    /// Prefix of all keys.
    pub root: String,
}

/// Who speaks: a report of an earlier life of a store is ignored by its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The store: a cell, or empty for the global one.
    pub store: Box<str>,
    /// Counted up by the receiver with each [`Store::open`].
    pub life: u64,
}

/// What happened.
#[derive(Debug)]
pub struct Report {
    /// In which store.
    pub source: Source,
    /// What.
    pub event: Event,
}

/// See [`Report`].
#[derive(Debug)]
pub enum Event {
    /// The store was read completely at this revision, and is followed from here on.
    Read {
        /// The member that answered.
        endpoint: String,
        /// The revision.
        revision: i64,
        /// Everything below the root.
        items: Vec<Item>,
    },
    /// Changes up to this revision.
    Changed {
        /// The revision.
        revision: i64,
        /// In order.
        items: Vec<Item>,
    },
    /// The history that the watch was to go on from was compacted: the store is read again, through the same member.
    Compacted,
    /// A member did not answer, or stopped answering. The next one is tried, or the same one later.
    Lost {
        /// The member.
        endpoint: String,
        /// Why.
        error: String,
    },
    /// A write was answered.
    Written {
        /// The key.
        key: Box<str>,
        /// How.
        outcome: Written,
        /// How long it took.
        latency: Duration,
    },
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Done: this is what is there now.
    Done(Item),
    /// Somebody else was first: this is what is there now.
    Conflict(Item),
    /// No answer: whether it was done is unknown, the watch will tell.
    Unknown(String),
    /// Not sent: we do not hold the lease.
    NotLeader,
}

impl Written {
    /// One word for it.
    pub const fn code(&self) -> &'static str {
        match self {
            Written::Done(_) => "ok",
            Written::Conflict(_) => "conflict",
            Written::Unknown(_) => "unknown",
            Written::NotLeader => "not_leader",
        }
    }
}

/// A store under observation. Dropping it ends everything.
#[derive(Debug)]
pub struct Store {
    writes: mpsc::Sender<Write>,
    tasks: [AbortHandle; 2],
}

impl Drop for Store {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Store {
    /// Begins to observe.
    pub fn open(
        io: &runtime::Handle,
        source: Source,
        access: Access,
        leadership: watch::Receiver<Leadership>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let (writes, queue) = mpsc::channel(QUEUE);
        // The member that answered last: writes go where the watch is.
        let (found, member) = watch::channel(None);
        let outlet = Outlet { source, reports };
        let follow = io.spawn(follow(access, outlet.clone(), found));
        let write = io.spawn(write(queue, member, leadership, outlet));
        Self {
            writes,
            tasks: [follow.abort_handle(), write.abort_handle()],
        }
    }

    /// Sends a write; its answer is an [`Event::Written`].
    ///
    /// # Errors
    /// The write itself, when too many are waiting.
    pub fn write(&self, write: Write) -> Result<(), Write> {
        self.writes
            .try_send(write)
            .map_err(mpsc::error::TrySendError::into_inner)
    }
}

#[derive(Clone)]
struct Outlet {
    source: Source,
    reports: mpsc::Sender<Report>,
}

impl Outlet {
    /// Waits while the receiver is busy: that slows the watch down, and nothing is lost.
    async fn tell(&self, event: Event) -> Result<(), Closed> {
        let source = self.source.clone();
        let report = Report { source, event };
        self.reports.send(report).await.map_err(|_| Closed)
    }
}

/// Nobody listens any more.
struct Closed;

/// Why a store is no longer followed.
enum End {
    Closed,
    Failed(String),
}

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        End::Closed
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        End::Failed(words(&error))
    }
}

/// The error in words, causes included: "transport error" alone helps nobody.
fn words(error: &Error) -> String {
    if let Error::GRpcStatus(status) = error {
        return super::words_of(status);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Bounds a call. It is put apart, so that a task does not hold the room for each call that it may ever make.
fn within<T>(call: impl Future<Output = Result<T, Error>>) -> impl Future<Output = Result<T, End>> {
    let call = Box::pin(call);
    async move {
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(End::Failed(format!(
                "no answer within {} s",
                DEADLINE.as_secs()
            ))),
        }
    }
}

/// Follows the store for ever, one member after the other.
async fn follow(access: Access, outlet: Outlet, found: watch::Sender<Option<KvClient>>) {
    let mut failures = 0;
    for endpoint in access.endpoints.iter().cycle() {
        let mut answered = false;
        let end = attend(endpoint, &access, &outlet, &found, &mut answered).await;
        let Err(End::Failed(error)) = end else {
            return;
        };
        found.send_replace(None);
        let lost = Event::Lost {
            endpoint: endpoint.clone(),
            error,
        };
        if outlet.tell(lost).await.is_err() {
            return;
        }
        failures = if answered { 1 } else { failures + 1 };
        let rounds = failures / access.endpoints.len().max(1);
        if let Some(rounds) = rounds.checked_sub(1) {
            let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
            tokio::time::sleep(peer::delay(endpoint, rounds).min(LONGEST_WAIT)).await;
        }
    }
}

/// Reads and follows through one member until that fails.
async fn attend(
    endpoint: &str,
    access: &Access,
    outlet: &Outlet,
    found: &watch::Sender<Option<KvClient>>,
    answered: &mut bool,
) -> Result<(), End> {
    let (mut pairs, mut changes) = within(dial(endpoint, access)).await?;
    loop {
        let (revision, items) = read(&mut pairs, &access.root).await?;
        *answered = true;
        found.send_replace(Some(pairs.clone()));
        let read = Event::Read {
            endpoint: endpoint.to_owned(),
            revision,
            items,
        };
        outlet.tell(read).await?;
        watch_from(&mut changes, &access.root, revision, outlet).await?;
        outlet.tell(Event::Compacted).await?;
    }
}

/// Connects to one member, and sees that it answers.
async fn dial(member: &str, access: &Access) -> Result<(KvClient, WatchClient), Error> {
    let channel = etcd_client::Channel::Tonic(endpoint(member, access)?.connect_lazy());
    // Without a leader asked for, a watch on a member that lost its cluster is silent for ever.
    let options = ConnectOptions::new().with_require_leader(true);
    let mut client = Client::from_channel(channel, Some(options)).await?;
    client.status().await?;
    Ok((client.kv_client(), client.watch_client()))
}

fn endpoint(member: &str, access: &Access) -> Result<Endpoint, Error> {
    let url = match (member.contains("://"), &access.tls) {
        (true, _) => member.to_owned(),
        (false, Some(_)) => format!("https://{member}"),
        (false, None) => format!("http://{member}"),
    };
    let endpoint = Endpoint::from_shared(url)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(CONNECT)
        .keep_alive_while_idle(false);
    let secure = endpoint.uri().scheme_str() == Some("https");
    let tls = match (&access.tls, secure) {
        (None, false) => return Ok(endpoint),
        (Some(_), false) => {
            let message = format!("TLS is asked for, and {member} is no https URL");
            return Err(Error::InvalidArgs(message));
        }
        (tls, true) => tls.as_ref(),
    };
    let mut given = match tls.and_then(|tls| tls.ca.as_ref()) {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
        None => TlsOptions::new().with_native_roots(),
    };
    if let Some((certificate, key)) = tls.and_then(|tls| tls.client.as_ref()) {
        given = given.identity(Identity::from_pem(certificate, key));
    }
    Ok(endpoint.tls_config(given)?)
}

/// All keys below the root at one revision, page by page.
async fn read(client: &mut KvClient, root: &str) -> Result<(i64, Vec<Item>), End> {
    let mut from = prefix(root);
    let end = after(&from);
    let mut revision = 0;
    let mut items = Vec::new();
    loop {
        let options = GetOptions::new()
            .with_range(end.clone())
            .with_limit(PAGE)
            .with_revision(revision);
        let answer = within(client.get(from.clone(), Some(options))).await?;
        if revision == 0 {
            revision = answer
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision);
        }
        for pair in answer.kvs() {
            // A key that is no text is nobody's of ours.
            if let Ok(key) = pair.key_str() {
                items.push(Item {
                    key: key.to_owned(),
                    value: Some(pair.value().to_vec()),
                    version: pair.mod_revision(),
                });
            }
        }
        match answer.kvs().last() {
            Some(last) if answer.more() => {
                from = last.key().to_vec();
                from.push(0);
            }
            _ => return Ok((revision, items)),
        }
    }
}

fn prefix(root: &str) -> Vec<u8> {
    format!("{}/", root.trim_end_matches('/')).into_bytes()
}

/// The end of the range of keys with this prefix; it ends with a slash, so its last byte can be counted up.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// Follows from the revision after `revision`. Returns when the history was compacted, so that the store must be read again.
async fn watch_from(
    client: &mut WatchClient,
    root: &str,
    revision: i64,
    outlet: &Outlet,
) -> Result<(), End> {
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(revision.saturating_add(1));
    let mut stream = within(client.watch(prefix(root), Some(options))).await?;
    while let Some(message) = stream.message().await? {
        if message.canceled() {
            // After a compaction the reason is empty and this field is set: the history we wanted is gone.
            if message.compact_revision() > 0 {
                return Ok(());
            }
            return Err(End::Failed(message.cancel_reason().to_owned()));
        }
        let items: Vec<Item> = message
            .events()
            .iter()
            .filter_map(etcd_client::Event::kv)
            .filter_map(|pair| {
                // A deleted key has no version.
                let value = (pair.version() > 0).then(|| pair.value().to_vec());
                Some(Item {
                    key: pair.key_str().ok()?.to_owned(),
                    value,
                    version: pair.mod_revision(),
                })
            })
            .collect();
        if !items.is_empty() {
            let revision = message
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision);
            outlet.tell(Event::Changed { revision, items }).await?;
        }
    }
    Err(End::Failed("the watch ended".to_owned()))
}

/// Sends writes one after the other.
async fn write(
    mut queue: mpsc::Receiver<Write>,
    member: watch::Receiver<Option<KvClient>>,
    leadership: watch::Receiver<Leadership>,
    outlet: Outlet,
) {
    while let Some(write) = queue.recv().await {
        let started = crate::clock::monotonic();
        let client = member.borrow().clone();
        let outcome = if leadership.borrow().holds() {
            match client {
                Some(client) => Box::pin(swap(client, &write))
                    .await
                    .unwrap_or_else(Written::Unknown),
                None => Written::Unknown("not connected".to_owned()),
            }
        } else {
            Written::NotLeader
        };
        let written = Event::Written {
            key: write.key,
            outcome,
            latency: crate::clock::monotonic() - started,
        };
        if outlet.tell(written).await.is_err() {
            return;
        }
    }
}

/// One compare-and-swap. Version 0 compares with a key that does not exist.
async fn swap(mut client: KvClient, write: &Write) -> Result<Written, String> {
    let key = write.key.as_bytes();
    let then = match &write.value {
        Some(value) => TxnOp::put(key, value.clone(), None),
        None => TxnOp::delete(key, None),
    };
    let txn = Txn::new()
        .when([Compare::mod_revision(key, CompareOp::Equal, write.version)])
        .and_then([then])
        .or_else([TxnOp::get(key, None)]);
    let answer = match tokio::time::timeout(DEADLINE, client.txn(txn)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(words(&error)),
        Err(_) => return Err(format!("no answer within {} s", DEADLINE.as_secs())),
    };
    let revision = answer
        .header()
        .map_or(0, etcd_client::ResponseHeader::revision);
    let item = |value, version| Item {
        key: write.key.to_string(),
        value,
        version,
    };
    if answer.succeeded() {
        return Ok(Written::Done(item(write.value.clone(), revision)));
    }
    let there = answer.op_responses().into_iter().find_map(|op| match op {
        TxnOpResponse::Get(get) => get
            .kvs()
            .first()
            .map(|pair| (pair.value().to_vec(), pair.mod_revision())),
        _ => None,
    });
    Ok(Written::Conflict(match there {
        Some((value, version)) => item(Some(value), version),
        None => item(None, revision),
    }))
}
