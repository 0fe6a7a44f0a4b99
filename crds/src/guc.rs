//! PostgreSQL 17's parameters (REL_17_5): `schema/pg17-parameters.tsv`, one line each: name, type, context (`api.md` 9.4).

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Spelt in mixed case by PostgreSQL and therefore missing in the table (`workloads.md` trap T15); all are of context `user`.
const MIXED_CASE: [&str; 3] = ["datestyle", "intervalstyle", "timezone"];

static CONTEXTS: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
    let lines = include_str!("../schema/pg17-parameters.tsv").lines();
    lines
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some((columns.next()?, columns.nth(1)?))
        })
        .collect()
});

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
