//! The API server's audit log: who asked for what, how often, and with which answer.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Deserialize;

use crate::{plane::DEADLINE, wait};

/// Reviews and leases are housekeeping of every client.
const HOUSEKEEPING: [&str; 6] = [
    "leases",
    "tokenreviews",
    "subjectaccessreviews",
    "localsubjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
];
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// What the API server notes of a token besides its user.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

static BARRIER: AtomicU64 = AtomicU64::new(0);

/// A point in the log.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mark(u64);

/// One answered request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Who asked, such as `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// Which of the user's tokens was shown (`JTI=…`); empty for clients with certificates. Processes that share a
    /// ServiceAccount are told apart by it.
    pub credential: String,
    /// The client's name for itself.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural of the kind; empty for requests that are not about objects.
    pub resource: String,
    /// Such as `status`; empty without one.
    pub subresource: String,
    /// Empty for objects without one.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// When the request arrived.
    pub at: Timestamp,
    /// When it was answered.
    pub answered: Timestamp,
}

impl Entry {
    /// A request that changes something, housekeeping (leases, reviews) aside.
    pub fn is_write(&self) -> bool {
        WRITES.contains(&self.verb.as_str()) && !HOUSEKEEPING.contains(&self.resource.as_str())
    }

    /// The server did what was asked.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// About an event object.
    pub fn is_event(&self) -> bool {
        self.resource == "events"
    }

    /// Resource and subresource, as in RBAC rules: `pods/status`.
    pub fn target(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// A reader of the log. It holds no entries: a mark is a place in the file, and reading starts there.
#[derive(Clone)]
pub struct Audit {
    path: PathBuf,
    client: Client,
}

impl Audit {
    pub(crate) fn new(path: PathBuf, client: Client) -> Self {
        Self { path, client }
    }

    /// The log's present end. Requests answered just before may still be missing; see [`Audit::settle`].
    pub fn mark(&self) -> anyhow::Result<Mark> {
        self.read(Mark::default(), true, |_, _| {})
    }

    /// Waits until the log has caught up with the requests answered so far, and marks that place.
    pub async fn settle(&self) -> anyhow::Result<Mark> {
        let name = format!(
            "audit-barrier-{}-{}",
            std::process::id(),
            BARRIER.fetch_add(1, Ordering::Relaxed)
        );
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        let mut place = self.mark()?;
        maps.get_opt(&name).await?;
        wait::quietly("the audit log", DEADLINE, async || {
            let mut found = None;
            place = self.visit(place, |entry, next| {
                if entry.name == name {
                    found = Some(next);
                }
            })?;
            Ok(found)
        })
        .await
    }

    /// All entries after a mark.
    pub fn entries_since(&self, mark: Mark) -> anyhow::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.visit(mark, |entry, _| entries.push(entry))?;
        Ok(entries)
    }

    /// Reads the entries after a mark one by one, each with the mark after it, and returns the last mark.
    pub fn visit(&self, mark: Mark, mut visitor: impl FnMut(Entry, Mark)) -> anyhow::Result<Mark> {
        let mut broken = Ok(());
        let end = self.read(mark, false, |line, next| {
            match serde_json::from_str::<Line>(line) {
                Ok(line) => visitor(line.into(), next),
                Err(error) => broken = Err(error).context("an audit line cannot be read"),
            }
        })?;
        broken.map(|()| end)
    }

    /// How many requests of each user, verb and resource (with subresource) pass a filter.
    pub fn counts(
        &self,
        mark: Mark,
        filter: impl Fn(&Entry) -> bool,
    ) -> anyhow::Result<BTreeMap<(String, String, String), usize>> {
        let mut counts = BTreeMap::new();
        self.visit(mark, |entry, _| {
            if filter(&entry) {
                let target = entry.target();
                *counts.entry((entry.user, entry.verb, target)).or_insert(0) += 1;
            }
        })?;
        Ok(counts)
    }

    /// The writes of a user after a mark, without housekeeping and without events.
    pub fn writes(&self, mark: Mark, user: &str) -> anyhow::Result<Vec<Entry>> {
        let mut entries = self.entries_since(mark)?;
        entries.retain(|entry| entry.user == user && entry.is_write() && !entry.is_event());
        Ok(entries)
    }

    /// The events that a user wrote after a mark.
    pub fn events(&self, mark: Mark, user: &str) -> anyhow::Result<Vec<Entry>> {
        let mut entries = self.entries_since(mark)?;
        entries.retain(|entry| entry.user == user && entry.is_write() && entry.is_event());
        Ok(entries)
    }

    /// Calls back with each whole line after a mark (or only with the last one) and the mark after it.
    fn read(
        &self,
        mark: Mark,
        last: bool,
        mut line_read: impl FnMut(&str, Mark),
    ) -> anyhow::Result<Mark> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(mark),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to open {}", self.path.display()));
            }
        };
        let mut place = mark.0;
        if last {
            // A line is far shorter than this, so at least one begins in the range.
            place = place.max(file.metadata()?.len().saturating_sub(1 << 20));
        }
        file.seek(SeekFrom::Start(place))?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(Mark(place));
            }
            place += length as u64;
            line_read(&String::from_utf8_lossy(&line), Mark(place));
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    #[serde(rename = "apiGroup")]
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl From<Line> for Entry {
    fn from(line: Line) -> Self {
        let object = line.object_ref.unwrap_or_default();
        let mut extra = line.user.extra;
        let credential = extra.remove(CREDENTIAL).unwrap_or_default().pop();
        Self {
            user: line.user.username,
            credential: credential.unwrap_or_default(),
            user_agent: line.user_agent,
            verb: line.verb,
            group: object.group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            code: line.response_status.map_or(0, |status| status.code),
            at: line.request_received_timestamp,
            answered: line.stage_timestamp,
        }
    }
}
