//! Metadata of objects that are made once by POST: pods, claims, generated Secrets. Their content is never applied again, but
//! labels, annotations and owner must stay true: informers find objects by label, the garbage collector by owner.

use serde_json::{Map, Value, json};

use crate::entry::Entry;
use crate::labels;
use crate::object::{Desired, Kind};

/// Annotations of a pod that say how it was made; only a new pod, or proof from inside it, changes them.
const OF_THE_MAKING: &[&str] = &[
    labels::SPEC_HASH,
    labels::CONFIG_HASH,
    labels::RELOAD_HASH,
    labels::TLS_HASH,
];

/// What stays of them on a pod that is recognised as one we would have made: only PostgreSQL itself can tell what it has loaded.
const OF_ANOTHER: &[&str] = &[labels::RELOAD_HASH];

/// The `metadata` of a merge patch that makes `observed` as `desired`; `None` when it is, or when it is on its way out.
///
/// A claim that is wanted is nobody's orphan, and it has an owner exactly while the policy says `Delete`.
pub fn metadata(observed: &Entry, desired: &Desired, me: &str) -> Option<Value> {
    differences(observed, desired, me, OF_THE_MAKING)
}

/// The same for a pod that somebody else made as we would have: with our hashes from now on.
pub fn adoption(observed: &Entry, desired: &Desired, me: &str) -> Option<Value> {
    differences(observed, desired, me, OF_ANOTHER)
}

fn differences(observed: &Entry, desired: &Desired, me: &str, but: &[&str]) -> Option<Value> {
    if observed.deleting {
        return None;
    }
    let wanted = desired.body.metadata();
    let mut patch = Map::new();
    let mut labels = differing(wanted.get("labels"), |name| observed.label(name), &[]);
    let is_claim = desired.key.kind == Kind::PersistentVolumeClaim;
    if is_claim && observed.label(labels::ORPHAN_SINCE).is_some() {
        labels.insert(labels::ORPHAN_SINCE.to_owned(), Value::Null);
    }
    let annotations = differing(
        wanted.get("annotations"),
        |name| observed.annotation(name),
        but,
    );
    for (part, values) in [("labels", labels), ("annotations", annotations)] {
        if !values.is_empty() {
            patch.insert(part.to_owned(), Value::Object(values));
        }
    }
    if is_claim && let Some(owners) = owners(observed, wanted.get("ownerReferences"), me) {
        patch.insert("ownerReferences".to_owned(), owners);
    }
    guarded(observed, patch)
}

/// The `metadata` of a merge patch that gives a claim the owner `reference`, or takes ours away when there is none; `None`
/// when it is so already. Claims that are kept for nobody never have an owner (`lessons.md` L-PVC-01).
pub fn ownership(claim: &Entry, reference: Option<Value>, me: &str) -> Option<Value> {
    if claim.deleting || claim.label(labels::ORPHAN_SINCE).is_some() {
        return None;
    }
    let wanted = reference.map(|reference| json!([reference]));
    let owners = owners(claim, wanted.as_ref(), me)?;
    guarded(
        claim,
        Map::from_iter([("ownerReferences".to_owned(), owners)]),
    )
}

/// The same patch with one label more, unless the object carries it already.
pub fn labelled(
    observed: &Entry,
    patch: Option<Value>,
    (name, value): (&str, &str),
) -> Option<Value> {
    if observed.deleting || observed.label(name) == Some(value) {
        return patch;
    }
    let mut patch = match patch {
        Some(Value::Object(patch)) => patch,
        _ => Map::new(),
    };
    let labels = patch.entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(name.to_owned(), value.into());
    }
    guarded(observed, patch)
}

fn differing<'a>(
    wanted: Option<&Value>,
    observed: impl Fn(&str) -> Option<&'a str>,
    but: &[&str],
) -> Map<String, Value> {
    let wanted = wanted.and_then(Value::as_object).into_iter().flatten();
    wanted
        .filter(|(name, value)| {
            !but.contains(&name.as_str()) && observed(name.as_str()) != value.as_str()
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The whole list with our reference as wanted; those of others stay.
fn owners(observed: &Entry, wanted: Option<&Value>, me: &str) -> Option<Value> {
    let present: Vec<Value> = observed.owners.read().unwrap_or_default();
    let is_ours = |owner: &&Value| owner.get("uid").and_then(Value::as_str) == Some(me);
    let mut owners: Vec<Value> = present.iter().filter(|o| !is_ours(o)).cloned().collect();
    match wanted.and_then(Value::as_array) {
        Some(_) if present.iter().any(|owner| is_ours(&owner)) => return None,
        Some(ours) => owners.extend(ours.iter().cloned()),
        None => {}
    }
    (owners.len() != present.len()).then_some(Value::Array(owners))
}

fn guarded(observed: &Entry, mut patch: Map<String, Value>) -> Option<Value> {
    if patch.is_empty() {
        return None;
    }
    patch.insert("uid".to_owned(), observed.uid.as_ref().into());
    patch.insert(
        "resourceVersion".to_owned(),
        observed.version.to_string().into(),
    );
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Key;
    use crate::text::Texts;

    fn owner(uid: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Shard", "name": "s", "uid": uid, "controller": true})
    }

    fn desired(kind: Kind, metadata: Value) -> Desired {
        Desired {
            key: Key::new(kind, "n", "a"),
            body: json!({"metadata": metadata}).into(),
        }
    }

    fn observed(kind: Kind, labels: &[(&str, &str)], owners: &Value) -> Entry {
        Entry {
            key: Some(Key::new(kind, "n", "a")),
            uid: "u".into(),
            version: 7,
            labels: labels.iter().copied().collect(),
            owners: owners.to_string().into(),
            ..Entry::default()
        }
    }

    const CLAIM: Kind = Kind::PersistentVolumeClaim;

    #[test]
    fn only_what_differs_is_patched() {
        let wanted = desired(
            Kind::Pod,
            json!({"labels": {"a": "1", "b": "2"}, "annotations": {"c": "3", labels::SPEC_HASH: "new"}}),
        );
        let found = observed(
            Kind::Pod,
            &[("a", "1"), (labels::ROLE, "PRIMARY")],
            &json!([]),
        );
        assert_eq!(
            metadata(&found, &wanted, "me").unwrap(),
            json!({"uid": "u", "resourceVersion": "7", "labels": {"b": "2"}, "annotations": {"c": "3"}})
        );
        let mut whole = observed(Kind::Pod, &[("a", "1"), ("b", "2")], &json!([]));
        whole.annotations = [("c", "3")].into_iter().collect();
        assert_eq!(metadata(&whole, &wanted, "me"), None);
        whole.annotations = Texts::default();
        whole.deleting = true;
        assert_eq!(metadata(&whole, &wanted, "me"), None);
    }

    #[test]
    fn a_label_joins_what_else_is_patched() {
        let role = (labels::ROLE, "PRIMARY");
        let found = observed(Kind::Pod, &[("a", "1")], &json!([]));
        let alone =
            json!({"uid": "u", "resourceVersion": "7", "labels": {labels::ROLE: "PRIMARY"}});
        assert_eq!(labelled(&found, None, role), Some(alone));
        let wanted = desired(Kind::Pod, json!({"labels": {"a": "2"}}));
        let both = labelled(&found, metadata(&found, &wanted, "me"), role).unwrap();
        assert_eq!(both["labels"], json!({"a": "2", labels::ROLE: "PRIMARY"}));
        let carries = observed(Kind::Pod, &[(labels::ROLE, "PRIMARY")], &json!([]));
        assert_eq!(labelled(&carries, None, role), None);
        let mut leaving = found;
        leaving.deleting = true;
        assert_eq!(labelled(&leaving, None, role), None);
    }

    #[test]
    fn a_claim_has_an_owner_exactly_while_the_policy_says_delete() {
        let (other, ours) = (owner("other"), owner("me"));
        let delete = desired(CLAIM, json!({"ownerReferences": [ours]}));
        let retain = desired(CLAIM, json!({}));
        let owners_after = |present: &Value, wanted: &Desired| {
            metadata(&observed(CLAIM, &[], present), wanted, "me")
                .map(|patch| patch["ownerReferences"].clone())
        };
        assert_eq!(owners_after(&json!([ours]), &delete), None);
        assert_eq!(owners_after(&json!([]), &retain), None);
        assert_eq!(owners_after(&json!([other]), &retain), None);
        assert_eq!(
            owners_after(&json!([other]), &delete),
            Some(json!([other, ours]))
        );
        assert_eq!(
            owners_after(&json!([ours, other]), &retain),
            Some(json!([other]))
        );
        assert_eq!(owners_after(&json!([ours]), &retain), Some(json!([])));
    }

    #[test]
    fn a_claim_that_is_wanted_again_is_no_orphan() {
        let wanted = desired(CLAIM, json!({"ownerReferences": [owner("me")]}));
        let found = observed(
            CLAIM,
            &[(labels::ORPHAN_SINCE, "20260101T000000Z")],
            &json!([]),
        );
        assert_eq!(
            metadata(&found, &wanted, "me").unwrap(),
            json!({
                "uid": "u", "resourceVersion": "7", "labels": {labels::ORPHAN_SINCE: null},
                "ownerReferences": [owner("me")],
            })
        );
    }

    #[test]
    fn an_orphan_gets_no_owner() {
        let orphan = observed(
            CLAIM,
            &[(labels::ORPHAN_SINCE, "20260101T000000Z")],
            &json!([]),
        );
        assert_eq!(ownership(&orphan, Some(owner("me")), "me"), None);
        let claim = observed(CLAIM, &[], &json!([]));
        let patch = ownership(&claim, Some(owner("me")), "me").unwrap();
        assert_eq!(patch["ownerReferences"], json!([owner("me")]));
        assert_eq!(ownership(&claim, None, "me"), None);
    }

    #[test]
    fn owners_of_other_kinds_are_left_alone() {
        let wanted = desired(Kind::Secret, json!({"ownerReferences": [owner("me")]}));
        assert_eq!(
            metadata(&observed(Kind::Secret, &[], &json!([])), &wanted, "me"),
            None
        );
    }
}
