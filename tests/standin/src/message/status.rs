//! A pooler's view of itself (`topology.md` 2.3), with the fields set that real poolers set in the same situation.

use std::time::Duration;

use actors::proto::{clustermetadata as wire, multipoolermanagerdata as manager};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{duration, id, lsn_position, position, rule_number, time};
use crate::{
    name::Id,
    pooler::{Pooler, Postgres, Role, Work},
    rule::Position,
    shard::Shard,
};

/// Capacity for standbys.
const MAX_WAL_SENDERS: i32 = 25;
const POSTGRES_PORT: i32 = 5432;
const PASSFILE: &str = "/var/lib/pooler/pgbackrest/pgbackrest.pgpass";

/// What `Status` answers, with timestamps of a clock that is off by so much.
pub fn response(
    shard: &Shard,
    pooler: &Pooler,
    now: Timestamp,
    skew: SignedDuration,
) -> manager::StatusResponse {
    let clock = |at: Timestamp| time(at.checked_add(skew).unwrap_or(at));
    manager::StatusResponse {
        status: Some(status(shard, pooler, now, &clock)),
        availability_status: Some(availability(shard, pooler)),
        consensus_status: Some(consensus(shard, pooler, &clock)),
    }
}

/// A status without positions and times of day: what must change for a health stream to speak up.
pub fn essence(mut status: manager::StatusResponse) -> manager::StatusResponse {
    if let Some(own) = &mut status.status {
        own.wal_position.clear();
        own.postgres_action_duration = None;
        if let Some(primary) = &mut own.primary_status {
            primary.lsn.clear();
        }
        if let Some(standby) = &mut own.replication_status {
            standby.last_replay_lsn.clear();
            standby.last_receive_lsn.clear();
            standby.last_xact_replay_timestamp.clear();
            standby.last_msg_receive_time = None;
            standby.last_receive_lsn_advance_time = None;
        }
    }
    if let Some(position) = status
        .consensus_status
        .as_mut()
        .and_then(|consensus| consensus.current_position.as_mut())
    {
        position.lsn.clear();
    }
    status
}

fn status(
    shard: &Shard,
    pooler: &Pooler,
    now: Timestamp,
    clock: &dyn Fn(Timestamp) -> prost_types::Timestamp,
) -> manager::Status {
    use manager::{PostgresAction as Action, PostgresStatus as State};
    let data = shard.data(pooler.id());
    let ready = pooler.ready();
    let (state, action, since) = match pooler.postgres {
        Postgres::Down => (State::Unknown, Action::Unspecified, None),
        Postgres::Standby => (State::Standby, Action::Unspecified, None),
        Postgres::Primary => (State::Primary, Action::Unspecified, None),
        Postgres::Busy(work, since, _) => match work {
            Work::Starting | Work::Demoting => (State::Starting, Action::Starting, Some(since)),
            Work::Restoring => (State::Unknown, Action::RestoringFromBackup, Some(since)),
            Work::FirstBackup => (State::Primary, Action::CreatingFirstBackup, Some(since)),
            Work::Promoting => (State::Promoting, Action::Unspecified, None),
            Work::Rewinding => (State::Unknown, Action::Unspecified, None),
        },
    };
    let running = ready
        || matches!(
            pooler.postgres,
            Postgres::Busy(
                Work::Starting | Work::Demoting | Work::FirstBackup | Work::Promoting,
                ..
            )
        );
    let head = data
        .filter(|_| ready)
        .map(|data| data.wal.head().to_string());
    manager::Status {
        pooler_type: kind(pooler).into(),
        primary_status: (pooler.postgres == Postgres::Primary)
            .then(|| primary(shard, pooler, head.clone().unwrap_or_default())),
        replication_status: (pooler.postgres == Postgres::Standby)
            .then(|| standby(shard, pooler, now, clock)),
        is_initialized: data.is_some(),
        has_data_directory: data.is_some()
            || matches!(pooler.postgres, Postgres::Busy(Work::FirstBackup, ..)),
        postgres_running: running,
        postgres_status: state.into(),
        wal_position: head.unwrap_or_default(),
        shard_id: shard.key.shard.clone(),
        postgres_action: action.into(),
        postgres_action_duration: since
            .and_then(|since| Duration::try_from(now.duration_since(since)).ok())
            .map(duration),
        postgres_ready: ready,
        failover_slots_ready: 0,
        failover_slots_total: 0,
    }
}

fn kind(pooler: &Pooler) -> wire::PoolerType {
    match pooler.record.role {
        None => wire::PoolerType::Unknown,
        Some(Role::Primary) => wire::PoolerType::Primary,
        Some(Role::Replica) => wire::PoolerType::Replica,
    }
}

fn primary(shard: &Shard, pooler: &Pooler, lsn: String) -> manager::PrimaryStatus {
    let rule = shard
        .data(pooler.id())
        .and_then(|data| data.position.newest());
    let sync = rule.map(|rule| rule.policy.standbys(pooler.id(), &rule.cohort));
    let sync = sync
        .filter(|(count, _)| *count > 0)
        .map(
            |(count, standbys)| manager::SynchronousReplicationConfiguration {
                synchronous_commit: manager::SynchronousCommitLevel::SynchronousCommitOn.into(),
                synchronous_method: manager::SynchronousMethod::Any.into(),
                num_sync: i32::try_from(count).unwrap_or(i32::MAX),
                standby_ids: standbys.iter().map(id).collect(),
                standby_application_names: standbys.iter().map(Id::application_name).collect(),
            },
        );
    manager::PrimaryStatus {
        lsn,
        ready: true,
        connected_followers: shard.followers(pooler.id()).iter().map(id).collect(),
        sync_replication_config: sync,
        max_wal_senders: MAX_WAL_SENDERS,
    }
}

fn standby(
    shard: &Shard,
    pooler: &Pooler,
    now: Timestamp,
    clock: &dyn Fn(Timestamp) -> prost_types::Timestamp,
) -> manager::StandbyReplicationStatus {
    let head = shard
        .data(pooler.id())
        .map_or_else(String::new, |data| data.wal.head().to_string());
    let streaming = shard.leader_streamed(pooler).is_some();
    let replayed = pooler.advanced.map(|at| {
        let at = at.to_zoned(TimeZone::UTC);
        at.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
    });
    manager::StandbyReplicationStatus {
        last_replay_lsn: head.clone(),
        last_receive_lsn: if streaming { head } else { String::new() },
        is_wal_replay_paused: false,
        wal_replay_pause_state: "not paused".to_owned(),
        lag: None,
        last_xact_replay_timestamp: replayed.unwrap_or_default(),
        primary_conn_info: conn_info(shard, pooler),
        wal_receiver_status: if streaming { "streaming" } else { "" }.to_owned(),
        last_msg_receive_time: streaming.then(|| clock(now)),
        wal_receiver_status_interval: streaming.then(|| duration(Duration::from_secs(10))),
        wal_receiver_timeout: None,
        last_receive_lsn_advance_time: pooler.advanced.filter(|_| streaming).map(clock),
    }
}

fn conn_info(shard: &Shard, pooler: &Pooler) -> Option<manager::PrimaryConnInfo> {
    let leader = shard.pooler(&pooler.following.as_ref()?.leader)?;
    let (host, name) = (leader.site.host.clone(), pooler.id().application_name());
    Some(manager::PrimaryConnInfo {
        raw: format!(
            "host={host} port={POSTGRES_PORT} user=postgres application_name={name} dbname=postgres passfile={PASSFILE}"
        ),
        host,
        port: POSTGRES_PORT,
        user: "postgres".to_owned(),
        application_name: name,
        passfile: PASSFILE.to_owned(),
        dbname: "postgres".to_owned(),
    })
}

fn availability(shard: &Shard, pooler: &Pooler) -> wire::AvailabilityStatus {
    let signal = if pooler.eligible {
        wire::CohortEligibilitySignal::Eligible
    } else {
        wire::CohortEligibilitySignal::Ineligible
    };
    let leader = pooler
        .following
        .as_ref()
        .and_then(|following| shard.data(&following.leader));
    let diverged = shard
        .data(pooler.id())
        .zip(leader)
        .is_some_and(|(own, leader)| !own.wal.is_prefix_of(&leader.wal));
    wire::AvailabilityStatus {
        leadership_status: pooler.resigned.map(|term| wire::LeadershipStatus {
            leader_term: term,
            signal: wire::LeadershipSignal::RequestingDemotion.into(),
        }),
        cohort_eligibility_status: Some(wire::CohortEligibilityStatus {
            signal: signal.into(),
        }),
        suspected_divergence: diverged,
    }
}

fn consensus(
    shard: &Shard,
    pooler: &Pooler,
    clock: &dyn Fn(Timestamp) -> prost_types::Timestamp,
) -> wire::ConsensusStatus {
    let volume = shard.volume_of(pooler.id());
    let revocation = volume.and_then(|volume| volume.revocation.as_ref());
    let data = volume.and_then(|volume| volume.data.as_ref());
    let following = pooler.following.as_ref().and_then(|following| {
        let leader = shard.pooler(&following.leader)?;
        Some(wire::ReplicationPrimary {
            position: Some(position(&Position {
                decision: Some(following.rule.clone()),
                proposal: None,
            })),
            primary: Some(wire::PoolerAddress {
                id: Some(id(leader.id())),
                host: leader.site.host.clone(),
                postgres_port: POSTGRES_PORT,
            }),
            rewind_ready: leader.is_primary(),
        })
    });
    wire::ConsensusStatus {
        term_revocation: revocation.map(|revocation| wire::TermRevocation {
            revoked_below_term: revocation.below_term,
            accepted_coordinator_id: Some(id(&revocation.coordinator)),
            coordinator_initiated_at: Some(clock(revocation.initiated)),
            outgoing_rule: revocation.outgoing.map(rule_number),
        }),
        current_position: data
            .filter(|_| pooler.ready())
            .map(|data| wire::PoolerPosition {
                position: Some(position(&data.position)),
                lsn: data.wal.head().to_string(),
            }),
        replication_primary: following,
        id: Some(id(pooler.id())),
        recruit_blocked_until: volume
            .and_then(|volume| volume.blocked_until)
            .zip(data)
            .map(|(lsn, data)| lsn_position(&data.position, lsn)),
    }
}
