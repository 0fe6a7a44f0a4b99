//! What a TopoServer needs next.

use std::collections::BTreeSet;
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::Value;

use super::{objects, status, volumes};
use crate::action::Decision;
use crate::entry::Entry;
use crate::labels::{INSTANCE, TOPO_SERVER};
use crate::object::{Desired, Key, Kind};
use crate::plan::Plan;
use crate::room::Observed;
pub use crate::status::State;
use crate::storage_class;

/// The decision of a TopoServerActor.
pub fn decide(observed: &Observed, state: &State, now: Timestamp) -> Decision<State> {
    let mut plan = Plan::new(observed, state.clone(), now);
    if observed.me.deleting {
        return plan.decision;
    }
    let mut wanted = Vec::new();
    let mut held = None;
    let mut classes = BTreeSet::new();
    let key = Key::new(
        Kind::StatefulSet,
        &observed.me.key().namespace,
        &observed.me.key().name,
    );
    let existing = plan.in_place(&key);
    match observed.me.typed::<crds::TopoServer>() {
        Err(error) => plan.unbuildable(&error),
        Ok(mut server) => {
            held = volumes::hold(&mut server, existing.map(Rc::as_ref));
            classes.extend(volumes::class(&server));
            match objects::render(&server) {
                Err(error) => plan.unbuildable(&error),
                Ok(objects) => wanted = objects,
            }
            if let Some(set) = existing {
                for desired in wanted.iter_mut().filter(|desired| desired.key == key) {
                    volumes::keep_claims(&mut plan, desired, set);
                    volumes::keep_template(desired, set);
                }
            }
        }
    }
    if existing.is_some_and(|set| unlabelled(observed, set)) {
        wanted.iter_mut().for_each(widen);
    }
    storage_class::refer(&mut plan.decision, &classes);
    // Its claims come with the StatefulSet.
    let class = classes.first().map(String::as_str);
    let may_start = existing.is_some() || storage_class::usable(&mut plan, class);
    for desired in wanted
        .iter()
        .filter(|desired| may_start || desired.key != key)
    {
        plan.keep(desired.clone());
    }
    plan.refusals();
    let computed = status::compute(&plan, &wanted, held.as_deref(), &classes);
    plan.conclude(computed)
}

/// Members that the Go operator started do not carry the label by which ours are told from those of other stores.
fn unlabelled(observed: &Observed, set: &Entry) -> bool {
    let members = observed.group.iter().filter(|entry| {
        entry.key().kind == Kind::Pod && entry.owner.as_deref() == Some(set.uid.as_ref())
    });
    members
        .into_iter()
        .any(|pod| pod.label(TOPO_SERVER).is_none())
}

/// While such members run, the Services select them too: members must go on finding each other while they are replaced.
fn widen(desired: &mut Desired) {
    if desired.key.kind != Kind::Service {
        return;
    }
    desired.body.edit(|body| {
        let selector = body.pointer_mut("/spec/selector");
        if let Some(selector) = selector.and_then(Value::as_object_mut)
            && selector.contains_key(INSTANCE)
        {
            selector.remove(TOPO_SERVER);
        }
    });
}
