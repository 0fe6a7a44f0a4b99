//! The model in the data plane's messages: records of the topology and answers of calls. Pure.

pub mod backups;
pub mod problems;
pub mod record;
pub mod status;

use actors::proto::clustermetadata as wire;
use jiff::Timestamp;

use crate::{
    lsn::Lsn,
    name::{Component, Id, ShardKey},
    policy::{Policy, Quorum},
    rule::{Position, Rule, RuleNumber},
    shard::Claim,
};

/// A point in time.
pub fn time(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// A length of time.
pub fn duration(length: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or_default(),
    }
}

/// An identity.
pub fn id(id: &Id) -> wire::Id {
    use wire::id::ComponentType;
    let component = match id.component {
        Component::Multipooler => ComponentType::Multipooler,
        Component::Multigateway => ComponentType::Multigateway,
        Component::Multiorch => ComponentType::Multiorch,
    };
    wire::Id {
        component: component.into(),
        cell: id.cell.clone(),
        name: id.name.clone(),
    }
}

/// An identity as it was sent; nothing when the component is unknown.
pub fn parse_id(id: &wire::Id) -> Option<Id> {
    use wire::id::ComponentType;
    let component = match ComponentType::try_from(id.component).ok()? {
        ComponentType::Multipooler => Component::Multipooler,
        ComponentType::Multigateway => Component::Multigateway,
        ComponentType::Multiorch => Component::Multiorch,
        ComponentType::Unknown => return None,
    };
    Some(Id::new(component, id.cell.clone(), id.name.clone()))
}

/// A shard's name.
pub fn shard_key(key: &ShardKey) -> wire::ShardKey {
    wire::ShardKey {
        database: key.database.clone(),
        table_group: key.table_group.clone(),
        shard: key.shard.clone(),
    }
}

/// A number of a rule.
pub fn rule_number(number: RuleNumber) -> wire::RuleNumber {
    wire::RuleNumber {
        coordinator_term: number.term,
        leader_subterm: number.subterm,
    }
}

/// A durability policy.
pub fn policy(policy: &Policy) -> wire::DurabilityPolicy {
    let quorum = match policy.quorum {
        Quorum::AtLeast => wire::QuorumType::AtLeastN,
        Quorum::MultiCell => wire::QuorumType::MultiCellAtLeastN,
    };
    wire::DurabilityPolicy {
        policy_name: policy.name.clone(),
        policy_version: policy.version,
        quorum_type: quorum.into(),
        required_count: i32::try_from(policy.required).unwrap_or(i32::MAX),
        description: String::new(),
    }
}

/// The policy of a Database record; nothing when it makes no sense.
pub fn parse_policy(policy: &wire::DurabilityPolicy) -> Option<Policy> {
    let quorum = match policy.quorum_type() {
        wire::QuorumType::AtLeastN => Quorum::AtLeast,
        wire::QuorumType::MultiCellAtLeastN => Quorum::MultiCell,
        wire::QuorumType::Unknown => return None,
    };
    Some(Policy {
        name: policy.policy_name.clone(),
        version: policy.policy_version,
        quorum,
        required: usize::try_from(policy.required_count)
            .ok()
            .filter(|n| *n > 0)?,
    })
}

/// A claim to initialise a shard.
pub fn claim(claim: &Claim) -> wire::ShardInitClaim {
    wire::ShardInitClaim {
        claimer_id: Some(id(&claim.claimer)),
        cohort_members: claim.cohort.iter().map(id).collect(),
    }
}

/// A claim as it was found.
pub fn parse_claim(claim: &wire::ShardInitClaim) -> Option<Claim> {
    Some(Claim {
        claimer: parse_id(claim.claimer_id.as_ref()?)?,
        cohort: claim.cohort_members.iter().filter_map(parse_id).collect(),
    })
}

fn rule(rule: &Rule) -> wire::ShardRule {
    wire::ShardRule {
        rule_number: Some(rule_number(rule.number)),
        leader_id: Some(id(&rule.leader)),
        cohort_members: rule.cohort.iter().map(id).collect(),
        durability_policy: Some(policy(&rule.policy)),
        coordinator_id: Some(id(&rule.coordinator)),
        creation_time: Some(time(rule.created)),
    }
}

fn position(position: &Position) -> wire::RulePosition {
    wire::RulePosition {
        decision: position.decision.as_ref().map(rule),
        proposal: position.proposal.as_ref().map(rule),
    }
}

fn lsn_position(position: &Position, lsn: Lsn) -> wire::LsnPosition {
    wire::LsnPosition {
        position: Some(wire::RuleNumberPosition {
            decision: position
                .decision
                .as_ref()
                .map(|rule| rule_number(rule.number)),
            proposal: position
                .proposal
                .as_ref()
                .map(|rule| rule_number(rule.number)),
        }),
        lsn: lsn.to_string(),
    }
}

#[cfg(test)]
mod samples;
