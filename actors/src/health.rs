//! Health of workloads: Deployments, StatefulSets and the pods behind them (`api.md` 4.1, `lifecycle.md` 16).

use std::rc::Rc;

use crate::entry::{Entry, StuckBy};
use crate::status::Phase;

/// Replicas of a workload as its controller reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Wanted by the spec.
    pub wanted: i64,
    /// Existing.
    pub total: i64,
    /// Ready.
    pub ready: i64,
    /// The controller has seen the newest generation and rolled it out.
    pub current: bool,
}

impl Replicas {
    /// Of a Deployment or StatefulSet; zero of everything when it does not exist.
    pub fn of(workload: Option<&Rc<Entry>>) -> Self {
        let Some(entry) = workload else {
            return Self::default();
        };
        let status = entry.status_value();
        let number = |field: &str| {
            status
                .get(field)
                .and_then(serde_json::Value::as_i64)
                .unwrap_or_default()
        };
        let wanted = entry.replicas.unwrap_or(1);
        Self {
            wanted,
            total: number("replicas"),
            ready: number("readyReplicas"),
            current: number("observedGeneration") == entry.generation
                && number("updatedReplicas") == wanted,
        }
    }

    /// Everything wanted is ready and nothing else is left. Zero wanted is satisfied by zero.
    pub const fn satisfied(&self) -> bool {
        self.current && self.ready == self.wanted && self.total == self.wanted
    }
}

/// How long a pod may be stuck before that is a fault, and how it is told.
const fn patience(by: StuckBy) -> (jiff::SignedDuration, &'static str) {
    match by {
        // Long enough for nodes to be added.
        StuckBy::Node => (jiff::SignedDuration::from_secs(30), "Unschedulable"),
        // Provisioners take minutes, and a fleet that comes up at once is no fault.
        StuckBy::Volumes => (jiff::SignedDuration::from_mins(5), "Unschedulable"),
        // So do volumes that another node must let go first.
        StuckBy::Start => (
            jiff::SignedDuration::from_mins(5),
            "its node has not mounted its volumes or made its network; the pod's events say why",
        ),
    }
}

/// What is wrong with a set of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The first broken pod, and what breaks it.
    pub broken: Option<String>,
    /// When the answer may change though nothing is heard.
    pub ask_again: Option<jiff::Timestamp>,
}

/// Looks for broken pods; terminating ones do not count.
pub fn of_pods<'a>(pods: impl Iterator<Item = &'a Rc<Entry>>, now: jiff::Timestamp) -> Health {
    let mut health = Health::default();
    for entry in pods.filter(|entry| !entry.deleting) {
        let Some(pod) = &entry.pod else { continue };
        let due = pod.stuck.and_then(|stuck| {
            let (patience, why) = patience(stuck.by);
            Some((stuck.since.saturating_add(patience).ok()?, why))
        });
        let why = match (pod.trouble.as_deref(), due) {
            (Some(why), _) => Some(why),
            (None, _) if &*pod.phase == "Failed" => Some("Failed"),
            (None, Some((due, why))) if due <= now => Some(why),
            (None, Some((due, _))) => {
                health.ask_again = Some(health.ask_again.map_or(due, |at| at.min(due)));
                None
            }
            (None, None) => None,
        };
        if let (Some(why), None) = (why, &health.broken) {
            health.broken = Some(format!("pod {} is broken: {why}", entry.key().name));
        }
    }
    health
}

/// Phase of a workload: broken beats unready, unready beats Healthy.
pub fn phase(replicas: Replicas, exists: bool, broken: Option<&str>) -> Phase {
    match (broken, exists) {
        (Some(_), _) => Phase::Degraded,
        (None, true) if replicas.satisfied() => Phase::Healthy,
        _ => Phase::Progressing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Stuck;

    /// L-STAT-05.
    #[test]
    fn a_pod_that_is_held_is_broken_only_after_a_while() {
        let since: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (by, word) in [
            (StuckBy::Node, "Unschedulable"),
            (StuckBy::Volumes, "Unschedulable"),
            (StuckBy::Start, "mounted its volumes"),
        ] {
            let pod = crate::entry::Pod {
                stuck: Some(Stuck { since, by }),
                ..crate::entry::Pod::default()
            };
            let pods = [Rc::new(Entry {
                pod: Some(Box::new(pod)),
                ..Entry::default()
            })];
            let (patience, _) = patience(by);
            let early = of_pods(pods.iter(), since);
            assert_eq!(
                (early.broken, early.ask_again),
                (None, Some(since + patience))
            );
            let late = of_pods(pods.iter(), since + patience).broken.unwrap();
            assert!(late.contains(word), "{late}");
        }
    }

    #[test]
    fn phases() {
        let all = Replicas {
            wanted: 2,
            total: 2,
            ready: 2,
            current: true,
        };
        assert_eq!(phase(all, true, None), Phase::Healthy);
        assert_eq!(phase(all, true, Some("x")), Phase::Degraded);
        assert_eq!(
            phase(Replicas { ready: 1, ..all }, true, None),
            Phase::Progressing
        );
        assert_eq!(
            phase(
                Replicas {
                    current: false,
                    ..all
                },
                true,
                None
            ),
            Phase::Progressing
        );
        assert_eq!(
            phase(Replicas { total: 3, ..all }, true, None),
            Phase::Progressing,
            "an old pod is still there"
        );
        assert_eq!(
            phase(
                Replicas {
                    wanted: 0,
                    total: 0,
                    ready: 0,
                    current: true
                },
                true,
                None
            ),
            Phase::Healthy
        );
        assert_eq!(phase(Replicas::default(), false, None), Phase::Progressing);
    }
}
