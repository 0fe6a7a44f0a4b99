//! A small API server: objects by key, versions, generations, events, a log of requests, and faults on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use actors::object::{Key, Kind};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What a watch would tell.
#[derive(Clone, Debug)]
pub struct Event {
    pub key: Key,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// One request that reached the server.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counted from 1.
    pub number: u64,
    pub at: Instant,
    pub method: &'static str,
    /// None for events (`events.k8s.io`).
    pub key: Option<Key>,
    /// The status subresource.
    pub status: bool,
    /// Server-side apply.
    pub apply: bool,
    pub manager: String,
    pub body: Value,
    /// HTTP status of the answer, whether it arrived or not; 0 while it hangs.
    pub code: u16,
    /// The newest resource version when it arrived.
    pub version: u64,
    /// The store changed.
    pub changed: bool,
}

impl Request {
    /// Anything but a read.
    pub fn writes(&self) -> bool {
        self.method != "GET"
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this HTTP status, not carried out.
    Refuse(u16),
    /// Neither carried out nor answered.
    Hang,
    /// Carried out, not answered.
    LoseAnswer,
}

/// Which requests a fault hits.
pub struct Rule {
    pub fault: Fault,
    /// How many requests it hits before it is over.
    pub times: usize,
    pub hits: Box<dyn Fn(&Request) -> bool + Send>,
}

/// When a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// At the request of this number.
    pub at: u64,
    /// The request is still carried out, nobody hears of it.
    pub carried_out: bool,
}

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<Key, Value>,
    /// What each manager applied last, by object and subresource: fields it drops are removed.
    pub applied: BTreeMap<(Key, String, bool), Value>,
    pub log: Vec<Request>,
    pub rules: Vec<Rule>,
    pub kill: Option<Kill>,
    /// The state after each request, once a test asks for it.
    pub past: Option<Vec<State>>,
    pub violations: Vec<String>,
    /// Pods that were Ready at some time, by name.
    pub once_ready: BTreeSet<Key>,
    /// Until when the owner (by uid) of a workload had one with so many replicas Ready.
    pub lately_ready: BTreeMap<(String, i64), Instant>,
    /// Workloads and pods whose status the test writes.
    pub held: BTreeSet<Key>,
    watches: Vec<mpsc::UnboundedSender<Event>>,
    /// No object has version 1, which means "must not exist" in an apply.
    version: u64,
    uids: u64,
    events: u64,
}

/// The server. Its state outlives every process that talks to it.
pub struct Server {
    state: Mutex<State>,
    /// Moves with every change and every request.
    moved: watch::Sender<u64>,
}

impl State {
    /// A server in the same state, for another future. Faults, log and watches stay behind.
    pub fn fork(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            applied: self.applied.clone(),
            once_ready: self.once_ready.clone(),
            version: self.version,
            uids: self.uids,
            ..Self::default()
        }
    }

    /// The newest resource version.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The next resource version.
    pub fn stamp(&mut self) -> u64 {
        self.version = self.version.max(100) + 1;
        self.version
    }

    /// A uid nobody had before.
    pub fn fresh_uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{:04}", self.uids)
    }

    /// Counts an event (`events.k8s.io`).
    pub fn tell(&mut self) {
        self.events += 1;
    }

    /// Puts `after` in place of what is there, or takes it away, and tells the watches. False when nothing changes.
    pub fn commit(&mut self, key: &Key, after: Option<Value>) -> bool {
        let before = self.objects.get(key).cloned();
        let after = after.map(|mut after| {
            if before
                .as_ref()
                .is_some_and(|before| before["spec"] != after["spec"])
            {
                let generation = after["metadata"]["generation"].as_i64().unwrap_or_default();
                after["metadata"]["generation"] = (generation + 1).into();
            }
            after
        });
        if before == after {
            return false;
        }
        if let Some(before) = &before
            && let (Some(owner), Some(ready)) =
                (owner_of(before), before["status"]["readyReplicas"].as_i64())
        {
            self.lately_ready
                .insert((owner.to_owned(), ready), Instant::now());
        }
        let version = self.stamp().to_string();
        let event = match after {
            Some(mut after) => {
                after["metadata"]["resourceVersion"] = version.into();
                if is_ready(&after) {
                    self.once_ready.insert(key.clone());
                }
                self.objects.insert(key.clone(), after.clone());
                (before, Some(after))
            }
            None => {
                self.objects.remove(key);
                self.applied.retain(|(of, _, _), _| of != key);
                (before, None)
            }
        };
        let event = Event {
            key: key.clone(),
            before: event.0,
            after: event.1,
        };
        self.watches
            .retain(|watch| watch.send(event.clone()).is_ok());
        true
    }

    /// Adds an object with all that the server fills in.
    pub fn add(&mut self, key: &Key, mut object: Value) {
        let uid = self.fresh_uid();
        let metadata = &mut object["metadata"];
        metadata["name"] = key.name.as_ref().into();
        metadata["namespace"] = key.namespace.as_ref().into();
        metadata["uid"] = uid.into();
        metadata["generation"] = 1.into();
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        object["apiVersion"] = key.kind.api_version().into();
        object["kind"] = key.kind.name().into();
        crate::controllers::fill_in(key.kind, &mut object);
        self.commit(key, Some(object));
    }
}

/// Condition Ready is True.
pub fn is_ready(object: &Value) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The uid of the controlling owner.
pub fn owner_of(object: &Value) -> Option<&str> {
    object["metadata"]["ownerReferences"]
        .as_array()?
        .iter()
        .find(|owner| owner["controller"] == true)?["uid"]
        .as_str()
}

impl Server {
    pub fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            moved: watch::channel(0).0,
        }
    }

    /// Looks at or changes the state; whoever waits for a condition looks again.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let result = look(&mut self.state.lock().unwrap());
        self.moved.send_modify(|moves| *moves += 1);
        result
    }

    /// Looks without waking anybody.
    pub fn peek<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap())
    }

    /// Moves with every change and every request.
    pub fn movement(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Changes from here on.
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state.lock().unwrap().watches.push(sender);
        receiver
    }

    /// Waits until `holds`, at most ten minutes of virtual time.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&State) -> bool) {
        let mut movement = self.movement();
        let waiting = async {
            loop {
                movement.borrow_and_update();
                if self.peek(&mut holds) {
                    return;
                }
                movement.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(600), waiting)
            .await
            .is_err()
        {
            panic!("not within ten minutes: {what}\n{}", self.tail());
        }
    }

    /// The last requests and the phases, for messages.
    pub fn tail(&self) -> String {
        self.peek(|state| {
            let lines = state.log.iter().rev().take(12).map(|request| {
                let key = request
                    .key
                    .as_ref()
                    .map_or("an event".to_owned(), ToString::to_string);
                let part = if request.status { " (status)" } else { "" };
                format!("{} {key}{part} -> {}", request.method, request.code)
            });
            let custom = state.objects.iter().filter(|(key, _)| key.kind.is_custom());
            let statuses = custom.map(|(key, object)| {
                let status = &object["status"];
                format!(
                    "{key}: {} for {}: {}",
                    status["phase"], status["observedGeneration"], status["message"]
                )
            });
            lines.chain(statuses).collect::<Vec<_>>().join("\n")
        })
    }

    /// An object, if it is there.
    pub fn get(&self, key: &Key) -> Option<Value> {
        self.peek(|state| state.objects.get(key).cloned())
    }

    /// All objects of a kind.
    pub fn all(&self, kind: Kind) -> Vec<(Key, Value)> {
        self.peek(|state| {
            let of_kind = state.objects.iter().filter(|(key, _)| key.kind == kind);
            of_kind
                .map(|(key, object)| (key.clone(), object.clone()))
                .collect()
        })
    }

    /// Somebody else creates an object.
    pub fn add(&self, key: &Key, object: Value) {
        self.with(|state| state.add(key, object));
    }

    /// Somebody else edits an object.
    pub fn edit(&self, key: &Key, edit: impl FnOnce(&mut Value)) {
        self.with(|state| {
            let mut object = state
                .objects
                .get(key)
                .cloned()
                .unwrap_or_else(|| panic!("no {key}"));
            edit(&mut object);
            state.commit(key, Some(object));
        });
    }

    /// Somebody else deletes an object. Its dependents follow when the controllers look.
    pub fn delete(&self, key: &Key) {
        self.with(|state| {
            let held = state.objects.get(key).is_some_and(|object| {
                object["metadata"]["finalizers"]
                    .as_array()
                    .is_some_and(|list| !list.is_empty())
            });
            let graceful = key.kind == Kind::Pod || held;
            let mut object = state
                .objects
                .get(key)
                .cloned()
                .unwrap_or_else(|| panic!("no {key}"));
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            state.commit(key, graceful.then_some(object));
        });
    }

    /// Adds a fault that hits the next `times` requests for which `hits`.
    pub fn fail(
        &self,
        fault: Fault,
        times: usize,
        hits: impl Fn(&Request) -> bool + Send + 'static,
    ) {
        self.with(|state| {
            state.rules.push(Rule {
                fault,
                times,
                hits: Box::new(hits),
            });
        });
    }

    /// How many requests were made so far.
    pub fn mark(&self) -> u64 {
        self.peek(|state| state.log.len() as u64)
    }

    /// The requests after a mark.
    pub fn since(&self, mark: u64) -> Vec<Request> {
        self.peek(|state| state.log[mark as usize..].to_vec())
    }

    /// The writes after a mark, events apart.
    pub fn writes_since(&self, mark: u64) -> Vec<Request> {
        let mut requests = self.since(mark);
        requests.retain(|request| request.writes() && request.key.is_some());
        requests
    }
}

/// The body of an error answer.
pub fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "code": code, "message": message})
}
