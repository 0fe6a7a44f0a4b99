//! Keeps the cells and databases of a cluster in its topology: create or compare-and-swap, and only on difference.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::desired::{Desired, DesiredCell};
use super::key::Path;
use super::record::{Lifecycle, Record};
use super::view::Views;
use super::{Held, Write, edit, peer};

/// Attempts in a row that may follow each other at once; a record that others change that often is not fought over.
const ATTEMPTS: u32 = 5;
/// An answer that has not come by then never will: twice the deadline of a write.
const ANSWER_BOUND: SignedDuration = SignedDuration::from_secs(10);

/// A record that was left alone this long by others starts anew.
const QUIET: SignedDuration = SignedDuration::from_secs(60);

/// What the actor remembers of its writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    writes: BTreeMap<Box<str>, Attempts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Attempts {
    /// Sent and not answered yet.
    sent: Option<Timestamp>,
    /// Writes in a row, won or lost.
    count: u32,
    not_before: Option<Timestamp>,
    answered: Option<Timestamp>,
}

impl State {
    /// A write was answered: won, lost against somebody else's, or failed. The outcome does not matter here: after a loss the
    /// record is read and compared again, and after a win it should stay as it is. The pace slows down either way.
    pub fn answered(&mut self, key: &str, now: Timestamp) {
        let attempts = self.writes.entry(key.into()).or_default();
        attempts.sent = None;
        attempts.answered = Some(now);
        attempts.count = attempts.count.saturating_add(1);
        attempts.not_before = attempts
            .count
            .checked_sub(ATTEMPTS)
            .and_then(|over| now.checked_add(peer::delay(key, over)).ok());
    }

    /// May this key be written now? Otherwise: when to look again.
    fn may_write(&self, key: &str, now: Timestamp) -> Result<(), Timestamp> {
        let Some(attempts) = self.writes.get(key) else {
            return Ok(());
        };
        let answer = attempts
            .sent
            .and_then(|sent| sent.checked_add(ANSWER_BOUND).ok());
        match answer.max(attempts.not_before) {
            Some(at) if at > now => Err(at),
            _ => Ok(()),
        }
    }

    /// Forgets a record that is as it should be and was left alone for a while.
    fn good(&mut self, key: &str, now: Timestamp) {
        let quiet = self.writes.get(key).is_some_and(|attempts| {
            attempts
                .answered
                .is_none_or(|at| now.duration_since(at) >= QUIET)
        });
        if quiet {
            self.writes.remove(key);
        } else if let Some(attempts) = self.writes.get_mut(key) {
            attempts.sent = None;
        }
    }
}

/// What to do about registration.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// The state to keep.
    pub state: State,
    /// Compare-and-swaps to send now.
    pub writes: Vec<Write>,
    /// What is wrong and left alone.
    pub held: Vec<Held>,
    /// True when every record is as desired.
    pub settled: bool,
    /// When to look again though nothing changed.
    pub wake: Option<Timestamp>,
}

/// Decides. Nothing is written before the global store was read completely: what looks absent may only not have been read.
/// `pods` tells whether a cell has pods of ours (`None`: not known).
pub fn decide(
    desired: &Desired,
    views: &Views,
    pods: impl Fn(&str) -> Option<bool>,
    state: &State,
    now: Timestamp,
) -> Registration {
    let mut plan = Registration {
        state: state.clone(),
        writes: Vec::new(),
        held: Vec::new(),
        settled: views.global.complete(),
        wake: None,
    };
    if !views.global.complete() {
        return plan;
    }
    for cell in &desired.cells {
        let path = Path::Cell(cell.name.as_str().into());
        let verdict = match views.global.get(&path) {
            None => Verdict::Write(edit::cell(&[], cell), 0),
            Some(seen) => match &seen.record {
                Ok(Record::Cell(found)) if cell.matches(found) => Verdict::Good,
                Ok(Record::Cell(found))
                    if !cell.same_place(found) && !may_move(cell, views, &pods) =>
                {
                    Verdict::Hold(format!(
                        "the specification moves cell {} from {} at {:?} to {} at {:?} while its poolers live: they would be \
                         out of sight of each other",
                        cell.name, found.root, found.server_addresses, cell.root, cell.servers,
                    ))
                }
                Ok(_) => Verdict::Write(edit::cell(&seen.value, cell), seen.version),
                Err(why) => Verdict::Hold(why.to_string()),
            },
        };
        plan.take(&path, views.global.root(), verdict, now);
    }
    for database in &desired.databases {
        let path = Path::Database(database.name.as_str().into());
        let verdict = match views.global.get(&path) {
            None => Verdict::Write(edit::database(&[], database), 0),
            Some(seen) => match &seen.record {
                Ok(Record::Database(found)) if database.matches(found) => Verdict::Good,
                Ok(_) => Verdict::Write(edit::database(&seen.value, database), seen.version),
                Err(why) => Verdict::Hold(why.to_string()),
            },
        };
        plan.take(&path, views.global.root(), verdict, now);
    }
    plan
}

/// A cell's record may be pointed at another place when its poolers are seen there already (somebody changed the record), or
/// when it has no pods.
fn may_move(cell: &DesiredCell, views: &Views, pods: &impl Fn(&str) -> Option<bool>) -> bool {
    let lives_there = views.of_cell(&cell.name).is_some_and(|view| {
        view.poolers(&cell.name)
            .any(|(_, _, pooler)| pooler.lifecycle != Lifecycle::Shutdown)
    });
    lives_there || pods(&cell.name) == Some(false)
}

enum Verdict {
    Good,
    Write(Result<Vec<u8>, super::wire::Malformed>, i64),
    Hold(String),
}

impl Registration {
    fn take(&mut self, path: &Path, root: &str, verdict: Verdict, now: Timestamp) {
        let key = path.under(root);
        let (value, version) = match verdict {
            Verdict::Good => {
                self.state.good(&key, now);
                return;
            }
            Verdict::Write(Ok(value), version) => (value, version),
            Verdict::Write(Err(why), _) => return self.hold(key, why.to_string()),
            Verdict::Hold(why) => return self.hold(key, why),
        };
        self.settled = false;
        match self.state.may_write(&key, now) {
            Err(at) => self.wake = Some(self.wake.map_or(at, |wake| wake.min(at))),
            Ok(()) => {
                let attempt = self.state.writes.entry(key.as_str().into()).or_default();
                attempt.sent = Some(now);
                self.writes.push(Write {
                    key: key.into(),
                    value: Some(value),
                    version,
                    reason: if version == 0 {
                        "is not registered"
                    } else {
                        "differs from the specification"
                    },
                });
            }
        }
    }

    fn hold(&mut self, key: String, why: String) {
        self.settled = false;
        self.held.push(Held {
            key: key.into(),
            why,
        });
    }
}
