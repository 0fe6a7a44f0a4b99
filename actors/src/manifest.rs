//! What is sent of an object: its text, and the tree for those who look into it.

use std::ops::Deref;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::canonical;

/// A manifest. It is kept as canonical text: most are made to be hashed and found unchanged. It reads as a [`Value`], which
/// is made when somebody first asks for it.
#[derive(Debug)]
pub struct Manifest {
    text: Box<str>,
    tree: OnceLock<Value>,
}

impl Manifest {
    /// The manifest of a typed object, without nulls, since apply would claim those fields.
    ///
    /// # Errors
    /// When the object cannot be serialised: a bug in a builder.
    pub fn of(object: &impl Serialize) -> Result<Self, serde_json::Error> {
        canonical::text_without_nulls(object).map(Self::from_text)
    }

    fn from_text(text: impl Into<Box<str>>) -> Self {
        Self {
            text: text.into(),
            tree: OnceLock::new(),
        }
    }

    /// The canonical text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// 16 hex digits of SHA-256 over the text.
    pub fn hash(&self) -> String {
        crds::digest::sha256(&self.text, 16)
    }

    /// `metadata` alone; the rest of a large object is not made into a tree for it.
    pub fn metadata(&self) -> Value {
        #[derive(Deserialize)]
        struct Head {
            metadata: Value,
        }
        serde_json::from_str(&self.text).map_or(Value::Null, |head: Head| head.metadata)
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<String> {
        self.mark("annotations", name)
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<String> {
        self.mark("labels", name)
    }

    fn mark(&self, among: &str, name: &str) -> Option<String> {
        let metadata = self.metadata();
        Some(metadata.get(among)?.get(name)?.as_str()?.to_owned())
    }

    /// Sets an annotation. `pointer` leads to the metadata it belongs to: the object's own, or that of its pods.
    pub fn annotate(&mut self, pointer: &str, name: &str, value: &str) {
        self.edit(|tree| {
            let metadata = tree.pointer_mut(pointer).and_then(Value::as_object_mut);
            let annotations = metadata
                .map(|metadata| metadata.entry("annotations"))
                .map(|entry| entry.or_insert_with(|| Value::Object(Map::new())))
                .and_then(Value::as_object_mut);
            if let Some(annotations) = annotations {
                annotations.insert(name.to_owned(), value.into());
            }
        });
    }

    /// Changes the content.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut tree = self.tree.take().unwrap_or_else(|| parse(&self.text));
        change(&mut tree);
        *self = tree.into();
    }
}

impl Deref for Manifest {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.tree.get_or_init(|| parse(&self.text))
    }
}

fn parse(text: &str) -> Value {
    // Text that we made of JSON is JSON.
    serde_json::from_str(text).unwrap_or_default()
}

/// A copy is text: most are sent, and nobody looks into them.
impl Clone for Manifest {
    fn clone(&self) -> Self {
        Self::from_text(self.text.clone())
    }
}

impl From<Value> for Manifest {
    fn from(tree: Value) -> Self {
        // A tree is always JSON.
        Self::from_text(canonical::text(&tree).unwrap_or_default())
    }
}

impl From<Manifest> for Value {
    fn from(manifest: Manifest) -> Self {
        let Manifest { text, tree } = manifest;
        tree.into_inner().unwrap_or_else(|| parse(&text))
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hash_ignores_the_order_of_keys() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        assert_eq!(
            Manifest::from(one.clone()).hash(),
            Manifest::from(two).hash()
        );
        // Frozen: with another one, every object of a running fleet would be written again.
        assert_eq!(Manifest::from(one).hash(), "932875ab5b23eb47");
    }

    #[test]
    fn an_edit_changes_text_and_tree() {
        let mut manifest = Manifest::from(json!({"metadata": {"name": "a"}, "spec": {"b": 1}}));
        assert_eq!(manifest["spec"]["b"], 1);
        manifest.edit(|tree| tree["spec"]["b"] = json!(2));
        assert_eq!(manifest["spec"]["b"], 2);
        assert_eq!(
            manifest.text(),
            r#"{"metadata":{"name":"a"},"spec":{"b":2}}"#
        );
        assert_eq!(manifest.metadata(), json!({"name": "a"}));
    }

    #[test]
    fn annotations_are_added_where_they_belong() {
        let mut manifest = Manifest::from(json!({
            "metadata": {"annotations": {"b": "1"}}, "spec": {"template": {"metadata": {}}},
        }));
        manifest.annotate("/metadata", "a", "2");
        manifest.annotate("/spec/template/metadata", "c", "3");
        manifest.annotate("/spec/nothing/metadata", "d", "4");
        let template = json!({"metadata": {"annotations": {"c": "3"}}});
        let annotations = json!({"a": "2", "b": "1"});
        assert_eq!(
            *manifest,
            json!({"metadata": {"annotations": annotations}, "spec": {"template": template}})
        );
    }
}
