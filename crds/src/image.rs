//! The images a release is made of: one place, immutable tags; a digest (`name@sha256:…`) does as well (`api.md` 7.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// pgctld with PostgreSQL 17 and pgBackRest.
pub const POSTGRES: &str = "ghcr.io/multigres/pgctld:sha-66d2310";
/// multiadmin.
pub const MULTIADMIN: &str = "ghcr.io/multigres/multigres:sha-66d2310";
/// multiadmin-web.
pub const MULTIADMIN_WEB: &str = "ghcr.io/multigres/multiadmin-web:sha-64da1ab";
/// multiorch.
pub const MULTIORCH: &str = "ghcr.io/multigres/multigres:sha-66d2310";
/// multipooler.
pub const MULTIPOOLER: &str = "ghcr.io/multigres/multigres:sha-66d2310";
/// multigateway.
pub const MULTIGATEWAY: &str = "ghcr.io/multigres/multigres:sha-66d2310";
/// etcd of managed topology servers.
pub const ETCD: &str = "gcr.io/etcd-development/etcd:v3.6.7";
/// postgres-exporter beside each pool pod.
pub const POSTGRES_EXPORTER: &str = "quay.io/prometheuscommunity/postgres-exporter:v0.20.1";

/// Components of a set.
pub const COMPONENTS: usize = 6;

/// One image per component; empty = not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ComponentImages {
    /// Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multigateway: Option<String>,
    /// Orchestrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiorch: Option<String>,
    /// Pooler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multipooler: Option<String>,
    /// Admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiadmin: Option<String>,
    /// Admin web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiadmin_web: Option<String>,
    /// PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<String>,
}

impl ComponentImages {
    /// The compiled set with the operator's variables (`MULTIGRES_IMAGE_POSTGRES`, …) over it.
    pub fn compiled(variables: &BTreeMap<String, String>) -> Self {
        let pick = |suffix: &str, compiled: &str| {
            let given = variables
                .get(&format!("MULTIGRES_IMAGE_{suffix}"))
                .map(|value| value.trim());
            Some(
                given
                    .filter(|value| !value.is_empty())
                    .unwrap_or(compiled)
                    .to_owned(),
            )
        };
        Self {
            multigateway: pick("MULTIGATEWAY", MULTIGATEWAY),
            multiorch: pick("MULTIORCH", MULTIORCH),
            multipooler: pick("MULTIPOOLER", MULTIPOOLER),
            multiadmin: pick("MULTIADMIN", MULTIADMIN),
            multiadmin_web: pick("MULTIADMIN_WEB", MULTIADMIN_WEB),
            postgres: pick("POSTGRES", POSTGRES),
        }
    }

    /// `self` where it names an image, `below` elsewhere.
    pub fn over(&self, below: &Self) -> Self {
        let pick = |a: &Option<String>, b: &Option<String>| a.clone().or_else(|| b.clone());
        Self {
            multigateway: pick(&self.multigateway, &below.multigateway),
            multiorch: pick(&self.multiorch, &below.multiorch),
            multipooler: pick(&self.multipooler, &below.multipooler),
            multiadmin: pick(&self.multiadmin, &below.multiadmin),
            multiadmin_web: pick(&self.multiadmin_web, &below.multiadmin_web),
            postgres: pick(&self.postgres, &below.postgres),
        }
    }

    /// The same with empty names taken as absent.
    pub fn named(&self) -> Self {
        let given = |image: &Option<String>| image.clone().filter(|image| !image.is_empty());
        Self {
            multigateway: given(&self.multigateway),
            multiorch: given(&self.multiorch),
            multipooler: given(&self.multipooler),
            multiadmin: given(&self.multiadmin),
            multiadmin_web: given(&self.multiadmin_web),
            postgres: given(&self.postgres),
        }
    }

    /// Every component with its image, in the order of `api.md` 4.2.
    pub const fn each(&self) -> [(&'static str, Option<&String>); COMPONENTS] {
        [
            ("multigateway", self.multigateway.as_ref()),
            ("multiorch", self.multiorch.as_ref()),
            ("multipooler", self.multipooler.as_ref()),
            ("multiadmin", self.multiadmin.as_ref()),
            ("multiadminWeb", self.multiadmin_web.as_ref()),
            ("postgres", self.postgres.as_ref()),
        ]
    }

    /// How many components are named.
    pub fn count(&self) -> usize {
        let all = self.each().into_iter();
        all.filter(|(_, image)| image.is_some_and(|image| !image.is_empty()))
            .count()
    }

    /// True when every component is named.
    pub fn is_complete(&self) -> bool {
        self.count() == COMPONENTS
    }

    /// The identity of a set: first 12 hex digits of SHA-256 over its sorted lines (`api.md` 4.2).
    pub fn revision(&self) -> String {
        let line = |name: &str, image: &Option<String>| {
            format!("{name}={}", image.as_deref().unwrap_or_default())
        };
        let mut lines = [
            line("multiadmin", &self.multiadmin),
            line("multiadminweb", &self.multiadmin_web),
            line("multigateway", &self.multigateway),
            line("multiorch", &self.multiorch),
            line("multipooler", &self.multipooler),
            line("postgres", &self.postgres),
        ];
        lines.sort();
        crate::digest::sha256(&lines.join("\n"), 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_of_the_compiled_set() {
        assert_eq!(
            ComponentImages::compiled(&BTreeMap::new()).revision(),
            "51818592d94d"
        );
    }

    #[test]
    fn a_variable_replaces_one_image_and_blanks_are_ignored() {
        let variables = BTreeMap::from([
            (
                "MULTIGRES_IMAGE_POSTGRES".to_owned(),
                " registry/pg@sha256:00 ".to_owned(),
            ),
            ("MULTIGRES_IMAGE_MULTIORCH".to_owned(), "  ".to_owned()),
        ]);
        let set = ComponentImages::compiled(&variables);
        assert_eq!(set.postgres.as_deref(), Some("registry/pg@sha256:00"));
        assert_eq!(set.multiorch.as_deref(), Some(MULTIORCH));
    }
}
