//! The only place of the process that reads a clock.

use jiff::Timestamp;
use tokio::time::Instant;

/// The monotonic clock; tokio's, so that tests can stop it.
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Wall-clock time, for what people read. Never compared with another machine's.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}
