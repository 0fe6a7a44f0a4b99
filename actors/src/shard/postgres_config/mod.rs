//! `postgresql.conf` of a shard: our baseline, sized to the pods, under the user's settings (`workloads.md` 9).

use std::borrow::Cow;
use std::collections::BTreeMap;

mod baseline;
mod file;
mod sizing;

use baseline::BASELINE;
pub use file::{Mistake, effective, mistakes};
pub use sizing::Sizing;
use sizing::sized;

/// The setting that carries the reload hash, so that a pooler can tell whether its file is the one we mean.
pub const MARKER: &str = "multigres.config_reload_marker";

/// The file, and what of it needs a restart or a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Content of `postgresql.conf`.
    pub text: String,
    /// The hashes that go on pods.
    pub hashes: Hashes,
}

/// Hashes of the two classes of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Over settings that need a restart.
    pub restart: String,
    /// Over settings that a reload delivers.
    pub reload: String,
    /// Over settings that need a restart by the Go operator's catalogue, which lacks what PostgreSQL spells in mixed case
    /// (`workloads.md` T15): what the pods it made carry.
    pub restart_go: String,
}

/// Renders the file. `referenced` is the body of the user's ConfigMap, `settings` the user's map.
pub fn render(
    cluster_name: &str,
    sizing: Sizing,
    referenced: Option<&str>,
    settings: &BTreeMap<String, String>,
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
    let all = settings_of(&text);
    let hashes = Hashes {
        restart: digest(&all, |setting| setting.restarts),
        reload: digest(&all, |setting| !setting.restarts),
        restart_go: digest(&all, |setting| setting.restarts_go()),
    };
    text.push_str("\n# Lets a pooler recognise this file\n");
    line(&mut text, MARKER, &hashes.reload);
    Rendered { text, hashes }
}

/// A setting in force.
struct Setting<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
    restarts: bool,
}

impl Setting<'_> {
    fn restarts_go(&self) -> bool {
        self.restarts || crds::guc::MIXED_CASE.contains(&&*self.name)
    }
}

/// The settings of a file, sorted.
fn settings_of(text: &str) -> Vec<Setting<'_>> {
    let settings = effective(text).into_iter();
    settings
        .map(|(name, value)| Setting {
            restarts: needs_restart(&name),
            name,
            value,
        })
        .collect()
}

/// One assignment. The value stays on its line whatever it holds.
fn line(text: &mut String, name: &str, value: &str) {
    text.push_str(name.trim());
    text.push_str(" = '");
    if !value.contains(['\\', '\'', '\n', '\r']) {
        text.push_str(value);
        text.push_str("'\n");
        return;
    }
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\'' => text.push_str("''"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            plain => text.push(plain),
        }
    }
    text.push_str("'\n");
}

/// True when PostgreSQL takes the setting only at start: by context, or because we do not know it.
pub fn needs_restart(name: &str) -> bool {
    !crds::guc::reloadable(name)
}

fn digest(settings: &[Setting<'_>], covered: impl Fn(&Setting<'_>) -> bool) -> String {
    let mut lines = String::with_capacity(2048);
    for Setting { name, value, .. } in settings.iter().filter(|setting| covered(setting)) {
        lines.extend([name, "=", value, "\n"]);
    }
    crds::digest::sha256(&lines, 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;
    const GIB: i64 = 1 << 30;

    fn minimal() -> Sizing {
        Sizing {
            memory: 512 * MIB,
            millicores: 100,
            disk: GIB,
        }
    }

    /// The reload hash of the Go operator.
    fn reload_go(file: &Rendered) -> String {
        digest(&settings_of(&file.text), |setting| {
            !setting.restarts_go() && setting.name != MARKER
        })
    }

    const GO_RESTART: &str = "0e70cd9ce7522a934a5176968bf79138550b24989e0d2b1555e4a2923748cd47";
    const GO_RELOAD: &str = "d4076fe8effa0a788808619bc762a06a387e46001f9c505a01ee8645e80149b0";

    #[test]
    fn equals_the_go_operator_but_for_the_class_of_timezone() {
        let none = BTreeMap::new();
        let name = "minimal/postgres/default/0-inf";
        let file = render(name, minimal(), None, &none);
        assert_eq!(file.hashes.restart_go, GO_RESTART);
        assert_eq!(reload_go(&file), GO_RELOAD);

        let user = BTreeMap::from([("work_mem".to_owned(), "32MB".to_owned())]);
        let file = render(name, minimal(), None, &user);
        assert_eq!(file.hashes.restart_go, GO_RESTART);
        assert_eq!(
            reload_go(&file),
            "07b9da42e02fb40c3a623ec9532202dd54684b16b1e9f6cc2ae76a495e8a3e2f"
        );

        let ours = render(name, minimal(), None, &none);
        assert_ne!(ours.hashes.restart, GO_RESTART);
        assert!(!needs_restart("timezone"));
        assert_eq!(effective(&ours.text)[MARKER], ours.hashes.reload);
    }

    #[test]
    fn equals_a_real_run_without_memory() {
        // Hashes read back from the pods of go-objects-ha.yaml: no memory request, 11m CPU, 1Gi disk.
        let sizing = Sizing {
            memory: 0,
            millicores: 11,
            disk: GIB,
        };
        let file = render("ha/postgres/default/0-inf", sizing, None, &BTreeMap::new());
        assert_eq!(
            file.hashes.restart_go,
            "4e079d5459788420b9d9ef54f2ef5fd70b81e6d5dec35fc24c58d3517791592f"
        );
        assert_eq!(
            reload_go(&file),
            "be4fc5f340224dd61b18dac1e35e7f8eac8504e69c5532397930f0f30dfc4980"
        );
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
        assert_eq!(settings.get("work_mem").map(AsRef::as_ref), Some("5MB"));
        assert_eq!(
            settings.get("log_statement").map(AsRef::as_ref),
            Some("a#b")
        );
        assert_eq!(
            settings.get("archive_x.y").map(AsRef::as_ref),
            Some("it's a\\b\nport = 1")
        );
        assert!(!settings.contains_key("port"));
    }
}
