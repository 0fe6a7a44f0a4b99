//! Label keys, annotation keys and the label sets of every object we build (`workloads.md` 2.2–2.4).

use std::collections::BTreeMap;

/// A set of labels or annotations, or a node or pod selector.
pub type Map = BTreeMap<String, String>;

/// `app.kubernetes.io/name`, on every object.
pub const NAME: &str = "app.kubernetes.io/name";
/// The name of the MultigresCluster.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// What the object is for.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The suite the object belongs to.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The tool that writes the object; informers select by it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Name of the MultigresCluster.
pub const CLUSTER: &str = "multigres.com/cluster";
/// Name of the cell.
pub const CELL: &str = "multigres.com/cell";
/// Name of the database.
pub const DATABASE: &str = "multigres.com/database";
/// Name of the table group.
pub const TABLE_GROUP: &str = "multigres.com/tablegroup";
/// Name of the shard.
pub const SHARD: &str = "multigres.com/shard";
/// Name of the pool.
pub const POOL: &str = "multigres.com/pool";
/// Zone of the cell; gateways only.
pub const ZONE_ID: &str = "multigres.com/zone-id";
/// Region of the cell; gateways only.
pub const REGION: &str = "multigres.com/region";
/// Role of a pool pod as the topology has it: PRIMARY, REPLICA or DRAINED. Kept current by the pool's actor.
pub const ROLE: &str = "multigres.com/role";
/// Name of the TopoServer, so that a Service of the global one never selects members of a cell's own etcd.
pub const TOPO_SERVER: &str = "multigres.com/toposerver";

/// Node label of a zone.
pub const NODE_ZONE: &str = "topology.k8s.aws/zone-id";
/// Node label of a region.
pub const NODE_REGION: &str = "topology.kubernetes.io/region";

/// Annotation: project identity for observability.
pub const PROJECT_REF: &str = "multigres.com/project-ref";
/// Annotation: hash over what a restart of the pod would change.
pub const SPEC_HASH: &str = "multigres.com/spec-hash";
/// Annotation: hash of the PostgreSQL settings that need a restart.
pub const CONFIG_HASH: &str = "multigres.com/postgres-config-hash";
/// Annotation: hash of the reloadable PostgreSQL settings last confirmed on the pod.
pub const RELOAD_HASH: &str = "multigres.com/postgres-reload-hash";

/// Label: since when a claim is kept for nobody; the garbage collector deletes it when that is long enough ago.
pub const ORPHAN_SINCE: &str = "multigres.com/orphan-since";
/// Annotation: when a generated Secret was last made anew.
pub const RENEWED_AT: &str = "multigres.com/renewed-at";
/// Annotation of pods: hash over the Secrets with certificates that they mount.
pub const TLS_HASH: &str = "multigres.com/tls-hash";

/// Annotation of a pod that replaces a pooler that gave up: how many of its name were replaced in a row.
pub const QUARANTINE_ATTEMPT: &str = "multigres.com/quarantine-attempt";

/// The annotations that tell Prometheus to scrape a pool pod.
pub const SCRAPE: [(&str, &str); 3] = [
    ("prometheus.io/scrape", "true"),
    ("prometheus.io/port", "9187"),
    ("prometheus.io/path", "/metrics"),
];

/// The only labels that enter selectors. `TOPO_SERVER` is not here: the StatefulSet's selector cannot change.
const SELECTED: [&str; 8] = [
    COMPONENT,
    INSTANCE,
    CLUSTER,
    DATABASE,
    TABLE_GROUP,
    SHARD,
    POOL,
    CELL,
];

/// The standard set for one component, with further labels on top.
pub fn standard(cluster: &str, component: &str, further: &[(&str, &str)]) -> Map {
    let base = [
        (NAME, "multigres"),
        (INSTANCE, cluster),
        (COMPONENT, component),
        (PART_OF, "multigres"),
        (MANAGED_BY, "multigres-operator"),
    ];
    base.iter()
        .chain(further)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// `under` with `over` laid on top; ours go over the user's.
pub fn merged(under: Option<&Map>, over: Map) -> Map {
    let mut result = over;
    for (key, value) in under.into_iter().flatten() {
        if !result.contains_key(key) {
            result.insert(key.clone(), value.clone());
        }
    }
    result
}

/// What of these labels a selector may use.
pub fn selector(labels: &Map) -> Map {
    labels
        .iter()
        .filter(|(key, _)| SELECTED.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// The user's pod annotations without those that would make Prometheus scrape the wrong port, and the project.
pub fn pod_annotations(user: Option<&Map>, project: &str) -> Map {
    let mut result = user.cloned().unwrap_or_default();
    result.retain(|key, _| SCRAPE.iter().all(|(scrape, _)| scrape != key));
    result.insert(PROJECT_REF.to_owned(), project.to_owned());
    result
}
