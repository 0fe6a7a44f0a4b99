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
pub const OPERATED: [&str; 7] = [
    "port",
    "listen_addresses",
    "unix_socket_directories",
    "data_directory",
    "hba_file",
    "ident_file",
    "wal_level",
];

/// Set by the pooler while PostgreSQL runs, in a file that goes over ours: a value given here would never take effect, and a
/// reload that waits for it would never end (`workloads.md` T14). `recovery_target*` belongs to them.
pub const POOLED: [&str; 10] = [
    "archive_command",
    "archive_mode",
    "hot_standby_feedback",
    "primary_conninfo",
    "primary_slot_name",
    "restore_command",
    "sync_replication_slots",
    "synchronized_standby_slots",
    "synchronous_commit",
    "synchronous_standby_names",
];

/// Units that PostgreSQL knows; it takes no other spelling.
const UNITS: [&str; 11] = [
    "B", "kB", "MB", "GB", "TB", "us", "ms", "s", "min", "h", "d",
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

/// Checks a setting (`api.md` 9.4). Names with a dot belong to extensions; nothing is known of their values.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    let lower = name.trim().to_ascii_lowercase();
    if lower.contains('.') {
        let fits = lower.split('.').all(is_identifier);
        return fits.then_some(()).ok_or_else(|| {
            "not a name of an extension's parameter: use letters, digits and _ on both sides of the dot".to_owned()
        });
    }
    if OPERATED.contains(&lower.as_str()) {
        return Err("managed by the operator: remove it".to_owned());
    }
    if POOLED.contains(&lower.as_str()) || lower.starts_with("recovery_target") {
        return Err("managed by the pooler, which would override it: remove it".to_owned());
    }
    if MIXED_CASE.contains(&lower.as_str()) {
        return Ok(());
    }
    if CONTEXTS.get(lower.as_str()) == Some(&"internal") {
        return Err("fixed when PostgreSQL is built or initialised: remove it".to_owned());
    }
    let Some(of) = TYPES.get(lower.as_str()) else {
        return Err("unknown parameter of PostgreSQL 17: correct or remove it".to_owned());
    };
    let value = value.trim();
    match *of {
        "bool" => {
            let words = ["on", "off", "true", "false", "yes", "no", "1", "0"];
            let fits = words.iter().any(|word| value.eq_ignore_ascii_case(word));
            fits.then_some(()).ok_or_else(|| misfit(of, "on or off"))
        }
        "integer" => integer(value),
        "real" => real(value),
        _ => Ok(()),
    }
}

fn misfit(of: &str, remedy: &str) -> String {
    format!("the parameter is of type {of}: give {remedy}")
}

/// Starts with a letter or underscore, goes on with those, digits and dollar signs.
fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    chars.next().is_some_and(letter) && chars.all(|c| letter(c) || c.is_ascii_digit() || c == '$')
}

/// Optional sign, digits, optional unit.
fn integer(text: &str) -> Result<(), String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let rest = unsigned.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(rest).unwrap_or(text);
    if rest.len() == unsigned.len() {
        return Err(misfit(
            "integer",
            "a whole number, with a unit where the parameter has one",
        ));
    }
    // PostgreSQL keeps integers in 32 bits, counted in the parameter's own unit or a larger number of smaller ones.
    if digits.parse::<i64>().is_err() || (rest.is_empty() && digits.parse::<i32>().is_err()) {
        return Err("out of range: PostgreSQL keeps whole numbers in 32 bits".to_owned());
    }
    unit(rest)
}

/// A number as programs write them, optional unit.
fn real(text: &str) -> Result<(), String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let finite = |text: &str| text.trim().parse::<f64>().is_ok_and(f64::is_finite);
    if finite(text) {
        return Ok(());
    }
    if !finite(number) {
        return Err(misfit("real", "a number"));
    }
    unit(text.strip_prefix(number).unwrap_or_default())
}

fn unit(text: &str) -> Result<(), String> {
    let unit = text.trim_start();
    (unit.is_empty() || UNITS.contains(&unit))
        .then_some(())
        .ok_or_else(|| {
            format!(
                "{unit:?} is no unit of PostgreSQL: use one of {}",
                UNITS.join(", ")
            )
        })
}

/// True when a running server takes a new value on reload; false for parameters that need a restart and for unknown ones.
pub fn reloadable(name: &str) -> bool {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return reloadable(&name.to_ascii_lowercase());
    }
    MIXED_CASE.contains(&name)
        || CONTEXTS
            .get(name)
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
            ("work_mem", "64mb", false),
            ("work_mem", "3000000000", false),
            ("max_wal_size", "99999999999999999999GB", false),
            ("vacuum_cost_delay", "2ms", true),
            ("vacuum_cost_delay", "2 parsec", false),
            ("seq_page_cost", "1e3", true),
            ("seq_page_cost", "nan", false),
            ("synchronous_commit", "off", false),
            ("Recovery_Target_Time", "now", false),
            ("block_size", "8192", false),
            ("a.b\nport", "1", false),
            ("a.", "1", false),
            ("plpgsql.extra_warnings", "all", true),
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
