//! Faults on demand, per peer.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What a peer's sockets do.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// They work.
    #[default]
    Fine,
    /// Connections are refused, open ones are reset.
    Refuse,
    /// Connections are accepted and nothing is ever answered.
    Hang,
    /// Answers are noise.
    Garbage,
}

/// What is wrong with a peer. The default is: nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Faults {
    /// Its sockets.
    pub network: Network,
    /// Every write to a socket waits for so long.
    pub slow_milliseconds: u64,
    /// It publishes nothing any more: its record stays as it is.
    pub stale_record: bool,
    /// It publishes bytes that are no record.
    pub garbage_record: bool,
    /// Its process dies without a word and stays down; it starts again when the fault ends.
    pub crash: bool,
    /// It is cut off from the other poolers and the coordinators. The operator still reaches it.
    pub partition: bool,
    /// It receives nothing from its leader although the connection stands.
    pub lag: bool,
    /// Its PostgreSQL fails and cannot be started on this volume any more. Stays when the fault ends.
    pub damaged_volume: bool,
    /// The configuration files that it sees stay as they are.
    pub stale_files: bool,
    /// The backup repository cannot be reached from it.
    pub no_repository: bool,
    /// Its clock is off by so much.
    pub clock_skew_milliseconds: i64,
}

/// The faults of all peers by `namespace/pod`. A fault may be there before its peer.
#[derive(Debug, Default)]
pub struct Registry {
    peers: Mutex<BTreeMap<String, watch::Sender<Faults>>>,
}

impl Registry {
    fn with<T>(&self, peer: &str, act: impl FnOnce(&watch::Sender<Faults>) -> T) -> T {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        act(peers.entry(peer.to_owned()).or_default())
    }

    /// Sets what is wrong with a peer from now on.
    pub fn set(&self, peer: &str, faults: Faults) {
        self.with(peer, |sender| {
            sender.send_if_modified(|current| {
                let changed = *current != faults;
                *current = faults;
                changed
            })
        });
    }

    /// Changes what is wrong with a peer.
    pub fn change(&self, peer: &str, change: impl FnOnce(&mut Faults)) {
        self.with(peer, |sender| sender.send_modify(change));
    }

    /// What is wrong with a peer, now and later.
    pub fn of(&self, peer: &str) -> watch::Receiver<Faults> {
        self.with(peer, watch::Sender::subscribe)
    }

    /// All peers with faults.
    pub fn all(&self) -> BTreeMap<String, Faults> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers
            .iter()
            .map(|(peer, sender)| (peer.clone(), sender.borrow().clone()))
            .filter(|(_, faults)| *faults != Faults::default())
            .collect()
    }
}
