//! PostgreSQL's configuration file, and what a reload makes of it (`topology.md` 3.3). Pure.

use std::collections::BTreeMap;

/// Parameters and their texts as the file gives them.
pub type Settings = BTreeMap<String, String>;

/// Why a parameter blocks a reload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mismatch {
    /// The parameter.
    pub name: String,
    /// The value is as expected and takes a restart.
    pub requires_restart: bool,
}

/// Reads a configuration file; of several lines for one parameter the last one counts.
pub fn parse(text: &str) -> Settings {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '=' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => {
            // Doubled quotes are one; the first single one ends the value.
            let marked = quoted.replace("''", "\u{0}");
            marked.split('\'').next()?.replace('\u{0}', "'")
        }
        None => rest.split(['#', ' ', '\t']).next()?.to_owned(),
    };
    Some((name.to_ascii_lowercase(), value))
}

/// What blocks a reload; nothing lets it pass.
pub fn mismatches(expected: &Settings, file: &Settings, running: &Settings) -> Vec<Mismatch> {
    let check = |(name, value): (&String, &String)| {
        let key = name.to_ascii_lowercase();
        let written = file.get(&key) == Some(value);
        let fixed = !crds::guc::reloadable(&key) && running.get(&key) != Some(value);
        (!written || fixed).then(|| Mismatch {
            name: name.clone(),
            requires_restart: written && fixed,
        })
    };
    expected.iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_file_is_read_as_postgresql_reads_it() {
        let text = "# comment\nwork_mem = 4MB # old\nwork_mem='32MB'\nsearch_path = '''a'', b'\nport 5432\n\n";
        let expected = settings(&[
            ("work_mem", "32MB"),
            ("search_path", "'a', b"),
            ("port", "5432"),
        ]);
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn three_outcomes_of_a_reload() {
        let running = settings(&[("max_connections", "100"), ("work_mem", "4MB")]);
        let file = settings(&[("max_connections", "200"), ("work_mem", "32MB")]);
        let ask = |pairs| mismatches(&settings(pairs), &file, &running);
        assert_eq!(ask(&[("work_mem", "32MB")]), []);
        let late = Mismatch {
            name: "work_mem".into(),
            requires_restart: false,
        };
        assert_eq!(ask(&[("work_mem", "64MB")]), [late]);
        let restart = Mismatch {
            name: "max_connections".into(),
            requires_restart: true,
        };
        assert_eq!(ask(&[("max_connections", "200")]), [restart]);
        assert_eq!(
            ask(&[("max_connections", "100")]).len(),
            1,
            "not what the file says"
        );
        assert_eq!(ask(&[]), []);
    }
}
