//! The pooler's monitor of its PostgreSQL: starts it, restores it, follows the leader, gives up.

use jiff::Timestamp;

use super::Shard;
use crate::{
    lsn::Lsn,
    name::Id,
    pooler::{Lifecycle, Pooler, Postgres, Process, Serving, Work},
    volume::Data,
};

/// What initdb leaves, in bytes of log.
const INITDB_BYTES: u64 = 0x0200_0028;

impl Shard {
    /// What the pooler's monitor begins on its own.
    pub(super) fn monitor(&mut self, now: Timestamp) {
        for id in self.poolers.keys().cloned().collect::<Vec<_>>() {
            self.boot(&id, now);
            self.watch_postgres(&id, now);
        }
    }

    /// A pooler opens its port once it has read the Database record.
    fn boot(&mut self, id: &Id, now: Timestamp) {
        let (known, boot) = (self.policy.is_some(), self.timing.boot);
        if let Some(pooler) = self.poolers.get_mut(id)
            && pooler.process == Process::Booting(None)
            && known
        {
            pooler.process = Process::Booting(Some(now + boot));
        }
    }

    fn watch_postgres(&mut self, id: &Id, now: Timestamp) {
        let Some(pooler) = self.poolers.get_mut(id) else {
            return;
        };
        if pooler.ready() {
            pooler.last_ready = Some(now);
            pooler.broken_since = None;
        }
        let idle = pooler.process == Process::Up
            && pooler.postgres == Postgres::Down
            && pooler.restarts_enabled
            && pooler.record.lifecycle != Lifecycle::Quarantined;
        if !idle {
            return;
        }
        let Some(volume) = self.volumes.get(&pooler.site.volume) else {
            // The volume was deleted under the running pooler.
            pooler.broken_since.get_or_insert(now);
            return;
        };
        if volume.damaged {
            pooler.broken_since.get_or_insert(now);
            return;
        }
        let work = match (&volume.data, self.repository.newest()) {
            (Some(_), _) => Some((Work::Starting, self.timing.postgres_start)),
            (None, _) if pooler.without_repository => None,
            (None, Some(_)) => Some((Work::Restoring, self.timing.restore)),
            // Poolers race for the lock; the others wait for the winner's backup.
            (None, None) if self.repository.running.is_none() => {
                Some((Work::FirstBackup, self.timing.first_backup))
            }
            (None, None) => None,
        };
        let Some((work, takes)) = work else {
            return;
        };
        pooler.postgres = Postgres::Busy(work, now, now + takes);
        pooler.record.serving = Serving::Draining;
        if work == Work::FirstBackup {
            self.begin_first_backup(id, now);
        }
    }

    pub(super) fn postgres_due(&mut self, id: &Id, at: Timestamp) {
        let gives_up = self
            .poolers
            .get(id)
            .and_then(|pooler| self.gives_up_at(pooler));
        let Some(pooler) = self.poolers.get_mut(id) else {
            return;
        };
        if gives_up.is_some_and(|until| until <= at) {
            pooler.enter(Lifecycle::Quarantined, "postgres could not be started", at);
            pooler.eligible = false;
            return;
        }
        let Postgres::Busy(work, _, until) = pooler.postgres else {
            return;
        };
        if until > at {
            return;
        }
        match work {
            Work::Starting | Work::Demoting => self.standby(id, at),
            Work::Restoring => self.restored(id, at),
            Work::Rewinding => self.rewound(id, at),
            // These end with the backup job and the election.
            Work::FirstBackup | Work::Promoting => pooler.postgres = Postgres::Down,
        }
    }

    fn standby(&mut self, id: &Id, at: Timestamp) {
        let Some(pooler) = self.poolers.get_mut(id) else {
            return;
        };
        pooler.postgres = Postgres::Standby;
        if pooler.process == Process::Up {
            pooler.record.serving = Serving::Serving;
        }
        if pooler.record.lifecycle == Lifecycle::Starting {
            pooler.enter(Lifecycle::Active, "pooler active", at);
        }
    }

    fn restored(&mut self, id: &Id, at: Timestamp) {
        let start = self.timing.postgres_start;
        let data = self.repository.newest().map(|backup| backup.data.clone());
        let Some(pooler) = self.poolers.get_mut(id) else {
            return;
        };
        let data = data.filter(|_| !pooler.without_repository);
        pooler.postgres = Postgres::Down;
        let volume = self.volumes.get_mut(&pooler.site.volume);
        if let (Some(volume), Some(data)) = (volume, data) {
            volume.data = Some(data);
            pooler.postgres = Postgres::Busy(Work::Starting, at, at + start);
        }
    }

    /// Begins a rewind of a standby that cannot follow its leader, whose log ends here.
    pub(super) fn rewind(&mut self, id: &Id, leader_head: Lsn, now: Timestamp) {
        let takes = self.timing.rewind;
        if let Some(pooler) = self.poolers.get_mut(id) {
            pooler.postgres = Postgres::Busy(Work::Rewinding, now, now + takes);
            pooler.record.serving = Serving::Draining;
            if let Some(volume) = self.volumes.get_mut(&pooler.site.volume) {
                volume.blocked_until = Some(leader_head);
            }
        }
    }

    fn rewound(&mut self, id: &Id, at: Timestamp) {
        let leader = self
            .poolers
            .get(id)
            .and_then(|pooler| pooler.following.clone());
        let leader = leader.and_then(|following| self.data_of(&following.leader).cloned());
        let Some(pooler) = self.poolers.get_mut(id) else {
            return;
        };
        let data = self
            .volumes
            .get_mut(&pooler.site.volume)
            .and_then(|volume| volume.data.as_mut());
        if let (Some(data), Some(leader)) = (data, leader) {
            *data = Data {
                wal: data.wal.common(&leader.wal),
                position: leader.position,
            };
        }
        self.standby(id, at);
    }

    /// When the pooler gives its PostgreSQL up.
    pub(super) fn gives_up_at(&self, pooler: &Pooler) -> Option<Timestamp> {
        let live = pooler.process == Process::Up
            && pooler.restarts_enabled
            && pooler.record.lifecycle != Lifecycle::Quarantined;
        let since = pooler.broken_since.filter(|_| live)?;
        Some(since + pooler.site.unrecoverable_after?)
    }

    /// The data that initdb makes.
    pub(super) fn fresh_data() -> Data {
        let mut data = Data::default();
        data.wal.append(0, INITDB_BYTES);
        data
    }
}
