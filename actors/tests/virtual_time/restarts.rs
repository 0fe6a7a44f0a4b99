//! A panic takes one actor down: it comes back with back-off, and is given up after a budget until its resource is edited.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::object::{Key, Kind};
use actors::room::ActorId;
use serde_json::Value;
use tokio::time::Instant;

use crate::bed::{Bed, End, Life};
use crate::shapes::{MINIMAL, key};

/// Instants at which the actors of one kind began to decide, and how often they are to fall.
#[derive(Clone, Default)]
struct Falls(Arc<Mutex<(usize, Vec<Instant>)>>);

impl Falls {
    /// Makes actors for which `who` holds panic the next `times` times they decide.
    fn on(
        bed: &mut Bed,
        times: usize,
        who: impl Fn(&ActorId) -> bool + Send + Sync + 'static,
    ) -> Self {
        let falls = Self(Arc::new(Mutex::new((times, Vec::new()))));
        let counted = falls.clone();
        bed.hooks.before_decision = Some(Arc::new(move |id, _, _| {
            if !who(id) {
                return;
            }
            let falls = {
                let mut state = counted.0.lock().unwrap();
                let more = state.0 > 0;
                if more {
                    state.0 -= 1;
                    state.1.push(Instant::now());
                }
                more
            };
            assert!(!falls, "a fall of this test");
        }));
        falls
    }

    fn again(&self, times: usize) {
        self.0.lock().unwrap().0 = times;
    }

    /// Waits between the falls, in milliseconds.
    fn gaps(&self) -> Vec<u128> {
        let state = self.0.lock().unwrap();
        state
            .1
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_millis())
            .collect()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().1.len()
    }
}

fn cell(bed: &Bed) -> Key {
    bed.server.all(Kind::Cell)[0].0.clone()
}

fn condition(object: &Value, kind: &str) -> Value {
    let list = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    list.into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default()
}

async fn stalled(bed: &Bed, key: &Key) {
    bed.server
        .until(&format!("{key} is Stalled"), |state| {
            let object = state.objects.get(key).cloned().unwrap_or_default();
            condition(&object, "Stalled")["reason"] == "ActorStalled"
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn every_actor_that_falls_once_comes_back_and_the_cluster_is_made() {
    for kind in [
        Kind::MultigresCluster,
        Kind::TopoServer,
        Kind::Cell,
        Kind::TableGroup,
        Kind::Shard,
    ] {
        for pool in [false, true] {
            if pool && kind != Kind::Shard {
                continue;
            }
            let mut bed = Bed::new(10);
            let falls = Falls::on(&mut bed, 1, move |id| {
                id.kind == kind && id.pool.is_some() == pool
            });
            let cluster = bed.create(MINIMAL);
            let end = bed.life(async |life| {
                bed.healthy(&cluster).await;
                assert_eq!(
                    life.metric("multigres_operator_actor_restarts_total").await,
                    1.0
                );
            });
            assert_eq!(end.await, End::Done(()));
            assert_eq!(falls.count(), 1, "{kind:?}");
            assert!(
                bed.now().as_second() - 1_767_225_600 < 5,
                "it took until {}",
                bed.now()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_falls_too_often_is_given_up_until_its_resource_is_edited() {
    let mut bed = Bed::new(11);
    let falls = Falls::on(&mut bed, usize::MAX, |id| id.kind == Kind::Cell);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.silence().await;
        assert_eq!(
            falls.gaps(),
            [100, 200, 400, 800],
            "the budget is five, each wait twice the one before"
        );
        let cell = cell(&bed);
        let object = bed.server.get(&cell).unwrap();
        assert_eq!(condition(&object, "Stalled")["reason"], "ActorStalled");
        assert_eq!(condition(&object, "Ready")["status"], "False");
        let actor = life.actor(&cell, None).await;
        assert_eq!(
            (&actor["room"], &actor["stalled"], &actor["restarts"]),
            (&"Stub".into(), &true.into(), &5.into())
        );
        let shard = bed.server.get(&bed.shard()).unwrap();
        assert_ne!(shard["status"]["phase"], Value::Null, "the others go on");

        falls.again(0);
        let mark = bed.server.mark();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(bed.server.since(mark).is_empty(), "a stub is silent");
        bed.server.edit(&cluster, |object| {
            object["spec"]["cells"][0]["zoneId"] = "us-central1-b".into()
        });
        bed.healthy(&cell).await;
        bed.healthy(&cluster).await;
        assert_eq!(
            condition(&bed.server.get(&cell).unwrap(), "Stalled")["status"],
            "False"
        );
    });
    assert_eq!(end.await, End::Done(()));
    assert_eq!(falls.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_given_up_shows_on_its_shard_and_an_edit_ends_it() {
    let mut bed = Bed::new(12);
    let falls = Falls::on(&mut bed, usize::MAX, |id| id.pool.is_some());
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |_| {
        bed.server
            .until("a Shard", |state| {
                state.objects.keys().any(|key| key.kind == Kind::Shard)
            })
            .await;
        let shard = bed.shard();
        stalled(&bed, &shard).await;
        let object = bed.server.get(&shard).unwrap();
        let message = condition(&object, "Stalled")["message"].to_string();
        assert!(message.contains("pool default in cell zone-a"), "{message}");
        assert_eq!(object["status"]["phase"], "Degraded");
        assert!(bed.server.all(Kind::Pod).is_empty());
        falls.again(0);
        bed.server.edit(&shard, |object| {
            object["metadata"]["generation"] = 99.into()
        });
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
}

/// Whatever happens to its resource meanwhile, the next life waits for its turn.
#[tokio::test(start_paused = true)]
async fn a_change_of_the_resource_does_not_shorten_the_back_off() {
    let mut bed = Bed::new(15);
    let falls = Falls::on(&mut bed, 4, |id| id.kind == Kind::Cell);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.server
            .until("a Cell", |state| {
                state.objects.keys().any(|key| key.kind == Kind::Cell)
            })
            .await;
        let cell = cell(&bed);
        for _ in 0..100 {
            touch(life, &cell).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
    assert_eq!(falls.gaps(), [100, 200, 400]);
}

/// A resource that goes while its actor waits for the next life takes it along.
#[tokio::test(start_paused = true)]
async fn an_actor_whose_resource_goes_between_two_lives_does_not_come_back() {
    let mut bed = Bed::new(16);
    let falls = Falls::on(&mut bed, usize::MAX, |id| id.kind == Kind::Cell);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        while falls.count() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bed.server.delete(&cluster);
        bed.silence().await;
        assert!(life.actors().await.is_empty());
    });
    assert_eq!(end.await, End::Done(()));
    assert_eq!(falls.count(), 3);
}

/// What a pool told holds until it tells something else: its Shard's status does not flap when it falls.
#[tokio::test(start_paused = true)]
async fn a_pool_between_two_lives_takes_nothing_back() {
    let mut bed = Bed::new(17);
    let falls = Falls::on(&mut bed, 0, |id| id.pool.is_some());
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.healthy(&cluster).await;
        bed.server.edit(&cluster, |object| {
            object["spec"]["logLevels"] = serde_json::json!({"multipooler": "debug"})
        });
        bed.silence().await;
        let shard = bed.shard();
        let drifted = |bed: &Bed| condition(&bed.server.get(&shard).unwrap(), "RollingUpdate");
        assert_eq!(drifted(&bed)["status"], "True");
        let mark = bed.server.mark();
        falls.again(3);
        for _ in 0..20 {
            touch(life, &shard).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bed.silence().await;
        assert_eq!(falls.count(), 3);
        let writes = bed.server.writes_since(mark);
        assert!(writes.is_empty(), "{writes:?}");
        assert_eq!(drifted(&bed)["status"], "True");
    });
    assert_eq!(end.await, End::Done(()));
}

/// The budget is for falls within ten minutes; older ones are forgotten.
#[tokio::test(start_paused = true)]
async fn falls_of_long_ago_do_not_count() {
    let mut bed = Bed::new(13);
    let falls = Falls::on(&mut bed, 0, |id| id.kind == Kind::Cell);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.healthy(&cluster).await;
        let cell = cell(&bed);
        for _ in 0..8 {
            falls.again(1);
            touch(life, &cell).await;
            tokio::time::sleep(Duration::from_secs(601)).await;
        }
        assert_eq!(falls.count(), 8);
        let actor = life.actor(&cell, None).await;
        assert_eq!(
            (&actor["stalled"], &actor["restarts"]),
            (&false.into(), &8.into())
        );
    });
    assert_eq!(end.await, End::Done(()));
}

async fn touch(life: &Life<'_>, key: &Key) {
    let count = life.bed.server.mark().to_string();
    let now = life.bed.now().to_string();
    life.server.edit(key, |object| {
        object["metadata"]["annotations"]["example.com/touched"] = (count + &now).into()
    });
}

/// A counter only grows, also when the actor it counted is gone (`lessons.md` L-MET-03 is about gauges).
#[tokio::test(start_paused = true)]
async fn the_count_of_restarts_survives_the_actors() {
    let mut bed = Bed::new(14);
    Falls::on(&mut bed, 2, |id| id.kind == Kind::Shard);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |life| {
        bed.healthy(&cluster).await;
        assert_eq!(
            life.metric("multigres_operator_actor_restarts_total").await,
            2.0
        );
        bed.server.delete(&cluster);
        bed.silence().await;
        assert!(life.actors().await.is_empty());
        assert_eq!(
            life.metric("multigres_operator_actor_restarts_total").await,
            2.0
        );
        assert_eq!(life.metric("multigres_operator_inbox_depth").await, 0.0);
    });
    assert_eq!(end.await, End::Done(()));
    assert!(
        bed.server
            .get(&key(Kind::MultigresCluster, "minimal"))
            .is_none()
    );
}
