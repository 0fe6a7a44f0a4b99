//! The objects of a TopoServer: an etcd StatefulSet, its two Services and its disruption budget.

use crds::TopoServer;
use k8s_openapi::api::core::v1::{
    Affinity, PodAffinityTerm, PodAntiAffinity, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;

use crate::labels::{self, Labels};
use crate::object::{Desired, Kind};
use crate::shape::{
    Container, EnvVar, LabelSelector, ObjectMeta, OwnerReference, PersistentVolumeClaim,
    PodDisruptionBudgetSpec, PodSpec, PodTemplateSpec, RetentionPolicy, ServiceSpec,
    StatefulSetSpec, Strategy,
};
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
        labels::borrowed(owner.labels),
        labels::standard(owner.cluster()?, "toposerver", &[]),
    );
    let selector = labels::selector(&own);
    // Members of this server only: the selector of the StatefulSet also matches members of a cell's own etcd.
    let member = Labels::from([(labels::TOPO_SERVER, owner.name)]);
    let members = labels::merged(selector.clone(), member.clone());
    let pods = labels::merged(own.clone(), member);
    Ok(vec![
        stateful_set(server, &owner, &own, selector, pods, &members)?,
        peers(&owner, &own, &members)?,
        clients(&owner, &own, &members)?,
        budget(&owner, own, members)?,
    ])
}

fn stateful_set<'a>(
    server: &'a TopoServer,
    owner: &Owner<'a>,
    own: &Labels<'a>,
    selector: Labels<'a>,
    pods: Labels<'a>,
    members: &Labels<'a>,
) -> Result<Desired, RenderError> {
    let etcd = server.spec.etcd.as_ref();
    let replicas = etcd.and_then(|etcd| etcd.replicas).unwrap_or(3);
    let claim = workload::claim_spec(etcd.and_then(|etcd| etcd.storage.as_ref()), "10Gi");
    let policy = server.spec.pvc_deletion_policy.as_ref();
    // A StatefulSet may be replaced while its cluster lives, so volumes never go with it (L-PVC-08). They go with the
    // TopoServer, by owner reference, where the policy says so.
    let retention = RetentionPolicy {
        when_deleted: retain_or_delete(false),
        when_scaled: retain_or_delete(workload::deleted_with_pod(policy)),
    };
    let images = server.spec.images.as_ref();
    let image = etcd.and_then(|etcd| etcd.image.as_deref());
    let container = Container {
        name: "etcd",
        image: Some(image.unwrap_or(crds::image::ETCD)),
        image_pull_policy: images.and_then(|images| workload::text(&images.image_pull_policy)),
        env: environment(owner, replicas),
        ports: vec![
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("metrics", METRICS_PORT),
        ],
        resources: etcd.and_then(|etcd| etcd.resources.as_ref()),
        volume_mounts: vec![mount("data", DATA_DIR)],
        // The image runs as root; the data directory of existing members belongs to it.
        security_context: workload::confined(),
        ..Container::default()
    };
    let service_name = headless_name(owner.name);
    let affinity = apart(members);
    let spec = StatefulSetSpec {
        service_name: &service_name,
        replicas,
        pod_management_policy: "Parallel",
        update_strategy: Strategy {
            type_: "RollingUpdate",
        },
        persistent_volume_claim_retention_policy: retention,
        selector: LabelSelector {
            match_labels: selector,
            ..LabelSelector::default()
        },
        template: PodTemplateSpec {
            metadata: ObjectMeta {
                labels: pods,
                ..ObjectMeta::default()
            },
            spec: PodSpec {
                containers: vec![probes("/livez", "/readyz", METRICS_PORT).on(container)],
                affinity: Some(&affinity),
                tolerations: workload::tolerations(server.spec.placement.as_ref()),
                image_pull_secrets: images.map_or(&[], |images| &images.image_pull_secrets),
                automount_service_account_token: false,
                security_context: workload::pod_security(),
                ..PodSpec::default()
            },
        },
        volume_claim_templates: vec![PersistentVolumeClaim {
            api_version: Kind::PersistentVolumeClaim.api_version(),
            kind: Kind::PersistentVolumeClaim.name(),
            metadata: ObjectMeta {
                name: Some("data".into()),
                labels: claim_labels(owner.name),
                owner_references: workload::deleted_with_owner(policy)
                    .then(|| claim_owner(owner))
                    .into_iter()
                    .collect(),
                ..ObjectMeta::default()
            },
            spec: claim,
        }],
    };
    let metadata = owner.child(owner.name, own.clone());
    Ok(Desired::new(Kind::StatefulSet, &metadata, &spec)?)
}

/// Labels of members' claims beside those of the selector, which the StatefulSet controller adds: without them our informers
/// and label-scoped tools would not see the claims (`workloads.md` T33).
pub fn claim_labels(server: &str) -> Labels<'_> {
    Labels::from([
        (labels::MANAGED_BY, "multigres-operator"),
        (labels::TOPO_SERVER, server),
    ])
}

/// The reference by which a claim goes with its TopoServer. No controller reference: the StatefulSet controller keeps its hands
/// off claims that somebody else controls, and `whenScaled` is its work.
pub fn claim_owner<'a>(owner: &Owner<'a>) -> OwnerReference<'a> {
    OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..owner.reference()
    }
}

/// One member at a time, so that draining nodes does not take the quorum (`workloads.md` T41).
fn budget<'a>(
    owner: &Owner<'a>,
    own: Labels<'a>,
    members: Labels<'a>,
) -> Result<Desired, RenderError> {
    let metadata = owner.child(format!("{}-pdb", owner.name), own);
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(1),
        selector: LabelSelector {
            match_labels: members,
            ..LabelSelector::default()
        },
        ..PodDisruptionBudgetSpec::default()
    };
    Ok(Desired::new(Kind::PodDisruptionBudget, &metadata, &spec)?)
}

/// Members on different nodes where possible, so that draining one node does not take the quorum.
fn apart(members: &Labels<'_>) -> Affinity {
    let members = members.iter();
    let members = members.map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: PodAffinityTerm {
                        label_selector: Some(Selector {
                            match_labels: Some(members.collect()),
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

fn environment<'a>(owner: &Owner<'a>, replicas: i32) -> Vec<EnvVar<'a>> {
    let (name, headless) = (owner.name, headless_name(owner.name));
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
        env("ETCD_INITIAL_CLUSTER_TOKEN", name),
        env("ETCD_INITIAL_CLUSTER", members.join(",")),
    ]
}

fn peers<'a>(
    owner: &Owner<'a>,
    own: &Labels<'a>,
    members: &Labels<'a>,
) -> Result<Desired, RenderError> {
    let ports = vec![
        service_port("client", CLIENT_PORT),
        service_port("peer", PEER_PORT),
    ];
    let metadata = owner.child(headless_name(owner.name), own.clone());
    let spec = dual_stack(workload::headless(members.clone(), ports));
    Ok(Desired::new(Kind::Service, &metadata, &spec)?)
}

fn clients<'a>(
    owner: &Owner<'a>,
    own: &Labels<'a>,
    members: &Labels<'a>,
) -> Result<Desired, RenderError> {
    let ports = vec![service_port("client", CLIENT_PORT)];
    let metadata = owner.child(owner.name, own.clone());
    let spec = dual_stack(workload::service(members.clone(), ports));
    Ok(Desired::new(Kind::Service, &metadata, &spec)?)
}

fn dual_stack(spec: ServiceSpec<'_>) -> ServiceSpec<'_> {
    ServiceSpec {
        ip_family_policy: Some("PreferDualStack"),
        ..spec
    }
}

/// The Service that names the members.
pub fn headless_name(server: &str) -> String {
    format!("{server}-headless")
}

const fn retain_or_delete(delete: bool) -> &'static str {
    if delete { "Delete" } else { "Retain" }
}
