//! Is the topology store a component must reach there? (`design.md` 3, "Order of creation".)

use serde_json::Value;

use crate::object::{Key, Kind};
use crate::room::Observed;
use crate::status;

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
    let namespace = &observed.me.key().namespace;
    let name = format!("{cluster}-global-topo");
    if address != format!("{name}.{namespace}.svc:2379") {
        return Topology::External;
    }
    managed(observed, name, None)
}

/// What a workload of a cell needs: the store behind `address`, and the cell's own one if it has one that we manage.
pub fn for_cell(observed: &Observed, cluster: &str, address: &str, cell: &str) -> Topology {
    let global = of(observed, cluster, address);
    if !global.usable() {
        return global;
    }
    let name = crds::name::cell(cluster, cell);
    let key = Key::new(Kind::Cell, &observed.me.key().namespace, &name);
    let resource = observed.get(&key);
    match resource.and_then(|entry| Some((entry, entry.typed::<crds::Cell>().ok()?))) {
        Some((entry, cell)) => local(observed, &entry.uid, &cell).unwrap_or(global),
        // Whether it has a store of its own is not known yet.
        None => Topology::Waiting { name },
    }
}

/// The store of its own that a Cell of this UID has, if we manage one.
pub fn local(observed: &Observed, uid: &str, cell: &crds::Cell) -> Option<Topology> {
    cell.spec.topo_server.as_ref()?.etcd.as_ref()?;
    let name = crds::name::local_topo_server(cell.metadata.name.as_deref().unwrap_or_default());
    Some(managed(observed, name, Some(uid)))
}

fn managed(observed: &Observed, name: String, owner: Option<&str>) -> Topology {
    let key = Key::new(Kind::TopoServer, &observed.me.key().namespace, &name);
    let ready = observed.get(&key).is_some_and(|server| {
        let status = server.status_value();
        owner.is_none_or(|owner| server.owner.as_deref() == Some(owner))
            && current(&status, server.generation)
            && condition(&status, "Ready")
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
    status::condition(status, kind).is_some_and(status::is_true)
}

/// The phase of a status.
pub fn phase(status: &Value) -> &str {
    status::text(status, "phase")
}
