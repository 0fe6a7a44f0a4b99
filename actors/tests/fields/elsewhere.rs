//! Entries that no output of today shows, and where they act. An entry that is listed and has an effect fails the test.

const TOPOLOGY: &str = "stands in a record of the topology, which no actor writes yet";
const LATER: &str = "the room that keeps it in its status comes with the data plane";
const SHRINK: &str = "acts when a pool shrinks, which is told and not carried out yet";
const OTHER: &str = "the component does not run there";
const ETCD: &str = "can only be etcd: the cluster is refused with anything else";
const ROOT: &str = "handed to the store's clients by who writes the TopoServer; of a cell's store it stands in the topology";
const POLICY: &str = "handed to the store as spec.pvcDeletionPolicy by who writes the TopoServer";

/// Kinds, path, reason. What is said of an object holds for its members.
pub const ELSEWHERE: [(&str, &str, &str); 30] = [
    (
        "MultigresCluster",
        "spec.databases[].default",
        "it can only be true: anything else is refused by CEL-16",
    ),
    ("Cell", "spec.allCells", "for readers only"),
    (
        "TableGroup",
        "spec.default",
        "for readers only: what is made is the same",
    ),
    (
        "Shard",
        "spec.replicas",
        "read by Kubernetes: the scale subresource, for disruption budgets",
    ),
    ("Shard", "spec.pools{}.type", "it has one value"),
    ("Cell Shard", "spec.globalTopoServer.implementation", ETCD),
    ("Cell", "spec.topoServer.external", TOPOLOGY),
    ("Cell", "spec.topologyReconciliation", TOPOLOGY),
    ("Shard", "spec.topologyPruning", TOPOLOGY),
    ("Shard", "spec.durabilityPolicy", TOPOLOGY),
    ("Shard", "spec.backup.s3.bucket", TOPOLOGY),
    ("Shard", "spec.backup.s3.endpoint", TOPOLOGY),
    ("Shard", "spec.backup.s3.keyPrefix", TOPOLOGY),
    ("Shard", "spec.backup.s3.useEnvCredentials", TOPOLOGY),
    ("TopoServer", "spec.etcd.rootPath", ROOT),
    ("TopoServer", "spec.etcd.pvcDeletionPolicy", POLICY),
    ("Shard", "spec.pvcDeletionPolicy.whenScaled", SHRINK),
    ("Shard", "spec.pools{}.pvcDeletionPolicy.whenScaled", SHRINK),
    ("Cell", "spec.logLevels.pgctld", OTHER),
    ("Cell", "spec.logLevels.multipooler", OTHER),
    ("Cell", "spec.logLevels.multiorch", OTHER),
    ("Cell", "spec.logLevels.multiadmin", OTHER),
    ("Shard", "spec.logLevels.multiadmin", OTHER),
    ("Shard", "spec.logLevels.multigateway", OTHER),
    ("Shard", "status.disruption", LATER),
    ("Shard", "status.rollout", LATER),
    ("Shard", "status.members", LATER),
    ("Shard", "status.podRoles", LATER),
    ("Shard", "status.lastBackupTime", LATER),
    ("Shard", "status.lastBackupType", LATER),
];
