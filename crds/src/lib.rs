//! The Multigres API `multigres.com/v1alpha1`: types, names of children, images, schema and resolution. No client in sight.

pub mod cell;
pub mod cell_template;
pub mod certificate;
pub mod cluster;
pub mod common;
pub mod core_template;
pub mod digest;
pub mod guc;
pub mod image;
pub mod materialise;
pub mod name;
pub mod quantity;
pub mod resolve;
pub mod rollout;
#[cfg(any(test, feature = "schema"))]
pub mod sample;
#[cfg(any(test, feature = "schema"))]
pub mod schema;
pub mod shard;
pub mod shard_template;
pub mod tablegroup;
pub mod toposerver;

pub use cell::{Cell, CellSpec, TopologyReconciliation};
pub use cell_template::{CellTemplate, CellTemplateSpec};
pub use cluster::*;
pub use common::*;
pub use core_template::{CoreTemplate, CoreTemplateSpec};
pub use shard::{Shard, ShardSpec};
pub use shard_template::{ShardTemplate, ShardTemplateSpec};
pub use tablegroup::{ShardResolvedSpec, TableGroup, TableGroupSpec};
pub use toposerver::{TopoServer, TopoServerSpec};

/// A custom resource: metadata and spec. `spec` may be absent in a manifest (`api.md` trap T1). Status is written and compared as
/// JSON by the actor that owns it, so it is not part of the type.
#[macro_export]
macro_rules! kind {
    ($name:ident, $spec:ident) => {
        #[doc = concat!("A ", stringify!($name), ".")]
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            /// Name, namespace, labels, annotations.
            pub metadata: ObjectMeta,
            /// What is wanted.
            pub spec: $spec,
        }
    };
}
