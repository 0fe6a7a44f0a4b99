//! Storage classes that volumes name (`lifecycle.md` 9.7). A claim can never change its class, and of one that does not exist it
//! waits for ever: so a claim is made only when its class is known to be there. What runs is left alone.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::action::Decision;
use crate::entry::Entry;
use crate::object::{Key, Kind};
use crate::plan::Plan;
use crate::room::Observed;
use crate::status::{Condition, Obstacle, text};
use crate::store::Reference;

/// Condition type (`api.md` 4.5, 4.6).
const CONDITION: &str = "StorageClassValid";

fn key(class: &str) -> Key {
    Key::new(Kind::StorageClass, "", class)
}

/// Is it there? `None` while it has not been looked at.
fn exists(observed: &Observed, class: &str) -> Option<bool> {
    match observed.references.get(&key(class)) {
        None | Some(Reference::Unknown) => None,
        Some(Reference::Absent) => Some(false),
        Some(Reference::Present(_)) => Some(true),
    }
}

fn missing(classes: &[&str]) -> String {
    let (noun, verb, remedy) = match classes {
        [_] => ("StorageClass", "does", "create it, or name one that exists"),
        _ => (
            "StorageClasses",
            "do",
            "create them, or name some that exist",
        ),
    };
    let names = classes.join(", ");
    format!("{noun} {names} {verb} not exist: {remedy} in the class of the storage")
}

/// Declares the classes, so that they are read and watched.
pub fn refer<S>(decision: &mut Decision<S>, classes: &BTreeSet<String>) {
    for key in classes.iter().map(|class| key(class)) {
        if !decision.references.contains(&key) {
            decision.references.push(key);
        }
    }
}

/// May a volume of this class be made? A class that does not exist is an obstacle. Without one Kubernetes chooses.
pub fn usable<S>(plan: &mut Plan<'_, S>, class: Option<&str>) -> bool {
    let Some(class) = class else { return true };
    refer(&mut plan.decision, &BTreeSet::from([class.to_owned()]));
    let there = exists(plan.observed, class);
    if there == Some(false) {
        let obstacle = Obstacle {
            reason: "StorageClassNotFound",
            message: missing(&[class]),
        };
        if !plan.obstacles.contains(&obstacle) {
            plan.obstacles.push(obstacle);
        }
    }
    there == Some(true)
}

/// Is this claim being provisioned, so that a pod on it could only wait for it? Of a class that binds when a pod uses the claim,
/// or that nobody has looked at yet, it is not.
pub fn provisions<S>(plan: &mut Plan<'_, S>, claim: &Entry) -> bool {
    let spec: Value = claim.spec.read().unwrap_or_default();
    // The API server has filled in the default class.
    let Some(class) = spec.get("storageClassName").and_then(Value::as_str) else {
        return false;
    };
    refer(&mut plan.decision, &BTreeSet::from([class.to_owned()]));
    let class = plan.observed.references.get(&key(class));
    let binds_at_once = matches!(class, Some(Reference::Present(class)) if class.binds_at_once);
    binds_at_once && text(&claim.status_value(), "phase") == "Pending"
}

/// The condition on the owner of the volumes: one text for all of them (`lessons.md` L-STAT-06).
pub fn condition(observed: &Observed, classes: &BTreeSet<String>) -> Option<Condition> {
    if classes.is_empty() {
        return Some(Condition::new(
            CONDITION,
            true,
            "StorageClassNotSpecified",
            "no volume names a storage class: the default of the Kubernetes cluster applies",
        ));
    }
    let known: Option<Vec<(&str, bool)>> = classes
        .iter()
        .map(|class| Some((class.as_str(), exists(observed, class)?)))
        .collect();
    let Some(known) = known else {
        return Condition::told_before(&observed.me, CONDITION);
    };
    let gone: Vec<&str> = known
        .iter()
        .filter_map(|(class, there)| (!there).then_some(*class))
        .collect();
    Some(if gone.is_empty() {
        Condition::new(
            CONDITION,
            true,
            "StorageClassFound",
            "every storage class that a volume names exists",
        )
    } else {
        Condition::new(CONDITION, false, "StorageClassNotFound", missing(&gone))
    })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::json;

    use super::*;
    use crate::fixtures::Bed;

    fn classes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn told(observed: &Observed, names: &[&str]) -> Option<String> {
        condition(observed, &classes(names)).map(|condition| format!("{condition:?}"))
    }

    #[test]
    fn the_condition_names_every_class_that_is_missing_in_one_text() {
        let mut observed = Bed::new().observed();
        let none = told(&observed, &[]).unwrap();
        assert!(none.contains("StorageClassNotSpecified"), "{none}");
        assert_eq!(told(&observed, &["fast"]), None, "not looked at yet");
        let there = Reference::Present(Rc::new(Entry::default()));
        observed.references.insert(key("fast"), there);
        observed.references.insert(key("slow"), Reference::Absent);
        observed.references.insert(key("cold"), Reference::Absent);
        let found = told(&observed, &["fast"]).unwrap();
        assert!(found.contains("StorageClassFound"), "{found}");
        let missing = told(&observed, &["slow", "fast", "cold"]).unwrap();
        assert!(
            missing.contains("StorageClassNotFound") && missing.contains("cold, slow do not exist"),
            "{missing}"
        );
    }

    /// After a restart, classes are looked at anew: until then the status says what it said.
    #[test]
    fn what_was_told_stays_while_a_class_is_not_known() {
        let mut bed = Bed::new();
        bed.shard["status"] = json!({"conditions": [{
            "type": CONDITION, "status": "True", "reason": "StorageClassFound", "message": "as before",
        }]});
        let told = told(&bed.observed(), &["fast"]).unwrap();
        assert!(told.contains("as before"), "{told}");
    }

    /// Neither volume nor pod is made on a class that does not exist, and both come with it.
    #[test]
    fn a_volume_waits_for_its_class() {
        let mut bed = Bed::new();
        bed.shard["spec"]["pools"]["default"]["storage"]["class"] = json!("fast");
        bed.classes.clear();
        bed.settle();
        let data = |bed: &Bed| {
            let claims = bed.names(Kind::PersistentVolumeClaim);
            let data = claims.iter().filter(|key| key.name.starts_with("data-"));
            (data.count(), bed.names(Kind::Pod).len())
        };
        assert_eq!(data(&bed), (0, 0));
        let stalled = bed.condition("Stalled").unwrap();
        assert_eq!(stalled["reason"], "StorageClassNotFound");
        assert_eq!(bed.condition(CONDITION).unwrap()["status"], "False");
        bed.classes.insert("fast".to_owned());
        bed.settle();
        assert_eq!(data(&bed), (2, 2));
        assert_eq!(bed.condition(CONDITION).unwrap()["status"], "True");
        // What runs on a class that goes away goes on.
        bed.classes.clear();
        bed.settle();
        assert_eq!(data(&bed), (2, 2));
        assert_eq!(bed.condition("Stalled").unwrap()["status"], "False");
        assert_eq!(bed.condition(CONDITION).unwrap()["status"], "False");
    }

    /// On a claim that is bound as soon as it is made, a pod is made when that is done; on one that waits for its first pod, and
    /// when the class was not looked at yet, at once.
    #[test]
    fn a_pod_waits_while_its_volumes_are_provisioned() {
        let mut bed = Bed::new();
        bed.shard["spec"]["pools"]["default"]["storage"]["class"] = json!("fast");
        bed.shard["spec"]["backup"]["filesystem"]["storage"]["class"] = json!("slow");
        bed.settle();
        let phase = |bed: &mut Bed, prefix: &str, phase: &str| {
            for key in bed.names(Kind::PersistentVolumeClaim) {
                if key.name.starts_with(prefix) {
                    bed.objects.get_mut(&key).unwrap()["status"] = json!({"phase": phase});
                }
            }
        };
        let pods_made = |bed: &mut Bed| {
            bed.objects.retain(|key, _| key.kind != Kind::Pod);
            bed.settle();
            bed.names(Kind::Pod).len()
        };
        phase(&mut bed, "", "Pending");
        assert_eq!(pods_made(&mut bed), 2, "they wait for their first pod");
        bed.binds_at_once = true;
        assert_eq!(pods_made(&mut bed), 0, "no volume is there");
        phase(&mut bed, "data-", "Bound");
        assert_eq!(pods_made(&mut bed), 0, "the volume for backups is not");
        phase(&mut bed, "", "Bound");
        assert_eq!(pods_made(&mut bed), 2);
        // What runs goes on, whatever its claim says.
        phase(&mut bed, "", "Pending");
        bed.settle();
        assert_eq!(bed.names(Kind::Pod).len(), 2);
    }
}
