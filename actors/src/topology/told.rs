//! What is told of writes to a topology: metrics, events, and the last ones for introspection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::action::Event as News;
use crate::effects::etcd::{self, Report};
use crate::topology_store::Write;
use crate::topology_store::key::{Component, Path, ShardId};
use crate::topology_store::record::Record;
use crate::topology_store::view::Views;

/// Writes that are remembered for introspection.
const LINES: usize = 16;

/// A write that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// It takes something out, or marks it dead.
    pub prunes: bool,
    operation: &'static str,
    path: Option<Path>,
    shard: Option<ShardId>,
}

/// What was sent, and what is to be told of it.
#[derive(Debug, Default)]
pub struct Diary {
    sent: BTreeMap<Box<str>, Sent>,
    news: BTreeMap<Option<ShardId>, Vec<News>>,
    /// Records that could not be pruned, and of which that was told.
    failed: BTreeSet<Box<str>>,
    lines: VecDeque<Value>,
}

/// The shard of the pooler whose record a write changes.
pub fn shard_of(views: &Views, store: &str, write: &Write) -> Option<ShardId> {
    let view = views.of_store(store)?;
    let path = Path::parse(view.root(), &write.key)?;
    match &view.get(&path)?.record {
        Ok(Record::Pooler(pooler)) => Some(pooler.shard.clone()),
        _ => None,
    }
}

/// What a report says of a request: operation, code, how long it took.
pub fn request(report: &Report, diary: &Diary) -> Option<(&'static str, &'static str, Duration)> {
    match &report.event {
        etcd::Event::Read { .. } => Some(("read", "ok", Duration::ZERO)),
        etcd::Event::Changed { .. } => None,
        etcd::Event::Compacted => Some(("read", "compacted", Duration::ZERO)),
        etcd::Event::Lost { .. } => Some(("read", "lost", Duration::ZERO)),
        etcd::Event::Written {
            key,
            outcome,
            latency,
        } => {
            let sent = diary.sent.get(key);
            let operation = sent.map_or("update", |sent| sent.operation);
            Some((operation, outcome.code(), *latency))
        }
    }
}

impl Diary {
    /// A write is sent.
    pub fn sends(&mut self, now: Timestamp, store: &str, write: &Write, shard: Option<ShardId>) {
        // The last segments of a key tell what it is, whatever the root.
        let path = path_of(&write.key);
        let marks = matches!(path, Some(Path::Process(..)));
        let operation = match (&write.value, write.version) {
            (None, _) => "delete",
            (Some(_), 0) => "create",
            (Some(_), _) => "update",
        };
        let sent = Sent {
            prunes: marks || write.value.is_none(),
            operation,
            path,
            shard,
        };
        self.sent.insert(write.key.clone(), sent);
        self.lines.push_back(json!({
            "at": now, "store": if store.is_empty() { "global" } else { store },
            "key": write.key, "operation": operation, "reason": write.reason, "outcome": "sent",
        }));
        while self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    /// A write ended. `None`: it was told before that it did.
    pub fn ends(&mut self, key: &str, code: &'static str, now: Timestamp) -> Option<Sent> {
        let sent = self.sent.remove(key)?;
        let mut lines = self.lines.iter_mut().rev();
        if let Some(line) = lines.find(|line| line.get("key").and_then(Value::as_str) == Some(key))
            && let Some(line) = line.as_object_mut()
        {
            line.insert("outcome".to_owned(), code.into());
            line.insert("answered".to_owned(), now.to_string().into());
        }
        let failed = sent.prunes && code == "unknown";
        // Somebody else's write is no news.
        let first = match code {
            "ok" => {
                self.failed.remove(key);
                true
            }
            _ => failed && self.failed.insert(key.into()),
        };
        if first && let Some(news) = sent.news(key, failed) {
            let marked = sent.shard.clone().filter(|_| sent.operation == "update");
            self.news.entry(marked).or_default().push(news);
        }
        Some(sent)
    }

    /// The events that were not sent yet, by the shard they are about (`None`: the cluster).
    pub fn news(&mut self) -> BTreeMap<Option<ShardId>, Vec<News>> {
        std::mem::take(&mut self.news)
    }

    /// The last writes, oldest first.
    pub const fn lines(&self) -> &VecDeque<Value> {
        &self.lines
    }
}

/// What a key holds, by its last segments.
fn path_of(key: &str) -> Option<Path> {
    let slashes = key.rmatch_indices('/').map(|(at, _)| at);
    slashes
        .filter_map(|at| Path::parse(key.get(..at)?, key))
        .next()
}

impl Sent {
    fn news(&self, key: &str, failed: bool) -> Option<News> {
        let what = match self.path.as_ref()? {
            Path::Cell(name) => format!("cell {name}"),
            Path::Database(name) => format!("database {name}"),
            Path::InitClaim(shard) => format!("the claim of shard {}", shard.shard),
            Path::BackupLock(_) => return None,
            Path::Process(Component::Pooler, id) => format!("pooler {id}"),
            Path::Process(_, id) => format!("process {id}"),
        };
        let (reason, message) = match self.operation {
            _ if failed => (
                "TopoCleanupFailed",
                format!("the record {key} could not be removed or marked; it is tried again"),
            ),
            "create" => (
                "TopoRegistered",
                format!("{what} was registered in the topology"),
            ),
            "update" if self.prunes => (
                "DeadPoolersMarked",
                format!("{what} has no pod any more: it was marked SHUTDOWN in the topology"),
            ),
            "update" => (
                "TopoRegistered",
                format!("the record of {what} in the topology follows the specification again"),
            ),
            _ => (
                "TopoCleanup",
                format!("the record of {what} was removed from the topology"),
            ),
        };
        Some(News {
            reason: reason.to_owned(),
            message,
            warning: failed,
        })
    }
}
