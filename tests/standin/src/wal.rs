//! A write-ahead log, as far as the question "who holds this write" needs it: which term wrote up to where.

use serde::Serialize;

use crate::lsn::Lsn;

/// A stretch of the log that was written under one term.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Segment {
    term: i64,
    end: Lsn,
}

/// A write-ahead log.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Wal {
    /// Oldest first; each begins where its predecessor ends.
    segments: Vec<Segment>,
}

impl Wal {
    /// The end of the log.
    pub fn head(&self) -> Lsn {
        self.segments
            .last()
            .map_or_else(Lsn::default, |last| last.end)
    }

    /// Writes so many bytes under a term and returns the new end.
    pub fn append(&mut self, term: i64, bytes: u64) -> Lsn {
        let end = self.head().plus(bytes);
        match self.segments.last_mut().filter(|last| last.term == term) {
            Some(last) => last.end = end,
            None => self.segments.push(Segment { term, end }),
        }
        end
    }

    /// Whether the write that ended here under this term is part of the log.
    pub fn holds(&self, term: i64, end: Lsn) -> bool {
        let mut start = Lsn::default();
        self.segments.iter().any(|segment| {
            let held = segment.term == term && start < end && end <= segment.end;
            start = segment.end;
            held
        })
    }

    /// Whether another log goes on where this one ends: then this one can follow by streaming, without a rewind.
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        match self.segments.last() {
            None => true,
            Some(last) => other.holds(last.term, last.end),
        }
    }

    /// What both logs have in common: what a rewind leaves.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut segments = Vec::new();
        for (own, theirs) in self.segments.iter().zip(&other.segments) {
            if own.term != theirs.term {
                break;
            }
            let end = own.end.min(theirs.end);
            segments.push(Segment {
                term: own.term,
                end,
            });
            if own.end != theirs.end {
                break;
            }
        }
        Self { segments }
    }

    /// The bytes that this log lacks to reach another one's end.
    pub fn behind(&self, other: &Self) -> u64 {
        other.head().0.saturating_sub(self.head().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_belongs_to_its_term() {
        let mut old = Wal::default();
        let kept = old.append(1, 100);
        let mut new = old.clone();
        let lost = old.append(1, 50);
        new.append(2, 80);
        assert!(old.holds(1, kept) && new.holds(1, kept));
        assert!(old.holds(1, lost));
        assert!(!new.holds(1, lost), "the same position of another term");
        assert!(!old.is_prefix_of(&new), "diverged");
        assert!(!new.is_prefix_of(&old));
        let rewound = old.common(&new);
        assert!(rewound.holds(1, kept) && !rewound.holds(1, lost));
        assert!(rewound.is_prefix_of(&new));
    }

    #[test]
    fn a_log_that_is_behind_is_a_prefix() {
        let mut leader = Wal::default();
        leader.append(1, 100);
        let follower = leader.clone();
        leader.append(1, 10);
        leader.append(3, 10);
        assert!(follower.is_prefix_of(&leader));
        assert_eq!(follower.behind(&leader), 20);
        assert!(Wal::default().is_prefix_of(&leader));
        assert!(!leader.is_prefix_of(&follower));
    }
}
