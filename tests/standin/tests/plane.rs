//! The stand-in on a control plane: pods start it, are ready with it, and are gone when it has stopped.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests run in real time, and all of this file is test"
)]

use std::{sync::Arc, time::Duration};

use control_plane::{Plane, PlaneOptions, Pods, wait};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use prost::Message;
use serde_json::{Value, json};
use standin::{
    name::{Id, ShardKey},
    net::{beside::Beside, fault::Faults},
};

const LONG: Duration = Duration::from_secs(60);
const ROOT: &str = "/multigres/global";

fn pod(name: &str, component: &str, spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/managed-by": "multigres-operator",
            "app.kubernetes.io/component": component,
            "multigres.com/toposerver": "topo",
        }},
        "spec": spec,
    }))
    .unwrap()
}

fn topo() -> Pod {
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    let url = "http://topo-0.topo-headless.default.svc.cluster.local:2380";
    pod(
        "topo-0",
        "toposerver",
        json!({"subdomain": "topo-headless", "containers": [{
            "name": "etcd", "image": "etcd",
            "env": [
                env("ETCD_NAME", "topo-0"),
                env("ETCD_INITIAL_ADVERTISE_PEER_URLS", url),
                env("ETCD_INITIAL_CLUSTER", &format!("topo-0={url}")),
                env("ETCD_INITIAL_CLUSTER_STATE", "new"),
                env("ETCD_INITIAL_CLUSTER_TOKEN", "topo"),
            ],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": 2381}},
        }]}),
    )
}

fn member(component: &str, name: &str, flags: &[&str], claim: Option<&str>) -> Pod {
    let mut args = vec![
        component,
        "--topo-global-server-addresses=topo.default.svc:2379",
        "--topo-global-root=/multigres/global",
        "--cell=zone-a",
    ];
    args.extend(flags);
    let volumes: Vec<Value> = claim
        .map(|claim| json!({"name": "pgdata", "persistentVolumeClaim": {"claimName": claim}}))
        .into_iter()
        .collect();
    let mounts: Vec<Value> = claim
        .map(|_| json!({"name": "pgdata", "mountPath": "/var/lib/pooler"}))
        .into_iter()
        .collect();
    pod(
        name,
        component,
        json!({
            "containers": [{"name": "main", "image": "main", "args": args, "volumeMounts": mounts}],
            "volumes": volumes,
        }),
    )
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

struct Bed {
    fleet: Beside,
    plane: Plane,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
}

impl Bed {
    async fn start() -> Self {
        let options = PlaneOptions {
            pods: Pods::StandIn,
            name: "standin".into(),
            ..PlaneOptions::default()
        };
        let plane = Plane::start(options).await.unwrap();
        let fleet = Beside::start(&plane, 20).unwrap();
        let pods = Api::default_namespaced(plane.client());
        let claims = Api::default_namespaced(plane.client());
        Self {
            fleet,
            plane,
            pods,
            claims,
        }
    }

    async fn create(&self, pod: Pod) {
        self.pods
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
    }

    async fn until(&self, name: &str, what: &str, condition: impl Fn(&Pod) -> bool) -> Pod {
        let what = format!("{name} to be {what}");
        wait::object(self.pods.clone(), name, &what, LONG, condition)
            .await
            .unwrap()
    }

    async fn claim(&self, name: &str) {
        let claim = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }));
        self.claims
            .create(&PostParams::default(), &claim.unwrap())
            .await
            .unwrap();
    }

    async fn register(&self) {
        use actors::proto::clustermetadata as wire;
        let global = Arc::clone(&self.fleet.topology("topo.default.svc:2379", ROOT).global);
        let cell = wire::Cell {
            name: "zone-a".into(),
            server_addresses: vec!["topo.default.svc:2379".into()],
            root: ROOT.into(),
        };
        global
            .put("cells/zone-a/Cell", cell.encode_to_vec())
            .await
            .unwrap();
        let database = wire::Database {
            name: "postgres".into(),
            backup_location: Some(wire::BackupLocation::default()),
            cells: vec!["zone-a".into()],
            bootstrap_durability_policy: Some(wire::DurabilityPolicy {
                policy_name: "AT_LEAST_2".into(),
                quorum_type: 3,
                required_count: 2,
                ..Default::default()
            }),
        };
        global
            .put("databases/postgres/Database", database.encode_to_vec())
            .await
            .unwrap();
    }
}

/// Start, readiness, orderly stop, crash and loss of a volume, all through Kubernetes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_live_with_their_stand_ins() {
    let bed = Bed::start().await;
    bed.create(topo()).await;
    let id = |number: usize| Id::pooler("zone-a", format!("p{number}"));
    for number in 1..=2 {
        bed.claim(&format!("data-p-{number}")).await;
        let flags = [
            format!("--service-id=p{number}"),
            "--database=postgres".into(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let claim = format!("data-p-{number}");
        bed.create(member(
            "shard-pool",
            &format!("p-{number}"),
            &flags,
            Some(&claim),
        ))
        .await;
    }
    bed.create(member("multiorch", "orch", &["--service-id=o1"], None))
        .await;
    bed.until("topo-0", "ready", ready).await;
    // A pooler is not ready before it has its database's record.
    bed.until("p-1", "running", |pod| {
        pod.status
            .as_ref()
            .is_some_and(|status| status.phase.as_deref() == Some("Running"))
    })
    .await;
    assert!(!ready(&bed.pods.get("p-1").await.unwrap()));
    bed.register().await;
    for name in ["p-1", "p-2", "orch"] {
        bed.until(name, "ready", ready).await;
    }
    let key = ShardKey {
        database: "postgres".into(),
        table_group: "default".into(),
        shard: "0-inf".into(),
    };
    let topology = bed.fleet.topology("topo.default.svc:2379", ROOT);
    let live = bed.fleet.shard(&topology, &key);
    live.until(|shard| (shard.primary().is_some() && shard.members().len() == 2).then_some(()))
        .await;

    // Deletion is an orderly stop: the last record is there when the pod is gone.
    bed.pods
        .delete("p-2", &DeleteParams::default())
        .await
        .unwrap();
    wait::gone(bed.pods.clone(), "p-2", LONG).await.unwrap();
    let record = topology
        .global
        .get(&format!("poolers/{}/Pooler", id(2)))
        .await
        .unwrap()
        .unwrap();
    let record = actors::proto::clustermetadata::Multipooler::decode(record.as_slice()).unwrap();
    assert_eq!(record.lifecycle_status.unwrap().status, 4);

    // A claim that is deleted takes the data along.
    let uid = bed
        .claims
        .get("data-p-2")
        .await
        .unwrap()
        .metadata
        .uid
        .unwrap();
    assert!(live.read(|shard, _| shard.has_volume(&uid)));
    bed.claims
        .delete("data-p-2", &DeleteParams::default())
        .await
        .unwrap();
    wait::quietly("the volume's end", LONG, async || {
        Ok(live.read(|shard, _| !shard.has_volume(&uid)).then_some(()))
    })
    .await
    .unwrap();

    // A crash shows as a pod that is not ready, and its end as a restarted container.
    let crash = Faults {
        crash: true,
        ..Faults::default()
    };
    bed.fleet.faults.set("default/p-1", crash);
    bed.until("p-1", "not ready", |pod| !ready(pod)).await;
    bed.fleet.faults.set("default/p-1", Faults::default());
    let pod = bed.until("p-1", "ready again", ready).await;
    let restarts = pod.status.unwrap().container_statuses.unwrap()[0].restart_count;
    assert_eq!(restarts, 1);
    bed.plane.check().unwrap();
}
