//! A Shard's coordinates, from which names and labels of everything in it follow.

use crds::Shard;
use crds::name::{Limit, join};

use crate::labels::{self, Labels};
use crate::object::Kind;
use crate::shape::ObjectMeta;
use crate::workload::{Owner, RenderError};

/// A Shard's coordinates, as names and labels need them.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The Shard itself.
    pub owner: Owner<'a>,
    /// Cluster.
    pub cluster: &'a str,
    /// Database.
    pub database: &'a str,
    /// Table group.
    pub table_group: &'a str,
    /// Shard.
    pub shard: &'a str,
    /// Project, or the cluster's name.
    pub project: &'a str,
}

impl<'a> Identity<'a> {
    /// Reads the coordinates.
    ///
    /// # Errors
    /// When the Shard is not one from the API server, or belongs to no cluster.
    pub fn new(shard: &'a Shard) -> Result<Self, RenderError> {
        let owner = Owner::new(Kind::Shard, &shard.metadata)?;
        let cluster = owner.cluster()?;
        Ok(Self {
            project: owner.project.unwrap_or(cluster),
            owner,
            cluster,
            database: &shard.spec.database_name,
            table_group: &shard.spec.table_group_name,
            shard: &shard.spec.shard_name,
        })
    }

    /// Labels of everything that serves the whole shard.
    pub fn labels(&self, component: &'a str) -> Labels<'a> {
        let further = [
            (labels::CLUSTER, self.cluster),
            (labels::DATABASE, self.database),
            (labels::TABLE_GROUP, self.table_group),
            (labels::SHARD, self.shard),
        ];
        labels::standard(self.cluster, component, &further)
    }

    /// Labels over those of the Shard, which may carry the user's.
    pub fn inherited(&self, component: &'a str) -> Labels<'a> {
        labels::merged(labels::borrowed(self.owner.labels), self.labels(component))
    }

    /// Labels of one pool in one cell.
    pub fn pool_labels<'b>(&self, pool: &'b str, cell: &'b str) -> Labels<'b>
    where
        'a: 'b,
    {
        let mut result: Labels<'b> = self.inherited("shard-pool");
        result.extend([(labels::POOL, pool), (labels::CELL, cell)]);
        result
    }

    /// Metadata of a claim: it follows the Shard only where the policy says so.
    pub fn claim<'b>(
        &self,
        name: String,
        labels: Labels<'b>,
        deleted_with_owner: bool,
    ) -> ObjectMeta<'b>
    where
        'a: 'b,
    {
        let mut meta = self.owner.child(name, labels);
        if !deleted_with_owner {
            meta.owner_references.clear();
        }
        meta
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
        let mut parts = vec![*cluster, database, table_group, shard];
        parts.extend(further);
        join(limit, &parts)
    }

    /// Name of a ConfigMap or Secret of this Shard.
    pub fn suffixed(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.owner.name)
    }
}
