//! Is the topology store a component must reach there? (`design.md` 3, "Order of creation".)

use serde_json::Value;

use crate::object::{Key, Kind};
use crate::room::Observed;

/// What is known of the topology store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Managed by us and Ready.
    Ready,
    /// Managed by us and not Ready yet.
    Waiting {
        /// The TopoServer.
        name: String,
    },
    /// The user's own: assumed to be there.
    External,
}

impl Topology {
    /// May workloads start that exit without a topology store?
    pub const fn usable(&self) -> bool {
        !matches!(self, Topology::Waiting { .. })
    }
}

/// The store behind `address`: a managed one is recognised by the address that the cluster gives it (`api.md` 8.3).
pub fn of(observed: &Observed, cluster: &str, address: &str) -> Topology {
    let namespace = observed.me.key().namespace.clone();
    let name = format!("{cluster}-global-topo");
    if address != format!("{name}.{namespace}.svc:2379") {
        return Topology::External;
    }
    let ready = observed
        .get(&Key::new(Kind::TopoServer, &namespace, &name))
        .is_some_and(|server| {
            let status = server.status_value();
            current(&status, server.generation) && condition(&status, "Ready")
        });
    if ready {
        Topology::Ready
    } else {
        Topology::Waiting { name }
    }
}

/// The status was computed for this generation.
pub fn current(status: &Value, generation: i64) -> bool {
    status.get("observedGeneration").and_then(Value::as_i64) == Some(generation)
}

/// A condition is True.
pub fn condition(status: &Value, kind: &str) -> bool {
    status
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|condition| {
            condition.get("type").and_then(Value::as_str) == Some(kind)
                && condition.get("status").and_then(Value::as_str) == Some("True")
        })
}

/// The phase of a status.
pub fn phase(status: &Value) -> &str {
    status
        .get("phase")
        .and_then(Value::as_str)
        .unwrap_or_default()
}
