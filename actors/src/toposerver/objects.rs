//! The objects of a TopoServer: an etcd StatefulSet, its two Services and its disruption budget.

use crds::TopoServer;
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Affinity, Container, PersistentVolumeClaim, PodAffinityTerm, PodAntiAffinity, PodSpec,
    PodTemplateSpec, Service, ServiceSpec, WeightedPodAffinityTerm,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::labels::{self, Map};
use crate::object::{Desired, Kind};
use crate::workload::{
    self, Owner, RenderError, env, env_field, mount, port, probes, service_port,
};

/// Port for clients.
pub const CLIENT_PORT: i32 = 2379;
const PEER_PORT: i32 = 2380;
const METRICS_PORT: i32 = 2381;
const DATA_DIR: &str = "/var/lib/etcd";

/// Renders StatefulSet, headless Service, client Service and budget.
///
/// # Errors
/// When the TopoServer is not one from the API server.
pub fn render(server: &TopoServer) -> Result<Vec<Desired>, RenderError> {
    let owner = Owner::new(Kind::TopoServer, &server.metadata)?;
    let own = labels::merged(
        Some(&owner.labels),
        labels::standard(owner.cluster()?, "toposerver", &[]),
    );
    let selector = labels::selector(&own);
    // Members of this server only: the selector of the StatefulSet also matches members of a cell's own etcd.
    let member = Map::from([(labels::TOPO_SERVER.to_owned(), owner.name.clone())]);
    let members = labels::merged(Some(&selector), member.clone());
    let pods = labels::merged(Some(&own), member);
    Ok(vec![
        Desired::from_typed(
            Kind::StatefulSet,
            &stateful_set(server, &owner, &own, selector, pods, &members),
        )?,
        Desired::from_typed(Kind::Service, &peers(&owner, &own, &members))?,
        Desired::from_typed(Kind::Service, &clients(&owner, &own, members.clone()))?,
        Desired::from_typed(Kind::PodDisruptionBudget, &budget(&owner, &own, members))?,
    ])
}

fn stateful_set(
    server: &TopoServer,
    owner: &Owner,
    own: &Map,
    selector: Map,
    pods: Map,
    members: &Map,
) -> StatefulSet {
    let etcd = server.spec.etcd.clone().unwrap_or_default();
    let replicas = etcd.replicas.unwrap_or(3);
    let storage = etcd.storage.clone().unwrap_or_default();
    let claim = workload::claim_spec(
        storage.size.as_deref().unwrap_or("10Gi"),
        storage.class.as_deref(),
        &storage.access_modes,
    );
    let policy = server.spec.pvc_deletion_policy.as_ref();
    // A StatefulSet may be replaced while its cluster lives, so volumes never go with it (L-PVC-08). They go with the
    // TopoServer, by owner reference, where the policy says so.
    let retention = StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(retain_or_delete(false)),
        when_scaled: Some(retain_or_delete(workload::deleted_with_pod(policy))),
    };
    let images = server.spec.images.clone().unwrap_or_default();
    let container = Container {
        name: "etcd".to_owned(),
        image: Some(
            etcd.image
                .clone()
                .unwrap_or_else(|| crds::image::ETCD.to_owned()),
        ),
        image_pull_policy: workload::text(&images.image_pull_policy),
        env: Some(environment(owner, replicas)),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("metrics", METRICS_PORT),
        ]),
        resources: etcd.resources.clone(),
        volume_mounts: Some(vec![mount("data", DATA_DIR)]),
        // The image runs as root; the data directory of existing members belongs to it.
        security_context: Some(workload::confined()),
        ..Container::default()
    };
    StatefulSet {
        metadata: owner.child(&owner.name, own.clone()),
        spec: Some(StatefulSetSpec {
            service_name: Some(headless_name(&owner.name)),
            replicas: Some(replicas),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(retention),
            selector: LabelSelector {
                match_labels: Some(selector),
                match_expressions: None,
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pods),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    containers: vec![probes("/livez", "/readyz", METRICS_PORT).on(container)],
                    affinity: Some(apart(members)),
                    tolerations: server
                        .spec
                        .placement
                        .as_ref()
                        .and_then(|p| workload::listed(p.tolerations.clone())),
                    image_pull_secrets: workload::listed(images.image_pull_secrets),
                    automount_service_account_token: Some(false),
                    security_context: Some(workload::pod_security()),
                    ..PodSpec::default()
                }),
            },
            volume_claim_templates: Some(vec![PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some("data".to_owned()),
                    labels: Some(claim_labels(&owner.name)),
                    owner_references: workload::deleted_with_owner(policy)
                        .then(|| vec![claim_owner(owner)]),
                    ..ObjectMeta::default()
                },
                spec: Some(claim),
                status: None,
            }]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// Labels of members' claims beside those of the selector, which the StatefulSet controller adds: without them our informers
/// and label-scoped tools would not see the claims (`workloads.md` T33).
pub fn claim_labels(server: &str) -> Map {
    Map::from([
        (
            labels::MANAGED_BY.to_owned(),
            "multigres-operator".to_owned(),
        ),
        (labels::TOPO_SERVER.to_owned(), server.to_owned()),
    ])
}

/// The reference by which a claim goes with its TopoServer. No controller reference: the StatefulSet controller keeps its hands
/// off claims that somebody else controls, and `whenScaled` is its work.
pub fn claim_owner(owner: &Owner) -> OwnerReference {
    OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..owner.reference()
    }
}

/// One member at a time, so that draining nodes does not take the quorum (`workloads.md` T41).
fn budget(owner: &Owner, own: &Map, members: Map) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owner.child(format!("{}-pdb", owner.name), own.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(members),
                match_expressions: None,
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// Members on different nodes where possible, so that draining one node does not take the quorum.
fn apart(members: &Map) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: PodAffinityTerm {
                        label_selector: Some(LabelSelector {
                            match_labels: Some(members.clone()),
                            match_expressions: None,
                        }),
                        topology_key: "kubernetes.io/hostname".to_owned(),
                        ..PodAffinityTerm::default()
                    },
                },
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn environment(owner: &Owner, replicas: i32) -> Vec<k8s_openapi::api::core::v1::EnvVar> {
    let (name, headless) = (&owner.name, headless_name(&owner.name));
    let own =
        |port| format!("http://$(POD_NAME).{headless}.$(POD_NAMESPACE).svc.cluster.local:{port}");
    let any = |port| format!("http://[::]:{port}");
    let members: Vec<String> = (0..replicas)
        .map(|i| {
            format!(
                "{name}-{i}=http://{name}-{i}.{headless}.{}.svc.cluster.local:{PEER_PORT}",
                owner.namespace
            )
        })
        .collect();
    vec![
        env_field("POD_NAME", "metadata.name"),
        env_field("POD_NAMESPACE", "metadata.namespace"),
        env("ETCD_NAME", "$(POD_NAME)"),
        env("ETCD_DATA_DIR", DATA_DIR),
        env("ETCD_LISTEN_CLIENT_URLS", any(CLIENT_PORT)),
        env("ETCD_LISTEN_PEER_URLS", any(PEER_PORT)),
        env("ETCD_LISTEN_METRICS_URLS", any(METRICS_PORT)),
        env("ETCD_ADVERTISE_CLIENT_URLS", own(CLIENT_PORT)),
        env("ETCD_INITIAL_ADVERTISE_PEER_URLS", own(PEER_PORT)),
        env("ETCD_INITIAL_CLUSTER_STATE", "new"),
        env("ETCD_INITIAL_CLUSTER_TOKEN", name.clone()),
        env("ETCD_INITIAL_CLUSTER", members.join(",")),
    ]
}

fn peers(owner: &Owner, own: &Map, members: &Map) -> Service {
    let ports = vec![
        service_port("client", CLIENT_PORT),
        service_port("peer", PEER_PORT),
    ];
    let service = workload::headless(
        owner.child(headless_name(&owner.name), own.clone()),
        members.clone(),
        ports,
    );
    dual_stack(service)
}

fn clients(owner: &Owner, own: &Map, members: Map) -> Service {
    let ports = vec![service_port("client", CLIENT_PORT)];
    dual_stack(workload::service(
        owner.child(&owner.name, own.clone()),
        members,
        ports,
    ))
}

fn dual_stack(service: Service) -> Service {
    let spec = service.spec.unwrap_or_default();
    Service {
        spec: Some(ServiceSpec {
            ip_family_policy: Some("PreferDualStack".to_owned()),
            ..spec
        }),
        ..service
    }
}

/// The Service that names the members.
pub fn headless_name(server: &str) -> String {
    format!("{server}-headless")
}

fn retain_or_delete(delete: bool) -> String {
    if delete { "Delete" } else { "Retain" }.to_owned()
}
