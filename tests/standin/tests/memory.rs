//! A thousand poolers in one process.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests run in real time, and all of this file is test"
)]

mod support;

use std::time::Duration;

use actors::proto::multipoolermanagerdata as data;
use actors::proto::multipoolermanagerdata::manager_health_stream_client_message::Message as Asked;
use futures::stream;
use support::{Bed, until};

/// Clusters; one more pooler than three each makes it a thousand.
const CLUSTERS: u16 = 333;
const LIMIT: u64 = 500 * 1024 * 1024;

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// 1,000 poolers of 333 clusters with a coordinator each, one external etcd with a root per cluster, every pooler's health
/// streamed. The process also holds the readers of the streams, so the poolers alone take less than what is measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_poolers_fit_into_500_mib() {
    let bed = Bed::new("memory", 10).await;
    bed.topo_server("topo", 0, 1, 60_000).ready().await;
    let before = resident();
    let root = |cluster: u16| format!("/multigres/c{cluster}");
    let mut streams = Vec::new();
    for cluster in 0..CLUSTERS {
        bed.register(&root(cluster)).await;
        let first = 1 + cluster * 4;
        bed.other(
            "multiorch",
            &root(cluster),
            first + 3,
            &["--service-id=o-1"],
        );
        let poolers = if cluster == 0 { 4 } else { 3 };
        for number in 0..poolers {
            let address = if number == 3 { 50_000 } else { first + number };
            let handle = bed.pooler(&root(cluster), number, 0, address);
            streams.push((handle, address));
        }
    }
    assert_eq!(streams.len(), 1_000);
    for cluster in 0..CLUSTERS {
        until(&bed.shard(&root(cluster)), "a primary", |shard| {
            shard.primary().is_some()
        })
        .await;
    }
    let mut open = Vec::new();
    for (mut handle, address) in streams {
        handle.ready().await;
        let start = data::ManagerHealthStreamClientMessage {
            message: Some(Asked::Start(Default::default())),
        };
        let said = futures::StreamExt::chain(stream::iter([start]), stream::pending());
        let mut snapshots = bed
            .manager(address)
            .manager_health_stream(said)
            .await
            .unwrap()
            .into_inner();
        for _ in 0..2 {
            let next = tokio::time::timeout(Duration::from_secs(30), snapshots.message()).await;
            next.unwrap().unwrap().unwrap();
        }
        open.push(snapshots);
    }
    let after = resident();
    println!(
        "{} MiB before, {} MiB with 1,000 poolers and their readers",
        before >> 20,
        after >> 20
    );
    assert!(after < LIMIT, "{} MiB", after >> 20);
}
