//! What a coordinator answers about a shard (`topology.md` 3.6).

use actors::proto::multiorch;
use jiff::Timestamp;

use super::{id, shard_key, time};
use crate::{
    pooler::{Pooler, Role},
    shard::{Code, Problem, Scope, Shard},
};

/// What `GetShardStatus` answers.
pub fn shard_status(shard: &Shard, now: Timestamp) -> multiorch::ShardStatusResponse {
    multiorch::ShardStatusResponse {
        problems: shard
            .problems()
            .iter()
            .map(|problem| detected(shard, problem))
            .collect(),
        pooler_healths: shard.poolers().map(|pooler| health(pooler, now)).collect(),
    }
}

fn detected(shard: &Shard, problem: &Problem) -> multiorch::DetectedProblem {
    let key = &shard.key;
    let named = format!(
        "shard database:\"{}\" table_group:\"{}\" shard:\"{}\"",
        key.database, key.table_group, key.shard
    );
    let description = match (problem.code, &problem.pooler) {
        (Code::LeaderResigned, _) => format!("Leader for {named} is stepping down"),
        (code, Some(pooler)) => format!("{}: {pooler} of {named}", code.text()),
        (code, None) => format!("{}: {named}", code.text()),
    };
    multiorch::DetectedProblem {
        code: problem.code.text().to_owned(),
        check_name: problem.code.check().to_owned(),
        pooler_id: problem.pooler.as_ref().map(id),
        shard_key: Some(shard_key(key)),
        description,
        priority: problem.code.priority(),
        scope: match problem.code.scope() {
            Scope::Shard => "Shard".to_owned(),
            Scope::Pooler => "Pooler".to_owned(),
        },
        detected_at: Some(time(problem.since)),
    }
}

fn health(pooler: &Pooler, now: Timestamp) -> multiorch::PoolerHealth {
    let connected = pooler.reachable();
    let seen = if connected {
        Some(now)
    } else {
        pooler.isolated.or(pooler.last_ready)
    };
    multiorch::PoolerHealth {
        pooler_id: Some(id(pooler.id())),
        stream_connected: connected,
        postgres_running: false,
        pooler_type: match pooler.record.role {
            None => "UNKNOWN",
            Some(Role::Primary) => "PRIMARY",
            Some(Role::Replica) => "REPLICA",
        }
        .to_owned(),
        last_seen: seen.map(time),
        postgres_ready: connected && pooler.ready(),
    }
}
