//! Is the shard's last backup recent? (`lifecycle.md` 14, with the faults of `topology.md` 3.9 mended: all backups are
//! listed, only complete ones count, and the age is that of the end of the newest, not of the full one it builds on.)

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::action::Event;
use crate::entry::Entry;
use crate::proto::multipoolermanagerdata as manager;
use crate::status::Condition;
use crate::topology_store::key::ShardId;
use crate::topology_store::record::instant;

/// A daily backup and an hour to make it in.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_hours(25);

/// The condition that tells of backups.
const HEALTHY: &str = "BackupHealthy";

/// A complete backup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Backup {
    /// When it ended.
    pub ended: Timestamp,
    /// Its label in the repository.
    pub id: Box<str>,
    /// `full`, `diff` or `incr`.
    pub kind: Box<str>,
}

/// What is known of a shard's backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Known {
    /// Nobody was asked yet, or nobody answered: what the status says stays.
    #[default]
    Unknown,
    /// There is no complete one.
    None,
    /// The newest complete one.
    Newest(Backup),
}

/// The newest complete backup in an answer to GetBackups (asked with limit 0: a limit keeps the oldest). Backups of other shards
/// in the same repository are not ours.
pub fn newest(answer: &manager::GetBackupsResponse, shard: &ShardId) -> Known {
    let ours = |said: &str, own: &str| said.is_empty() || said == own;
    answer
        .backups
        .iter()
        .filter(|backup| {
            backup.status() == manager::backup_metadata::Status::Complete
                && ours(&backup.table_group, &shard.table_group)
                && ours(&backup.shard, &shard.shard)
        })
        .filter_map(|backup| {
            Some(Backup {
                ended: backup.stop_timestamp.and_then(instant)?,
                id: backup.backup_id.as_str().into(),
                kind: backup.r#type.as_str().into(),
            })
        })
        .max()
        .map_or(Known::None, Known::Newest)
}

/// What the status says about backups.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// `BackupHealthy`; `None`: leave what is there. Its text names no age, so it changes with the backup and not with time.
    pub condition: Option<Condition>,
    /// The instant at which the newest backup turns stale.
    pub wake: Option<Timestamp>,
}

/// Judges what is known.
pub fn judge(known: &Known, now: Timestamp) -> Verdict {
    let (healthy, reason, message, wake) = match known {
        Known::Unknown => {
            return Verdict {
                condition: None,
                wake: None,
            };
        }
        Known::None => (
            false,
            "BackupStale",
            "there is no complete backup".to_owned(),
            None,
        ),
        Known::Newest(backup) => {
            let stale_at = backup.ended.checked_add(STALE_AFTER).ok();
            let ended = backup.ended.strftime("%Y-%m-%dT%H:%M:%SZ");
            if stale_at.is_some_and(|at| at > now) {
                let message = format!("the {} backup {} ended at {ended}", backup.kind, backup.id);
                (true, "BackupRecent", message, stale_at)
            } else {
                let message = format!(
                    "the newest complete backup, {}, ended at {ended}, more than 25 hours ago",
                    backup.id
                );
                (false, "BackupStale", message, None)
            }
        }
    };
    Verdict {
        condition: Some(Condition::new(HEALTHY, healthy, reason, message)),
        wake,
    }
}

/// Kinds of backups that a status may name.
const KINDS: [&str; 3] = ["full", "diff", "incr"];

/// Writes into a status what is known of backups; `None`: the shard makes none. Returns the event of a change for the better or
/// worse. While nothing is known, what was told before stays.
pub fn tell(
    me: &Entry,
    known: Option<&Known>,
    now: Timestamp,
    fields: &mut Map<String, Value>,
    conditions: &mut Vec<Condition>,
) -> Vec<(&'static str, Event)> {
    let (time, kind) = match known {
        Some(Known::Unknown) => {
            conditions.extend(Condition::told_before(me, HEALTHY));
            return Vec::new();
        }
        Some(Known::Newest(backup)) => {
            let ended = backup.ended.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let kind = KINDS.iter().find(|kind| ***kind == *backup.kind);
            (
                ended.into(),
                kind.map_or(Value::Null, |kind| (*kind).into()),
            )
        }
        Some(Known::None) | None => (Value::Null, Value::Null),
    };
    fields.insert("lastBackupTime".into(), time);
    fields.insert("lastBackupType".into(), kind);
    let Some(condition) = known.and_then(|known| judge(known, now).condition) else {
        return Vec::new();
    };
    let before = Condition::told_before(me, HEALTHY).map(|before| before.holds());
    let healthy = condition.holds();
    let message = condition.message().to_owned();
    conditions.push(condition);
    if before == Some(healthy) {
        return Vec::new();
    }
    let event = Event {
        reason: if healthy { HEALTHY } else { "BackupStale" }.to_owned(),
        message,
        warning: !healthy,
    };
    vec![(HEALTHY, event)]
}

/// Asking is due this long before a backup turns stale: longer than a call may take.
const BEFORE_STALE: SignedDuration = SignedDuration::from_secs(120);

/// What is remembered between decisions; lost on restart at the cost of one question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// A backup held the shard's lock when the topology was looked at last; `None`: not known.
    pub runs: Option<bool>,
    /// An answer to a question of then or later is needed.
    pub needed: Option<Timestamp>,
    /// Since when a volume is to be replaced: an answer of before is too old for that.
    pub replaces: Option<Timestamp>,
}

/// Can a fresh volume be restored? The answer is one of now: a repository that was fine yesterday may be out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restorable {
    /// There is a complete backup.
    Yes,
    /// There is none, or nobody can tell; in words.
    No(&'static str),
    /// Somebody is being asked.
    Asking,
}

/// Judges an answer for a volume that is to be replaced.
pub fn restorable(
    memory: &Memory,
    answer: Option<&(Known, Timestamp)>,
    asking: bool,
) -> Restorable {
    let fresh = answer.filter(|(_, asked)| memory.replaces.is_none_or(|since| *asked >= since));
    match fresh {
        Some((Known::Newest(_), _)) => Restorable::Yes,
        Some((Known::None, _)) => Restorable::No("there is no complete backup"),
        _ if asking => Restorable::Asking,
        _ => Restorable::No("no pooler can tell of a complete backup"),
    }
}

/// A pooler that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its pod.
    pub pod: Box<str>,
    /// It leads: asked last, since its list waits behind what it does for the others.
    pub leads: bool,
    /// Failures of calls in a row.
    pub failures: u32,
    /// Not to be called before.
    pub not_before: Option<Timestamp>,
}

/// What the question depends on.
#[derive(Clone, Debug)]
pub struct Asking<'a> {
    /// The newest answer, and when it was asked for.
    pub answer: Option<&'a (Known, Timestamp)>,
    /// A backup holds the shard's lock; `None`: not known right now.
    pub runs: Option<bool>,
    /// A question is under way.
    pub under_way: bool,
    /// A pooler gave up, and its volume is to be replaced.
    pub replaces: bool,
    /// Poolers that are well enough to answer.
    pub candidates: Vec<Candidate>,
}

/// Whether to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The pod to ask now.
    pub ask: Option<Box<str>>,
    /// When to decide again though nothing is heard.
    pub wake: Option<Timestamp>,
}

/// Asks when nothing is known, when a backup ended (its lock is gone, or the topology was not in sight for a while), once before
/// the newest one turns stale, and once before a volume is replaced. Never periodically.
pub fn ask(memory: &mut Memory, asking: Asking<'_>, now: Timestamp) -> Question {
    let ended = asking.runs == Some(false) && memory.runs != Some(false);
    if ended && asking.answer.is_some() {
        memory.needed = Some(now);
    }
    if asking.runs != memory.runs {
        memory.runs = asking.runs;
    }
    memory.replaces = asking.replaces.then(|| memory.replaces.unwrap_or(now));
    let before_stale = asking.answer.and_then(|(known, _)| match known {
        Known::Newest(backup) => {
            let stale_at = backup.ended.checked_add(STALE_AFTER).ok()?;
            stale_at.checked_sub(BEFORE_STALE).ok()
        }
        Known::Unknown | Known::None => None,
    });
    let due = before_stale.filter(|at| *at <= now);
    let wake = before_stale.filter(|at| *at > now);
    let asked = asking.answer.map(|(_, asked)| *asked);
    let needed = memory.needed.max(due).max(memory.replaces);
    let answered = asked.is_some_and(|asked| needed.is_none_or(|needed| asked >= needed));
    if answered {
        memory.needed = None;
        return Question { ask: None, wake };
    }
    if asking.under_way {
        return Question { ask: None, wake };
    }
    let mut candidates = asking.candidates;
    candidates.sort_by(|a, b| {
        let rank = |one: &Candidate| (one.failures, one.leads);
        rank(a).cmp(&rank(b)).then_with(|| a.pod.cmp(&b.pod))
    });
    let free = |one: &&Candidate| one.not_before.is_none_or(|at| at <= now);
    let ask = candidates.iter().find(free).map(|one| one.pod.clone());
    let later = candidates.iter().filter_map(|one| one.not_before).min();
    let later = later.filter(|_| ask.is_none());
    Question {
        ask,
        wake: [wake, later].into_iter().flatten().min(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn metadata(
        id: &str,
        kind: &str,
        stop: i64,
        status: manager::backup_metadata::Status,
    ) -> manager::BackupMetadata {
        manager::BackupMetadata {
            table_group: "default".to_owned(),
            shard: "0-inf".to_owned(),
            status: status.into(),
            backup_id: id.to_owned(),
            r#type: kind.to_owned(),
            stop_timestamp: Some(prost_types::Timestamp {
                seconds: stop,
                nanos: 0,
            }),
            ..Default::default()
        }
    }

    fn stale(message: &str) -> Condition {
        Condition::new("BackupHealthy", false, "BackupStale", message)
    }

    fn shard() -> ShardId {
        ShardId::new("postgres", "default", "0-inf")
    }

    #[test]
    fn the_newest_complete_backup_counts_by_its_end() {
        use manager::backup_metadata::Status::{Complete, Incomplete};
        let mut other = metadata("20260109-000000F", "full", 9_000_000, Complete);
        other.shard = "inf-0".to_owned();
        let mut endless = metadata("20260108-000000F", "full", 0, Complete);
        endless.stop_timestamp = None;
        let answer = manager::GetBackupsResponse {
            backups: vec![
                // Oldest first; the differential builds on the first full, whose time leads its label.
                metadata("20260102-000000F", "full", 200_000, Complete),
                metadata(
                    "20260101-000000F_20260105-000000D",
                    "diff",
                    500_000,
                    Complete,
                ),
                metadata("20260106-000000F", "full", 600_000, Incomplete),
                other,
                endless,
            ],
        };
        let Known::Newest(newest) = newest(&answer, &shard()) else {
            panic!("none found");
        };
        assert_eq!((newest.kind.as_ref(), newest.ended), ("diff", at(500_000)));
    }

    #[test]
    fn none_complete_is_stale_and_no_answer_changes_nothing() {
        let none = newest(&manager::GetBackupsResponse::default(), &shard());
        assert_eq!(none, Known::None);
        assert_eq!(
            judge(&none, at(0)).condition,
            Some(stale("there is no complete backup"))
        );
        assert_eq!(
            judge(&Known::Unknown, at(0)),
            Verdict {
                condition: None,
                wake: None
            }
        );
    }

    #[test]
    fn it_turns_stale_at_an_instant_and_its_text_does_not_age() {
        let known = Known::Newest(Backup {
            ended: at(1_000_000),
            id: "20260102-000000F".into(),
            kind: "full".into(),
        });
        let young = judge(&known, at(1_000_001));
        let old = judge(&known, at(1_000_000 + 25 * 3600 - 1));
        assert_eq!(young, old);
        assert_eq!(young.wake, Some(at(1_000_000 + 25 * 3600)));
        let old = judge(&known, young.wake.unwrap());
        assert_eq!(
            old.condition,
            Some(stale(
                "the newest complete backup, 20260102-000000F, ended at 1970-01-12T13:46:40Z, more than 25 hours ago"
            ))
        );
        assert_eq!(old, judge(&known, at(90_000_000)));
    }

    fn candidate(pod: &str, leads: bool, failures: u32) -> Candidate {
        Candidate {
            pod: pod.into(),
            leads,
            failures,
            not_before: None,
        }
    }

    fn asking(answer: Option<&(Known, Timestamp)>, runs: Option<bool>) -> Asking<'_> {
        Asking {
            answer,
            runs,
            under_way: false,
            replaces: false,
            candidates: vec![candidate("a", true, 0), candidate("b", false, 0)],
        }
    }

    fn known(ended: i64, asked: i64) -> (Known, Timestamp) {
        let backup = Backup {
            ended: at(ended),
            id: "x".into(),
            kind: "full".into(),
        };
        (Known::Newest(backup), at(asked))
    }

    /// Known, lock gone, nearly stale: one question each, and none in between.
    #[test]
    fn a_question_has_a_reason() {
        let mut memory = Memory::default();
        let first = ask(&mut memory, asking(None, Some(false)), at(1000));
        assert_eq!(
            first.ask.as_deref(),
            Some("b"),
            "a replica before the leader"
        );
        let busy = Asking {
            under_way: true,
            ..asking(None, Some(false))
        };
        assert_eq!(ask(&mut memory, busy, at(1001)), Question::default());
        let answer = known(900, 1000);
        let due = 900 + 25 * 3600 - 120;
        let quiet = Question {
            ask: None,
            wake: Some(at(due)),
        };
        for (runs, second) in [(Some(false), 1002), (Some(true), 1003), (None, 1004)] {
            assert_eq!(
                ask(&mut memory, asking(Some(&answer), runs), at(second)),
                quiet
            );
        }
        let ended = ask(&mut memory, asking(Some(&answer), Some(false)), at(1005));
        assert!(ended.ask.is_some(), "the lock is gone");
        let again = ask(&mut memory, asking(Some(&answer), Some(false)), at(1006));
        assert!(again.ask.is_some(), "until it is answered");
        let newer = known(1004, 1005);
        let settled = ask(&mut memory, asking(Some(&newer), Some(false)), at(1007));
        assert_eq!(settled.ask, None);
        let due = 1004 + 25 * 3600 - 120;
        let before = ask(&mut memory, asking(Some(&newer), Some(false)), at(due));
        assert!(before.ask.is_some());
        let same = known(1004, due);
        for later in [due, due + 3600, due + 1_000_000] {
            let after = ask(&mut memory, asking(Some(&same), Some(false)), at(later));
            assert_eq!(after, Question::default(), "asked once");
        }
    }

    /// What was known before a pooler gave up does not count for its volume.
    #[test]
    fn before_a_volume_is_replaced_it_is_asked_once() {
        let mut memory = Memory::default();
        let old = known(900, 1000);
        let replaces = |answer| Asking {
            replaces: true,
            ..asking(answer, None)
        };
        assert_eq!(restorable(&memory, Some(&old), false), Restorable::Yes);
        let question = ask(&mut memory, replaces(Some(&old)), at(1010));
        assert!(question.ask.is_some());
        let judge = |memory: &Memory, answer, asking| restorable(memory, Some(answer), asking);
        assert_eq!(judge(&memory, &old, true), Restorable::Asking);
        assert!(matches!(judge(&memory, &old, false), Restorable::No(_)));
        let new = known(900, 1010);
        assert_eq!(ask(&mut memory, replaces(Some(&new)), at(1011)).ask, None);
        assert_eq!(judge(&memory, &new, false), Restorable::Yes);
        let none = (Known::None, at(1010));
        assert!(matches!(judge(&memory, &none, true), Restorable::No(_)));
        ask(&mut memory, asking(Some(&new), None), at(1012));
        let again = ask(&mut memory, replaces(Some(&new)), at(1013));
        assert!(again.ask.is_some(), "another one that gives up");
    }

    #[test]
    fn who_failed_is_asked_last_and_not_too_soon() {
        let mut memory = Memory::default();
        let mut waits = asking(None, None);
        waits.candidates = vec![candidate("a", false, 1), candidate("b", true, 0)];
        assert_eq!(
            ask(&mut memory, waits.clone(), at(0)).ask.as_deref(),
            Some("b")
        );
        for one in &mut waits.candidates {
            one.not_before = Some(at(30));
        }
        waits.candidates[0].not_before = Some(at(20));
        let question = ask(&mut memory, waits.clone(), at(10));
        assert_eq!((question.ask, question.wake), (None, Some(at(20))));
        assert_eq!(ask(&mut memory, waits, at(20)).ask.as_deref(), Some("a"));
    }
}
