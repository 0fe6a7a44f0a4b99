//! Names of components and shards (`topology.md` 1.3).

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A kind of component that has a record in the topology.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Component {
    /// One PostgreSQL instance.
    Multipooler,
    /// PostgreSQL front end.
    Multigateway,
    /// Consensus coordinator.
    Multiorch,
}

impl Component {
    /// The word in keys.
    pub fn word(self) -> &'static str {
        match self {
            Self::Multipooler => "multipooler",
            Self::Multigateway => "multigateway",
            Self::Multiorch => "multiorch",
        }
    }
}

/// Identity of a component.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id {
    /// What it is.
    pub component: Component,
    /// Its cell; no underscore.
    pub cell: String,
    /// Its `--service-id`; no underscore.
    pub name: String,
}

impl Id {
    /// An identity.
    pub fn new(component: Component, cell: impl Into<String>, name: impl Into<String>) -> Self {
        let (cell, name) = (cell.into(), name.into());
        Self {
            component,
            cell,
            name,
        }
    }

    /// A pooler's identity.
    pub fn pooler(cell: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(Component::Multipooler, cell, name)
    }

    /// A coordinator's identity.
    pub fn orch(cell: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(Component::Multiorch, cell, name)
    }

    /// What PostgreSQL calls a standby: `<cell>_<name>`.
    pub fn application_name(&self) -> String {
        format!("{}_{}", self.cell, self.name)
    }
}

/// The key segment of the topology: `<component>-<cell>-<name>`.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.component.word(), self.cell, self.name)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a shard belongs.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ShardKey {
    /// Name of the database.
    pub database: String,
    /// Name of the table group; the data plane accepts `default` only.
    pub table_group: String,
    /// Name of the shard; the data plane accepts `0-inf` only.
    pub shard: String,
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.database, self.table_group, self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_application_names() {
        let id = Id::pooler("zone1", "p-1a2b3c4d");
        assert_eq!(id.to_string(), "multipooler-zone1-p-1a2b3c4d");
        assert_eq!(id.application_name(), "zone1_p-1a2b3c4d");
    }
}
