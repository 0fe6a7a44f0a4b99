//! Health of workloads: Deployments, StatefulSets and the pods behind them (`api.md` 4.1, `lifecycle.md` 16).

use std::rc::Rc;

use crate::entry::Entry;
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
        let Some(entry) = workload else { return Self::default() };
        let status = entry.status_value();
        let number = |field: &str| status.get(field).and_then(serde_json::Value::as_i64).unwrap_or_default();
        let spec: serde_json::Value = serde_json::from_str(&entry.spec).unwrap_or_default();
        let wanted = spec.get("replicas").and_then(serde_json::Value::as_i64).unwrap_or(1);
        Self {
            wanted,
            total: number("replicas"),
            ready: number("readyReplicas"),
            current: number("observedGeneration") == entry.generation && number("updatedReplicas") == wanted,
        }
    }

    /// Everything wanted is ready and nothing else is left. Zero wanted is satisfied by zero.
    pub const fn satisfied(&self) -> bool {
        self.current && self.ready == self.wanted && self.total == self.wanted
    }
}

/// The first broken pod among these, with what breaks it; terminating pods do not count.
pub fn broken<'a>(pods: impl Iterator<Item = &'a Rc<Entry>>) -> Option<String> {
    pods.filter(|entry| !entry.deleting).find_map(|entry| {
        let pod = entry.pod.as_ref()?;
        let why = pod.trouble.as_deref().or((&*pod.phase == "Failed").then_some("Failed"))?;
        Some(format!("pod {} is broken: {why}", entry.key().name))
    })
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

    #[test]
    fn phases() {
        let all = Replicas { wanted: 2, total: 2, ready: 2, current: true };
        assert_eq!(phase(all, true, None), Phase::Healthy);
        assert_eq!(phase(all, true, Some("x")), Phase::Degraded);
        assert_eq!(phase(Replicas { ready: 1, ..all }, true, None), Phase::Progressing);
        assert_eq!(phase(Replicas { current: false, ..all }, true, None), Phase::Progressing);
        assert_eq!(phase(Replicas { total: 3, ..all }, true, None), Phase::Progressing, "an old pod is still there");
        assert_eq!(phase(Replicas { wanted: 0, total: 0, ready: 0, current: true }, true, None), Phase::Healthy);
        assert_eq!(phase(Replicas::default(), false, None), Phase::Progressing);
    }
}
