//! The layers of one component: inline settings over overrides over a template.

use std::collections::BTreeMap;

use super::provenance::{Layer, Recorder};

/// A value and the layer it stands in.
pub(super) type Found<'a, T> = Option<(Layer, &'a T)>;

/// What each layer says; None where it says nothing.
#[derive(Debug)]
pub(super) struct Layers<'a, T: ?Sized> {
    pub inline: Option<&'a T>,
    pub overrides: Option<&'a T>,
    pub template: Option<&'a T>,
}

// Not derived: that would ask for `T: Clone`.
impl<T: ?Sized> Clone for Layers<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Layers<'_, T> {}

impl<'a, T: ?Sized> Layers<'a, T> {
    /// A component without overrides.
    pub const fn of(inline: Option<&'a T>, template: Option<&'a T>) -> Self {
        Self {
            inline,
            overrides: None,
            template,
        }
    }

    /// A part of each layer.
    pub fn map<U: ?Sized>(self, part: impl Fn(&'a T) -> Option<&'a U>) -> Layers<'a, U> {
        Layers {
            inline: self.inline.and_then(&part),
            overrides: self.overrides.and_then(&part),
            template: self.template.and_then(&part),
        }
    }

    /// True when any layer says something.
    pub const fn any(self) -> bool {
        self.inline.is_some() || self.overrides.is_some() || self.template.is_some()
    }

    /// The strongest layer that says something about a part.
    pub fn first<U: ?Sized>(self, part: impl Fn(&'a T) -> Option<&'a U>) -> Found<'a, U> {
        self.map(part).strongest()
    }

    /// The strongest layer that says something.
    fn strongest(self) -> Found<'a, T> {
        let pair = |layer, value: Option<&'a T>| value.map(|value| (layer, value));
        pair(Layer::Inline, self.inline)
            .or_else(|| pair(Layer::Overrides, self.overrides))
            .or_else(|| pair(Layer::Template, self.template))
    }

    /// Weakest first.
    fn rising(self) -> impl Iterator<Item = (Layer, &'a T)> {
        let all = [
            (Layer::Template, self.template),
            (Layer::Overrides, self.overrides),
            (Layer::Inline, self.inline),
        ];
        all.into_iter()
            .filter_map(|(layer, value)| Some((layer, value?)))
    }
}

/// Only what is given: the empty text is absent (`admission.md` 2.6).
pub(super) fn text(given: &Option<String>) -> Option<&String> {
    given.as_ref().filter(|text| !text.is_empty())
}

/// Only what is given: the empty list is absent.
pub(super) fn list<T>(given: &Vec<T>) -> Option<&Vec<T>> {
    (!given.is_empty()).then_some(given)
}

impl Recorder<'_> {
    /// The value that was found, or the built-in one.
    pub fn pick<T: Clone>(
        &mut self,
        field: &'static str,
        found: Found<'_, T>,
        built_in: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let (layer, value) = match found {
            Some((layer, value)) => (layer, value.clone()),
            None => (Layer::BuiltIn, built_in()?),
        };
        self.note(field, layer);
        Some(value)
    }

    /// The value that was found, if any.
    pub fn given<T: Clone>(&mut self, field: &'static str, found: Found<'_, T>) -> Option<T> {
        self.pick(field, found, || None)
    }

    /// Key by key, the strongest layer that has the key.
    pub fn union(
        &mut self,
        field: &'static str,
        layers: Layers<'_, BTreeMap<String, String>>,
    ) -> BTreeMap<String, String> {
        let mut merged: BTreeMap<&String, (Layer, &String)> = BTreeMap::new();
        for (layer, map) in layers.rising() {
            merged.extend(map.iter().map(|(key, value)| (key, (layer, value))));
        }
        let mut result = BTreeMap::new();
        for (key, (layer, value)) in merged {
            self.note(format!("{field}.{key}"), layer);
            result.insert(key.clone(), value.clone());
        }
        result
    }
}
