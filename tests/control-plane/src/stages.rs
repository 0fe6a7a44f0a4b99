//! What kwok is told to do, and the nodes that it plays.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::{api::core::v1::Node, api::storage::v1::StorageClass};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, PostParams},
    core::GroupVersionKind,
    runtime::watcher,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    plane::{DEADLINE, Pods},
    wait,
};

const DEFINITION: &str = include_str!("../stages/crd.yaml");
const STAGES: &str = include_str!("../stages/stages.yaml");
const STORAGE_CLASS: &str = include_str!("../stages/storage-class.yaml");
const ZONES: [&str; 3] = ["a", "b", "c"];

/// The stages for a plane whose pods behave so.
pub(crate) fn texts(pods: Pods) -> Vec<String> {
    let plain = STAGES.split("\n---\n").skip(1);
    let mut texts: Vec<String> = plain.clone().map(|text| fill(text, pods, true)).collect();
    if pods == Pods::StandIn {
        let ready = plain.filter(|text| text.contains("  name: pod-ready\n"));
        let started = ready.map(|text| text.replace("name: pod-ready", "name: pod-started"));
        texts.extend(started.map(|text| fill(&text, pods, false)));
    }
    texts
}

/// Fills a stage in: for pods that kwok plays alone, or for those that the stand-in makes ready and deletes.
fn fill(text: &str, pods: Pods, alone: bool) -> String {
    let operated = match pods {
        Pods::Instant => "nobody",
        Pods::StandIn => "multigres-operator",
    };
    text.replace("@OPERATOR@", if alone { "NotIn" } else { "In" })
        .replace("@OPERATED@", operated)
        .replace("@READY@", if alone { "\"True\"" } else { "\"False\"" })
        .replace("@RUNNING@", if alone { "true" } else { "false" })
}

/// The kind Stage of kwok.
pub(crate) fn api(client: Client) -> Api<DynamicObject> {
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("kwok.x-k8s.io", "v1alpha1", "Stage"));
    Api::all_with(client, &resource)
}

pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    Ok(serde_saphyr::from_str(text)?)
}

/// Creates a custom resource definition and waits until its kind is served.
pub(crate) async fn define(client: &Client, text: &str) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition: CustomResourceDefinition = parse(text)?;
    let made = definitions
        .create(&PostParams::default(), &definition)
        .await?;
    let description = format!("the kind {}", made.spec.names.kind);
    wait::object(
        definitions,
        &made.name_any(),
        &description,
        DEADLINE,
        |definition| {
            let conditions = definition
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True")
        },
    )
    .await?;
    Ok(())
}

/// Installs the kind Stage, the stages and the default storage class.
pub(crate) async fn install(client: &Client, pods: Pods) -> anyhow::Result<()> {
    define(client, DEFINITION).await?;
    let stages = api(client.clone());
    for text in texts(pods) {
        stages
            .create(&PostParams::default(), &parse(&text)?)
            .await?;
    }
    let classes: Api<StorageClass> = Api::all(client.clone());
    classes
        .create(&PostParams::default(), &parse(STORAGE_CLASS)?)
        .await?;
    Ok(())
}

/// Creates the nodes, `node-<zone>-<index>`, and waits until they take pods.
pub(crate) async fn nodes(client: &Client, per_zone: usize) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    for zone in ZONES {
        for index in 0..per_zone {
            nodes
                .create(
                    &PostParams::default(),
                    &serde_json::from_value(node(zone, index))?,
                )
                .await?;
        }
    }
    let count = per_zone * ZONES.len();
    wait::objects(
        nodes,
        watcher::Config::default(),
        &format!("{count} nodes"),
        DEADLINE,
        |known| (known.values().filter(|node| usable(node)).count() == count).then_some(()),
    )
    .await
}

fn node(zone: &str, index: usize) -> serde_json::Value {
    let name = format!("node-{zone}-{index}");
    let room =
        json!({ "cpu": "10k", "memory": "10Ti", "pods": "100k", "ephemeral-storage": "100Ti" });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": { "kwok.x-k8s.io/node": "fake" },
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/region": "us-central1",
                "topology.kubernetes.io/zone": format!("zone-{zone}"),
                "topology.k8s.aws/zone-id": format!("us-central1-{zone}"),
            },
        },
        "status": { "allocatable": room, "capacity": room },
    })
}

fn usable(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    ready && taints.is_none_or(Vec::is_empty)
}
