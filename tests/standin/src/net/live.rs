//! A shard under real time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::shard::Shard;

/// A shard that advances by itself and tells that something changed.
#[derive(Debug)]
pub struct Live {
    shard: Mutex<Shard>,
    version: watch::Sender<u64>,
}

impl Live {
    /// Takes a shard into real time. It stops when the last reference is dropped.
    pub fn new(shard: Shard) -> Arc<Self> {
        let live = Arc::new(Self {
            shard: Mutex::new(shard),
            version: watch::Sender::new(0),
        });
        tokio::spawn(drive(Arc::downgrade(&live), live.subscribe()));
        live
    }

    fn lock(&self) -> MutexGuard<'_, Shard> {
        self.shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the shard advance until now and changes it.
    pub fn change<T>(&self, change: impl FnOnce(&mut Shard, Timestamp) -> T) -> T {
        let mut shard = self.lock();
        let now = Timestamp::now();
        shard.advance(now);
        let answer = change(&mut shard, now);
        drop(shard);
        self.version.send_modify(|version| *version += 1);
        answer
    }

    /// Looks at the shard.
    pub fn read<T>(&self, look: impl FnOnce(&Shard, Timestamp) -> T) -> T {
        look(&self.lock(), Timestamp::now())
    }

    /// Counts changes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until the shard has an answer.
    pub async fn until<T>(&self, mut ask: impl FnMut(&Shard) -> Option<T>) -> T {
        let mut version = self.subscribe();
        loop {
            version.mark_unchanged();
            if let Some(answer) = self.read(|shard, _| ask(shard)) {
                return answer;
            }
            // The sender is part of `self` and cannot be gone.
            let _ = version.changed().await;
        }
    }
}

/// Wakes a shard when something is due.
async fn drive(live: Weak<Live>, mut version: watch::Receiver<u64>) {
    loop {
        version.mark_unchanged();
        let Some(strong) = live.upgrade() else {
            return;
        };
        let wait = strong.read(|shard, now| {
            let wake = shard.wake()?;
            Some(std::time::Duration::try_from(wake.duration_since(now)).unwrap_or_default())
        });
        drop(strong);
        let due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {
                if let Some(strong) = live.upgrade() {
                    strong.change(|_, _| ());
                }
            }
            changed = version.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
