//! The admin workloads of a MultigresCluster.

use crds::MultigresCluster;
use crds::resolve::ResolvedCluster;
use k8s_openapi::api::core::v1::{Container, EnvVar};

use super::objects::exposed;
use crate::cell::objects::PG_PORT;
use crate::labels;
use crate::object::{Desired, Kind};
use crate::secrets::Needed;
use crate::tls::Tls;
use crate::workload::{
    self, Owner, Placement, Pull, RenderError, Stateless, env, env_secret, listed, numbered_port,
    pod_ip, port, probes,
};

const ADMIN_HTTP: i32 = 18000;
/// Where multiadmin serves gRPC.
pub const ADMIN_GRPC: i32 = 18070;
const ADMIN_TLS_DIR: &str = "/etc/multiadmin/tls";
const WEB_HTTP: i32 = 18100;

fn pull(resolved: &ResolvedCluster) -> Pull {
    Pull {
        policy: Some(resolved.image_pull_policy.clone()),
        secrets: listed(resolved.image_pull_secrets.clone()),
    }
}

/// The Secrets that multiadmin mounts.
pub fn secrets(resolved: &ResolvedCluster, owner: &Owner) -> Vec<Needed> {
    tls(resolved, owner).secrets
}

fn tls(resolved: &ResolvedCluster, owner: &Owner) -> Tls {
    let mut tls = Tls::default();
    if resolved.internal_tls {
        tls.mesh(
            ("multiadmin", &owner.name, &owner.namespace),
            ("tls-certs", ADMIN_TLS_DIR),
        );
    }
    tls.store(&resolved.topology_ref);
    tls
}

/// The admin API: Deployment and Service.
///
/// # Errors
/// When one cannot be serialised.
pub fn multiadmin(resolved: &ResolvedCluster, owner: &Owner) -> Result<[Desired; 2], RenderError> {
    let name = format!("{}-multiadmin", owner.name);
    let own = labels::standard(&owner.name, "multiadmin", &[(labels::CLUSTER, &owner.name)]);
    let telemetry = workload::telemetry(resolved.observability.as_ref(), None);
    let tls = tls(resolved, owner);
    let mut args = vec![
        format!("--http-port={ADMIN_HTTP}"),
        format!("--grpc-port={ADMIN_GRPC}"),
        format!(
            "--topo-global-server-addresses={}",
            resolved.topology_ref.address
        ),
        format!("--topo-global-root={}", resolved.topology_ref.root_path),
        // The admin API is off without it.
        "--service-map=grpc-multiadmin".to_owned(),
        "--pprof-http=true".to_owned(),
        format!(
            "--log-level={}",
            resolved.log_levels.multiadmin.as_deref().unwrap_or("info")
        ),
        "--hostname=$(POD_IP)".to_owned(),
    ];
    args.extend(tls.args);
    let container = Container {
        name: "multiadmin".to_owned(),
        image: resolved.images.multiadmin.clone(),
        command: Some(vec!["/multigres/bin/multiadmin".to_owned()]),
        args: Some(args),
        env: Some(std::iter::once(pod_ip()).chain(telemetry.env).collect()),
        ports: Some(vec![port("http", ADMIN_HTTP), port("grpc", ADMIN_GRPC)]),
        resources: resolved.multiadmin.resources.clone(),
        security_context: Some(workload::unprivileged(None, None)),
        volume_mounts: listed(telemetry.mount.into_iter().chain(tls.mounts).collect()),
        ..Container::default()
    };
    let deployment = Stateless {
        metadata: owner.child(name.clone(), own.clone()),
        replicas: resolved.multiadmin.replicas.unwrap_or(1),
        exclusive: false,
        pod_labels: Some(resolved.multiadmin.pod_labels.clone()),
        pod_annotations: Some(resolved.multiadmin.pod_annotations.clone()),
        placement: Placement {
            nodes: None,
            affinity: resolved.multiadmin.affinity.clone(),
            tolerations: listed(resolved.multiadmin_placement.tolerations.clone()),
        },
        pull: pull(resolved),
        container: probes("/live", "/ready", ADMIN_HTTP).on(container),
        volumes: telemetry.volume.into_iter().chain(tls.volumes).collect(),
    };
    let ports = vec![
        numbered_port("http", ADMIN_HTTP),
        numbered_port("grpc", ADMIN_GRPC),
    ];
    let service = workload::service(
        owner.child(name, own.clone()),
        labels::selector(&own),
        ports,
    );
    Ok([
        Desired::from_typed(Kind::Deployment, &deployment.build())?,
        Desired::from_typed(Kind::Service, &service)?,
    ])
}

/// The admin web: Deployment and Service, which can be exposed.
///
/// # Errors
/// When one cannot be serialised.
pub fn web(
    cluster: &MultigresCluster,
    resolved: &ResolvedCluster,
    owner: &Owner,
) -> Result<[Desired; 2], RenderError> {
    let name = format!("{}-multiadmin-web", owner.name);
    let own = labels::standard(
        &owner.name,
        "multiadmin-web",
        &[(labels::CLUSTER, &owner.name)],
    );
    let password = &cluster.spec.postgres_password_secret_ref;
    let variables: Vec<EnvVar> = vec![
        env("HOSTNAME", "::"),
        env(
            "MULTIADMIN_API_URL",
            format!("http://{}-multiadmin:{ADMIN_HTTP}", owner.name),
        ),
        env("POSTGRES_HOST", format!("{}-multigateway", owner.name)),
        env("POSTGRES_PORT", PG_PORT.to_string()),
        env("POSTGRES_DATABASE", "postgres"),
        env("POSTGRES_USER", resolved.superuser.clone()),
        // Without it the web falls back to a literal password (trap T9).
        env_secret("POSTGRES_PASSWORD", &password.name, &password.key),
    ];
    let container = Container {
        name: "multiadmin-web".to_owned(),
        image: resolved.images.multiadmin_web.clone(),
        env: Some(variables),
        ports: Some(vec![port("http", WEB_HTTP)]),
        resources: resolved.multiadmin_web.resources.clone(),
        // The image's user `nextjs` has this number (`workloads.md` 2.8); a name alone would not pass runAsNonRoot.
        security_context: Some(workload::unprivileged(Some(1001), None)),
        ..Container::default()
    };
    let deployment = Stateless {
        metadata: owner.child(name.clone(), own.clone()),
        replicas: resolved.multiadmin_web.replicas.unwrap_or(1),
        exclusive: false,
        pod_labels: Some(resolved.multiadmin_web.pod_labels.clone()),
        pod_annotations: Some(resolved.multiadmin_web.pod_annotations.clone()),
        placement: Placement {
            affinity: resolved.multiadmin_web.affinity.clone(),
            ..Placement::default()
        },
        pull: pull(resolved),
        container: probes("/", "/", WEB_HTTP).on(container),
        volumes: Vec::new(),
    };
    let ports = vec![numbered_port("http", WEB_HTTP)];
    let service = workload::service(
        owner.child(name, own.clone()),
        labels::selector(&own),
        ports,
    );
    Ok([
        Desired::from_typed(Kind::Deployment, &deployment.build())?,
        Desired::from_typed(
            Kind::Service,
            &exposed(service, resolved.external_admin_web.as_ref()),
        )?,
    ])
}
