//! Is the shard's last backup recent? (`lifecycle.md` 14, with the faults of `topology.md` 3.9 mended: all backups are
//! listed, only complete ones count, and the age is that of the end of the newest, not of the full one it builds on.)

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::proto::multipoolermanagerdata as manager;
use crate::status::Condition;
use crate::topology_store::key::ShardId;
use crate::topology_store::record::instant;

/// A daily backup and an hour to make it in.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_hours(25);

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
        condition: Some(Condition::new("BackupHealthy", healthy, reason, message)),
        wake,
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
}
