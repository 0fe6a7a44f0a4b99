//! The clusters of these tests.

use actors::object::{Key, Kind};
use serde_json::{Value, json};

use crate::bed::Bed;

pub const NAMESPACE: &str = "default";
/// The password Secret of every cluster.
pub const PASSWORD: &str = "multigres-admin-password";

/// A key in the namespace of the tests.
pub fn key(kind: Kind, name: &str) -> Key {
    Key::new(kind, NAMESPACE, name)
}

/// The samples of the user documentation.
pub const MINIMAL: &str = include_str!("../../../docs/samples/minimal.yaml");
pub const THREE_CELLS: &str = include_str!("../../../docs/samples/three-cells.yaml");

/// The MultigresCluster of a manifest.
pub fn cluster(manifest: &str) -> (Key, Value) {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest).unwrap();
    let body = documents
        .into_iter()
        .find(|document| document["kind"] == "MultigresCluster")
        .unwrap();
    let name = body["metadata"]["name"].as_str().unwrap();
    (key(Kind::MultigresCluster, name), body)
}

impl Bed {
    /// The user creates the password Secret.
    pub fn password(&self) {
        self.server.add(
            &key(Kind::Secret, PASSWORD),
            json!({"data": {"password": "Y2hhbmdlLW1l"}}),
        );
    }

    /// The user creates a cluster and its password.
    pub fn create(&self, manifest: &str) -> Key {
        self.password();
        let (key, body) = cluster(manifest);
        self.server.add(&key, body);
        key
    }

    /// The only Shard.
    pub fn shard(&self) -> Key {
        let shards = self.server.all(Kind::Shard);
        assert_eq!(shards.len(), 1);
        shards[0].0.clone()
    }
}
