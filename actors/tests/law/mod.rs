//! Laws: properties of random cases. `ACTORS_SEED` repeats a run, `ACTORS_CASES` makes it longer.

use std::hash::{BuildHasher, Hasher};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs a law and names the seed.
pub fn law<S: Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seed = number("ACTORS_SEED")
        .unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    let config = Config {
        cases: number("ACTORS_CASES").map_or(cases, |cases| cases as u32),
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    if let Err(error) = TestRunner::new_with_rng(config, rng).run(&strategy, test) {
        panic!("ACTORS_SEED={seed} repeats this: {error}");
    }
}
