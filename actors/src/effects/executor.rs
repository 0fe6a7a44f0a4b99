//! The one place that writes to the API server. Decisions come in as actions; answers go back as observations.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::certificate::{self, Material};
use super::kubernetes::{Answered, Call, Failure, Kubernetes};
use super::lanes::{Job, Lanes};
use super::window::{Outcome, Window};
use crate::action::{Action, Event, Planned, Recipe};
use crate::clock::Clock;
use crate::entry::{Entry, Watched};
use crate::object::{Key, Kind};
use crate::room::ActorId;
use crate::store::Group;
use crate::supervisor::Inflow;

/// Whether this process may write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leadership {
    /// Another process leads, or none does yet.
    Standby,
    /// We lead until this instant of the local monotonic clock.
    Leader {
        /// Writes may be sent before this instant only.
        until: Instant,
    },
}

impl Leadership {
    /// May a write be sent now?
    pub fn holds(&self) -> bool {
        matches!(self, Leadership::Leader { until } if crate::clock::monotonic() < *until)
    }
}

/// What the server said about an object.
#[derive(Debug)]
pub enum Found {
    /// It was read and is there, like this.
    Object(Box<Entry>),
    /// It was written and is like this now.
    Written(Box<Entry>),
    /// It is not there.
    Gone,
    /// Done; the answer holds no object.
    Nothing,
}

/// The answer to a job.
#[derive(Debug)]
pub struct Answer {
    /// The job.
    pub job: Job,
    /// What came of it.
    pub result: Result<Found, Failure>,
    latency: Duration,
    outcome: Outcome,
}

/// Lanes, window and lease deadline.
pub struct Executor {
    api: Arc<dyn Kubernetes>,
    io: tokio::runtime::Handle,
    inflow: mpsc::Sender<Inflow>,
    leadership: watch::Receiver<Leadership>,
    clock: Clock,
    instance: Arc<str>,
    lanes: Lanes,
    window: Window,
    draining: bool,
    /// A new leader writes only after its informers were listed anew.
    pub informed: bool,
    /// Writes sent so far.
    pub writes: u64,
}

impl Executor {
    /// An executor with empty lanes. `instance` names this process in events.
    pub fn new(
        api: Arc<dyn Kubernetes>,
        io: tokio::runtime::Handle,
        inflow: mpsc::Sender<Inflow>,
        leadership: watch::Receiver<Leadership>,
        clock: Clock,
        instance: &str,
    ) -> Self {
        Self {
            api,
            io,
            inflow,
            leadership,
            clock,
            instance: instance.into(),
            lanes: Lanes::default(),
            window: Window::default(),
            draining: false,
            informed: false,
            writes: 0,
        }
    }

    /// May writes be sent at all?
    pub fn leads(&self) -> bool {
        self.informed && !self.draining && self.leadership.borrow().holds()
    }

    /// Takes an action in; sends what the window admits. Without leadership, writes are dropped: they are decided anew later.
    pub fn submit(&mut self, actor: &ActorId, group: Group, planned: Planned) {
        if planned.action.writes() && !self.leads() {
            return;
        }
        self.lanes.submit(actor.clone(), group, planned);
        self.pump();
    }

    /// The answer is in the store: the lane is free again.
    pub fn finish(&mut self, answer: &Answer) {
        let (key, slot) = answer.job.planned.action.lane();
        self.lanes.finish(&(key.clone(), slot));
        if answer.outcome != Outcome::Answered || answer.latency > Duration::ZERO {
            self.window.learn(answer.latency, answer.outcome);
        }
        self.pump();
    }

    /// Drops every write that was not sent yet.
    pub fn clear(&mut self) {
        self.lanes.clear_writes();
    }

    /// Stops sending writes for good.
    pub fn drain(&mut self) {
        self.draining = true;
        self.lanes.clear();
    }

    /// An actor's resource is gone.
    pub fn forget(&mut self, actor: &ActorId) {
        self.lanes.forget(actor);
    }

    /// Lanes, for looking.
    pub const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Window, for looking.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    fn pump(&mut self) {
        while self.lanes.running() < self.window.size() {
            let Some(job) = self.lanes.start() else {
                return;
            };
            self.window.peak = self.window.peak.max(self.lanes.running());
            if job.planned.action.writes() {
                self.writes += 1;
            }
            let attempt = Attempt {
                api: self.api.clone(),
                leadership: self.leadership.clone(),
                now: self.clock.now(),
                instance: self.instance.clone(),
            };
            let inflow = self.inflow.clone();
            self.io.spawn(async move {
                let answer = attempt.perform(job).await;
                // The supervisor is gone only when the process ends.
                let _ = inflow.send(Inflow::Answer(Box::new(answer))).await;
            });
        }
    }
}

/// One job's way to the server and back.
struct Attempt {
    api: Arc<dyn Kubernetes>,
    leadership: watch::Receiver<Leadership>,
    now: Timestamp,
    instance: Arc<str>,
}

impl Attempt {
    async fn perform(self, job: Job) -> Answer {
        let started = crate::clock::monotonic();
        let result = self.act(&job.planned.action).await;
        let latency = crate::clock::monotonic() - started;
        let outcome = match &result {
            Err(Failure::Refused { code: 429, .. }) => Outcome::Refused,
            Err(Failure::Lost(_)) => Outcome::Lost,
            _ => Outcome::Answered,
        };
        let written = match &result {
            Ok(Found::Written(entry)) => Some(entry.uid.clone()),
            _ => None,
        };
        if let Some(uid) = written {
            let action = &job.planned.action;
            for (number, event) in action.events().iter().enumerate() {
                self.tell(action.lane().0, &uid, event, number).await;
            }
        }
        let result = match result {
            // Unknown outcome: look before anything else is decided. A question was not about the object of that name.
            Err(Failure::Lost(why)) if !matches!(job.planned.action, Action::Seek { .. }) => {
                match self.read(job.planned.action.lane().0).await {
                    Ok(found) => Ok(found),
                    Err(_) => Err(Failure::Lost(why)),
                }
            }
            other => other,
        };
        Answer {
            job,
            result,
            latency,
            outcome,
        }
    }

    async fn write(&self, call: Call) -> Answered {
        if !self.leadership.borrow().holds() {
            return Err(Failure::NotLeader);
        }
        self.api.call(call).await
    }

    async fn act(&self, action: &Action) -> Result<Found, Failure> {
        match action {
            Action::Apply { object, uid } => {
                let mut body = Value::clone(&object.body);
                guard(&mut body, uid.as_deref());
                let path = format!(
                    "{}?fieldManager=multigres-operator&force=true",
                    object.key.path()
                );
                let sent = self.write(patch(path, APPLY, &body)).await;
                self.settle(&object.key, sent).await
            }
            Action::Restore { object, uid } => {
                let mut body = Value::clone(&object.body);
                guard(&mut body, Some(uid));
                let path = format!("{}?fieldManager=multigres-operator", object.key.path());
                let sent = self.write(patch(path, MERGE, &body)).await;
                self.settle(&object.key, sent).await
            }
            Action::Create { object } => {
                let sent = self
                    .write(post(&object.key, object.body.text().into()))
                    .await;
                self.settle(&object.key, sent).await
            }
            Action::Generate {
                object,
                recipe,
                replace,
                ..
            } => self.generate(object, recipe, replace.as_ref()).await,
            Action::Delete { key, uid, version } => {
                let body = json!({
                    "apiVersion": "v1", "kind": "DeleteOptions",
                    "preconditions": {"uid": uid, "resourceVersion": version.to_string()},
                });
                let call = Call {
                    method: "DELETE",
                    path: key.path(),
                    content_type: JSON,
                    body: bytes(&body),
                };
                match self.write(call).await {
                    Ok(_)
                    | Err(Failure::Refused {
                        code: 404 | 409, ..
                    }) => self.read(key).await,
                    Err(failure) => Err(failure),
                }
            }
            Action::Metadata {
                key,
                patch: metadata,
                ..
            } => {
                let sent = self
                    .write(patch(key.path(), MERGE, &json!({"metadata": metadata})))
                    .await;
                self.settle(key, sent).await
            }
            Action::Expand {
                key,
                uid,
                version,
                size,
            } => {
                let body = json!({
                    "metadata": {"uid": uid, "resourceVersion": version.to_string()},
                    "spec": {"resources": {"requests": {"storage": size}}},
                });
                let sent = self.write(patch(key.path(), MERGE, &body)).await;
                self.settle(key, sent).await
            }
            Action::Status {
                key,
                uid,
                version,
                status,
                manager,
                ..
            } => {
                let mut body = json!({
                    "apiVersion": key.kind.api_version(), "kind": key.kind.name(),
                    "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
                    "status": status,
                });
                let metadata = body.get_mut("metadata").and_then(Value::as_object_mut);
                if let (Some(version), Some(metadata)) = (version, metadata) {
                    metadata.insert("resourceVersion".into(), version.to_string().into());
                }
                let path = format!(
                    "{}/status?fieldManager={}&force=true",
                    key.path(),
                    manager.name()
                );
                let sent = self.write(patch(path, APPLY, &body)).await;
                self.settle(key, sent).await
            }
            Action::Read { key } => self.read(key).await,
            Action::Seek { key, address } => self.seek(key, *address).await,
            Action::Announce { key, uid, events } => {
                for (number, event) in events.iter().enumerate() {
                    self.tell(key, uid, event, number).await;
                }
                Ok(Found::Nothing)
            }
        }
    }

    /// Turns the answer to a write into an observation; after a conflict the object is read, since it is not what we thought.
    async fn settle(&self, key: &Key, sent: Answered) -> Result<Found, Failure> {
        match sent {
            Ok(body) => found(key.kind, &body, Found::Written),
            Err(Failure::Refused {
                code: 404 | 409, ..
            }) => self.read(key).await,
            Err(failure) => Err(failure),
        }
    }

    async fn read(&self, key: &Key) -> Result<Found, Failure> {
        let call = Call::get(key.path());
        match self.api.call(call).await {
            Ok(body) => found(key.kind, &body, Found::Object),
            Err(Failure::Refused { code: 404, .. }) => Ok(Found::Gone),
            Err(failure) => Err(failure),
        }
    }

    /// Is there a pod with this address?
    async fn seek(&self, key: &Key, address: IpAddr) -> Result<Found, Failure> {
        #[derive(serde::Deserialize)]
        struct List {
            items: Vec<serde::de::IgnoredAny>,
        }
        let pods = Kind::Pod.path(Some(&key.namespace), None);
        let call = Call::get(format!(
            "{pods}?fieldSelector=status.podIP%3D{address}&limit=1"
        ));
        let body = self.api.call(call).await?;
        let list: List = serde_json::from_slice(&body)
            .map_err(|error| Failure::Unusable(format!("unreadable list of pods: {error}")))?;
        Ok(if list.items.is_empty() {
            Found::Gone
        } else {
            Found::Nothing
        })
    }

    async fn generate(
        &self,
        object: &crate::object::Desired,
        recipe: &Recipe,
        replace: Option<&(Box<str>, u64)>,
    ) -> Result<Found, Failure> {
        let unusable = |error: certificate::CertificateError| Failure::Unusable(error.to_string());
        let material = match recipe {
            Recipe::Authority if replace.is_some() => {
                let before = self.secret(&object.key).await?;
                certificate::renewed_authority(&before, self.now).map_err(unusable)?
            }
            Recipe::Authority => certificate::authority(self.now).map_err(unusable)?,
            Recipe::Leaf { authority, names } => {
                let secret = self.secret(authority).await?;
                certificate::leaf(&secret, names, self.now).map_err(unusable)?
            }
        };
        let mut body = Value::clone(&object.body);
        if let Some(map) = body.as_object_mut() {
            map.insert("stringData".into(), json!(material));
        }
        let sent = match replace {
            None => self.write(post(&object.key, bytes(&body))).await,
            Some((uid, version)) => {
                guard(&mut body, Some(uid));
                if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.insert("resourceVersion".into(), version.to_string().into());
                }
                // What was there goes as a whole, keys of others included.
                if let Some(map) = body.as_object_mut() {
                    map.insert("data".into(), Value::Null);
                }
                let path = format!("{}?fieldManager=multigres-operator", object.key.path());
                self.write(patch(path, MERGE, &body)).await
            }
        };
        self.settle(&object.key, sent).await
    }

    /// The content of one of our own Secrets; it leaves this function only inside a certificate.
    async fn secret(&self, key: &Key) -> Result<Material, Failure> {
        let call = Call::get(key.path());
        let body = self.api.call(call).await?;
        let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_slice(&body)
            .map_err(|error| Failure::Unusable(format!("{key}: {error}")))?;
        let text = |bytes: k8s_openapi::ByteString| String::from_utf8(bytes.0).ok();
        Ok(secret
            .data
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(k, v)| Some((k, text(v)?)))
            .collect())
    }

    /// Sends an event, of several at once the one of this number. It is news, not state: a lost one is not repeated.
    async fn tell(&self, key: &Key, uid: &str, event: &Event, number: usize) {
        let unique = self.now.as_nanosecond() + number as i128;
        let at = self.now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let body = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": format!("{}.{unique:x}", key.name), "namespace": key.namespace},
            "eventTime": at, "action": "Reconcile",
            "reportingController": "multigres.com/multigres-operator", "reportingInstance": self.instance.as_ref(),
            "reason": event.reason, "note": event.message, "type": if event.warning { "Warning" } else { "Normal" },
            "regarding": {
                "apiVersion": key.kind.api_version(), "kind": key.kind.name(),
                "namespace": key.namespace, "name": key.name, "uid": uid,
            },
        });
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", key.namespace);
        let call = Call {
            method: "POST",
            path,
            content_type: JSON,
            body: bytes(&body),
        };
        if let Err(error) = self.write(call).await {
            tracing::debug!(%key, reason = event.reason, %error, "event lost");
        }
    }
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn patch(path: String, content_type: &'static str, body: &Value) -> Call {
    Call {
        method: "PATCH",
        path,
        content_type,
        body: bytes(body),
    }
}

fn post(key: &Key, body: Vec<u8>) -> Call {
    let path = format!(
        "{}?fieldManager=multigres-operator",
        key.kind.path(Some(&key.namespace), None)
    );
    Call {
        method: "POST",
        path,
        content_type: JSON,
        body,
    }
}

/// The precondition of an apply: never take over (`design.md` 2). `resourceVersion: "1"` creates when absent and is a
/// conflict when an object has the name; a UID is a conflict when the object is another one.
fn guard(body: &mut Value, uid: Option<&str>) {
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        match uid {
            Some(uid) => metadata.insert("uid".into(), uid.into()),
            None => metadata.insert("resourceVersion".into(), "1".into()),
        };
    }
}

fn found(kind: Kind, body: &[u8], how: fn(Box<Entry>) -> Found) -> Result<Found, Failure> {
    let watched: Watched = serde_json::from_slice(body)
        .map_err(|error| Failure::Unusable(format!("unreadable {}: {error}", kind.name())))?;
    Ok(watched
        .trim(kind)
        .map_or(Found::Nothing, |entry| how(Box::new(entry))))
}
