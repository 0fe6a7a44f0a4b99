//! What a decision asks for. An action leaves no choice to whoever executes it (`design.md` 2).

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::effects::dataplane::Call;
use crate::object::{Desired, Key};
use crate::status::Obstacle;
use crate::topology::known::Testimony;

/// Who a write is made as (`api.md` 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Manager {
    /// Created objects, and status of every kind but Shard.
    Operator,
    /// Status of Shards.
    ShardStatus,
}

impl Manager {
    /// The field manager as the server sees it.
    pub const fn name(self) -> &'static str {
        match self {
            Manager::Operator => "multigres-operator",
            Manager::ShardStatus => "multigres-resource-handler",
        }
    }
}

/// Secret material made by the executor, so that decisions stay free of randomness.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Recipe {
    /// A certificate authority: `ca.crt`, `ca.key`.
    Authority,
    /// A certificate for `names`, signed by the authority in Secret `authority`: `tls.crt`, `tls.key`.
    Leaf {
        /// The Secret with the authority.
        authority: Key,
        /// DNS names.
        names: Vec<String>,
    },
}

/// An event on an object, sent when the write that is the transition, or tells of it, succeeded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// CamelCase reason (`api.md` 4.8).
    pub reason: String,
    /// What happened; no counters or ages.
    pub message: String,
    /// Warning instead of Normal.
    pub warning: bool,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    /// Server-side apply. Without `uid` the object must not exist yet; with it, it must still be that one.
    Apply {
        /// The object with its applied-hash annotation.
        object: Desired,
        /// UID of the object as observed.
        uid: Option<Box<str>>,
    },
    /// JSON merge patch of everything we desire, with a UID precondition: puts lists back whole, which an apply cannot do when
    /// somebody else added items of their own.
    Restore {
        /// The object with its applied-hash annotation.
        object: Desired,
        /// UID of the object as observed.
        uid: Box<str>,
    },
    /// POST; an object of that name that exists already is read back.
    Create {
        /// The object.
        object: Desired,
    },
    /// POST of a Secret whose data is made by a recipe, or its replacement when `replace` names the observed version.
    Generate {
        /// The Secret without data.
        object: Desired,
        /// How to make the data.
        recipe: Recipe,
        /// UID and resourceVersion of the Secret to replace. A new authority goes on trusting the one it replaces.
        replace: Option<(Box<str>, u64)>,
        /// See [`Action::events`].
        events: Vec<Event>,
    },
    /// DELETE with UID and resourceVersion preconditions.
    Delete {
        /// What.
        key: Key,
        /// UID as observed.
        uid: Box<str>,
        /// resourceVersion as observed.
        version: u64,
    },
    /// JSON merge patch of metadata, with UID and resourceVersion preconditions.
    Metadata {
        /// What.
        key: Key,
        /// The content of `metadata`.
        patch: Value,
        /// See [`Action::events`].
        events: Vec<Event>,
    },
    /// JSON merge patch of a claim's size, with UID and resourceVersion preconditions.
    Expand {
        /// The claim.
        key: Key,
        /// UID as observed.
        uid: Box<str>,
        /// resourceVersion as observed.
        version: u64,
        /// The new request for storage, a quantity.
        size: String,
    },
    /// Server-side apply of the status of the actor's own resource.
    Status {
        /// What.
        key: Key,
        /// UID as observed.
        uid: Box<str>,
        /// resourceVersion as observed, when the status takes up or gives back a permit: one that somebody else wrote meanwhile
        /// must be seen first (`design.md` 4).
        version: Option<u64>,
        /// The whole status.
        status: Value,
        /// As whom.
        manager: Manager,
        /// See [`Action::events`].
        events: Vec<Event>,
    },
    /// Events that tell of something that was written elsewhere than in the API server. They are news: of those that wait,
    /// later ones replace earlier ones.
    Announce {
        /// The object that they are about.
        key: Key,
        /// UID as observed.
        uid: Box<str>,
        /// See [`Action::events`].
        events: Vec<Event>,
    },
    /// Live question whether a pod of the namespace has an address; the answer tells that much and no more.
    Seek {
        /// The namespace, and the address as a name.
        key: Key,
        /// The address.
        address: IpAddr,
    },
    /// Live read; the answer enters the store like an event.
    Read {
        /// What.
        key: Key,
    },
}

/// Which of an object's parts a lane serialises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Slot {
    /// Everything but status.
    Content,
    /// Status.
    Status,
    /// A read, which may run beside a status write.
    Read,
    /// Events alone.
    News,
}

/// How soon an action is served when there are more than the window admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Urgency {
    /// Deletions and drains.
    Deletion,
    /// Content of objects.
    Content,
    /// Status, reads.
    Housekeeping,
}

impl Action {
    /// The object and part this action changes: its lane.
    pub fn lane(&self) -> (&Key, Slot) {
        match self {
            Action::Apply { object, .. }
            | Action::Restore { object, .. }
            | Action::Create { object }
            | Action::Generate { object, .. } => (&object.key, Slot::Content),
            Action::Delete { key, .. }
            | Action::Metadata { key, .. }
            | Action::Expand { key, .. } => (key, Slot::Content),
            Action::Status { key, .. } => (key, Slot::Status),
            Action::Read { key } | Action::Seek { key, .. } => (key, Slot::Read),
            Action::Announce { key, .. } => (key, Slot::News),
        }
    }

    /// See [`Urgency`].
    pub const fn urgency(&self) -> Urgency {
        match self {
            Action::Delete { .. } => Urgency::Deletion,
            Action::Apply { .. }
            | Action::Restore { .. }
            | Action::Create { .. }
            | Action::Generate { .. }
            | Action::Metadata { .. }
            | Action::Expand { .. } => Urgency::Content,
            Action::Status { .. }
            | Action::Read { .. }
            | Action::Seek { .. }
            | Action::Announce { .. } => Urgency::Housekeeping,
        }
    }

    /// The object that this action puts in place as a whole.
    pub const fn puts(&self) -> Option<&Desired> {
        match self {
            Action::Apply { object, .. } | Action::Restore { object, .. } => Some(object),
            _ => None,
        }
    }

    /// The tree that this action carries, if any. Objects come as text.
    pub const fn content_mut(&mut self) -> Option<&mut Value> {
        match self {
            Action::Metadata { patch, .. } => Some(patch),
            Action::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// What is told on the object once the write succeeded.
    pub fn events(&self) -> &[Event] {
        match self {
            Action::Generate { events, .. }
            | Action::Metadata { events, .. }
            | Action::Announce { events, .. }
            | Action::Status { events, .. } => events,
            _ => &[],
        }
    }

    /// A patch of metadata that nobody has to hear of.
    pub const fn metadata(key: Key, patch: Value) -> Self {
        Action::Metadata {
            key,
            patch,
            events: Vec::new(),
        }
    }

    /// True unless the action only reads.
    pub const fn writes(&self) -> bool {
        !matches!(self, Action::Read { .. } | Action::Seek { .. })
    }

    /// The verb, for people.
    pub const fn verb(&self) -> &'static str {
        match self {
            Action::Apply { uid: None, .. } => "create (apply)",
            Action::Apply { .. } => "apply",
            Action::Restore { .. } => "restore",
            Action::Create { .. } => "create",
            Action::Generate { replace: None, .. } => "generate",
            Action::Generate { .. } => "replace",
            Action::Delete { .. } => "delete",
            Action::Metadata { .. } => "patch metadata",
            Action::Expand { .. } => "expand",
            Action::Status { .. } => "write status",
            Action::Read { .. } => "read",
            Action::Seek { .. } => "seek",
            Action::Announce { .. } => "announce",
        }
    }
}

/// An action and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Planned {
    /// What to do.
    pub action: Action,
    /// Why, for introspection and logs.
    pub reason: String,
}

/// The outcome of `decide`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<S> {
    /// The state to keep.
    pub state: S,
    /// What to do now.
    pub actions: Vec<Planned>,
    /// When to decide again though nothing changed.
    pub wake: Option<Timestamp>,
    /// User objects whose existence and keys the decision depends on.
    pub references: Vec<Key>,
    /// Pods that a pool wants taken away. This and the next two reach its shard; the newest value replaces an older one.
    pub wants: Vec<Want>,
    /// What stands in a pool's way.
    pub obstacles: Vec<Obstacle>,
    /// What was asked of volumes and cannot be done, or not while their pods run.
    pub volumes: Vec<Obstacle>,
    /// Calls to pods of the data plane, by name of the pod (ShardActor only). One that is under way is not made again.
    pub calls: Vec<(Box<str>, Call)>,
    /// Of a pool: something that decides about its pods is not known yet, so no want says nothing.
    pub undecided: bool,
    /// Of a shard: what it tells the TopologyActor of its poolers; `None`: what it told before stays.
    pub testimony: Option<Testimony>,
    /// What was looked at, in words, for introspection.
    pub inputs: Vec<String>,
}

impl<S> Decision<S> {
    /// Nothing to do.
    pub const fn idle(state: S) -> Self {
        Self {
            state,
            actions: Vec::new(),
            wake: None,
            references: Vec::new(),
            wants: Vec::new(),
            obstacles: Vec::new(),
            volumes: Vec::new(),
            calls: Vec::new(),
            undecided: false,
            testimony: None,
            inputs: Vec::new(),
        }
    }

    /// Adds an action.
    pub fn act(&mut self, reason: impl Into<String>, action: Action) {
        self.actions.push(Planned {
            action,
            reason: reason.into(),
        });
    }

    /// Wakes at `at`, if any, or earlier.
    pub fn wake_at(&mut self, at: impl Into<Option<Timestamp>>) {
        self.wake = [self.wake, at.into()].into_iter().flatten().min();
    }
}

/// A pod that a pool wants taken away, and why (`design.md` 4, "Who decides").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Want {
    /// The pod.
    pub pod: Arc<str>,
    /// Why.
    pub reason: WantReason,
}

/// Why a pod should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum WantReason {
    /// Its spec hash differs from the wanted one.
    Drift,
    /// Its index lies beyond the wanted count.
    ScaleDown,
    /// The filesystem of its volume grows only without it.
    Resize,
    /// It ended (Failed or Succeeded) and cannot be replaced while it exists.
    Ended,
}
