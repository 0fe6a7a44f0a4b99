//! The operator's actors: one per cluster, cell, topology server, table group, shard and pool × cell.
//!
//! Start reading at [`operator`] (what the process sees), then [`supervisor`] (who lives, who is told), [`room`] and [`life`]
//! (what all actors share). Each room is a folder with `decide` (what next), `objects` (what it makes) and `status` (what it says).

pub mod action;
pub mod canonical;
pub mod cell;
pub mod certificate_facts;
pub mod clock;
pub mod cluster;
pub mod covers;
pub mod effects;
pub mod entry;
pub mod findings;
#[cfg(test)]
mod fixtures;
pub mod health;
pub mod history;
pub mod informers;
pub mod labels;
pub mod life;
pub mod links;
pub mod manifest;
pub mod mend;
pub mod metric;
pub mod object;
pub mod operator;
pub mod pace;
pub mod plan;
pub mod pool;
pub mod proto;
pub mod quantity;
pub mod room;
pub mod secrets;
pub mod shape;
pub mod shard;
pub mod status;
pub mod storage_class;
pub mod store;
pub mod stub;
pub mod supervisor;
pub mod tablegroup;
pub mod text;
pub mod tls;
pub mod topology;
pub mod topology_store;
pub mod toposerver;
pub mod volume;
pub mod workload;
pub mod world;
