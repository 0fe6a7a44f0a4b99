//! What poolers say, in status, labels and budgets: at once when it changes, never when it does not.

use std::time::Duration;

use actors::object::{Key, Kind};
use actors::operator::Leadership;
use actors::proto::multipoolermanagerdata as manager;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bed::{Bed, End, Life};
use crate::fleet::{Fleet, GIVEN_UP, id, settled};
use crate::shapes::{MINIMAL, key};

/// A cluster with three poolers in one pool, whose data plane says nothing yet.
fn bed(seed: u64) -> (Bed, Fleet, Key) {
    let fleet = Fleet::default();
    let mut bed = Bed::new(seed);
    bed.dialer = Some(std::sync::Arc::new(fleet.clone()));
    bed.password();
    let (cluster, mut body) = crate::shapes::cluster(MINIMAL);
    body["spec"]["databases"] = json!([{
        "name": "postgres", "default": true,
        "tablegroups": [{"name": "default", "default": true, "shards": [{
            "name": "0-inf", "spec": {"pools": {"default": {"type": "readWrite", "replicasPerCell": 3}}},
        }]}],
    }]);
    bed.server.add(&cluster, body);
    (bed, fleet, cluster)
}

/// The pool pods, once they are Ready.
async fn pods(bed: &Bed) -> Vec<String> {
    bed.server
        .until("three pool pods are Ready", |state| {
            let pods = state
                .objects
                .iter()
                .filter(|(key, _)| key.kind == Kind::Pod);
            pods.filter(|(_, pod)| crate::server::is_ready(pod)).count() == 3
        })
        .await;
    let pods = bed.server.all(Kind::Pod);
    pods.into_iter()
        .map(|(key, _)| key.name.to_string())
        .collect()
}

fn names(pods: &[String]) -> Vec<&str> {
    pods.iter().map(String::as_str).collect()
}

fn status(bed: &Bed) -> Value {
    bed.server.get(&bed.shard()).unwrap()["status"].clone()
}

fn condition(status: &Value, kind: &str) -> (String, String) {
    let all = status["conditions"].as_array().unwrap();
    let found = all.iter().find(|condition| condition["type"] == kind);
    let word = |field: &str| found.unwrap()[field].as_str().unwrap().to_owned();
    (word("status"), word("reason"))
}

/// The pod with this role, by its label.
fn labelled(bed: &Bed, role: &str) -> Vec<String> {
    let pods = bed.server.all(Kind::Pod).into_iter();
    pods.filter(|(_, pod)| pod["metadata"]["labels"]["multigres.com/role"] == role)
        .map(|(key, _)| key.name.to_string())
        .collect()
}

/// `minAvailable` of the replicas' budget, and how many pods it selects.
fn replicas_budget(bed: &Bed) -> (i64, usize) {
    let budgets = bed.server.all(Kind::PodDisruptionBudget).into_iter();
    let budget = budgets
        .map(|(_, budget)| budget)
        .find(|budget| budget.to_string().contains("NotIn"))
        .unwrap();
    let selected = bed.server.all(Kind::Pod).len()
        - labelled(bed, "PRIMARY").len()
        - labelled(bed, "DRAINED").len();
    (budget["spec"]["minAvailable"].as_i64().unwrap(), selected)
}

async fn decisions(life: &Life<'_>, bed: &Bed) -> u64 {
    let actor = life.actor(&bed.shard(), None).await;
    actor["decisions"].as_u64().unwrap()
}

/// From Ready pods without a primary to Healthy; L-STAT-04: no primary, no available cluster.
#[tokio::test(start_paused = true)]
async fn ready_pods_are_not_healthy_before_a_primary_serves() {
    let (bed, fleet, cluster) = bed(300);
    let end = bed.life(async |life| {
        let pods = pods(&bed).await;
        bed.silence().await;
        let now = status(&bed);
        assert_eq!(now["phase"], "Progressing");
        assert_eq!(
            condition(&now, "Available"),
            ("False".into(), "NoPrimary".into())
        );
        let above = bed.server.get(&cluster).unwrap()["status"].clone();
        assert_eq!(condition(&above, "Available").0, "False");
        assert_eq!(labelled(&bed, "PRIMARY").len(), 0);
        assert_eq!(replicas_budget(&bed), (3, 3));
        fleet.form(&names(&pods), &pods[0], 1);
        bed.healthy(&cluster).await;
        bed.silence().await;
        let now = status(&bed);
        assert_eq!(
            condition(&now, "Available"),
            ("True".into(), "PrimaryServing".into())
        );
        assert_eq!(now["podRoles"][&pods[0]], "PRIMARY");
        assert_eq!(now["podRoles"][&pods[2]], "REPLICA");
        let members = now["members"].as_array().unwrap();
        assert_eq!(members.len(), 3);
        assert!(
            members
                .iter()
                .all(|member| member["serving"] == true && member["inCohort"] == true)
        );
        assert_eq!(labelled(&bed, "PRIMARY"), [pods[0].clone()]);
        assert_eq!(labelled(&bed, "REPLICA").len(), 2);
        assert_eq!(
            replicas_budget(&bed),
            (1, 2),
            "one replica may go: the margin is one"
        );
        let shard = life.actor(&bed.shard(), None).await;
        assert_eq!(shard["state"]["sight"]["margin"], 1);
        assert_eq!(shard["poolers"].as_array().unwrap().len(), 3);
    });
    assert_eq!(end.await, End::Done(()));
}

/// A new primary is told within milliseconds; nothing of Kubernetes has to happen for it.
#[tokio::test(start_paused = true)]
async fn a_new_primary_is_told_at_once() {
    let (bed, fleet, cluster) = bed(301);
    let end = bed.life(async |_| {
        let pods = pods(&bed).await;
        fleet.form(&names(&pods), &pods[0], 1);
        bed.healthy(&cluster).await;
        bed.silence().await;
        let began = Instant::now();
        let shard = bed.shard();
        let next = pods[1].clone();
        fleet.form(&names(&pods), &next, 2);
        bed.server
            .until("the new primary is told", |state| {
                state.objects[&shard]["status"]["podRoles"][&next] == "PRIMARY"
            })
            .await;
        assert!(
            began.elapsed() < Duration::from_millis(100),
            "{:?}",
            began.elapsed()
        );
        bed.silence().await;
        assert_eq!(labelled(&bed, "PRIMARY"), [next]);
        assert_eq!(labelled(&bed, "REPLICA").len(), 2);
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
}

/// WAL positions and repeated snapshots wake nobody; lag is seen in metrics and introspection.
#[tokio::test(start_paused = true)]
async fn lag_wakes_nobody() {
    let (bed, fleet, cluster) = bed(302);
    let end = bed.life(async |life| {
        let pods = pods(&bed).await;
        let names = names(&pods);
        fleet.form(&names, names[0], 1);
        bed.healthy(&cluster).await;
        bed.silence().await;
        let (mark, before) = (bed.server.mark(), decisions(life, &bed).await);
        for position in 0..50 {
            let health = actors::shard::pooler_health::Health {
                position: Some(5000 + position),
                ..settled(&names, names[0], 1, names[0])
            };
            fleet.say(names[0], health);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(decisions(life, &bed).await, before);
        assert_eq!(bed.server.mark(), mark);
        let lag = life
            .metric("multigres_operator_replication_lag_bytes")
            .await;
        assert!((lag - 2.0 * 4049.0).abs() < 0.5, "{lag}");
    });
    assert_eq!(end.await, End::Done(()));
}

/// Invariant 8 with live poolers, and L-STAT-06 with all that the status tells of them: nothing is written and nobody decides.
#[tokio::test(start_paused = true)]
async fn a_settled_shard_is_silent() {
    let (bed, fleet, cluster) = bed(303);
    let end = bed.life(async |life| {
        let pods = pods(&bed).await;
        fleet.backups(vec![backup("20260101-000000F", 1_767_225_600)]);
        fleet.form(&names(&pods), &pods[0], 1);
        bed.healthy(&cluster).await;
        bed.silence().await;
        let before = (
            bed.server.mark(),
            decisions(life, &bed).await,
            fleet.calls().len(),
        );
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let after = (
            bed.server.mark(),
            decisions(life, &bed).await,
            fleet.calls().len(),
        );
        assert_eq!(before, after);
        life.relist().await;
        assert!(bed.server.writes_since(before.0).is_empty(), "L-STAT-01");
    });
    assert_eq!(end.await, End::Done(()));
}

/// A new process knows nothing for a while. It says so to nobody: what was told stays, until the poolers have spoken.
#[tokio::test(start_paused = true)]
async fn a_restart_writes_nothing() {
    let (bed, fleet, cluster) = bed(304);
    fleet.backups(vec![backup("20260101-000000F", 1_767_225_600)]);
    let end = bed.life(async |_| {
        let pods = pods(&bed).await;
        fleet.form(&names(&pods), &pods[0], 1);
        bed.healthy(&cluster).await;
        bed.silence().await;
        pods
    });
    let End::Done(pods) = end.await else { panic!() };
    let mark = bed.server.mark();
    let end = bed.life(async |_| bed.silence().await);
    assert_eq!(end.await, End::Done(()));
    assert_eq!(bed.server.writes_since(mark).len(), 0, "everybody answers");
    // One of them takes its time: as long as it may, nothing is said of the others either.
    fleet.silence(&pods[2]);
    let end = bed.life(async |_| {
        tokio::time::sleep(GIVEN_UP - Duration::from_secs(1)).await;
        assert_eq!(bed.server.writes_since(mark).len(), 0, "one is late");
        bed.silence().await;
    });
    assert_eq!(end.await, End::Done(()));
    let now = status(&bed);
    assert_eq!(now["phase"], "Progressing", "{now}");
    assert_eq!(condition(&now, "Available").0, "True");
}

/// A stream that breaks and comes back in time is nobody's business; one that stays silent is told of when it is no longer fresh.
#[tokio::test(start_paused = true)]
async fn a_silent_pooler_is_believed_for_a_while() {
    let (bed, fleet, cluster) = bed(305);
    let end = bed.life(async |life| {
        let pods = pods(&bed).await;
        fleet.form(&names(&pods), &pods[0], 1);
        bed.healthy(&cluster).await;
        bed.silence().await;
        let mark = bed.server.mark();
        fleet.silence(&pods[1]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        fleet.awake(&pods[1]);
        bed.silence().await;
        assert_eq!(
            bed.server.writes_since(mark).len(),
            0,
            "it came back in time"
        );
        fleet.silence(&pods[1]);
        tokio::time::sleep(Duration::from_secs(16)).await;
        let now = status(&bed);
        assert_eq!(now["phase"], "Progressing");
        assert_eq!(
            condition(&now, "Available"),
            ("True".into(), "PrimaryServing".into())
        );
        assert_eq!(replicas_budget(&bed), (3, 2), "no replica may go any more");
        fleet.silence(&pods[0]);
        tokio::time::sleep(Duration::from_secs(16)).await;
        let now = status(&bed);
        assert_eq!(
            condition(&now, "Available"),
            ("False".into(), "PoolerNotServing".into())
        );
        assert_eq!(now["phase"], "Degraded");
        assert_eq!(now["podRoles"][&pods[0]], "PRIMARY", "unknown is not gone");
        let poolers = life.actor(&bed.shard(), None).await["poolers"].clone();
        assert_eq!(poolers[0]["streaming"], false);
        fleet.awake(&pods[0]);
        fleet.awake(&pods[1]);
        bed.healthy(&cluster).await;
    });
    assert_eq!(end.await, End::Done(()));
}

/// While two members of three are too few for what the rule asks, a primary serves and the shard is at risk.
#[tokio::test(start_paused = true)]
async fn a_shard_at_risk_says_so() {
    let (bed, fleet, cluster) = bed(306);
    let end = bed.life(async |_| {
        let pods = pods(&bed).await;
        let names = names(&pods);
        fleet.form(&names, names[0], 1);
        bed.healthy(&cluster).await;
        for pod in &names[1..] {
            let health = actors::shard::pooler_health::Health {
                streaming: false,
                ..settled(&names, names[0], 1, pod)
            };
            fleet.say(pod, health);
        }
        bed.phase(&cluster, "Progressing").await;
        bed.silence().await;
        let now = status(&bed);
        assert_eq!(
            condition(&now, "Available"),
            ("True".into(), "QuorumAtRisk".into())
        );
        let mut lonely = settled(&names, names[0], 1, names[0]);
        lonely.decision.as_mut().unwrap().cohort = [id(names[0])].into();
        fleet.say(names[0], lonely);
        bed.silence().await;
        let now = status(&bed);
        assert_eq!(
            condition(&now, "Available").1,
            "NoPrimary",
            "they contradict each other"
        );
    });
    assert_eq!(end.await, End::Done(()));
}

fn backup(id: &str, ended: i64) -> manager::BackupMetadata {
    manager::BackupMetadata {
        status: manager::backup_metadata::Status::Complete.into(),
        backup_id: id.to_owned(),
        r#type: "full".to_owned(),
        stop_timestamp: Some(prost_types::Timestamp {
            seconds: ended,
            nanos: 0,
        }),
        ..Default::default()
    }
}

/// Asked for once; told, with an event for each change for the better or worse; stale at its instant, after one more question.
#[tokio::test(start_paused = true)]
async fn backups_are_asked_for_with_a_reason_and_turn_stale_on_time() {
    let (bed, fleet, cluster) = bed(307);
    let ended = bed.now().as_second() - 3600;
    fleet.backups(vec![backup("20260101-000000F", ended)]);
    let end = bed.life(async |life| {
        let pods = pods(&bed).await;
        fleet.keep_busy(&pods[1]);
        fleet.form(&names(&pods), &pods[0], 1);
        bed.healthy(&cluster).await;
        bed.silence().await;
        let asked = fleet.calls();
        let methods: Vec<&str> = asked.iter().map(|(_, method)| *method).collect();
        assert_eq!(
            methods,
            ["GetBackups", "GetBackups"],
            "the first one hung: {asked:?}"
        );
        let now = status(&bed);
        assert_eq!(
            condition(&now, "BackupHealthy"),
            ("True".into(), "BackupRecent".into())
        );
        assert_eq!(now["lastBackupType"], "full");
        let told: jiff::Timestamp = now["lastBackupTime"].as_str().unwrap().parse().unwrap();
        assert_eq!(told.as_second(), ended);
        let age = life
            .metric("multigres_operator_last_backup_age_seconds")
            .await;
        assert!(age >= 3600.0, "{age}");
        let mark = bed.server.mark();
        let left = 25 * 3600 - (bed.now().as_second() - ended);
        tokio::time::sleep(Duration::from_secs(left as u64 - 1)).await;
        assert_eq!(bed.server.writes_since(mark).len(), 0);
        assert_eq!(fleet.calls().len(), 3, "once before it turns stale");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = status(&bed);
        assert_eq!(
            condition(&now, "BackupHealthy"),
            ("False".into(), "BackupStale".into())
        );
        assert_eq!(now["lastBackupType"], "full");
        bed.silence().await;
        let events = bed
            .server
            .since(0)
            .into_iter()
            .filter(|request| request.key.is_none());
        let reasons: Vec<String> = events
            .filter_map(|event| Some(event.body["reason"].as_str()?.to_owned()))
            .filter(|reason| reason.starts_with("Backup"))
            .collect();
        assert_eq!(reasons, ["BackupHealthy", "BackupStale"]);
        tokio::time::sleep(Duration::from_secs(100 * 3600)).await;
        assert_eq!(fleet.calls().len(), 3);
    });
    assert_eq!(end.await, End::Done(()));
}

/// Pods that demand certificates are shown ours, read from its Secret when it is there, and anew when it changes.
#[tokio::test(start_paused = true)]
async fn the_operator_shows_its_certificate() {
    let (bed, fleet, cluster) = bed(308);
    bed.server.edit(&cluster, |object| {
        object["spec"]["internalTLS"] = json!({"enabled": true});
    });
    let secret = |component: &str| {
        key(
            Kind::Secret,
            &format!("{component}.{}.default.multigres.internal", cluster.name),
        )
    };
    let labels = json!({
        "app.kubernetes.io/managed-by": "multigres-operator", "multigres.com/cluster": cluster.name,
        "app.kubernetes.io/instance": cluster.name, "app.kubernetes.io/component": "certificate",
    });
    let body = json!({
        "metadata": {"labels": labels}, "data": {"tls.crt": "YQ==", "tls.key": "Yg==", "ca.crt": "Yw=="},
    });
    for component in ["multiadmin", "multigateway", "multiorch", "multipooler"] {
        bed.server.add(&secret(component), body.clone());
    }
    let own = secret("multigres-operator");
    let end = bed.life(async |life| {
        let pods = pods(&bed).await;
        bed.silence().await;
        assert_eq!(
            fleet.dialled(),
            [],
            "without a certificate there is nothing to show"
        );
        let poolers = life.actor(&bed.shard(), None).await["poolers"].clone();
        assert!(
            poolers[0]["trouble"].as_str().unwrap().contains(&*own.name),
            "{poolers}"
        );
        fleet.form(&names(&pods), &pods[0], 1);
        bed.server.add(&own, body.clone());
        bed.healthy(&cluster).await;
        assert_eq!(fleet.dialled().len(), 3);
        assert!(
            fleet
                .dialled()
                .iter()
                .all(|(_, health, secure)| *health && *secure)
        );
        bed.silence().await;
        let mark = bed.server.mark();
        bed.server
            .edit(&own, |secret| secret["data"]["tls.crt"] = json!("ZA=="));
        bed.silence().await;
        assert_eq!(
            (fleet.dialled().len(), fleet.open()),
            (6, 3),
            "a renewed one is shown at once"
        );
        let shard = bed.shard();
        let told = bed.server.writes_since(mark).into_iter();
        assert_eq!(
            told.filter(|write| write.key.as_ref() == Some(&shard))
                .count(),
            0
        );
    });
    assert_eq!(end.await, End::Done(()));
}

/// Who does not lead does not talk, and links go with their pods.
#[tokio::test(start_paused = true)]
async fn links_live_as_long_as_pods_and_leadership() {
    let (bed, fleet, cluster) = bed(309);
    let end = bed.life(async |life| {
        let pods = pods(&bed).await;
        fleet.form(&names(&pods), &pods[0], 1);
        bed.healthy(&cluster).await;
        bed.silence().await;
        assert_eq!(fleet.open(), 3);
        let dialled = fleet.dialled().len();
        bed.server.delete(&key(Kind::Pod, &pods[2]));
        bed.healthy(&cluster).await;
        bed.silence().await;
        assert_eq!(
            (fleet.open(), fleet.dialled().len()),
            (3, dialled + 1),
            "its successor has one"
        );
        life.leadership.send_replace(Leadership::Standby);
        life.inflow
            .send(actors::supervisor::Inflow::Leadership(false))
            .await
            .unwrap();
        bed.silence().await;
        assert_eq!(fleet.open(), 0);
        life.leadership.send_replace(Bed::leader());
        life.inflow
            .send(actors::supervisor::Inflow::Leadership(true))
            .await
            .unwrap();
        bed.silence().await;
        assert_eq!(fleet.open(), 3);
    });
    assert_eq!(end.await, End::Done(()));
}
