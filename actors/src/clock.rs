//! The only place that reads a clock. Under a paused tokio runtime both clocks stand still together.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Wall-clock time, derived from tokio's clock, so that tests own it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timestamp,
    started: Instant,
}

/// The monotonic clock.
pub fn monotonic() -> Instant {
    Instant::now()
}

impl Clock {
    /// The machine's time.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// Time that starts at `origin` and passes as tokio's does.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self {
            origin,
            started: monotonic(),
        }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let elapsed =
            SignedDuration::try_from(monotonic() - self.started).unwrap_or(SignedDuration::ZERO);
        self.origin.saturating_add(elapsed).unwrap_or(self.origin)
    }
}
