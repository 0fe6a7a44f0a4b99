//! The harness itself: planes side by side, workloads, faults, the audit log, and nothing left behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{process::Command, time::Duration};

use control_plane::{Fault, Plane, PlaneOptions, PodFault, alive, wait};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

async fn start(name: &str) -> Plane {
    let start = tokio::time::Instant::now();
    let options = PlaneOptions {
        name: name.to_owned(),
        ..PlaneOptions::default()
    };
    let plane = Plane::start(options).await.unwrap();
    eprintln!("{name} started in {:?}", start.elapsed());
    plane
}

fn pod_template(app: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "containers": [{ "name": "main", "image": "example/main:1" }] },
    })
}

async fn workloads(plane: &Plane) {
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } }, "template": pod_template("web") },
    });
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    let mut template = pod_template("db");
    template["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "data", "mountPath": "/data" }]);
    let stateful_set = json!({
        "metadata": { "name": "db" },
        "spec": {
            "serviceName": "db", "replicas": 1, "selector": { "matchLabels": { "app": "db" } },
            "template": template, "volumeClaimTemplates": [claim],
        },
    });
    let deployments: Api<Deployment> = Api::namespaced(plane.client(), "default");
    let stateful_sets: Api<StatefulSet> = Api::namespaced(plane.client(), "default");
    deployments
        .create(
            &PostParams::default(),
            &serde_json::from_value(deployment).unwrap(),
        )
        .await
        .unwrap();
    stateful_sets
        .create(
            &PostParams::default(),
            &serde_json::from_value(stateful_set).unwrap(),
        )
        .await
        .unwrap();
    wait::object(deployments, "web", "the Deployment", DEADLINE, |web| {
        web.status.as_ref().and_then(|status| status.ready_replicas) == Some(2)
    })
    .await
    .unwrap();
    wait::object(stateful_sets, "db", "the StatefulSet", DEADLINE, |db| {
        db.status.as_ref().and_then(|status| status.ready_replicas) == Some(1)
    })
    .await
    .unwrap();
}

async fn claim_grows(plane: &Plane) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(plane.client(), "default");
    let larger = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
    claims
        .patch("data-db-0", &PatchParams::default(), &Patch::Merge(larger))
        .await
        .unwrap();
    wait::object(
        claims,
        "data-db-0",
        "the claim to grow",
        DEADLINE,
        |claim| {
            let capacity = claim
                .status
                .as_ref()
                .and_then(|status| status.capacity.as_ref());
            capacity.is_some_and(|capacity| capacity["storage"].0 == "2Gi")
        },
    )
    .await
    .unwrap();
}

async fn addresses_are_of(plane: &Plane) {
    let network = plane.pod_cidr().replace(".0.0/16", ".");
    let pods: Api<Pod> = Api::namespaced(plane.client(), "default");
    for pod in pods.list(&Default::default()).await.unwrap() {
        let address = pod.status.as_ref().unwrap().pod_ip.clone().unwrap();
        assert!(
            address.starts_with(&network),
            "{} has {address}, not in {network}",
            pod.name_any()
        );
    }
}

async fn waits_for(plane: &Plane, app: &str, reason: Option<&str>) {
    let pods: Api<Pod> = Api::namespaced(plane.client(), "default");
    let selection = watcher::Config::default().labels(&format!("app={app}"));
    wait::objects(
        pods,
        selection,
        &format!("{app} in {reason:?}"),
        DEADLINE,
        |known| {
            let all =
                !known.is_empty() && known.values().all(|pod| waiting(pod).as_deref() == reason);
            all.then_some(())
        },
    )
    .await
    .unwrap();
}

fn waiting(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref();
    let Some(container) = containers.and_then(|containers| containers.first()) else {
        return Some("not started".to_owned());
    };
    container.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

async fn strike(plane: &Plane, kind: PodFault) -> Fault {
    plane.fault(kind, "app=web").await.unwrap()
}

async fn faults(plane: &Plane) {
    let crash_loop = strike(plane, PodFault::CrashLoop).await;
    waits_for(plane, "web", Some("CrashLoopBackOff")).await;
    waits_for(plane, "db", None).await;
    plane.clear(crash_loop).await.unwrap();
    waits_for(plane, "web", None).await;

    let image_pull = strike(plane, PodFault::ImagePull).await;
    let pods: Api<Pod> = Api::namespaced(plane.client(), "default");
    let web = watcher::Config::default().labels("app=web");
    pods.delete_collection(
        &DeleteParams::default(),
        &kube::api::ListParams::default().labels("app=web"),
    )
    .await
    .unwrap();
    wait::objects(pods, web, "new pods", DEADLINE, |known| {
        (known.len() == 2).then_some(())
    })
    .await
    .unwrap();
    waits_for(plane, "web", Some("ImagePullBackOff")).await;
    plane.clear(image_pull).await.unwrap();
    waits_for(plane, "web", None).await;
}

async fn audit_counts(plane: &Plane) {
    let audit = plane.audit();
    let mark = audit.settle().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
    for number in 0..7 {
        let map = json!({ "metadata": { "name": format!("counted-{number}") } });
        maps.create(
            &PostParams::default(),
            &serde_json::from_value(map).unwrap(),
        )
        .await
        .unwrap();
    }
    maps.delete("counted-0", &DeleteParams::default())
        .await
        .unwrap();
    audit.settle().await.unwrap();
    let counts = audit
        .counts(mark, |entry| entry.user == "admin" && entry.is_write())
        .unwrap();
    let key = |verb: &str| ("admin".to_owned(), verb.to_owned(), "configmaps".to_owned());
    assert_eq!(counts.get(&key("create")), Some(&7), "{counts:?}");
    assert_eq!(counts.get(&key("delete")), Some(&1), "{counts:?}");
    assert_eq!(audit.writes(mark, "admin").unwrap().len(), 8);
}

async fn rejected(plane: &Plane) {
    let user = "system:serviceaccount:default:default";
    let kubeconfig = plane
        .service_account_kubeconfig("default", "default")
        .await
        .unwrap();
    let client = control_plane::connect(&kubeconfig).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let code = async || match pods.list(&Default::default()).await {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code().await, 403);
    plane.reject_user(user, true).await.unwrap();
    assert_eq!(code().await, 429);
    plane.reject_user(user, false).await.unwrap();
    assert_eq!(code().await, 403);
}

#[tokio::test]
async fn two_planes_run_side_by_side_and_leave_nothing() {
    let (one, two) = tokio::join!(start("one"), start("two"));
    assert_ne!(one.pod_cidr(), two.pod_cidr());
    tokio::join!(workloads(&one), workloads(&two));
    tokio::join!(addresses_are_of(&one), addresses_are_of(&two));
    claim_grows(&one).await;
    audit_counts(&one).await;
    faults(&one).await;
    rejected(&two).await;

    let nodes = two.kubectl(&["get", "nodes", "-o", "name"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&nodes.stdout).lines().count(), 3);

    let pids: Vec<u32> = one.pids().into_iter().chain(two.pids()).collect();
    let folders = [one.dir().to_owned(), two.dir().to_owned()];
    assert_eq!(pids.len(), 10);
    assert!(pids.iter().all(|pid| alive(*pid)));
    drop(one);
    two.stop();
    assert!(!pids.iter().any(|pid| alive(*pid)));
    assert!(folders.iter().all(|folder| !folder.exists()));
}

/// The child half of the test below: starts a plane, tells its process ids, and waits to be killed.
#[tokio::test]
#[ignore = "run by processes_end_with_a_killed_parent"]
async fn parent_to_be_killed() {
    let plane = start("orphan").await;
    let pids: Vec<String> = plane.pids().iter().map(u32::to_string).collect();
    let path = std::env::var("PLANE_PIDS").unwrap();
    std::fs::write(
        format!("{path}.new"),
        format!("{}\n{}", pids.join(" "), plane.dir().display()),
    )
    .unwrap();
    std::fs::rename(format!("{path}.new"), path).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn processes_end_with_a_killed_parent() {
    let path = std::env::temp_dir().join(format!("multigres-plane-pids-{}", std::process::id()));
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "parent_to_be_killed", "--ignored"])
        .env("PLANE_PIDS", &path)
        .spawn()
        .unwrap();
    let text = wait::until("the parent's plane", DEADLINE, async || {
        assert!(parent.try_wait()?.is_none(), "the parent ended");
        Ok(std::fs::read_to_string(&path).ok())
    })
    .await
    .unwrap();
    let (pids, folder) = text.split_once('\n').unwrap();
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.len() == 5 && pids.iter().all(|pid| alive(*pid)));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait::until("the orphans' end", DEADLINE, async || {
        Ok((!pids.iter().any(|pid| alive(*pid))).then_some(()))
    })
    .await
    .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::remove_file(path).unwrap();
}
