//! The topology of a test cluster, as somebody with etcd's address sees it.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use control_plane::wait;
use standin::net::{
    fleet::Fleet,
    live::Live,
    pod::{PodSpec, Role},
    store::Store,
};

use crate::bed::HEALTHY;

/// The topology of the one cluster of a bed.
pub struct Topology {
    /// The global store.
    pub store: Arc<Store>,
    /// The cluster's only shard.
    pub shard: Arc<Live>,
}

impl Topology {
    /// Of the cluster whose poolers run.
    ///
    /// # Errors
    /// When no pooler runs, or no shard is known.
    pub fn of(fleet: &Fleet) -> anyhow::Result<Self> {
        let pods = fleet.pods();
        let pooler = pods.iter().find(|pod| pod.role == Role::Pool);
        let pooler = pooler.context("no pooler runs")?;
        let servers = pooler.flag("topo-global-server-addresses", "");
        let root = pooler.flag("topo-global-root", "");
        let (_, _, shard) = fleet.shards().into_iter().next().context("no shard")?;
        Ok(Self {
            store: Arc::clone(&fleet.topology(&servers, &root).global),
            shard,
        })
    }

    /// The store's revision.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn revision(&self) -> anyhow::Result<i64> {
        let list = insist(async || self.store.list("").await).await?;
        Ok(list.1)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn has(&self, key: &str) -> anyhow::Result<bool> {
        Ok(self.store.get(key).await?.is_some())
    }

    /// Waits until a key is there. A store that does not answer yet is asked again.
    ///
    /// # Errors
    /// When it is not there in time.
    pub async fn key(&self, key: &str, within: Duration) -> anyhow::Result<()> {
        wait::quietly(key, within, async || {
            Ok(self.has(key).await.unwrap_or_default().then_some(()))
        })
        .await
    }

    /// Records of poolers by key.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn poolers(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let (entries, _) = insist(async || self.store.list("poolers/").await).await?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect())
    }

    /// Waits until the shard has a primary and so many members.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn led(&self, members: usize) -> anyhow::Result<()> {
        let ready = self.shard.until(|shard| {
            (shard.primary().is_some() && shard.members().len() == members).then_some(())
        });
        tokio::time::timeout(HEALTHY, ready)
            .await
            .with_context(|| format!("no primary with {members} members"))
    }
}

/// Asks until a store answers: connections to members that were away fail once.
///
/// # Errors
/// When it does not answer in time.
pub async fn insist<T>(mut ask: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    wait::quietly("an answer of etcd", HEALTHY, async || Ok(ask().await.ok())).await
}

/// Members of the managed etcds that run, by name.
pub fn members(fleet: &Fleet) -> Vec<Arc<PodSpec>> {
    let mut members = fleet.pods();
    members.retain(|pod| pod.role == Role::TopoServer);
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}
