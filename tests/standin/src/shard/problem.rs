//! Problems that coordinators see (`topology.md` 5.4).

use jiff::Timestamp;
use serde::Serialize;

use crate::name::Id;

/// A code of a problem, as `GetShardStatus` gives it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Code {
    /// The shard has members enough for its first rule and no rule.
    ShardNeedsInitialization,
    /// The leader steps down.
    LeaderResigned,
    /// The leader's PostgreSQL is not ready.
    LeaderUnhealthy,
    /// The leader does not answer for long enough.
    LeaderUnreachableByCohort,
    /// The leader does not answer yet.
    LeaderHealthUnknown,
    /// A pooler leads under a rule that was replaced.
    StaleLeader,
    /// The leader must be replaced and too few members are there to do it.
    ShardStuck,
    /// No member is there.
    NoHealthyCohortMembers,
    /// A member is missing, and one more loss stops the shard.
    ShardAtRisk,
    /// A healthy pooler is not a member.
    PoolerNotInCohort,
    /// A member is not eligible any more.
    CohortMemberIneligible,
    /// A standby does not stream from the leader.
    ReplicaNotReplicating,
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Scope {
    /// The shard.
    Shard,
    /// One pooler.
    Pooler,
}

impl Code {
    /// The code as text.
    pub fn text(self) -> &'static str {
        match self {
            Self::ShardNeedsInitialization => "ShardNeedsInitialization",
            Self::LeaderResigned => "LeaderResigned",
            Self::LeaderUnhealthy => "LeaderUnhealthy",
            Self::LeaderUnreachableByCohort => "LeaderUnreachableByCohort",
            Self::LeaderHealthUnknown => "LeaderHealthUnknown",
            Self::StaleLeader => "StaleLeader",
            Self::ShardStuck => "ShardStuck",
            Self::NoHealthyCohortMembers => "NoHealthyCohortMembers",
            Self::ShardAtRisk => "ShardAtRisk",
            Self::PoolerNotInCohort => "PoolerNotInCohort",
            Self::CohortMemberIneligible => "CohortMemberIneligible",
            Self::ReplicaNotReplicating => "ReplicaNotReplicating",
        }
    }

    /// The name of the check that finds it; this is what `TriggerRecoveryNow` names as remaining.
    pub fn check(self) -> &'static str {
        if self.ends_leadership() {
            "LeaderNeedsReplacement"
        } else {
            self.text()
        }
    }

    /// The priority: shard bootstrap, emergency, high, normal.
    pub fn priority(self) -> i32 {
        match self {
            Self::ShardNeedsInitialization => 10_000,
            Self::LeaderResigned
            | Self::LeaderUnhealthy
            | Self::LeaderUnreachableByCohort
            | Self::LeaderHealthUnknown
            | Self::ShardStuck
            | Self::NoHealthyCohortMembers => 1_000,
            Self::StaleLeader | Self::ReplicaNotReplicating | Self::ShardAtRisk => 500,
            Self::PoolerNotInCohort | Self::CohortMemberIneligible => 100,
        }
    }

    /// What it is about.
    pub fn scope(self) -> Scope {
        match self {
            Self::StaleLeader
            | Self::PoolerNotInCohort
            | Self::CohortMemberIneligible
            | Self::ReplicaNotReplicating => Scope::Pooler,
            _ => Scope::Shard,
        }
    }

    /// Whether the leader has to be replaced.
    pub(super) fn ends_leadership(self) -> bool {
        matches!(
            self,
            Self::LeaderResigned | Self::LeaderUnhealthy | Self::LeaderUnreachableByCohort
        )
    }
}

/// A problem that the coordinators see.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// What it is.
    pub code: Code,
    /// Whom it is about; the leader for problems of the shard.
    pub pooler: Option<Id>,
    /// Since when.
    pub since: Timestamp,
}
