//! Command line and environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

/// Prefixes of the variables that decide what clusters get by default: images and telemetry.
const DEFAULTS: [&str; 3] = ["MULTIGRES_IMAGE_", "MULTIGRES_CERTIFICATE_", "OTEL_"];

/// Shortest lease: below it one slow answer of the API server costs the leadership.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// Arguments of the operator. Every flag may be given by its environment variable too.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "multigres-operator",
    version,
    about = "Kubernetes operator for Multigres"
)]
pub struct Args {
    /// Work only while holding the Lease `multigres-operator.multigres.com`; needed for more than one replica
    #[arg(long, env = "LEADER_ELECT", default_value_t = false, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub leader_elect: bool,

    /// How long a standby waits for a silent leader; renewals stop counting after two thirds of it
    #[arg(long, env = "LEASE_DURATION", default_value = "15s", value_parser = lease_duration)]
    pub lease_duration: Duration,

    /// Where metrics and introspection are served; 0 turns them off
    #[arg(long, env = "METRICS_BIND_ADDRESS", default_value = ":8443")]
    pub metrics_bind_address: Bind,

    /// Serve metrics and introspection by HTTPS to callers whose token may read them; false is plain HTTP for everybody
    #[arg(long, env = "METRICS_SECURE", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub metrics_secure: bool,

    /// Where /healthz and /readyz are served (plain HTTP); 0 turns them off
    #[arg(long, env = "HEALTH_PROBE_BIND_ADDRESS", default_value = ":8081")]
    pub health_probe_bind_address: Bind,

    /// Kubeconfig file; without it $KUBECONFIG, ~/.kube/config or the pod's service account is used
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,

    /// Follow the processes in the pods, beyond what Kubernetes tells; false is for test beds whose pods are empty, and then
    /// Healthy means no more than that pods are Ready
    #[arg(long, env = "DATA_PLANE", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub data_plane: bool,

    /// When a new operator's default images reach running clusters
    #[arg(long, env = "IMAGE_UPDATE_STRATEGY", default_value = "immediate")]
    pub image_update_strategy: ImageUpdateStrategy,

    /// Follow the clusters' topology stores: register cells and databases, prune what is gone. False leaves them alone, and
    /// gateways and orchestrators wait for nothing but a Ready store
    #[arg(long, env = "TOPOLOGY_STORES", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub topology_stores: bool,
}

/// When a new operator's default images reach running clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageUpdateStrategy {
    /// At once.
    Immediate,
    /// When the cluster acknowledges their revision.
    Lazy,
}

impl From<ImageUpdateStrategy> for actors::operator::ImageStrategy {
    fn from(flag: ImageUpdateStrategy) -> Self {
        match flag {
            ImageUpdateStrategy::Immediate => Self::Immediate,
            ImageUpdateStrategy::Lazy => Self::Lazy,
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Nowhere.
    Off,
    /// On this port of every address, IPv6 and IPv4.
    Any(u16),
    /// On this `host:port`.
    At(String),
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" || text.is_empty() {
            return Ok(Self::Off);
        }
        let explain = || format!("{text:?} is not host:port, :port or 0");
        let (host, port) = text.rsplit_once(':').ok_or_else(explain)?;
        let port = port.parse().map_err(|_| explain())?;
        Ok(if host.is_empty() {
            Self::Any(port)
        } else {
            Self::At(text.to_owned())
        })
    }
}

/// A duration as people write it: `15s`, `1m30s`, `500ms`.
///
/// # Errors
/// When the text is not a positive duration with units.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(span).map_err(|_| "must not be negative".to_owned())
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < SHORTEST_LEASE {
        return Err(format!("must be at least {} s", SHORTEST_LEASE.as_secs()));
    }
    Ok(duration)
}

/// What the Deployment tells the process by variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Namespace of the operator (`POD_NAMESPACE`).
    pub namespace: String,
    /// The operator's own account (`POD_SERVICE_ACCOUNT`).
    pub service_account: String,
    /// Name of the pod (`POD_NAME`, else the host's name).
    pub name: String,
    /// Holder of the Lease (`POD_UID`, so that a restarted container takes its own Lease back at once).
    pub identity: String,
    /// `MULTIGRES_IMAGE_*`, `MULTIGRES_CERTIFICATE_*` and `OTEL_*` variables that are set.
    pub defaults: BTreeMap<String, String>,
}

impl Environment {
    /// Reads the process' environment.
    ///
    /// # Errors
    /// One line that names the mandatory variable that is missing.
    pub fn read() -> Result<Self, String> {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let pairs = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self::from_variables(pairs, hostname.trim(), std::process::id())
    }

    /// The same from given variables.
    ///
    /// Without `POD_UID` and `POD_NAME` the holder is host and process number: stable for a container (always process
    /// 1), different for two processes on one host.
    ///
    /// # Errors
    /// One line that names the mandatory variable that is missing.
    pub fn from_variables(
        pairs: impl IntoIterator<Item = (String, String)>,
        hostname: &str,
        process: u32,
    ) -> Result<Self, String> {
        let variables: BTreeMap<String, String> = pairs
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let optional = |name: &str| variables.get(name).cloned();
        let mandatory = |name: &str| {
            optional(name).ok_or_else(|| {
                format!("environment variable {name} must be set (by the downward API)")
            })
        };
        let name = optional("POD_NAME");
        let fallback = || format!("{hostname}_{process}");
        Ok(Self {
            namespace: mandatory("POD_NAMESPACE")?,
            service_account: mandatory("POD_SERVICE_ACCOUNT")?,
            identity: optional("POD_UID")
                .or_else(|| name.clone())
                .unwrap_or_else(fallback),
            name: name.unwrap_or_else(|| hostname.to_owned()),
            defaults: variables
                .iter()
                .filter(|(key, _)| DEFAULTS.iter().any(|prefix| key.starts_with(prefix)))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["multigres-operator"], arguments].concat())
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let args = parse(&[]).unwrap();
        assert!(!args.leader_elect && args.metrics_secure && args.data_plane);
        assert_eq!(args.lease_duration, Duration::from_secs(15));
        assert_eq!(args.metrics_bind_address, Bind::Any(8443));
        assert_eq!(args.health_probe_bind_address, Bind::Any(8081));
        assert_eq!(args.image_update_strategy, ImageUpdateStrategy::Immediate);
        assert_eq!(args.kubeconfig, None);
    }

    #[test]
    fn switches_take_a_value_or_none() {
        let args = parse(&[
            "--leader-elect",
            "--metrics-secure=false",
            "--image-update-strategy=lazy",
        ])
        .unwrap();
        assert!(args.leader_elect && !args.metrics_secure);
        assert!(!parse(&["--leader-elect=false"]).unwrap().leader_elect);
    }

    #[test]
    fn addresses() {
        for (text, bind) in [
            ("0", Some(Bind::Off)),
            (":8443", Some(Bind::Any(8443))),
            ("127.0.0.1:0", Some(Bind::At("127.0.0.1:0".to_owned()))),
            ("[::1]:1", Some(Bind::At("[::1]:1".to_owned()))),
            ("8443", None),
            (":port", None),
            (":70000", None),
        ] {
            assert_eq!(text.parse::<Bind>().ok(), bind, "{text}");
        }
    }

    #[test]
    fn durations_are_humane_and_bounded() {
        assert_eq!(
            parse(&["--lease-duration=1m30s"]).unwrap().lease_duration,
            Duration::from_secs(90)
        );
        for bad in ["15", "1s", "-15s", "soon"] {
            assert!(
                parse(&[&format!("--lease-duration={bad}")]).is_err(),
                "{bad}"
            );
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> Result<Environment, String> {
        Environment::from_variables(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
            "node",
            7,
        )
    }

    #[test]
    fn namespace_and_account_are_mandatory() {
        assert!(environment(&[]).unwrap_err().contains("POD_NAMESPACE"));
        assert!(
            environment(&[("POD_NAMESPACE", "a"), ("POD_SERVICE_ACCOUNT", "")])
                .unwrap_err()
                .contains("POD_SERVICE_ACCOUNT")
        );
    }

    #[test]
    fn the_holder_is_the_pod_then_its_name_then_host_and_process() {
        let base = [
            ("POD_NAMESPACE", "a"),
            ("POD_SERVICE_ACCOUNT", "b"),
            ("MULTIGRES_IMAGE_ETCD", "e:1"),
            ("HOME", "/"),
        ];
        let plain = environment(&base).unwrap();
        assert_eq!(
            (plain.identity.as_str(), plain.name.as_str()),
            ("node_7", "node")
        );
        assert_eq!(
            plain.defaults,
            BTreeMap::from([("MULTIGRES_IMAGE_ETCD".to_owned(), "e:1".to_owned())])
        );
        let named = environment(&[&base[..], &[("POD_NAME", "p")]].concat()).unwrap();
        assert_eq!((named.identity.as_str(), named.name.as_str()), ("p", "p"));
        let known =
            environment(&[&base[..], &[("POD_NAME", "p"), ("POD_UID", "u")]].concat()).unwrap();
        assert_eq!((known.identity.as_str(), known.name.as_str()), ("u", "p"));
    }
}
