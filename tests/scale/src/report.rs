//! The figures of bring-ups: time against the raw client, requests, and how both grow with the fleet.

use std::time::Duration;

use control_plane::Entry;

use crate::figures::{Figures, median};

/// What is asked of a fleet.
#[derive(Debug)]
pub struct Goals {
    /// Bring-up by the operator ÷ by the raw client.
    ratio: f64,
    /// Writes ÷ (objects + 2 per custom resource).
    writes: f64,
    /// Resident memory of the settled operator, MiB.
    pub memory: f64,
}

/// Of clusters that kwok plays alone.
pub const PLAIN: Goals = Goals {
    ratio: 1.25,
    writes: 1.1,
    memory: 40.0,
};

/// Of clusters whose data plane answers. Writes: a Shard's status tells of the topology, of the first roles, of the first backup
/// and of the first primary as they come, which TableGroup and cluster sum up, and each pooler's pod gets its role label: about a
/// dozen writes more than objects alone take.
///
/// Time: both bring-ups use all of the CPU, so their times compare as their work does. The goal is the product of three factors:
/// 1.25 as for objects alone; 1.27 for the writes of everybody (a figure of its own): besides what the operator tells, controllers
/// write the status of each step of a Deployment and of a budget, which they sum up when a client posts all objects in one burst;
/// 1.07 for the operator's own share of the CPU, which follows 300 poolers and 100 topologies meanwhile.
///
/// Memory: a health stream to each of 300 poolers and a watch in each of 100 topologies, at about 80 KiB for each connection.
pub const LIVE: Goals = Goals {
    ratio: 1.7,
    writes: 1.45,
    memory: 64.0,
};

/// What a bring-up took.
pub struct Took {
    /// Until the last cluster was Healthy, or as many pods were Ready.
    pub time: Duration,
    /// Writes of everybody until then: the operator or the raw client, the controllers, the scheduler, kwok.
    pub writes: usize,
}

impl Took {
    fn seconds(&self) -> f64 {
        self.time.as_secs_f64()
    }
}

/// One bring-up by the operator and by the raw client.
pub struct Run {
    /// The operator's.
    pub operator: Took,
    /// The raw client's; None when it was left out.
    pub raw: Option<Took>,
    /// Most requests that the operator had under way, and so the raw client.
    pub peak: usize,
    /// What the operator wrote.
    pub writes: Writes,
}

/// What the operator wrote during a bring-up, per cluster.
pub struct Writes {
    /// All requests over objects plus two for each custom resource.
    pub ratio: f64,
    all: f64,
    objects: f64,
    status: f64,
    apply: f64,
    create: f64,
    other: f64,
    events: f64,
    /// Events over transitions of custom resources, where those were counted.
    told: Option<f64>,
}

/// What a bring-up made, in numbers.
pub struct Made {
    /// Clusters.
    pub clusters: usize,
    /// Objects that the operator wrote.
    pub objects: usize,
    /// Custom resources among them.
    pub custom: usize,
    /// Events.
    pub events: usize,
    /// Transitions of custom resources, where they were counted.
    pub transitions: Option<usize>,
}

impl Writes {
    /// From the audit log's writes and what they made.
    pub fn of(entries: &[Entry], made: &Made) -> Self {
        let per_cluster = |number: usize| number as f64 / made.clusters as f64;
        let of = |test: fn(&Entry) -> bool| per_cluster(entries.iter().filter(|e| test(e)).count());
        // The clusters themselves are custom resources with a status too.
        let custom = made.custom + made.clusters;
        let told = made.transitions.filter(|transitions| *transitions > 0);
        Self {
            ratio: entries.len() as f64 / (made.objects + 2 * custom) as f64,
            all: per_cluster(entries.len()),
            objects: per_cluster(made.objects),
            status: of(|entry| entry.subresource == "status"),
            apply: of(|entry| entry.subresource.is_empty() && entry.verb == "patch"),
            create: of(|entry| entry.subresource.is_empty() && entry.verb == "create"),
            other: of(|entry| {
                entry.subresource != "status"
                    && !(entry.subresource.is_empty()
                        && ["patch", "create"].contains(&entry.verb.as_str()))
            }),
            events: per_cluster(made.events),
            told: told.map(|transitions| made.events as f64 / transitions as f64),
        }
    }
}

/// Adds the figures of a fleet's bring-ups.
pub fn bring_ups(figures: &mut Figures, count: usize, runs: &[Run], goals: &Goals) {
    type Value = fn(&Run) -> Option<f64>;
    type Row = (&'static str, &'static str, Option<f64>, Value);
    let rows: [Row; 14] = [
        (
            "bring-up, operator / raw client",
            "",
            Some(goals.ratio),
            |run| Some(run.operator.seconds() / run.raw.as_ref()?.seconds()),
        ),
        (
            "writes of everybody, operator / raw client",
            "",
            None,
            |run| Some(run.operator.writes as f64 / run.raw.as_ref()?.writes as f64),
        ),
        ("bring-up, operator", "s", None, |run| {
            Some(run.operator.seconds())
        }),
        ("bring-up, raw client", "s", None, |run| {
            Some(run.raw.as_ref()?.seconds())
        }),
        ("requests under way, most", "", None, |run| {
            Some(run.peak as f64)
        }),
        (
            "writes / (objects + 2 per custom resource)",
            "",
            Some(goals.writes),
            |run| Some(run.writes.ratio),
        ),
        ("events / transitions", "", Some(1.0), |run| run.writes.told),
        ("writes", PER_CLUSTER, None, |run| Some(run.writes.all)),
        ("objects", PER_CLUSTER, None, |run| Some(run.writes.objects)),
        ("writes of status", PER_CLUSTER, None, |run| {
            Some(run.writes.status)
        }),
        ("writes, apply", PER_CLUSTER, None, |run| {
            Some(run.writes.apply)
        }),
        ("writes, create", PER_CLUSTER, None, |run| {
            Some(run.writes.create)
        }),
        ("writes, other", PER_CLUSTER, None, |run| {
            Some(run.writes.other)
        }),
        ("events", PER_CLUSTER, None, |run| Some(run.writes.events)),
    ];
    for (what, unit, goal, value) in rows {
        let values: Vec<f64> = runs.iter().filter_map(value).collect();
        if !values.is_empty() {
            figures.add(format!("{count} clusters, {what}"), unit, goal, values);
        }
    }
}

const PER_CLUSTER: &str = "/cluster";

/// Medians of both clients' times, in seconds; None without a raw client.
pub fn times(runs: &[Run]) -> Option<(f64, f64)> {
    let operator: Vec<f64> = runs.iter().map(|run| run.operator.seconds()).collect();
    let raw: Option<Vec<f64>> = runs
        .iter()
        .map(|run| Some(run.raw.as_ref()?.seconds()))
        .collect();
    Some((median(&operator), median(&raw?)))
}

/// Adds the seconds per further cluster, from one fleet size to the next: the operator's, the raw client's, and their ratio.
pub fn slope(figures: &mut Figures, mut sizes: Vec<(usize, (f64, f64))>) {
    sizes.sort_by_key(|(size, _)| *size);
    for pair in sizes.windows(2) {
        let [(few, short), (many, long)] = pair else {
            continue;
        };
        let step = (many - few) as f64;
        let (operator, raw) = ((long.0 - short.0) / step, (long.1 - short.1) / step);
        for (who, unit, value) in [
            ("operator", "s/cluster", operator),
            ("raw client", "s/cluster", raw),
            ("operator / raw client", "", operator / raw),
        ] {
            let name = format!("slope {few} to {many} clusters, {who}");
            figures.add(name, unit, None, vec![value]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(verb: &str, subresource: &str) -> Entry {
        Entry {
            user: String::new(),
            credential: String::new(),
            user_agent: String::new(),
            verb: verb.to_owned(),
            group: "multigres.com".to_owned(),
            resource: "shards".to_owned(),
            subresource: subresource.to_owned(),
            namespace: String::new(),
            name: String::new(),
            code: 200,
            at: jiff::Timestamp::UNIX_EPOCH,
            answered: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_shares_of_the_writes_add_up() {
        let entries = [
            entry("patch", "status"),
            entry("patch", ""),
            entry("create", ""),
            entry("delete", ""),
        ];
        let made = Made {
            clusters: 2,
            objects: 4,
            custom: 1,
            events: 3,
            transitions: Some(6),
        };
        let writes = Writes::of(&entries, &made);
        assert_eq!(writes.ratio, 0.4);
        let shares = writes.status + writes.apply + writes.create + writes.other;
        assert_eq!((shares, writes.all), (2.0, 2.0));
        assert_eq!(writes.told, Some(0.5));
    }

    #[test]
    fn the_slope_is_between_neighbouring_sizes() {
        let mut figures = Figures::default();
        slope(&mut figures, vec![(100, (20.0, 18.0)), (20, (4.0, 2.0))]);
        let values: Vec<f64> = figures.all().iter().map(|figure| figure.value).collect();
        assert_eq!(values, [0.2, 0.2, 1.0]);
    }
}
