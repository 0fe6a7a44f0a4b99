//! PostgreSQL 17's parameters (REL_17_5): `schema/pg17-parameters.tsv`, one line each: name, type, context (`api.md` 9.4).

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Spelt in mixed case by PostgreSQL and therefore missing in the table (`workloads.md` trap T15); all are of context `user`.
pub const MIXED_CASE: [&str; 3] = ["datestyle", "intervalstyle", "timezone"];

static CONTEXTS: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
    let lines = include_str!("../schema/pg17-parameters.tsv").lines();
    lines
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some((columns.next()?, columns.nth(1)?))
        })
        .collect()
});

/// Set by the operator: on PostgreSQL's command line, or because the data plane needs this value.
const OPERATED: [&str; 7] = [
    "port",
    "listen_addresses",
    "unix_socket_directories",
    "data_directory",
    "hba_file",
    "ident_file",
    "wal_level",
];

static TYPES: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
    let lines = include_str!("../schema/pg17-parameters.tsv").lines();
    lines
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some((columns.next()?, columns.next()?))
        })
        .collect()
});

/// Checks a setting of `postgresConfig` (`api.md` 9.4). Names with a dot belong to extensions and pass.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    if name.contains('.') {
        return Ok(());
    }
    let lower = name.trim().to_ascii_lowercase();
    if OPERATED.contains(&lower.as_str()) {
        return Err("managed by the operator: remove it".to_owned());
    }
    if MIXED_CASE.contains(&lower.as_str()) {
        return Ok(());
    }
    let Some(of) = TYPES.get(lower.as_str()) else {
        return Err("unknown parameter of PostgreSQL 17".to_owned());
    };
    let value = value.trim();
    let fits = match *of {
        "bool" => ["on", "off", "true", "false", "yes", "no", "1", "0"]
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word)),
        "integer" => integer(value),
        "real" => value.parse::<f64>().is_ok(),
        _ => true,
    };
    fits.then_some(())
        .ok_or_else(|| format!("the parameter is of type {of}"))
}

/// Optional sign, digits, optional unit.
fn integer(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && unit.trim_start().chars().all(|c| c.is_ascii_alphabetic())
}

/// True when a running server takes a new value on reload; false for parameters that need a restart and for unknown ones.
pub fn reloadable(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    MIXED_CASE.contains(&name.as_str())
        || CONTEXTS
            .get(name.as_str())
            .is_some_and(|context| !matches!(*context, "postmaster" | "internal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_fit_their_type() {
        for (name, value, fits) in [
            ("work_mem", "64MB", true),
            ("Work_Mem", " -1 ", true),
            ("work_mem", "64 MB", true),
            ("work_mem", "1.5", false),
            ("work_mem", "MB", false),
            ("work_mem", "", false),
            ("jit", "ON", true),
            ("jit", "maybe", false),
            ("random_page_cost", "1.1", true),
            ("random_page_cost", "cheap", false),
            ("timezone", "UTC", true),
            ("cron.database_name", "anything", true),
            ("wal_level", "logical", false),
            ("nonsense", "1", false),
        ] {
            assert_eq!(check(name, value).is_ok(), fits, "{name}={value}");
        }
    }

    #[test]
    fn classes() {
        assert_eq!(CONTEXTS.len(), 389);
        for (name, expected) in [
            ("work_mem", true),
            ("max_connections", false),
            ("wal_level", false),
            ("TimeZone", true),
            ("cron.database_name", false),
        ] {
            assert_eq!(reloadable(name), expected, "{name}");
        }
    }
}
