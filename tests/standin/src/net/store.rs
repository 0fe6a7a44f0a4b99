//! One etcd store: a set of servers and a root.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetOptions, PutOptions, Txn, TxnOp, WatchOptions,
    WatchStream,
};
use tokio::sync::Mutex;

use super::names::Names;

/// How long an operation may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A value and the revision of its last change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Relative to the root.
    pub key: String,
    /// The bytes.
    pub value: Vec<u8>,
}

/// An etcd store. Keys are relative to its root.
pub struct Store {
    names: Arc<Names>,
    servers: Vec<String>,
    root: String,
    client: Mutex<Option<Client>>,
}

impl Store {
    /// A store; nothing is dialled yet.
    pub fn new(names: Arc<Names>, servers: Vec<String>, root: &str) -> Self {
        Self {
            names,
            servers,
            root: root.trim_end_matches('/').to_owned(),
            client: Mutex::new(None),
        }
    }

    /// The servers as they are named.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The root.
    pub fn root(&self) -> &str {
        &self.root
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let endpoints: Vec<String> = self
            .servers
            .iter()
            .flat_map(|server| self.names.resolve(server))
            .collect();
        anyhow::ensure!(!endpoints.is_empty(), "{:?} have no address", self.servers);
        let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(1));
        let fresh = Client::connect(endpoints, Some(options)).await?;
        *client = Some(fresh.clone());
        Ok(fresh)
    }

    /// Runs an operation; a client that failed is dialled anew next time.
    async fn attempt<T>(
        &self,
        operation: impl AsyncFnOnce(&mut Client) -> Result<T, etcd_client::Error>,
    ) -> anyhow::Result<T> {
        let mut client = self.client().await?;
        let result = tokio::time::timeout(TIMEOUT, operation(&mut client)).await;
        let result = result
            .context("etcd did not answer in time")
            .and_then(|result| result.map_err(Into::into));
        if result.is_err() {
            *self.client.lock().await = None;
        }
        result
    }

    /// A value.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn get(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let key = self.key(key);
        let answer = self
            .attempt(async |client| client.get(key, None).await)
            .await?;
        Ok(answer.kvs().first().map(|kv| kv.value().to_vec()))
    }

    /// All values whose keys begin so, and the revision of the answer.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn list(&self, prefix: &str) -> anyhow::Result<(Vec<Entry>, i64)> {
        let key = self.key(prefix);
        let options = GetOptions::new().with_prefix();
        let answer = self
            .attempt(async |client| client.get(key, Some(options)).await)
            .await?;
        let revision = answer
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        let entries = answer.kvs().iter().map(|kv| Entry {
            key: self.relative(kv.key()),
            value: kv.value().to_vec(),
        });
        Ok((entries.collect(), revision))
    }

    /// The part of a key after the root.
    pub fn relative(&self, key: &[u8]) -> String {
        let key = String::from_utf8_lossy(key);
        let rest = key.strip_prefix(&self.root).unwrap_or(&key);
        rest.trim_start_matches('/').to_owned()
    }

    /// Writes a value whatever is there.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn put(&self, key: &str, value: Vec<u8>) -> anyhow::Result<()> {
        let key = self.key(key);
        self.attempt(async |client| client.put(key, value, None).await)
            .await?;
        Ok(())
    }

    /// Writes a value in place of another one. Returns whether it was there.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn swap(&self, key: &str, old: Vec<u8>, new: Vec<u8>) -> anyhow::Result<bool> {
        let key = self.key(key);
        self.attempt(async |client| {
            let same = Compare::value(key.clone(), CompareOp::Equal, old);
            let put = TxnOp::put(key, new, None);
            let answer = client.txn(Txn::new().when([same]).and_then([put])).await?;
            Ok(answer.succeeded())
        })
        .await
    }

    /// Writes a value where none is, with a lease that lasts so many seconds if given. Returns the lease, or nothing when
    /// there is a value already.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn create(
        &self,
        key: &str,
        value: Vec<u8>,
        lease_seconds: Option<i64>,
    ) -> anyhow::Result<Option<i64>> {
        let key = self.key(key);
        self.attempt(async |client| {
            let lease = match lease_seconds {
                Some(seconds) => client.lease_grant(seconds, None).await?.id(),
                None => 0,
            };
            let options = PutOptions::new().with_lease(lease);
            let absent = Compare::version(key.clone(), CompareOp::Equal, 0);
            let put = TxnOp::put(key, value, Some(options));
            let answer = client
                .txn(Txn::new().when([absent]).and_then([put]))
                .await?;
            Ok(answer.succeeded().then_some(lease))
        })
        .await
    }

    /// Ends a lease and removes what hangs on it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn revoke(&self, lease: i64) -> anyhow::Result<()> {
        self.attempt(async |client| client.lease_revoke(lease).await)
            .await?;
        Ok(())
    }

    /// Removes a value.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn delete(&self, key: &str) -> anyhow::Result<()> {
        let key = self.key(key);
        self.attempt(async |client| client.delete(key, None).await)
            .await?;
        Ok(())
    }

    /// Forgets the history until now.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn compact(&self) -> anyhow::Result<()> {
        let (_, revision) = self.list("").await?;
        self.attempt(async |client| client.compact(revision, None).await)
            .await?;
        Ok(())
    }

    /// Watches all keys that begin so, from a revision on.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn watch(&self, prefix: &str, revision: i64) -> anyhow::Result<WatchStream> {
        let key = self.key(prefix);
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(revision);
        self.attempt(async |client| client.watch(key, Some(options)).await)
            .await
    }
}
