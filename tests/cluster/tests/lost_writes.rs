//! The stand-in's ledger tells on operators that break a shard, and has nothing to say of ours in the same scene: one pooler of
//! three gives up, and is to be replaced on a fresh volume.

use std::path::Path;

use cluster::broken::{self, Fault};
use cluster::{Bed, HEALTHY};
use control_plane::{OperatorProcess, Overrides};
use serde_json::json;
use standin::ledger::Violation;

use crate::ONE;
use crate::scene::{self, Scene};

/// Ours replaces one member without a violation. One that deletes two members at once takes the quorum away; one that deletes
/// every pod and volume wipes the last holder of an acknowledged write. The ledger reports each.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_tells_on_broken_operators() {
    let _one = ONE.lock().await;
    let broken = tokio::spawn(broken::build());
    let bed = Bed::start_with_data_plane("ledger").await.unwrap();
    let operator = bed.operator().await.unwrap();
    scene::create(&bed, scene::CLUSTER, scene::MEMBERS, json!({})).await;
    let scene = Scene::of(bed).await;

    let former = scene.one_gives_up().await;
    scene.replaced(&former).await;
    scene.whole().await;
    let violations = scene.violations();
    assert!(violations.is_empty(), "the real operator: {violations:?}");
    end(operator).await;

    let broken = broken.await.unwrap().unwrap();
    let operator = start(&scene.bed, &broken, Fault::TwoMembers).await;
    let former = scene.one_gives_up().await;
    reported(&scene, "no quorum", quorum_lost).await;
    end(operator).await;

    // Ours finds what the broken one left, and ends what it began.
    let operator = scene.bed.operator().await.unwrap();
    scene.replaced(&former).await;
    scene.whole().await;
    let violations = scene.violations();
    assert!(violations.iter().all(quorum_lost), "{violations:?}");
    end(operator).await;

    let operator = start(&scene.bed, &broken, Fault::LastHolder).await;
    scene.one_gives_up().await;
    reported(&scene, "a lost write", holder_gone).await;
    drop(operator);
}

fn quorum_lost(violation: &Violation) -> bool {
    matches!(violation, Violation::QuorumLost { .. })
}

fn holder_gone(violation: &Violation) -> bool {
    matches!(violation, Violation::LastHolderGone { .. })
}

async fn start(bed: &Bed, broken: &Path, fault: Fault) -> OperatorProcess {
    let overrides = Overrides {
        env: vec![fault.env()],
        ..Overrides::default()
    };
    let mut operator = bed.installed.spawn(broken, overrides).unwrap();
    operator.ready().await.unwrap();
    operator
}

async fn end(mut operator: OperatorProcess) {
    operator.terminate().await.unwrap();
}

/// Waits until the ledger has such a violation.
async fn reported(scene: &Scene, what: &str, such: fn(&Violation) -> bool) {
    let shard = &scene.topology.shard;
    let found = shard.until(|shard| shard.ledger.violations().iter().find(|v| such(v)).cloned());
    match tokio::time::timeout(HEALTHY, found).await {
        Ok(violation) => println!("the ledger reports {violation:?}"),
        Err(_) => panic!("{what} is not reported: {:?}", scene.violations()),
    }
}
