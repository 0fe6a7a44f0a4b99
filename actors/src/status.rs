//! Rules that every status obeys: transition times move only with the status value, conditions carry the generation they were
//! computed for, a write happens only on difference, mere counts may trail (`design.md` 7, `lessons.md` L-STAT).

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::action::{Action, Decision, Event, Manager};
use crate::entry::Entry;
use crate::object::Kind;

/// A condition as a room computes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    kind: &'static str,
    status: bool,
    reason: String,
    message: String,
}

impl Condition {
    /// A condition; `message` holds no counters and no ages.
    pub fn new(kind: &'static str, status: bool, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// What a resource's status says of `kind` now: for what cannot be told anew yet.
    pub fn told_before(me: &Entry, kind: &'static str) -> Option<Self> {
        let status = me.status_value();
        let before = condition(&status, kind)?;
        Some(Self {
            kind,
            status: is_true(before),
            reason: text(before, "reason").to_owned(),
            message: text(before, "message").to_owned(),
        })
    }

    /// Its text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Its reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The condition is True.
    pub const fn holds(&self) -> bool {
        self.status
    }
}

/// A text of a status or of a condition; empty when there is none.
pub fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A condition in a status, whoever wrote it.
pub fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    let all = status.get("conditions")?.as_array()?;
    all.iter().find(|condition| text(condition, "type") == kind)
}

/// Is this condition True?
pub fn is_true(condition: &Value) -> bool {
    text(condition, "status") == "True"
}

/// The phases of `api.md` 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing there yet.
    Initializing,
    /// Under way.
    Progressing,
    /// Everything wanted is there.
    Healthy,
    /// Something is broken by positive evidence.
    Degraded,
}

impl Phase {
    /// As it stands in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Initializing => "Initializing",
            Phase::Progressing => "Progressing",
            Phase::Healthy => "Healthy",
            Phase::Degraded => "Degraded",
        }
    }
}

/// What stands in the way of a resource: shown in its conditions, blocks only it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Obstacle {
    /// CamelCase reason.
    pub reason: &'static str,
    /// Object, field, value and remedy.
    pub message: String,
}

/// The status writer of a kind (`api.md` 5.4).
pub const fn manager(kind: Kind) -> Manager {
    match kind {
        Kind::Shard => Manager::ShardStatus,
        _ => Manager::Operator,
    }
}

/// `Ready`, `Reconciling` and `Stalled` as kstatus wants them, from phase and obstacles.
pub fn kstatus(phase: Phase, message: &str, obstacles: &[Obstacle]) -> Vec<Condition> {
    let ready = Condition::new("Ready", phase == Phase::Healthy, phase.name(), message);
    std::iter::once(ready)
        .chain(progress(phase, message, obstacles))
        .collect()
}

/// The same without `Ready`, for kinds whose API has reasons of its own for it.
pub fn progress(phase: Phase, message: &str, obstacles: &[Obstacle]) -> [Condition; 2] {
    let obstacle = obstacles.first();
    let reconciling = obstacle.is_none() && phase != Phase::Healthy;
    let stalled = match obstacle {
        Some(obstacle) => Condition::new("Stalled", true, obstacle.reason, &obstacle.message),
        None => Condition::new("Stalled", false, "NoObstacle", "nothing stands in the way"),
    };
    [
        Condition::new("Reconciling", reconciling, phase.name(), message),
        stalled,
    ]
}

/// What was asked of volumes and cannot be done: one condition, with the reason of the first.
pub fn volume_change_held<'a>(told: impl Iterator<Item = &'a Obstacle>) -> Option<Condition> {
    let mut told: Vec<&Obstacle> = told.collect();
    told.sort_by(|a, b| a.message.cmp(&b.message));
    let first = told.first()?;
    let messages: Vec<&str> = told.iter().map(|one| one.message.as_str()).collect();
    let message = messages.join("; ");
    Some(Condition::new(
        "VolumeChangeHeld",
        true,
        first.reason,
        message,
    ))
}

/// `status` with these conditions in place of its own of the same types; transition times come from `before` where the value
/// did not change.
pub fn with_conditions(
    mut status: Value,
    before: &Value,
    conditions: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Value {
    let kept = status
        .get("conditions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut list: Vec<Value> = kept
        .into_iter()
        .filter(|c| !conditions.iter().any(|new| text(c, "type") == new.kind))
        .collect();
    for new in conditions {
        let value = if new.status { "True" } else { "False" };
        let moved = condition(before, new.kind)
            .filter(|c| text(c, "status") == value)
            .and_then(|c| c.get("lastTransitionTime").cloned());
        list.push(json!({
            "type": new.kind, "status": value, "reason": new.reason, "message": new.message,
            "observedGeneration": generation,
            "lastTransitionTime": moved.unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
        }));
    }
    list.sort_by(|a, b| text(a, "type").cmp(text(b, "type")));
    if let Some(map) = status.as_object_mut() {
        map.insert("conditions".into(), Value::Array(list));
    }
    status
}

/// How long mere counts may trail behind, so that a bring-up does not write a status per pod.
const COUNTS_TRAIL: SignedDuration = SignedDuration::from_millis(500);

/// Since when a difference in mere counts waits; part of a room's state.
pub type Trail = Option<Timestamp>;

/// What an actor that writes a status remembers between decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct State {
    /// Since when a mere count waits.
    pub trail: Trail,
}

/// What an actor that writes a status remembers, whatever else it remembers.
pub trait Remembers {
    /// Since when a mere count waits.
    fn trail(&mut self) -> &mut Trail;
}

impl Remembers for State {
    fn trail(&mut self) -> &mut Trail {
        &mut self.trail
    }
}

/// A computed status: phase, message, conditions and the kind's own fields.
#[derive(Clone, Debug)]
pub struct Computed {
    /// Phase.
    pub phase: Phase,
    /// Detail of the phase, without counters.
    pub message: String,
    /// All conditions.
    pub conditions: Vec<Condition>,
    /// Events that tell of a condition, by its type: sent when it was another one before.
    pub news: Vec<(&'static str, Event)>,
    /// Fields of the kind; counts among them may trail. Null takes a field away that would be kept.
    pub fields: Map<String, Value>,
    /// When it may come out differently though nothing is heard.
    pub ask_again: Option<Timestamp>,
    /// Fields that are kept as they are when this version does not compute them.
    pub kept: &'static [&'static str],
}

/// Adds the status write to a decision when there is something to say.
pub fn write<S>(
    decision: &mut Decision<S>,
    trail: &mut Trail,
    me: &Entry,
    computed: Computed,
    now: Timestamp,
) {
    decision.wake_at(computed.ask_again);
    let before = me.status_value();
    let mut fields = computed.fields;
    for name in computed.kept {
        if let Some(value) = before.get(*name) {
            fields
                .entry((*name).to_owned())
                .or_insert_with(|| value.clone());
        }
    }
    fields.retain(|_, value| !value.is_null());
    fields.insert("phase".into(), computed.phase.name().into());
    fields.insert("message".into(), computed.message.clone().into());
    fields.insert("observedGeneration".into(), me.generation.into());
    let next = with_conditions(
        Value::Object(fields),
        &before,
        &computed.conditions,
        me.generation,
        now,
    );
    if next == before {
        *trail = None;
        return;
    }
    if essence(&next) == essence(&before) {
        let since = *trail.get_or_insert(now);
        let due = since.saturating_add(COUNTS_TRAIL).unwrap_or(now);
        if now < due {
            decision.wake_at(due);
            return;
        }
    }
    *trail = None;
    let mut events: Vec<Event> = transition(&before, &next, &computed.message)
        .into_iter()
        .collect();
    let news = computed.news.into_iter();
    events.extend(
        news.filter(|(kind, _)| content(&before, kind) != content(&next, kind))
            .map(|(_, event)| event),
    );
    let permit = |status: &Value| status.get("disruption").cloned();
    let version = (permit(&before) != permit(&next)).then_some(me.version);
    decision.act(
        "the status differs from what is observed",
        Action::Status {
            key: me.key().clone(),
            uid: me.uid.clone(),
            version,
            status: next,
            manager: manager(me.key().kind),
            events,
        },
    );
}

/// Status, reason and message of a condition.
fn content<'a>(status: &'a Value, kind: &str) -> Option<[&'a Value; 3]> {
    let condition = condition(status, kind)?;
    Some(["status", "reason", "message"].map(|field| condition.get(field).unwrap_or(&Value::Null)))
}

/// Fields that hold or sum up counts only; what matters of them is in a condition, the phase or `podRoles` too.
const COUNTS: [&str; 5] = ["cells", "databases", "members", "orchReady", "poolsReady"];

/// What must be told at once: everything but numbers and what sums them up.
fn essence(status: &Value) -> Value {
    fn strip(value: &Value) -> Value {
        match value {
            Value::Object(map) => map
                .iter()
                .filter(|(name, _)| {
                    !COUNTS.contains(&name.as_str()) && *name != "lastTransitionTime"
                })
                .filter(|(name, value)| !value.is_number() || name.as_str() == "observedGeneration")
                .map(|(name, value)| (name.clone(), strip(value)))
                .collect(),
            Value::Array(list) => list.iter().map(strip).collect(),
            other => other.clone(),
        }
    }
    strip(status)
}

/// One event per transition: of the phase, or of what stalls the resource.
fn transition(before: &Value, next: &Value, message: &str) -> Option<Event> {
    fn stalled(status: &Value) -> Option<[&str; 2]> {
        let stalled = condition(status, "Stalled").filter(|condition| is_true(condition))?;
        Some(["reason", "message"].map(|field| text(stalled, field)))
    }
    let (was, is) = (stalled(before), stalled(next));
    if is != was
        && let Some([reason, message]) = is
    {
        return Some(Event {
            reason: reason.to_owned(),
            message: message.to_owned(),
            warning: true,
        });
    }
    let (old, new) = (text(before, "phase"), text(next, "phase"));
    // That work on a new resource has begun is no news.
    let begins = [Phase::Initializing, Phase::Progressing].map(Phase::name);
    let begins = old.is_empty() && begins.contains(&new);
    (old != new && !begins).then(|| Event {
        reason: "PhaseChange".into(),
        message: if old.is_empty() {
            format!("{new}: {message}")
        } else {
            format!("{old} → {new}: {message}")
        },
        warning: new == Phase::Degraded.name(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_event_tells_of_what_a_new_resource_came_to_and_not_of_its_beginning() {
        let status = |phase: Phase| json!({"phase": phase.name()});
        let told = |before: &Value, next: Phase| {
            transition(before, &status(next), "why").map(|event| (event.message, event.warning))
        };
        let new = json!({});
        assert_eq!(told(&new, Phase::Initializing), None);
        assert_eq!(told(&new, Phase::Progressing), None);
        let broken = Some(("Degraded: why".to_owned(), true));
        assert_eq!(told(&new, Phase::Degraded), broken);
        let there = Some(("Progressing → Healthy: why".to_owned(), false));
        assert_eq!(told(&status(Phase::Progressing), Phase::Healthy), there);
        let again = Some(("Healthy → Progressing: why".to_owned(), false));
        assert_eq!(told(&status(Phase::Healthy), Phase::Progressing), again);
        assert_eq!(told(&status(Phase::Healthy), Phase::Healthy), None);
    }

    #[test]
    fn transition_time_moves_only_with_the_value() {
        let first = with_conditions(
            json!({}),
            &json!({}),
            &[Condition::new("Ready", false, "A", "a")],
            1,
            at("2026-01-01T00:00:00Z"),
        );
        let second = with_conditions(
            json!({}),
            &first,
            &[Condition::new("Ready", false, "B", "b")],
            2,
            at("2026-01-02T00:00:00Z"),
        );
        assert_eq!(
            second["conditions"][0]["lastTransitionTime"],
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(second["conditions"][0]["observedGeneration"], 2);
        let third = with_conditions(
            json!({}),
            &second,
            &[Condition::new("Ready", true, "B", "b")],
            2,
            at("2026-01-03T00:00:00Z"),
        );
        assert_eq!(
            third["conditions"][0]["lastTransitionTime"],
            "2026-01-03T00:00:00Z"
        );
    }

    #[test]
    fn mere_counts_trail_and_phases_do_not() {
        let me = Entry {
            key: Some(crate::object::Key::new(Kind::Cell, "n", "c")),
            generation: 1,
            ..Entry::default()
        };
        let computed = |ready: i64, phase| Computed {
            phase,
            message: "m".into(),
            conditions: vec![],
            news: Vec::new(),
            fields: Map::from_iter([
                ("gatewayReadyReplicas".to_owned(), json!(ready)),
                ("orchReady".to_owned(), json!(ready > 0)),
            ]),
            ask_again: None,
            kept: &[],
        };
        let now = at("2026-01-01T00:00:00Z");
        let mut decision = Decision::idle(());
        let mut trail = None;
        write(
            &mut decision,
            &mut trail,
            &me,
            computed(0, Phase::Progressing),
            now,
        );
        let Some(Action::Status { status, .. }) =
            decision.actions.first().map(|p| p.action.clone())
        else {
            panic!()
        };
        let me = Entry {
            status: status.to_string().into(),
            ..me
        };
        let mut decision = Decision::idle(());
        write(
            &mut decision,
            &mut trail,
            &me,
            computed(1, Phase::Progressing),
            now,
        );
        assert!(
            decision.actions.is_empty() && decision.wake.is_some(),
            "counts wait"
        );
        let mut decision = Decision::idle(());
        write(
            &mut decision,
            &mut trail,
            &me,
            computed(1, Phase::Healthy),
            now,
        );
        assert_eq!(decision.actions.len(), 1, "a phase does not");
    }
}
