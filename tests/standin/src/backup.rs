//! The backup repository of a shard (`topology.md` 3.3).

use std::collections::VecDeque;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{lsn::Lsn, name::Id, pooler::Role, volume::Data};

/// Full backups that an expiry keeps.
const KEPT_FULL: usize = 7;
/// Differential backups that an expiry keeps.
const KEPT_DIFFERENTIAL: usize = 1;

/// A type of backup.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Kind {
    /// Everything.
    Full,
    /// What changed since the last full one.
    Differential,
    /// What changed since the last one.
    Incremental,
}

impl Kind {
    /// The type as requests write it.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "full" => Self::Full,
            "differential" => Self::Differential,
            "incremental" => Self::Incremental,
            _ => return None,
        })
    }

    /// The type as answers write it.
    pub fn short(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Differential => "diff",
            Self::Incremental => "incr",
        }
    }
}

/// A complete backup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// pgBackRest's label.
    pub label: String,
    /// Its type.
    pub kind: Kind,
    /// Who asked for it.
    pub job: String,
    /// Who took it.
    pub pooler: Id,
    /// The taker's role then.
    pub role: Role,
    /// First position.
    pub start: Lsn,
    /// When it began.
    pub started: Timestamp,
    /// When it was complete.
    pub stopped: Timestamp,
    /// What a restore brings.
    pub data: Data,
}

/// A backup under way, or an expiry: whoever holds the shard's backup lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Who runs it.
    pub pooler: Id,
    /// Type of the backup.
    pub kind: Kind,
    /// The first backup of the shard, taken before it has any member.
    pub first: bool,
    /// Where the log ended when it began.
    pub start: Lsn,
    /// When it began.
    pub started: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

/// How a job ended: the label, or what went wrong.
pub type Outcome = Result<String, String>;

/// The backups of a shard.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    /// Complete backups, oldest first.
    pub backups: Vec<Backup>,
    /// The holder of the backup lock.
    pub running: Option<Job>,
    /// Ends of the jobs that somebody may still ask for, oldest first.
    outcomes: VecDeque<(String, Outcome)>,
}

impl Repository {
    /// The newest backup, which a restore takes.
    pub fn newest(&self) -> Option<&Backup> {
        self.backups.last()
    }

    /// The backup of a job.
    pub fn by_job(&self, job: &str) -> Option<&Backup> {
        self.backups.iter().find(|backup| backup.job == job)
    }

    /// How a job ended; nothing while it runs.
    pub fn outcome(&self, job: &str) -> Option<&Outcome> {
        let found = self.outcomes.iter().rev().find(|(id, _)| id == job);
        found.map(|(_, outcome)| outcome)
    }

    pub(crate) fn ended(&mut self, job: String, outcome: Outcome) {
        if self.outcomes.len() >= 64 {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((job, outcome));
    }

    /// pgBackRest's label of a backup that begins now.
    pub fn label(&self, kind: Kind, now: Timestamp) -> String {
        let own = now
            .to_zoned(TimeZone::UTC)
            .strftime("%Y%m%d-%H%M%S")
            .to_string();
        let full = self
            .backups
            .iter()
            .rev()
            .find(|backup| backup.kind == Kind::Full);
        match (kind, full) {
            (Kind::Full, _) | (_, None) => format!("{own}F"),
            (Kind::Differential, Some(full)) => format!("{}_{own}D", full.label),
            (Kind::Incremental, Some(full)) => format!("{}_{own}I", full.label),
        }
    }

    /// Removes what the retention does not keep and returns the labels. Dependents go with their full backup.
    pub fn expire(&mut self, full: Option<usize>) -> Vec<String> {
        let keep = |kind: Kind, count: usize, backups: &[Backup]| {
            let labels = backups.iter().rev().filter(|backup| backup.kind == kind);
            let labels = labels.skip(count).map(|backup| backup.label.clone());
            labels.collect::<Vec<_>>()
        };
        let mut gone = keep(Kind::Full, full.unwrap_or(KEPT_FULL).max(1), &self.backups);
        gone.extend(keep(Kind::Differential, KEPT_DIFFERENTIAL, &self.backups));
        let mut removed = Vec::new();
        self.backups.retain(|backup| {
            let base = backup.label.split('_').next().unwrap_or_default();
            let kept = !gone
                .iter()
                .any(|label| *label == backup.label || label == base);
            if !kept {
                removed.push(backup.label.clone());
            }
            kept
        });
        removed
    }
}

/// An id for a job that came without one.
pub fn job_id(pooler: &Id, now: Timestamp) -> String {
    let time = now.to_zoned(TimeZone::UTC);
    format!("{}_{pooler}", time.strftime("%Y%m%d-%H%M%S.%6f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(repository: &mut Repository, kind: Kind, second: i64) {
        let now = Timestamp::from_second(1_767_225_600 + second).unwrap();
        let label = repository.label(kind, now);
        repository.backups.push(Backup {
            label,
            kind,
            job: format!("job-{second}"),
            pooler: Id::pooler("a", "p1"),
            role: Role::Replica,
            start: Lsn(0),
            started: now,
            stopped: now,
            data: Data::default(),
        });
    }

    #[test]
    fn labels_begin_with_the_full_backup_they_build_on() {
        let mut repository = Repository::default();
        taken(&mut repository, Kind::Full, 0);
        taken(&mut repository, Kind::Differential, 5);
        taken(&mut repository, Kind::Incremental, 9);
        let labels: Vec<&str> = repository
            .backups
            .iter()
            .map(|b| b.label.as_str())
            .collect();
        assert_eq!(
            labels,
            [
                "20260101-000000F",
                "20260101-000000F_20260101-000005D",
                "20260101-000000F_20260101-000009I"
            ]
        );
        assert_eq!(
            job_id(
                &Id::pooler("a", "p1"),
                Timestamp::from_second(1_767_225_600).unwrap()
            ),
            "20260101-000000.000000_multipooler-a-p1"
        );
    }

    #[test]
    fn an_expiry_keeps_seven_full_and_one_differential() {
        let mut repository = Repository::default();
        for second in 0..9 {
            taken(&mut repository, Kind::Full, 10 * second);
            taken(&mut repository, Kind::Differential, 10 * second + 1);
        }
        let gone = repository.expire(None);
        let count = |kind| repository.backups.iter().filter(|b| b.kind == kind).count();
        assert_eq!((count(Kind::Full), count(Kind::Differential)), (7, 1));
        assert_eq!(gone.len(), 2 + 8);
        assert!(repository.expire(None).is_empty());
    }
}
