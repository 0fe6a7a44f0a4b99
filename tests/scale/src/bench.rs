//! The measurements one after the other.

use std::time::Duration;

use control_plane::{
    Audit, Entry, Installed, Mark, OperatorProcess, Overrides, Plane, PlaneOptions, chart,
};

use crate::{
    demo,
    figures::Figures,
    fleet,
    looker::{self, Looker},
    quiet::{self, Listener, Noise},
    raw::Rendered,
    report::{self, Made, Run, Writes},
    settings::Settings,
    transitions,
};

const MIB: f64 = 1024.0 * 1024.0;

/// A plane with the chart, and the figures so far.
pub struct Bench {
    settings: Settings,
    plane: Plane,
    installed: Installed,
    audit: Audit,
    looker: Looker,
    figures: Figures,
    namespaces: usize,
}

/// What a bring-up is good for beside its time.
#[derive(Clone, Copy, Default)]
struct Extras {
    /// Watch the custom resources for transitions: once, since it is work for the API server.
    transitions: bool,
    /// Listen to the settled fleet, read its memory, and annoy it with foreign objects.
    listen: bool,
}

impl Bench {
    /// Times the demo, starts a plane, installs the chart, and sees one cluster come and go: after that every program of the
    /// plane is warm.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let mut figures = Figures::default();
        figures.collect(&crate::target().join("bench"))?;
        if settings.demo
            && let Some(time) = demo::time(&settings.binary)?
        {
            let name = "demo, start to Healthy";
            figures.add(name, "s", Some(30.0), vec![time.as_secs_f64()]);
        }
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
            looker: Looker::new(&plane).await?,
            plane,
            installed,
            figures,
            namespaces: 0,
        };
        let mut operator = bench.operator().await?;
        let namespace = bench.namespace("warm").await?;
        fleet::bring_up(bench.plane.client(), &namespace, 1).await?;
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
            let extras = Extras {
                transitions: number == 1,
                listen: number == count,
            };
            runs.push(self.bring_up(clusters, extras).await?);
        }
        report::bring_ups(&mut self.figures, clusters, &runs);
        let mut sizes = vec![(clusters, report::times(&runs))];
        for size in self.settings.slope.clone() {
            eprintln!("bring-up for the slope, {size} clusters");
            let runs = [self.bring_up(size, Extras::default()).await?];
            report::bring_ups(&mut self.figures, size, &runs);
            sizes.push((size, report::times(&runs)));
        }
        let sizes = sizes.into_iter().filter_map(|(size, of)| Some((size, of?)));
        report::slope(&mut self.figures, sizes.collect());
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

    /// A fleet by the operator, then the same objects by the raw client.
    async fn bring_up(&mut self, count: usize, extras: Extras) -> anyhow::Result<Run> {
        let mut operator = self.operator().await?;
        let namespace = self.namespace("fleet").await?;
        quiet::settled(&self.audit).await?;
        let mark = self.audit.settle().await?;
        let (by_operator, transitions) = self.fleet(&namespace, count, extras).await?;
        eprintln!("  operator: {:.2} s", by_operator.as_secs_f64());
        let entries = self.audit.writes(mark, &chart::user())?;
        let client = self.plane.client();
        let rendered = Rendered::take(client.clone(), &namespace, &entries).await?;
        let writes = self.writes(mark, &entries, &rendered, count, transitions)?;
        if extras.listen {
            self.listen(&operator, count, &namespace).await?;
        }
        let peak = looker::peak(&self.looker.process(&operator).await?)?;
        self.end(&mut operator, &namespace).await?;
        let raw = match self.settings.raw {
            true => Some(self.raw(&rendered, peak).await?),
            false => None,
        };
        Ok(Run {
            operator: by_operator,
            raw,
            peak,
            writes,
        })
    }

    /// Brings a fleet up and waits until it has settled; the time until the last cluster was Healthy, and the transitions
    /// when they are asked for.
    async fn fleet(
        &self,
        namespace: &str,
        count: usize,
        extras: Extras,
    ) -> anyhow::Result<(Duration, Option<usize>)> {
        let client = self.plane.client();
        let work = async {
            let time = fleet::bring_up(client.clone(), namespace, count).await?;
            quiet::settled(&self.audit).await?;
            Ok(time)
        };
        if !extras.transitions {
            return Ok((work.await?, None));
        }
        let (time, seen) = transitions::during(client.clone(), namespace, work).await?;
        Ok((time, Some(seen)))
    }

    async fn raw(&mut self, rendered: &Rendered, in_flight: usize) -> anyhow::Result<Duration> {
        let client = self.plane.client();
        let namespace = self.namespace("raw").await?;
        let time = rendered.post(client.clone(), &namespace, in_flight).await?;
        let seconds = time.as_secs_f64();
        eprintln!("  raw client, {in_flight} requests at once: {seconds:.2} s");
        fleet::remove_namespace(client, &namespace).await?;
        Ok(time)
    }

    fn writes(
        &self,
        mark: Mark,
        entries: &[Entry],
        rendered: &Rendered,
        count: usize,
        transitions: Option<usize>,
    ) -> anyhow::Result<Writes> {
        let made = Made {
            clusters: count,
            objects: rendered.len(),
            custom: rendered.custom(),
            events: self.audit.events(mark, &chart::user())?.len(),
            transitions,
        };
        eprintln!(
            "  {} objects, {} pods Ready",
            made.objects, rendered.ready_pods
        );
        Ok(Writes::of(entries, &made))
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
        let name = "VmRSS, growth by foreign objects";
        self.figures.add(name, "MiB", Some(1.0), vec![growth]);
        let process = self.looker.process(operator).await?;
        for (kind, objects, each) in looker::bytes(&process) {
            let name = format!("bytes per object, {kind} ({objects})");
            self.figures.add(name, "B", None, vec![each]);
        }
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
