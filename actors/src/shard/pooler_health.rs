//! What a pooler says of itself, in its answer to Status and in each snapshot of its health stream, cut down to what decisions
//! need.

use std::collections::BTreeSet;

use serde::Serialize;

use super::quorum::Policy;
use crate::proto::clustermetadata as wire;
use crate::proto::multipoolermanagerdata as manager;
use crate::topology_store::record::{ProcessId, Rule};

/// A decided rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Its number.
    pub rule: Rule,
    /// Who leads under it.
    pub leader: ProcessId,
    /// The cohort.
    pub cohort: BTreeSet<ProcessId>,
    /// The durability policy in force; `None`: not known to this version.
    pub policy: Option<Policy>,
}

/// What PostgreSQL does, as its pooler sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Postgres {
    /// Not known, or down.
    #[default]
    Unknown,
    /// Starts.
    Starting,
    /// Follows.
    Standby,
    /// Becomes primary.
    Promoting,
    /// Takes writes.
    Primary,
}

/// A pooler's answer to Status, or a snapshot of its health stream: the little that decisions need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Who speaks.
    pub id: Option<ProcessId>,
    /// Its data directory is part of the shard.
    pub initialized: bool,
    /// The process runs and answers.
    pub ready: bool,
    /// What PostgreSQL does.
    pub postgres: Postgres,
    /// It restores, or makes the first backup.
    pub restoring: bool,
    /// The primary side is complete.
    pub primary_ready: bool,
    /// The highest decided rule that it knows.
    pub decision: Option<Decision>,
    /// Members of a rule that is proposed and not decided.
    pub proposal: Option<BTreeSet<ProcessId>>,
    /// It promised not to follow rules below this term.
    pub revoked_below: i64,
    /// May be recruited.
    pub eligible: bool,
    /// It leads, and asks to be relieved.
    pub resigning: bool,
    /// Its timeline may have diverged.
    pub diverged: bool,
    /// Not to be recruited before it has caught up.
    pub recruit_blocked: bool,
    /// A standby that receives WAL.
    pub streaming: bool,
    /// Last WAL position received (standby) or written (primary), in bytes; `None`: not known.
    pub position: Option<u64>,
}

impl Health {
    /// Both say the same of everything that decisions look at: WAL positions move all the time and wake nobody.
    pub fn agrees(&self, other: &Self) -> bool {
        let still = |health: &Self| Self {
            position: None,
            ..health.clone()
        };
        still(self) == still(other)
    }
}

/// Reads an answer of a pooler. What is absent is unknown, and unknown is never counted as good.
pub fn health(answer: &manager::StatusResponse) -> Health {
    let status = answer.status.clone().unwrap_or_default();
    let consensus = answer.consensus_status.clone().unwrap_or_default();
    let availability = answer.availability_status.unwrap_or_default();
    let position = consensus.current_position.unwrap_or_default();
    let rules = position.position.unwrap_or_default();
    let decision = rules.decision.and_then(decided);
    let leads = availability.leadership_status.unwrap_or_default();
    let resigning = leads.signal() == wire::LeadershipSignal::RequestingDemotion
        && decision
            .as_ref()
            .is_some_and(|decision| decision.rule.term == leads.leader_term);
    let signal = availability
        .cohort_eligibility_status
        .unwrap_or_default()
        .signal();
    let standby = status.replication_status.as_ref();
    let primary = status.primary_status.as_ref();
    let lsn_text = standby
        .map(|standby| standby.last_receive_lsn.as_str())
        .or_else(|| primary.map(|primary| primary.lsn.as_str()))
        .unwrap_or_default();
    Health {
        id: consensus.id.map(ProcessId::from),
        initialized: status.is_initialized,
        ready: status.postgres_ready,
        postgres: match status.postgres_status() {
            manager::PostgresStatus::Unknown => Postgres::Unknown,
            manager::PostgresStatus::Starting => Postgres::Starting,
            manager::PostgresStatus::Standby => Postgres::Standby,
            manager::PostgresStatus::Promoting => Postgres::Promoting,
            manager::PostgresStatus::Primary => Postgres::Primary,
        },
        restoring: matches!(
            status.postgres_action(),
            manager::PostgresAction::RestoringFromBackup
                | manager::PostgresAction::CreatingFirstBackup
        ),
        primary_ready: primary.is_some_and(|primary| primary.ready),
        decision,
        proposal: rules.proposal.map(|rule| members(rule.cohort_members)),
        revoked_below: consensus
            .term_revocation
            .map(|revocation| revocation.revoked_below_term)
            .unwrap_or_default(),
        eligible: signal != wire::CohortEligibilitySignal::Ineligible,
        resigning,
        diverged: availability.suspected_divergence,
        recruit_blocked: consensus.recruit_blocked_until.is_some(),
        streaming: standby.is_some_and(|standby| standby.wal_receiver_status == "streaming"),
        position: lsn(lsn_text),
    }
}

/// A rule without number or leader decides nothing.
fn decided(rule: wire::ShardRule) -> Option<Decision> {
    Some(Decision {
        rule: rule.rule_number?.into(),
        leader: rule.leader_id?.into(),
        cohort: members(rule.cohort_members),
        policy: rule.durability_policy.as_ref().and_then(Policy::of),
    })
}

fn members(ids: Vec<wire::Id>) -> BTreeSet<ProcessId> {
    ids.into_iter().map(ProcessId::from).collect()
}

/// A WAL position as PostgreSQL prints it, in bytes.
pub fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let high = u32::from_str_radix(high, 16).ok()?;
    let low = u32::from_str_radix(low, 16).ok()?;
    Some(u64::from(high) << 32 | u64::from(low))
}
