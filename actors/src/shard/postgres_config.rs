//! `postgresql.conf` of a shard: our baseline, sized to the pods, under the user's settings (`workloads.md` 9).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The setting that carries the reload hash, so that a pooler can tell whether its file is the one we mean.
pub const MARKER: &str = "multigres.config_reload_marker";

/// `max_connections`; the poolers' pools are sized to it, so a user's value does not enter the sizing.
const MAX_CONNECTIONS: i64 = 60;

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;

/// Settings before sizing. pgctld passes ports, paths and listen addresses on the command line.
const BASELINE: &[(&str, &str)] = &[
    ("max_connections", "60"),
    ("authentication_timeout", "1min"),
    ("password_encryption", "scram-sha-256"),
    ("ssl", "off"),
    ("ssl_ca_file", ""),
    ("ssl_cert_file", ""),
    ("ssl_crl_file", ""),
    ("ssl_crl_dir", ""),
    ("ssl_key_file", ""),
    ("ssl_ciphers", "HIGH:MEDIUM:+3DES:!aNULL"),
    ("ssl_prefer_server_ciphers", "on"),
    ("ssl_ecdh_curve", "prime256v1"),
    ("ssl_min_protocol_version", "TLSv1.2"),
    ("ssl_max_protocol_version", ""),
    ("ssl_dh_params_file", ""),
    ("ssl_passphrase_command", ""),
    ("ssl_passphrase_command_supports_reload", "off"),
    ("shared_buffers", "64MB"),
    ("maintenance_work_mem", "16MB"),
    ("work_mem", "1092kB"),
    ("max_worker_processes", "6"),
    ("effective_io_concurrency", "0"),
    ("max_parallel_workers", "2"),
    ("max_parallel_workers_per_gather", "1"),
    ("max_parallel_maintenance_workers", "1"),
    ("wal_level", "logical"),
    ("wal_log_hints", "on"),
    ("wal_buffers", "1920kB"),
    ("min_wal_size", "80MB"),
    ("max_wal_size", "1024MB"),
    ("wal_keep_size", "1000MB"),
    ("max_slot_wal_keep_size", "1024MB"),
    ("checkpoint_completion_target", "0.9"),
    ("checkpoint_flush_after", "256kB"),
    ("max_wal_senders", "25"),
    ("max_replication_slots", "25"),
    ("effective_cache_size", "192MB"),
    ("random_page_cost", "1.1"),
    ("default_statistics_target", "100"),
    ("log_line_prefix", "%h %m [%p] %q%u@%d "),
    ("log_statement", "ddl"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("row_security", "on"),
    ("lc_messages", "en_US.UTF-8"),
    ("lc_monetary", "en_US.UTF-8"),
    ("lc_numeric", "en_US.UTF-8"),
    ("lc_time", "en_US.UTF-8"),
    ("default_text_search_config", "pg_catalog.english"),
    ("jit_provider", "llvmjit"),
    ("auto_explain.log_min_duration", "10s"),
    ("cron.database_name", "postgres"),
];

/// What the pods offer: the most memory and CPU of any pool, the least disk. Zero means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizing {
    /// Bytes of memory.
    pub memory: i64,
    /// Thousandths of a core.
    pub millicores: i64,
    /// Bytes of disk.
    pub disk: i64,
}

/// The file, and what of it needs a restart or a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Content of `postgresql.conf`.
    pub text: String,
    /// The hashes that go on pods.
    pub hashes: Hashes,
    /// Every reloadable setting with its value, the marker included: what a pooler is asked to confirm.
    pub reloadable: BTreeMap<String, String>,
}

/// Hashes of the two classes of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Over settings that need a restart.
    pub restart: String,
    /// Over settings that a reload delivers.
    pub reload: String,
}

/// Renders the file. `referenced` is the body of the user's ConfigMap, `settings` the user's map.
pub fn render(
    cluster_name: &str,
    sizing: Sizing,
    referenced: Option<&str>,
    settings: &BTreeMap<String, String>,
) -> Rendered {
    render_with(cluster_name, sizing, referenced, settings, needs_restart)
}

fn render_with(
    cluster_name: &str,
    sizing: Sizing,
    referenced: Option<&str>,
    settings: &BTreeMap<String, String>,
    restart: impl Fn(&str) -> bool,
) -> Rendered {
    let mut text =
        String::from("# Written by multigres-operator. Change spec.postgresConfig instead.\n");
    for (name, value) in BASELINE {
        line(&mut text, name, value);
    }
    line(&mut text, "cluster_name", cluster_name);
    text.push_str("\n# Sized to the resources of the pods\n");
    for (name, value) in sized(sizing) {
        line(&mut text, name, &value);
    }
    if let Some(body) = referenced {
        text.push_str("\n# From postgresConfigRef\n");
        text.push_str(body.trim_end_matches(['\n', '\r']));
        text.push('\n');
    }
    if !settings.is_empty() {
        text.push_str("\n# From postgresConfig\n");
        for (name, value) in settings {
            line(&mut text, name, value);
        }
    }
    let (restarting, mut reloadable): (BTreeMap<_, _>, BTreeMap<_, _>) = effective(&text)
        .into_iter()
        .partition(|(name, _)| restart(name));
    let hashes = Hashes {
        restart: digest(&restarting),
        reload: digest(&reloadable),
    };
    text.push_str("\n# Lets a pooler recognise this file\n");
    line(&mut text, MARKER, &hashes.reload);
    reloadable.insert(MARKER.to_owned(), hashes.reload.clone());
    Rendered {
        text,
        hashes,
        reloadable,
    }
}

/// One assignment. The value stays on its line whatever it holds.
fn line(text: &mut String, name: &str, value: &str) {
    let quoted = value
        .replace('\\', "\\\\")
        .replace('\'', "''")
        .replace('\n', "\\n")
        .replace('\r', "\\r");
    // Writing to a string does not fail.
    let _ = writeln!(text, "{name} = '{quoted}'");
}

/// True when PostgreSQL takes the setting only at start: by context, or because we do not know it.
pub fn needs_restart(name: &str) -> bool {
    !crds::guc::reloadable(name)
}

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

fn digest(settings: &BTreeMap<String, String>) -> String {
    let mut hasher = Sha256::new();
    for (name, value) in settings {
        hasher.update(name);
        hasher.update("=");
        hasher.update(value);
        hasher.update("\n");
    }
    hex(&hasher.finalize())
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn sized(sizing: Sizing) -> Vec<(&'static str, String)> {
    let mut result = Vec::new();
    let cores = sizing.millicores / 1000;
    let mut per_gather = 1;
    if cores >= 4 {
        per_gather = cores / 2;
        result.push(("max_worker_processes", cores.to_string()));
        result.push(("max_parallel_workers", cores.to_string()));
        result.push(("max_parallel_workers_per_gather", per_gather.to_string()));
        result.push((
            "max_parallel_maintenance_workers",
            (cores / 2).min(4).to_string(),
        ));
    }
    if sizing.memory > 0 {
        let memory = sizing.memory;
        let shared = memory / 4;
        let work = (memory - shared) / (MAX_CONNECTIONS * 3) / per_gather.max(1);
        result.push(("shared_buffers", size(shared)));
        // Divided first, so that no input can overflow.
        result.push((
            "effective_cache_size",
            size(memory / 4 * 3 + memory % 4 * 3 / 4),
        ));
        result.push(("maintenance_work_mem", size((memory / 16).min(2 * GIB))));
        result.push((
            "wal_buffers",
            size((shared / 100 * 3 + shared % 100 * 3 / 100).clamp(32 * KIB, 16 * MIB)),
        ));
        result.push(("work_mem", size(work.max(64 * KIB))));
    }
    if sizing.disk > 0 {
        let megabytes = sizing.disk / MIB;
        let max = (megabytes / 4).clamp(64, 4096);
        result.push(("max_wal_size", format!("{max}MB")));
        result.push(("max_slot_wal_keep_size", format!("{max}MB")));
        result.push(("min_wal_size", format!("{}MB", (max / 4).clamp(32, 1024))));
        result.push((
            "wal_keep_size",
            format!("{}MB", (megabytes / 8).clamp(32, 1000)),
        ));
    }
    result
}

/// A size in the largest unit that divides it; what is below a kilobyte is dropped.
fn size(bytes: i64) -> String {
    let kilobytes = bytes / KIB;
    if kilobytes != 0 && kilobytes % (KIB * KIB) == 0 {
        format!("{}GB", kilobytes / (KIB * KIB))
    } else if kilobytes != 0 && kilobytes % KIB == 0 {
        format!("{}MB", kilobytes / KIB)
    } else {
        format!("{kilobytes}kB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> Sizing {
        Sizing {
            memory: 512 * MIB,
            millicores: 100,
            disk: GIB,
        }
    }

    /// As the Go operator classes it: its catalogue does not know the setting.
    fn as_go(name: &str) -> bool {
        name == "timezone" || needs_restart(name)
    }

    const GO_RESTART: &str = "0e70cd9ce7522a934a5176968bf79138550b24989e0d2b1555e4a2923748cd47";
    const GO_RELOAD: &str = "d4076fe8effa0a788808619bc762a06a387e46001f9c505a01ee8645e80149b0";

    #[test]
    fn equals_the_go_operator_but_for_the_class_of_timezone() {
        let none = BTreeMap::new();
        let name = "minimal/postgres/default/0-inf";
        let go = render_with(name, minimal(), None, &none, as_go);
        assert_eq!(
            go.hashes,
            Hashes {
                restart: GO_RESTART.into(),
                reload: GO_RELOAD.into()
            }
        );

        let user = BTreeMap::from([("work_mem".to_owned(), "32MB".to_owned())]);
        let go = render_with(name, minimal(), None, &user, as_go);
        assert_eq!(go.hashes.restart, GO_RESTART);
        assert_eq!(
            go.hashes.reload,
            "07b9da42e02fb40c3a623ec9532202dd54684b16b1e9f6cc2ae76a495e8a3e2f"
        );

        let ours = render(name, minimal(), None, &none);
        assert_ne!(ours.hashes.restart, GO_RESTART);
        assert_eq!(
            ours.reloadable.get("timezone").map(String::as_str),
            Some("UTC")
        );
        assert_eq!(ours.reloadable.get(MARKER), Some(&ours.hashes.reload));
    }

    #[test]
    fn equals_a_real_run_without_memory() {
        // Hashes read back from the pods of go-objects-ha.yaml: no memory request, 11m CPU, 1Gi disk.
        let sizing = Sizing {
            memory: 0,
            millicores: 11,
            disk: GIB,
        };
        let go = render_with(
            "ha/postgres/default/0-inf",
            sizing,
            None,
            &BTreeMap::new(),
            as_go,
        );
        assert_eq!(
            go.hashes.restart,
            "4e079d5459788420b9d9ef54f2ef5fd70b81e6d5dec35fc24c58d3517791592f"
        );
        assert_eq!(
            go.hashes.reload,
            "be4fc5f340224dd61b18dac1e35e7f8eac8504e69c5532397930f0f30dfc4980"
        );
    }

    #[test]
    fn sizes_follow_the_table() {
        let value = |settings: &[(&'static str, String)], name: &str| {
            settings
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.clone())
                .unwrap_or_default()
        };
        let large = sized(Sizing {
            memory: 64 * GIB,
            millicores: 16_000,
            disk: 500 * GIB,
        });
        for (name, expected) in [
            ("shared_buffers", "16GB"),
            ("effective_cache_size", "48GB"),
            ("maintenance_work_mem", "2GB"),
            ("wal_buffers", "16MB"),
            ("work_mem", "34952kB"),
            ("max_worker_processes", "16"),
            ("max_parallel_maintenance_workers", "4"),
            ("min_wal_size", "1024MB"),
            ("max_wal_size", "4096MB"),
            ("wal_keep_size", "1000MB"),
        ] {
            assert_eq!(value(&large, name), expected, "{name}");
        }
        let middle = sized(Sizing {
            memory: 4 * GIB,
            millicores: 2_000,
            disk: 10 * GIB,
        });
        assert_eq!(value(&middle, "work_mem"), "17476kB");
        assert_eq!(value(&middle, "max_wal_size"), "2560MB");
        assert_eq!(value(&middle, "max_worker_processes"), "");
    }

    #[test]
    fn the_last_assignment_wins_and_comments_go() {
        let user = BTreeMap::from([("archive_x.y".to_owned(), "it's a\\b\nport = 1".to_owned())]);
        let file = render(
            "c",
            Sizing::default(),
            Some("Work_Mem = 5MB # five\nlog_statement='a#b' # c\n\n"),
            &user,
        );
        let settings = effective(&file.text);
        assert_eq!(settings.get("work_mem").map(String::as_str), Some("5MB"));
        assert_eq!(
            settings.get("log_statement").map(String::as_str),
            Some("a#b")
        );
        assert_eq!(
            settings.get("archive_x.y").map(String::as_str),
            Some("it's a\\b\nport = 1")
        );
        assert!(!settings.contains_key("port"));
    }
}
