//! How long things take, and after which time the coordinator acts.

use std::time::Duration;

/// The delays of the stand-in. The defaults are those measured on real Multigres (`test-cluster.md` 4) or its flags'.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timing {
    /// Start of a pooler's process until it serves gRPC.
    pub boot: Duration,
    /// Start of PostgreSQL until it is ready.
    pub postgres_start: Duration,
    /// Restore of the newest backup.
    pub restore: Duration,
    /// initdb, first backup and its verification.
    pub first_backup: Duration,
    /// A backup.
    pub backup: Duration,
    /// Draining of connections at a stop or a resignation.
    pub drain: Duration,
    /// Clean stop of PostgreSQL.
    pub postgres_stop: Duration,
    /// pg_rewind of a diverged member.
    pub rewind: Duration,
    /// Signal of a reload until the new settings are in force.
    pub reload: Duration,
    /// The coordinator's cycle: a problem seen waits at most so long for its action.
    pub cycle: Duration,
    /// Grace before a failed leader is replaced, jitter included.
    pub grace: Duration,
    /// Silence after which a leader counts as unreachable.
    pub unreachable: Duration,
    /// Recruitment.
    pub recruit: Duration,
    /// Promotion until the new leader is decided.
    pub promote: Duration,
    /// Pause after a recruitment that led to no decision.
    pub back_off: Duration,
    /// A health stream is silent at most for so long.
    pub heartbeat: Duration,
    /// How often a client writes to each shard's primary; never when absent.
    pub write_every: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            boot: ms(500),
            postgres_start: ms(1_500),
            restore: ms(5_000),
            first_backup: ms(4_000),
            backup: ms(2_000),
            drain: ms(300),
            postgres_stop: ms(700),
            rewind: ms(3_000),
            reload: ms(100),
            cycle: ms(500),
            grace: ms(3_500),
            unreachable: ms(15_000),
            recruit: ms(400),
            promote: ms(700),
            back_off: ms(4_000),
            heartbeat: ms(30_000),
            write_every: None,
        }
    }
}

impl Timing {
    /// All delays divided by a number, but for the heartbeat and the writes: they are no delays.
    #[must_use]
    pub fn faster(&self, times: u32) -> Self {
        let by = |duration: Duration| duration / times.max(1);
        Self {
            boot: by(self.boot),
            postgres_start: by(self.postgres_start),
            restore: by(self.restore),
            first_backup: by(self.first_backup),
            backup: by(self.backup),
            drain: by(self.drain),
            postgres_stop: by(self.postgres_stop),
            rewind: by(self.rewind),
            reload: by(self.reload),
            cycle: by(self.cycle),
            grace: by(self.grace),
            unreachable: by(self.unreachable),
            recruit: by(self.recruit),
            promote: by(self.promote),
            back_off: by(self.back_off),
            heartbeat: self.heartbeat,
            write_every: self.write_every,
        }
    }
}
