//! The two ways of patching: server-side apply, as far as our objects need it, and JSON merge patch.

use serde_json::{Map, Value};

/// Lists that are merged item by item, with the field that tells the items apart. Any other list is replaced as a whole.
const KEYED: [(&str, &str); 8] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("ports", "name"),
    ("ownerReferences", "uid"),
    ("conditions", "type"),
    ("finalizers", ""),
];

fn key_of(list: &str) -> Option<&'static str> {
    KEYED
        .iter()
        .find(|(name, _)| *name == list)
        .map(|(_, key)| *key)
}

/// Lays `wanted` over `live`, and takes out what the same manager applied before (`last`) and no longer wants.
pub fn apply(live: &mut Value, last: &Value, wanted: &Value) {
    merge("", live, last, wanted);
}

fn merge(field: &str, live: &mut Value, last: &Value, wanted: &Value) {
    match (wanted, key_of(field)) {
        (Value::Object(wanted), _) => {
            if !live.is_object() {
                *live = Value::Object(Map::new());
            }
            let map = live.as_object_mut().unwrap();
            for name in last.as_object().into_iter().flat_map(Map::keys) {
                if !wanted.contains_key(name) {
                    map.remove(name);
                }
            }
            for (name, value) in wanted {
                merge(
                    name,
                    map.entry(name.clone()).or_insert(Value::Null),
                    &last[name],
                    value,
                );
            }
        }
        (Value::Array(wanted), Some(key)) => items(key, live, last, wanted),
        (other, _) => *live = other.clone(),
    }
}

fn items(key: &str, live: &mut Value, last: &Value, wanted: &[Value]) {
    let id = |item: &Value| {
        if key.is_empty() {
            item.clone()
        } else {
            item[key].clone()
        }
    };
    let old = live.as_array().cloned().unwrap_or_default();
    let owned = last.as_array().cloned().unwrap_or_default();
    let find = |list: &[Value], of: &Value| list.iter().find(|item| id(item) == id(of)).cloned();
    let mut result = Vec::new();
    for item in wanted {
        let mut merged = find(&old, item).unwrap_or_default();
        merge(
            "",
            &mut merged,
            &find(&owned, item).unwrap_or_default(),
            item,
        );
        result.push(merged);
    }
    let others = old
        .iter()
        .filter(|item| find(wanted, item).is_none() && find(&owned, item).is_none());
    result.extend(others.cloned());
    *live = Value::Array(result);
}

/// RFC 7386.
pub fn merge_patch(live: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *live = patch.clone();
        return;
    };
    if !live.is_object() {
        *live = Value::Object(Map::new());
    }
    let map = live.as_object_mut().unwrap();
    for (name, value) in fields {
        if value.is_null() {
            map.remove(name);
        } else {
            merge_patch(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
