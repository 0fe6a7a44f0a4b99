//! A Shard's coordinates, from which names and labels of everything in it follow.

use crds::Shard;
use crds::name::{Limit, join};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::labels::{self, Map};
use crate::object::Kind;
use crate::workload::{Owner, RenderError};

/// A Shard's coordinates, as names and labels need them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The Shard itself.
    pub owner: Owner,
    /// Cluster.
    pub cluster: String,
    /// Database.
    pub database: String,
    /// Table group.
    pub table_group: String,
    /// Shard.
    pub shard: String,
    /// Project, or the cluster's name.
    pub project: String,
}

impl Identity {
    /// Reads the coordinates.
    ///
    /// # Errors
    /// When the Shard is not one from the API server, or belongs to no cluster.
    pub fn new(shard: &Shard) -> Result<Self, RenderError> {
        let owner = Owner::new(Kind::Shard, &shard.metadata)?;
        let cluster = owner.cluster()?.to_owned();
        Ok(Self {
            project: owner.project.clone().unwrap_or_else(|| cluster.clone()),
            owner,
            cluster,
            database: shard.spec.database_name.to_string(),
            table_group: shard.spec.table_group_name.to_string(),
            shard: shard.spec.shard_name.to_string(),
        })
    }

    /// Labels of everything that serves the whole shard.
    pub fn labels(&self, component: &str) -> Map {
        let further = [
            (labels::CLUSTER, self.cluster.as_str()),
            (labels::DATABASE, &self.database),
            (labels::TABLE_GROUP, &self.table_group),
            (labels::SHARD, &self.shard),
        ];
        labels::standard(&self.cluster, component, &further)
    }

    /// Labels over those of the Shard, which may carry the user's.
    pub fn inherited(&self, component: &str) -> Map {
        labels::merged(Some(&self.owner.labels), self.labels(component))
    }

    /// Labels of one pool in one cell.
    pub fn pool_labels(&self, pool: &str, cell: &str) -> Map {
        let mut result = self.inherited("shard-pool");
        result.insert(labels::POOL.to_owned(), pool.to_owned());
        result.insert(labels::CELL.to_owned(), cell.to_owned());
        result
    }

    /// Metadata of a claim: it follows the Shard only where the policy says so.
    pub fn claim(&self, name: String, labels: Map, deleted_with_owner: bool) -> ObjectMeta {
        let meta = self.owner.child(name, labels);
        ObjectMeta {
            owner_references: meta.owner_references.filter(|_| deleted_with_owner),
            ..meta
        }
    }

    /// A name below the shard.
    pub fn joined(&self, limit: Limit, further: &[&str]) -> String {
        let Self {
            cluster,
            database,
            table_group,
            shard,
            ..
        } = self;
        let mut parts = vec![cluster.as_str(), database, table_group, shard];
        parts.extend(further);
        join(limit, &parts)
    }

    /// Name of a ConfigMap or Secret of this Shard.
    pub fn suffixed(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.owner.name)
    }
}
