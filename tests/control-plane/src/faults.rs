//! Pods that misbehave: more stages for kwok, which win over the plain ones by their weight.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    plane::{DEADLINE, Plane, Pods},
    stages, wait,
};

const BROKEN: &str = include_str!("../stages/fault.yaml");

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What goes wrong with a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodFault {
    /// New pods become ready only after this time.
    SlowStart(Duration),
    /// The containers run and are not ready. Befalls running pods too.
    NeverReady,
    /// The containers wait in CrashLoopBackOff. Befalls running pods too.
    CrashLoop,
    /// New pods wait in ImagePullBackOff.
    ImagePull,
    /// Deleted pods stay for this time.
    SlowTermination(Duration),
}

/// A fault in force; [`Plane::clear`] ends it.
#[derive(Clone, Debug)]
pub struct Fault {
    name: String,
    kind: PodFault,
    selector: String,
}

impl PodFault {
    /// Whether pods that run already are struck.
    fn strikes_running_pods(self) -> bool {
        matches!(self, Self::NeverReady | Self::CrashLoop)
    }

    fn stage(self, pods: Pods) -> anyhow::Result<Value> {
        let start = match pods {
            Pods::Instant => "pod-ready",
            Pods::StandIn => "pod-started",
        };
        match self {
            Self::SlowStart(delay) => delayed(pods, start, delay),
            Self::SlowTermination(delay) => delayed(pods, "pod-delete", delay),
            Self::NeverReady => broken(
                "Running",
                0,
                "{running: {startedAt: {{ $now | Quote }}}}",
                "{}",
            ),
            Self::CrashLoop => broken(
                "Running",
                5,
                "{waiting: {reason: CrashLoopBackOff, message: \"back-off 2m40s restarting failed container\"}}",
                "{terminated: {exitCode: 1, reason: Error, finishedAt: {{ $now | Quote }}, \
                 startedAt: {{ $now | Quote }}}}",
            ),
            Self::ImagePull => broken(
                "Pending",
                0,
                "{waiting: {reason: ImagePullBackOff, message: \"Back-off pulling image\"}}",
                "{}",
            ),
        }
    }
}

fn broken(phase: &str, restarts: u32, state: &str, last: &str) -> anyhow::Result<Value> {
    let text = BROKEN
        .replace("@PHASE@", phase)
        .replace("@RESTARTS@", &restarts.to_string())
        .replace("@STATE@", state)
        .replace("@LAST@", last);
    stages::parse(&text)
}

/// A plain stage, later.
fn delayed(pods: Pods, name: &str, delay: Duration) -> anyhow::Result<Value> {
    let texts = stages::texts(pods);
    let text = texts
        .iter()
        .find(|text| text.contains(&format!("  name: {name}\n")));
    let mut stage: Value =
        stages::parse(text.with_context(|| format!("there is no stage {name}"))?)?;
    let milliseconds = u64::try_from(delay.as_millis())?;
    merge(&mut stage, &["spec", "weight"], json!(1));
    merge(
        &mut stage,
        &["spec", "delay"],
        json!({ "durationMilliseconds": milliseconds }),
    );
    Ok(stage)
}

/// Sets one field, making the objects on the way.
fn merge(value: &mut Value, path: &[&str], new: Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = new;
        return;
    };
    if let Some(object) = value.as_object_mut() {
        merge(object.entry(*first).or_insert_with(|| json!({})), rest, new);
    }
}

fn labels(selector: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let pairs = selector.split(',').map(|pair| {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("{pair:?} is not key=value"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    });
    pairs.collect()
}

impl Plane {
    /// Lets the pods with these labels (`key=value,…`) fail from now on. Returns when kwok acts on it.
    pub async fn fault(&self, kind: PodFault, selector: &str) -> anyhow::Result<Fault> {
        let name = format!("fault-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut stage = kind.stage(self.pods())?;
        merge(&mut stage, &["metadata", "name"], json!(name));
        merge(
            &mut stage,
            &["spec", "selector", "matchLabels"],
            json!(labels(selector)?),
        );
        stages::api(self.client())
            .create(&PostParams::default(), &serde_json::from_value(stage)?)
            .await?;
        self.stages_seen().await?;
        let fault = Fault {
            name,
            kind,
            selector: selector.to_owned(),
        };
        if kind.strikes_running_pods() {
            self.restart(&fault, |_| true).await?;
        }
        Ok(fault)
    }

    /// Ends a fault; pods that are not ready for its sake start again. Deletions that wait already go on waiting.
    pub async fn clear(&self, fault: Fault) -> anyhow::Result<()> {
        stages::api(self.client())
            .delete(&fault.name, &DeleteParams::default())
            .await?;
        self.stages_seen().await?;
        self.restart(&fault, |pod| {
            !matches!(fault.kind, PodFault::SlowTermination(_)) && !ready(pod)
        })
        .await
    }

    /// Takes pods back to where they were when the scheduler had just placed them, which starts them again.
    async fn restart(&self, fault: &Fault, wanted: impl Fn(&Pod) -> bool) -> anyhow::Result<()> {
        let all: Api<Pod> = Api::all(self.client());
        let placed = |pod: &Pod| {
            pod.spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.is_some())
        };
        for pod in all
            .list(&ListParams::default().labels(&fault.selector))
            .await?
        {
            if pod.metadata.deletion_timestamp.is_some() || !placed(&pod) || !wanted(&pod) {
                continue;
            }
            let pods: Api<Pod> =
                Api::namespaced(self.client(), &pod.namespace().unwrap_or_default());
            let scheduled = json!({ "type": "PodScheduled", "status": "True" });
            let status = json!({ "status": {
                "phase": "Pending", "conditions": [scheduled], "containerStatuses": null, "initContainerStatuses": null,
            }});
            match pods
                .patch_status(
                    &pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(status),
                )
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                answer => drop(answer?),
            }
        }
        Ok(())
    }

    /// Waits until kwok has seen the stages as they are now: it takes note of them in order, so the effect of one more
    /// stage shows that it knows the earlier ones.
    async fn stages_seen(&self) -> anyhow::Result<()> {
        let name = format!("barrier-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut stage = broken("Succeeded", 0, "{running: {}}", "{}")?;
        merge(&mut stage, &["metadata", "name"], json!(name));
        merge(
            &mut stage,
            &["spec", "selector", "matchLabels"],
            json!({ "stage.multigres.test/barrier": name }),
        );
        let stages = stages::api(self.client());
        stages
            .create(&PostParams::default(), &serde_json::from_value(stage)?)
            .await?;
        let pods: Api<Pod> = Api::namespaced(self.client(), "default");
        wait::quietly("kwok to see a stage", DEADLINE, async || {
            self.barrier(&pods, &name).await
        })
        .await?;
        stages.delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Whether a new pod gets the phase that only the barrier's stage gives.
    async fn barrier(&self, pods: &Api<Pod>, name: &str) -> anyhow::Result<Option<()>> {
        let pod = serde_json::from_value(json!({
            "metadata": { "generateName": format!("{name}-"), "labels": { "stage.multigres.test/barrier": name } },
            "spec": {
                "nodeName": "node-a-0",
                "automountServiceAccountToken": false,
                "containers": [{ "name": "barrier", "image": "barrier" }],
            },
        }))?;
        let pod = pods.create(&PostParams::default(), &pod).await?.name_any();
        let phase = |pod: &Pod| {
            pod.status
                .as_ref()
                .and_then(|status| status.phase.clone())
                .unwrap_or_default()
        };
        let settled = wait::object(pods.clone(), &pod, "kwok to see a stage", DEADLINE, |pod| {
            phase(pod) != "Pending"
        });
        let settled = settled.await?;
        pods.delete(&pod, &DeleteParams::default().grace_period(0))
            .await?;
        Ok((phase(&settled) == "Succeeded").then_some(()))
    }
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
