//! An API server that does not answer, or refuses.

use std::time::Duration;

use cluster::introspection::{Inspector, Window};
use cluster::{Bed, PASSWORD, pass};
use control_plane::{Mark, OperatorProcess, Process, Signal, chart, wait};

use crate::ONE;

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(10);

/// Half of what the window begins with.
const WIDE: f64 = 4.0;

/// Figure 10: the API server hangs, then refuses; nothing crashes, nothing is lost, and the window of requests under way
/// shrinks meanwhile and recovers afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_or_refuses_costs_time_only() {
    let _one = ONE.lock().await;
    let bed = Bed::start("outage", &[]).await.unwrap();
    let mut operator = bed.operator().await.unwrap();
    // The operator remembers for a minute that this token may ask, so it answers without the API server.
    let inspector = Inspector::new(&bed.plane).await.unwrap();
    let fresh = inspector.window(&operator).await.unwrap();
    assert_eq!(fresh.cuts, 0, "nothing was slow yet");

    let names = ["one", "two", "three"];
    let begin = bed.plane.audit().settle().await.unwrap();
    for name in names {
        bed.create(name, PASSWORD).await.unwrap();
    }
    busy(&bed, begin).await;
    bed.plane.signal(Process::ApiServer, Signal::Stop).unwrap();
    pass(AWAY).await.unwrap();
    let hung = inspector.window(&operator).await.unwrap();
    bed.plane.signal(Process::ApiServer, Signal::Cont).unwrap();
    shrunk("hung", fresh, hung);
    for name in names {
        bed.phase(name, "Healthy").await.unwrap();
    }
    recovered(&inspector, &operator).await;
    operator.check().unwrap();

    let inspector = Inspector::new(&bed.plane).await.unwrap(); // another token, another minute
    let calm = inspector.window(&operator).await.unwrap();
    bed.plane.reject_user(&chart::user(), true).await.unwrap();
    bed.create("four", PASSWORD).await.unwrap();
    pass(AWAY).await.unwrap();
    let refused = inspector.window(&operator).await.unwrap();
    bed.plane.reject_user(&chart::user(), false).await.unwrap();
    shrunk("refused", calm, refused);
    bed.phase("four", "Healthy").await.unwrap();
    recovered(&inspector, &operator).await;
    operator.check().unwrap();
}

/// Waits until the operator is in the middle of its work.
async fn busy(bed: &Bed, since: Mark) {
    let audit = bed.plane.audit();
    wait::until("ten writes", Duration::from_secs(20), async || {
        Ok((audit.writes(since, &chart::user())?.len() >= 10).then_some(()))
    })
    .await
    .unwrap();
}

fn shrunk(how: &str, before: Window, now: Window) {
    println!(
        "{how}: window {:.1} → {:.1}, {} cuts",
        before.size,
        now.size,
        now.cuts - before.cuts
    );
    assert!(
        now.cuts > before.cuts && now.size < before.size,
        "{how}: {before:?} → {now:?}"
    );
}

async fn recovered(inspector: &Inspector, operator: &OperatorProcess) {
    wait::until("the window to widen", Duration::from_secs(20), async || {
        let now = inspector.window(operator).await?;
        Ok((now.size >= WIDE).then(|| println!("window {:.1} again", now.size)))
    })
    .await
    .unwrap();
}
