//! What the operator noticed that should not be: shown by introspection and counted, never acted on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::object::Key;
use crate::room::ActorId;

/// Findings that are kept; more of them are counted in the log only, since each is logged when it is new.
const MOST: usize = 256;

/// One finding about one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// CamelCase rule that was broken.
    pub rule: &'static str,
    /// What it means and what to look for.
    pub message: &'static str,
    /// Whose object it is.
    #[serde(serialize_with = "as_text")]
    pub actor: ActorId,
    /// Since when.
    pub since: Timestamp,
}

fn as_text<S: Serializer>(actor: &ActorId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(actor)
}

impl Finding {
    /// The server accepts a write and stores what was there before (`design.md` 2, "When to write").
    pub fn futile(actor: &ActorId, since: Timestamp) -> Self {
        Self {
            rule: "FutileWrite",
            message: "the API server accepts the object and keeps another one: an admission webhook or a schema changes it; \
                      it is not written again until it changes",
            actor: actor.clone(),
            since,
        }
    }
}

/// The findings, one an object.
#[derive(Debug, Default)]
pub struct Findings(BTreeMap<Key, Finding>);

impl Serialize for Findings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(key, finding)| (key.to_string(), finding)),
        )
    }
}

impl Findings {
    /// Adds a finding; a repeated one keeps its first instant.
    pub fn add(&mut self, key: &Key, finding: Finding) {
        if self
            .0
            .get(key)
            .is_some_and(|known| known.rule == finding.rule)
        {
            return;
        }
        tracing::warn!(object = %key, actor = %finding.actor, rule = finding.rule, "{}", finding.message);
        if self.0.len() < MOST {
            self.0.insert(key.clone(), finding);
        }
    }

    /// The object is as it should be, or gone.
    pub fn clear(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Of one actor, by object.
    pub fn of(&self, actor: &ActorId) -> BTreeMap<String, &Finding> {
        self.0
            .iter()
            .filter(|(_, finding)| finding.actor == *actor)
            .map(|(key, finding)| (key.to_string(), finding))
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An actor's resource is gone.
    pub fn forget(&mut self, actor: &ActorId) {
        self.0.retain(|_, finding| finding.actor != *actor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    #[test]
    fn a_finding_stays_until_its_object_is_right_or_its_actor_is_gone() {
        let actor = ActorId::custom(Kind::Shard, "u");
        let (early, late): (Timestamp, Timestamp) = (
            "2026-01-01T00:00:00Z".parse().unwrap(),
            "2026-01-02T00:00:00Z".parse().unwrap(),
        );
        let (one, two) = (
            Key::new(Kind::Service, "n", "a"),
            Key::new(Kind::Service, "n", "b"),
        );
        let mut findings = Findings::default();
        findings.add(&one, Finding::futile(&actor, early));
        findings.add(&one, Finding::futile(&actor, late));
        findings.add(&two, Finding::futile(&actor, late));
        assert_eq!(findings.of(&actor)["Service n/a"].since, early);
        findings.clear(&one);
        assert_eq!(findings.len(), 1);
        findings.forget(&actor);
        assert!(findings.is_empty());
    }

    #[test]
    fn findings_are_bounded() {
        let actor = ActorId::custom(Kind::Shard, "u");
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut findings = Findings::default();
        for number in 0..2 * MOST {
            findings.add(
                &Key::new(Kind::Service, "n", &number.to_string()),
                Finding::futile(&actor, now),
            );
        }
        assert_eq!(findings.len(), MOST);
    }
}
