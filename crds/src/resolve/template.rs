//! Templates: which one each component uses, and which ones a cluster depends on. Everybody who needs to know (resolution,
//! watches, deletion protection, status) asks the one visitor below (L-HOOK-03).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::catalogue;
use crate::{CellTemplate, CoreTemplate, MultigresCluster, MultigresClusterSpec, ShardTemplate};

/// The template of a component that names none, if the cluster's namespace has one of this name.
pub const IMPLICIT: &str = "default";

/// The templates of a cluster's namespace, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Templates {
    /// CoreTemplates.
    pub core: BTreeMap<String, CoreTemplate>,
    /// CellTemplates.
    pub cell: BTreeMap<String, CellTemplate>,
    /// ShardTemplates.
    pub shard: BTreeMap<String, ShardTemplate>,
}

/// The kinds of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplateKind {
    /// CoreTemplate.
    Core,
    /// CellTemplate.
    Cell,
    /// ShardTemplate.
    Shard,
}

impl TemplateKind {
    /// The kind as the API server knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "CoreTemplate",
            Self::Cell => "CellTemplate",
            Self::Shard => "ShardTemplate",
        }
    }
}

/// Sorted names by kind, as `status.resolvedTemplates` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateNames {
    /// CoreTemplates.
    #[serde(rename = "coreTemplates", skip_serializing_if = "BTreeSet::is_empty")]
    pub core: BTreeSet<String>,
    /// CellTemplates.
    #[serde(rename = "cellTemplates", skip_serializing_if = "BTreeSet::is_empty")]
    pub cell: BTreeSet<String>,
    /// ShardTemplates.
    #[serde(rename = "shardTemplates", skip_serializing_if = "BTreeSet::is_empty")]
    pub shard: BTreeSet<String>,
}

impl TemplateNames {
    fn of(&mut self, kind: TemplateKind) -> &mut BTreeSet<String> {
        match kind {
            TemplateKind::Core => &mut self.core,
            TemplateKind::Cell => &mut self.cell,
            TemplateKind::Shard => &mut self.shard,
        }
    }

    /// True when the template is among them.
    pub fn contains(&self, kind: TemplateKind, name: &str) -> bool {
        match kind {
            TemplateKind::Core => self.core.contains(name),
            TemplateKind::Cell => self.cell.contains(name),
            TemplateKind::Shard => self.shard.contains(name),
        }
    }
}

/// One place of a manifest that names a template, or that uses the implicit one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// JSON path of the field.
    pub path: String,
    /// Kind of the template.
    pub kind: TemplateKind,
    /// Its name; it lives in the cluster's namespace.
    pub name: String,
    /// False when the manifest does not name it: it may be absent.
    pub explicit: bool,
}

/// Every reference of a manifest, in order of the fields.
pub fn references(spec: &MultigresClusterSpec) -> Vec<Reference> {
    let mut found = Vec::new();
    let defaults = spec.template_defaults.clone().unwrap_or_default();
    let mut fallback = |path: &str, kind, given: &Option<String>| {
        let name = named(given.as_deref());
        add(&mut found, path.to_owned(), kind, name);
        name.is_some()
    };
    let core = fallback(
        "spec.templateDefaults.coreTemplate",
        TemplateKind::Core,
        &defaults.core_template,
    );
    let cell = fallback(
        "spec.templateDefaults.cellTemplate",
        TemplateKind::Cell,
        &defaults.cell_template,
    );
    let shard = fallback(
        "spec.templateDefaults.shardTemplate",
        TemplateKind::Shard,
        &defaults.shard_template,
    );
    let mut component = |path: String, kind, own: Option<&str>, has_fallback: bool| {
        let own = named(own);
        if own.is_none() && !has_fallback {
            found.push(Reference {
                path,
                kind,
                name: IMPLICIT.to_owned(),
                explicit: false,
            });
        } else {
            add(&mut found, path, kind, own);
        }
    };
    let topology = spec
        .global_topo_server
        .as_ref()
        .and_then(|t| t.template_ref.as_deref());
    component(
        "spec.globalTopoServer.templateRef".to_owned(),
        TemplateKind::Core,
        topology,
        core,
    );
    let admin = spec
        .multiadmin
        .as_ref()
        .and_then(|a| a.template_ref.as_deref());
    component(
        "spec.multiadmin.templateRef".to_owned(),
        TemplateKind::Core,
        admin,
        core,
    );
    let web = spec
        .multiadmin_web
        .as_ref()
        .and_then(|w| w.template_ref.as_deref());
    component(
        "spec.multiadminWeb.templateRef".to_owned(),
        TemplateKind::Core,
        web,
        core,
    );
    for (c, of) in spec.cells.iter().enumerate() {
        let path = format!("spec.cells[{c}].cellTemplate");
        component(path, TemplateKind::Cell, of.cell_template.as_deref(), cell);
    }
    for (d, database) in catalogue::databases(spec).iter().enumerate() {
        for (g, group) in catalogue::table_groups(database).iter().enumerate() {
            for (s, of) in catalogue::shards(group).iter().enumerate() {
                let path =
                    format!("spec.databases[{d}].tablegroups[{g}].shards[{s}].shardTemplate");
                component(
                    path,
                    TemplateKind::Shard,
                    of.shard_template.as_deref(),
                    shard,
                );
            }
        }
    }
    found
}

fn named(given: Option<&str>) -> Option<&str> {
    given.filter(|name| !name.is_empty())
}

fn add(found: &mut Vec<Reference>, path: String, kind: TemplateKind, name: Option<&str>) {
    found.extend(name.map(|name| Reference {
        path,
        kind,
        name: name.to_owned(),
        explicit: true,
    }));
}

/// The templates that a cluster depends on, there or not: those it names and, for what names none, the implicit `default`.
pub fn referenced(cluster: &MultigresCluster) -> TemplateNames {
    let mut names = TemplateNames::default();
    for reference in references(&cluster.spec) {
        names.of(reference.kind).insert(reference.name);
    }
    names
}

/// The referenced templates that are there.
pub(super) fn in_force(spec: &MultigresClusterSpec, templates: &Templates) -> TemplateNames {
    let mut names = TemplateNames::default();
    for Reference { kind, name, .. } in references(spec) {
        let there = match kind {
            TemplateKind::Core => templates.core.contains_key(&name),
            TemplateKind::Cell => templates.cell.contains_key(&name),
            TemplateKind::Shard => templates.shard.contains_key(&name),
        };
        if there {
            names.of(kind).insert(name);
        }
    }
    names
}

/// The template of one component: its own reference, else the cluster's default, else the implicit one, else none.
pub(super) fn select<'t, T>(
    own: Option<&str>,
    fallback: Option<&str>,
    of: &'t BTreeMap<String, T>,
) -> (Option<Arc<str>>, Option<&'t T>) {
    let name = named(own).or(named(fallback)).unwrap_or(IMPLICIT);
    match of.get(name) {
        Some(template) => (Some(Arc::from(name)), Some(template)),
        None => (None, None),
    }
}
