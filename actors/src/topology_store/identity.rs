//! Which pod a record belongs to. Every comparison of records with pods goes through here (`lessons.md` L-TOPO-02).

use super::record::Pooler;

/// The pod that a registered host name belongs to: its first label. `None` when the name cannot be that of a pod of our
/// namespace: an address, `localhost`, no name at all, or a full name in another namespace.
pub fn pod_of<'a>(hostname: &'a str, namespace: &str) -> Option<&'a str> {
    let mut labels = hostname.trim_end_matches('.').split('.');
    // It becomes part of a path of the API server.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let pod = labels
        .next()
        .filter(|label| !label.is_empty() && label.chars().all(plain))?;
    if pod.eq_ignore_ascii_case("localhost")
        || hostname.contains(':')
        || hostname.parse::<std::net::IpAddr>().is_ok()
    {
        return None;
    }
    // <pod>.<headless Service>.<namespace>.svc[.<domain>]
    let elsewhere = labels
        .nth(1)
        .is_some_and(|found| !found.eq_ignore_ascii_case(namespace));
    (!elsewhere).then_some(pod)
}

/// The address under which a process without a stable name registers itself; `None`: it gave a name.
pub fn address_of(hostname: &str) -> Option<std::net::IpAddr> {
    hostname.parse().ok()
}

/// True when the record is that of this pod.
pub fn is_of(pooler: &Pooler, pod: &str, namespace: &str) -> bool {
    if pooler.hostname.is_empty() {
        return *pooler.id.name == *pod || *pooler.id.name == crds::name::service_id(pod);
    }
    pod_of(&pooler.hostname, namespace).is_some_and(|found| found.eq_ignore_ascii_case(pod))
}

/// The pod of a pooler, as far as its record tells.
pub fn backing_pod<'a>(pooler: &'a Pooler, namespace: &str) -> Option<&'a str> {
    if pooler.hostname.is_empty() {
        return None;
    }
    pod_of(&pooler.hostname, namespace)
}
