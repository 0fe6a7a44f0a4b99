//! What is known of one store: the newest version of every record below its root, decoded once.

use std::collections::BTreeMap;

use super::key::{Component, Path, ShardId};
use super::record::{self, Garbage, Pooler, Process, Record};

/// One key as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Key.
    pub key: String,
    /// Value; `None` when the key was deleted.
    pub value: Option<Vec<u8>>,
    /// Revision of the change (`mod_revision`).
    pub version: i64,
}

/// A record with its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Revision of its last change: what a compare-and-swap compares.
    pub version: i64,
    /// The bytes: what an edit starts from. Empty for values of which only the presence counts.
    pub value: Box<[u8]>,
    /// What they say.
    pub record: Result<Record, Garbage>,
}

/// All records of a store.
#[derive(Clone, Debug)]
pub struct View {
    root: Box<str>,
    /// Revision up to which the watch has told us everything; `None` before the first complete read.
    revision: Option<i64>,
    /// Since the last complete read the watch has been heard.
    listening: bool,
    records: BTreeMap<Path, Seen>,
    /// Own deletions that the watch has not told of yet.
    deleted: BTreeMap<Path, i64>,
}

impl View {
    /// A store below `root` of which nothing is known.
    pub fn new(root: &str) -> Self {
        Self {
            root: root.trim_end_matches('/').into(),
            revision: None,
            listening: false,
            records: BTreeMap::new(),
            deleted: BTreeMap::new(),
        }
    }

    /// Prefix of all keys, without a slash at its end.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// True while what is known is all there is: read completely, and the watch on it alive. Nothing is pruned otherwise.
    pub const fn complete(&self) -> bool {
        self.revision.is_some() && self.listening
    }

    /// True once the store was read completely, however long ago.
    pub const fn known(&self) -> bool {
        self.revision.is_some()
    }

    /// The revision up to which everything is known; `None` before the first complete read.
    pub const fn revision(&self) -> Option<i64> {
        self.revision
    }

    /// A complete read at `revision`. Returns true when the store's history is not the one we knew: its revision went back.
    pub fn replace(&mut self, revision: i64, items: impl IntoIterator<Item = Item>) -> bool {
        let rewound = self.revision.is_some_and(|known| revision < known);
        let mut before = std::mem::take(&mut self.records);
        if rewound {
            self.deleted.clear();
            before.clear();
        }
        self.revision = Some(revision);
        self.listening = true;
        for item in items {
            self.put(item);
        }
        // A write of ours that was answered while the read was under way is newer than the read.
        for (path, seen) in before {
            if seen.version > revision {
                self.records.insert(path, seen);
            }
        }
        self.settle();
        rewound
    }

    /// Changes up to `revision`, from the watch.
    pub fn advance(&mut self, revision: i64, items: impl IntoIterator<Item = Item>) {
        for item in items {
            self.put(item);
        }
        self.revision = self.revision.map(|known| known.max(revision));
        self.settle();
    }

    /// The answer to a write of ours: an observation that may come before the watch tells of it.
    pub fn wrote(&mut self, item: Item) {
        if item.value.is_none()
            && let Some(path) = Path::parse(&self.root, &item.key)
        {
            self.deleted.insert(path, item.version);
        }
        self.put(item);
    }

    /// The watch broke: what is known stays, and is no longer all there is.
    pub const fn lost(&mut self) {
        self.listening = false;
    }

    fn settle(&mut self) {
        let revision = self.revision.unwrap_or_default();
        self.deleted.retain(|_, version| *version > revision);
    }

    /// Newest wins.
    fn put(&mut self, item: Item) {
        let Some(path) = Path::parse(&self.root, &item.key) else {
            return;
        };
        let known = self.records.get(&path).map(|seen| seen.version);
        let gone = self.deleted.get(&path).copied();
        if known.max(gone).is_some_and(|newest| newest > item.version) {
            return;
        }
        let Some(value) = item.value else {
            self.records.remove(&path);
            return;
        };
        let record = record::decode(&path, &value);
        let value = match path {
            Path::BackupLock(_) | Path::InitClaim(_) => Box::default(),
            _ => value.into(),
        };
        let seen = Seen {
            version: item.version,
            value,
            record,
        };
        self.records.insert(path, seen);
    }

    /// The record at a path.
    pub fn get(&self, path: &Path) -> Option<&Seen> {
        self.records.get(path)
    }

    /// All records, sorted by path.
    pub fn records(&self) -> impl Iterator<Item = (&Path, &Seen)> {
        self.records.iter()
    }

    /// Records that say nothing or lie, with the reason.
    pub fn garbage(&self) -> impl Iterator<Item = (&Path, &Garbage)> {
        self.records
            .iter()
            .filter_map(|(path, seen)| Some((path, seen.record.as_ref().err()?)))
    }

    /// Pooler records of a cell that can be trusted.
    pub fn poolers<'a>(
        &'a self,
        cell: &'a str,
    ) -> impl Iterator<Item = (&'a Path, &'a Seen, &'a Pooler)> {
        self.records
            .iter()
            .filter_map(move |(path, seen)| match &seen.record {
                Ok(Record::Pooler(pooler)) if &*pooler.id.cell == cell => {
                    Some((path, seen, pooler.as_ref()))
                }
                _ => None,
            })
    }

    /// Gateway and multiorch records of a cell that can be trusted.
    pub fn processes<'a>(
        &'a self,
        cell: &'a str,
    ) -> impl Iterator<Item = (&'a Path, &'a Seen, Component, &'a Process)> {
        self.records
            .iter()
            .filter_map(move |(path, seen)| match (path, &seen.record) {
                (Path::Process(component, _), Ok(Record::Process(process)))
                    if &*process.id.cell == cell =>
                {
                    Some((path, seen, *component, process))
                }
                _ => None,
            })
    }

    /// True while a backup of the shard runs.
    pub fn backup_runs(&self, shard: &ShardId) -> bool {
        self.records.contains_key(&Path::BackupLock(shard.clone()))
    }
}

/// All stores of a cluster: the global one, and those of the cells. A cell without a store of its own lives in the global one.
#[derive(Clone, Debug)]
pub struct Views {
    /// The global store.
    pub global: View,
    /// The cells; `None`: in the global store.
    pub cells: BTreeMap<Box<str>, Option<View>>,
}

impl Views {
    /// The store that holds a cell's processes; `None` for a cell we do not know.
    pub fn of_cell(&self, cell: &str) -> Option<&View> {
        self.cells
            .get(cell)
            .map(|own| own.as_ref().unwrap_or(&self.global))
    }

    /// The store under this name: a cell's, or with an empty one the global store.
    pub fn of_store(&self, name: &str) -> Option<&View> {
        if name.is_empty() {
            Some(&self.global)
        } else {
            self.of_cell(name)
        }
    }

    /// The same, to be changed; `None` for a cell without a store of its own.
    pub fn own(&mut self, name: &str) -> Option<&mut View> {
        if name.is_empty() {
            Some(&mut self.global)
        } else {
            self.cells.get_mut(name)?.as_mut()
        }
    }

    /// Every store.
    pub fn all(&self) -> impl Iterator<Item = &View> {
        std::iter::once(&self.global).chain(self.cells.values().flatten())
    }

    /// Cells whose store is not completely known right now.
    pub fn silent(&self) -> Vec<&str> {
        self.cells
            .keys()
            .filter(|cell| !self.of_cell(cell).is_some_and(View::complete))
            .map(AsRef::as_ref)
            .collect()
    }

    /// Poolers of a shard in all cells, with the cell, sorted by cell and key.
    pub fn shard<'a>(
        &'a self,
        shard: &'a ShardId,
    ) -> impl Iterator<Item = (&'a str, &'a Path, &'a Seen, &'a Pooler)> {
        self.cells.keys().flat_map(move |cell| {
            self.of_cell(cell)
                .into_iter()
                .flat_map(|view| view.poolers(cell))
                .filter(move |(_, _, pooler)| pooler.shard == *shard)
                .map(|(path, seen, pooler)| (cell.as_ref(), path, seen, pooler))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: &str =
        "0a057a6f6e65311210657463642e6e732e7376633a323337391a102f6d756c7469677265732f7a6f6e6531";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    fn item(key: &str, value: Option<&[u8]>, version: i64) -> Item {
        Item {
            key: key.to_owned(),
            value: value.map(<[u8]>::to_vec),
            version,
        }
    }

    fn cell(view: &View) -> Option<i64> {
        view.get(&Path::Cell("zone1".into()))
            .map(|seen| seen.version)
    }

    #[test]
    fn the_newest_version_wins_whatever_the_order() {
        let mut view = View::new("/g/");
        let value = bytes(CELL);
        assert!(!view.complete());
        assert!(!view.replace(5, [item("/g/cells/zone1/Cell", Some(&value), 3)]));
        assert!(view.complete());
        view.wrote(item("/g/cells/zone1/Cell", Some(&value), 8));
        view.advance(6, [item("/g/cells/zone1/Cell", Some(&value), 6)]);
        assert_eq!(
            cell(&view),
            Some(8),
            "our own write is newer than the event"
        );
        view.wrote(item("/g/cells/zone1/Cell", None, 9));
        view.advance(8, [item("/g/cells/zone1/Cell", Some(&value), 8)]);
        assert_eq!(
            cell(&view),
            None,
            "our own deletion is newer than the event"
        );
        view.advance(10, [item("/g/cells/zone1/Cell", Some(&value), 10)]);
        assert_eq!(cell(&view), Some(10), "made again by somebody");
        assert!(!view.replace(10, [item("/g/cells/zone1/Cell", Some(&value), 10)]));
        view.wrote(item("/g/cells/zone1/Cell", Some(&value), 12));
        assert!(!view.replace(11, [item("/g/cells/zone1/Cell", Some(&value), 10)]));
        assert_eq!(
            cell(&view),
            Some(12),
            "answered while the read was under way"
        );
    }

    #[test]
    fn a_history_that_went_back_is_forgotten() {
        let mut view = View::new("/g");
        let value = bytes(CELL);
        view.replace(50, [item("/g/cells/zone1/Cell", Some(&value), 40)]);
        view.wrote(item("/g/cells/zone1/Cell", Some(&value), 60));
        view.lost();
        assert!(!view.complete() && view.known());
        assert!(view.replace(2, [item("/g/cells/zone1/Cell", Some(&value), 1)]));
        assert_eq!(cell(&view), Some(1));
    }

    #[test]
    fn garbage_is_set_apart() {
        let mut view = View::new("/g");
        let value = bytes(CELL);
        view.replace(
            9,
            [
                item("/g/cells/zone1/Cell", Some(&value), 1),
                item("/g/cells/zone2/Cell", Some(&value), 2),
                item("/g/cells/zone3/Cell", Some(&[0xff]), 3),
                item("/g/poolers/multipooler-a-b/Pooler", Some(&[]), 4),
                item("/g/elsewhere", Some(&[1]), 5),
            ],
        );
        let garbage: Vec<_> = view
            .garbage()
            .map(|(path, why)| (path.under(""), why.to_string()))
            .collect();
        assert_eq!(garbage.len(), 3);
        assert_eq!(garbage[0].0, "/cells/zone2/Cell");
        assert_eq!(garbage[0].1, "its value says it is \"zone1\"");
        assert!(
            garbage[1].1.starts_with("its value cannot be decoded"),
            "{}",
            garbage[1].1
        );
        assert_eq!(garbage[2].1, "its value says it is \"multipooler--\"");
        assert_eq!(view.records().count(), 4, "keys of others are not stored");
    }
}
