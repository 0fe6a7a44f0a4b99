//! Nothing is written without the lease, and a new leader looks before it writes.

use std::sync::Arc;
use std::time::Duration;

use actors::object::Kind;
use actors::operator::Leadership;
use actors::supervisor::Inflow;
use tokio::time::Instant;

use crate::bed::{Bed, End, Life};
use crate::server::Request;
use crate::shapes::{MINIMAL, cluster};
use crate::watches::Travel;

/// As the process does it: the lease first, then the word to the supervisor.
async fn lead(life: &Life<'_>, leads: bool) {
    let now = if leads {
        Bed::leader()
    } else {
        Leadership::Standby
    };
    life.leadership.send_replace(now);
    life.inflow.send(Inflow::Leadership(leads)).await.unwrap();
}

fn writes(requests: &[Request]) -> usize {
    requests.iter().filter(|request| request.writes()).count()
}

/// At any request of a bring-up the leadership goes: what is on its way arrives, nothing else is sent. Once it is back, the
/// end is the same.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_leadership_is_lost() {
    for at in (1..50).step_by(4) {
        let bed = Bed::new(40);
        let cluster = bed.create(MINIMAL);
        let end = bed.life(async |life| {
            let mut movement = bed.server.movement();
            while bed.server.mark() < at {
                movement.changed().await.unwrap();
            }
            lead(life, false).await;
            let lost = Instant::now();
            tokio::time::sleep(Duration::from_secs(60)).await;
            // The client needs 2 ms to reach the server.
            let late = |request: &&Request| {
                request.writes() && request.at > lost + Duration::from_millis(2)
            };
            let late: Vec<Request> = bed.server.since(0).iter().filter(late).cloned().collect();
            assert!(
                late.is_empty(),
                "sent by nobody's leader after request {at}: {late:?}"
            );
            assert_eq!(life.metric("multigres_operator_leader").await, 0.0);
            lead(life, true).await;
            bed.healthy(&cluster).await;
        });
        assert_eq!(end.await, End::Done(()), "lost at request {at}");
    }
}

/// The deadline alone ends it, though nobody says so.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_deadline_of_the_lease() {
    let bed = Bed::new(41);
    bed.create(MINIMAL);
    let until = Instant::now() + Duration::from_millis(100);
    let end = bed.life_as(Leadership::Leader { until }, async |_| bed.silence().await);
    assert_eq!(end.await, End::Done(()));
    let log = bed.server.since(0);
    assert!(writes(&log) > 5, "{log:?}");
    let late = log
        .iter()
        .filter(|request| request.writes() && request.at > until + Duration::from_millis(2));
    assert_eq!(late.count(), 0);
}

/// A request of two steps (a certificate: read the authority, then create) stops between them.
#[tokio::test(start_paused = true)]
async fn a_request_of_two_steps_stops_between_them() {
    let bed = Bed::new(42);
    bed.create(MINIMAL);
    let end = bed.life(async |life| {
        let mut movement = bed.server.movement();
        let read = |request: &Request| {
            let key = request.key.as_ref();
            request.method == "GET" && key.is_some_and(|key| key.name.ends_with("pgbackrest-ca"))
        };
        while !bed.server.peek(|state| state.log.iter().any(read)) {
            movement.changed().await.unwrap();
        }
        life.leadership.send_replace(Leadership::Standby);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let leaf = |state: &crate::server::State| {
            state
                .objects
                .keys()
                .any(|key| key.name.ends_with("pgbackrest-tls"))
        };
        assert!(
            !bed.server.peek(leaf),
            "the certificate was made without the lease"
        );
    });
    assert_eq!(end.await, End::Done(()));
}

#[tokio::test(start_paused = true)]
async fn a_standby_reads_and_writes_nothing_until_it_leads() {
    let bed = Bed::new(43);
    let cluster = bed.create(MINIMAL);
    let end = bed.life_as(Leadership::Standby, async |life| {
        bed.silence().await;
        assert_eq!(writes(&bed.server.since(0)), 0);
        assert_eq!(
            life.handle.ready(),
            Ok(()),
            "readiness does not need leadership"
        );
        assert_eq!(life.known(Kind::MultigresCluster).await, 1);
        lead(life, true).await;
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
}

/// The other leader finished the work while news of it is still under way here: the lists come before the first write, and
/// so there is none.
#[tokio::test(start_paused = true)]
async fn leadership_regained_lists_before_the_first_write() {
    let bed = Bed::new(44);
    let cluster = bed.create(MINIMAL);
    let slow = Travel {
        least: Duration::from_secs(500),
        most: Duration::from_secs(501),
        list: Duration::from_secs(5),
        ..Travel::default()
    };
    let mut first = Bed::on(bed.server.peek(crate::server::State::fork), 45);
    let end = bed.life_as(Leadership::Standby, async |life| {
        bed.silence().await;
        bed.travel(slow);
        // Another process leads: its work is done on a server of its own, and then laid under ours.
        first.hooks = bed.hooks.clone();
        let done = Arc::new(tokio::sync::Mutex::new(Vec::new()));
        first
            .life(async |_| {
                first.healthy(&cluster).await;
                first.silence().await;
                *done.lock().await = first
                    .server
                    .peek(|state| state.objects.clone().into_iter().collect());
            })
            .await;
        for (key, object) in done.lock().await.drain(..) {
            bed.server.with(|state| {
                state.commit(&key, Some(object));
            });
        }
        let gained = bed.server.mark();
        lead(life, true).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(
            bed.server.mark(),
            gained,
            "sent before the lists were there"
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(
            writes(&bed.server.since(gained)),
            0,
            "{:?}",
            bed.server.since(gained)
        );
        assert!(life.known(Kind::Pod).await > 0);
    });
    assert_eq!(end.await, End::Done(()));
}

/// The users' Secrets are followed apart from the lists of a new leader: one that comes while those run is noticed.
#[tokio::test(start_paused = true)]
async fn a_secret_that_comes_while_a_new_leader_lists_is_noticed() {
    let bed = Bed::new(64);
    let (cluster, body) = cluster(MINIMAL);
    bed.server.add(&cluster, body);
    let end = bed.life(async |life| {
        bed.phase(&cluster, "Degraded").await;
        lead(life, false).await;
        lead(life, true).await;
        bed.password();
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
}
