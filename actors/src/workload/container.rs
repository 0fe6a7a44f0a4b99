//! Parts of a container: ports, probes, rights, variables, mounts and the volumes behind them.

use crate::shape::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, ObjectFieldSelector, PodSecurityContext, Probe, SeccompProfile,
    SecretKeySelector, SecretVolumeSource, SecurityContext, Text, Volume, VolumeMount,
};

/// Mode of Secrets that any user in the pod may read.
pub const READABLE: i32 = 0o444;

/// A container port.
pub fn port(name: &str, number: i32) -> ContainerPort<'_> {
    ContainerPort {
        name,
        container_port: number,
        protocol: "TCP",
    }
}

/// The three probes of a container with an HTTP port.
pub struct Probes<'a> {
    /// 150 seconds to come up.
    pub startup: Probe<'a>,
    /// Restarts the container.
    pub liveness: Probe<'a>,
    /// Takes it out of Services.
    pub readiness: Probe<'a>,
}

/// Startup and liveness ask whether the process serves at all; only readiness may depend on its peers, or a slow peer
/// would get it killed.
pub fn probes<'a>(alive: &'a str, ready: &'a str, port: i32) -> Probes<'a> {
    let probe = |path, period_seconds, failure_threshold| Probe {
        http_get: HTTPGetAction { path, port },
        period_seconds,
        failure_threshold,
    };
    Probes {
        startup: probe(alive, 5, Some(30)),
        liveness: probe(alive, 10, None),
        readiness: probe(ready, 5, None),
    }
}

impl<'a> Probes<'a> {
    /// Puts the probes on a container.
    pub fn on(self, container: Container<'a>) -> Container<'a> {
        Container {
            startup_probe: Some(self.startup),
            liveness_probe: Some(self.liveness),
            readiness_probe: Some(self.readiness),
            ..container
        }
    }
}

/// What every container is denied. Identity is added where it is known as a number.
pub fn confined() -> SecurityContext<'static> {
    SecurityContext {
        allow_privilege_escalation: false,
        capabilities: Capabilities { drop: &["ALL"] },
        ..SecurityContext::default()
    }
}

/// A confined container whose image names its user by number, or gets one here.
pub fn unprivileged(user: Option<i64>, group: Option<i64>) -> SecurityContext<'static> {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: user,
        run_as_group: group,
        ..confined()
    }
}

/// The security context of every pod.
pub fn pod_security() -> PodSecurityContext<'static> {
    PodSecurityContext {
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault",
        }),
        ..PodSecurityContext::default()
    }
}

/// A plain variable.
pub fn env<'a>(name: &'a str, value: impl Into<Text<'a>>) -> EnvVar<'a> {
    EnvVar {
        name,
        value: Some(value.into()),
        value_from: None,
    }
}

/// A variable from a field of the pod.
pub fn env_field<'a>(name: &'a str, field_path: &'a str) -> EnvVar<'a> {
    EnvVar {
        name,
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path }),
            secret_key_ref: None,
        }),
    }
}

/// A variable from a key of a Secret.
pub fn env_secret<'a>(name: &'a str, secret: &'a str, key: &'a str) -> EnvVar<'a> {
    EnvVar {
        name,
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: None,
            secret_key_ref: Some(SecretKeySelector { name: secret, key }),
        }),
    }
}

/// The address under which a component without a stable name registers itself (`--hostname=$(POD_IP)`).
pub fn pod_ip() -> EnvVar<'static> {
    env_field("POD_IP", "status.podIP")
}

/// A mount.
pub fn mount<'a>(volume: &'a str, path: &'a str) -> VolumeMount<'a> {
    VolumeMount {
        name: volume,
        mount_path: path,
        read_only: None,
    }
}

/// A read-only mount.
pub fn mount_ro<'a>(volume: &'a str, path: &'a str) -> VolumeMount<'a> {
    VolumeMount {
        read_only: Some(true),
        ..mount(volume, path)
    }
}

/// A volume with a Secret.
pub fn secret_volume<'a>(
    name: &'a str,
    secret: impl Into<Text<'a>>,
    mode: i32,
    items: Vec<KeyToPath<'a>>,
) -> Volume<'a> {
    Volume {
        name,
        secret: Some(SecretVolumeSource {
            secret_name: secret.into(),
            default_mode: mode,
            items,
        }),
        ..Volume::default()
    }
}

/// A volume with a ConfigMap.
pub fn config_volume<'a>(
    name: &'a str,
    config: impl Into<Text<'a>>,
    items: Vec<KeyToPath<'a>>,
) -> Volume<'a> {
    Volume {
        name,
        config_map: Some(ConfigMapVolumeSource {
            name: config.into(),
            items,
        }),
        ..Volume::default()
    }
}

/// A key of a Secret or ConfigMap as a file.
pub fn item<'a>(key: &'a str, path: &'a str) -> KeyToPath<'a> {
    KeyToPath { key, path }
}
