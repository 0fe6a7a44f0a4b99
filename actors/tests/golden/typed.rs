//! What we write are fields of Kubernetes: its own types read each object and miss nothing.

use std::collections::BTreeSet;

use actors::object::Kind;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::pods::all;

/// The object as its type keeps it: a field that the type does not know is gone.
fn read<T: DeserializeOwned + Serialize>(body: &Value) -> Value {
    let typed: T = serde_json::from_value(body.clone()).unwrap();
    serde_json::to_value(&typed).unwrap()
}

#[test]
fn every_field_is_one_of_kubernetes() {
    let mut kinds = BTreeSet::new();
    for (shape, objects) in all() {
        for object in objects {
            let body = &*object.body;
            let typed = match object.key.kind {
                Kind::Deployment => read::<Deployment>(body),
                Kind::StatefulSet => read::<StatefulSet>(body),
                Kind::ConfigMap => read::<ConfigMap>(body),
                Kind::PersistentVolumeClaim => read::<PersistentVolumeClaim>(body),
                Kind::Pod => read::<Pod>(body),
                Kind::Secret => read::<Secret>(body),
                Kind::Service => read::<Service>(body),
                Kind::PodDisruptionBudget => read::<PodDisruptionBudget>(body),
                _ => continue,
            };
            assert_eq!(&typed, body, "{shape}: {}", object.key);
            kinds.insert(object.key.kind);
        }
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}
