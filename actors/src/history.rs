//! The last decisions of an actor, for introspection. Kept as text and bounded in bytes: a fleet has thousands of actors, and
//! most of their decisions are never read.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::action::Planned;

/// Decisions that are kept.
const DECISIONS: usize = 8;

/// Bytes that all of them may take; the newest one is cut to it.
const BYTES: usize = 2048;

/// Decisions that asked for something, oldest first.
#[derive(Debug, Default)]
pub struct History(VecDeque<Record>);

#[derive(Debug)]
struct Record {
    at: Timestamp,
    /// Inputs and actions, as JSON.
    told: Box<str>,
}

impl Record {
    fn new(at: Timestamp, inputs: &[String], actions: &[Planned]) -> Self {
        let mut left = BYTES;
        let inputs = within(&mut left, inputs.len(), inputs.iter().cloned());
        let actions = within(&mut left, actions.len(), actions.iter().map(line));
        let told = json!({"inputs": inputs, "actions": actions}).to_string();
        Self {
            at,
            told: told.into(),
        }
    }
}

/// Verb, object, reason. The namespace is the actor's.
fn line(planned: &Planned) -> String {
    let (key, _) = planned.action.lane();
    let (verb, kind) = (planned.action.verb(), key.kind.name());
    format!("{verb} {kind} {}: {}", key.name, planned.reason)
}

/// As many lines as fit into what is left, and how many more there were.
fn within(left: &mut usize, count: usize, lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    for line in lines {
        let Some(rest) = left.checked_sub(line.len()) else {
            kept.push(format!("and {} more", count - kept.len()));
            break;
        };
        *left = rest;
        kept.push(line);
    }
    kept
}

impl History {
    /// Remembers a decision, unless it asked for nothing.
    pub fn add(&mut self, at: Timestamp, inputs: &[String], actions: &[Planned]) {
        if actions.is_empty() {
            return;
        }
        self.0.push_back(Record::new(at, inputs, actions));
        while self.0.len() > DECISIONS || (self.0.len() > 1 && self.bytes() > BYTES) {
            self.0.pop_front();
        }
        self.0.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|record| record.told.len()).sum()
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|record| {
            // Text that we made of JSON is JSON.
            let mut told: Value = serde_json::from_str(&record.told).unwrap_or_default();
            if let Some(map) = told.as_object_mut() {
                map.insert("at".to_owned(), record.at.to_string().into());
            }
            told
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;
    use crate::object::{Key, Kind};

    fn actions(count: usize) -> Vec<Planned> {
        let read = |number| Planned {
            action: Action::Read {
                key: Key::new(Kind::Service, "n", &format!("service-{number}")),
            },
            reason: "why".to_owned(),
        };
        (0..count).map(read).collect()
    }

    fn told(history: &History) -> Value {
        serde_json::to_value(history).unwrap()
    }

    #[test]
    fn a_decision_is_told_with_its_inputs_actions_and_reasons() {
        let mut history = History::default();
        history.add(Timestamp::UNIX_EPOCH, &["an input".to_owned()], &actions(1));
        history.add(Timestamp::UNIX_EPOCH, &["nothing to do".to_owned()], &[]);
        assert_eq!(
            told(&history),
            json!([{"at": "1970-01-01T00:00:00Z", "inputs": ["an input"], "actions": ["read Service service-0: why"]}])
        );
    }

    #[test]
    fn the_newest_decisions_are_kept_within_bounds() {
        let mut history = History::default();
        for number in 0..100 {
            history.add(
                Timestamp::from_second(number).unwrap(),
                &[],
                &actions(1 + number as usize % 20),
            );
            assert!(history.bytes() <= BYTES + 200);
        }
        let told = told(&history);
        assert!(told.as_array().unwrap().len() <= DECISIONS);
        assert_eq!(
            told.as_array().unwrap().last().unwrap()["at"],
            "1970-01-01T00:01:39Z"
        );
    }

    #[test]
    fn a_decision_too_large_to_keep_says_how_much_is_missing() {
        let mut history = History::default();
        history.add(Timestamp::UNIX_EPOCH, &[], &actions(500));
        let told = told(&history);
        let lines = told[0]["actions"].as_array().unwrap();
        let kept = lines.len() - 1;
        assert_eq!(lines[kept], format!("and {} more", 500 - kept));
        assert!(kept > 20 && history.bytes() <= BYTES + 300);
    }
}
