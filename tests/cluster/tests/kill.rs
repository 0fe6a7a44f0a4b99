//! Death at any instant.

use std::time::Duration;

use cluster::dice::Dice;
use cluster::owned::{Snapshot, becomes, settled};
use cluster::{Bed, PASSWORD, pass};
use control_plane::{OperatorProcess, Overrides};
use kube::api::ListParams;
use serde_json::Value;

use crate::ONE;

/// Kills in all, each in the midst of a bring-up.
const KILLS: usize = 30;
/// Clusters that come up together.
const CLUSTERS: usize = 6;
/// A life ends within this time after it became ready.
const LIFE: Duration = Duration::from_millis(900);
/// Pod and container are the same in every life, so that it takes its own Lease back at once.
const POD: &str = "killed";

/// Figure 7: whenever the operator is killed during a bring-up, the end is that of an undisturbed one: the same owned
/// fields, certificates that belong together, no orphan, no duplicate.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_it_ends_the_same() {
    let _one = ONE.lock().await;
    let mut dice = Dice::cast();
    let bed = Bed::start("kill", &[]).await.unwrap();
    let mut operator = life(&bed).await;
    bed.create("calm00", PASSWORD).await.unwrap();
    bed.phase("calm00", "Healthy").await.unwrap();
    let calm = settled(&bed.plane.client(), "calm00").await.unwrap();

    let mut kills = 0;
    for round in 0.. {
        if kills == KILLS {
            break;
        }
        let names: Vec<String> = (0..CLUSTERS)
            .map(|number| format!("kill{round}{number}"))
            .collect();
        for name in &names {
            bed.create(name, PASSWORD).await.unwrap();
        }
        let mut instants = Vec::new();
        while kills < KILLS {
            let instant = dice.instant(LIFE);
            pass(instant).await.unwrap();
            if healthy(&bed, &names).await {
                break;
            }
            operator.kill();
            kills += 1;
            instants.push(instant.as_millis());
            operator = life(&bed).await;
        }
        println!("round {round}: killed after {instants:?} ms");
        for name in &names {
            bed.phase(name, "Healthy").await.unwrap();
            becomes(&bed.plane.client(), name, &calm).await.unwrap();
        }
    }
    let snapshot = Snapshot::take(&bed.plane.client()).await.unwrap();
    assert_eq!(snapshot.orphans(), Vec::<String>::new());
}

async fn life(bed: &Bed) -> OperatorProcess {
    let overrides = Overrides {
        pod_name: Some(POD.to_owned()),
        env: vec![("POD_UID".to_owned(), POD.to_owned())],
        ..Overrides::default()
    };
    bed.operator_with(overrides).await.unwrap()
}

async fn healthy(bed: &Bed, names: &[String]) -> bool {
    let clusters = bed.clusters().list(&ListParams::default()).await.unwrap();
    let phase =
        |data: &Value| data.pointer("/status/phase").and_then(Value::as_str) == Some("Healthy");
    let healthy = clusters.iter().filter(|cluster| phase(&cluster.data));
    healthy
        .filter(|cluster| names.contains(cluster.metadata.name.as_ref().unwrap()))
        .count()
        == names.len()
}
