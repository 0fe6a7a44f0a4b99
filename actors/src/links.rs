//! Which pods the operator talks to, and how (`design.md` 3, "Reaching components"): at the address that we observe, recognised
//! by the component's certificate where the pod demands ours.

use std::net::{IpAddr, SocketAddr};

use crate::cluster::admin::ADMIN_GRPC;
use crate::entry::{Entry, digest};
use crate::labels;
use crate::object::{Key, Kind};
use crate::pool::containers::POOLER_GRPC;
use crate::shard::multiorch::GRPC_PORT;
use crate::tls::{OPERATOR, PAIR_AND_CA};
use crate::topology::known::shard_of;
use crate::topology_store::key::ShardId;
use crate::workload::certificate_name;

/// A component that the operator calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// In pool pods. Its health is followed.
    Pooler,
    /// Called on demand only.
    Orch,
    /// Called on demand only.
    Admin,
}

impl Component {
    /// By the component label of its pod.
    fn of(label: &str) -> Option<Self> {
        match label {
            "shard-pool" => Some(Component::Pooler),
            "multiorch" => Some(Component::Orch),
            "multiadmin" => Some(Component::Admin),
            _ => None,
        }
    }

    /// The name in its certificate, and its gRPC port.
    const fn place(self) -> (&'static str, i32) {
        match self {
            Component::Pooler => ("multipooler", POOLER_GRPC),
            Component::Orch => ("multiorch", GRPC_PORT),
            Component::Admin => ("multiadmin", ADMIN_GRPC),
        }
    }
}

/// How a pod is recognised, and by what it recognises us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The Secret with the operator's certificate for this cluster (`lessons.md` L-CERT-05).
    pub secret: Key,
    /// The name that the pod's certificate must carry.
    pub server: String,
}

/// A link that a pod deserves. Another one than before is opened anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The pod's UID.
    pub uid: Box<str>,
    /// What runs in it.
    pub component: Component,
    /// UID of the Shard that owns it; pool pods only.
    pub shard: Option<Box<str>>,
    /// The shard's name in the data plane; pool pods only.
    pub place: Option<ShardId>,
    /// Address and gRPC port.
    pub address: SocketAddr,
    /// `None`: plain.
    pub identity: Option<Identity>,
}

/// The link that a pod deserves; none without an address, once all its containers have ended, or for a pool pod that nobody
/// owns. A terminating pod keeps its link: its last words count.
pub fn wanted(pod: &Entry) -> Option<Wanted> {
    let component = Component::of(pod.label(labels::COMPONENT)?)?;
    let facts = pod.pod.as_ref()?;
    if facts.ended() {
        return None;
    }
    let (name, port) = component.place();
    let address: IpAddr = facts.address.as_ref()?.parse().ok()?;
    let namespace = &pod.key().namespace;
    let identity = if facts.tls {
        let cluster = pod.label(labels::INSTANCE)?;
        let secret = certificate_name(OPERATOR, cluster, namespace);
        Some(Identity {
            secret: Key::new(Kind::Secret, namespace, &secret),
            server: certificate_name(name, cluster, namespace),
        })
    } else {
        None
    };
    let (shard, place) = match component {
        Component::Pooler => (Some(pod.owner.clone()?), shard_of(pod)),
        Component::Orch | Component::Admin => (None, None),
    };
    Some(Wanted {
        uid: pod.uid.clone(),
        component,
        shard,
        place,
        address: SocketAddr::new(address, u16::try_from(port).ok()?),
        identity,
    })
}

/// One number for the content of the Secret with our certificate; `None` while it is not complete.
pub fn material(secret: &Entry) -> Option<u64> {
    let mut text = String::new();
    for file in PAIR_AND_CA {
        let known = secret.data.get(*file).filter(|digest| **digest != 0)?;
        text.push_str(&format!("{known:016x}"));
    }
    Some(digest(text.as_bytes()))
}

/// Is it the Secret with our own certificate for some cluster?
pub fn is_identity(key: &Key) -> bool {
    let own = |name: &str| name.strip_prefix(OPERATOR)?.strip_prefix('.').map(|_| ());
    key.kind == Kind::Secret && own(&key.name).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::entry::Watched;

    fn pod(component: &str, change: &Value) -> Option<Wanted> {
        let mut body = json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1",
                "labels": {
                    labels::COMPONENT: component, labels::INSTANCE: "c", labels::DATABASE: "d",
                    labels::TABLE_GROUP: "t", labels::SHARD: "s",
                },
                "ownerReferences": [{"apiVersion": "v1", "kind": "Shard", "name": "s", "uid": "me", "controller": true}],
            },
            "spec": {"containers": [{"name": "x", "args": ["--grpc-port=1"]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.7"},
        });
        crate::fixtures::merge(&mut body, change);
        let watched: Watched = serde_json::from_value(body).unwrap();
        wanted(&watched.trim(Kind::Pod).unwrap())
    }

    #[test]
    fn who_deserves_a_link_and_where() {
        let none = json!({});
        let ports = ["shard-pool", "multiorch", "multiadmin"]
            .map(|component| pod(component, &none).unwrap().address.to_string());
        assert_eq!(
            ports,
            ["10.0.0.7:15270", "10.0.0.7:15370", "10.0.0.7:18070"]
        );
        let pooler = pod("shard-pool", &none).unwrap();
        assert_eq!(pooler.shard.as_deref(), Some("me"));
        assert_eq!(pooler.place, Some(ShardId::new("d", "t", "s")));
        let terminating = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(pod("shard-pool", &terminating).is_some());
        let six = pod("shard-pool", &json!({"status": {"podIP": "fd00::1"}}));
        assert_eq!(six.unwrap().address.to_string(), "[fd00::1]:15270");
        for (component, change) in [
            ("multigateway", json!({})),
            ("shard-pool", json!({"status": {"podIP": null}})),
            ("shard-pool", json!({"status": {"podIP": "nonsense"}})),
            ("shard-pool", json!({"status": {"phase": "Failed"}})),
            ("multiadmin", json!({"status": {"phase": "Succeeded"}})),
            ("shard-pool", json!({"metadata": {"ownerReferences": null}})),
        ] {
            assert_eq!(pod(component, &change), None, "{component} {change}");
        }
    }

    /// The pod decides, not the spec: one made before TLS was switched on goes on in plain until it is replaced.
    #[test]
    fn a_pod_that_demands_certificates_is_shown_ours() {
        assert_eq!(pod("multiorch", &json!({})).unwrap().identity, None);
        let args =
            json!({"spec": {"containers": [{"name": "x", "args": ["--grpc-ca", "/etc/ca.crt"]}]}});
        let identity = pod("multiorch", &args).unwrap().identity.unwrap();
        assert_eq!(identity.server, "multiorch.c.n.multigres.internal");
        assert!(is_identity(&identity.secret));
        assert_eq!(
            &*identity.secret.name,
            "multigres-operator.c.n.multigres.internal"
        );
        assert!(!is_identity(&Key::new(
            Kind::Secret,
            "n",
            "multigres-operator-ca-secret"
        )));
    }

    #[test]
    fn a_certificate_counts_when_it_is_complete_and_a_new_one_is_another() {
        let secret = |data: &[(&str, u64)]| Entry {
            data: data
                .iter()
                .map(|(name, value)| ((*name).into(), *value))
                .collect(),
            ..Entry::default()
        };
        let whole = material(&secret(&[("tls.crt", 1), ("tls.key", 2), ("ca.crt", 3)]));
        assert!(whole.is_some());
        assert_eq!(material(&secret(&[("tls.crt", 1), ("tls.key", 2)])), None);
        assert_eq!(
            material(&secret(&[("tls.crt", 1), ("tls.key", 2), ("ca.crt", 0)])),
            None
        );
        assert_ne!(
            whole,
            material(&secret(&[("tls.crt", 1), ("tls.key", 2), ("ca.crt", 4)]))
        );
    }
}
