//! How many requests may be under way: widened while the server answers fast, shrunk when it does not (`design.md` 2, "Pace").

use std::time::Duration;

use serde::Serialize;

/// At the start: enough to keep a small server busy, too few to hurt one.
const FIRST: f64 = 8.0;
/// Never fewer than one, or nothing would ever be learnt.
const LEAST: f64 = 1.0;
/// One connection per request: bounds memory on our side and load on the server's (its own default is 200 mutating).
const MOST: f64 = 48.0;
/// An answer this much slower than the floor counts as slow.
const SLOW: f64 = 6.0;
/// Below this a latency is never called slow, however fast the floor is.
const GRACE: Duration = Duration::from_millis(250);

/// Additive increase, multiplicative decrease.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    size: f64,
    /// Shortest latency seen lately, in seconds.
    floor: f64,
    /// Moving average of latency, in seconds.
    average: f64,
    /// Most requests that were under way at once.
    pub peak: usize,
    /// How often the window was cut.
    pub cuts: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: FIRST,
            floor: f64::MAX,
            average: 0.0,
            peak: 0,
            cuts: 0,
        }
    }
}

/// How a request went, as far as pace is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, whatever the answer.
    Answered,
    /// 429: the server said it is too much.
    Refused,
    /// No answer in time, or no connection.
    Lost,
}

impl Window {
    /// How many may be under way.
    pub fn size(&self) -> usize {
        // Between 1 and 48, so the cast is exact.
        self.size as usize
    }

    /// Learns from one answer.
    pub fn learn(&mut self, latency: Duration, outcome: Outcome) {
        let seconds = latency.as_secs_f64();
        match outcome {
            Outcome::Refused => self.cut(0.5),
            Outcome::Lost => self.cut(0.25),
            Outcome::Answered => {
                // The floor drifts up slowly, so that one lucky answer does not rule for ever.
                self.floor = (self.floor * 1.001).min(seconds.max(0.001));
                self.average = if self.average == 0.0 {
                    seconds
                } else {
                    self.average * 0.9 + seconds * 0.1
                };
                if self.average > self.floor * SLOW && latency > GRACE {
                    self.cut(0.95);
                } else {
                    self.size = (self.size + 1.0 / self.size).min(MOST);
                }
            }
        }
    }

    fn cut(&mut self, factor: f64) {
        self.size = (self.size * factor).max(LEAST);
        self.cuts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens_while_answers_are_fast() {
        let mut window = Window::default();
        for _ in 0..5000 {
            window.learn(Duration::from_millis(5), Outcome::Answered);
        }
        assert_eq!(window.size(), MOST as usize);
    }

    #[test]
    fn shrinks_on_refusal_and_recovers() {
        let mut window = Window::default();
        for _ in 0..20 {
            window.learn(Duration::from_millis(5), Outcome::Refused);
        }
        assert_eq!(window.size(), 1);
        for _ in 0..200 {
            window.learn(Duration::from_millis(5), Outcome::Answered);
        }
        assert!(window.size() > 10, "recovered to {}", window.size());
    }

    #[test]
    fn shrinks_when_latency_grows() {
        let mut window = Window::default();
        for _ in 0..1000 {
            window.learn(Duration::from_millis(5), Outcome::Answered);
        }
        let before = window.size();
        for _ in 0..50 {
            window.learn(Duration::from_secs(2), Outcome::Answered);
        }
        assert!(window.size() < before / 2, "{before} → {}", window.size());
    }
}
