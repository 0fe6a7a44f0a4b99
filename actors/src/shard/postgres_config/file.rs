//! Reads `postgresql.conf` as PostgreSQL does.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The settings PostgreSQL would take from this text, by name: the last assignment wins.
pub fn effective(text: &str) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let mut name = Cow::from(name.trim());
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_mut().make_ascii_lowercase();
    }
    Some((name, unquote(without_comment(value).trim())))
}

/// A line of the user's file that is not taken: its number, counted from 1, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// The line as far as it was understood, what is wrong and the remedy.
    pub problem: String,
}

/// What PostgreSQL would refuse in a file, what would not take effect, and what [`effective`] cannot read. One such line
/// would keep the server from starting or from loading all the others.
pub fn mistakes(text: &str) -> Vec<Mistake> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(at, line)| {
            let problem = mistake(line.trim())?;
            Some(Mistake {
                line: at + 1,
                problem,
            })
        })
        .collect()
}

fn mistake(line: &str) -> Option<String> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let Some((name, value)) = line.split_once('=') else {
        let name = line.split_whitespace().next().unwrap_or_default();
        return Some(format!("{name}: write the line as name = value"));
    };
    let (name, value) = (name.trim(), without_comment(value).trim());
    if !is_token(value) {
        return Some(format!(
            "{name} = {value}: put the value in single quotes, and double those inside"
        ));
    }
    let value = unquote(value);
    let problem = crds::guc::check(name, &value).err()?;
    Some(format!("{name} = {value}: {problem}"))
}

/// One quoted text, or one word that needs no quotes.
fn is_token(value: &str) -> bool {
    let Some(inner) = value.strip_prefix('\'') else {
        let word = |c: char| c.is_alphanumeric() || "_.:/+-".contains(c);
        return value.starts_with(|c: char| c.is_alphanumeric() || "_.+-".contains(c))
            && value.chars().all(word);
    };
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '\'' if chars.next_if_eq(&'\'').is_none() => return chars.next().is_none(),
            _ => {}
        }
    }
    false
}

/// Cuts a trailing comment; a `#` inside quotes is part of the value.
fn without_comment(value: &str) -> &str {
    if !value.contains('#') {
        return value;
    }
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

fn unquote(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) else {
        return value.into();
    };
    if !inner.contains(['\'', '\\']) {
        return inner.into();
    }
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
    result.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file() {
        for (line, wrong) in [
            ("", false),
            ("# a = b = c", false),
            ("work_mem = 8MB", false),
            ("  Work_Mem='8 MB' # why", false),
            ("log_line_prefix = '%m it''s # no comment'", false),
            ("search_path = 'a, b'", false),
            (r"log_line_prefix = 'a\'b'", false),
            ("work_mem = 8 MB", true),
            ("work_mem 8MB", true),
            ("work_mem =", true),
            ("log_line_prefix = 'open", true),
            ("log_line_prefix = 'a' 'b'", true),
            ("search_path = a, b", true),
            ("include = 'other.conf'", true),
            ("include_dir 'conf.d'", true),
            ("no_such_setting = 1", true),
            ("work_mem = many", true),
            ("port = 1", true),
            ("synchronous_commit = off", true),
            ("cron.database_name = postgres", false),
        ] {
            assert_eq!(!mistakes(line).is_empty(), wrong, "{line}");
        }
        let all = mistakes("# first\nport = 1\n\njit = maybe\n");
        assert_eq!(all.iter().map(|m| m.line).collect::<Vec<_>>(), [2, 4]);
        assert!(
            all[1]
                .problem
                .contains("jit = maybe: the parameter is of type bool"),
            "{all:?}"
        );
    }
}
