//! The only place that reads a clock. Under a paused tokio runtime both clocks stand still together.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Wall-clock time: the machine's, or one that passes as tokio's clock does, so that tests own it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Option<(Timestamp, Instant)>);

/// The monotonic clock.
pub fn monotonic() -> Instant {
    Instant::now()
}

impl Clock {
    /// The machine's time, corrections and suspensions of the machine included.
    pub const fn system() -> Self {
        Self(None)
    }

    /// Time that starts at `origin` and passes as tokio's does.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self(Some((origin, monotonic())))
    }

    /// Now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Timestamp {
        let Some((origin, started)) = self.0 else {
            return Timestamp::now();
        };
        let elapsed =
            SignedDuration::try_from(monotonic() - started).unwrap_or(SignedDuration::ZERO);
        origin.saturating_add(elapsed).unwrap_or(origin)
    }
}
