//! The part of a kubelet that kwok does not play: pods start their stand-ins, become ready with them, and are gone when
//! these have stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::watcher::{self, Event},
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    fleet::{Fleet, Handle, State},
    pod::PodSpec,
};

/// The operator's objects.
const SELECTOR: &str = "app.kubernetes.io/managed-by=multigres-operator";
/// Pause after a request that failed.
const RETRY: Duration = Duration::from_millis(200);

enum Seen {
    Pod(Box<Pod>),
    PodGone(Box<Pod>),
    Claim(String, String),
    ClaimGone(String, String),
}

/// Plays the kubelets for the operator's pods until the API server's watches end for good, which they do not.
pub async fn run(client: Client, fleet: Arc<Fleet>) {
    let (sender, mut seen) = mpsc::channel(64);
    let mut kubelet = Kubelet {
        client: client.clone(),
        fleet,
        claims: BTreeMap::new(),
        waiting: BTreeMap::new(),
        leaving: BTreeSet::new(),
        struck: BTreeSet::new(),
    };
    let pods = watch_pods(Api::all(client.clone()), sender.clone());
    let claims = watch_claims(Api::all(client), sender);
    let work = async {
        while let Some(seen) = seen.recv().await {
            kubelet.see(seen);
        }
    };
    tokio::join!(pods, claims, work);
}

fn key<K: Resource>(object: &K) -> String {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}

async fn watch_pods(api: Api<Pod>, sender: mpsc::Sender<Seen>) {
    let events = watcher::watcher(api, watcher::Config::default().labels(SELECTOR));
    pin_mut!(events);
    let (mut known, mut listed) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = events.next().await {
        let mut send = Vec::new();
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.insert(pod.uid().unwrap_or_default(), pod.clone());
                send.push(Seen::Pod(Box::new(pod)));
            }
            Ok(Event::InitDone) => {
                // What is not listed any more is gone.
                let old: BTreeMap<String, Pod> =
                    std::mem::replace(&mut known, std::mem::take(&mut listed));
                let gone = old.into_iter().filter(|(uid, _)| !known.contains_key(uid));
                send.extend(gone.map(|(_, pod)| Seen::PodGone(Box::new(pod))));
            }
            Ok(Event::Apply(pod)) => {
                known.insert(pod.uid().unwrap_or_default(), pod.clone());
                send.push(Seen::Pod(Box::new(pod)));
            }
            Ok(Event::Delete(pod)) => {
                known.remove(&pod.uid().unwrap_or_default());
                send.push(Seen::PodGone(Box::new(pod)));
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
        for seen in send {
            if sender.send(seen).await.is_err() {
                return;
            }
        }
    }
}

async fn watch_claims(api: Api<PersistentVolumeClaim>, sender: mpsc::Sender<Seen>) {
    // All claims: those of topology pods carry the StatefulSet's labels only.
    let events = watcher::watcher(api, watcher::Config::default());
    pin_mut!(events);
    let (mut known, mut listed) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = events.next().await {
        let mut send = Vec::new();
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(claim)) => {
                let (key, uid) = (key(&claim), claim.uid().unwrap_or_default());
                listed.insert(uid.clone(), key.clone());
                send.push(Seen::Claim(key, uid));
            }
            Ok(Event::InitDone) => {
                let old: BTreeMap<String, String> =
                    std::mem::replace(&mut known, std::mem::take(&mut listed));
                let gone = old.into_iter().filter(|(uid, _)| !known.contains_key(uid));
                send.extend(gone.map(|(uid, key)| Seen::ClaimGone(key, uid)));
            }
            Ok(Event::Apply(claim)) => {
                let (key, uid) = (key(&claim), claim.uid().unwrap_or_default());
                if known.insert(uid.clone(), key.clone()).is_none() {
                    send.push(Seen::Claim(key, uid));
                }
            }
            Ok(Event::Delete(claim)) => {
                let (key, uid) = (key(&claim), claim.uid().unwrap_or_default());
                known.remove(&uid);
                send.push(Seen::ClaimGone(key, uid));
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
        for seen in send {
            if sender.send(seen).await.is_err() {
                return;
            }
        }
    }
}

struct Kubelet {
    client: Client,
    fleet: Arc<Fleet>,
    /// Identity of claims by `namespace/name`.
    claims: BTreeMap<String, String>,
    /// Pods whose claim was not seen yet, by the claim's `namespace/name`.
    waiting: BTreeMap<String, Vec<Pod>>,
    /// Pods that are on their way out.
    leaving: BTreeSet<String>,
    /// Pods whose containers kwok lets fail.
    struck: BTreeSet<String>,
}

impl Kubelet {
    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Pod(pod) => self.pod(*pod),
            Seen::PodGone(pod) => {
                let uid = pod.uid().unwrap_or_default();
                self.leaving.remove(&uid);
                if self.struck.remove(&uid) {
                    self.fleet
                        .faults
                        .change(&key(&*pod), |faults| faults.crash = false);
                }
                self.fleet.forget(&uid);
            }
            Seen::Claim(key, uid) => {
                self.claims.insert(key.clone(), uid);
                for pod in self.waiting.remove(&key).unwrap_or_default() {
                    self.pod(pod);
                }
            }
            Seen::ClaimGone(key, uid) => {
                if self.claims.get(&key) == Some(&uid) {
                    self.claims.remove(&key);
                }
                self.fleet.wipe(&uid);
            }
        }
    }

    fn pod(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            if self.leaving.insert(uid) {
                self.farewell(&pod);
            }
            return;
        }
        let struck = waits(&pod);
        let changed = if struck {
            self.struck.insert(uid.clone())
        } else {
            self.struck.remove(&uid)
        };
        if changed {
            self.fleet
                .faults
                .change(&key(&pod), |faults| faults.crash = struck);
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if phase != Some("Running") || self.fleet.peer(&uid).is_some() {
            return;
        }
        let Some(spec) = PodSpec::read(&pod) else {
            return;
        };
        let claim = spec
            .claim
            .as_ref()
            .map(|claim| format!("{}/{claim}", spec.namespace));
        let volume = match claim {
            None => None,
            Some(claim) => match self.claims.get(&claim) {
                Some(volume) => Some(volume.clone()),
                None => {
                    self.waiting.entry(claim).or_default().push(pod);
                    return;
                }
            },
        };
        let handle = self.fleet.start(spec, volume);
        tokio::spawn(report(self.client.clone(), pod, handle));
    }

    /// Stops what runs in the pod, at the latest when its grace period is over, and removes the pod then.
    fn farewell(&self, pod: &Pod) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let (uid, grace) = (pod.uid(), pod.metadata.deletion_grace_period_seconds);
        let grace = Duration::from_secs(grace.and_then(|s| u64::try_from(s).ok()).unwrap_or(30));
        let handle = self.fleet.peer(&uid.clone().unwrap_or_default());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        tokio::spawn(async move {
            if let Some(mut handle) = handle {
                if grace.is_zero() {
                    handle.kill();
                }
                handle.stop();
                if tokio::time::timeout(grace, handle.end()).await.is_err() {
                    handle.kill();
                    handle.end().await;
                }
            }
            let parameters = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid,
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            while let Err(error) = api.delete(&name, &parameters).await {
                if matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }
}

/// Whether kwok lets a container of the pod wait, as in a crash loop.
fn waits(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.into_iter().any(|container| {
        container
            .state
            .as_ref()
            .is_some_and(|state| state.waiting.is_some())
    })
}

/// Writes the pod's readiness whenever it changes, until the pod is gone.
async fn report(client: Client, pod: Pod, mut handle: Handle) {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let mut written = State::default();
    while !*handle.ended.borrow() {
        let state = *handle.state.borrow_and_update();
        if state != written {
            let patch = Patch::Strategic(status(&pod, state));
            match api
                .patch_status(&pod.name_any(), &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => written = state,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                Err(_) => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        tokio::select! {
            changed = handle.state.changed() => if changed.is_err() {
                return;
            },
            () = async { handle.ended.clone().wait_for(|ended| *ended).await.map(drop).unwrap_or_default() } => return,
        }
    }
}

fn status(pod: &Pod, state: State) -> serde_json::Value {
    let now = Timestamp::now().to_string();
    let (word, reason) = if state.ready {
        ("True", None)
    } else {
        ("False", Some("ContainersNotReady"))
    };
    let condition = |kind: &str| json!({"type": kind, "status": word, "reason": reason, "lastTransitionTime": now});
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers = containers.enumerate().map(|(index, container)| {
        json!({
            "name": container.name,
            "image": container.image,
            "imageID": "",
            "ready": state.ready || index > 0,
            "started": true,
            "restartCount": if index == 0 { state.restarts } else { 0 },
            "state": {"running": {"startedAt": now}},
        })
    });
    json!({
        "metadata": {"uid": pod.uid()},
        "status": {
            "conditions": [condition("Ready"), condition("ContainersReady")],
            "containerStatuses": containers.collect::<Vec<_>>(),
        },
    })
}
