//! Reading a shard.

use jiff::Timestamp;

use super::{Claim, Election, Shard};
use crate::{
    name::Id,
    policy::Policy,
    pooler::Pooler,
    volume::{Data, Volume},
};

impl Shard {
    /// All poolers that ever were, by identity.
    pub fn poolers(&self) -> impl Iterator<Item = &Pooler> {
        self.poolers.values()
    }

    /// A pooler.
    pub fn pooler(&self, id: &Id) -> Option<&Pooler> {
        self.poolers.get(id)
    }

    /// A pooler's volume.
    pub fn volume_of(&self, id: &Id) -> Option<&Volume> {
        self.volume(self.poolers.get(id)?)
    }

    /// Whether a volume belongs to the shard.
    pub fn has_volume(&self, volume: &str) -> bool {
        self.volumes.contains_key(volume)
    }

    /// The data on a pooler's volume.
    pub fn data(&self, id: &Id) -> Option<&Data> {
        self.data_of(id)
    }

    /// The policy of the Database record, which counts for the first rule only.
    pub fn database_policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// The claim to initialise the shard.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// A claim was found in the topology.
    pub fn claimed(&mut self, claim: Claim, now: Timestamp) {
        self.happen(now, |shard| shard.claim = Some(claim));
    }

    /// The election under way.
    pub fn election(&self) -> Option<&Election> {
        self.election.as_ref()
    }

    /// The coordinators that run.
    pub fn orchs(&self) -> impl Iterator<Item = &Id> {
        self.orchs.keys()
    }

    /// Whether a coordinator acts on problems.
    pub fn recovers(&self, orch: &Id) -> bool {
        self.orchs.get(orch).is_some_and(|orch| orch.recovery)
    }

    /// The pooler that clients can write to.
    pub fn primary(&self) -> Option<&Id> {
        let serving = self.poolers.values().find(|pooler| pooler.serves_writes());
        serving.map(Pooler::id)
    }
}
