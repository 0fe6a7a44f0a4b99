//! An etcd that is nobody's child: the clusters' topologies.

use std::{sync::Arc, time::Duration};

use actors::proto::clustermetadata as wire;
use anyhow::Context;
use control_plane::{Plane, Signal, signal_pid, wait};
use prost::Message;
use standin::net::{names::Names, store::Store};

const DEADLINE: Duration = Duration::from_secs(60);

/// A real etcd of one member; ends with the plane, however that ends.
pub struct Etcd {
    pid: u32,
    url: String,
}

impl Etcd {
    /// Starts one under a name that no other process of the plane has, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(plane: &Plane, name: &str) -> anyhow::Result<Self> {
        let url = |port| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(plane.free_port()?), url(plane.free_port()?));
        let args = vec![
            format!("--name={name}"),
            format!("--data-dir={}", plane.dir().join(name).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={name}={peer}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        plane.run_beside(name, &plane.binaries().path("etcd"), args)?;
        let pid = plane.named_pids().get(name).copied();
        let etcd = Self {
            pid: pid.context("etcd has no process")?,
            url: client,
        };
        wait::quietly(name, DEADLINE, async || {
            plane.check()?;
            Ok(etcd.revision().await.ok())
        })
        .await?;
        Ok(etcd)
    }

    /// Where clients reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is under a root. Nothing is dialled yet.
    pub fn store(&self, root: &str) -> Store {
        Store::new(Arc::new(Names::default()), vec![self.url.clone()], root)
    }

    /// Counts all writes.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn revision(&self) -> anyhow::Result<i64> {
        let (_, revision) = self.store("").list("none").await?;
        Ok(revision)
    }

    /// Lets the process hang.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self) -> anyhow::Result<()> {
        signal_pid(self.pid, Signal::Stop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> anyhow::Result<()> {
        signal_pid(self.pid, Signal::Cont)
    }

    /// Copies what the operator registered under one root, cells and databases, to another.
    ///
    /// # Errors
    /// When a store does not answer, or nothing is registered.
    pub async fn copy_registration(&self, old: &str, new: &str) -> anyhow::Result<()> {
        let (from, to) = (self.store(old), self.store(new));
        let (entries, _) = from.list("").await?;
        let mut copied = 0;
        for entry in entries {
            let value = match entry.key.rsplit('/').next() {
                Some("Cell") => moved(&entry.value, old, new)?,
                Some("Database") => entry.value,
                _ => continue,
            };
            to.put(&entry.key, value).await?;
            copied += 1;
        }
        anyhow::ensure!(
            copied == 2,
            "{old} has {copied} records instead of a cell and a database"
        );
        Ok(())
    }
}

/// A cell's record whose store is under another root.
fn moved(record: &[u8], old: &str, new: &str) -> anyhow::Result<Vec<u8>> {
    let mut cell = wire::Cell::decode(record)?;
    let rest = cell.root.strip_prefix(old);
    cell.root = format!("{new}{}", rest.context("the cell's store is elsewhere")?);
    Ok(cell.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_moves_with_its_cluster_and_keeps_its_servers() {
        let cell = |root: &str| wire::Cell {
            name: "zone-a".to_owned(),
            server_addresses: vec!["http://127.0.0.1:1".to_owned()],
            root: root.to_owned(),
        };
        let bytes = moved(&cell("/a/c000").encode_to_vec(), "/a/c000", "/b/c000").unwrap();
        assert_eq!(wire::Cell::decode(&*bytes).unwrap(), cell("/b/c000"));
        assert!(moved(&cell("/z").encode_to_vec(), "/a", "/b").is_err());
    }
}
