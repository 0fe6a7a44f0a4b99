//! Who led when, and who wrote in whose term, from the audit log.
//!
//! Processes that share a ServiceAccount are told apart by their tokens. All instants are the API server's, so one clock.

use control_plane::Entry;
use jiff::Timestamp;

/// The time in which one process held the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Whose, by its token.
    pub leader: String,
    /// When its first write of the Lease arrived.
    pub from: Timestamp,
    /// When its first other write arrived; None = it made none.
    pub first_write: Option<Timestamp>,
    /// How many other writes it made.
    pub writes: usize,
}

/// The terms in an excerpt of the log, by their beginnings. A leader that gives the Lease back ends its term with the next one's.
pub fn terms(entries: &[Entry]) -> Vec<Term> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by_key(|entry| entry.at);
    let mut terms: Vec<Term> = Vec::new();
    for entry in entries {
        if holds(entry)
            && terms
                .last()
                .is_none_or(|term| term.leader != entry.credential)
        {
            terms.push(Term {
                leader: entry.credential.clone(),
                from: entry.at,
                first_write: None,
                writes: 0,
            });
        } else if entry.is_write()
            && let Some(term) = terms
                .last_mut()
                .filter(|term| term.leader == entry.credential)
        {
            term.first_write.get_or_insert(entry.at);
            term.writes += 1;
        }
    }
    terms
}

/// Writes, refused ones too, that were under way in the term of another process after that process had begun to write.
pub fn intrusions<'a>(entries: &'a [Entry], terms: &[Term]) -> Vec<&'a Entry> {
    let end = |index: usize| terms.get(index + 1).map(|next| next.from);
    let intrudes = |entry: &Entry| {
        terms.iter().enumerate().any(|(index, term)| {
            term.leader != entry.credential
                && term.first_write.is_some_and(|first| entry.answered > first)
                && end(index).is_none_or(|end| entry.at < end)
        })
    };
    entries
        .iter()
        .filter(|entry| entry.is_write() && intrudes(entry))
        .collect()
}

fn holds(entry: &Entry) -> bool {
    entry.resource == "leases"
        && matches!(entry.verb.as_str(), "create" | "update")
        && entry.succeeded()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(credential: &str, resource: &str, at: i64, answered: i64) -> Entry {
        let time = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap();
        Entry {
            user: "operator".into(),
            credential: credential.into(),
            user_agent: String::new(),
            verb: "update".into(),
            group: String::new(),
            resource: resource.into(),
            subresource: String::new(),
            namespace: "n".into(),
            name: "x".into(),
            code: 200,
            at: time(at),
            answered: time(answered),
        }
    }

    fn log() -> Vec<Entry> {
        vec![
            entry("a", "leases", 10, 11),
            entry("a", "services", 12, 13),
            entry("a", "leases", 20, 21),
            entry("a", "services", 22, 23),
            entry("b", "leases", 30, 31),
            entry("b", "services", 40, 41),
            entry("a", "leases", 50, 51),
            entry("a", "services", 52, 53),
        ]
    }

    #[test]
    fn a_term_begins_with_another_writer_of_the_lease() {
        let terms = terms(&log());
        let short: Vec<_> = terms
            .iter()
            .map(|term| {
                (
                    term.leader.as_str(),
                    term.from.as_millisecond(),
                    term.writes,
                )
            })
            .collect();
        assert_eq!(short, [("a", 10, 2), ("b", 30, 1), ("a", 50, 1)]);
        assert_eq!(
            terms[1].first_write.map(Timestamp::as_millisecond),
            Some(40)
        );
    }

    #[test]
    fn a_write_in_the_term_of_another_is_found() {
        let mut log = log();
        assert!(intrusions(&log, &terms(&log)).is_empty());
        log.push(entry("a", "pods", 45, 46));
        let found = intrusions(&log, &terms(&log));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].resource, "pods");
    }

    #[test]
    fn a_write_that_is_answered_too_late_counts_too_and_one_before_the_first_write_does_not() {
        let mut late = log();
        late.push(entry("a", "pods", 29, 42));
        assert_eq!(intrusions(&late, &terms(&late)).len(), 1);
        let mut early = log();
        early.push(entry("a", "pods", 29, 39));
        assert!(intrusions(&early, &terms(&early)).is_empty());
    }
}
