//! What the server does with a request, and the way of a request to it and back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actors::effects::kubernetes::{Answered, Call, Failure, Kubernetes};
use actors::object::{Key, Kind};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::merge;
use crate::server::{Fault, Request, Server, State, status};

/// How long the client waits for an answer.
pub const DEADLINE: Duration = Duration::from_secs(4);
/// Way to the server, and the same back.
const WAY: Duration = Duration::from_millis(2);

/// One operator process as the server sees it. When it dies, nothing more is sent or heard.
pub struct Process {
    pub server: Arc<Server>,
    pub alive: AtomicBool,
    pub died: Notify,
}

impl Process {
    pub fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            alive: AtomicBool::new(true),
            died: Notify::new(),
        }
    }

    /// Ends it between two instants.
    pub fn die(&self) {
        self.alive.store(false, Ordering::Release);
        self.died.notify_waiters();
        self.died.notify_one();
    }

    async fn silent_if_dead(&self) {
        if !self.alive.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }
}

/// What becomes of an answer.
enum Fate {
    Arrives(u16, Value),
    Never,
}

/// The client of one process.
pub struct Client(pub Arc<Process>);

impl Kubernetes for Client {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let process = self.0.clone();
        Box::pin(async move {
            process.silent_if_dead().await;
            tokio::time::sleep(WAY).await;
            process.silent_if_dead().await;
            let fate = take_in(&process, &call);
            process.silent_if_dead().await;
            match fate {
                Fate::Never => {
                    tokio::time::sleep(DEADLINE - WAY).await;
                    process.silent_if_dead().await;
                    Err(Failure::Lost(format!("none within {DEADLINE:?}")))
                }
                Fate::Arrives(code, body) => {
                    tokio::time::sleep(WAY).await;
                    process.silent_if_dead().await;
                    if code < 300 {
                        return Ok(body.to_string().into_bytes());
                    }
                    Err(Failure::Refused {
                        code,
                        reason: String::new(),
                        message: body["message"].as_str().unwrap_or_default().to_owned(),
                    })
                }
            }
        })
    }
}

fn take_in(process: &Process, call: &Call) -> Fate {
    process.server.with(|state| {
        let mut request = read(state, call);
        let kill = state.kill.filter(|kill| kill.at == request.number);
        if let Some(kill) = kill {
            state.kill = None;
            process.die();
            if !kill.carried_out {
                state.log.push(request);
                return Fate::Never;
            }
        }
        let fault = fault(state, &request);
        let before = request
            .key
            .as_ref()
            .and_then(|key| state.objects.get(key).cloned());
        let (code, body) = match fault {
            Some(Fault::Hang) => (0, Value::Null),
            Some(Fault::Refuse(code)) => (code, status(code, "a fault of this test")),
            Some(Fault::LoseAnswer) | None => carry_out(state, &mut request),
        };
        request.code = code;
        crate::invariants::judge(state, &request, before.as_ref());
        state.log.push(request);
        if state.past.as_ref().is_some_and(|past| {
            past.last()
                .is_none_or(|last| last.version() < state.version())
        }) {
            let now = state.fork();
            state.past.as_mut().unwrap().push(now);
        }
        match fault {
            Some(Fault::Hang | Fault::LoseAnswer) => Fate::Never,
            _ => Fate::Arrives(code, body),
        }
    })
}

fn fault(state: &mut State, request: &Request) -> Option<Fault> {
    let rule = state
        .rules
        .iter_mut()
        .find(|rule| rule.times > 0 && (rule.hits)(request))?;
    rule.times -= 1;
    Some(rule.fault)
}

fn read(state: &State, call: &Call) -> Request {
    let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
    let parts: Vec<&str> = path.split('/').collect();
    let (group, rest) = if parts[1] == "api" {
        ("", &parts[3..])
    } else {
        (parts[2], &parts[4..])
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        rest => ("", rest),
    };
    let plural = rest[0];
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let name = rest
        .get(1)
        .copied()
        .or_else(|| body["metadata"]["name"].as_str());
    let kind = Kind::ALL
        .into_iter()
        .chain([Kind::StorageClass])
        .find(|kind| (kind.resource().0, kind.resource().2) == (group, plural));
    let manager = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("fieldManager="));
    Request {
        number: state.log.len() as u64 + 1,
        at: tokio::time::Instant::now(),
        method: call.method,
        key: kind.map(|kind| Key::new(kind, namespace, name.unwrap_or_default())),
        status: rest.get(2) == Some(&"status"),
        apply: call.content_type.starts_with("application/apply-patch"),
        manager: manager.unwrap_or_default().to_owned(),
        body,
        code: 0,
        version: state.version(),
        changed: false,
    }
}

fn carry_out(state: &mut State, request: &mut Request) -> (u16, Value) {
    let Some(key) = request.key.clone() else {
        state.tell();
        return (201, json!({}));
    };
    let there = state.objects.get(&key).cloned();
    let outcome = match (request.method, there) {
        ("GET", Some(object)) => return (200, object),
        ("POST", None) => create(state, &key, request),
        ("POST", Some(_)) => Err((409, "it exists already")),
        ("PATCH", None) if request.apply && !request.status => apply_new(state, &key, request),
        ("PATCH", Some(object)) if request.apply => apply(state, &key, object, request),
        ("PATCH", Some(object)) => patch(state, &key, object, request),
        ("PUT", Some(object)) => put(state, &key, &object, request),
        ("DELETE", Some(object)) => delete(state, &key, object, request),
        _ => Err((404, "it does not exist")),
    };
    match outcome {
        Ok(changed) => {
            request.changed = changed;
            (
                200,
                state
                    .objects
                    .get(&key)
                    .cloned()
                    .unwrap_or_else(|| json!({})),
            )
        }
        Err((code, message)) => (code, status(code, message)),
    }
}

type Outcome = Result<bool, (u16, &'static str)>;

/// Text of a Secret becomes data in base64.
fn encode(secret: &mut Value) {
    let Some(Value::Object(text)) = secret.as_object_mut().unwrap().remove("stringData") else {
        return;
    };
    for (name, value) in text {
        let bytes = ByteString(value.as_str().unwrap().as_bytes().to_vec());
        secret["data"][name] = json!(bytes);
    }
}

fn create(state: &mut State, key: &Key, request: &Request) -> Outcome {
    let mut object = request.body.clone();
    encode(&mut object);
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    state.add(key, object);
    Ok(true)
}

fn apply_new(state: &mut State, key: &Key, request: &Request) -> Outcome {
    if request.body["metadata"].get("uid").is_some() {
        return Err((409, "uid mismatch: the object does not exist"));
    }
    remember(state, key, request);
    create(state, key, request)
}

fn remember(state: &mut State, key: &Key, request: &Request) -> Value {
    let slot = (key.clone(), request.manager.clone(), request.status);
    let mut fields = request.body.clone();
    let metadata = fields["metadata"].as_object_mut().unwrap();
    for name in ["uid", "resourceVersion", "name", "namespace"] {
        metadata.remove(name);
    }
    state.applied.insert(slot, fields).unwrap_or_default()
}

fn same_uid(object: &Value, request: &Request) -> bool {
    let wanted = request.body["metadata"].get("uid");
    wanted.is_none_or(|uid| *uid == object["metadata"]["uid"])
}

fn same_version(object: &Value, request: &Request) -> bool {
    let wanted = request.body["metadata"].get("resourceVersion");
    wanted.is_none_or(|version| *version == object["metadata"]["resourceVersion"])
}

fn apply(state: &mut State, key: &Key, mut object: Value, request: &Request) -> Outcome {
    if !same_uid(&object, request) {
        return Err((422, "uid is immutable"));
    }
    if !same_version(&object, request) {
        return Err((409, "the object has been modified"));
    }
    let last = remember(state, key, request);
    let mut fields = state.applied[&(key.clone(), request.manager.clone(), request.status)].clone();
    if request.status {
        merge::apply(
            &mut object["status"],
            &last["status"],
            &fields["status"].take(),
        );
    } else {
        let kept = object["status"].clone();
        merge::apply(&mut object, &last, &fields);
        restore_status(&mut object, kept);
        crate::controllers::fill_in(key.kind, &mut object);
    }
    Ok(state.commit(key, Some(object)))
}

fn restore_status(object: &mut Value, status: Value) {
    if status.is_null() {
        object.as_object_mut().unwrap().remove("status");
    } else {
        object["status"] = status;
    }
}

fn patch(state: &mut State, key: &Key, mut object: Value, request: &Request) -> Outcome {
    if !same_uid(&object, request) || !same_version(&object, request) {
        return Err((409, "a precondition failed"));
    }
    let kept = (
        object["status"].clone(),
        object["metadata"]["resourceVersion"].clone(),
    );
    merge::merge_patch(&mut object, &request.body);
    encode(&mut object);
    restore_status(&mut object, kept.0);
    object["metadata"]["resourceVersion"] = kept.1;
    crate::controllers::fill_in(key.kind, &mut object);
    let dying = object["metadata"].get("deletionTimestamp").is_some()
        && object["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty);
    Ok(state.commit(key, (!dying).then_some(object)))
}

fn put(state: &mut State, key: &Key, object: &Value, request: &Request) -> Outcome {
    if !same_uid(object, request) || !same_version(object, request) {
        return Err((409, "a precondition failed"));
    }
    let mut next = request.body.clone();
    encode(&mut next);
    for name in ["uid", "generation", "creationTimestamp", "resourceVersion"] {
        next["metadata"][name] = object["metadata"][name].clone();
    }
    Ok(state.commit(key, Some(next)))
}

fn delete(state: &mut State, key: &Key, mut object: Value, request: &Request) -> Outcome {
    let wanted = &request.body["preconditions"];
    for (name, wanted) in wanted.as_object().into_iter().flatten() {
        if object["metadata"][name.as_str()] != *wanted {
            return Err((409, "a precondition failed"));
        }
    }
    let held = object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    Ok(state.commit(key, held.then_some(object)))
}
