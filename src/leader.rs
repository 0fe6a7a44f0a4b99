//! Leader election. Publishes until when this process may write.
//!
//! The end of a leadership is counted from the instant *before* the last successful renewal was sent, and ends a third of
//! the lease before a standby may take over, so an answer that is slow or lost costs leadership, never safety. A request
//! without an answer counts as unknown: the Lease is read again before the next write.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock;
use crate::engine::Leadership;
use crate::lease::{Error, Leases, Step, Timing, decide, held, released};

/// Without an election leadership lasts longer than any process.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Leadership without an election.
pub fn alone() -> Leadership {
    Leadership::Leader {
        until: clock::monotonic() + FOREVER,
    }
}

/// One process that wants to lead.
pub struct Elector<L> {
    leases: L,
    namespace: String,
    identity: String,
    timing: Timing,
    leadership: watch::Sender<Leadership>,
    seen: Option<Lease>,
    first_seen: Instant,
    silent: bool,
}

impl<L: Leases> Elector<L> {
    /// An elector that has not looked at the Lease yet.
    pub fn new(
        leases: L,
        namespace: &str,
        identity: &str,
        timing: Timing,
        leadership: watch::Sender<Leadership>,
    ) -> Self {
        let (namespace, identity) = (namespace.to_owned(), identity.to_owned());
        let first_seen = clock::monotonic();
        Self {
            leases,
            namespace,
            identity,
            timing,
            leadership,
            seen: None,
            first_seen,
            silent: false,
        }
    }

    /// Takes part until `stop` says whether to release the Lease (true when no write is under way any more) or to let it
    /// run out. Renews until then.
    pub async fn run(mut self, mut stop: oneshot::Receiver<bool>) {
        loop {
            let pause = tokio::select! {
                biased;
                release = &mut stop => return self.finish(release.unwrap_or(false)).await,
                pause = self.round() => pause,
            };
            let held = *self.leadership.borrow();
            let expiry = async {
                match held {
                    Leadership::Leader { until } => sleep_until(until).await,
                    Leadership::Standby => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                release = &mut stop => return self.finish(release.unwrap_or(false)).await,
                () = sleep(pause) => {}
                () = expiry => self.stand_by("no renewal in time"),
            }
        }
    }

    /// One look and, where it is due, one write. Returns the pause until the next.
    async fn round(&mut self) -> Duration {
        let limit = self.timing.request;
        let answer = match timeout(limit, self.attempt()).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Unknown),
        };
        match answer {
            Ok(pause) => {
                self.silent = false;
                pause
            }
            Err(error) => {
                if !matches!(*self.leadership.borrow(), Leadership::Standby) {
                    self.seen = None; // what was written is not known: read before the next write
                }
                self.expire();
                if !self.silent && !matches!(error, Error::Conflict) {
                    tracing::warn!(reason = %error, "unable to reach the lease");
                    self.silent = true; // one line per outage
                }
                self.timing.retry
            }
        }
    }

    async fn attempt(&mut self) -> Result<Duration, Error> {
        let leads = matches!(*self.leadership.borrow(), Leadership::Leader { .. });
        if !leads || self.seen.is_none() {
            let record = self.leases.read().await?;
            self.observe(record);
        }
        let step = decide(
            self.seen.as_ref(),
            &self.identity,
            self.first_seen,
            clock::monotonic(),
            &self.timing,
        );
        if let Step::Wait(pause) = step {
            self.stand_by("another process holds the lease");
            return Ok(pause);
        }
        let wanted = held(
            self.seen.as_ref(),
            &self.namespace,
            &self.identity,
            &self.timing,
            clock::wall(),
        );
        let sent = clock::monotonic();
        let written = match step {
            Step::Create => self.leases.create(&wanted).await?,
            _ => self.leases.replace(&wanted).await?,
        };
        self.observe(Some(written));
        self.lead(sent + self.timing.renew_deadline);
        Ok(self.timing.retry)
    }

    /// Remembers the record and since when it stands like this.
    fn observe(&mut self, record: Option<Lease>) {
        let stamp = |lease: &Option<Lease>| {
            lease
                .as_ref()
                .and_then(|lease| lease.metadata.resource_version.clone())
        };
        if self.seen.is_none() || stamp(&self.seen) != stamp(&record) {
            self.first_seen = clock::monotonic();
        }
        self.seen = record;
    }

    fn lead(&self, until: Instant) {
        let before = self.leadership.send_replace(Leadership::Leader { until });
        if before == Leadership::Standby {
            tracing::info!(identity = %self.identity, "leading");
        }
    }

    fn expire(&self) {
        let over = matches!(*self.leadership.borrow(), Leadership::Leader { until } if until <= clock::monotonic());
        if over {
            self.stand_by("no renewal in time");
        }
    }

    fn stand_by(&self, reason: &str) {
        let before = *self.leadership.borrow();
        if before != Leadership::Standby {
            self.leadership.send_replace(Leadership::Standby);
            tracing::info!(identity = %self.identity, reason, "leadership lost");
        }
    }

    async fn finish(self, release: bool) {
        let before = self.leadership.send_replace(Leadership::Standby);
        if before == Leadership::Standby || !release {
            return;
        }
        let _ = timeout(self.timing.request, self.release()).await; // else it runs out by itself
    }

    async fn release(&self) -> Result<(), Error> {
        // Read again: a renewal that was cut off may have been written.
        let Some(record) = self.leases.read().await? else {
            return Ok(());
        };
        let holder = record
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        if holder == Some(self.identity.as_str()) {
            self.leases
                .replace(&released(&record, clock::wall()))
                .await?;
            tracing::info!(identity = %self.identity, "lease released");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
