//! The objects of a TableGroup: its Shards.

use crds::TableGroup;

use crate::labels;
use crate::object::{Desired, Kind};
use crate::workload::{Owner, RenderError};

/// Renders one Shard per entry.
///
/// # Errors
/// When the TableGroup is not one from the API server, or belongs to no cluster.
pub fn render(group: &TableGroup) -> Result<Vec<Desired>, RenderError> {
    let owner = Owner::new(Kind::TableGroup, &group.metadata)?;
    let cluster = owner.cluster()?;
    let spec = &group.spec;
    let (database, table_group) = (spec.database_name.as_str(), spec.table_group_name.as_str());
    spec.shards
        .iter()
        .map(|entry| {
            let further = [
                (labels::CLUSTER, cluster),
                (labels::DATABASE, database),
                (labels::TABLE_GROUP, table_group),
                (labels::SHARD, entry.name.as_str()),
            ];
            let name = crds::name::shard(cluster, database, table_group, &entry.name);
            let own = labels::standard(cluster, "shard", &further);
            let metadata = owner.child_resource(name, own);
            let spec = crds::resolve::shard_spec(spec, entry);
            Ok(Desired::new(Kind::Shard, &metadata, &spec)?)
        })
        .collect()
}
