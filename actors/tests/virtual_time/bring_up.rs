//! From nothing to Healthy, and then silence.

use std::collections::BTreeMap;
use std::time::Duration;

use actors::object::{Key, Kind};

use crate::bed::{Bed, End};
use crate::shapes::{MINIMAL, PASSWORD, THREE_CELLS};

#[tokio::test(start_paused = true)]
async fn clusters_become_healthy_and_each_object_is_made_once() {
    for shape in [MINIMAL, THREE_CELLS] {
        let bed = Bed::new(1);
        let cluster = bed.create(shape);
        let end = bed.life(async |_| bed.healthy(&cluster).await).await;
        assert_eq!(end, End::Done(()));
        assert!(
            bed.now().as_second() - 1_767_225_600 < 3,
            "it took until {}",
            bed.now()
        );
        let mut made: BTreeMap<Key, usize> = BTreeMap::new();
        for request in bed
            .server
            .writes_since(0)
            .into_iter()
            .filter(|request| !request.status)
        {
            *made.entry(request.key.unwrap()).or_default() += 1;
        }
        assert!(
            made.values().all(|times| *times == 1),
            "written more than once: {made:?}"
        );
    }
}

/// Everything that the operator sees is touched, so that every actor looks again: it writes nothing and asks nothing.
#[tokio::test(start_paused = true)]
async fn a_settled_cluster_makes_no_call_and_leaves_no_timer() {
    let bed = Bed::new(2);
    bed.create(THREE_CELLS);
    let end = bed.life(async |life| {
        bed.silence().await;
        let before = decisions(life).await;
        let settled = bed.server.mark();
        let all = bed
            .server
            .peek(|state| state.objects.keys().cloned().collect::<Vec<_>>());
        for key in all.into_iter().filter(|key| &*key.name != PASSWORD) {
            bed.server.edit(&key, |object| {
                object["metadata"]["annotations"]["example.com/seen"] = "1".into()
            });
        }
        bed.silence().await;
        life.relist().await;
        for actor in life.actors().await {
            // Only what is known to happen has a timer: certificates are renewed months from now.
            let wake = actor["nextWake"]
                .as_str()
                .map(|at| at.parse::<jiff::Timestamp>().unwrap());
            let month = bed.now() + jiff::SignedDuration::from_hours(30 * 24);
            assert!(wake.is_none_or(|at| at > month), "a timer is left: {actor}");
            assert_eq!(actor["inbox"]["depth"], 0, "{actor}");
        }
        let after = decisions(life).await;
        for (actor, count) in &before {
            assert!(
                after[actor] >= count + 2,
                "{actor} did not look again: {count} → {}",
                after[actor]
            );
        }
        tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
        assert_eq!(
            decisions(life).await,
            after,
            "somebody woke up in a day of silence"
        );
        let calls = bed.server.since(settled);
        assert!(calls.is_empty(), "calls of a settled cluster: {calls:?}");
        assert!(life.known(Kind::Pod).await > 0);
    });
    assert_eq!(end.await, End::Done(()));
}

async fn decisions(life: &crate::bed::Life<'_>) -> BTreeMap<String, u64> {
    let actors = life.actors().await;
    actors
        .iter()
        .map(|actor| {
            (
                actor["actor"].to_string(),
                actor["decisions"].as_u64().unwrap(),
            )
        })
        .collect()
}
