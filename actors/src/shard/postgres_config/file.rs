//! Reads `postgresql.conf` as PostgreSQL does.

use std::collections::BTreeMap;

/// The settings PostgreSQL would take from this text: the last assignment of a name wins.
pub fn effective(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    Some((
        name.trim().to_ascii_lowercase(),
        unquote(without_comment(value).trim()),
    ))
}

/// Cuts a trailing comment; a `#` inside quotes is part of the value.
fn without_comment(value: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '\'' => quoted = !quoted,
            '#' if !quoted => return value.get(..at).unwrap_or(value),
            _ => {}
        }
    }
    value
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) else {
        return value.to_owned();
    };
    let mut result = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                chars.next_if_eq(&'\'');
                result.push('\'');
            }
            '\\' => result.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => '\\',
            }),
            other => result.push(other),
        }
    }
    result
}
