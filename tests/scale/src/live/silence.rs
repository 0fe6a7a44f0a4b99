//! What a settled fleet with open streams does: nothing, towards Kubernetes, etcd and components.

use std::time::Duration;

use super::{etcd::Etcd, scene::Scene};
use crate::{
    bench::Bench,
    quiet::{self, Listener},
};

/// How long the settled fleet is listened to.
const INTERVAL: Duration = Duration::from_secs(60);

/// Listens to a settled fleet and adds what happened.
///
/// # Errors
/// When a log cannot be read, or etcd does not answer.
pub async fn measure(bench: &mut Bench<'_>, scene: &Scene, etcds: &[&Etcd]) -> anyhow::Result<()> {
    let audit = bench.audit.clone();
    let before = revisions(etcds).await?;
    let calls = scene.fleet.calls().rpc();
    let listener = Listener::start(&audit, &scene.operator).await?;
    quiet::rest(INTERVAL, "a settled fleet with its streams open").await;
    let noise = listener.noise().await?;
    let calls = scene.fleet.calls().rpc() - calls;
    let writes = revisions(etcds).await? - before;
    let when = format!("{} clusters settled", scene.clusters);
    bench.noise(&when, INTERVAL, noise);
    for (what, count) in [
        ("writes to etcd", writes as f64),
        ("calls to components", calls as f64),
    ] {
        let name = format!("{when}, {what} in {} s", INTERVAL.as_secs());
        bench.figures.add(name, "", Some(0.0), vec![count]);
    }
    Ok(())
}

async fn revisions(etcds: &[&Etcd]) -> anyhow::Result<i64> {
    let mut sum = 0;
    for etcd in etcds {
        sum += etcd.revision().await?;
    }
    Ok(sum)
}
