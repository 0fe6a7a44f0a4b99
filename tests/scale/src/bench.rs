//! The measurements one after the other.

use std::time::Duration;

use control_plane::{
    Audit, Entry, Installed, Mark, OperatorProcess, Overrides, Plane, PlaneOptions, chart,
};

use crate::{
    figures::{Figures, median},
    fleet,
    quiet::{self, Listener, Noise},
    raw::Rendered,
    settings::Settings,
};

const MIB: f64 = 1024.0 * 1024.0;

/// A plane with the chart, and the figures so far.
pub struct Bench {
    settings: Settings,
    plane: Plane,
    installed: Installed,
    audit: Audit,
    figures: Figures,
    namespaces: usize,
}

/// One bring-up by the operator and by the raw client.
struct Run {
    operator: Duration,
    raw: Duration,
    writes: Writes,
}

/// What the operator wrote during a bring-up, per cluster.
struct Writes {
    /// All requests over objects plus two for each custom resource.
    ratio: f64,
    all: f64,
    objects: f64,
    status: f64,
    apply: f64,
    create: f64,
    other: f64,
    events: f64,
}

impl Bench {
    /// Starts a plane, installs the chart, and sees one cluster come and go: after that every program of the plane is warm.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let options = PlaneOptions {
            name: "scale".to_owned(),
            ..PlaneOptions::default()
        };
        let mut plane = Plane::start_server(options).await?;
        let installed = chart::install(&plane, &[]).await?;
        plane.start_nodes().await?;
        let mut bench = Self {
            settings,
            audit: plane.audit(),
            plane,
            installed,
            figures: Figures::default(),
            namespaces: 0,
        };
        let mut operator = bench.operator().await?;
        let namespace = bench.namespace("warm").await?;
        fleet::bring_up(bench.plane.client(), &namespace, 1, 1).await?;
        bench.end(&mut operator, &namespace).await?;
        Ok(bench)
    }

    /// The figures so far.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Measures everything.
    pub async fn measure(&mut self) -> anyhow::Result<()> {
        self.empty().await?;
        let (clusters, count) = (self.settings.clusters, self.settings.runs);
        let mut runs = Vec::new();
        for number in 1..=count {
            eprintln!("bring-up {number} of {count}, {clusters} clusters");
            runs.push(self.bring_up(clusters, number == count).await?);
        }
        self.report(clusters, &runs);
        let mut sizes = vec![(clusters, times(&runs))];
        for size in self.settings.slope.clone() {
            eprintln!("bring-up for the slope, {size} clusters");
            let runs = [self.bring_up(size, false).await?];
            self.report(size, &runs);
            sizes.push((size, times(&runs)));
        }
        self.slope(sizes);
        Ok(())
    }

    /// Memory without a cluster.
    async fn empty(&mut self) -> anyhow::Result<()> {
        let mut operator = self.operator().await?;
        quiet::settled(&self.audit).await?;
        quiet::rest(quiet::REST, "memory without a cluster").await;
        self.memory(&operator, "no cluster", 15.0)?;
        operator.terminate().await?;
        Ok(())
    }

    fn memory(&mut self, operator: &OperatorProcess, when: &str, goal: f64) -> anyhow::Result<()> {
        let (resident, peak) = (operator.rss()? as f64 / MIB, operator.hwm()? as f64 / MIB);
        let figures = &mut self.figures;
        figures.add(format!("VmRSS, {when}"), "MiB", Some(goal), vec![resident]);
        figures.add(format!("VmHWM, {when}"), "MiB", None, vec![peak]);
        Ok(())
    }

    /// A fleet by the operator, then the same objects by the raw client. The last fleet is listened to as well.
    async fn bring_up(&mut self, count: usize, last: bool) -> anyhow::Result<Run> {
        let mut operator = self.operator().await?;
        let namespace = self.namespace("fleet").await?;
        quiet::settled(&self.audit).await?;
        let mark = self.audit.settle().await?;
        let client = self.plane.client();
        let in_flight = self.settings.in_flight;
        let by_operator = fleet::bring_up(client.clone(), &namespace, count, in_flight).await?;
        eprintln!("  operator: {:.2} s", by_operator.as_secs_f64());
        quiet::settled(&self.audit).await?;
        let entries = self.audit.writes(mark, &chart::user())?;
        let rendered = Rendered::take(client.clone(), &namespace, &entries).await?;
        let writes = self.writes(mark, &entries, &rendered, count)?;
        if last {
            self.listen(&operator, count, &namespace).await?;
        }
        self.end(&mut operator, &namespace).await?;
        let namespace = self.namespace("raw").await?;
        let by_raw = rendered.post(client.clone(), &namespace, in_flight).await?;
        eprintln!("  raw client: {:.2} s", by_raw.as_secs_f64());
        fleet::remove_namespace(client, &namespace).await?;
        Ok(Run {
            operator: by_operator,
            raw: by_raw,
            writes,
        })
    }

    fn writes(
        &self,
        mark: Mark,
        entries: &[Entry],
        rendered: &Rendered,
        count: usize,
    ) -> anyhow::Result<Writes> {
        let events = self.audit.events(mark, &chart::user())?.len();
        let per_cluster = |number: usize| number as f64 / count as f64;
        let of = |test: fn(&Entry) -> bool| per_cluster(entries.iter().filter(|e| test(e)).count());
        // The clusters themselves are custom resources with a status too.
        let custom = rendered.custom() + count;
        eprintln!(
            "  {} objects, {custom} custom resources, {} pods Ready",
            rendered.len(),
            rendered.ready_pods
        );
        Ok(Writes {
            ratio: entries.len() as f64 / (rendered.len() + 2 * custom) as f64,
            all: per_cluster(entries.len()),
            objects: per_cluster(rendered.len()),
            status: of(|entry| entry.subresource == "status"),
            apply: of(|entry| entry.subresource.is_empty() && entry.verb == "patch"),
            create: of(|entry| entry.subresource.is_empty() && entry.verb == "create"),
            other: of(|entry| {
                entry.subresource != "status"
                    && !(entry.subresource.is_empty()
                        && ["patch", "create"].contains(&entry.verb.as_str()))
            }),
            events: per_cluster(events),
        })
    }

    /// The settled fleet: what the operator still does, and what it holds.
    async fn listen(
        &mut self,
        operator: &OperatorProcess,
        count: usize,
        namespace: &str,
    ) -> anyhow::Result<()> {
        let audit = self.audit.clone();
        let listener = Listener::start(&audit, operator).await?;
        // Memory is read a minute after the fleet settled, within the silence that is measured.
        let first = quiet::REST.min(self.settings.idle);
        quiet::rest(first, "a settled fleet").await;
        self.memory(operator, &format!("{count} clusters"), 40.0)?;
        quiet::rest(self.settings.idle.saturating_sub(first), "a settled fleet").await;
        self.noise(listener.noise().await?);
        let before = operator.rss()? as f64 / MIB;
        quiet::foreign(self.plane.client(), namespace).await?;
        quiet::settled(&audit).await?;
        let growth = operator.rss()? as f64 / MIB - before;
        self.figures.add(
            "VmRSS, growth by foreign objects",
            "MiB",
            Some(1.0),
            vec![growth],
        );
        Ok(())
    }

    fn noise(&mut self, noise: Noise) {
        let seconds = self.settings.idle.as_secs();
        for (what, count) in [
            ("writes", noise.writes),
            ("events", noise.events),
            ("log lines", noise.lines),
        ] {
            let name = format!("settled, {what} in {seconds} s");
            self.figures.add(name, "", Some(0.0), vec![count as f64]);
        }
    }

    fn report(&mut self, count: usize, runs: &[Run]) {
        type Value = fn(&Run) -> f64;
        type Row = (&'static str, &'static str, Option<f64>, Value);
        let seconds = |what, value: Value| (what, "s", None, value);
        let each = |what, value: Value| (what, "/cluster", None, value);
        let rows: [Row; 11] = [
            ("bring-up, operator / raw client", "", Some(1.25), |run| {
                run.operator.as_secs_f64() / run.raw.as_secs_f64()
            }),
            seconds("bring-up, operator", |run| run.operator.as_secs_f64()),
            seconds("bring-up, raw client", |run| run.raw.as_secs_f64()),
            (
                "writes / (objects + 2 per custom resource)",
                "",
                Some(1.1),
                |run| run.writes.ratio,
            ),
            each("writes", |run| run.writes.all),
            each("objects", |run| run.writes.objects),
            each("writes of status", |run| run.writes.status),
            each("writes, apply", |run| run.writes.apply),
            each("writes, create", |run| run.writes.create),
            each("writes, other", |run| run.writes.other),
            each("events", |run| run.writes.events),
        ];
        for (what, unit, goal, value) in rows {
            let name = format!("{count} clusters, {what}");
            let values = runs.iter().map(value).collect();
            self.figures.add(name, unit, goal, values);
        }
    }

    /// Seconds per further cluster, the operator's over the raw client's.
    fn slope(&mut self, mut sizes: Vec<(usize, (f64, f64))>) {
        sizes.sort_by_key(|(size, _)| *size);
        for pair in sizes.windows(2) {
            let [(few, short), (many, long)] = pair else {
                continue;
            };
            let step = (many - few) as f64;
            let name = |who: &str| format!("slope {few} to {many} clusters, {who}");
            let (operator, raw) = ((long.0 - short.0) / step, (long.1 - short.1) / step);
            self.figures
                .add(name("operator"), "s/cluster", None, vec![operator]);
            self.figures
                .add(name("raw client"), "s/cluster", None, vec![raw]);
        }
    }

    async fn operator(&self) -> anyhow::Result<OperatorProcess> {
        let binary = &self.settings.binary;
        let mut operator = self.installed.spawn(binary, Overrides::default())?;
        operator.ready().await?;
        Ok(operator)
    }

    async fn namespace(&mut self, purpose: &str) -> anyhow::Result<String> {
        self.namespaces += 1;
        let name = format!("{purpose}-{}", self.namespaces);
        fleet::namespace(self.plane.client(), &name).await?;
        Ok(name)
    }

    /// Deletes the clusters, ends the operator and removes the namespace.
    async fn end(&self, operator: &mut OperatorProcess, namespace: &str) -> anyhow::Result<()> {
        fleet::take_down(&self.plane, namespace).await?;
        operator.terminate().await?;
        fleet::remove_namespace(self.plane.client(), namespace).await
    }
}

/// The medians of both clients' times, in seconds.
fn times(runs: &[Run]) -> (f64, f64) {
    let of = |value: fn(&Run) -> Duration| {
        let seconds: Vec<f64> = runs.iter().map(|run| value(run).as_secs_f64()).collect();
        median(&seconds)
    };
    (of(|run| run.operator), of(|run| run.raw))
}
