//! The operator as a user meets it, on a real API server with real controllers; only kubelets are played.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cel;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::{Bed, NAMESPACE};
use control_plane::{Process, Signal, chart, wait};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::Mutex;

/// One plane at a time: two cores.
static ONE: Mutex<()> = Mutex::const_new(());

const SHARD: &str = "-postgres-default-0-inf-";

fn shard_of(bed: &Bed, cluster: &str) -> String {
    let names = bed.managed().unwrap();
    let prefix = format!("shard.multigres.com/{cluster}{SHARD}");
    names
        .iter()
        .find(|name| name.starts_with(&prefix))
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned()
}

/// Figures 3, 4, 6 and 11: a bring-up costs few writes, a settled operator is silent, a restart writes nothing, what
/// somebody else changes is put back at once with one write.
#[tokio::test(flavor = "multi_thread")]
async fn a_settled_operator_is_silent_and_repairs_at_once() {
    let _one = ONE.lock().await;
    let bed = Bed::start("settled", &[]).await.unwrap();
    let mut operator = bed.operator().await.unwrap();
    let audit = bed.plane.audit();
    let user = chart::user();

    let begin = audit.settle().await.unwrap();
    for name in ["one", "two", "three"] {
        bed.create(name, "multigres-admin-password").await.unwrap();
    }
    for name in ["one", "two", "three"] {
        bed.phase(name, "Healthy").await.unwrap();
    }
    let settled = audit.settle().await.unwrap();
    let writes = audit.writes(begin, &user).unwrap();
    let events = audit.events(begin, &user).unwrap().len();
    // Made by us: everything but what StatefulSets and Deployments make; plus the cluster itself as custom resource.
    let made = writes
        .iter()
        .filter(|w| w.subresource.is_empty() && w.code == 201)
        .count();
    let resources = 3 * 5;
    let limit = 1.1 * (made + 2 * resources) as f64;
    println!(
        "writes {} (objects {made}, limit {limit:.0}), events {events}",
        writes.len()
    );
    assert!(
        writes.len() as f64 <= limit,
        "{} writes, {limit} allowed",
        writes.len()
    );
    let transitions = writes.iter().filter(|w| w.subresource == "status").count();
    assert!(
        events <= transitions,
        "{events} events for {transitions} status writes"
    );

    let lines = operator.log_lines().unwrap().len();
    let idle = Instant::now();
    let quiet = wait::quietly("a minute", Duration::from_secs(90), async || {
        Ok((idle.elapsed() >= Duration::from_secs(60)).then_some(()))
    });
    quiet.await.unwrap();
    let after = audit.settle().await.unwrap();
    let noise: Vec<String> = audit
        .writes(settled, &user)
        .unwrap()
        .iter()
        .map(|w| w.target())
        .collect();
    assert!(noise.is_empty(), "writes while settled: {noise:?}");
    assert_eq!(audit.events(settled, &user).unwrap().len(), 0);
    assert_eq!(
        operator.log_lines().unwrap().len(),
        lines,
        "log lines while settled"
    );

    operator.terminate().await.unwrap();
    let restart = Instant::now();
    let operator = bed.operator().await.unwrap();
    let ready = restart.elapsed();
    assert!(ready < Duration::from_secs(3), "ready after {ready:?}");
    let elapsed = Instant::now();
    wait::quietly("ten seconds", Duration::from_secs(20), async || {
        Ok((elapsed.elapsed() >= Duration::from_secs(10)).then_some(()))
    })
    .await
    .unwrap();
    let restarted = audit.settle().await.unwrap();
    let noise: Vec<String> = audit
        .writes(after, &user)
        .unwrap()
        .iter()
        .map(|w| w.target())
        .collect();
    assert!(noise.is_empty(), "writes after a restart: {noise:?}");

    repairs(&bed, restarted).await;
    drop(operator);
}

async fn repairs(bed: &Bed, begin: control_plane::Mark) {
    let (audit, user) = (bed.plane.audit(), chart::user());
    let services: Api<Service> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let name = "one-multigateway";
    let ours = |service: &Service| {
        let labelled = service
            .metadata
            .labels
            .as_ref()
            .is_some_and(|l| l.contains_key("app.kubernetes.io/managed-by"));
        let port = service
            .spec
            .as_ref()
            .and_then(|s| s.ports.as_ref())
            .and_then(|p| p.first().map(|p| p.port));
        labelled && port == Some(5432)
    };
    let mut from = begin;
    for (how, patch) in [
        (
            "edited",
            Some(
                json!({"spec": {"ports": [{"name": "postgres", "port": 5999, "targetPort": "postgres", "protocol": "TCP"}]}}),
            ),
        ),
        (
            "stripped of its labels",
            Some(json!({"metadata": {"labels": null}})),
        ),
        ("deleted", None),
    ] {
        match patch {
            Some(patch) => drop(
                services
                    .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .unwrap(),
            ),
            None => drop(
                services
                    .delete(name, &DeleteParams::default())
                    .await
                    .unwrap(),
            ),
        }
        let started = Instant::now();
        wait::until(
            &format!("a Service {how} to be put back"),
            Duration::from_secs(10),
            async || Ok(services.get_opt(name).await?.filter(ours).map(drop)),
        )
        .await
        .unwrap();
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs(1),
            "{how}: put back after {took:?}"
        );
        let now = audit.settle().await.unwrap();
        let writes: Vec<String> = audit
            .writes(from, &user)
            .unwrap()
            .iter()
            .map(|w| w.target())
            .collect();
        assert_eq!(writes.len(), 1, "{how}: {writes:?}");
        from = now;
    }
}

/// A missing Secret and a foreign object say so on the object they block, block nothing else, and heal by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_where_the_user_looks_and_heals() {
    let _one = ONE.lock().await;
    let bed = Bed::start("bad-input", &[]).await.unwrap();
    let operator = bed.operator().await.unwrap();
    let maps: Api<Service> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let foreign = serde_json::from_value(json!({
        "metadata": {"name": "taken-multiadmin"}, "spec": {"ports": [{"port": 80}]},
    }))
    .unwrap();
    maps.create(&PostParams::default(), &foreign).await.unwrap();
    bed.create("nosecret", "not-there").await.unwrap();
    bed.create("taken", "multigres-admin-password")
        .await
        .unwrap();
    bed.create("good", "multigres-admin-password")
        .await
        .unwrap();
    bed.phase("good", "Healthy").await.unwrap();
    bed.phase("nosecret", "Degraded").await.unwrap();
    bed.phase("taken", "Degraded").await.unwrap();

    let shard = shard_of(&bed, "nosecret");
    let shards = bed.api("Shard", "shards");
    let (status, reason, message) = bed
        .condition(&shards, &shard, "Stalled")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "PasswordSecretInvalid")
    );
    assert!(
        message.contains("not-there") && message.contains("postgresPasswordSecretRef"),
        "{message}"
    );
    let (_, reason, message) = bed
        .condition(&bed.clusters(), "taken", "Stalled")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(reason, "NameTaken");
    assert!(
        message.contains("Service default/taken-multiadmin"),
        "{message}"
    );

    bed.secret("not-there", "now-it-is").await.unwrap();
    maps.delete("taken-multiadmin", &DeleteParams::default())
        .await
        .unwrap();
    bed.phase("nosecret", "Healthy").await.unwrap();
    bed.phase("taken", "Healthy").await.unwrap();
    drop(operator);
}

/// Deleting a cluster leaves what the volume policy keeps and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_cluster_leaves_nothing_but_kept_volumes() {
    let _one = ONE.lock().await;
    let bed = Bed::start("deletion", &[]).await.unwrap();
    let operator = bed.operator().await.unwrap();
    bed.create("gone", "multigres-admin-password")
        .await
        .unwrap();
    bed.create("kept", "multigres-admin-password")
        .await
        .unwrap();
    bed.phase("gone", "Healthy").await.unwrap();
    bed.phase("kept", "Healthy").await.unwrap();
    let policy =
        json!({"spec": {"pvcDeletionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"}}});
    bed.create("retain", "multigres-admin-password")
        .await
        .unwrap();
    bed.clusters()
        .patch("retain", &PatchParams::default(), &Patch::Merge(policy))
        .await
        .unwrap();
    bed.phase("retain", "Healthy").await.unwrap();
    bed.delete("gone").await.unwrap();
    bed.delete("retain").await.unwrap();
    let remaining = |prefix: &str| -> Vec<String> {
        let names = bed.managed().unwrap();
        names
            .into_iter()
            .filter(|name| {
                name.contains(&format!("/{prefix}")) || name.contains(&format!("-{prefix}-"))
            })
            .collect()
    };
    wait::until(
        "everything of the deleted cluster to be gone",
        Duration::from_secs(60),
        async || Ok(remaining("gone").is_empty().then_some(())),
    )
    .await
    .unwrap();
    wait::until(
        "only volumes of the other to be left",
        Duration::from_secs(60),
        async || {
            let left = remaining("retain");
            Ok(left
                .iter()
                .all(|name| name.starts_with("persistentvolumeclaim/"))
                .then_some(()))
        },
    )
    .await
    .unwrap();
    bed.phase("kept", "Healthy").await.unwrap();
    drop(operator);
}

/// Figure 10: the API server hangs, then refuses; nothing crashes and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_or_refuses_costs_time_only() {
    let _one = ONE.lock().await;
    let bed = Bed::start("outage", &[]).await.unwrap();
    let mut operator = bed.operator().await.unwrap();
    for name in ["one", "two", "three"] {
        bed.create(name, "multigres-admin-password").await.unwrap();
    }
    bed.plane.signal(Process::ApiServer, Signal::Stop).unwrap();
    let hung = Instant::now();
    wait::quietly("ten seconds", Duration::from_secs(20), async || {
        Ok((hung.elapsed() >= Duration::from_secs(10)).then_some(()))
    })
    .await
    .unwrap();
    bed.plane.signal(Process::ApiServer, Signal::Cont).unwrap();
    for name in ["one", "two", "three"] {
        bed.phase(name, "Healthy").await.unwrap();
    }
    operator.check().unwrap();
    bed.plane.reject_user(&chart::user(), true).await.unwrap();
    bed.create("four", "multigres-admin-password")
        .await
        .unwrap();
    let refused = Instant::now();
    wait::quietly("ten seconds", Duration::from_secs(20), async || {
        Ok((refused.elapsed() >= Duration::from_secs(10)).then_some(()))
    })
    .await
    .unwrap();
    bed.plane.reject_user(&chart::user(), false).await.unwrap();
    bed.phase("four", "Healthy").await.unwrap();
    operator.check().unwrap();
}

/// Figure 7 in part: killed again and again during a bring-up, the end is the same.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_it_ends_the_same() {
    let _one = ONE.lock().await;
    let bed = Bed::start("kill", &[]).await.unwrap();
    let operator = bed.operator().await.unwrap();
    bed.create("calm00", "multigres-admin-password")
        .await
        .unwrap();
    bed.phase("calm00", "Healthy").await.unwrap();
    drop(operator);
    let names = |cluster: &str| -> Vec<String> {
        let mut names: Vec<String> = bed
            .managed()
            .unwrap()
            .into_iter()
            .filter(|name| {
                name.contains(&format!("/{cluster}-")) || name.contains(&format!("-{cluster}-"))
            })
            // Pods of Deployments have random names; hashes in names differ with the cluster's name.
            .filter(|name| {
                !(name.starts_with("pod/")
                    && !name.contains("-pool-")
                    && !name.contains("-global-topo-"))
            })
            .map(|name| {
                let plain = name.replace(cluster, "x");
                plain
                    .split('-')
                    .filter(|part| {
                        !(part.len() == 8 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                    })
                    .collect::<Vec<_>>()
                    .join("-")
            })
            .collect();
        names.sort();
        names
    };
    let expected = names("calm00");
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    println!("SEED={seed}");
    let mut state = seed;
    for round in 0..KILLS {
        let cluster = format!("kill{round:02}");
        let mut operator = bed.operator().await.unwrap();
        bed.create(&cluster, "multigres-admin-password")
            .await
            .unwrap();
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let instant = Duration::from_millis((state >> 33) % 2500);
        let started = Instant::now();
        wait::quietly("the instant", Duration::from_secs(5), async || {
            Ok((started.elapsed() >= instant).then_some(()))
        })
        .await
        .unwrap();
        operator.kill();
        let operator = bed.operator().await.unwrap();
        bed.phase(&cluster, "Healthy").await.unwrap();
        assert_eq!(
            names(&cluster),
            expected,
            "round {round}, killed after {instant:?}, SEED={seed}"
        );
        bed.delete(&cluster).await.unwrap();
        drop(operator);
    }
}

/// Kills per run; each costs a bring-up, so a run that must stay short makes few.
const KILLS: usize = 6;

/// A ConfigMap is told apart from one that was changed: only the changed one is written.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_writes_to_one_object_touch_no_other() {
    let _one = ONE.lock().await;
    let bed = Bed::start("foreign", &[]).await.unwrap();
    let operator = bed.operator().await.unwrap();
    bed.create("one", "multigres-admin-password").await.unwrap();
    bed.phase("one", "Healthy").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(bed.plane.client(), NAMESPACE);
    let name = format!("{}-pg-hba", shard_of(&bed, "one"));
    let before = maps.get(&name).await.unwrap().data;
    let audit = bed.plane.audit();
    let mark = audit.settle().await.unwrap();
    let patch = json!({"data": {"pg_hba_template.conf": "host all all all trust"}});
    maps.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    wait::until(
        "the ConfigMap to be put back",
        Duration::from_secs(10),
        async || Ok((maps.get(&name).await?.data == before).then_some(())),
    )
    .await
    .unwrap();
    audit.settle().await.unwrap();
    let writes: Vec<String> = audit
        .writes(mark, &chart::user())
        .unwrap()
        .iter()
        .map(|w| w.target())
        .collect();
    assert_eq!(writes.len(), 1, "{writes:?}");
    drop(operator);
}

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
    ];
    let args = args::Args::parse_from(flags);
    let kubeconfig = bed
        .plane
        .service_account_kubeconfig(chart::NAMESPACE, chart::SERVICE_ACCOUNT)
        .await
        .unwrap();
    let client = process::client(Some(kubeconfig.as_path())).await.unwrap();
    let operator = process::Process::start(client, &args, &environment, hooks)
        .await
        .unwrap();

    let good: Vec<String> = (0..8).map(|number| format!("good{number}")).collect();
    for name in good.iter().map(String::as_str).chain(["once", "always"]) {
        bed.create(name, "multigres-admin-password").await.unwrap();
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
