//! Rights granted to the operator, and rights used.

use std::collections::BTreeSet;
use std::fmt;

use control_plane::{Entry, chart};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::Client;
use kube::api::{Api, ListParams};

/// A verb on a resource.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Right {
    /// Empty for the core group.
    pub group: String,
    /// Plural, with its subresource: `shards/status`.
    pub resource: String,
    /// Such as `patch`.
    pub verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{group}{}", self.verb, self.resource, self.group)
    }
}

/// What the chart's roles grant to the operator's ServiceAccount.
///
/// # Errors
/// When the API server does not answer.
pub async fn granted(client: &Client) -> anyhow::Result<BTreeSet<Right>> {
    let all = ListParams::default();
    let roles: Api<Role> = Api::namespaced(client.clone(), chart::NAMESPACE);
    let cluster_roles: Api<ClusterRole> = Api::all(client.clone());
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), chart::NAMESPACE);
    let cluster_bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let mut bound: Vec<RoleRef> = Vec::new();
    for binding in bindings.list(&all).await? {
        bound.extend(ours(binding.subjects.as_deref()).then_some(binding.role_ref));
    }
    for binding in cluster_bindings.list(&all).await? {
        bound.extend(ours(binding.subjects.as_deref()).then_some(binding.role_ref));
    }
    let mut rights = BTreeSet::new();
    for role in bound {
        let rules = match role.kind.as_str() {
            "Role" => roles.get(&role.name).await?.rules,
            _ => cluster_roles.get(&role.name).await?.rules,
        };
        rights.extend(rules.unwrap_or_default().iter().flat_map(expand));
    }
    Ok(rights)
}

fn ours(subjects: Option<&[Subject]>) -> bool {
    subjects.unwrap_or_default().iter().any(|subject| {
        subject.kind == "ServiceAccount"
            && subject.name == chart::SERVICE_ACCOUNT
            && subject.namespace.as_deref() == Some(chart::NAMESPACE)
    })
}

fn expand(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                rights.push(Right {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                });
            }
        }
    }
    rights
}

/// What was asked for and not refused.
pub fn used(entries: &[Entry]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for entry in entries
        .iter()
        .filter(|entry| !entry.resource.is_empty() && entry.code != 403)
    {
        let right = |verb: &str| Right {
            group: entry.group.clone(),
            resource: entry.target(),
            verb: verb.to_owned(),
        };
        rights.insert(right(&entry.verb));
        if entry.verb == "patch" && entry.code == 201 {
            rights.insert(right("create")); // an apply that makes the object needs both
        }
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_grants_every_verb_on_every_resource() {
        let list = |items: &[&str]| {
            items
                .iter()
                .map(|item| (*item).to_owned())
                .collect::<Vec<_>>()
        };
        let rule = PolicyRule {
            api_groups: Some(list(&["", "apps"])),
            resources: Some(list(&["pods"])),
            verbs: list(&["get", "list"]),
            ..PolicyRule::default()
        };
        let rights: Vec<String> = expand(&rule).iter().map(Right::to_string).collect();
        assert_eq!(
            rights,
            ["get pods", "list pods", "get pods.apps", "list pods.apps"]
        );
    }
}
