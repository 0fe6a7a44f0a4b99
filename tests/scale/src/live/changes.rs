//! How long it takes until another primary is told.

use std::time::Duration;

use anyhow::Context;
use control_plane::{Entry, chart};
use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject, runtime::watcher};
use serde_json::{Map, Value};

use super::{
    POOLERS,
    scene::{Cluster, Scene},
    watch::{At, Known, Watch},
};
use crate::{bench::Bench, figures::percentile, fleet::kind};

/// Longest wait for a shard of the stand-in.
const ELECTION: Duration = Duration::from_secs(60);

/// One change.
struct Change {
    /// Name of the Shard.
    shard: String,
    /// The stand-in has another primary.
    made: At,
    /// The status that says so has arrived.
    told: At,
}

/// Changes primaries one after the other, cluster after cluster, and adds how long it took until each was told.
///
/// # Errors
/// When a change is not told at all.
pub async fn measure(bench: &mut Bench<'_>, scene: &Scene, changes: usize) -> anyhow::Result<()> {
    let shards = kind("multigres.com", "v1alpha1", "Shard", "shards");
    let shards = scene.api(bench.plane.client(), &shards);
    let mut watch = Watch::start(shards, watcher::Config::default());
    let clusters = scene.all()?;
    eprintln!("{changes} changes of primaries");
    let mark = bench.audit.settle().await?;
    let mut made = Vec::new();
    for cluster in clusters.iter().cycle().take(changes) {
        made.push(change(cluster, &mut watch).await?);
    }
    let milliseconds = |change: &Change| {
        let time = change.told.instant.duration_since(change.made.instant);
        time.as_secs_f64() * 1e3
    };
    let times: Vec<f64> = made.iter().map(milliseconds).collect();
    let figures = &mut *bench.figures;
    for (share, what, goal) in [(0.5, "p50", 50.0), (0.99, "p99", 250.0)] {
        let name = format!("another primary is told, {what}");
        figures.add(name, "ms", Some(goal), vec![percentile(&times, share)]);
    }
    bench.audit.settle().await?;
    let writes = bench.audit.writes(mark, &chart::user())?;
    let steps: Vec<[f64; 3]> = made.iter().filter_map(|of| steps(of, &writes)).collect();
    for (index, step) in ["until the operator writes", "the write", "until it arrives"]
        .iter()
        .enumerate()
    {
        let times: Vec<f64> = steps
            .iter()
            .filter_map(|of| of.get(index).copied())
            .collect();
        for (share, what) in [(0.5, "p50"), (0.99, "p99")] {
            let name = format!("of that, {step}, {what}");
            figures.add(name, "ms", None, vec![percentile(&times, share)]);
        }
    }
    let each = writes.len() as f64 / made.len() as f64;
    figures.add("writes per change of a primary", "", None, vec![each]);
    Ok(())
}

/// Changes the primary of one cluster; returns when all of it is told.
async fn change(cluster: &Cluster, watch: &mut Watch) -> anyhow::Result<Change> {
    let name = &cluster.name;
    let leader = || {
        let ask = cluster.shard.until(|shard| shard.primary().cloned());
        tokio::time::timeout(ELECTION, ask)
    };
    let first = leader().await.context("there is no primary")?;
    let pod = cluster.pods.get(&first).context("the primary has no pod")?;
    let settled = format!("{name} to have told all its roles");
    watch
        .until(&settled, |known| all_told(roles(known, name)?, pod))
        .await?;
    cluster.shard.change(|shard, now| shard.switch(None, now));
    let other = cluster
        .shard
        .until(|shard| shard.primary().filter(|new| **new != first).cloned());
    let other = tokio::time::timeout(ELECTION, other)
        .await
        .with_context(|| format!("{name} keeps its primary"))?;
    let made = At::now();
    let pod = cluster.pods.get(&other).context("the primary has no pod")?;
    let what = format!("{name} to tell that {pod} leads");
    let (shard, told) = watch
        .until(&what, |known| {
            told(roles(known, name)?, pod)?;
            Some(of(known, name)?.name_any())
        })
        .await?;
    watch
        .until(&settled, |known| all_told(roles(known, name)?, pod))
        .await?;
    Ok(Change { shard, made, told })
}

fn of<'a>(known: &'a Known, cluster: &str) -> Option<&'a DynamicObject> {
    known.values().find(|shard| {
        let label = shard.labels().get(actors::labels::CLUSTER);
        label.is_some_and(|label| label == cluster)
    })
}

fn roles<'a>(known: &'a Known, cluster: &str) -> Option<&'a Map<String, Value>> {
    let shard = of(known, cluster)?;
    shard.data.pointer("/status/podRoles")?.as_object()
}

fn with<'a>(roles: &'a Map<String, Value>, role: &str) -> impl Iterator<Item = &'a String> {
    let pods = roles.iter().filter(move |(_, is)| *is == role);
    pods.map(|(pod, _)| pod)
}

/// This pod leads and no other.
fn told(roles: &Map<String, Value>, primary: &str) -> Option<()> {
    let leaders: Vec<&String> = with(roles, "PRIMARY").collect();
    (leaders == [primary]).then_some(())
}

/// This pod leads and all others follow.
fn all_told(roles: &Map<String, Value>, primary: &str) -> Option<()> {
    told(roles, primary)?;
    (with(roles, "REPLICA").count() == POOLERS - 1).then_some(())
}

/// Milliseconds until the write that told the change reached the API server, until it was answered, and until it arrived.
fn steps(change: &Change, writes: &[Entry]) -> Option<[f64; 3]> {
    let write = writes.iter().rfind(|entry| {
        entry.target() == "shards/status"
            && entry.name == change.shard
            && entry.at <= change.told.time
    })?;
    let between = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64() * 1e3;
    Some([
        between(change.made.time, write.at),
        between(write.at, write.answered),
        between(write.answered, change.told.time),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn roles_of(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_change_is_told_when_one_pod_leads_and_all_of_it_when_the_others_follow() {
        let old = roles_of(json!({"a": "PRIMARY", "b": "REPLICA", "c": "REPLICA"}));
        assert_eq!((told(&old, "b"), all_told(&old, "a")), (None, Some(())));
        let two = roles_of(json!({"a": "PRIMARY", "b": "PRIMARY", "c": "REPLICA"}));
        assert_eq!(told(&two, "b"), None);
        let begun = roles_of(json!({"b": "PRIMARY", "c": "REPLICA"}));
        assert_eq!((told(&begun, "b"), all_told(&begun, "b")), (Some(()), None));
    }

    #[test]
    fn the_steps_are_those_of_the_write_that_told() {
        let ms = |milliseconds: i64| Timestamp::from_millisecond(milliseconds).unwrap();
        let at = |time| At { time, ..At::now() };
        let write = |name: &str, from: i64| Entry {
            user: String::new(),
            credential: String::new(),
            user_agent: String::new(),
            verb: "patch".to_owned(),
            group: "multigres.com".to_owned(),
            resource: "shards".to_owned(),
            subresource: "status".to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
            code: 200,
            at: ms(from),
            answered: ms(from + 4),
        };
        let change = Change {
            shard: "s".to_owned(),
            made: at(ms(1_000)),
            told: at(ms(1_025)),
        };
        let writes = [
            write("s", 1_005),
            write("s", 1_020),
            write("t", 1_022),
            write("s", 1_030),
        ];
        assert_eq!(steps(&change, &writes), Some([20.0, 4.0, 1.0]));
        assert_eq!(steps(&change, &writes[2..3]), None);
    }
}
