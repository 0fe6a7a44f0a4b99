//! The parts of Kubernetes objects that we write, under Kubernetes' names, and only the fields we set.
//!
//! Every decision renders all objects of its room, and most are found unchanged. So they borrow from the custom resource and
//! from constants, and their fields are in the order of the manifest's keys, in which they are written (`canonical`). What the
//! user gives whole, such as resources or affinity, is passed on as `k8s_openapi` has it. That everything here is a field of
//! Kubernetes is shown by the golden tests, which read each object as its type there.
#![allow(missing_docs, reason = "the fields are Kubernetes' own")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration,
};
use serde::Serialize;

use crate::labels::{Labels, Map};

/// Text that is borrowed or made for the purpose.
pub type Text<'a> = Cow<'a, str>;

/// Declares shapes. A field without a value is left out: `canonical` leaves out nulls, and an empty list or map sent by apply
/// would claim the field.
macro_rules! shapes {
    ($(
        $(#[$about:meta])*
        $name:ident $(<$life:lifetime>)? {
            $($(#[$attribute:meta])* $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name $(<$life>)? {
            $($(#[$attribute])* pub $field: $type,)*
        }
    )*};
}

// What every object has.
shapes! {
    ObjectMeta<'a> {
        #[serde(skip_serializing_if = "Labels::is_empty")]
        annotations: Labels<'a>,
        #[serde(skip_serializing_if = "Labels::is_empty")]
        labels: Labels<'a>,
        name: Option<Text<'a>>,
        namespace: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        owner_references: Vec<OwnerReference<'a>>,
    }

    OwnerReference<'a> {
        api_version: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        block_owner_deletion: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        controller: Option<bool>,
        kind: &'a str,
        name: &'a str,
        uid: &'a str,
    }

    LabelSelector<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        match_expressions: Vec<LabelSelectorRequirement<'a>>,
        match_labels: Labels<'a>,
    }

    LabelSelectorRequirement<'a> {
        key: &'a str,
        operator: &'a str,
        values: &'a [&'a str],
    }

    /// A strategy that is told by its name.
    Strategy<'a> {
        #[serde(rename = "type")]
        type_: &'a str,
    }
}

// Workloads.
shapes! {
    DeploymentSpec<'a> {
        replicas: i32,
        selector: LabelSelector<'a>,
        strategy: Option<Strategy<'a>>,
        template: PodTemplateSpec<'a>,
    }

    StatefulSetSpec<'a> {
        persistent_volume_claim_retention_policy: RetentionPolicy<'a>,
        pod_management_policy: &'a str,
        replicas: i32,
        selector: LabelSelector<'a>,
        service_name: &'a str,
        template: PodTemplateSpec<'a>,
        update_strategy: Strategy<'a>,
        volume_claim_templates: Vec<PersistentVolumeClaim<'a>>,
    }

    /// `StatefulSetPersistentVolumeClaimRetentionPolicy`.
    RetentionPolicy<'a> {
        when_deleted: &'a str,
        when_scaled: &'a str,
    }

    PodTemplateSpec<'a> {
        metadata: ObjectMeta<'a>,
        spec: PodSpec<'a>,
    }

    PodDisruptionBudgetSpec<'a> {
        max_unavailable: Option<i32>,
        min_available: Option<i32>,
        selector: LabelSelector<'a>,
    }
}

// Pods.
shapes! {
    PodSpec<'a> {
        affinity: Option<&'a Affinity>,
        automount_service_account_token: bool,
        containers: Vec<Container<'a>>,
        hostname: Option<&'a str>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        image_pull_secrets: &'a [LocalObjectReference],
        #[serde(skip_serializing_if = "Vec::is_empty")]
        init_containers: Vec<Container<'a>>,
        node_selector: Option<Nodes<'a>>,
        security_context: PodSecurityContext<'a>,
        service_account_name: Option<&'a str>,
        subdomain: Option<&'a str>,
        termination_grace_period_seconds: Option<u32>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        tolerations: &'a [Toleration],
        #[serde(skip_serializing_if = "Vec::is_empty")]
        volumes: Vec<Volume<'a>>,
    }

    PodSecurityContext<'a> {
        fs_group: Option<i64>,
        fs_group_change_policy: Option<&'a str>,
        seccomp_profile: Option<SeccompProfile<'a>>,
    }

    SeccompProfile<'a> {
        #[serde(rename = "type")]
        type_: &'a str,
    }

    Container<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        args: Vec<Text<'a>>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        command: &'a [&'a str],
        #[serde(skip_serializing_if = "Vec::is_empty")]
        env: Vec<EnvVar<'a>>,
        image: Option<&'a str>,
        image_pull_policy: Option<&'a str>,
        liveness_probe: Option<Probe<'a>>,
        name: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ports: Vec<ContainerPort<'a>>,
        readiness_probe: Option<Probe<'a>>,
        resources: Option<&'a ResourceRequirements>,
        restart_policy: Option<&'a str>,
        security_context: SecurityContext<'a>,
        startup_probe: Option<Probe<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        volume_mounts: Vec<VolumeMount<'a>>,
    }

    EnvVar<'a> {
        name: &'a str,
        value: Option<Text<'a>>,
        value_from: Option<EnvVarSource<'a>>,
    }

    EnvVarSource<'a> {
        field_ref: Option<ObjectFieldSelector<'a>>,
        secret_key_ref: Option<SecretKeySelector<'a>>,
    }

    ObjectFieldSelector<'a> {
        field_path: &'a str,
    }

    SecretKeySelector<'a> {
        key: &'a str,
        name: &'a str,
    }

    ContainerPort<'a> {
        container_port: i32,
        name: &'a str,
        protocol: &'a str,
    }

    Probe<'a> {
        failure_threshold: Option<i32>,
        http_get: HTTPGetAction<'a>,
        period_seconds: i32,
    }

    HTTPGetAction<'a> {
        path: &'a str,
        port: i32,
    }

    SecurityContext<'a> {
        allow_privilege_escalation: bool,
        capabilities: Capabilities<'a>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        run_as_user: Option<i64>,
    }

    Capabilities<'a> {
        drop: &'a [&'a str],
    }
}

// Volumes.
shapes! {
    VolumeMount<'a> {
        mount_path: &'a str,
        name: &'a str,
        read_only: Option<bool>,
    }

    Volume<'a> {
        config_map: Option<ConfigMapVolumeSource<'a>>,
        empty_dir: Option<EmptyDirVolumeSource>,
        name: &'a str,
        persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource<'a>>,
        projected: Option<ProjectedVolumeSource<'a>>,
        secret: Option<SecretVolumeSource<'a>>,
    }

    ConfigMapVolumeSource<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        items: Vec<KeyToPath<'a>>,
        name: Text<'a>,
    }

    EmptyDirVolumeSource {}

    PersistentVolumeClaimVolumeSource<'a> {
        claim_name: Text<'a>,
    }

    ProjectedVolumeSource<'a> {
        default_mode: i32,
        sources: Vec<VolumeProjection<'a>>,
    }

    VolumeProjection<'a> {
        secret: SecretProjection<'a>,
    }

    SecretProjection<'a> {
        items: Vec<KeyToPath<'a>>,
        name: Text<'a>,
    }

    SecretVolumeSource<'a> {
        default_mode: i32,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        items: Vec<KeyToPath<'a>>,
        secret_name: Text<'a>,
    }

    KeyToPath<'a> {
        key: &'a str,
        path: &'a str,
    }

    /// The template of a StatefulSet's claim.
    PersistentVolumeClaim<'a> {
        api_version: &'a str,
        kind: &'a str,
        metadata: ObjectMeta<'a>,
        spec: PersistentVolumeClaimSpec<'a>,
    }

    PersistentVolumeClaimSpec<'a> {
        access_modes: Vec<&'a str>,
        resources: VolumeResourceRequirements<'a>,
        storage_class_name: Option<&'a str>,
    }

    VolumeResourceRequirements<'a> {
        requests: Labels<'a>,
    }
}

// Services.
shapes! {
    ServiceSpec<'a> {
        #[serde(rename = "clusterIP")]
        cluster_ip: Option<&'a str>,
        #[serde(rename = "externalIPs", skip_serializing_if = "<[_]>::is_empty")]
        external_ips: &'a [String],
        ip_family_policy: Option<&'a str>,
        ports: Vec<ServicePort<'a>>,
        publish_not_ready_addresses: Option<bool>,
        selector: Labels<'a>,
        #[serde(rename = "type")]
        type_: Option<&'a str>,
    }

    ServicePort<'a> {
        name: &'a str,
        port: i32,
        protocol: &'a str,
        target_port: TargetPort<'a>,
    }
}

/// The container port a Service port leads to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TargetPort<'a> {
    Number(i32),
    Name(&'a str),
}

impl Default for TargetPort<'_> {
    fn default() -> Self {
        TargetPort::Number(0)
    }
}

/// `nodeSelector`: the user's own labels of nodes, or one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Nodes<'a> {
    Labels(&'a Map),
    Label(BTreeMap<&'a str, &'a str>),
}
