//! The operator's actors: one per cluster, cell, topology server, table group, shard and pool × cell.
pub mod object;
