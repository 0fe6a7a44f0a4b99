//! The templates that a cluster refers to: declared, so that a change of one wakes this cluster, and read.

use std::collections::{BTreeMap, BTreeSet};

use crds::MultigresCluster;
use crds::resolve::{Templates, referenced};
use serde::de::DeserializeOwned;

use super::decide::State;
use crate::object::{Key, Kind};
use crate::plan::Plan;
use crate::status::Obstacle;

/// The referenced templates that exist. One that cannot be read is an obstacle of this cluster, and None comes back: a
/// cluster is never built as if the template were not there.
pub fn read(plan: &mut Plan<'_, State>, cluster: &MultigresCluster) -> Option<Templates> {
    let names = referenced(cluster);
    Some(Templates {
        core: of_kind(plan, Kind::CoreTemplate, &names.core)?,
        cell: of_kind(plan, Kind::CellTemplate, &names.cell)?,
        shard: of_kind(plan, Kind::ShardTemplate, &names.shard)?,
    })
}

fn of_kind<T: DeserializeOwned>(
    plan: &mut Plan<'_, State>,
    kind: Kind,
    names: &BTreeSet<String>,
) -> Option<BTreeMap<String, T>> {
    let namespace = plan.observed.me.key().namespace.clone();
    let mut found = BTreeMap::new();
    for name in names {
        let key = Key::new(kind, &namespace, name);
        let entry = plan.observed.template(&key).cloned();
        plan.decision.references.push(key.clone());
        let Some(entry) = entry else { continue };
        match entry.typed() {
            Ok(template) => {
                found.insert(name.clone(), template);
            }
            Err(error) => {
                plan.obstacles.push(Obstacle {
                    reason: "ConfigError",
                    message: format!("{key} cannot be read: {error}; correct the template"),
                });
                return None;
            }
        }
    }
    Some(found)
}
