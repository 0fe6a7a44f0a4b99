//! What a stand-in needs to know of a pod.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

/// What runs in a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// A member of an etcd.
    TopoServer,
    /// multipooler and pgctld.
    Pool,
    /// A coordinator.
    Orch,
    /// A gateway.
    Gateway,
    /// The admin server.
    Admin,
    /// The admin server's web pages.
    AdminWeb,
}

impl Role {
    /// The role by the component label.
    pub fn parse(component: &str) -> Option<Self> {
        Some(match component {
            "toposerver" => Self::TopoServer,
            "shard-pool" => Self::Pool,
            "multiorch" => Self::Orch,
            "multigateway" => Self::Gateway,
            "multiadmin" => Self::Admin,
            "multiadmin-web" => Self::AdminWeb,
            _ => return None,
        })
    }
}

/// A pod that is placed and has an address.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// What runs in it.
    pub role: Role,
    /// Identity.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The name under which other pods know it.
    pub host: String,
    /// Flags of the main container.
    pub flags: BTreeMap<String, String>,
    /// Variables of the main container.
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Mount path of the main container → volume.
    pub mounts: BTreeMap<String, Volume>,
    /// Claim of the data volume.
    pub claim: Option<String>,
    /// Path of the readiness probe of the main container.
    pub probe: String,
    /// Time for an orderly stop.
    pub grace: Duration,
}

impl PodSpec {
    /// Reads a pod; nothing when it is none of ours, has no address yet or has none in IPv4.
    pub fn read(pod: &Pod) -> Option<Self> {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let role = Role::parse(labels.get("app.kubernetes.io/component")?)?;
        let spec = pod.spec.as_ref()?;
        let address: Ipv4Addr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        let (name, namespace) = (pod.metadata.name.clone()?, pod.metadata.namespace.clone()?);
        let main = spec.containers.first()?;
        let expand = Expand {
            name: &name,
            namespace: &namespace,
            address,
            env: BTreeMap::new(),
        };
        let expand = expand.with(main);
        let volumes: BTreeMap<&str, &Volume> = spec
            .volumes
            .iter()
            .flatten()
            .map(|volume| (volume.name.as_str(), volume))
            .collect();
        // pgctld mounts files that multipooler does not.
        let containers = spec.init_containers.iter().flatten().chain([main]);
        let mounts = containers
            .flat_map(|container| container.volume_mounts.iter().flatten())
            .filter_map(|mount| {
                let volume = volumes.get(mount.name.as_str())?;
                Some((mount.mount_path.clone(), (*volume).clone()))
            })
            .collect::<BTreeMap<_, _>>();
        let claim = mounts
            .values()
            .filter(|volume| volume.name == "pgdata" || volume.name == "data")
            .find_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()));
        let probe = main.readiness_probe.as_ref();
        let probe = probe.and_then(|probe| probe.http_get.as_ref()?.path.clone());
        Some(Self {
            role,
            uid: pod.metadata.uid.clone()?,
            host: host(pod, &name, &namespace),
            flags: flags(&expand, main),
            env: expand.env,
            address,
            labels,
            mounts,
            claim,
            probe: probe.unwrap_or_else(|| "/ready".to_owned()),
            grace: Duration::from_secs(
                u64::try_from(spec.termination_grace_period_seconds.unwrap_or(30)).unwrap_or(30),
            ),
            name,
            namespace,
        })
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// A flag, or its default.
    pub fn flag(&self, name: &str, default: &str) -> String {
        self.flags
            .get(name)
            .cloned()
            .unwrap_or_else(|| default.to_owned())
    }

    /// A flag that is a port.
    pub fn port(&self, name: &str, default: u16) -> u16 {
        self.flags
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    }

    /// A flag that is a duration as Go writes them.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        parse_duration(self.flags.get(name)?)
    }
}

fn host(pod: &Pod, name: &str, namespace: &str) -> String {
    let subdomain = pod.spec.as_ref().and_then(|spec| spec.subdomain.as_ref());
    match subdomain {
        Some(subdomain) => format!("{name}.{subdomain}.{namespace}.svc.cluster.local"),
        None => name.to_owned(),
    }
}

struct Expand<'a> {
    name: &'a str,
    namespace: &'a str,
    address: Ipv4Addr,
    env: BTreeMap<String, String>,
}

impl Expand<'_> {
    fn with(mut self, container: &Container) -> Self {
        for variable in container.env.iter().flatten() {
            let field = variable
                .value_from
                .as_ref()
                .and_then(|from| from.field_ref.as_ref())
                .map(|field| match field.field_path.as_str() {
                    "metadata.name" => self.name.to_owned(),
                    "metadata.namespace" => self.namespace.to_owned(),
                    "status.podIP" => self.address.to_string(),
                    _ => String::new(),
                });
            let value = field.or_else(|| variable.value.as_ref().map(|value| self.text(value)));
            if let Some(value) = value {
                self.env.insert(variable.name.clone(), value);
            }
        }
        self
    }

    /// Replaces `$(NAME)`.
    fn text(&self, text: &str) -> String {
        let replaced = |text: String, (name, value): (&String, &String)| {
            text.replace(&format!("$({name})"), value)
        };
        self.env.iter().fold(text.to_owned(), replaced)
    }
}

/// Flags in all the forms in which they are written: `--a=b`, `--a b`, `--a`.
fn flags(expand: &Expand<'_>, container: &Container) -> BTreeMap<String, String> {
    let args = container.command.iter().chain(&container.args).flatten();
    let args: Vec<String> = args.map(|text| expand.text(text)).collect();
    let mut flags = BTreeMap::new();
    let mut rest = args.iter().peekable();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix("--") else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = rest.next_if(|next| !next.starts_with("--"));
                (flag, value.map_or_else(|| "true".to_owned(), Clone::clone))
            }
        };
        flags.insert(name.to_owned(), value);
    }
    flags
}

/// A duration such as `1m30s`, `500ms`, `0`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() && rest != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = next;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_read() {
        let pod = json!({
            "metadata": {
                "name": "p-0", "namespace": "db", "uid": "u",
                "labels": {"app.kubernetes.io/component": "shard-pool"},
            },
            "spec": {
                "subdomain": "pods",
                "terminationGracePeriodSeconds": 60,
                "containers": [{
                    "name": "multipooler",
                    "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "args": ["multipooler", "--cell", "a", "--hostname=$(POD_IP)", "--tls", "--http-port", "15200"],
                    "volumeMounts": [{"name": "pgdata", "mountPath": "/var/lib/pooler"}],
                    "readinessProbe": {"httpGet": {"path": "/live", "port": 15200}},
                }],
                "volumes": [{"name": "pgdata", "persistentVolumeClaim": {"claimName": "data-p-0"}}],
            },
            "status": {"podIP": "127.33.0.7"},
        });
        let spec = PodSpec::read(&serde_json::from_value(pod).unwrap()).unwrap();
        assert_eq!(spec.role, Role::Pool);
        assert_eq!(spec.host, "p-0.pods.db.svc.cluster.local");
        assert_eq!(spec.flag("cell", ""), "a");
        assert_eq!(spec.flag("hostname", ""), "127.33.0.7");
        assert_eq!(spec.flag("tls", ""), "true");
        assert_eq!(spec.port("http-port", 0), 15200);
        assert_eq!(spec.claim.as_deref(), Some("data-p-0"));
        assert_eq!(
            (spec.probe.as_str(), spec.grace),
            ("/live", Duration::from_secs(60))
        );
    }

    #[test]
    fn durations_of_go() {
        for (text, seconds) in [
            ("500ms", 0.5),
            ("1m30s", 90.0),
            ("5m", 300.0),
            ("0", 0.0),
            ("1.5h", 5400.0),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_secs_f64(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("5 apples"), None);
    }
}
