use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::action::{Action, Want, WantReason};
use crate::fixtures::{Bed, NAMESPACE};
use crate::shard::decide::State;
use crate::shard::postgres_config::{Sizing, effective, render};

/// A Shard whose settings come from key `conf` of ConfigMap `mine`.
fn bed(text: &str) -> Bed {
    let mut bed = Bed::new();
    bed.shard["spec"]["postgresConfigRef"] = json!({"name": "mine", "key": "conf"});
    edit(&mut bed, text);
    bed
}

fn edit(bed: &mut Bed, text: &str) {
    bed.config_maps
        .insert("mine".to_owned(), json!({"conf": text}));
}

/// One that has settled, with all pods Ready.
fn running(text: &str) -> Bed {
    let mut bed = bed(text);
    bed.settle();
    for key in bed.names(Kind::Pod) {
        ready(&mut bed, &key, true);
    }
    bed.settle();
    bed
}

fn ready(bed: &mut Bed, pod: &Key, is: bool) {
    let status = if is { "True" } else { "False" };
    bed.objects.get_mut(pod).unwrap()["status"] =
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]});
}

fn file(bed: &Bed) -> Option<String> {
    let maps = bed.names(Kind::ConfigMap);
    let key = maps
        .iter()
        .find(|key| key.name.ends_with("-postgres-config"))?;
    let text = bed.objects[key]["data"]["postgresql.conf"].as_str();
    Some(text.unwrap().to_owned())
}

fn setting(bed: &Bed, name: &str) -> Option<String> {
    effective(&file(bed)?).get(name).cloned()
}

fn drift(bed: &Bed) -> Vec<Want> {
    let wants = bed.pool_decides("default", "a").wants;
    let drift = wants
        .into_iter()
        .filter(|want| want.reason == WantReason::Drift);
    drift.collect()
}

fn stalled(bed: &Bed) -> (String, String) {
    let condition = bed.condition("Stalled").unwrap();
    let text = |name: &str| condition[name].as_str().unwrap().to_owned();
    (text("reason"), text("message"))
}

fn applied(bed: &Bed) -> Value {
    bed.shard["status"]["postgresConfig"].clone()
}

/// L-ROLL-08: an edit of the text leads to a restart where PostgreSQL needs one, and else to a reload.
#[test]
fn a_content_change_has_its_effect() {
    let mut bed = running("max_connections = 70\nwork_mem = 8MB # mine\n");
    assert_eq!(setting(&bed, "max_connections").as_deref(), Some("70"));
    assert_eq!(drift(&bed), []);
    let first = applied(&bed);
    assert_eq!(first["inProgress"], false);
    assert!(first["lastAppliedAt"].is_string());

    edit(&mut bed, "max_connections = 70\nwork_mem = 9MB\n");
    bed.settle();
    assert_eq!(setting(&bed, "work_mem").as_deref(), Some("9MB"));
    assert_eq!(drift(&bed), [], "a reload delivers it");
    assert_eq!(applied(&bed)["inProgress"], true);
    assert_eq!(applied(&bed)["lastAppliedAt"], first["lastAppliedAt"]);

    edit(&mut bed, "max_connections = 80\nwork_mem = 8MB\n");
    bed.settle();
    assert_eq!(setting(&bed, "max_connections").as_deref(), Some("80"));
    assert_eq!(drift(&bed).len(), 2, "only a restart delivers it");
    assert_eq!(bed.condition("RollingUpdate").unwrap()["status"], "True");
}

/// The order of the layers: the ConfigMap over what we compute, the map of the spec over the ConfigMap.
#[test]
fn the_map_of_the_spec_wins() {
    let mut bed = bed("work_mem = 8MB\nmaintenance_work_mem = 8MB\n");
    bed.shard["spec"]["postgresConfig"] = json!({"work_mem": "9MB"});
    bed.settle();
    assert_eq!(setting(&bed, "work_mem").as_deref(), Some("9MB"));
    assert_eq!(
        setting(&bed, "maintenance_work_mem").as_deref(),
        Some("8MB")
    );
}

#[test]
fn a_missing_config_map_or_key_is_told_and_heals() {
    for (data, told) in [
        (None, "ConfigMap mine does not exist: create it"),
        (
            Some(json!({"other": ""})),
            "ConfigMap mine has no key \"conf\": add it",
        ),
    ] {
        let mut bed = bed("");
        bed.config_maps.clear();
        bed.config_maps
            .extend(data.map(|data| ("mine".to_owned(), data)));
        bed.settle();
        let (reason, message) = stalled(&bed);
        assert_eq!(reason, "PostgresConfigInvalid");
        assert!(message.contains(told), "{message}");
        let error = applied(&bed)["error"].clone();
        assert!(error.as_str().unwrap().contains(told), "{error}");
        assert_eq!(bed.names(Kind::Pod), [], "pods wait for their settings");
        assert_eq!(file(&bed), None);
        let volumes = bed.names(Kind::PersistentVolumeClaim);
        assert_eq!(volumes.len(), 3, "volumes do not");

        edit(&mut bed, "work_mem = 8MB");
        bed.settle();
        assert_eq!(bed.names(Kind::Pod).len(), 2);
        assert_eq!(setting(&bed, "work_mem").as_deref(), Some("8MB"));
        assert_eq!(stalled(&bed).0, "NoObstacle");
        assert_eq!(applied(&bed).get("error"), None);
    }
}

#[test]
fn mistakes_are_named_and_what_runs_goes_on() {
    let mut bed = running("work_mem = 8MB\n");
    let before = (file(&bed), bed.names(Kind::Pod));
    edit(
        &mut bed,
        "# mine\nsynchronous_commit = off\nwork_mem = 8mb\nwal_level = minimal\nmagic = on\n",
    );
    bed.settle();
    let (reason, message) = stalled(&bed);
    assert_eq!(reason, "PostgresConfigInvalid");
    for told in [
        "key \"conf\" of ConfigMap mine",
        "line 2: synchronous_commit = off: managed by the pooler, which would override it: remove it",
        "line 3: work_mem = 8mb: \"mb\" is no unit of PostgreSQL",
        "line 4: wal_level = minimal: managed by the operator: remove it",
        "line 5: magic = on: unknown parameter of PostgreSQL 17: correct or remove it",
    ] {
        assert!(message.contains(told), "{told} in {message}");
    }
    assert_eq!((file(&bed), bed.names(Kind::Pod)), before);
    assert_eq!(drift(&bed), []);
    // A lost pod waits; the others, and all else of the Shard, go on.
    let lost = bed.names(Kind::Pod).remove(0);
    bed.objects.remove(&lost);
    bed.settle();
    assert_eq!(bed.names(Kind::Pod).len(), 1);
    edit(&mut bed, "work_mem = 8MB\n");
    bed.settle();
    assert_eq!((file(&bed), bed.names(Kind::Pod)), before);
}

#[test]
fn a_drift_that_was_told_stays_told_while_settings_are_unknown() {
    let mut bed = running("max_connections = 70\n");
    edit(&mut bed, "max_connections = 80\n");
    bed.settle();
    let told = bed.condition("RollingUpdate").unwrap();
    assert_eq!(told["status"], "True");
    bed.config_maps.clear();
    bed.settle();
    assert_eq!(bed.condition("RollingUpdate").unwrap(), told);
}

/// A restarted operator has read nothing yet: it neither writes other settings nor removes those in place, and says nothing
/// new.
#[test]
fn nothing_is_done_before_the_config_map_is_read() {
    let mut bed = running("work_mem = 8MB\n");
    bed.reports.clear();
    let mut observed = bed.observed();
    observed
        .references
        .retain(|key, _| key.kind == Kind::Secret);
    let key = Key::new(Kind::ConfigMap, NAMESPACE, "mine");
    let shard = crate::shard::decide::decide(&observed, &State::default(), bed.now);
    assert!(shard.references.contains(&key));
    assert_eq!(shard.actions, []);
    let id = crate::room::ActorId::pool("me", "default", "a");
    let pool = crate::pool::decide::decide(&id, &observed, bed.now);
    assert!(pool.references.contains(&key));
    assert_eq!((pool.actions, pool.wants), (vec![], vec![]));
    assert!(pool.undecided);
}

#[test]
fn a_config_map_of_ours_is_not_taken_for_the_users() {
    let mut bed = running("work_mem = 8MB\n");
    let maps = bed.names(Kind::ConfigMap);
    let ours = &*maps[0].name;
    bed.shard["spec"]["postgresConfigRef"]["name"] = json!(ours);
    let decision = bed.shard_decides();
    assert!(!decision.references.iter().any(|key| &*key.name == ours));
    bed.settle();
    let (_, message) = stalled(&bed);
    assert!(message.contains("is the operator's own"), "{message}");
}

#[test]
fn a_pod_that_loops_with_the_settings_has_not_got_them() {
    let mut bed = running("work_mem = 8MB\n");
    let first = applied(&bed);
    let pod = bed.names(Kind::Pod).remove(0);
    // Not Ready for another reason: that is no rollout of settings.
    ready(&mut bed, &pod, false);
    bed.settle();
    assert_eq!(applied(&bed), first);
    bed.objects.get_mut(&pod).unwrap()["status"]["containerStatuses"] =
        json!([{"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
    bed.settle();
    assert_eq!(applied(&bed)["inProgress"], true);
    ready(&mut bed, &pod, true);
    bed.now += jiff::SignedDuration::from_secs(60);
    bed.settle();
    assert_eq!(applied(&bed)["inProgress"], false);
    assert_ne!(applied(&bed)["lastAppliedAt"], first["lastAppliedAt"]);
}

/// Only content that somebody refers to is kept, never that of Secrets; of our own objects a digest is enough.
#[test]
fn of_ours_and_of_secrets_only_digests_are_kept() {
    let texts = |kind, labels: Value| {
        let body = json!({
            "metadata": {"name": "a", "namespace": NAMESPACE, "uid": "u", "resourceVersion": "1", "labels": labels},
            "data": {"k": "v"},
        });
        let watched: crate::entry::Watched = serde_json::from_value(body).unwrap();
        watched.trim(kind).unwrap().texts.len()
    };
    assert_eq!(texts(Kind::ConfigMap, json!({})), 1);
    let (name, value) = crate::object::MANAGED_BY;
    assert_eq!(texts(Kind::ConfigMap, json!({name: value})), 0);
    assert_eq!(texts(Kind::Secret, json!({})), 0);
}

#[test]
fn settings_are_written_once() {
    let mut bed = running("work_mem = 8MB\n");
    assert_eq!(bed.settle(), 0);
    let applies = bed
        .shard_decides()
        .actions
        .into_iter()
        .filter(|planned| matches!(planned.action, Action::Apply { .. }));
    assert_eq!(applies.count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// L-ROLL-08: whatever text the user gives, what is rendered reads as what was meant.
    #[test]
    fn user_text_survives_rendering(
        text in r"((work_mem|log_line_prefix|a\.b|search_path|port)? ?=? ?('[^']{0,6}'|[a-zA-Z0-9 #=\\]{0,6})[\r\n]{0,2}){0,4}",
        value in "\\PC{0,12}|[\\\\'#=\n\r]{0,8}",
    ) {
        let map = std::collections::BTreeMap::from([("x.y".to_owned(), value.clone())]);
        let referenced = Some(text.as_str()).filter(|text| mistakes(text).is_empty());
        let rendered = render("c", Sizing::default(), referenced, &map);
        let read = effective(&rendered.text);
        prop_assert_eq!(read.get("x.y"), Some(&value));
        for (name, value) in effective(referenced.unwrap_or_default()) {
            prop_assert_eq!(read.get(&name), Some(&value), "{}", name);
        }
        prop_assert_eq!(read.get("port"), None);
    }
}
