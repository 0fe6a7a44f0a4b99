//! Volumes of etcd members. The StatefulSet makes the claims and its template for them can never change, so what can follow the
//! spec on running members is done on the claims themselves, and the rest is told (L-PVC-08).

use serde_json::Value;

use crate::action::Action;
use crate::entry::Entry;
use crate::labels::MANAGED_BY;
use crate::object::{Desired, Key, Kind};
use crate::plan::Plan;
use crate::volume;

const TEMPLATES: &str = "/spec/volumeClaimTemplates";
const SIZE: &str = "/0/spec/resources/requests/storage";

/// Leaves the number of members as it is: etcd was bootstrapped with it. Says so when the spec wants another one.
pub fn hold(server: &mut crds::TopoServer, existing: Option<&Entry>) -> Option<String> {
    let running = existing.and_then(bootstrapped)?;
    let etcd = server.spec.etcd.get_or_insert_default();
    if i64::from(etcd.replicas.unwrap_or(3)) == running {
        return None;
    }
    etcd.replicas = i32::try_from(running).ok();
    Some(format!(
        "etcd keeps its {running} members: their number is fixed when it is made"
    ))
}

/// The storage class that the volumes name.
pub fn class(server: &crds::TopoServer) -> Option<String> {
    server.spec.etcd.as_ref()?.storage.as_ref()?.class.clone()
}

/// The members that the pods were told of when they were made. `spec.replicas` may be anybody's by now: members beyond these
/// never join, and fewer of them lose the quorum.
fn bootstrapped(set: &Entry) -> Option<i64> {
    let spec = set.comparable();
    let containers = spec.pointer("/spec/template/spec/containers");
    let mut variables = containers
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|container| container.get("env")?.as_array())
        .flatten();
    let named = |variable: &&Value| {
        variable.get("name").and_then(Value::as_str) == Some("ETCD_INITIAL_CLUSTER")
    };
    let members = variables
        .find(named)
        .and_then(|variable| variable.get("value")?.as_str())
        .and_then(|members| i64::try_from(members.split(',').count()).ok());
    members.or_else(|| number(set, "/spec/replicas"))
}

fn number(entry: &Entry, pointer: &str) -> Option<i64> {
    entry.comparable().pointer(pointer)?.as_i64()
}

/// Puts the template in force in place of the wanted one where they differ, or the server would refuse the whole StatefulSet.
pub fn keep_template(desired: &mut Desired, existing: &Entry) {
    let observed = existing.comparable().pointer(TEMPLATES).map(plain);
    if let (Some(mut observed), Some(wanted)) = (observed, desired.body.pointer(TEMPLATES)) {
        same_size(&mut observed, wanted);
        if observed != *wanted {
            desired.body.edit(|body| {
                if let Some(wanted) = body.pointer_mut(TEMPLATES) {
                    *wanted = observed;
                }
            });
        }
    }
}

/// The server prints quantities its own way: `1024Mi` comes back as `1Gi`.
fn same_size(observed: &mut Value, wanted: &Value) {
    let amount = |value: &Value| value.as_str().and_then(crds::quantity::quantity);
    if let (Some(found), Some(wanted)) = (observed.pointer_mut(SIZE), wanted.pointer(SIZE))
        && amount(found).is_some()
        && amount(found) == amount(wanted)
    {
        *found = wanted.clone();
    }
}

/// Claim templates as we would send them: without what the server fills in.
fn plain(templates: &Value) -> Value {
    let mut templates = templates.clone();
    for template in templates.as_array_mut().into_iter().flatten() {
        if let Some(map) = template.as_object_mut() {
            map.remove("status");
            map.insert("apiVersion".into(), "v1".into());
            map.insert("kind".into(), "PersistentVolumeClaim".into());
        }
        for (part, filled) in [("metadata", "creationTimestamp"), ("spec", "volumeMode")] {
            if let Some(map) = template.get_mut(part).and_then(Value::as_object_mut) {
                map.remove(filled);
            }
        }
    }
    templates
}

/// The claims of the members are as the spec says: owned as the volume policy wants it, and of the wanted size. Claims that
/// the Go operator's StatefulSets made carry none of our labels; they are asked for by name, and labelled. `wanted` is the
/// StatefulSet as rendered from the spec, `set` the one that is there.
pub fn keep_claims<S>(plan: &mut Plan<'_, S>, wanted: &Desired, set: &Entry) {
    let Some(template) = wanted.body.pointer(TEMPLATES).and_then(|all| all.get(0)) else {
        return;
    };
    let members = number(set, "/status/replicas").or_else(|| number(set, "/spec/replicas"));
    let in_force = set.comparable();
    let labelled = in_force
        .pointer(TEMPLATES)
        .and_then(|templates| templates.pointer("/0/metadata/labels"))
        .is_some_and(|labels| labels.get(MANAGED_BY).is_some());
    for index in 0..members.unwrap_or_default() {
        let name = format!("data-{}-{index}", set.key().name);
        let key = Key::new(Kind::PersistentVolumeClaim, &set.key().namespace, &name);
        let Some(claim) = plan.observed.get(&key).cloned() else {
            if !labelled {
                let why = "a claim that carries none of our labels";
                plan.decision.act(why, Action::Read { key });
            }
            continue;
        };
        let desired = Desired {
            key,
            body: template.clone().into(),
        };
        if !claim.deleting && plan.mend(&desired) {
            volume::resize(plan, &claim, &desired);
        }
    }
}
