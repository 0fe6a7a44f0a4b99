//! Where each value of a resolved cluster came from.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The enclosing level that a value was inherited from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The table group.
    TableGroup,
    /// The database.
    Database,
    /// The cluster.
    Cluster,
}

/// Where a value came from, strongest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The component's own settings in the manifest.
    Inline,
    /// The overrides in the manifest, over this template (None: over none).
    Overrides(Option<Arc<str>>),
    /// This template.
    Template(Arc<str>),
    /// An enclosing level of the manifest.
    Inherited(Level),
    /// The operator's environment: flags, `MULTIGRES_IMAGE_*`, `OTEL_*`.
    Operator,
    /// A constant of `api.md` 7.
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline => f.write_str("inline"),
            Self::Overrides(Some(name)) => write!(f, "overrides (template {name})"),
            Self::Overrides(None) => f.write_str("overrides"),
            Self::Template(name) => write!(f, "template {name}"),
            Self::Inherited(Level::TableGroup) => f.write_str("table group default"),
            Self::Inherited(Level::Database) => f.write_str("database default"),
            Self::Inherited(Level::Cluster) => f.write_str("cluster default"),
            Self::Operator => f.write_str("operator default"),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// The same without the template's name, which belongs to the component: small enough to note for every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Inline,
    Overrides,
    Template,
    Inherited(Level),
    Operator,
    BuiltIn,
}

/// A part of the manifest that has layers of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Component {
    /// Path in the manifest.
    pub path: String,
    /// Member of it that holds the inline settings; empty when they stand directly in it.
    pub inline: &'static str,
    /// Kind of its template.
    pub kind: &'static str,
    /// Path of the same settings in the template.
    pub in_template: &'static str,
    /// The template in force, there or not.
    pub template: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    component: usize,
    within: Arc<str>,
    field: Cow<'static, str>,
    layer: Layer,
}

/// Where each value came from. Paths are those of the manifest without `spec` and `overrides` of cells and shards, for example
/// `spec.databases[0].tablegroups[0].shards[0].pools.main.storage.size`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    components: Vec<Component>,
    entries: Vec<Entry>,
}

impl Provenance {
    /// The source of the value at `path`; None when there is no value or no such field.
    pub fn source(&self, path: &str) -> Option<Source> {
        let entry = self
            .entries
            .iter()
            .find(|entry| self.path(entry).as_deref() == Some(path))?;
        self.named(entry)
    }

    /// All paths with their sources, in the order of resolution.
    pub fn iter(&self) -> impl Iterator<Item = (String, Source)> + '_ {
        self.entries
            .iter()
            .filter_map(|entry| Some((self.path(entry)?, self.named(entry)?)))
    }

    fn path(&self, entry: &Entry) -> Option<String> {
        let component = self.components.get(entry.component)?;
        Some(joined(&[&component.path, &entry.within, &entry.field]))
    }

    fn named(&self, entry: &Entry) -> Option<Source> {
        let template = || self.components.get(entry.component)?.template.clone();
        Some(match entry.layer {
            Layer::Inline => Source::Inline,
            Layer::Overrides => Source::Overrides(template()),
            Layer::Template => Source::Template(template()?),
            Layer::Inherited(level) => Source::Inherited(level),
            Layer::Operator => Source::Operator,
            Layer::BuiltIn => Source::BuiltIn,
        })
    }

    /// Opens a component; fields are noted through the recorder.
    pub(super) fn component(&mut self, component: Component) -> Recorder<'_> {
        self.components.push(component);
        Recorder {
            component: self.components.len() - 1,
            within: Arc::from(""),
            into: self,
        }
    }

    /// Where a user changes the value of a field: in the manifest or in a template.
    pub(super) fn place(&self, component: usize, within: &str, field: &str) -> String {
        let Some(of) = self.components.get(component) else {
            return field.to_owned();
        };
        let layer = self
            .entries
            .iter()
            .find(|e| e.component == component && &*e.within == within && e.field == field)
            .map_or(Layer::Inline, |entry| entry.layer);
        match (layer, &of.template) {
            (Layer::Overrides, _) => joined(&[&of.path, "overrides", within, field]),
            (Layer::Template, Some(name)) => {
                let path = joined(&[of.in_template, within, field]);
                format!("{} {name}: {path}", of.kind)
            }
            (Layer::Inherited(level), _) => joined(&[above(&of.path, level), within, field]),
            _ => joined(&[&of.path, of.inline, within, field]),
        }
    }
}

/// The path of the level that encloses the one at `path`.
fn above(path: &str, level: Level) -> &str {
    let steps = match level {
        Level::Cluster => 1,
        Level::Database => 2,
        Level::TableGroup => 3,
    };
    let end = path.match_indices('.').nth(steps - 1);
    end.and_then(|(end, _)| path.get(..end)).unwrap_or(path)
}

fn joined(parts: &[&str]) -> String {
    let given: Vec<&str> = parts
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect();
    given.join(".")
}

/// Notes the sources of one component's fields.
pub(super) struct Recorder<'p> {
    pub component: usize,
    pub within: Arc<str>,
    into: &'p mut Provenance,
}

impl Recorder<'_> {
    /// A recorder of a nested part.
    pub fn within(&mut self, part: &str) -> Recorder<'_> {
        Recorder {
            component: self.component,
            within: Arc::from(joined(&[&self.within, part])),
            into: self.into,
        }
    }

    /// Notes one field.
    pub fn note(&mut self, field: impl Into<Cow<'static, str>>, layer: Layer) {
        self.into.entries.push(Entry {
            component: self.component,
            within: self.within.clone(),
            field: field.into(),
            layer,
        });
    }
}
