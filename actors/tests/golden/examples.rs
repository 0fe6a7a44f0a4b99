//! The worked examples of the reference for workloads (`workloads.md` 18.2 to 18.9) beside what we make of the same manifest.

use serde_json::{Value, json};

use super::comparison::{Lists, compare, desired, documented};
use super::differences;
use super::render::{cluster_of, documents, render_with, templates_of, uid_of};

const EXAMPLES: &str = include_str!("worked-examples.yaml");

/// `workloads.md` 18.1.
const MANIFEST: &str = "
apiVersion: multigres.com/v1alpha1
kind: MultigresCluster
metadata: {name: minimal, namespace: default}
spec:
  postgresPasswordSecretRef: {name: multigres-admin-password, key: password}
  pvcDeletionPolicy: {whenDeleted: Delete, whenScaled: Delete}
  cells:
    - name: zone-a
      zoneId: us-central1-a
";

/// What only the examples show: kind, path, reason.
const DIFFERENT: &[(&str, &str, &str)] = &[
    // Objects that only one side has.
    (
        "PersistentVolumeClaim",
        "data-minimal-postgres-default-0-inf-pool-default-zone-a-a3a0d77b-1",
        "the examples show one of a pool",
    ),
    (
        "Pod",
        "minimal-postgres-default-0-inf-pool-default-zone-a-a3a0d77b-1",
        "the examples show one of a pool",
    ),
    (
        "TableGroup",
        "minimal-postgres-default-f7d4ad4a",
        "told in words there",
    ),
    (
        "PodDisruptionBudget",
        "minimal-global-topo-pdb",
        "T41: node drains take one member of etcd at a time",
    ),
    (
        "PodDisruptionBudget",
        "minimal-postgres-default-0-inf-pool-default-zone-a-pdb-6a4f8455",
        "design.md 4: replaced by the two budgets by role",
    ),
    (
        "PodDisruptionBudget",
        "minimal-postgres-default-0-inf-primary-pdb-93f5cb78",
        "design.md 4: budgets by role, disjoint; the primary is not evicted",
    ),
    (
        "PodDisruptionBudget",
        "minimal-postgres-default-0-inf-replicas-pdb-3f713125",
        "design.md 4: budgets by role, disjoint; replicas over the whole shard",
    ),
    // What the examples tell in a comment.
    (
        "ConfigMap",
        "metadata labels",
        "the example leaves them out",
    ),
    ("Secret", "metadata labels", "the example leaves them out"),
    (
        "Secret",
        "metadata ownerReferences",
        "the example leaves it out",
    ),
    (
        "Secret",
        "data",
        "made by whoever carries the action out, from a recipe",
    ),
    (
        "Shard",
        "spec topologyPruning",
        "the example leaves it out; a recording of the Go operator has it",
    ),
    (
        "StatefulSet",
        "spec volumeClaimTemplates data apiVersion",
        "sent as the API server keeps it",
    ),
    (
        "StatefulSet",
        "spec volumeClaimTemplates data kind",
        "sent as the API server keeps it",
    ),
    // Pods.
    (
        "Deployment|StatefulSet",
        "spec template spec containers * imagePullPolicy",
        "T8: the policy reaches every container",
    ),
    (
        "Pod",
        "spec containers * imagePullPolicy",
        "T8: the policy reaches every container",
    ),
    (
        "Pod",
        "spec initContainers postgres imagePullPolicy",
        "T8: the policy reaches every container",
    ),
];

/// The examples name owners by kind and name only.
fn shortened(body: &mut Value) {
    let owners = body["metadata"]["ownerReferences"].as_array_mut();
    for owner in owners.into_iter().flatten() {
        *owner = json!({"kind": owner["kind"], "name": owner["name"]});
    }
}

#[test]
fn worked_examples_differ_only_where_we_say_so() {
    let mut examples = documented(documents(EXAMPLES));
    let objects = render_with(&cluster_of(MANIFEST), &templates_of(MANIFEST), uid_of);
    let mut ours = desired(objects);
    for body in examples.values_mut().chain(ours.values_mut()) {
        shortened(body);
    }
    let lists = Lists {
        server: &[],
        defaults: &[],
        different: [differences::COMMON, DIFFERENT].concat(),
    };
    compare(&lists, examples, ours, 25);
}
