//! The topology stores of one cluster: a connection and a watch for each, opened with what the Secrets hold at that moment.
//!
//! Cells in the global store are part of it and share its connection. Stores under different roots of the same servers do not:
//! each is dialled, lost and moved to another member by itself, and one that waits for its reader holds up no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::etcd::{Access, Event, Report, Source, Store, Tls, Written};
use super::executor::Leadership;
use super::kubernetes::Kubernetes;
use super::secret;
use crate::object::Key;
use crate::topology::places::{Place, Trust};
use crate::topology_store::{Write, peer};

/// Writes that may wait; more are decided anew later.
const QUEUE: usize = 64;

/// What it takes to open stores.
#[derive(Clone)]
pub struct Door {
    /// Threads for I/O.
    pub io: runtime::Handle,
    /// Where Secrets are read.
    pub api: Arc<dyn Kubernetes>,
    /// Whether this process may write.
    pub leadership: watch::Receiver<Leadership>,
}

/// The open stores of a cluster. Dropping it ends everything.
pub struct Topologies {
    door: Door,
    reports: mpsc::Sender<Report>,
    open: BTreeMap<Box<str>, Open>,
}

/// A store that is open, or on its way to be.
struct Open {
    writes: mpsc::Sender<Write>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Topologies {
    /// No store is open; what happens is told to `reports`.
    pub const fn new(door: Door, reports: mpsc::Sender<Report>) -> Self {
        Self {
            door,
            reports,
            open: BTreeMap::new(),
        }
    }

    /// Opens a store (empty: the global one), in place of the one of that name.
    pub fn open(&mut self, store: &str, place: Place, life: u64) {
        let (writes, queue) = mpsc::channel(QUEUE);
        let source = Source {
            store: store.into(),
            life,
        };
        let attend = attend(
            self.door.clone(),
            source,
            place,
            self.reports.clone(),
            queue,
        );
        let task = self.door.io.spawn(attend).abort_handle();
        self.open.insert(store.into(), Open { writes, task });
    }

    /// Closes a store.
    pub fn close(&mut self, store: &str) {
        self.open.remove(store);
    }

    /// Sends a write; its answer is an [`Event::Written`]. False when the store is not open, or too many wait.
    pub fn write(&self, store: &str, write: Write) -> bool {
        let open = self.open.get(store);
        open.is_some_and(|open| open.writes.try_send(write).is_ok())
    }
}

/// Opens the store and hands writes on, for ever. The store ends with this task.
async fn attend(
    door: Door,
    source: Source,
    place: Place,
    reports: mpsc::Sender<Report>,
    mut writes: mpsc::Receiver<Write>,
) {
    let Some(tls) = material(&door, &source, &place, &reports).await else {
        return;
    };
    let access = Access {
        endpoints: place.endpoints,
        tls,
        root: place.root,
    };
    let store = Store::open(
        &door.io,
        source.clone(),
        access,
        door.leadership,
        reports.clone(),
    );
    while let Some(write) = writes.recv().await {
        let Err(write) = store.write(write) else {
            continue;
        };
        let event = Event::Written {
            key: write.key,
            outcome: Written::Unknown("too many writes are waiting".to_owned()),
            latency: std::time::Duration::ZERO,
        };
        let source = source.clone();
        if reports.send(Report { source, event }).await.is_err() {
            return;
        }
    }
}

/// The material that the place asks for; read again, with growing waits, until it is there. `None`: nobody listens any more.
async fn material(
    door: &Door,
    source: &Source,
    place: &Place,
    reports: &mpsc::Sender<Report>,
) -> Option<Option<Tls>> {
    let Some(trust) = &place.trust else {
        return Some(None);
    };
    for failures in 0.. {
        let error = match read(door, trust).await {
            Ok(tls) => return Some(Some(tls)),
            Err(error) => error,
        };
        for endpoint in &place.endpoints {
            let event = Event::Lost {
                endpoint: endpoint.clone(),
                error: error.clone(),
            };
            let source = source.clone();
            reports.send(Report { source, event }).await.ok()?;
        }
        tokio::time::sleep(peer::delay(&source.store, failures)).await;
    }
    None
}

async fn read(door: &Door, trust: &Trust) -> Result<Tls, String> {
    let ca = match &trust.authority {
        Some(key) => {
            let [ca] = files(door, key, ["ca.crt"]).await?;
            Some(ca)
        }
        None => None,
    };
    let client = match &trust.client {
        Some(key) => {
            let [certificate, secret] = files(door, key, ["tls.crt", "tls.key"]).await?;
            Some((certificate, secret))
        }
        None => None,
    };
    Ok(Tls { ca, client })
}

async fn files<const N: usize>(
    door: &Door,
    key: &Key,
    names: [&'static str; N],
) -> Result<[Vec<u8>; N], String> {
    let files = secret::files(&*door.api, key, names).await;
    files.map_err(|unread| format!("{key} {unread}"))
}
