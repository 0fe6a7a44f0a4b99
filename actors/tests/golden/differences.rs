//! Where we differ from the Go operator on purpose, whatever the cluster: kind, path, reason. An entry that explains nothing fails
//! the test that uses it.

/// The differences.
pub const COMMON: &[(&str, &str, &str)] = &[
    // Metadata.
    (
        "Shard",
        "metadata finalizers multigres.com/shard-pvc-orphan",
        "design.md 4: owner references of claims follow the policy, so no finalizer",
    ),
    (
        "Pod",
        "metadata annotations multigres.com/postgres-config-hash",
        "T15: what needs a restart is decided per setting; timezone is reloadable",
    ),
    (
        "Pod",
        "metadata annotations multigres.com/postgres-reload-hash",
        "T15: what needs a restart is decided per setting; timezone is reloadable",
    ),
    // etcd.
    (
        "StatefulSet",
        "spec template metadata labels multigres.com/toposerver",
        "T1: a label that only this server's members carry",
    ),
    (
        "Service",
        "spec selector multigres.com/toposerver",
        "T1: Services of the global etcd select its own members only",
    ),
    (
        "StatefulSet",
        "spec volumeClaimTemplates data metadata labels",
        "T33: claims of etcd are seen by informers and by label-scoped tools",
    ),
    (
        "StatefulSet",
        "spec volumeClaimTemplates data metadata ownerReferences",
        "design.md 4: volumes of etcd follow the policy, without a finalizer; they survive their StatefulSet (L-PVC-08)",
    ),
    (
        "TopoServer",
        "spec images",
        "T8: pull policy and Secrets reach etcd too",
    ),
    (
        "StatefulSet",
        "spec template spec affinity",
        "T41: members on different nodes where possible",
    ),
    (
        "StatefulSet",
        "spec template spec containers etcd startupProbe httpGet path",
        "T17: startup asks whether the process serves, not its peers",
    ),
    // Identity and rights.
    (
        "Deployment|StatefulSet",
        "spec template spec automountServiceAccountToken",
        "T42: nothing in the pod talks to Kubernetes",
    ),
    (
        "Pod",
        "spec automountServiceAccountToken",
        "T42: nothing in the pod talks to Kubernetes",
    ),
    (
        "Deployment|StatefulSet",
        "spec template spec securityContext seccompProfile",
        "T42: the runtime's seccomp profile",
    ),
    (
        "Pod",
        "spec securityContext seccompProfile",
        "T42: the runtime's seccomp profile",
    ),
    (
        "Deployment|StatefulSet",
        "spec template spec containers * securityContext",
        "T42: no privileges, no root where the image allows it",
    ),
    (
        "Pod",
        "spec containers * securityContext allowPrivilegeEscalation",
        "T42: no privileges",
    ),
    (
        "Pod",
        "spec containers * securityContext capabilities",
        "T42: no capabilities",
    ),
    (
        "Pod",
        "spec initContainers postgres securityContext allowPrivilegeEscalation",
        "T42: no privileges",
    ),
    (
        "Pod",
        "spec initContainers postgres securityContext capabilities",
        "T42: no capabilities",
    ),
    (
        "Pod",
        "spec securityContext fsGroup",
        "T5: without a group the certificates belong to root and PostgreSQL cannot read them",
    ),
    (
        "Pod",
        "spec securityContext fsGroupChangePolicy",
        "T5: the group is not set again on a volume that has it",
    ),
    // Stateless components.
    (
        "Deployment",
        "spec template spec containers * startupProbe httpGet path",
        "T17: startup asks whether the process serves, not its peers",
    ),
    (
        "Deployment",
        "spec template spec containers * env POD_IP",
        "T18: an address that resolves from other pods",
    ),
    (
        "Deployment",
        "spec template spec containers * args --hostname",
        "T18: an address that resolves from other pods",
    ),
    (
        "Deployment",
        "spec template spec containers multiadmin-web env POSTGRES_PASSWORD",
        "T9: else the web falls back to a literal password",
    ),
    (
        "Deployment",
        "spec template spec containers multigateway args --buffer-window",
        "design.md 8: buffers through a planned switchover",
    ),
    (
        "Deployment",
        "spec template spec containers multigateway args --buffer-max-failover-duration",
        "design.md 8: buffers through a planned switchover",
    ),
    (
        "Deployment",
        "spec template spec containers multigateway args --buffer-min-time-between-failovers",
        "design.md 8: buffers through the next switchover too",
    ),
    (
        "Deployment",
        "spec template spec containers multigateway args --buffer-drain-concurrency",
        "design.md 8: what was buffered is drained at once",
    ),
    (
        "Deployment",
        "spec strategy type",
        "design.md 8: an orchestrator with a stable id never runs twice",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --service-id",
        "design.md 8: a restarted orchestrator resumes what it had begun",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --leader-failover-grace-period-base",
        "design.md 8: failover within seconds",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --leader-failover-grace-period-max-jitter",
        "design.md 8: failover within seconds",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --pooler-health-check-interval",
        "design.md 8: failover within seconds",
    ),
    (
        "Deployment",
        "spec template spec containers multiorch args --recovery-cycle-interval",
        "design.md 8: failover within seconds",
    ),
    // Pool pods.
    (
        "Pod",
        "spec terminationGracePeriodSeconds",
        "design.md 8: covers the pooler's own time limits and PostgreSQL's stop",
    ),
    (
        "Pod",
        "spec containers multipooler args --onterm-timeout",
        "design.md 8: time limits that add up to the grace period",
    ),
    (
        "Pod",
        "spec containers multipooler args --onclose-timeout",
        "design.md 8: time limits that add up to the grace period",
    ),
    (
        "Pod",
        "spec containers multipooler args --lameduck-period",
        "design.md 8: time limits that add up to the grace period",
    ),
    (
        "Pod",
        "spec containers multipooler args --postgres-unrecoverable-timeout",
        "T19: off by default, and then no pooler ever asks to be replaced",
    ),
    (
        "Pod",
        "spec containers multipooler args --service-map",
        "T20: no effect on poolers",
    ),
    (
        "Pod",
        "spec containers multipooler readinessProbe httpGet path",
        "T17: readiness asks the component, not just its process",
    ),
    (
        "Pod",
        "spec initContainers postgres readinessProbe httpGet path",
        "T17: readiness asks the component, not just its process",
    ),
    (
        "Pod",
        "spec containers multipooler volumeMounts /var/run/postgresql",
        "T35: nothing uses the directory",
    ),
    (
        "Pod",
        "spec initContainers postgres volumeMounts /var/run/postgresql",
        "T35: nothing uses the directory",
    ),
    (
        "Pod",
        "spec volumes socket-dir",
        "T35: nothing uses the directory",
    ),
];
