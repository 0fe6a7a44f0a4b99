//! Objects of the rooms above the shard for every option that they have, byte for byte. The plain shapes are those of
//! `workloads.md` 18.2–18.5; every difference from those is in the list of `golden.rs`, which says where we differ from the Go
//! operator and why (pull settings T8, own selectors T1, claims T33, spreading and budget T41, confinement T42, probes T17,
//! host name T18, the web's password T9, buffering design.md 4). What differs beyond that list:
//!
//! | shape | difference from `workloads.md` | reason |
//! | --- | --- | --- |
//! | cluster-mesh | a fifth Certificate, for the operator, for client authentication only | T7, L-CERT-05 |
//! | cluster-mesh, cluster-public | Certificates have our labels, and give them to their Secrets | L-CERT-02: what we make is seen by our informers |
//! | cluster-public, cell-mesh-and-public | the Secret is `<cluster>-multigateway-tls` | T11: two clusters of a namespace shared one |
//! | cluster-external-tls, cell-external-tls | `--topo-etcd-tls-*` and the Secrets behind them | T36: the Go operator ignores them |
//! | cell-all-options, toposerver-all-options | pull policy and pull Secrets | T8 |
//! | cell-region | no buffering flags but the switch | a hand-made Cell stays as it is; window and maximum are one choice |
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "golden/room_shapes.rs"]
mod room_shapes;

use room_shapes::shapes;
use serde_json::json;

#[test]
fn rooms_match_the_golden_manifests() {
    for (shape, objects) in shapes() {
        let text: String = objects
            .iter()
            .map(|d| format!("---\n{}", serde_saphyr::to_string(&d.body).unwrap()))
            .collect();
        let path = format!(
            "{}/tests/golden/rooms/{shape}.yaml",
            env!("CARGO_MANIFEST_DIR")
        );
        if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        let differing = golden
            .lines()
            .zip(text.lines())
            .position(|(old, new)| old != new);
        assert!(
            golden == text,
            "{path} differs from line {differing:?} (counted from 0); UPDATE_GOLDEN=1 rewrites it"
        );
    }
}

/// Each option of a shape is one that a plain one does not have: no shape says the same as another.
#[test]
fn no_two_shapes_are_alike() {
    let shapes = shapes();
    for (at, (name, objects)) in shapes.iter().enumerate() {
        for (other, others) in &shapes[at + 1..] {
            // A store outside is written into the topology, not into objects.
            let silent = (*name, *other) == ("cell-plain", "cell-local-external");
            assert_eq!(objects == others, silent, "{name} and {other}");
        }
    }
}

/// `workloads.md` 2.2: users' labels never replace ours, and no user can make Prometheus scrape a gateway's wrong port.
#[test]
fn labels_and_annotations_of_users_never_replace_ours() {
    let shapes = shapes();
    let (_, objects) = shapes
        .iter()
        .find(|(name, _)| *name == "cell-all-options")
        .unwrap();
    let pod = &objects[0].body["spec"]["template"]["metadata"];
    assert_eq!(pod["labels"]["app.kubernetes.io/instance"], "minimal");
    assert_eq!(pod["labels"]["team"], "db");
    assert_eq!(
        pod["annotations"],
        json!({"example.com/note": "kept", "multigres.com/project-ref": "proj1"})
    );
}
