//! Does an observed object already hold everything we desire? (`design.md` 2, "When to write".)

use serde_json::Value;

use crate::entry::{APPLIED_HASH, digest};
use crate::object::Desired;
use crate::quantity::billionths;

/// Lists in which others may have items of their own, with the key by which ours are found. Any other list is ours as a whole:
/// equal length, compared element by element, so that an item somebody added is seen and taken out.
const MERGE_KEYS: [(&str, &[&str]); 1] = [("ownerReferences", &["uid"])];

/// Maps whose values are quantities, which the server may print differently.
const QUANTITIES: [&str; 3] = ["limits", "requests", "capacity"];

/// What `Entry::covered` holds for an object that is put with its `applied-hash` annotation; never 0.
pub fn fingerprint(put: &Desired) -> u64 {
    fingerprint_of(&put.body.annotation(APPLIED_HASH).unwrap_or_default())
}

/// The same from the hash itself.
pub fn fingerprint_of(hash: &str) -> u64 {
    digest(hash.as_bytes()).max(1)
}

/// True when `observed` (see `Entry::comparable`) holds every field of `desired`.
pub fn covers(observed: &Value, desired: &Desired) -> bool {
    let found = observed.get("metadata").unwrap_or(&Value::Null);
    let wanted = desired.body.get("metadata");
    wanted.is_none_or(|wanted| metadata(found, wanted)) && covers_content(observed, desired)
}

/// The same but for metadata: what differs, if anything, is labels, annotations or owners.
pub fn covers_content(observed: &Value, desired: &Desired) -> bool {
    let Some(body) = desired.body.as_object() else {
        return false;
    };
    body.iter().all(|(key, wanted)| match key.as_str() {
        "apiVersion" | "kind" | "metadata" | "status" | "stringData" => true,
        "data" => data(observed.get("data"), wanted),
        field => within(field, observed.get(field).unwrap_or(&Value::Null), wanted),
    })
}

fn metadata(observed: &Value, wanted: &Value) -> bool {
    ["labels", "annotations", "ownerReferences"]
        .iter()
        .all(|part| match wanted.get(*part) {
            None => true,
            Some(wanted) => within(part, observed.get(*part).unwrap_or(&Value::Null), wanted),
        })
}

/// Data is compared by digest, and exactly: a key that we did not write is foreign content in our object.
fn data(observed: Option<&Value>, wanted: &Value) -> bool {
    let Some(wanted) = wanted.as_object() else {
        return true;
    };
    wanted.iter().all(|(key, value)| {
        let digest = value.as_str().map(|text| {
            if text.is_empty() {
                0
            } else {
                digest(text.as_bytes()).max(1)
            }
        });
        observed
            .and_then(|data| data.get(key))
            .and_then(Value::as_u64)
            == digest
    })
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn within(field: &str, observed: &Value, wanted: &Value) -> bool {
    if empty(wanted) && empty(observed) {
        return true;
    }
    match (observed, wanted) {
        (Value::Object(observed), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            let found = observed.get(key).unwrap_or(&Value::Null);
            if QUANTITIES.contains(&field) {
                quantity(found) == quantity(value)
            } else {
                within(key, found, value)
            }
        }),
        // An empty block may be dropped or filled with defaults by the server.
        (_, Value::Object(wanted)) => wanted.is_empty() || wanted.values().all(empty),
        (Value::Array(observed), Value::Array(wanted)) => list(field, observed, wanted),
        (observed, wanted) => scalar(observed, wanted),
    }
}

fn list(field: &str, observed: &[Value], wanted: &[Value]) -> bool {
    match MERGE_KEYS.iter().find(|(name, _)| *name == field) {
        Some((_, keys)) => wanted.iter().all(|item| {
            observed
                .iter()
                .find(|other| keys.iter().all(|key| other.get(*key) == item.get(*key)))
                .is_some_and(|other| within("", other, item))
        }),
        None => {
            observed.len() == wanted.len()
                && observed
                    .iter()
                    .zip(wanted)
                    .all(|(other, item)| within("", other, item))
        }
    }
}

/// Numbers and strings of one text are one int-or-string; everything else must be equal.
fn scalar(observed: &Value, wanted: &Value) -> bool {
    if observed == wanted {
        return true;
    }
    match (observed, wanted) {
        (Value::Number(number), Value::String(text))
        | (Value::String(text), Value::Number(number)) => number.to_string() == *text,
        _ => false,
    }
}

/// A quantity as a number of billionths, or its text when it is none.
fn quantity(value: &Value) -> Result<i128, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    billionths(&text).ok_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::Kind;

    fn desired(spec: Value) -> Desired {
        let body = json!({"metadata": {"name": "a", "namespace": "b", "labels": {"x": "1"}}, "spec": spec});
        Desired {
            key: crate::object::Key::new(Kind::Service, "b", "a"),
            body: body.into(),
        }
    }

    fn observed(spec: Value) -> Value {
        json!({"metadata": {"labels": {"x": "1", "other": "2"}, "annotations": {}, "ownerReferences": []}, "spec": spec})
    }

    #[test]
    fn table_of_cover() {
        let cases = [
            (
                json!({"a": 1}),
                json!({"a": 1, "b": 2}),
                true,
                "extra fields are the server's",
            ),
            (json!({"a": 1}), json!({"a": 2}), false, "another value"),
            (
                json!({"targetPort": "80"}),
                json!({"targetPort": 80}),
                true,
                "int or string",
            ),
            (
                json!({"limits": {"cpu": "1000m"}}),
                json!({"limits": {"cpu": "1"}}),
                true,
                "quantities by value",
            ),
            (
                json!({"limits": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "1024Mi"}}),
                true,
                "quantities by value",
            ),
            (
                json!({"limits": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "1G"}}),
                false,
                "binary is not decimal",
            ),
            (
                json!({"emptyDir": {}}),
                json!({}),
                true,
                "empty and absent are one",
            ),
            (
                json!({"args": ["a"]}),
                json!({"args": ["a", "b"]}),
                false,
                "atomic list grew",
            ),
            (
                json!({"containers": [{"name": "b", "image": "i"}]}),
                json!({"containers": [{"name": "b", "image": "i", "x": 1}]}),
                true,
                "defaults inside an item are the server's",
            ),
            (
                json!({"containers": [{"name": "b", "image": "i"}]}),
                json!({"containers": [{"name": "b", "image": "i"}, {"name": "a"}]}),
                false,
                "an item that somebody added",
            ),
            (
                json!({"containers": [{"name": "b", "image": "i"}]}),
                json!({"containers": [{"name": "b", "image": "j"}]}),
                false,
                "an item with another value",
            ),
        ];
        for (wanted, found, expected, why) in cases {
            assert_eq!(
                covers(&observed(found), &desired(wanted)),
                expected,
                "{why}"
            );
        }
    }

    #[test]
    fn a_stripped_label_is_not_covered() {
        let mut found = observed(json!({}));
        found["metadata"]["labels"] = json!({});
        assert!(!covers(&found, &desired(json!({}))));
    }
}
