//! Start, stop and loss of poolers' processes and volumes.

use jiff::Timestamp;

use super::{Edit, Orch, Shard};
use crate::{
    name::Id,
    policy::Policy,
    pooler::{Lifecycle, Pooler, Postgres, Process, Serving, Site, Stop},
};

impl Shard {
    /// The Database record says this policy, or there is no such record. Poolers wait for it when they start.
    pub fn database(&mut self, policy: Option<Policy>, now: Timestamp) {
        self.happen(now, |shard| shard.policy = policy);
    }

    /// A pooler's process starts; a process of the same identity that still runs is gone.
    pub fn start(&mut self, site: Site, now: Timestamp) {
        self.happen(now, |shard| {
            shard.edits.remove(&site.id);
            shard.volumes.entry(site.volume.clone()).or_default();
            shard
                .poolers
                .insert(site.id.clone(), Pooler::starting(site, now));
        });
    }

    /// A pooler is asked to stop (SIGTERM).
    pub fn terminate(&mut self, id: &Id, now: Timestamp) {
        let drain = self.timing.drain;
        self.happen(now, |shard| {
            let Some(pooler) = shard.poolers.get_mut(id) else {
                return;
            };
            match pooler.process {
                Process::Booting(_) => pooler.process = Process::Ended,
                Process::Up => {
                    pooler.process = Process::Stopping(Stop::Announced, now + drain / 10);
                    pooler.enter(Lifecycle::Stopping, "shutting down", now);
                    pooler.eligible = false;
                    pooler.resigning = None;
                    shard.edits.remove(id);
                }
                _ => {}
            }
        });
    }

    /// A pooler's process is gone without a word (SIGKILL, loss of the node). Its record stays as it is.
    pub fn kill(&mut self, id: &Id, now: Timestamp) {
        self.happen(now, |shard| {
            shard.abort_jobs_of(id);
            if let Some(pooler) = shard.poolers.get_mut(id)
                && pooler.process != Process::Ended
            {
                pooler.process = Process::Gone;
                pooler.postgres = Postgres::Down;
            }
        });
    }

    /// A volume is gone with all that was on it.
    pub fn wipe(&mut self, volume: &str, now: Timestamp) {
        self.happen(now, |shard| drop(shard.volumes.remove(volume)));
    }

    /// PostgreSQL fails and can never be started on this pooler's volume again.
    pub fn damage(&mut self, id: &Id, now: Timestamp) {
        self.happen(now, |shard| {
            let Some(pooler) = shard.poolers.get_mut(id) else {
                return;
            };
            pooler.postgres = Postgres::Down;
            if let Some(volume) = shard.volumes.get_mut(&pooler.site.volume) {
                volume.damaged = true;
            }
        });
    }

    /// PostgreSQL fails once; the pooler's monitor starts it again.
    pub fn crash_postgres(&mut self, id: &Id, now: Timestamp) {
        self.happen(now, |shard| {
            if let Some(pooler) = shard.poolers.get_mut(id) {
                pooler.postgres = Postgres::Down;
            }
        });
    }

    /// Cuts a pooler off from the other poolers and the coordinators, or ends that.
    pub fn isolate(&mut self, id: &Id, isolated: bool, now: Timestamp) {
        self.happen(now, |shard| {
            if let Some(pooler) = shard.poolers.get_mut(id) {
                pooler.isolated = isolated.then(|| pooler.isolated.unwrap_or(now));
            }
        });
    }

    /// Lets a standby receive nothing although its connection stands, or ends that.
    pub fn hold(&mut self, id: &Id, held: bool, now: Timestamp) {
        self.happen(now, |shard| {
            if let Some(pooler) = shard.poolers.get_mut(id) {
                pooler.held = held;
            }
        });
    }

    /// Switches the monitor's starting of PostgreSQL.
    pub fn restarts(&mut self, id: &Id, enabled: bool, now: Timestamp) {
        self.happen(now, |shard| {
            if let Some(pooler) = shard.poolers.get_mut(id) {
                pooler.restarts_enabled = enabled;
            }
        });
    }

    /// Somebody else wrote this lifecycle into a pooler's record, or deleted the record.
    pub fn edited(&mut self, id: &Id, lifecycle: Option<Lifecycle>, now: Timestamp) {
        let edit = lifecycle.map_or(Edit::Deleted, Edit::Lifecycle);
        self.happen(now, |shard| {
            shard.edits.insert(id.clone(), edit);
        });
    }

    /// A pooler's record is again what the pooler published.
    pub fn edit_undone(&mut self, id: &Id, now: Timestamp) {
        self.happen(now, |shard| {
            shard.edits.remove(id);
        });
    }

    /// Whether a pooler's record is not what the pooler published.
    pub fn is_edited(&self, id: &Id) -> bool {
        self.edits.contains_key(id)
    }

    /// A coordinator starts.
    pub fn orch_started(&mut self, id: Id, now: Timestamp) {
        self.happen(now, |shard| {
            shard.orchs.insert(id, Orch { recovery: true });
        });
    }

    /// A coordinator is gone.
    pub fn orch_gone(&mut self, id: &Id, now: Timestamp) {
        self.happen(now, |shard| {
            shard.orchs.remove(id);
        });
    }

    /// Switches a coordinator's recovery.
    pub fn orch_recovery(&mut self, id: &Id, enabled: bool, now: Timestamp) {
        self.happen(now, |shard| {
            if let Some(orch) = shard.orchs.get_mut(id) {
                orch.recovery = enabled;
            }
        });
    }

    /// What a pooler's record says to those who read it; nothing when it is gone.
    pub(super) fn seen_lifecycle(&self, pooler: &Pooler) -> Option<Lifecycle> {
        match self.edits.get(pooler.id()) {
            Some(Edit::Deleted) => None,
            Some(Edit::Lifecycle(lifecycle)) => Some(*lifecycle),
            None => Some(pooler.record.lifecycle),
        }
    }

    pub(super) fn life_due(&mut self, id: &Id, at: Timestamp) {
        let timing = self.timing.clone();
        let Some(pooler) = self.poolers.get_mut(id) else {
            return;
        };
        match pooler.process {
            Process::Booting(Some(until)) if until <= at => pooler.process = Process::Up,
            Process::Stopping(Stop::Announced, until) if until <= at => {
                pooler.record.serving = Serving::Disabled;
                pooler.process = Process::Stopping(Stop::Draining, at + timing.drain);
            }
            Process::Stopping(Stop::Draining, until) if until <= at => {
                pooler.process = Process::Stopping(Stop::Postgres, at + timing.postgres_stop);
                self.checkpoint(id, at);
            }
            Process::Stopping(Stop::Postgres, until) if until <= at => {
                pooler.process = Process::Ended;
                pooler.postgres = Postgres::Down;
                pooler.enter(Lifecycle::Shutdown, "pooler shutdown", at);
                pooler.record.role = None;
                pooler.record.rule = None;
                self.abort_jobs_of(id);
            }
            _ => {}
        }
    }

    /// The instants at which something happens to a pooler by itself.
    pub(super) fn dues(&self, pooler: &Pooler) -> impl Iterator<Item = Timestamp> + use<> {
        let process = match pooler.process {
            Process::Booting(until) => until,
            Process::Stopping(_, until) => Some(until),
            _ => None,
        };
        let postgres = match pooler.postgres {
            Postgres::Busy(_, _, until) => Some(until),
            _ => None,
        };
        [
            process,
            postgres,
            pooler.resigning,
            self.gives_up_at(pooler),
        ]
        .into_iter()
        .flatten()
    }
}
