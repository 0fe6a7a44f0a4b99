//! Names of child objects (`api.md` 6): a readable join of the logical names, made unique by a hash.

/// FNV-1a, 32 bit, over each part followed by one zero byte; 8 hex digits.
pub fn hash<S: AsRef<str>>(parts: &[S]) -> String {
    const BASIS: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let bytes = parts
        .iter()
        .flat_map(|part| part.as_ref().bytes().chain(std::iter::once(0)));
    let sum = bytes.fold(BASIS, |sum, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(PRIME)
    });
    format!("{sum:08x}")
}

/// How long a name may be and how it may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// 253 characters, letter or digit first: custom resources, Deployments.
    Default,
    /// 63, letter first: Services, budgets, the backup claim.
    Service,
    /// 60, letter first: base of pool pods and their claims.
    Pod,
    /// 52, letter first: local TopoServer.
    StatefulSet,
}

impl Limit {
    const fn length(self) -> usize {
        match self {
            Limit::Default => 253,
            Limit::Service => 63,
            Limit::Pod => 60,
            Limit::StatefulSet => 52,
        }
    }
}

/// Joins logical names.
pub fn join<S: AsRef<str>>(limit: Limit, parts: &[S]) -> String {
    let Some(first) = parts.first() else {
        return String::new();
    };
    let digest = hash(parts);
    let length: usize = parts.iter().map(|part| part.as_ref().len() + 1).sum();
    let mut name = String::with_capacity(length + 12);
    let fits =
        first.as_ref().chars().next().map(legal).is_some_and(|c| {
            c.is_ascii_lowercase() || (limit == Limit::Default && c.is_ascii_digit())
        });
    if !fits {
        name.push('x');
    }
    for (at, part) in parts.iter().enumerate() {
        name.push_str(if at == 0 { "" } else { "-" });
        name.extend(part.as_ref().chars().map(legal));
    }
    let length = name.len() + 9;
    if length <= limit.length() {
        name.push('-');
    } else {
        name.truncate(name.len() - (length - limit.length() + 2));
        name.push_str("---");
    }
    name.push_str(&digest);
    name
}

fn legal(c: char) -> char {
    match c {
        'a'..='z' | '0'..='9' | '-' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        _ => '-',
    }
}

/// Name of a Cell.
pub fn cell(cluster: &str, cell: &str) -> String {
    join(Limit::Default, &[cluster, cell])
}

/// Name of the TopoServer of a Cell with a store of its own.
pub fn local_topo_server(cell_resource: &str) -> String {
    join(Limit::StatefulSet, &[cell_resource, "topo"])
}

/// Name of the gateway Deployment of a cell.
pub fn gateway_deployment(cluster: &str, cell: &str) -> String {
    join(Limit::Default, &[cluster, cell, "multigateway"])
}

/// Name of the gateway Service of a cell.
pub fn gateway_service(cluster: &str, cell: &str) -> String {
    join(Limit::Service, &[cluster, cell, "multigateway"])
}

/// Name of a TableGroup.
pub fn table_group(cluster: &str, database: &str, table_group: &str) -> String {
    join(Limit::Default, &[cluster, database, table_group])
}

/// Name of a Shard.
pub fn shard(cluster: &str, database: &str, table_group: &str, shard: &str) -> String {
    join(Limit::Default, &[cluster, database, table_group, shard])
}

/// Name of the multiorch Deployment of a shard in a cell.
pub fn multiorch_deployment(
    cluster: &str,
    database: &str,
    table_group: &str,
    shard: &str,
    cell: &str,
) -> String {
    join(
        Limit::Default,
        &[cluster, database, table_group, shard, "multiorch", cell],
    )
}

/// Name of the multiorch Service of a shard in a cell.
pub fn multiorch_service(
    cluster: &str,
    database: &str,
    table_group: &str,
    shard: &str,
    cell: &str,
) -> String {
    join(
        Limit::Service,
        &[cluster, database, table_group, shard, "multiorch", cell],
    )
}

/// Name of a pool pod; its claim is `data-` before it.
pub fn pool_pod(
    cluster: &str,
    database: &str,
    table_group: &str,
    shard: &str,
    pool: &str,
    cell: &str,
    index: i32,
) -> String {
    format!(
        "{}-{index}",
        join(
            Limit::Pod,
            &[cluster, database, table_group, shard, "pool", pool, cell]
        )
    )
}

/// Name of the headless Service of a pool in a cell.
pub fn pool_headless(
    cluster: &str,
    database: &str,
    table_group: &str,
    shard: &str,
    pool: &str,
    cell: &str,
) -> String {
    join(
        Limit::Service,
        &[
            cluster,
            database,
            table_group,
            shard,
            "pool",
            pool,
            cell,
            "headless",
        ],
    )
}

/// Name of the shared backup claim of a shard.
pub fn backup_claim(cluster: &str, database: &str, table_group: &str, shard: &str) -> String {
    join(
        Limit::Service,
        &["backup-data", cluster, database, table_group, shard],
    )
}

/// Identity of a pooler in the topology. It follows the pod's name, so a restarted pod keeps it.
pub fn service_id(pod: &str) -> String {
    format!("p-{}", hash(&[pod]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_examples() {
        let m = ("minimal", "postgres", "default", "0-inf");
        let long = "production-cluster-eu-wes";
        let zone = "us-east-1a-availability-zone-1";
        let pod = pool_pod(m.0, m.1, m.2, m.3, "default", "zone-a", 1);
        let cases = [
            (
                join(Limit::Default, &["hello", "world"]),
                "hello-world-344ce285",
            ),
            (
                table_group("production", "mydb", "default"),
                "production-mydb-default-5c6a71f9",
            ),
            (cell("minimal", "zone-a"), "minimal-zone-a-96c88ae0"),
            (
                table_group(m.0, m.1, m.2),
                "minimal-postgres-default-f7d4ad4a",
            ),
            (
                shard(m.0, m.1, m.2, m.3),
                "minimal-postgres-default-0-inf-1e3c045c",
            ),
            (
                pod.clone(),
                "minimal-postgres-default-0-inf-pool-default-zone-a-a3a0d77b-1",
            ),
            (service_id(&pod), "p-6bfa8f13"),
            (
                local_topo_server(&cell("minimal", "zone-a")),
                "minimal-zone-a-96c88ae0-topo-26e28848",
            ),
            (
                gateway_deployment("minimal", "zone-a"),
                "minimal-zone-a-multigateway-0ccc2e8b",
            ),
            (
                gateway_service("minimal", "zone-a"),
                "minimal-zone-a-multigateway-0ccc2e8b",
            ),
            (
                multiorch_service(m.0, m.1, m.2, m.3, "zone-a"),
                "minimal-postgres-default-0-inf-multiorch-zone-a-bbe2a333",
            ),
            (
                pool_headless(m.0, m.1, m.2, m.3, "default", "zone-a"),
                "minimal-postgres-default-0-inf-pool-default-zone-a-h---22cdf02c",
            ),
            (
                join(
                    Limit::Service,
                    &[m.0, m.1, m.2, m.3, "pool", "default", "zone-a", "pdb"],
                ),
                "minimal-postgres-default-0-inf-pool-default-zone-a-pdb-6a4f8455",
            ),
            (
                backup_claim(m.0, m.1, m.2, m.3),
                "backup-data-minimal-postgres-default-0-inf-811a09a5",
            ),
            (
                cell(long, zone),
                "production-cluster-eu-wes-us-east-1a-availability-zone-1-e824c5e6",
            ),
            (
                gateway_service(long, zone),
                "production-cluster-eu-wes-us-east-1a-availability-zo---1caa7f05",
            ),
            (
                pool_pod(long, m.1, m.2, m.3, "primary-read-write-pool", zone, 0),
                "production-cluster-eu-wes-postgres-default-0-inf----a7f7ea24-0",
            ),
            (
                join(Limit::Service, &["1db", "z1", "multigateway"]),
                "x1db-z1-multigateway-2ab71150",
            ),
            (cell("1db", "z1"), "1db-z1-983f2c79"),
            (cell("My_Cluster", "Zone.A"), "my-cluster-zone-a-fc396e77"),
            (cell("a-b", "c"), "a-b-c-f03bd84a"),
            (cell("a", "b-c"), "a-b-c-86d543be"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
        assert_eq!(join::<&str>(Limit::Default, &[]), "");
    }
}
