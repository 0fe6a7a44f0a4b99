//! When an actor decides: at once after a rest, bursts together, and again at the instant that its last decision named.

use std::time::Duration;

use actix::prelude::*;
use jiff::Timestamp;

/// Shortest time between two decisions of one actor. The first is made at once; bursts of events are taken together.
pub const PACE: Duration = Duration::from_millis(40);

/// The same while actions queue for the server: what is decided meanwhile would only wait longer, or be replaced.
const AT_MOST: Duration = Duration::from_millis(250);

/// The pace with this many actions held back by a window of this size: stretched by how often they fill it.
pub fn under(backlog: usize, window: usize) -> Duration {
    let rounds = u32::try_from(backlog / window.max(1)).unwrap_or(u32::MAX);
    PACE.saturating_mul(rounds.saturating_add(1)).min(AT_MOST)
}

/// Where an actor stands between two decisions.
#[derive(Debug)]
pub struct Pace {
    /// When the next decision may be made.
    rested: tokio::time::Instant,
    /// A decision waits for that.
    resting: bool,
    timer: Option<SpawnHandle>,
    next: Option<Timestamp>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            rested: crate::clock::monotonic(),
            resting: false,
            timer: None,
            next: None,
        }
    }
}

impl Pace {
    /// A decision begins: the next one is this far away at least.
    pub fn rest(&mut self, pace: Duration) {
        self.rested = crate::clock::monotonic() + pace;
    }

    /// The instant that the last decision named, if any.
    pub const fn next(&self) -> Option<Timestamp> {
        self.next
    }
}

/// An actor that decides.
pub trait Paced: Actor<Context = Context<Self>> {
    /// Its pace.
    fn pace(&mut self) -> &mut Pace;

    /// Decides now.
    fn think(&mut self, ctx: &mut Context<Self>);

    /// Decides now, or as soon as the pace allows.
    fn soon(&mut self, ctx: &mut Context<Self>) {
        let pace = self.pace();
        if pace.resting {
            return;
        }
        let wait = pace
            .rested
            .saturating_duration_since(crate::clock::monotonic());
        if wait.is_zero() {
            self.think(ctx);
        } else {
            pace.resting = true;
            ctx.run_later(wait, |actor, ctx| {
                actor.pace().resting = false;
                actor.think(ctx);
            });
        }
    }

    /// Decides again at this instant; takes the place of what was set before.
    fn set_timer(&mut self, wake: Option<Timestamp>, now: Timestamp, ctx: &mut Context<Self>) {
        let pace = self.pace();
        if let Some(timer) = pace.timer.take() {
            ctx.cancel_future(timer);
        }
        pace.next = wake;
        pace.timer = wake.map(|at| {
            let wait = Duration::try_from(at.duration_since(now))
                .unwrap_or_default()
                .max(PACE);
            ctx.run_later(wait, |actor, ctx| {
                actor.pace().timer = None;
                actor.think(ctx);
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_the_queue() {
        let cases = [
            ((0, 8), 40),
            ((7, 8), 40),
            ((8, 8), 80),
            ((24, 8), 160),
            ((2000, 8), 250),
            ((1, 1), 80),
            ((usize::MAX, 1), 250),
        ];
        for ((backlog, window), expected) in cases {
            let expected = Duration::from_millis(expected);
            assert_eq!(under(backlog, window), expected, "{backlog} by {window}");
        }
    }
}
