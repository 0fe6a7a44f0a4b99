//! Actors that panic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster::{Bed, PASSWORD};
use control_plane::{chart, wait};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::ONE;

/// Figure 9: an actor that panics is restarted without harm to its neighbours; one that always panics is set aside with
/// `Stalled` until its resource is edited. The operator runs inside the test, since only there a panic can be forced.
#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_actor_harms_nobody_and_stalls_until_an_edit() {
    use clap::Parser;
    use multigres_operator::{args, process, runtime};

    let _one = ONE.lock().await;
    runtime::install_crypto();
    let bed = Bed::start("panic", &[]).await.unwrap();
    let once = Arc::new(AtomicUsize::new(0));
    let falls = once.clone();
    // `once` falls on its first two decisions, `always` on every one until its spec was edited.
    let hook = move |id: &actors::room::ActorId, key: &actors::object::Key, incarnation: u64| {
        let cluster = id.kind == actors::object::Kind::MultigresCluster;
        if cluster && &*key.name == "once" && falls.fetch_add(1, Ordering::SeqCst) < 2 {
            panic!("forced");
        }
        if cluster && &*key.name == "always" && incarnation <= 5 {
            panic!("forced");
        }
    };
    let hooks = actors::operator::Hooks {
        before_decision: Some(Arc::new(hook)),
    };
    let variables = BTreeMap::from([
        ("POD_NAMESPACE".to_owned(), chart::NAMESPACE.to_owned()),
        (
            "POD_SERVICE_ACCOUNT".to_owned(),
            chart::SERVICE_ACCOUNT.to_owned(),
        ),
    ]);
    let environment =
        args::Environment::from_variables(variables, "test", std::process::id()).unwrap();
    let flags = [
        "operator",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=127.0.0.1:0",
        "--topology-stores=false",
        "--data-plane=false",
    ];
    let args = args::Args::parse_from(flags);
    let kubeconfig = bed
        .plane
        .service_account_kubeconfig(chart::NAMESPACE, chart::SERVICE_ACCOUNT)
        .await
        .unwrap();
    let config = process::config(Some(kubeconfig.as_path())).await.unwrap();
    let operator = process::Process::start(config, &args, &environment, hooks)
        .await
        .unwrap();

    let good: Vec<String> = (0..8).map(|number| format!("good{number}")).collect();
    for name in good.iter().map(String::as_str).chain(["once", "always"]) {
        bed.create(name, PASSWORD).await.unwrap();
    }
    for name in good.iter().map(String::as_str).chain(["once"]) {
        bed.phase(name, "Healthy").await.unwrap();
    }
    assert!(
        once.load(Ordering::SeqCst) > 2,
        "the actor fell twice and went on"
    );
    let clusters = bed.clusters();
    wait::until(
        "the stub to say Stalled",
        Duration::from_secs(30),
        async || {
            let stalled = bed.condition(&clusters, "always", "Stalled").await?;
            Ok(stalled
                .filter(|(status, reason, _)| status == "True" && reason == "ActorStalled")
                .map(drop))
        },
    )
    .await
    .unwrap();
    let edit = json!({"spec": {"logLevels": {"multiadmin": "debug"}}});
    clusters
        .patch("always", &PatchParams::default(), &Patch::Merge(edit))
        .await
        .unwrap();
    bed.phase("always", "Healthy").await.unwrap();
    operator.stop().await;
}
