//! What we know of the cluster: the newest observation of every object, whether it came by a watch, a list or as the answer
//! to our own write. Lives on the actors' thread; everything in it can be had again from the API server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::entry::Entry;
use crate::object::{Key, Kind, MANAGED_BY};
use crate::text::shared;

/// Namespace and name of a MultigresCluster: objects that one decision may look at together.
pub type Group = (Arc<str>, Arc<str>);

/// Deleted UIDs that are remembered, so that a late event cannot bring an object back to life.
const TOMBSTONES: usize = 4096;

/// The last failed write of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// HTTP status, 0 when unknown.
    pub code: u16,
    /// What the server said.
    pub message: String,
    /// Consecutive failures.
    pub failures: u32,
    /// Not to be tried again before.
    pub retry_at: Timestamp,
}

/// A user's object that a resource refers to.
#[derive(Clone, Debug)]
pub enum Reference {
    /// Not read yet.
    Unknown,
    /// Read: not there.
    Absent,
    /// Read: there.
    Present(Rc<Entry>),
}

/// What changed by one observation.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: older than what is known, or of a dead object.
    None,
    /// The object is new or different; the UIDs are its own and its owner's.
    Changed,
    /// The object is gone.
    Removed,
}

/// The observations.
#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Key, (Rc<Entry>, Group)>,
    groups: BTreeMap<Group, BTreeSet<Key>>,
    by_uid: BTreeMap<Box<str>, Key>,
    tombstones: BTreeSet<Box<str>>,
    burials: VecDeque<Box<str>>,
    listing: BTreeMap<Kind, BTreeSet<Key>>,
    troubles: BTreeMap<Key, Trouble>,
    references: BTreeMap<Key, Reference>,
    /// References that a running list of the users' objects has named so far.
    foreign_listing: BTreeMap<Kind, BTreeSet<Key>>,
}

impl Store {
    /// The object of this name.
    pub fn get(&self, key: &Key) -> Option<&Rc<Entry>> {
        self.objects.get(key).map(|(entry, _)| entry)
    }

    /// The custom resource of this UID.
    pub fn by_uid(&self, uid: &str) -> Option<&Rc<Entry>> {
        self.get(self.by_uid.get(uid)?)
    }

    /// The group an object belongs to.
    pub fn group_of(&self, key: &Key) -> Option<&Group> {
        self.objects.get(key).map(|(_, group)| group)
    }

    /// All objects of a group, by key.
    pub fn group(&self, group: &Group) -> Vec<Rc<Entry>> {
        self.groups
            .get(group)
            .into_iter()
            .flatten()
            .filter_map(|key| self.get(key).cloned())
            .collect()
    }

    /// All custom resources.
    pub fn resources(&self) -> impl Iterator<Item = &Rc<Entry>> {
        self.by_uid.values().filter_map(|key| self.get(key))
    }

    /// Everything of a kind that is known: ours, and the users' that we refer to.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Rc<Entry>> {
        let ours = self.objects.values().map(|(entry, _)| entry);
        let referred = self.references.iter().filter_map(|(key, state)| {
            // One of ours that carries our label is known already.
            let known = self.objects.contains_key(key);
            match state {
                Reference::Present(entry) if !known => Some(entry),
                _ => None,
            }
        });
        ours.chain(referred)
            .filter(move |entry| entry.key().kind == kind)
    }

    /// How many objects are held and about how many bytes of memory they take, by kind.
    pub fn census(&self) -> BTreeMap<Kind, (usize, usize)> {
        let mut census = BTreeMap::new();
        for (key, (entry, _)) in &self.objects {
            let (count, bytes) = census.entry(key.kind).or_insert((0, 0));
            *count += 1;
            *bytes += entry.bytes() + key.name.len();
        }
        census
    }

    /// Takes in an observation. `asked_by` is the group of the actor whose request brought it, for objects without our labels.
    pub fn observe(&mut self, entry: Entry, asked_by: Option<&Group>) -> Change {
        let key = entry.key().clone();
        if let Some(listing) = self.listing.get_mut(&key.kind) {
            listing.insert(key.clone());
        }
        if self.tombstones.contains(&entry.uid) {
            return Change::None;
        }
        let previous = self.objects.get(&key);
        // Versions of one kind are of one sequence, so this also tells a successor from the object it replaced.
        if let Some((known, _)) = previous
            && known.version >= entry.version
        {
            return Change::None;
        }
        let group = self.home(&entry, previous.map(|(_, group)| group), asked_by);
        if let Some((known, old)) = self.objects.get(&key) {
            let replaced = (known.uid != entry.uid).then(|| known.uid.clone());
            if replaced.is_some() || *old != group {
                self.drop_object(&key);
            }
            if let Some(uid) = replaced {
                self.bury(uid);
            }
        }
        if key.kind.is_custom() {
            self.by_uid.insert(entry.uid.clone(), key.clone());
        }
        self.groups
            .entry(group.clone())
            .or_default()
            .insert(key.clone());
        let entry = Rc::new(entry);
        // Who refers to an object that we hold sees what we see: it may be one of our own.
        if let Some(reference) = self.references.get_mut(&key) {
            *reference = Reference::Present(entry.clone());
        }
        self.objects.insert(key, (entry, group));
        Change::Changed
    }

    fn home(&self, entry: &Entry, known: Option<&Group>, asked_by: Option<&Group>) -> Group {
        let key = entry.key();
        if key.kind == Kind::MultigresCluster {
            return (key.namespace.clone(), key.name.clone());
        }
        if key.kind.is_template() {
            return (key.namespace.clone(), Arc::default());
        }
        let by_owner = || {
            let owner = self.by_uid.get(entry.owner.as_ref()?)?;
            self.group_of(owner).cloned()
        };
        let by_label = || {
            Some((
                key.namespace.clone(),
                shared(entry.label("app.kubernetes.io/instance")?),
            ))
        };
        by_owner()
            .or_else(by_label)
            .or_else(|| known.cloned())
            .or_else(|| asked_by.cloned())
            .unwrap_or_else(|| (key.namespace.clone(), Arc::default()))
    }

    /// The object of this name and, when given, UID is gone.
    pub fn remove(&mut self, key: &Key, uid: Option<&str>) -> Option<Rc<Entry>> {
        let (entry, _) = self.objects.get(key)?;
        if uid.is_some_and(|uid| *entry.uid != *uid) {
            return None;
        }
        let entry = entry.clone();
        self.bury(entry.uid.clone());
        self.drop_object(key);
        self.troubles.remove(key);
        Some(entry)
    }

    fn bury(&mut self, uid: Box<str>) {
        if self.tombstones.insert(uid.clone()) {
            self.burials.push_back(uid);
        }
        while self.burials.len() > TOMBSTONES {
            if let Some(oldest) = self.burials.pop_front() {
                self.tombstones.remove(&oldest);
            }
        }
    }

    fn drop_object(&mut self, key: &Key) {
        if let Some((entry, group)) = self.objects.remove(key) {
            self.by_uid.remove(&entry.uid);
            if let Some(keys) = self.groups.get_mut(&group) {
                keys.remove(key);
                if keys.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
    }

    /// A list of this kind begins.
    pub fn list_begins(&mut self, kind: Kind) {
        self.listing.insert(kind, BTreeSet::new());
    }

    /// A list of this kind is complete; returns what we hold but the list did not show.
    pub fn list_ends(&mut self, kind: Kind) -> Vec<Key> {
        let Some(seen) = self.listing.remove(&kind) else {
            return Vec::new();
        };
        self.objects
            .keys()
            .filter(|key| key.kind == kind && !seen.contains(*key))
            .cloned()
            .collect()
    }

    /// The last failure of writes to an object.
    pub fn trouble(&self, key: &Key) -> Option<&Trouble> {
        self.troubles.get(key)
    }

    /// Failures in a namespace, those of objects that do not exist included.
    pub fn troubles_in(&self, namespace: &str) -> Vec<(Key, Trouble)> {
        self.troubles
            .iter()
            .filter(|(key, _)| *key.namespace == *namespace)
            .map(|(key, trouble)| (key.clone(), trouble.clone()))
            .collect()
    }

    /// Remembers a failed write; waits grow by half from 250 ms to 15 s.
    pub fn fail(&mut self, key: &Key, code: u16, message: String, now: Timestamp) {
        /// First wait after a failure, in milliseconds.
        const FIRST: u64 = 250;
        /// Longest wait, in milliseconds: short enough that a mended fault is noticed while somebody looks.
        const LONGEST: u64 = 15_000;
        let failures = self.troubles.get(key).map_or(0, |trouble| trouble.failures) + 1;
        // Half as long again each time: what was mended is noticed after at most half of the time it took.
        let wait = (1..failures).fold(FIRST, |wait, _| (wait + wait / 2).min(LONGEST));
        let wait = std::time::Duration::from_millis(wait);
        let retry_at = now
            .saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or_default())
            .unwrap_or(now);
        self.troubles.insert(
            key.clone(),
            Trouble {
                code,
                message,
                failures,
                retry_at,
            },
        );
    }

    /// A write succeeded.
    pub fn succeed(&mut self, key: &Key) {
        self.troubles.remove(key);
    }

    /// The state of a user's object that is read by name.
    pub fn reference(&self, key: &Key) -> Option<&Reference> {
        self.references.get(key)
    }

    /// The templates of a namespace.
    pub fn templates(&self, namespace: &str) -> Vec<Rc<Entry>> {
        let mut group = self.group(&(namespace.into(), Arc::default()));
        group.retain(|entry| entry.key().kind.is_template());
        group
    }

    /// Declares that somebody refers to `key`; true when it was unknown, so that it must be read.
    pub fn refer(&mut self, key: &Key) -> bool {
        if self.references.contains_key(key) {
            return false;
        }
        let watched = self.watched(key).cloned();
        let unknown = watched.is_none();
        let state = watched.map_or(Reference::Unknown, Reference::Present);
        self.references.insert(key.clone(), state);
        unknown
    }

    /// The object of this name, if our own watches follow it. Others are held as long as they stand in our way.
    fn watched(&self, key: &Key) -> Option<&Rc<Entry>> {
        self.get(key)
            .filter(|entry| entry.label(MANAGED_BY.0) == Some(MANAGED_BY.1))
    }

    /// A user's object was seen with this version; true when it is referred to and must be read again.
    pub fn foreign_seen(&mut self, key: &Key, version: Option<u64>) -> bool {
        if self.watched(key).is_some() {
            return false;
        }
        if let Some(seen) = self.foreign_listing.get_mut(&key.kind)
            && self.references.contains_key(key)
        {
            seen.insert(key.clone());
        }
        match (self.references.get(key), version) {
            (None, _) => false,
            (Some(Reference::Present(entry)), Some(version)) => entry.version < version,
            (Some(Reference::Present(_)), None) => true,
            (Some(Reference::Absent | Reference::Unknown), version) => version.is_some(),
        }
    }

    /// What the live read of a user's object brought.
    pub fn learn_reference(&mut self, key: &Key, found: Option<Entry>) {
        let state = found.map_or(Reference::Absent, |entry| {
            Reference::Present(Rc::new(entry))
        });
        self.references.insert(key.clone(), state);
    }

    /// A list of the users' objects of this kind begins.
    pub fn foreign_list_begins(&mut self, kind: Kind) {
        self.foreign_listing.insert(kind, BTreeSet::new());
    }

    /// It is complete; returns the references that are held as present though it did not name them.
    pub fn foreign_list_ends(&mut self, kind: Kind) -> Vec<Key> {
        let Some(seen) = self.foreign_listing.remove(&kind) else {
            return Vec::new();
        };
        let present = self.references.iter().filter(|(key, state)| {
            key.kind == kind
                && matches!(state, Reference::Present(_))
                && self.watched(key).is_none()
        });
        let missing = present
            .map(|(key, _)| key)
            .filter(|key| !seen.contains(*key));
        missing.cloned().collect()
    }

    /// Forgets references that `wanted` does not name.
    pub fn keep_references(&mut self, wanted: &BTreeSet<Key>) {
        self.references.retain(|key, _| wanted.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, uid: &str, version: u64) -> Entry {
        Entry {
            key: Some(Key::new(Kind::Service, "n", name)),
            uid: uid.into(),
            version,
            labels: [("app.kubernetes.io/instance", "c")].into_iter().collect(),
            ..Entry::default()
        }
    }

    #[test]
    fn an_older_event_does_not_undo_our_own_write() {
        let mut store = Store::default();
        assert_eq!(store.observe(entry("a", "u", 5), None), Change::Changed);
        assert_eq!(store.observe(entry("a", "u", 4), None), Change::None);
        assert_eq!(
            store
                .get(&Key::new(Kind::Service, "n", "a"))
                .unwrap()
                .version,
            5
        );
    }

    #[test]
    fn a_deleted_uid_stays_dead() {
        let mut store = Store::default();
        store.observe(entry("a", "u", 5), None);
        store.remove(&Key::new(Kind::Service, "n", "a"), Some("u"));
        assert_eq!(store.observe(entry("a", "u", 9), None), Change::None);
        assert_eq!(store.observe(entry("a", "other", 3), None), Change::Changed);
    }

    #[test]
    fn an_object_without_labels_keeps_its_group() {
        let mut store = Store::default();
        store.observe(entry("a", "u", 5), None);
        store.observe(
            Entry {
                labels: Default::default(),
                ..entry("a", "u", 6)
            },
            None,
        );
        assert_eq!(store.group(&("n".into(), "c".into())).len(), 1);
    }

    #[test]
    fn a_list_tells_what_is_missing() {
        let mut store = Store::default();
        store.observe(entry("a", "u", 5), None);
        store.observe(entry("b", "v", 6), None);
        store.list_begins(Kind::Service);
        store.observe(entry("a", "u", 5), None);
        assert_eq!(
            store.list_ends(Kind::Service),
            vec![Key::new(Kind::Service, "n", "b")]
        );
    }
}
