//! Timing of pure code, beside its goal; shared by the benchmarks of this workspace.

use std::hint::black_box;

/// Runs, of which the median counts.
const RUNS: usize = 9;

/// Nanoseconds that this thread has spent on a processor: those that it waited for one do not count.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Times `work`, `rounds` times a run, and prints the median in microseconds of processor time. Where `BENCH_FIGURES` names a
/// folder, `file` there gets the figure for the report of `make bench`.
pub fn time<T>(name: &str, goal: f64, rounds: u32, file: &str, mut work: impl FnMut() -> T) {
    let mut runs = Vec::new();
    // The first run warms up.
    for _ in 0..=RUNS {
        let begin = spent();
        for _ in 0..rounds {
            black_box(work());
        }
        runs.push((spent() - begin) / 1e3 / f64::from(rounds));
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
