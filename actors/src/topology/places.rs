//! Where the topology stores of a cluster are: pod addresses of a managed etcd, the user's endpoints of an external one
//! (`design.md` 3, "Reaching components").

use std::collections::BTreeMap;

use crds::resolve::{GlobalTopology, ResolvedCluster};
use crds::{CellSpec, ExternalTopoServerSpec};
use serde::Serialize;

use crate::object::{Key, Kind};
use crate::plan::Plan;
use crate::room::Observed;
use crate::secrets::{self, Needed, Supply};
use crate::tls::{CA, PAIR};
use crate::topology_store::desired::DesiredCell;
use crate::toposerver::objects::CLIENT_PORT;

/// How a store is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// `host:port` or URL of each member, in the order in which they are tried.
    pub endpoints: Vec<String>,
    /// Prefix of all keys.
    pub root: String,
    /// TLS; `None`: plain.
    pub trust: Option<Trust>,
}

/// Secrets for TLS towards a store, by name; their content is read where the connection is made, and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trust {
    /// Holds `ca.crt`; `None`: the authorities that the system trusts.
    pub authority: Option<Key>,
    /// Holds `tls.crt` and `tls.key`.
    pub client: Option<Key>,
    /// Changes with their content.
    pub version: String,
}

/// Why a store cannot be dialled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Lack {
    /// What it takes has not been looked at yet.
    Unknown,
    /// No pod of it has an address.
    Members,
    /// A Secret is not there or not complete: which, and what it must hold.
    Secret(String),
}

/// A store: where its records are, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spot {
    /// Prefix of all keys.
    pub root: String,
    /// See [`Place`].
    pub place: Result<Place, Lack>,
}

/// All stores of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Places {
    /// The global store.
    pub global: Spot,
    /// The cells; `None`: in the global store.
    pub cells: BTreeMap<Box<str>, Option<Spot>>,
}

impl Places {
    /// The store of its own that a cell has, or with `None` the global one.
    pub fn spot(&self, cell: Option<&str>) -> Option<&Spot> {
        match cell {
            None => Some(&self.global),
            Some(cell) => self.cells.get(cell)?.as_ref(),
        }
    }

    /// Every store, by the name under which it is followed: a cell, or empty for the global one.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Spot)> {
        let own = self.cells.iter();
        let own = own.filter_map(|(cell, spot)| Some((cell.as_ref(), spot.as_ref()?)));
        std::iter::once(("", &self.global)).chain(own)
    }
}

/// What the specification says of a store.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// A managed etcd: the name of its TopoServer.
    Managed(String),
    /// The user's own.
    External(Box<ExternalTopoServerSpec>),
}

/// What the specification says of all stores.
#[derive(Clone, Debug, PartialEq)]
pub struct Wishes {
    global: (Wish, String),
    cells: BTreeMap<Box<str>, Option<(Wish, String)>>,
}

#[cfg(test)]
impl Wishes {
    /// A global store without members and no cell.
    pub fn empty() -> Self {
        Self {
            global: (Wish::Managed(String::new()), String::new()),
            cells: BTreeMap::new(),
        }
    }
}

impl Wishes {
    /// Of a resolved cluster of this name.
    pub fn of(resolved: &ResolvedCluster, cluster: &str, namespace: &str) -> Self {
        let global = match &resolved.topology {
            GlobalTopology::Managed(_) => Wish::Managed(format!("{cluster}-global-topo")),
            GlobalTopology::External(external) => Wish::External(external.clone()),
        };
        let mut wishes = Self {
            global: (global, resolved.topology_ref.root_path.clone()),
            cells: BTreeMap::new(),
        };
        for cell in &resolved.cells {
            wishes.add(cell, cluster, namespace);
        }
        wishes
    }

    /// Adds a cell, unless it is there already.
    pub fn add(&mut self, spec: &CellSpec, cluster: &str, namespace: &str) {
        if self.cells.contains_key(spec.name.as_str()) {
            return;
        }
        let store_of = |cell: &str| address(cluster, namespace, cell);
        let root = DesiredCell::of(spec, &store_of).root;
        let own = spec.topo_server.as_ref().map(|own| match &own.external {
            Some(external) => Wish::External(Box::new(external.clone())),
            None => Wish::Managed(server(cluster, &spec.name)),
        });
        let own = own
            .map(|wish| (wish, root))
            .filter(|own| *own != self.global);
        self.cells.insert(spec.name.as_str().into(), own);
    }

    /// Adds a cell that lives in the global store.
    pub fn add_shared(&mut self, cell: &str) {
        self.cells.entry(cell.into()).or_insert(None);
    }

    /// Where the stores are now. What has to be looked at for that is declared in the plan.
    pub fn find<S>(&self, plan: &mut Plan<'_, S>) -> Places {
        let mut spot = |(wish, root): &(Wish, String)| Spot {
            root: root.clone(),
            place: place(plan, wish, root),
        };
        Places {
            global: spot(&self.global),
            cells: self
                .cells
                .iter()
                .map(|(cell, own)| (cell.clone(), own.as_ref().map(&mut spot)))
                .collect(),
        }
    }
}

/// The TopoServer of a cell's own managed store.
fn server(cluster: &str, cell: &str) -> String {
    crds::name::local_topo_server(&crds::name::cell(cluster, cell))
}

/// The address of a cell's own managed store, as records have it.
pub fn address(cluster: &str, namespace: &str, cell: &str) -> String {
    format!("{}.{namespace}.svc:{CLIENT_PORT}", server(cluster, cell))
}

fn place<S>(plan: &mut Plan<'_, S>, wish: &Wish, root: &str) -> Result<Place, Lack> {
    match wish {
        Wish::Managed(server) => {
            let endpoints = members(plan.observed, server);
            if endpoints.is_empty() {
                return Err(Lack::Members);
            }
            Ok(Place {
                endpoints,
                root: root.to_owned(),
                trust: None,
            })
        }
        Wish::External(external) => Ok(Place {
            endpoints: external.endpoints.clone(),
            root: root.to_owned(),
            trust: trust(plan, external)?,
        }),
    }
}

/// Addresses of the members of a managed etcd: pods of the StatefulSet of this name, by name, terminating ones too.
fn members(observed: &Observed, server: &str) -> Vec<String> {
    let namespace = &observed.me.key().namespace;
    let key = Key::new(Kind::StatefulSet, namespace, server);
    let Some(owner) = observed.get(&key) else {
        return Vec::new();
    };
    let pods = observed.group.iter().filter(|entry| {
        entry.key().kind == Kind::Pod && entry.owner.as_deref() == Some(owner.uid.as_ref())
    });
    pods.filter_map(|entry| {
        let pod = entry.pod.as_ref()?;
        let address = pod.address.as_deref().filter(|_| !pod.ended())?;
        Some(if address.contains(':') {
            format!("[{address}]:{CLIENT_PORT}")
        } else {
            format!("{address}:{CLIENT_PORT}")
        })
    })
    .collect()
}

/// The Secrets of an external store. The data plane speaks TLS when a client certificate is given (`topology.md` 1.1); an
/// `https://` endpoint leaves no choice either.
fn trust<S>(
    plan: &mut Plan<'_, S>,
    external: &ExternalTopoServerSpec,
) -> Result<Option<Trust>, Lack> {
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let (authority, client) = (
        given(&external.ca_secret),
        given(&external.client_cert_secret),
    );
    let https = |endpoint: &String| endpoint.starts_with("https://");
    if authority.is_none() && client.is_none() && !external.endpoints.iter().any(https) {
        return Ok(None);
    }
    let needed: Vec<Needed> = [(&authority, CA), (&client, PAIR)]
        .into_iter()
        .filter_map(|(name, files)| Some(Needed::given(name.clone()?, files)))
        .collect();
    let version = match secrets::supply(plan, &needed) {
        Supply::Complete(version) => version,
        Supply::Missing(what) => return Err(Lack::Secret(what)),
        Supply::Unknown => return Err(Lack::Unknown),
    };
    let namespace = plan.observed.me.key().namespace.clone();
    let key = |name: String| Key::new(Kind::Secret, &namespace, &name);
    Ok(Some(Trust {
        authority: authority.map(key),
        client: client.map(key),
        version,
    }))
}
