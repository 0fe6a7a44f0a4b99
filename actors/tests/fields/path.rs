//! From a place in an object to the entry of the tables that describes it.

use std::collections::BTreeMap;

use crds::sample::CHILD_KINDS;
use crds::schema::Field;

/// True when `inner` is a member of `outer`, at any depth.
pub fn below(outer: &str, inner: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.starts_with(['.', '[', '{']))
}

/// The type of every entry, by kind and path.
pub struct Paths(BTreeMap<(String, String), String>);

impl Paths {
    /// From the tables.
    pub fn new(fields: &[Field]) -> Self {
        let entry = |field: &Field| ((field.kind.clone(), field.path.clone()), field.of.clone());
        Self(fields.iter().map(entry).collect())
    }

    /// The entry at a place of an output, such as `/Shard sample-1/spec/pools/main/type`; None outside of children's specs.
    pub fn child(&self, place: &str) -> Option<(&'static str, String)> {
        let mut steps = place.split('/').skip(1);
        let (of, _) = steps.next()?.split_once(' ')?;
        let kind = CHILD_KINDS.into_iter().find(|kind| *kind == of)?;
        let mut path = steps.next().filter(|first| *first == "spec")?.to_owned();
        for step in steps {
            match self.0.get(&(kind.to_owned(), path.clone()))?.as_str() {
                "array" => path.push_str("[]"),
                "map" => path.push_str("{}"),
                "object" => path = format!("{path}.{step}"),
                // Inside a type of Kubernetes, which is one entry.
                _ => break,
            }
        }
        Some((kind, path))
    }
}
