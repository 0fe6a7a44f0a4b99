//! Descriptions for `kubectl explain`: the doc comments of our types, so that each is written once. Embedded types have none.

use std::collections::BTreeMap;

use serde_json::Value;
use syn::{Attribute, Expr, ExprLit, Fields, GenericArgument, Item, Lit, PathArguments, Type};

use super::SchemaError;

/// The modules in which the types stand.
const SOURCES: [&str; 11] = [
    include_str!("../cell.rs"),
    include_str!("../cell_template.rs"),
    include_str!("../cluster.rs"),
    include_str!("../common.rs"),
    include_str!("../core_template.rs"),
    include_str!("../image.rs"),
    include_str!("../lib.rs"),
    include_str!("../shard.rs"),
    include_str!("../shard_template.rs"),
    include_str!("../tablegroup.rs"),
    include_str!("../toposerver.rs"),
];

/// A field of a struct.
struct Member {
    /// As it stands in manifests.
    name: String,
    text: String,
    /// Name of its type, or of what it holds.
    of: String,
    flattened: bool,
}

struct Struct {
    text: String,
    /// The first paragraph of its module.
    module: String,
    members: Vec<Member>,
}

/// Structs by name with what they are and their fields, and the texts for statuses, which are not made from types.
pub struct Docs {
    structs: BTreeMap<String, Struct>,
    status: BTreeMap<String, String>,
}

impl Docs {
    /// Reads the sources of the types, and the table for statuses.
    ///
    /// # Errors
    /// When the table is damaged, or a source is not Rust: the crate would not have been built.
    pub fn read() -> Result<Self, SchemaError> {
        let mut structs = BTreeMap::new();
        for source in SOURCES {
            let file = syn::parse_file(source).map_err(SchemaError::Source)?;
            let module = text(&file.attrs);
            for item in file.items {
                let Item::Struct(item) = item else { continue };
                let Fields::Named(fields) = &item.fields else {
                    continue;
                };
                let members = fields.named.iter().filter_map(|field| {
                    let serde = Serde::of(&field.attrs);
                    let ident = field.ident.as_ref()?.to_string();
                    Some(Member {
                        name: serde.rename.unwrap_or_else(|| camel_case(&ident)),
                        text: text(&field.attrs),
                        of: innermost(&field.ty)?,
                        flattened: serde.flatten,
                    })
                });
                let of = Struct {
                    text: text(&item.attrs),
                    module: module.clone(),
                    members: members.collect(),
                };
                structs.insert(item.ident.to_string(), of);
            }
        }
        let status = serde_json::from_str(include_str!("../../schema/status.json"))?;
        Ok(Self { structs, status })
    }

    fn member(&self, of: &str, name: &str) -> Option<&Member> {
        let members = &self.structs.get(of)?.members;
        let own = |member: &&Member| !member.flattened && member.name == name;
        members.iter().find(own).or_else(|| {
            let mut flattened = members.iter().filter(|member| member.flattened);
            flattened.find_map(|member| self.member(&member.of, name))
        })
    }

    /// Describes the schema of a kind and all that is below it.
    pub fn describe(&self, kind: &str, schema: &mut Value) {
        let of = format!("{kind}Spec");
        if let Some(found) = self.structs.get(&of) {
            set(schema, &found.module);
            if let Some(spec) = schema.pointer_mut("/properties/spec") {
                set(spec, &found.text);
                self.describe_struct(&of, spec);
            }
        }
        if let Some(status) = schema.pointer_mut("/properties/status") {
            set(status, self.status.get("status").map_or("", String::as_str));
            self.describe_status(kind, "", status);
        }
    }

    fn describe_struct(&self, of: &str, schema: &mut Value) {
        for (name, property) in properties(schema) {
            let Some(member) = self.member(of, name) else {
                continue;
            };
            self.describe_struct(&member.of, property);
            set(property, &member.text);
        }
    }

    fn describe_status(&self, kind: &str, path: &str, schema: &mut Value) {
        for (name, property) in properties(schema) {
            let path = format!("{path}{name}");
            let special = self.status.get(&format!("{kind} {path}"));
            let Some(text) = special.or_else(|| self.status.get(&path)) else {
                continue;
            };
            if path.starts_with("images.") {
                self.describe_struct("ComponentImages", property);
            }
            self.describe_status(kind, &format!("{path}."), property);
            set(property, text);
        }
    }
}

fn set(schema: &mut Value, text: &str) {
    if let (Some(map), false) = (schema.as_object_mut(), text.is_empty()) {
        map.insert("description".to_owned(), text.into());
    }
}

/// The members of an object, or of the objects in a list or map.
fn properties(schema: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    let mut pointer = String::new();
    while let Some(inner) = ["/items", "/additionalProperties"]
        .into_iter()
        .find(|inner| schema.pointer(&format!("{pointer}{inner}")).is_some())
    {
        pointer.push_str(inner);
    }
    let inner = schema.pointer_mut(&format!("{pointer}/properties"));
    inner.and_then(Value::as_object_mut).into_iter().flatten()
}

/// The doc comment in one line, for readers without the source: no marks of code, no references to other documents.
fn text(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let named = attribute.meta.require_name_value().ok()?;
        let Expr::Lit(ExprLit {
            lit: Lit::Str(line),
            ..
        }) = &named.value
        else {
            return None;
        };
        named
            .path
            .is_ident("doc")
            .then(|| line.value().trim().to_owned())
    });
    let mut text = lines.collect::<Vec<_>>().join(" ");
    while let Some((before, after)) = text.split_once(" (`")
        && let Some((_, after)) = after.split_once(')')
    {
        text = format!("{before}{after}");
    }
    text.replace(['`', '[', ']'], "").trim().to_owned()
}

#[derive(Default)]
struct Serde {
    rename: Option<String>,
    flatten: bool,
}

impl Serde {
    fn of(attributes: &[Attribute]) -> Self {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("serde")) {
            // What is not understood is none of our business here.
            let _ = attribute.parse_nested_meta(|meta| {
                let value = meta.value().and_then(|value| value.parse::<Lit>()).ok();
                if meta.path.is_ident("flatten") {
                    found.flatten = true;
                }
                if let (true, Some(Lit::Str(name))) = (meta.path.is_ident("rename"), value) {
                    found.rename = Some(name.value());
                }
                Ok(())
            });
        }
        found
    }
}

/// `replicas_per_cell` as `replicasPerCell`.
fn camel_case(name: &str) -> String {
    let mut words = name.trim_start_matches("r#").split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name + letters.as_str()
    })
}

/// `Option<Vec<T>>`, `BTreeMap<K, T>` and the like as `T`.
fn innermost(of: &Type) -> Option<String> {
    let Type::Path(of) = of else { return None };
    let last = of.path.segments.last()?;
    if let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(GenericArgument::Type(inner)) = arguments.args.last()
    {
        return innermost(inner);
    }
    Some(last.ident.to_string())
}
