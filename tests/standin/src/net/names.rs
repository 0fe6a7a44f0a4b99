//! Names, since there is no DNS: which addresses stand behind a host name.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
};

/// The names of a fleet's pods and Services.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<BTreeMap<String, BTreeSet<Ipv4Addr>>>,
}

/// Without the cluster's domain, so that all forms of a name are one.
fn short(name: &str) -> &str {
    name.strip_suffix(".cluster.local").unwrap_or(name)
}

impl Names {
    /// A name has this address too.
    pub fn add(&self, name: &str, address: Ipv4Addr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .entry(short(name).to_owned())
            .or_default()
            .insert(address);
    }

    /// A name does not have this address any more.
    pub fn remove(&self, name: &str, address: Ipv4Addr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addresses) = known.get_mut(short(name)) {
            addresses.remove(&address);
        }
    }

    /// `host:port` pairs with addresses for hosts; several for a name with several addresses, none for an unknown name.
    pub fn resolve(&self, target: &str) -> Vec<String> {
        let target = target
            .strip_prefix("http://")
            .or_else(|| target.strip_prefix("https://"))
            .unwrap_or(target);
        let Some((host, port)) = target.rsplit_once(':') else {
            return Vec::new();
        };
        if host == "localhost" || host.parse::<IpAddr>().is_ok() {
            return vec![target.to_owned()];
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = known.get(short(host)).into_iter().flatten();
        addresses
            .map(|address| format!("{address}:{port}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_a_name_are_one() {
        let names = Names::default();
        names.add(
            "topo.default.svc.cluster.local",
            Ipv4Addr::new(127, 1, 0, 1),
        );
        names.add("topo.default.svc", Ipv4Addr::new(127, 1, 0, 2));
        assert_eq!(
            names.resolve("topo.default.svc:2379"),
            ["127.1.0.1:2379", "127.1.0.2:2379"]
        );
        assert_eq!(names.resolve("http://127.0.0.1:2379"), ["127.0.0.1:2379"]);
        assert!(names.resolve("unknown.svc:2379").is_empty());
        names.remove("topo.default.svc", Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(names.resolve("topo.default.svc:2379"), ["127.1.0.2:2379"]);
    }
}
