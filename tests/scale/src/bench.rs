//! The measurements one after the other.

use std::time::Duration;

use control_plane::{
    Audit, Entry, Installed, Mark, OperatorProcess, Overrides, Plane, PlaneOptions, Pods, chart,
};

use crate::{
    figures::Figures,
    fleet::{self, Make},
    looker::{self, Looker},
    quiet::{self, Listener, Noise},
    raw::Rendered,
    report::{self, Goals, Made, Run, Took, Writes},
    settings::Settings,
    transitions,
};

const MIB: f64 = 1024.0 * 1024.0;

/// A plane with the chart, and the figures so far.
pub struct Bench<'a> {
    settings: &'a Settings,
    /// The plane.
    pub plane: Plane,
    installed: Installed,
    /// What was asked of it.
    pub audit: Audit,
    looker: Looker,
    /// The figures so far.
    pub figures: &'a mut Figures,
    namespaces: usize,
    /// The clusters.
    pub make: Make,
    /// What is asked of them.
    pub goals: &'static Goals,
}

/// What a bring-up is good for beside its time.
#[derive(Clone, Copy, Default)]
pub struct Extras {
    /// Watch the custom resources for transitions: once, since it is work for the API server.
    pub transitions: bool,
    /// Listen to the settled fleet and read its memory.
    pub listen: bool,
    /// Then annoy it with foreign objects.
    pub foreign: bool,
}

/// A fleet that is up.
pub struct Up {
    /// Its operator.
    pub operator: OperatorProcess,
    /// Where it is.
    pub namespace: String,
    /// What the operator made.
    pub rendered: Rendered,
    /// The figures, without the raw client's.
    pub run: Run,
}

impl<'a> Bench<'a> {
    /// Starts a plane and installs the chart.
    pub async fn start(
        settings: &'a Settings,
        pods: Pods,
        make: Make,
        figures: &'a mut Figures,
    ) -> anyhow::Result<Self> {
        let goals = match pods {
            Pods::Instant => &report::PLAIN,
            Pods::StandIn => &report::LIVE,
        };
        let options = PlaneOptions {
            name: "scale".to_owned(),
            pods,
            ..PlaneOptions::default()
        };
        let mut plane = Plane::start_server(options).await?;
        let installed = chart::install(&plane, &[]).await?;
        plane.start_nodes().await?;
        Ok(Self {
            settings,
            audit: plane.audit(),
            looker: Looker::new(&plane).await?,
            plane,
            installed,
            figures,
            namespaces: 0,
            make,
            goals,
        })
    }

    /// Sees one cluster come and go: after that every program of the plane is warm.
    pub async fn warm(&mut self) -> anyhow::Result<()> {
        let mut operator = self.operator().await?;
        let namespace = self.namespace("warm").await?;
        fleet::bring_up(self.plane.client(), &namespace, 0..1, &self.make).await?;
        self.end(&mut operator, &namespace).await
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
                foreign: number == count,
            };
            runs.push(self.bring_up(clusters, extras).await?);
        }
        report::bring_ups(self.figures, clusters, &runs, self.goals);
        let mut sizes = vec![(clusters, report::times(&runs))];
        for size in self.settings.slope.clone() {
            eprintln!("bring-up for the slope, {size} clusters");
            let runs = [self.bring_up(size, Extras::default()).await?];
            report::bring_ups(self.figures, size, &runs, self.goals);
            sizes.push((size, report::times(&runs)));
        }
        let sizes = sizes.into_iter().filter_map(|(size, of)| Some((size, of?)));
        report::slope(self.figures, sizes.collect());
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

    /// What the operator holds.
    pub fn memory(
        &mut self,
        operator: &OperatorProcess,
        when: &str,
        goal: f64,
    ) -> anyhow::Result<()> {
        let (resident, peak) = (operator.rss()? as f64 / MIB, operator.hwm()? as f64 / MIB);
        let figures = &mut *self.figures;
        figures.add(format!("VmRSS, {when}"), "MiB", Some(goal), vec![resident]);
        figures.add(format!("VmHWM, {when}"), "MiB", None, vec![peak]);
        Ok(())
    }

    /// A fleet by the operator, then the same objects by the raw client.
    async fn bring_up(&mut self, count: usize, extras: Extras) -> anyhow::Result<Run> {
        let mut up = self.up(count, extras).await?;
        self.end(&mut up.operator, &up.namespace).await?;
        if self.settings.raw {
            let namespace = self.namespace("raw").await?;
            up.run.raw = Some(self.raw(&namespace, &up.rendered, up.run.peak).await?);
        }
        Ok(up.run)
    }

    /// A fleet by the operator.
    pub async fn up(&mut self, count: usize, extras: Extras) -> anyhow::Result<Up> {
        let operator = self.operator().await?;
        let namespace = self.namespace("fleet").await?;
        quiet::settled(&self.audit).await?;
        let mark = self.audit.settle().await?;
        let (by_operator, transitions) = self.fleet(&namespace, count, extras).await?;
        eprintln!("  operator: {:.2} s", by_operator.time.as_secs_f64());
        let entries = self.audit.writes(mark, &chart::user())?;
        let client = self.plane.client();
        let rendered = Rendered::take(client.clone(), &namespace, &entries).await?;
        let writes = self.writes(mark, &entries, &rendered, count, transitions)?;
        if extras.listen {
            self.listen(&operator, count).await?;
        }
        if extras.foreign {
            self.foreign(&operator, &namespace).await?;
        }
        let peak = looker::peak(&self.looker.process(&operator).await?)?;
        let run = Run {
            operator: by_operator,
            raw: None,
            peak,
            writes,
        };
        Ok(Up {
            operator,
            namespace,
            rendered,
            run,
        })
    }

    /// Brings a fleet up and waits until it has settled; what it took until the last cluster was Healthy, and the
    /// transitions when they are asked for.
    async fn fleet(
        &self,
        namespace: &str,
        count: usize,
        extras: Extras,
    ) -> anyhow::Result<(Took, Option<usize>)> {
        let client = self.plane.client();
        let work = async {
            let work = fleet::bring_up(client.clone(), namespace, 0..count, &self.make);
            let took = self.took(work).await?;
            quiet::settled(&self.audit).await?;
            Ok(took)
        };
        if !extras.transitions {
            return Ok((work.await?, None));
        }
        let (took, seen) = transitions::during(client.clone(), namespace, work).await?;
        Ok((took, Some(seen)))
    }

    /// The time that some work says, and what everybody wrote during it.
    async fn took(
        &self,
        work: impl Future<Output = anyhow::Result<Duration>>,
    ) -> anyhow::Result<Took> {
        let mark = self.audit.settle().await?;
        let time = work.await?;
        self.audit.settle().await?;
        let mut writes = 0;
        self.audit
            .visit(mark, |entry, _| writes += usize::from(entry.is_write()))?;
        Ok(Took { time, writes })
    }

    /// The same objects by the raw client, in a namespace that ends with it.
    pub async fn raw(
        &self,
        namespace: &str,
        rendered: &Rendered,
        in_flight: usize,
    ) -> anyhow::Result<Took> {
        let client = self.plane.client();
        let work = rendered.post(client.clone(), namespace, in_flight);
        let took = self.took(work).await?;
        let seconds = took.time.as_secs_f64();
        eprintln!("  raw client, {in_flight} requests at once: {seconds:.2} s");
        fleet::remove_namespace(client, namespace).await?;
        Ok(took)
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
    async fn listen(&mut self, operator: &OperatorProcess, count: usize) -> anyhow::Result<()> {
        let audit = self.audit.clone();
        let listener = Listener::start(&audit, operator).await?;
        // Memory is read a minute after the fleet settled, within the silence that is measured.
        let (first, all) = (quiet::REST.min(self.settings.idle), self.settings.idle);
        quiet::rest(first, "a settled fleet").await;
        self.memory(operator, &format!("{count} clusters"), self.goals.memory)?;
        quiet::rest(all.saturating_sub(first), "a settled fleet").await;
        self.noise("settled", all, listener.noise().await?);
        Ok(())
    }

    /// What foreign objects do to the operator's memory, and what its own cost.
    async fn foreign(&mut self, operator: &OperatorProcess, namespace: &str) -> anyhow::Result<()> {
        let before = operator.rss()? as f64 / MIB;
        quiet::foreign(self.plane.client(), namespace).await?;
        quiet::settled(&self.audit).await?;
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

    /// What happened in an interval in which nothing should.
    pub fn noise(&mut self, when: &str, interval: Duration, noise: Noise) {
        let seconds = interval.as_secs();
        for (what, count) in [
            ("writes", noise.writes),
            ("events", noise.events),
            ("log lines", noise.lines),
        ] {
            let name = format!("{when}, {what} in {seconds} s");
            self.figures.add(name, "", Some(0.0), vec![count as f64]);
        }
    }

    /// Starts an operator.
    pub async fn operator(&self) -> anyhow::Result<OperatorProcess> {
        let binary = &self.settings.binary;
        let mut operator = self.installed.spawn(binary, Overrides::default())?;
        operator.ready().await?;
        Ok(operator)
    }

    /// Makes a namespace.
    pub async fn namespace(&mut self, purpose: &str) -> anyhow::Result<String> {
        self.namespaces += 1;
        let name = format!("{purpose}-{}", self.namespaces);
        fleet::namespace(self.plane.client(), &name).await?;
        Ok(name)
    }

    /// Deletes the clusters, ends the operator and removes the namespace.
    pub async fn end(&self, operator: &mut OperatorProcess, namespace: &str) -> anyhow::Result<()> {
        fleet::take_down(&self.plane, namespace).await?;
        operator.terminate().await?;
        fleet::remove_namespace(self.plane.client(), namespace).await
    }
}
