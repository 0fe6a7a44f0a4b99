//! Random manifests and templates made of the inventory's entries.

use std::sync::LazyLock;

use crds::resolve::Templates;
use crds::sample::Samples;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{OLD_IMAGES, templates};

/// The schema tables.
pub static SAMPLES: LazyLock<Samples> = LazyLock::new(|| Samples::new().unwrap());
/// Kinds of templates.
pub const TEMPLATES: [&str; 3] = ["CoreTemplate", "CellTemplate", "ShardTemplate"];

/// An edit of one field: set to one of its values, or removed with everything below an ancestor.
#[derive(Clone, Debug)]
pub struct Edit {
    path: &'static str,
    how: usize,
    up: usize,
}

impl Edit {
    /// Does it.
    pub fn apply(&self, kind: &str, object: &mut Value) {
        if self.how < 2 {
            let values = SAMPLES.values(kind, self.path).unwrap();
            SAMPLES.set(kind, object, self.path, values[self.how].clone());
            return;
        }
        // Remove the field, or an object around it.
        let apart = self.path.replace("[]", ".[]").replace("{}", ".{}");
        let steps: Vec<&str> = apart.split('.').collect();
        let keep = steps.len().saturating_sub(self.up).max(2);
        // Names are keys of lists, and the flags `default` are demanded with them (CEL-16 to CEL-18).
        if !matches!(steps[keep - 1], "name" | "default") {
            remove(object, &steps[..keep]);
        }
    }
}

/// Removes the member; elements of lists and maps are left where their list or map is.
pub fn remove(object: &mut Value, steps: &[&str]) {
    match steps {
        [last] if !matches!(*last, "[]" | "{}") => {
            object.as_object_mut().and_then(|map| map.remove(*last));
        }
        ["[]", rest @ ..] => {
            for element in object.as_array_mut().into_iter().flatten() {
                remove(element, rest);
            }
        }
        ["{}", rest @ ..] => {
            for (_, element) in object.as_object_mut().into_iter().flatten() {
                remove(element, rest);
            }
        }
        [first, rest @ ..] => {
            if let Some(member) = object.get_mut(*first) {
                remove(member, rest);
            }
        }
        [] => {}
    }
}

/// Edits of any field of a kind.
pub fn edit(kind: &'static str) -> impl Strategy<Value = Edit> {
    let paths: Vec<&'static str> = SAMPLES.leaves(kind).collect();
    (proptest::sample::select(paths), 0_usize..3, 0_usize..4).prop_map(|(path, how, up)| Edit {
        path,
        how,
        up,
    })
}

fn object(kind: &'static str, edits: usize) -> impl Strategy<Value = Value> {
    vec(edit(kind), 0..edits).prop_map(move |edits| {
        let mut object = SAMPLES.base(kind);
        for edit in edits {
            edit.apply(kind, &mut object);
        }
        object
    })
}

/// A manifest, sometimes with a record of older images and a second table group.
pub fn cluster() -> impl Strategy<Value = Value> {
    (object("MultigresCluster", 12), any::<bool>(), any::<bool>()).prop_map(|(mut cluster, recorded, second)| {
        if recorded {
            cluster["metadata"]["annotations"] = json!({"multigres.com/applied-images": OLD_IMAGES});
        }
        let groups = cluster.pointer_mut("/spec/databases/0/tablegroups").and_then(Value::as_array_mut);
        if let Some(groups) = groups.filter(|_| second) {
            groups.push(json!({"name": "second", "backup": {"type": "s3", "s3": {"bucket": "b", "region": "r"}}}));
        }
        cluster
    })
}

/// Templates of all kinds, some of them under the name that clusters use without saying so.
pub fn world() -> impl Strategy<Value = Templates> {
    let one = |kind: &'static str| {
        (
            object(kind, 6),
            proptest::sample::select(vec!["alpha", "beta", "default"]),
        )
            .prop_map(|(mut object, name)| {
                object["metadata"]["name"] = json!(name);
                object
            })
    };
    let all = TEMPLATES.map(|kind| vec(one(kind), 0..3));
    all.prop_map(|lists| templates(&lists.concat()))
}
