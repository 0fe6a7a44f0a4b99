//! `GET /metrics`: samples are asked from the actors at scrape time, so a deleted object leaves nothing behind.

use std::collections::BTreeMap;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::engine::{Sample, SampleKind};

/// Kernel clock ticks a second, on every Linux.
const TICKS: f64 = 100.0;

/// The exposition format of the samples, sorted by name.
///
/// # Errors
/// When a sample has no valid name.
pub fn render(samples: Vec<Sample>) -> Result<String, prometheus::Error> {
    let mut families: BTreeMap<&'static str, (MetricFamily, Vec<Metric>)> = BTreeMap::new();
    for sample in samples {
        let (_, metrics) = families
            .entry(sample.name)
            .or_insert_with(|| (family(&sample), Vec::new()));
        metrics.push(metric(sample));
    }
    let families: Vec<MetricFamily> = families
        .into_values()
        .map(|(mut family, metrics)| {
            family.set_metric(metrics);
            family
        })
        .collect();
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

fn family(sample: &Sample) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(sample.name.to_owned());
    family.set_help(sample.help.to_owned());
    family.set_field_type(match sample.kind {
        SampleKind::Gauge => MetricType::GAUGE,
        SampleKind::Counter => MetricType::COUNTER,
    });
    family
}

fn metric(sample: Sample) -> Metric {
    let mut labels: Vec<LabelPair> = Vec::with_capacity(sample.labels.len());
    for (name, value) in sample.labels {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value);
        labels.push(label);
    }
    let mut metric = Metric::from_label(labels);
    match sample.kind {
        SampleKind::Gauge => {
            let mut gauge = Gauge::default();
            gauge.set_value(sample.value);
            metric.set_gauge(gauge);
        }
        SampleKind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(sample.value);
            metric.set_counter(counter);
        }
    }
    metric
}

/// What the process knows of itself: leadership and the kernel's figures, under their customary names.
pub fn process(leads: bool) -> Vec<Sample> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let gauge = |name, help, value| Sample {
        name,
        help,
        kind: SampleKind::Gauge,
        labels: Vec::new(),
        value,
    };
    let lease = vec![("name", crate::lease::NAME.to_owned())];
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    vec![
        Sample {
            labels: lease,
            ..gauge(
                "leader_election_master_status",
                "1 while this process leads",
                f64::from(u8::from(leads)),
            )
        },
        Sample {
            labels: version,
            ..gauge(
                "multigres_operator_build_info",
                "Version of the operator; always 1",
                1.0,
            )
        },
        gauge(
            "process_resident_memory_bytes",
            "Resident memory",
            field(&status, "VmRSS:") * 1024.0,
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory",
            field(&status, "VmSize:") * 1024.0,
        ),
        gauge("process_threads", "Threads", field(&status, "Threads:")),
        gauge(
            "process_open_fds",
            "Open files",
            f64::from(u32::try_from(files).unwrap_or(u32::MAX)),
        ),
        Sample {
            kind: SampleKind::Counter,
            ..gauge("process_cpu_seconds_total", "Processor time", cpu(&stat))
        },
    ]
}

/// A figure of /proc/self/status; 0 when there is none.
fn field(status: &str, name: &str) -> f64 {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|figure| figure.parse().ok())
        .unwrap_or(0.0)
}

/// User and system time of /proc/self/stat, fields 14 and 15, counted behind the name, which may hold spaces.
fn cpu(stat: &str) -> f64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    ticks / TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_sorted_grouped_and_escaped() {
        let sample = |name, kind, label: &str, value| Sample {
            name,
            help: "h",
            kind,
            labels: vec![("name", label.to_owned())],
            value,
        };
        let text = render(vec![
            sample("b_total", SampleKind::Counter, "x", 2.0),
            sample("a", SampleKind::Gauge, "q\"", 1.5),
            sample("b_total", SampleKind::Counter, "y", 3.0),
        ]);
        let expected = "# HELP a h\n# TYPE a gauge\na{name=\"q\\\"\"} 1.5\n\
                        # HELP b_total h\n# TYPE b_total counter\nb_total{name=\"x\"} 2\nb_total{name=\"y\"} 3\n";
        assert_eq!(text.unwrap(), expected);
    }

    #[test]
    fn the_kernel_figures_are_read() {
        let samples = process(true);
        let value = |name: &str| {
            samples
                .iter()
                .find(|sample| sample.name == name)
                .unwrap()
                .value
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_threads") >= 1.0 && value("process_open_fds") >= 3.0);
        assert!((value("leader_election_master_status") - 1.0).abs() < f64::EPSILON);
        assert!((cpu("1 (a b) c) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0") - 2.0).abs() < f64::EPSILON);
    }
}
