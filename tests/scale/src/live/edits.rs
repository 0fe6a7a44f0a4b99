//! Whether clusters that hang slow the others down: how long an edit takes until the child that it changes is written.

use anyhow::ensure;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    runtime::watcher,
};
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::{EDITED, etcd::Etcd, faults::Hung, scene::Scene, watch::Watch};
use crate::{
    bench::Bench,
    figures::percentile,
    fleet::{self, kind},
    quiet,
    settings::Live,
};

/// Longest time until the operator says what hangs: it is probed, and streams are believed for a while.
const TOLD: Duration = Duration::from_secs(90);

/// Edits one at a time, and what comes of them.
struct Editor {
    clusters: Api<DynamicObject>,
    services: Watch,
    /// Clusters that are edited in turn.
    names: Vec<String>,
    count: usize,
}

impl Editor {
    /// Changes the annotations of one cluster's gateway Service; milliseconds from before the request until the Service
    /// arrives as it is wanted.
    async fn edit(&mut self) -> anyhow::Result<f64> {
        let value = self.count.to_string();
        let name = self.names.get(self.count % self.names.len());
        let name = name.map(String::as_str).unwrap_or_default();
        self.count += 1;
        let patch = json!({ "spec": { "externalGateway": { "annotations": { EDITED: value } } } });
        let begin = Instant::now();
        self.clusters
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        let what = format!("the Service of {name} to be written");
        let (_, at) = self
            .services
            .until(&what, |known| {
                let written = |service: &DynamicObject| {
                    let now = service.annotations().get(EDITED);
                    now == Some(&value)
                };
                known.values().any(written).then_some(())
            })
            .await?;
        Ok(at.instant.duration_since(begin).as_secs_f64() * 1e3)
    }
}

/// Edits sound clusters, round after round without and with others that hang, and adds how the slowest edits compare.
///
/// # Errors
/// When an edit comes to nothing, or the operator does not notice what hangs or that it goes on.
pub async fn measure(
    bench: &mut Bench<'_>,
    scene: &Scene,
    hung: &Hung,
    fragile: &Etcd,
    live: &Live,
) -> anyhow::Result<()> {
    let client = bench.plane.client();
    let services = scene.api(client.clone(), &kind("", "v1", "Service", "services"));
    let clusters = fleet::clusters(client, &scene.namespace);
    let mut told = Watch::start(clusters.clone(), watcher::Config::default());
    let mut editor = Editor {
        services: Watch::start(services, watcher::Config::default()),
        names: (hung.all().end..scene.clusters).map(fleet::name).collect(),
        clusters,
        count: 0,
    };
    // The first edits open connections.
    for _ in 0..editor.names.len() {
        editor.edit().await?;
    }
    let (mut sound, mut weak) = (Vec::new(), Vec::new());
    for pair in 1..=live.pairs {
        quiet::settled(&bench.audit).await?;
        eprintln!("edits, pair {pair} of {}", live.pairs);
        let mut times = Vec::new();
        for _ in 0..live.edits {
            times.push(editor.edit().await?);
        }
        sound.push(times);
        quiet::settled(&bench.audit).await?;
        hung.begin(scene, fragile)?;
        let begin = Instant::now();
        let mut times = Vec::new();
        // From the first moment on, and until the operator has said what hangs: its own work on that counts.
        while times.len() < live.edits || !hung.are_told(told.now()) {
            ensure!(
                begin.elapsed() < TOLD,
                "the operator does not say what hangs"
            );
            times.push(editor.edit().await?);
        }
        eprintln!(
            "  {} edits within {:?} of faults",
            times.len(),
            begin.elapsed()
        );
        weak.push(times);
        hung.end(scene, fragile)?;
        told.until("all clusters to be well", |known| {
            hung.are_well(known).then_some(())
        })
        .await?;
    }
    quiet::settled(&bench.audit).await?;
    report(bench, &sound, &weak);
    Ok(())
}

/// Adds how the slowest edits compare. A round has three edits beyond its p99, so the p99 of one round is mostly noise: what
/// counts is the p99 of all edits of all rounds, which took turns and so met the same machine.
fn report(bench: &mut Bench<'_>, sound: &[Vec<f64>], weak: &[Vec<f64>]) {
    let slowest = |times: &[f64]| percentile(times, 0.99);
    let rounds = |of: &[Vec<f64>]| -> Vec<f64> { of.iter().map(|times| slowest(times)).collect() };
    let ratios = rounds(weak)
        .iter()
        .zip(rounds(sound))
        .map(|(weak, sound)| weak / sound)
        .collect();
    let ratio = slowest(&weak.concat()) / slowest(&sound.concat());
    let figures = &mut *bench.figures;
    let name = "edit until its child is written, p99";
    figures.add(name, "ms", None, rounds(sound));
    figures.add(format!("{name}, a tenth hangs"), "ms", None, rounds(weak));
    let name = "p99 of edits, a tenth hangs / nothing hangs";
    figures.add(format!("{name}, each pair of rounds"), "", None, ratios);
    figures.add(name, "", Some(1.1), vec![ratio]);
}
