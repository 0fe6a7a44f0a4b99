//! One pooler and its PostgreSQL (`topology.md` 5.1).

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    name::Id,
    rule::{Rule, RuleNumber},
};

/// Life of a pooler as its record tells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Lifecycle {
    /// The process runs, PostgreSQL was not seen running yet.
    Starting,
    /// PostgreSQL was seen running; stays so when it dies.
    Active,
    /// Asked to stop.
    Stopping,
    /// Stopped in an orderly way.
    Shutdown,
    /// Given up: needs a fresh volume.
    Quarantined,
}

/// Whether a pooler takes queries.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Serving {
    /// It does.
    Serving,
    /// It does not.
    Disabled,
    /// It lets the running ones end.
    Draining,
}

/// What a gateway may use the pooler for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Role {
    /// Writes.
    Primary,
    /// Reads.
    Replica,
}

/// The record that a pooler publishes in the topology, without what never changes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Record {
    /// Life.
    pub lifecycle: Lifecycle,
    /// Why.
    pub reason: String,
    /// Since when, by the pooler's clock.
    pub updated: Timestamp,
    /// Whether it takes queries.
    pub serving: Serving,
    /// Role; none after an orderly stop.
    pub role: Option<Role>,
    /// The rule under which it leads; of a primary only.
    pub rule: Option<RuleNumber>,
}

/// The pooler's process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Process {
    /// There is none: never started, crashed, or its pod is gone.
    Gone,
    /// Started, answers nothing yet. It waits for the Database record if there is no instant.
    Booting(Option<Timestamp>),
    /// Answers.
    Up,
    /// On its way out; the phase ends at this instant.
    Stopping(Stop, Timestamp),
    /// Ended in an orderly way.
    Ended,
}

/// Phases of an orderly stop (`topology.md` 5.7).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Stop {
    /// Says that it stops, out of elections.
    Announced,
    /// Rejects new queries, lets connections end.
    Draining,
    /// PostgreSQL stops.
    Postgres,
}

/// What PostgreSQL is busy with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Work {
    /// Start as a standby.
    Starting,
    /// Restore of a backup into an empty data directory.
    Restoring,
    /// initdb and the first backup of the shard.
    FirstBackup,
    /// Restart as a standby, under the action lock if it resigned.
    Demoting,
    /// Becoming the leader.
    Promoting,
    /// pg_rewind onto the new leader's timeline.
    Rewinding,
}

/// The state of PostgreSQL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Postgres {
    /// No process.
    Down,
    /// Busy since the first instant until the second.
    Busy(Work, Timestamp, Timestamp),
    /// In recovery, ready.
    Standby,
    /// Out of recovery, ready.
    Primary,
}

/// What never changes while a pooler's process lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Site {
    /// Identity.
    pub id: Id,
    /// Name under which the peers dial it.
    pub host: String,
    /// Identity of its data volume.
    pub volume: String,
    /// PostgreSQL that cannot be started for so long is given up; never without it.
    pub unrecoverable_after: Option<Duration>,
}

/// Whom a pooler was told to follow. Not persisted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Following {
    /// The leader.
    pub leader: Id,
    /// The rule with which it was told.
    pub rule: Rule,
}

/// A pooler.
#[derive(Clone, Debug)]
pub struct Pooler {
    /// What never changes while the process lives.
    pub site: Site,
    /// The process.
    pub process: Process,
    /// PostgreSQL.
    pub postgres: Postgres,
    /// What it publishes.
    pub record: Record,
    /// Whether it may be a member of a cohort.
    pub eligible: bool,
    /// The term whose leadership it asks to be relieved of.
    pub resigned: Option<i64>,
    /// A resignation drains connections until this instant.
    pub resigning: Option<Timestamp>,
    /// Whom it was told to follow.
    pub following: Option<Following>,
    /// Whether its monitor starts PostgreSQL by itself.
    pub restarts_enabled: bool,
    /// Since when PostgreSQL cannot be started.
    pub broken_since: Option<Timestamp>,
    /// When PostgreSQL was ready for the last time.
    pub last_ready: Option<Timestamp>,
    /// When its receive position grew for the last time.
    pub advanced: Option<Timestamp>,
    /// Fault: cut off from the other poolers and the coordinators since then.
    pub isolated: Option<Timestamp>,
    /// Fault: it receives nothing although its connection to the leader stands.
    pub held: bool,
    /// Fault: the backup repository cannot be reached from it.
    pub without_repository: bool,
}

impl Pooler {
    /// A pooler whose process starts now.
    pub fn starting(site: Site, now: Timestamp) -> Self {
        Self {
            site,
            process: Process::Booting(None),
            postgres: Postgres::Down,
            record: Record {
                lifecycle: Lifecycle::Starting,
                reason: "process starting".to_owned(),
                updated: now,
                serving: Serving::Serving,
                role: Some(Role::Replica),
                rule: None,
            },
            eligible: true,
            resigned: None,
            resigning: None,
            following: None,
            restarts_enabled: true,
            broken_since: None,
            last_ready: None,
            advanced: None,
            isolated: None,
            held: false,
            without_repository: false,
        }
    }

    /// Its identity.
    pub fn id(&self) -> &Id {
        &self.site.id
    }

    /// Whether the process answers calls.
    pub fn answers(&self) -> bool {
        matches!(self.process, Process::Up | Process::Stopping(..))
    }

    /// Whether the other poolers and the coordinators reach it.
    pub fn reachable(&self) -> bool {
        self.answers() && self.isolated.is_none()
    }

    /// Whether PostgreSQL takes connections.
    pub fn ready(&self) -> bool {
        self.answers() && matches!(self.postgres, Postgres::Standby | Postgres::Primary)
    }

    /// Whether it counts as a present member: a change of leader is no absence.
    pub fn takes_part(&self) -> bool {
        let changing = matches!(
            self.postgres,
            Postgres::Busy(Work::Demoting | Work::Promoting, _, _)
        );
        self.ready() || self.answers() && changing
    }

    /// Whether PostgreSQL is out of recovery.
    pub fn is_primary(&self) -> bool {
        self.answers() && self.postgres == Postgres::Primary
    }

    /// Whether it leads in the eyes of a client: out of recovery and taking queries.
    pub fn serves_writes(&self) -> bool {
        self.is_primary() && self.record.serving == Serving::Serving
    }

    pub(crate) fn enter(&mut self, lifecycle: Lifecycle, reason: &str, now: Timestamp) {
        self.record.lifecycle = lifecycle;
        self.record.reason = reason.to_owned();
        self.record.updated = now;
    }

    pub(crate) fn replica(&mut self) {
        self.record.role = Some(Role::Replica);
        self.record.rule = None;
    }
}
