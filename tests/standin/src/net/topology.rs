//! The topology of a cluster, as its processes use it: the global store, the cells' stores, and whether somebody else has
//! touched a pooler's record.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use actors::proto::clustermetadata as wire;
use anyhow::Context;
use etcd_client::EventType;
use prost::Message;

use super::{live::Live, names::Names, store::Store};
use crate::{
    message::{self, record::parse_lifecycle},
    name::{Id, ShardKey},
    policy::Policy,
    pooler::Lifecycle,
    shard::Claim,
};

/// Pause between attempts while a record is missing or the store cannot be reached.
pub const RETRY: Duration = Duration::from_millis(200);
/// Own values that are told from foreign ones when they come back late.
const REMEMBERED: usize = 8;

/// Cells' stores by servers and root.
type Cells = BTreeMap<(Vec<String>, String), Arc<CellStore>>;

/// The topology of a cluster.
pub struct Topology {
    /// The global store.
    pub global: Arc<Store>,
    names: Arc<Names>,
    cells: Mutex<Cells>,
}

/// The store of a cell, which several cells may share.
pub struct CellStore {
    /// The store.
    pub store: Arc<Store>,
    published: Mutex<BTreeMap<String, Published>>,
}

#[derive(Debug)]
struct Published {
    live: Arc<Live>,
    id: Id,
    /// Newest last.
    values: VecDeque<Vec<u8>>,
}

impl Topology {
    /// A topology; nothing is dialled yet.
    pub fn new(names: Arc<Names>, servers: Vec<String>, root: &str) -> Self {
        Self {
            global: Arc::new(Store::new(Arc::clone(&names), servers, root)),
            names,
            cells: Mutex::default(),
        }
    }

    /// The store of a cell, by the cell's record.
    ///
    /// # Errors
    /// When the record is missing or the global store cannot be reached.
    pub async fn cell(&self, name: &str) -> anyhow::Result<Arc<CellStore>> {
        let value = self.global.get(&format!("cells/{name}/Cell")).await?;
        let record = wire::Cell::decode(value.context("the cell has no record")?.as_slice())?;
        let key = (record.server_addresses, record.root);
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.entry(key).or_insert_with_key(|(servers, root)| {
            CellStore::new(Store::new(Arc::clone(&self.names), servers.clone(), root))
        });
        Ok(Arc::clone(cell))
    }

    /// Waits for the store of a cell.
    pub async fn cell_when_there(&self, name: &str) -> Arc<CellStore> {
        loop {
            match self.cell(name).await {
                Ok(cell) => return cell,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Waits for the record of a database and returns its policy.
    pub async fn policy_when_there(&self, database: &str) -> Policy {
        let key = format!("databases/{database}/Database");
        loop {
            if let Ok(Some(value)) = self.global.get(&key).await
                && let Ok(record) = wire::Database::decode(value.as_slice())
                && record.backup_location.is_some()
                && let Some(policy) = record
                    .bootstrap_durability_policy
                    .as_ref()
                    .and_then(message::parse_policy)
            {
                return policy;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The claim to initialise a shard.
    ///
    /// # Errors
    /// When the global store cannot be reached.
    pub async fn claim(&self, key: &ShardKey) -> anyhow::Result<Option<Claim>> {
        let value = self.global.get(&claim_key(key)).await?;
        let record = value.map(|value| wire::ShardInitClaim::decode(value.as_slice()));
        Ok(record.transpose()?.as_ref().and_then(message::parse_claim))
    }

    /// Makes a claim unless there is one.
    ///
    /// # Errors
    /// When the global store cannot be reached.
    pub async fn make_claim(&self, key: &ShardKey, claim: &Claim) -> anyhow::Result<()> {
        let value = message::claim(claim).encode_to_vec();
        self.global.create(&claim_key(key), value, None).await?;
        Ok(())
    }
}

fn claim_key(key: &ShardKey) -> String {
    format!("databases/{key}/ShardInitClaim")
}

impl CellStore {
    fn new(store: Store) -> Arc<Self> {
        let cell = Arc::new(Self {
            store: Arc::new(store),
            published: Mutex::default(),
        });
        tokio::spawn(look_for_edits(
            Arc::downgrade(&cell),
            Arc::clone(&cell.store),
        ));
        cell
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Published>) -> T) -> T {
        act(&mut self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes a pooler's record.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn publish(&self, live: &Arc<Live>, id: &Id, value: Vec<u8>) -> anyhow::Result<()> {
        let key = format!("poolers/{id}/Pooler");
        self.with(|published| {
            let own = published.entry(key.clone()).or_insert_with(|| Published {
                live: Arc::clone(live),
                id: id.clone(),
                values: VecDeque::new(),
            });
            own.live = Arc::clone(live);
            if own.values.len() == REMEMBERED {
                own.values.pop_front();
            }
            own.values.push_back(value.clone());
        });
        self.store.put(&key, value).await
    }

    /// A record is there, or gone. Tells the shard when it is not what the pooler published.
    fn seen(&self, key: &str, value: Option<&[u8]>) {
        let edit = self.with(|published| {
            let own = published.get(key)?;
            let last = own.values.back().map(Vec::as_slice);
            let edit = match value {
                Some(value) if last == Some(value) => Edit::None,
                Some(value) if own.values.iter().any(|old| old == value) => return None,
                // What cannot be read tells nothing.
                Some(value) => {
                    Edit::Lifecycle(parse_lifecycle(&wire::Multipooler::decode(value).ok()?)?)
                }
                None => Edit::Deleted,
            };
            Some((Arc::clone(&own.live), own.id.clone(), edit))
        });
        let Some((live, id, edit)) = edit else {
            return;
        };
        match edit {
            Edit::None if !live.read(|shard, _| shard.is_edited(&id)) => {}
            Edit::None => live.change(|shard, now| shard.edit_undone(&id, now)),
            Edit::Deleted => live.change(|shard, now| shard.edited(&id, None, now)),
            Edit::Lifecycle(lifecycle) => {
                live.change(|shard, now| shard.edited(&id, Some(lifecycle), now));
            }
        }
    }
}

enum Edit {
    None,
    Deleted,
    Lifecycle(Lifecycle),
}

/// Watches the poolers' records until the cell's store is dropped.
async fn look_for_edits(cell: Weak<CellStore>, store: Arc<Store>) {
    while cell.strong_count() > 0 {
        // Whatever ends the watch: look at everything and watch again.
        let _ = look_once(&cell, &store).await;
        tokio::time::sleep(RETRY).await;
    }
}

async fn look_once(cell: &Weak<CellStore>, store: &Store) -> anyhow::Result<()> {
    let (entries, revision) = store.list("poolers/").await?;
    if let Some(cell) = cell.upgrade() {
        let there: BTreeMap<&str, &[u8]> = entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.value.as_slice()))
            .collect();
        let known: Vec<String> = cell.with(|published| published.keys().cloned().collect());
        for key in known {
            cell.seen(&key, there.get(key.as_str()).copied());
        }
    }
    let mut watch = store.watch("poolers/", revision + 1).await?;
    while let Some(response) = watch.message().await? {
        anyhow::ensure!(!response.canceled(), "the watch was cancelled");
        let Some(cell) = cell.upgrade() else {
            return Ok(());
        };
        for event in response.events() {
            if let Some(kv) = event.kv() {
                let value = (event.event_type() == EventType::Put).then(|| kv.value());
                cell.seen(&store.relative(kv.key()), value);
            }
        }
    }
    Ok(())
}
