//! Backups of a shard, their lock and their faults (`topology.md` 3.3).

use jiff::Timestamp;

use super::Shard;
use crate::{
    backup::{Backup, Job, Kind, Outcome, job_id},
    name::Id,
    pooler::{Pooler, Postgres, Role},
};

/// Why a call is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The request makes no sense.
    InvalidArgument(String),
    /// Not in this state.
    FailedPrecondition(String),
    /// It went wrong.
    Internal(String),
}

impl Shard {
    /// Begins a backup and returns its job's id; [`crate::backup::Repository::outcome`] tells how it ends. A backup that
    /// runs anywhere in the shard loses the lock and fails.
    ///
    /// # Errors
    /// When the type is unknown, or the pooler's role does not allow it.
    pub fn backup(
        &mut self,
        id: &Id,
        kind: &str,
        force_primary: bool,
        job: Option<String>,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let Some(kind) = Kind::parse(kind) else {
            return Err(Refusal::InvalidArgument(format!(
                "unknown backup type {kind:?}"
            )));
        };
        self.happen(now, |shard| {
            shard.may_back_up(id, force_primary)?;
            shard.abort_running("the backup lease was lost");
            let start = shard.data_of(id).map(|data| data.wal.head());
            let job = job
                .filter(|job| !job.is_empty())
                .unwrap_or_else(|| job_id(id, now));
            shard.repository.running = Some(Job {
                id: job.clone(),
                pooler: id.clone(),
                kind,
                first: false,
                start: start.unwrap_or_default(),
                started: now,
                until: now + shard.timing.backup,
            });
            Ok(job)
        })
    }

    fn may_back_up(&self, id: &Id, force_primary: bool) -> Result<(), Refusal> {
        let refuse = |text: &str| Err(Refusal::FailedPrecondition(text.to_owned()));
        let Some(pooler) = self.poolers.get(id).filter(|pooler| pooler.ready()) else {
            return refuse("postgres is not ready");
        };
        match (pooler.is_primary(), force_primary) {
            (true, false) => refuse("backups from the primary need force_primary"),
            (false, true) => Err(Refusal::Internal(
                "pgbackrest: no primary is configured".to_owned(),
            )),
            (false, false) if pooler.following.is_none() => refuse("no primary is known"),
            _ if pooler.without_repository => Err(Refusal::Internal(
                "pgbackrest: the repository cannot be reached".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Removes what the retention does not keep and returns the labels.
    ///
    /// # Errors
    /// When a backup runs.
    pub fn expire(&mut self, full: Option<usize>, now: Timestamp) -> Result<Vec<String>, Refusal> {
        self.happen(now, |shard| {
            if shard.repository.running.is_some() {
                let failure = "node already exists: backup lock";
                return Err(Refusal::Internal(failure.to_owned()));
            }
            Ok(shard.repository.expire(full))
        })
    }

    /// Makes the repository unreachable from a pooler, or ends that.
    pub fn repository_unreachable(&mut self, id: &Id, unreachable: bool, now: Timestamp) {
        self.happen(now, |shard| {
            if let Some(pooler) = shard.poolers.get_mut(id) {
                pooler.without_repository = unreachable;
            }
        });
    }

    pub(super) fn begin_first_backup(&mut self, id: &Id, now: Timestamp) {
        self.repository.running = Some(Job {
            id: job_id(id, now),
            pooler: id.clone(),
            kind: Kind::Full,
            first: true,
            start: Self::fresh_data().wal.head(),
            started: now,
            until: now + self.timing.first_backup,
        });
    }

    fn abort_running(&mut self, why: &str) {
        if let Some(job) = self.repository.running.take() {
            self.repository.ended(job.id, Err(why.to_owned()));
        }
    }

    /// A pooler's jobs end with its process.
    pub(super) fn abort_jobs_of(&mut self, id: &Id) {
        if self
            .repository
            .running
            .as_ref()
            .is_some_and(|job| job.pooler == *id)
        {
            self.abort_running("the pooler went away");
        }
    }

    pub(super) fn backup_due(&mut self, at: Timestamp) {
        let Some(job) = self.repository.running.take_if(|job| job.until <= at) else {
            return;
        };
        let outcome = self.finish(&job, at);
        self.repository.ended(job.id.clone(), outcome);
        if job.first
            && let Some(pooler) = self.poolers.get_mut(&job.pooler)
        {
            // The winner of the race wipes its data and restores like everybody else.
            pooler.postgres = Postgres::Down;
        }
    }

    fn finish(&mut self, job: &Job, at: Timestamp) -> Outcome {
        let pooler = self.poolers.get(&job.pooler);
        if pooler.is_none_or(|pooler| pooler.without_repository) {
            return Err("pgbackrest: the repository cannot be reached".to_owned());
        }
        let data = if job.first {
            Some(Self::fresh_data())
        } else {
            self.data_of(&job.pooler).cloned()
        };
        let mut data = data.ok_or_else(|| "pgbackrest: there is no data".to_owned())?;
        // A restored member has no vote in what was under way when the backup was taken.
        data.position.proposal = None;
        let primary = self
            .poolers
            .get(&job.pooler)
            .is_some_and(Pooler::is_primary);
        let label = self.repository.label(job.kind, job.started);
        self.repository.backups.push(Backup {
            label: label.clone(),
            kind: job.kind,
            job: job.id.clone(),
            pooler: job.pooler.clone(),
            role: if primary {
                Role::Primary
            } else {
                Role::Replica
            },
            start: job.start,
            started: job.started,
            stopped: at,
            data,
        });
        self.repository.expire(None);
        Ok(label)
    }
}
