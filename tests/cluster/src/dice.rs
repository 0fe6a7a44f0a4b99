//! Seeded chance: the same seed gives the same choices.

use std::time::Duration;

/// A generator of choices (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Takes the seed from `SEED`, else a fresh one, and prints it.
    pub fn cast() -> Self {
        let given = std::env::var("SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(fresh);
        println!("SEED={seed}");
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        // Below a usize, so it fits.
        (self.next() % bound) as usize
    }

    /// An instant of a span, in whole milliseconds.
    pub fn instant(&mut self, span: Duration) -> Duration {
        let milliseconds = usize::try_from(span.as_millis()).unwrap_or(usize::MAX);
        Duration::from_millis(self.below(milliseconds) as u64)
    }

    /// Puts a list into an order of chance.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

fn fresh() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    // Five digits are enough to tell runs apart and short enough to be typed.
    u64::from(since.subsec_micros()) % 100_000
}
