//! From nothing to Healthy, and then silence.

use std::collections::BTreeMap;
use std::time::Duration;

use actors::object::{Key, Kind};
use serde_json::json;

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

/// Whoever mounts a certificate hears of it, however late it is issued: nobody asks again by himself.
#[tokio::test(start_paused = true)]
async fn pods_start_when_their_certificates_are_issued() {
    let bed = Bed::new(4);
    bed.password();
    let (cluster, mut body) = crate::shapes::cluster(MINIMAL);
    body["spec"]["internalTLS"] = json!({"enabled": true});
    bed.server.add(&cluster, body);
    let end = bed.life(async |_| {
        bed.silence().await;
        assert!(bed.server.all(Kind::Pod).iter().all(|(pod, _)| !pod.name.contains("-pool-")));
        let labels = json!({
            "app.kubernetes.io/managed-by": "multigres-operator", "multigres.com/cluster": cluster.name,
            "app.kubernetes.io/instance": cluster.name, "app.kubernetes.io/component": "certificate",
        });
        let data = json!({"tls.crt": "YQ==", "tls.key": "Yg==", "ca.crt": "Yw=="});
        for component in ["multiadmin", "multigateway", "multiorch", "multigres-operator", "multipooler"] {
            bed.silence().await;
            let name = format!("{component}.{}.default.multigres.internal", cluster.name);
            let secret = json!({"metadata": {"labels": labels}, "data": data});
            bed.server.add(&crate::shapes::key(Kind::Secret, &name), secret);
        }
        bed.healthy(&cluster).await;
        bed.silence().await;
        let name = format!("multipooler.{}.default.multigres.internal", cluster.name);
        bed.server.edit(&crate::shapes::key(Kind::Secret, &name), |secret| {
            secret["data"]["tls.crt"] = json!("ZA==");
        });
        let drifted = |state: &crate::server::State| {
            let shards = state.objects.iter().filter(|(key, _)| key.kind == Kind::Shard);
            shards.into_iter().all(|(_, shard)| shard.to_string().contains("PodsDrifted"))
        };
        bed.server.until("a renewed certificate is noticed", drifted).await;
    });
    assert_eq!(end.await, End::Done(()));
}

/// Where the topology is the user's own, nothing but the Cell itself tells an orchestrator that its cell is there.
#[tokio::test(start_paused = true)]
async fn orchestrators_start_when_their_cell_comes_late() {
    const EXTERNAL: &str = include_str!("../../../docs/samples/external-etcd.yaml");
    let bed = Bed::new(5);
    let of_cell = |request: &crate::server::Request| {
        let kind = request.key.as_ref().map(|key| key.kind);
        request.writes() && kind == Some(Kind::Cell)
    };
    bed.server
        .fail(crate::server::Fault::Refuse(500), usize::MAX, of_cell);
    let cluster = bed.create(EXTERNAL);
    let end = bed.life(async |_| {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let deployments = bed.server.all(Kind::Deployment);
        assert!(
            deployments
                .iter()
                .all(|(key, _)| !key.name.contains("multiorch"))
        );
        bed.server.with(|state| state.rules.clear());
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
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
