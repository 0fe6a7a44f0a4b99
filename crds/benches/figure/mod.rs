//! Timing of pure code, beside its goal; shared by the benchmarks of this workspace.

use std::hint::black_box;
use std::time::Instant;

/// Runs, of which the median counts.
const RUNS: usize = 9;

/// Times `work`, `rounds` times a run, and prints the median in microseconds. Where `BENCH_FIGURES` names a folder, `file` there
/// gets the figure for the report of `make bench`.
pub fn time<T>(name: &str, goal: f64, rounds: u32, file: &str, mut work: impl FnMut() -> T) {
    let mut runs = Vec::new();
    // The first run warms up.
    for _ in 0..=RUNS {
        let begin = Instant::now();
        for _ in 0..rounds {
            black_box(work());
        }
        runs.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    }
    runs.remove(0);
    let mut sorted = runs.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[RUNS / 2];
    let verdict = if median <= goal { "ok" } else { "MISSED" };
    println!("{name:<58} {median:>10.2} µs         goal <= {goal}  {verdict}");
    if let Some(folder) = std::env::var_os("BENCH_FIGURES") {
        let figure = serde_json::json!({"name": name, "unit": "µs", "goal": goal, "runs": runs});
        let path = std::path::Path::new(&folder).join(file);
        std::fs::write(path, figure.to_string()).unwrap();
    }
}
