//! Is a cluster's topology reachable? One condition from the state of each of its stores (`TopologyReachable`).

use jiff::{SignedDuration, Timestamp};

use super::peer::Peer;
use super::view::View;
use crate::status::Condition;

/// A young cluster's etcd is still on its way up: nobody is alarmed before (`lessons.md` L-TOPO-08).
const YOUNG: SignedDuration = SignedDuration::from_mins(2);

/// One store of a cluster.
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    /// Its cell; `None`: the global one.
    pub cell: Option<&'a str>,
    /// What is known of it.
    pub view: &'a View,
    /// Its members, in the order in which they are tried.
    pub members: &'a [Peer],
    /// What keeps it from being dialled, or may keep it from being trusted, with the remedy.
    pub lacks: Option<String>,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `TopologyReachable`. Its text names instants, never ages, and no error text, which changes with each attempt.
    pub condition: Condition,
    /// Worth an event: not while the cluster is young.
    pub alarming: bool,
    /// When that changes though nothing else does.
    pub wake: Option<Timestamp>,
}

/// Judges the stores of a cluster created at `created`.
pub fn judge(stores: &[Reach<'_>], created: Timestamp, now: Timestamp) -> Verdict {
    let silent: Vec<&Reach<'_>> = stores
        .iter()
        .filter(|store| !store.view.complete())
        .collect();
    if silent.is_empty() {
        return Verdict {
            condition: Condition::new(
                "TopologyReachable",
                true,
                "Connected",
                "every store of the topology is read and followed",
            ),
            alarming: false,
            wake: None,
        };
    }
    let old_at = created.checked_add(YOUNG).ok();
    let young = old_at.filter(|at| *at > now);
    // A store that was there once is missed at once.
    let known = stores
        .iter()
        .any(|store| store.view.known() && !store.view.complete());
    let reason = if known || young.is_none() {
        "Unreachable"
    } else {
        "Waiting"
    };
    // While it waits, its members come up one by one: one text for the whole way.
    let words = silent.iter().map(|store| match reason {
        "Waiting" if store.lacks.is_none() => format!("waiting for {}", store.name()),
        _ => store.words(),
    });
    let words: Vec<String> = words.collect();
    Verdict {
        condition: Condition::new("TopologyReachable", false, reason, words.join("; ")),
        alarming: reason == "Unreachable",
        wake: young.filter(|_| reason == "Waiting"),
    }
}

impl Reach<'_> {
    fn name(&self) -> String {
        self.cell.map_or_else(
            || "the global topology store".to_owned(),
            |cell| format!("the topology store of cell {cell}"),
        )
    }

    /// Which store, since when, and what was tried.
    fn words(&self) -> String {
        let store = self.name();
        if self.members.is_empty() {
            return match &self.lacks {
                Some(what) => format!("{store} is not dialled: {what}"),
                None => format!("{store} has no member to be reached at"),
            };
        }
        let addresses: Vec<&str> = self.members.iter().map(|member| &*member.address).collect();
        let since = self
            .members
            .iter()
            .filter_map(|member| member.failing_since)
            .min();
        let since = since.map_or_else(String::new, |at| {
            format!(" since {}", at.strftime("%Y-%m-%dT%H:%M:%SZ"))
        });
        let hint = self.lacks.as_ref();
        let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
        format!(
            "{store} has not answered{since}, tried at {}{hint}",
            addresses.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology_store::peer::Outcome;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn condition(status: bool, reason: &str, message: &str) -> Condition {
        Condition::new("TopologyReachable", status, reason, message)
    }

    #[test]
    fn a_young_cluster_waits_quietly_and_an_old_one_complains() {
        let view = View::new("/r");
        let mut member = Peer::at("10.0.0.1:2379");
        member.learn(Outcome::Unreachable, "connection refused", at(30));
        member.learn(Outcome::Unreachable, "timed out", at(40));
        let members = [member, Peer::at("10.0.0.2:2379")];
        let store = || Reach {
            cell: None,
            view: &view,
            members: &members,
            lacks: None,
        };
        let text = "the global topology store has not answered since 1970-01-01T00:00:30Z, tried at 10.0.0.1:2379, 10.0.0.2:2379";
        let young = judge(&[store()], at(0), at(50));
        let waiting = "waiting for the global topology store";
        assert_eq!(young.condition, condition(false, "Waiting", waiting));
        assert!(!young.alarming);
        assert_eq!(young.wake, Some(at(120)));
        let old = judge(&[store()], at(0), at(120));
        assert_eq!(old.condition, condition(false, "Unreachable", text));
        assert!(old.alarming && old.wake.is_none());
        assert_eq!(
            old,
            judge(&[store()], at(0), at(90_000)),
            "its text does not age"
        );
    }

    #[test]
    fn a_store_that_was_there_is_missed_at_once_and_by_name() {
        let mut good = View::new("/r");
        good.replace(1, []);
        let mut bad = View::new("/s");
        bad.replace(1, []);
        let stores = |good, bad| {
            [
                Reach {
                    cell: None,
                    view: good,
                    members: &[],
                    lacks: None,
                },
                Reach {
                    cell: Some("zone1"),
                    view: bad,
                    members: &[],
                    lacks: None,
                },
            ]
        };
        assert!(
            judge(&stores(&good, &bad), at(0), at(1)).condition
                == condition(
                    true,
                    "Connected",
                    "every store of the topology is read and followed"
                )
        );
        let mut lost = bad.clone();
        lost.lost();
        let verdict = judge(&stores(&good, &lost), at(0), at(1));
        assert_eq!(
            verdict.condition,
            condition(
                false,
                "Unreachable",
                "the topology store of cell zone1 has no member to be reached at"
            )
        );
        assert!(verdict.alarming);
    }
}
