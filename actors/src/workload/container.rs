//! Parts of a container: ports, probes, rights, variables, mounts and the volumes behind them.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, ObjectFieldSelector, PodSecurityContext, Probe, SeccompProfile,
    SecretKeySelector, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::strings;

/// Mode of Secrets that any user in the pod may read.
pub const READABLE: i32 = 0o444;

/// A container port.
pub fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// The three probes of a container with an HTTP port.
pub struct Probes {
    /// 150 seconds to come up.
    pub startup: Probe,
    /// Restarts the container.
    pub liveness: Probe,
    /// Takes it out of Services.
    pub readiness: Probe,
}

/// Startup and liveness ask whether the process serves at all; only readiness may depend on its peers, or a slow peer
/// would get it killed.
pub fn probes(alive: &str, ready: &str, port: i32) -> Probes {
    let probe = |path: &str, period, failures| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: failures,
        ..Probe::default()
    };
    Probes {
        startup: probe(alive, 5, Some(30)),
        liveness: probe(alive, 10, None),
        readiness: probe(ready, 5, None),
    }
}

impl Probes {
    /// Puts the probes on a container.
    pub fn on(self, container: Container) -> Container {
        Container {
            startup_probe: Some(self.startup),
            liveness_probe: Some(self.liveness),
            readiness_probe: Some(self.readiness),
            ..container
        }
    }
}

/// What every container is denied. Identity is added where it is known as a number.
pub fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(strings(["ALL"])),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

/// A confined container whose image names its user by number, or gets one here.
pub fn unprivileged(user: Option<i64>, group: Option<i64>) -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: user,
        run_as_group: group,
        ..confined()
    }
}

/// The security context of every pod.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// A plain variable.
pub fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        value_from: None,
    }
}

/// A variable from a field of the pod.
pub fn env_field(name: &str, path: &str) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector {
        field_path: path.to_owned(),
        api_version: None,
    });
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref,
            ..EnvVarSource::default()
        }),
    }
}

/// A variable from a key of a Secret.
pub fn env_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let secret_key_ref = Some(SecretKeySelector {
        name: secret.to_owned(),
        key: key.to_owned(),
        optional: None,
    });
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref,
            ..EnvVarSource::default()
        }),
    }
}

/// The address under which a component without a stable name registers itself (`--hostname=$(POD_IP)`).
pub fn pod_ip() -> EnvVar {
    env_field("POD_IP", "status.podIP")
}

/// A mount.
pub fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// A read-only mount.
pub fn mount_ro(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount(volume, path)
    }
}

/// A volume with a Secret.
pub fn secret_volume(name: &str, secret: &str, mode: i32, items: Option<Vec<KeyToPath>>) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(mode),
            items,
            optional: None,
        }),
        ..Volume::default()
    }
}

/// A volume with a ConfigMap.
pub fn config_volume(name: &str, config: &str, items: Option<Vec<KeyToPath>>) -> Volume {
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config.to_owned(),
            items,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A key of a Secret or ConfigMap as a file.
pub fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        mode: None,
    }
}
