//! The planned step-down of a leader (`topology.md` 5.8).

use jiff::Timestamp;

use super::{Refusal, Shard};
use crate::{
    lsn::Lsn,
    name::Id,
    pooler::{Pooler, Postgres, Serving, Work},
};

impl Shard {
    /// A leader begins to step down. It has done so when [`Shard::stepped_down`] says where its log ended.
    ///
    /// # Errors
    /// When its PostgreSQL is in recovery or does not run.
    pub fn resign(&mut self, id: &Id, now: Timestamp) -> Result<(), Refusal> {
        let drain = self.timing.drain;
        self.happen(now, |shard| {
            let primary = shard.poolers.get_mut(id).filter(|p| p.is_primary());
            let Some(pooler) = primary else {
                return Err(Refusal::FailedPrecondition(
                    "postgres is in recovery".to_owned(),
                ));
            };
            pooler.record.serving = Serving::Draining;
            pooler.resigning = Some(now + drain);
            Ok(())
        })
    }

    /// Where the log of a former leader ended that has stepped down; nothing while it is at it.
    pub fn stepped_down(&self, id: &Id) -> Option<Lsn> {
        let pooler = self.poolers.get(id)?;
        let done = pooler.resigning.is_none() && pooler.postgres == Postgres::Standby;
        self.volume(pooler)
            .filter(|_| done)
            .map(|volume| volume.head())
    }

    pub(super) fn resignation_due(&mut self, id: &Id, at: Timestamp) {
        let restart = self
            .timing
            .postgres_start
            .min(self.timing.postgres_stop * 2);
        let term = self
            .data_of(id)
            .and_then(|data| data.position.decision.as_ref())
            .map(|rule| rule.number.term);
        let due = |pooler: &&mut Pooler| pooler.resigning.is_some_and(|until| until <= at);
        let Some(pooler) = self.poolers.get_mut(id).filter(due) else {
            return;
        };
        pooler.resigning = None;
        if pooler.is_primary() {
            pooler.resigned = term;
            self.checkpoint(id, at);
            if let Some(pooler) = self.poolers.get_mut(id) {
                pooler.postgres = Postgres::Busy(Work::Demoting, at, at + restart);
                pooler.following = None;
                pooler.replica();
            }
        }
    }
}
