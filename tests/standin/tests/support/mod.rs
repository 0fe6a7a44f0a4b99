//! Pods without Kubernetes: a fleet on loopback addresses of its own, with a real etcd.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use actors::proto::{
    clustermetadata as wire,
    multipoolermanager::multipooler_manager_client::MultipoolerManagerClient,
};
use control_plane::{Binaries, wait};
use prost::Message;
use serde_json::{Value, json};
use standin::{
    name::{Id, ShardKey},
    net::{
        files::Files,
        fleet::{Fleet, Handle, Options},
        live::Live,
        pod::PodSpec,
        topology::Topology,
    },
    timing::Timing,
};
use tonic::transport::{Channel, Endpoint};

pub const LONG: Duration = Duration::from_secs(60);
pub const ROOT: &str = "/multigres/global";

/// A fleet in a network of its own.
pub struct Bed {
    pub fleet: Arc<Fleet>,
    pub folder: PathBuf,
    /// Files that all pods see, by path.
    pub files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    second: u8,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.fleet.shut_down();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Bed {
    /// A fleet that is so many times faster than real Multigres.
    pub async fn new(name: &str, speed: u32) -> Self {
        let binaries = tokio::task::spawn_blocking(Binaries::locate)
            .await
            .unwrap()
            .unwrap();
        // Each test has a network of its own, and so have test processes side by side.
        static NETWORKS: AtomicU8 = AtomicU8::new(0);
        let network = NETWORKS.fetch_add(1, Ordering::Relaxed);
        assert!(network < 16, "more tests than networks");
        let second = 128 + network * 8 + u8::try_from(std::process::id() % 8).unwrap();
        let folder = std::env::temp_dir().join(format!("standin-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = Arc::default();
        let fleet = Fleet::new(Options {
            timing: Timing::default().faster(speed),
            speed,
            etcd: binaries.path("etcd"),
            folder: folder.clone(),
            network: [127, second],
            files: Files::Fixed(Arc::clone(&files)),
        });
        Self {
            fleet,
            folder,
            files,
            second,
        }
    }

    pub fn address(&self, number: u16) -> Ipv4Addr {
        let [third, fourth] = number.to_be_bytes();
        Ipv4Addr::new(127, self.second, third, fourth)
    }

    fn start(&self, pod: Value, volume: Option<&str>) -> Handle {
        let spec = PodSpec::read(&serde_json::from_value(pod).unwrap()).unwrap();
        self.fleet.start(spec, volume.map(str::to_owned))
    }

    /// Starts a member of an etcd of so many members.
    pub fn topo_server(&self, uid: &str, index: u16, of: u16, address: u16) -> Handle {
        let host = |i: u16| format!("topo-{i}.topo-headless.ns.svc.cluster.local");
        let cluster: Vec<String> = (0..of)
            .map(|i| format!("topo-{i}=http://{}:2380", host(i)))
            .collect();
        let env = |name: &str, value: String| json!({"name": name, "value": value});
        let pod = json!({
            "metadata": {
                "name": format!("topo-{index}"), "namespace": "ns", "uid": uid,
                "labels": {"app.kubernetes.io/component": "toposerver", "multigres.com/toposerver": "topo"},
            },
            "spec": {"subdomain": "topo-headless", "containers": [{
                "name": "etcd",
                "env": [
                    env("ETCD_NAME", format!("topo-{index}")),
                    env("ETCD_INITIAL_ADVERTISE_PEER_URLS", format!("http://{}:2380", host(index))),
                    env("ETCD_INITIAL_CLUSTER", cluster.join(",")),
                    env("ETCD_INITIAL_CLUSTER_STATE", "new".into()),
                    env("ETCD_INITIAL_CLUSTER_TOKEN", "topo".into()),
                ],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 2381}},
            }]},
            "status": {"podIP": self.address(address).to_string()},
        });
        self.start(pod, Some(&format!("etcd-{index}")))
    }

    fn component(
        &self,
        component: &str,
        uid: &str,
        name: &str,
        address: u16,
        root: &str,
        flags: &[String],
    ) -> Value {
        let mut args = vec![
            component.to_owned(),
            "--topo-global-server-addresses=topo.ns.svc:2379".to_owned(),
            format!("--topo-global-root={root}"),
            "--cell=zone-a".to_owned(),
        ];
        args.extend_from_slice(flags);
        json!({
            "metadata": {
                "name": name, "namespace": "ns", "uid": uid,
                "labels": {"app.kubernetes.io/component": component},
            },
            "spec": {"subdomain": "pods", "containers": [{"name": "main", "args": args}]},
            "status": {"podIP": self.address(address).to_string()},
        })
    }

    /// Starts pooler `p<number>` of the cluster with this root; its volume is `v<number>` of that cluster.
    pub fn pooler(&self, root: &str, number: u16, life: u16, address: u16) -> Handle {
        self.pooler_with(root, number, life, address, &[])
    }

    /// The same with more flags.
    pub fn pooler_with(
        &self,
        root: &str,
        number: u16,
        life: u16,
        address: u16,
        more: &[&str],
    ) -> Handle {
        let (name, uid) = (format!("pod-{address}"), format!("{root}-p{number}-{life}"));
        let mut flags = vec![
            format!("--service-id=p{number}"),
            "--database=postgres".to_owned(),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let pod = self.component("shard-pool", &uid, &name, address, root, &flags);
        self.start(pod, Some(&format!("{root}-v{number}").replace('/', "-")))
    }

    /// Starts a pod of another component.
    pub fn other(&self, component: &str, root: &str, address: u16, flags: &[&str]) -> Handle {
        let (name, uid) = (
            format!("{component}-{address}"),
            format!("{root}-{component}-{address}"),
        );
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.start(
            self.component(component, &uid, &name, address, root, &flags),
            None,
        )
    }

    pub fn topology(&self, root: &str) -> Arc<Topology> {
        self.fleet.topology("topo.ns.svc:2379", root)
    }

    /// Writes what the operator registers: one cell, in the global store, and a database.
    pub async fn register(&self, root: &str) {
        let global = Arc::clone(&self.topology(root).global);
        let cell = wire::Cell {
            name: "zone-a".into(),
            server_addresses: vec!["topo.ns.svc:2379".into()],
            root: root.into(),
        };
        let database = wire::Database {
            name: "postgres".into(),
            backup_location: Some(wire::BackupLocation {
                location: Some(wire::backup_location::Location::Filesystem(
                    wire::FilesystemBackup {
                        path: "/backups".into(),
                    },
                )),
                ..Default::default()
            }),
            cells: vec!["zone-a".into()],
            bootstrap_durability_policy: Some(wire::DurabilityPolicy {
                policy_name: "AT_LEAST_2".into(),
                quorum_type: 3,
                required_count: 2,
                ..Default::default()
            }),
        };
        wait::quietly("the topology", LONG, async || {
            let cell = global.put("cells/zone-a/Cell", cell.encode_to_vec()).await;
            let database = global
                .put("databases/postgres/Database", database.encode_to_vec())
                .await;
            Ok((cell.is_ok() && database.is_ok()).then_some(()))
        })
        .await
        .unwrap();
    }

    pub fn shard(&self, root: &str) -> Arc<Live> {
        let key = ShardKey {
            database: "postgres".into(),
            table_group: "default".into(),
            shard: "0-inf".into(),
        };
        self.fleet.shard(&self.topology(root), &key)
    }

    /// A pooler's record.
    pub async fn record(&self, root: &str, id: &Id) -> Option<wire::Multipooler> {
        let key = format!("poolers/{id}/Pooler");
        let value = self.topology(root).global.get(&key).await.unwrap()?;
        wire::Multipooler::decode(value.as_slice()).ok()
    }

    /// Waits until a pooler's record satisfies a condition.
    pub async fn record_that(
        &self,
        root: &str,
        id: &Id,
        condition: impl Fn(&wire::Multipooler) -> bool,
    ) {
        wait::quietly(&format!("the record of {id}"), LONG, async || {
            Ok(self.record(root, id).await.filter(&condition).map(drop))
        })
        .await
        .unwrap();
    }

    /// A client of a pooler's manager service.
    pub fn manager(&self, address: u16) -> MultipoolerManagerClient<Channel> {
        MultipoolerManagerClient::new(self.channel(address, 15270))
    }

    pub fn channel(&self, address: u16, port: u16) -> Channel {
        let uri = format!("http://{}:{port}", self.address(address));
        let endpoint = Endpoint::from_shared(uri).unwrap();
        endpoint
            .connect_timeout(Duration::from_secs(5))
            .connect_lazy()
    }
}

pub fn p(number: u16) -> Id {
    Id::pooler("zone-a", format!("p{number}"))
}

/// Waits until a shard satisfies a condition.
pub async fn until(live: &Live, what: &str, condition: impl Fn(&standin::shard::Shard) -> bool) {
    let reached = live.until(|shard| condition(shard).then_some(()));
    if tokio::time::timeout(LONG, reached).await.is_err() {
        let problems = live.read(|shard, _| format!("{:?}", shard.problems()));
        panic!("waited in vain for {what}: {problems}");
    }
}
