//! Objects of the rooms above the shard for every option that they have, byte for byte. The plain shapes are those of
//! `workloads.md` 18.2–18.5; every difference from those is in the list of `manifests.rs`, which says where we differ from the Go
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

use serde_json::json;

use super::files::{assert_golden, manifest};
use super::room_shapes::shapes;

#[test]
fn rooms_match_the_golden_manifests() {
    for (shape, objects) in shapes() {
        assert_golden(&format!("rooms/{shape}.yaml"), &manifest(&objects));
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
