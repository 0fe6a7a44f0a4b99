//! The hash that decides whether a pool pod has drifted (`workloads.md` 8).
//!
//! It covers what we own and what only a new pod can deliver. Probes, ports, labels and other annotations are applied to
//! the next pod that is made for another reason, and so are the time limits we chose ourselves.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::labels;
use crate::shard::postgres_config::hex;

/// Raised when the meaning of the hash changes; pods with another version count as drifted.
const VERSION: &str = "v1";

/// Flags with values of our choosing: a better value is no reason to restart a fleet.
const CHOSEN: [&str; 4] = [
    "--onterm-timeout=",
    "--onclose-timeout=",
    "--lameduck-period=",
    "--postgres-unrecoverable-timeout=",
];

/// The hash of a desired pod.
///
/// # Errors
/// When the pod cannot be serialised.
pub fn of(pod: &Pod) -> Result<String, serde_json::Error> {
    let spec = pod.spec.as_ref();
    let containers = |list: &[Container]| list.iter().map(container).collect::<Result<Vec<_>, _>>();
    let covered = json!({
        "initContainers": containers(spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default())?,
        "containers": containers(spec.map(|s| s.containers.as_slice()).unwrap_or_default())?,
        "volumes": spec.and_then(|s| s.volumes.as_ref()),
        "affinity": spec.and_then(|s| s.affinity.as_ref()),
        "tolerations": spec.and_then(|s| s.tolerations.as_ref()),
        "nodeSelector": spec.and_then(|s| s.node_selector.as_ref()),
        "serviceAccountName": spec.and_then(|s| s.service_account_name.as_ref()),
        "securityContext": spec.and_then(|s| s.security_context.as_ref()),
        "configHash": pod.metadata.annotations.as_ref().and_then(|a| a.get(labels::CONFIG_HASH)),
    });
    let mut text = String::new();
    canonical(&covered, &mut text);
    let digest = hex(&Sha256::digest(text.as_bytes()));
    Ok(format!("{VERSION}-{}", digest.get(..12).unwrap_or(&digest)))
}

fn container(container: &Container) -> Result<Value, serde_json::Error> {
    let args: Vec<&String> = container
        .args
        .iter()
        .flatten()
        .filter(|arg| CHOSEN.iter().all(|flag| !arg.starts_with(flag)))
        .collect();
    Ok(json!({
        "name": container.name,
        "image": container.image,
        "command": container.command,
        "args": args,
        "env": serde_json::to_value(&container.env)?,
        "envFrom": serde_json::to_value(&container.env_from)?,
        "resources": serde_json::to_value(&container.resources)?,
        "volumeMounts": serde_json::to_value(&container.volume_mounts)?,
        "securityContext": serde_json::to_value(&container.security_context)?,
    }))
}

/// JSON with sorted keys; null, empty lists and empty maps count as absent.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, v)| !absent(v)).collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            text.push('{');
            for (key, value) in entries {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                canonical(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(list) => {
            text.push('[');
            for value in list {
                canonical(value, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// `emptyDir: {}` must stay, so only maps directly under a pod or container could be absent; those are never empty here.
fn absent(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, Probe};

    use super::*;

    fn pod(args: &[&str]) -> Pod {
        let container = Container {
            name: "a".into(),
            args: Some(args.iter().map(|a| (*a).to_owned()).collect()),
            ..Container::default()
        };
        Pod {
            spec: Some(PodSpec {
                containers: vec![container],
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn covers_arguments_but_not_the_limits_we_chose() {
        let base = of(&pod(&["x"])).unwrap();
        assert!(base.starts_with("v1-") && base.len() == 15, "{base}");
        assert_eq!(
            base,
            of(&pod(&["x", "--onterm-timeout=5s", "--lameduck-period=1s"])).unwrap()
        );
        assert_ne!(base, of(&pod(&["x", "--log-level=debug"])).unwrap());
    }

    #[test]
    fn leaves_out_probes_grace_and_labels() {
        let base = of(&pod(&["x"])).unwrap();
        let mut other = pod(&["x"]);
        let spec = other.spec.as_mut().unwrap();
        spec.termination_grace_period_seconds = Some(5);
        spec.hostname = Some("h".into());
        spec.containers[0].liveness_probe = Some(Probe::default());
        other.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        other.metadata.annotations =
            Some([(labels::RELOAD_HASH.to_owned(), "x".to_owned())].into());
        assert_eq!(base, of(&other).unwrap());
        other.metadata.annotations =
            Some([(labels::CONFIG_HASH.to_owned(), "x".to_owned())].into());
        assert_ne!(base, of(&other).unwrap());
    }
}
