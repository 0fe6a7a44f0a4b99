//! What Kubernetes tells of the Services that users reach from outside (`lifecycle.md` 17).

use crds::resolve::ResolvedCluster;
use serde_json::{Map, Value, json};

use super::decide::State;
use crate::entry::Entry;
use crate::health::Replicas;
use crate::object::{Desired, Key, Kind};
use crate::plan::Plan;
use crate::status::Condition;
use crate::topology::current;

/// Adds fields and conditions of what is exposed. Of what is not, both go.
pub fn tell(
    plan: &Plan<'_, State>,
    wanted: &[Desired],
    resolved: &ResolvedCluster,
    fields: &mut Map<String, Value>,
    conditions: &mut Vec<Condition>,
) {
    let me = plan.observed.me.key();
    let find = |kind, suffix: &str| {
        let name = format!("{}-{suffix}", me.name);
        plan.observed.get(&Key::new(kind, &me.namespace, &name))
    };
    if resolved.external_gateway.is_some() {
        let endpoint = endpoint(find(Kind::Service, "multigateway").map(AsRef::as_ref));
        conditions.push(verdict(
            "GatewayExternalReady",
            &endpoint,
            ready_gateways(plan, wanted),
            ("NoReadyGateways", "no gateway is Ready"),
        ));
        fields.insert("gateway".into(), json!({"externalEndpoint": endpoint}));
    }
    if resolved.external_admin_web.is_some() {
        let endpoint = endpoint(find(Kind::Service, "multiadmin-web").map(AsRef::as_ref));
        conditions.push(verdict(
            "AdminWebExternalReady",
            &endpoint,
            Replicas::of(find(Kind::Deployment, "multiadmin-web")).ready,
            ("NoReadyAdminWeb", "no pod of the admin web is Ready"),
        ));
        fields.insert("adminWeb".into(), json!({"externalEndpoint": endpoint}));
    }
}

/// Ready gateways of the wanted cells whose status is current.
fn ready_gateways(plan: &Plan<'_, State>, wanted: &[Desired]) -> i64 {
    wanted
        .iter()
        .filter(|desired| desired.key.kind == Kind::Cell)
        .filter_map(|desired| plan.observed.get(&desired.key))
        .filter(|cell| current(&cell.status_value(), cell.generation))
        .map(|cell| cell.status_number("gatewayReadyReplicas"))
        .sum()
}

fn verdict(
    kind: &'static str,
    endpoint: &str,
    ready: i64,
    (nobody, text): (&str, &str),
) -> Condition {
    if endpoint.is_empty() {
        let text = "the Service has no external address yet";
        return Condition::new(kind, false, "AwaitingEndpoint", text);
    }
    if ready == 0 {
        return Condition::new(kind, false, nobody, text);
    }
    Condition::new(
        kind,
        true,
        "EndpointReady",
        format!("reachable at {endpoint}"),
    )
}

/// The first external address of a Service, else the first a load balancer gave it: a host name before an address.
pub fn endpoint(service: Option<&Entry>) -> String {
    let Some(service) = service else {
        return String::new();
    };
    let spec = service.comparable();
    let given = spec.pointer("/spec/externalIPs/0").and_then(Value::as_str);
    let status = service.status_value();
    let balancer = |field: &str| {
        let ingress = status.pointer("/loadBalancer/ingress")?.as_array()?;
        ingress
            .iter()
            .find_map(|one| one.get(field)?.as_str().filter(|text| !text.is_empty()))
    };
    given
        .or_else(|| balancer("hostname"))
        .or_else(|| balancer("ip"))
        .unwrap_or_default()
        .to_owned()
}
