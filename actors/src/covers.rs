//! Does an observed object already hold everything we desire? (`design.md` 2, "When to write".)

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::entry::digest;
use crate::object::Desired;
use crate::quantity::billionths;
use crate::shard::postgres_config::hex;

/// Lists in which others may have items of their own, with the key by which ours are found. Any other list is ours as a whole:
/// equal length, compared element by element, so that an item somebody added is seen and taken out.
const MERGE_KEYS: [(&str, &[&str]); 1] = [("ownerReferences", &["uid"])];

/// Maps whose values are quantities, which the server may print differently.
const QUANTITIES: [&str; 3] = ["limits", "requests", "capacity"];

/// Canonical JSON: keys sorted, no white space. Every decision hashes every object of its room, so nothing is copied on the way.
pub fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            out.push('{');
            // Maps come sorted, unless somebody in the build asks serde_json to keep the order of arrival.
            if map.keys().is_sorted() {
                members(map.iter(), out);
            } else {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| key.as_str());
                members(entries.into_iter(), out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(value, out);
            }
            out.push(']');
        }
        Value::String(text) => quoted(text, out),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        other => out.push_str(&other.to_string()),
    }
}

fn members<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut String) {
    for (index, (key, value)) in entries.enumerate() {
        if index > 0 {
            out.push(',');
        }
        quoted(key, out);
        out.push(':');
        canonical(value, out);
    }
}

/// A JSON string; almost none needs an escape.
fn quoted(text: &str, out: &mut String) {
    if text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
        out.push_str(&Value::from(text).to_string());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

/// The hash of a desired object: 16 hex digits of SHA-256 over its canonical JSON.
pub fn hash(body: &Value) -> String {
    let mut text = String::with_capacity(4096);
    canonical(body, &mut text);
    let digits = hex(&Sha256::digest(text.as_bytes()));
    digits.get(..16).unwrap_or(&digits).to_owned()
}

/// What `Entry::covered` holds for an object that is put with its `applied-hash` annotation; never 0.
pub fn fingerprint(put: &Desired) -> u64 {
    let hash = put
        .body
        .pointer("/metadata/annotations/multigres.com~1applied-hash")
        .and_then(Value::as_str);
    fingerprint_of(hash.unwrap_or_default())
}

/// The same from the hash itself.
pub fn fingerprint_of(hash: &str) -> u64 {
    digest(hash.as_bytes()).max(1)
}

/// True when `observed` (see `Entry::comparable`) holds every field of `desired`.
pub fn covers(observed: &Value, desired: &Desired) -> bool {
    let Some(body) = desired.body.as_object() else {
        return false;
    };
    body.iter().all(|(key, wanted)| match key.as_str() {
        "apiVersion" | "kind" | "status" => true,
        "metadata" => metadata(observed.get("metadata").unwrap_or(&Value::Null), wanted),
        "data" => data(observed.get("data"), wanted),
        "stringData" => true,
        field => within(field, observed.get(field).unwrap_or(&Value::Null), wanted),
    })
}

/// The same but for metadata: what differs, if anything, is labels, annotations or owners.
pub fn covers_content(observed: &Value, desired: &Desired) -> bool {
    let mut content = desired.clone();
    if let Some(map) = content.body.as_object_mut() {
        map.remove("metadata");
    }
    covers(observed, &content)
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
            body,
        }
    }

    fn observed(spec: Value) -> Value {
        json!({"metadata": {"labels": {"x": "1", "other": "2"}, "annotations": {}, "ownerReferences": []}, "spec": spec})
    }

    /// Written without copies, it reads as serde_json writes the same value.
    #[test]
    fn canonical_text_is_json_in_one_spelling() {
        let odd = "\u{0}\u{1f} \"q\" \\ / \u{7f} \u{2028} ü\n\t";
        let value = json!({
            odd: [null, true, false, 0, -1, 1.5, u64::MAX, odd, "", [], {}],
            "b": {"z": 1, "a": {"y": [odd]}}, "a": "plain",
        });
        let mut text = String::new();
        canonical(&value, &mut text);
        assert_eq!(text, value.to_string());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
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

    #[test]
    fn hash_ignores_the_order_of_keys() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        assert_eq!(hash(&one), hash(&two));
        assert_eq!(hash(&one).len(), 16);
    }
}
