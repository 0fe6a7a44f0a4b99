//! What the operator hears of poolers behind mutual TLS: roles, backups, one that gives up, one that nobody should trust.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::introspection::Inspector;
use cluster::{Bed, HEALTHY, NAMESPACE};
use control_plane::issuer::Issuer;
use control_plane::{OperatorProcess, wait};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use standin::net::pod::PodSpec;
use standin::net::pooler::identity;
use standin::pooler::Process;
use x509_parser::pem::parse_x509_pem;

use crate::ONE;
use crate::scene::{self, CLUSTER, MEMBERS, Scene};

/// Longest time from what happens at a pooler until it is told, without a call that has to be made again.
const SOON: Duration = Duration::from_secs(10);
/// What a pooler said is believed for so long after its stream broke.
const BELIEVED: Duration = Duration::from_secs(15);

/// Roles are told by streams that show the operator's own certificate; backups as they are made; a pooler that gives up stays
/// while the repository is out of reach, and is replaced on a fresh volume once it is back; a certificate of an unknown
/// authority is not believed, and it is said whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn poolers_are_recognised_backed_up_and_replaced() {
    let _one = ONE.lock().await;
    let bed = Bed::start_with_data_plane("poolers").await.unwrap();
    let issuer = Issuer::start(&bed.plane).await.unwrap();
    let operator = bed.operator().await.unwrap();
    let inspector = Inspector::new(&bed.plane).await.unwrap();
    let tls = json!({"internalTLS": {"enabled": true}});
    scene::create(&bed, CLUSTER, MEMBERS, tls).await;
    let poolers = Poolers {
        operator,
        inspector,
        scene: Scene::of(bed).await,
    };
    poolers.are_recognised().await;
    poolers.are_backed_up().await;
    poolers.are_replaced_if_there_is_a_backup().await;
    poolers.are_not_believed_without_a_known_authority().await;
    let violations = poolers.scene.violations();
    assert!(violations.is_empty(), "{violations:?}");
    drop(issuer);
}

struct Poolers {
    scene: Scene,
    operator: OperatorProcess,
    inspector: Inspector,
}

/// The Secret of a component's certificate, which is also the name in it.
fn certificate(component: &str) -> String {
    format!("{component}.{CLUSTER}.{NAMESPACE}.multigres.internal")
}

impl Poolers {
    /// The operator's links to poolers, as introspection shows them.
    async fn links(&self) -> Vec<Value> {
        let list = self
            .scene
            .shards
            .list(&ListParams::default())
            .await
            .unwrap();
        let shard = list.items.first().unwrap().name_any();
        let path = format!("/debug/shards/{NAMESPACE}/{shard}");
        let answer = self.inspector.ask(&self.operator, &path).await.unwrap();
        let actors = answer["actors"].as_array().unwrap();
        let links = actors
            .iter()
            .filter_map(|actor| actor["poolers"].as_array());
        links.flatten().cloned().collect()
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.scene.bed.plane.client(), NAMESPACE)
    }

    /// Messages of the Shard's events of a reason.
    async fn events(&self, reason: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.scene.bed.plane.client(), NAMESPACE);
        let events = events.list(&ListParams::default()).await.unwrap();
        let of_shard = events.into_iter().filter(|event| {
            event.involved_object.kind.as_deref() == Some("Shard")
                && event.reason.as_deref() == Some(reason)
        });
        of_shard.filter_map(|event| event.message).collect()
    }

    async fn told(&self, reason: &str) -> String {
        wait::until(&format!("an event {reason}"), SOON, async || {
            Ok(self.events(reason).await.pop())
        })
        .await
        .unwrap()
    }

    async fn are_recognised(&self) {
        let links = self.links().await;
        assert_eq!(links.len(), MEMBERS);
        for link in &links {
            assert_eq!(link["streaming"], true, "{link}");
            assert_eq!(link["tls"], certificate("multipooler"), "{link}");
        }
        let own = self.secrets().get(&certificate("multigres-operator")).await;
        let own = own.unwrap().data.unwrap().remove("tls.crt").unwrap();
        let (_, own) = parse_x509_pem(&own.0).unwrap();
        let shown = self.scene.fleet().calls().callers();
        assert_eq!(shown, BTreeSet::from([own.contents]));
        let roles = self.scene.status("/podRoles").await;
        let pods = self.scene.poolers();
        for (number, pod) in pods.iter().enumerate() {
            let leads = number == pods.len() - 1;
            let role = if leads { "PRIMARY" } else { "REPLICA" };
            assert_eq!(roles[&pod.name], role, "{roles}");
        }
    }

    /// The first backup, and another one.
    async fn are_backed_up(&self) {
        self.newest_is_told("full").await;
        self.told("BackupHealthy").await;
        let replica = identity(&self.scene.poolers()[0]);
        let shard = &self.scene.topology.shard;
        let begun =
            shard.change(|shard, now| shard.backup(&replica, "incremental", false, None, now));
        begun.unwrap();
        let made = shard.until(|shard| (shard.repository.backups.len() == 2).then_some(()));
        tokio::time::timeout(HEALTHY, made).await.unwrap();
        self.newest_is_told("incr").await;
        let news = self.events("BackupHealthy").await;
        assert_eq!(news.len(), 1, "healthy before and after: {news:?}");
    }

    async fn newest_is_told(&self, kind: &str) {
        let shard = &self.scene.topology.shard;
        let newest = shard.read(|shard, _| shard.repository.newest().cloned());
        let newest = newest.unwrap();
        assert_eq!(newest.kind.short(), kind);
        let ended = newest.stopped.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        wait::until(&format!("{} to be told", newest.label), SOON, async || {
            let told = [
                self.scene.status("/lastBackupTime").await,
                self.scene.status("/lastBackupType").await,
            ];
            Ok((told == [json!(ended), json!(kind)]).then_some(()))
        })
        .await
        .unwrap();
        let (status, reason, message) = self.scene.condition("BackupHealthy").await.unwrap();
        assert_eq!([&*status, &*reason], ["True", "BackupRecent"]);
        assert!(message.contains(&newest.label), "{message}");
    }

    async fn are_replaced_if_there_is_a_backup(&self) {
        let repository = |there: bool| {
            let faults = &self.scene.fleet().faults;
            for pod in self.scene.poolers() {
                faults.change(&pod.key(), |faults| faults.no_repository = !there);
            }
        };
        repository(false);
        let former = self.scene.one_gives_up().await;
        wait::until("no backup to be known", SOON, async || {
            let told = self.scene.condition("PoolerQuarantined").await;
            let told = told.filter(|(_, reason, message)| {
                reason == "NoBackup" && message.contains(&former.name)
            });
            Ok(told.map(drop))
        })
        .await
        .unwrap();
        let why = self.told("QuarantineRemediationBlocked").await;
        assert!(why.contains("backup"), "{why}");
        let links = self.links().await;
        let refused = links.iter().any(|link| {
            let error = link["calls"]["error"].as_str().unwrap_or_default();
            error.contains("the repository cannot be reached")
        });
        assert!(refused, "{links:#?}");
        // What was known of the last backup is known still.
        let (_, reason, _) = self.scene.condition("BackupHealthy").await.unwrap();
        assert_eq!(reason, "BackupRecent");
        assert_eq!(self.scene.status("/disruption").await, Value::Null);
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.scene.bed.plane.client(), NAMESPACE);
        let claim = format!("data-{}", former.name);
        let volume = claims.get(&claim).await.unwrap().uid();
        let pod = self.scene.pods.get(&former.name).await.unwrap();
        assert_eq!(pod.uid().as_ref(), Some(&former.uid), "it stays");
        assert!(pod.meta().deletion_timestamp.is_none());

        repository(true);
        self.scene.replaced(&former).await;
        self.scene.whole().await;
        let why = self.told("QuarantineRemediation").await;
        assert!(why.contains(&former.name), "{why}");
        assert_ne!(claims.get(&claim).await.unwrap().uid(), volume);
    }

    async fn are_not_believed_without_a_known_authority(&self) {
        let name = certificate("multipooler");
        let secrets = self.secrets();
        let real = secrets.get(&name).await.unwrap().data.unwrap();
        let other = rcgen::generate_simple_self_signed(vec![name.clone()]).unwrap();
        let files =
            json!({"tls.crt": other.cert.pem(), "tls.key": other.signing_key.serialize_pem()});
        let patch = Patch::Merge(json!({"stringData": files}));
        let params = PatchParams::default();
        secrets.patch(&name, &params, &patch).await.unwrap();
        let pods = self.scene.poolers();
        let replica = &pods[0];
        self.starts_again(replica).await;
        // What it said with its old certificate is believed for a while.
        wait::until("the stranger to be told", BELIEVED + SOON, async || {
            let links = self.links().await;
            let link = links
                .iter()
                .find(|link| link["pod"] == replica.name.as_str());
            let link = link.unwrap();
            let error = link["stream"]["error"].as_str().unwrap_or_default();
            let refused = link["streaming"] == false && error.contains("certificate");
            let heard: Timestamp = link["heard"]["at"].as_str().unwrap().parse().unwrap();
            let forgotten = Timestamp::now() - BELIEVED > heard;
            let status = self.scene.status("").await;
            let message = status["message"].as_str().unwrap_or_default();
            let told = message.starts_with("PoolerNotServing") && !serves(&status, replica);
            Ok((refused && forgotten && told).then_some(()))
        })
        .await
        .unwrap();

        let files = json!({"tls.crt": real["tls.crt"], "tls.key": real["tls.key"]});
        let patch = Patch::Merge(json!({"data": files}));
        secrets.patch(&name, &params, &patch).await.unwrap();
        self.starts_again(replica).await;
        wait::until("the pooler to be known again", SOON, async || {
            let status = self.scene.status("").await;
            Ok(serves(&status, replica).then_some(()))
        })
        .await
        .unwrap();
        self.scene.whole().await;
    }

    /// The process of a pod dies and starts again, and reads its certificate anew.
    async fn starts_again(&self, pod: &PodSpec) {
        let (faults, id) = (&self.scene.fleet().faults, identity(pod));
        faults.change(&pod.key(), |faults| faults.crash = true);
        let gone = self.scene.topology.shard.until(|shard| {
            let pooler = shard.pooler(&id)?;
            (pooler.process == Process::Gone).then_some(())
        });
        tokio::time::timeout(HEALTHY, gone).await.unwrap();
        faults.change(&pod.key(), |faults| faults.crash = false);
    }
}

/// Whether the status of a Shard says that a pooler serves.
fn serves(status: &Value, pod: &PodSpec) -> bool {
    let members = status["members"].as_array();
    let mut members = members.into_iter().flatten();
    members.any(|member| member["pod"] == pod.name.as_str() && member["serving"] == true)
}
