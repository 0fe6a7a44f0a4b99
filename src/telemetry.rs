//! Logs: one JSON object a line on stderr, level `info` unless `RUST_LOG` says otherwise.
//!
//! `RUST_LOG` takes a level and `target=level` pairs, such as `info,actors=debug`; spans and fields are not matched,
//! which keeps a regular expression engine out of the binary. A settled operator logs nothing.

use std::io::stderr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Name of the variable with the directives.
const VARIABLE: &str = "RUST_LOG";

/// Which targets are logged at which level.
///
/// # Errors
/// The text when it is not a list of levels and `target=level` pairs.
pub fn directives(text: Option<&str>) -> Result<Targets, String> {
    let text = text.map(str::trim).unwrap_or_default();
    let given = match text {
        "" => Targets::new().with_default(LevelFilter::INFO),
        text => text
            .parse()
            .map_err(|error| format!("{VARIABLE} {text:?} is not understood: {error}"))?,
    };
    if text.contains(CLIENT) {
        return Ok(given);
    }
    Ok(given.with_target(CLIENT, LevelFilter::OFF))
}

/// The client logs each failed request as an error; who made the request knows better what it means, and says so. Whoever
/// wants these lines names the target.
const CLIENT: &str = "kube_client";

/// Starts logging. The first call in a process wins; later ones (tests) change nothing.
///
/// # Errors
/// When `RUST_LOG` is not understood.
pub fn start() -> Result<(), String> {
    let targets = directives(std::env::var(VARIABLE).ok().as_deref())?;
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(stderr);
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn info_is_the_default() {
        for text in [None, Some(""), Some(" ")] {
            let targets = directives(text).unwrap();
            assert!(targets.would_enable("actors", &Level::INFO));
            assert!(!targets.would_enable("actors", &Level::DEBUG));
            assert!(!targets.would_enable("kube_client::client", &Level::ERROR));
        }
    }

    #[test]
    fn targets_have_their_own_level() {
        let targets = directives(Some("warn,actors=debug")).unwrap();
        assert!(targets.would_enable("actors::shard", &Level::DEBUG));
        assert!(!targets.would_enable("kube", &Level::INFO));
        assert!(!targets.would_enable("kube_client::client", &Level::ERROR));
        let targets = directives(Some("info,kube_client=error")).unwrap();
        assert!(targets.would_enable("kube_client::client", &Level::ERROR));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(directives(Some("actors=loud")).is_err());
    }
}
