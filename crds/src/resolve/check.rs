//! What the schema admits but no object can be built from, and what this version does not do yet and therefore refuses.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::Problem;
use crate::{BackupConfig, MultigresClusterSpec, PoolSpec, StorageSpec};

/// Names that the topology understands (`api.md` 8.2).
const POLICIES: [&str; 2] = ["AT_LEAST_2", "MULTI_CELL_AT_LEAST_2"];

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, path: &str, value: impl ToString, remedy: &str) {
        self.0.push(Problem {
            path: path.to_owned(),
            value: value.to_string(),
            remedy: remedy.to_owned(),
        });
    }

    fn unsupported(&mut self, path: &str, given: bool) {
        if given {
            self.add(
                path,
                "set",
                "this version does not support it yet: remove it",
            );
        }
    }
}

/// All problems of a spec.
pub fn check(spec: &MultigresClusterSpec) -> Vec<Problem> {
    let mut findings = Findings::default();
    not_yet(spec, &mut findings);
    let cells: BTreeSet<&str> = spec.cells.iter().map(|cell| cell.name.as_str()).collect();
    if cells.is_empty() {
        findings.add(
            "spec.cells",
            "[]",
            "name at least one cell: shards need a place to run",
        );
    }
    policy(
        "spec.durabilityPolicy",
        spec.durability_policy.as_deref(),
        &mut findings,
    );
    for (d, database) in spec.databases.iter().enumerate() {
        policy(
            &format!("spec.databases[{d}].durabilityPolicy"),
            database.durability_policy.as_deref(),
            &mut findings,
        );
        for (g, group) in database.tablegroups.iter().enumerate() {
            for (s, shard) in group.shards.iter().enumerate() {
                let path = format!("spec.databases[{d}].tablegroups[{g}].shards[{s}].spec");
                let Some(inline) = &shard.spec else { continue };
                let orch = inline.multiorch.iter().flat_map(|orch| &orch.cells);
                known(
                    &format!("{path}.multiorch.cells"),
                    orch,
                    &cells,
                    &mut findings,
                );
                for (name, of) in &inline.pools {
                    pool(
                        &format!("{path}.pools.{name}"),
                        name,
                        of,
                        &cells,
                        &mut findings,
                    );
                }
            }
        }
    }
    if let Some(etcd) = spec
        .global_topo_server
        .as_ref()
        .and_then(|topo| topo.etcd.as_ref())
    {
        size(
            "spec.globalTopoServer.etcd.storage.size",
            etcd.storage.as_ref(),
            &mut findings,
        );
        limits(
            "spec.globalTopoServer.etcd.resources",
            etcd.resources.as_ref(),
            &mut findings,
        );
    }
    if let Some(filesystem) = spec
        .backup
        .as_ref()
        .and_then(|backup| backup.filesystem.as_ref())
    {
        size(
            "spec.backup.filesystem.storage.size",
            filesystem.storage.as_ref(),
            &mut findings,
        );
    }
    findings.0
}

/// Fields of the API that have no effect in this version: refused, so that nobody relies on them.
fn not_yet(spec: &MultigresClusterSpec, findings: &mut Findings) {
    findings.unsupported(
        "spec.templateDefaults",
        spec.template_defaults
            .as_ref()
            .is_some_and(|t| *t != crate::TemplateDefaults::default()),
    );
    findings.unsupported("spec.imageUpdatePolicy", spec.image_update_policy.is_some());
    findings.unsupported(
        "spec.internalTLS",
        spec.internal_tls
            .as_ref()
            .is_some_and(|tls| tls.enabled == Some(true)),
    );
    findings.unsupported(
        "spec.certCommonName",
        spec.cert_common_name
            .as_ref()
            .is_some_and(|name| !name.is_empty()),
    );
    findings.unsupported(
        "spec.externalGateway",
        spec.external_gateway.as_ref().is_some_and(|e| e.enabled),
    );
    findings.unsupported(
        "spec.externalAdminWeb",
        spec.external_admin_web.as_ref().is_some_and(|e| e.enabled),
    );
    let core = [
        (
            "spec.globalTopoServer.templateRef",
            spec.global_topo_server
                .as_ref()
                .and_then(|t| t.template_ref.as_ref()),
        ),
        (
            "spec.multiadmin.templateRef",
            spec.multiadmin
                .as_ref()
                .and_then(|t| t.template_ref.as_ref()),
        ),
        (
            "spec.multiadminWeb.templateRef",
            spec.multiadmin_web
                .as_ref()
                .and_then(|t| t.template_ref.as_ref()),
        ),
    ];
    for (path, reference) in core {
        findings.unsupported(path, reference.is_some());
    }
    let external = spec
        .global_topo_server
        .as_ref()
        .and_then(|t| t.external.as_ref());
    let tls = external.is_some_and(|e| {
        e.ca_secret
            .as_ref()
            .or(e.client_cert_secret.as_ref())
            .is_some_and(|s| !s.is_empty())
    });
    findings.unsupported("spec.globalTopoServer.external.caSecret", tls);
    for (c, cell) in spec.cells.iter().enumerate() {
        findings.unsupported(
            &format!("spec.cells[{c}].cellTemplate"),
            cell.cell_template.is_some(),
        );
        findings.unsupported(
            &format!("spec.cells[{c}].overrides"),
            cell.overrides.is_some(),
        );
        let local = cell
            .spec
            .as_ref()
            .is_some_and(|spec| spec.local_topo_server.is_some());
        findings.unsupported(&format!("spec.cells[{c}].spec.localTopoServer"), local);
    }
    backup("spec.backup", spec.backup.as_ref(), findings);
    for (d, database) in spec.databases.iter().enumerate() {
        backup(
            &format!("spec.databases[{d}].backup"),
            database.backup.as_ref(),
            findings,
        );
        for (g, group) in database.tablegroups.iter().enumerate() {
            let path = format!("spec.databases[{d}].tablegroups[{g}]");
            backup(&format!("{path}.backup"), group.backup.as_ref(), findings);
            for (s, shard) in group.shards.iter().enumerate() {
                let path = format!("{path}.shards[{s}]");
                findings.unsupported(
                    &format!("{path}.shardTemplate"),
                    shard.shard_template.is_some(),
                );
                findings.unsupported(&format!("{path}.overrides"), shard.overrides.is_some());
                backup(&format!("{path}.backup"), shard.backup.as_ref(), findings);
                let reference = shard
                    .spec
                    .as_ref()
                    .is_some_and(|spec| spec.postgres_config_ref.is_some());
                findings.unsupported(&format!("{path}.spec.postgresConfigRef"), reference);
            }
        }
    }
}

fn backup(path: &str, given: Option<&BackupConfig>, findings: &mut Findings) {
    let Some(given) = given else { return };
    findings.unsupported(&format!("{path}.s3"), given.type_ == "s3");
    findings.unsupported(&format!("{path}.encryption"), given.encryption.is_some());
    let tls = given
        .pgbackrest_tls
        .as_ref()
        .and_then(|tls| tls.secret_name.as_ref())
        .is_some_and(|name| !name.is_empty());
    findings.unsupported(&format!("{path}.pgbackrestTLS"), tls);
}

fn policy(path: &str, given: Option<&str>, findings: &mut Findings) {
    if let Some(given) = given.filter(|given| !POLICIES.contains(given)) {
        findings.add(path, given, "use AT_LEAST_2 or MULTI_CELL_AT_LEAST_2");
    }
}

fn known<'a>(
    path: &str,
    given: impl Iterator<Item = &'a String>,
    cells: &BTreeSet<&str>,
    findings: &mut Findings,
) {
    for cell in given.filter(|cell| !cells.contains(cell.as_str())) {
        findings.add(path, cell, "name a cell of spec.cells");
    }
}

fn pool(path: &str, name: &str, pool: &PoolSpec, cells: &BTreeSet<&str>, findings: &mut Findings) {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let legal = name.len() <= 25
        && name.starts_with(letter)
        && name.ends_with(letter)
        && name.chars().all(|c| letter(c) || c == '-');
    if !legal {
        findings.add(
            path,
            name,
            "a pool name has 1 to 25 lower-case letters, digits and inner hyphens",
        );
    }
    known(&format!("{path}.cells"), pool.cells.iter(), cells, findings);
    size(
        &format!("{path}.storage.size"),
        pool.storage.as_ref(),
        findings,
    );
    for (container, given) in [
        ("postgres", &pool.postgres),
        ("multipooler", &pool.multipooler),
    ] {
        limits(
            &format!("{path}.{container}.resources"),
            given.as_ref().and_then(|c| c.resources.as_ref()),
            findings,
        );
    }
    let user =
        |config: &Option<crate::ContainerConfig>| config.as_ref().and_then(|c| c.run_as_user);
    if let Some(given) =
        user(&pool.multipooler).filter(|given| user(&pool.postgres) != Some(*given))
    {
        let path = format!("{path}.multipooler.runAsUser");
        findings.add(
            &path,
            given,
            "give postgres.runAsUser the same value: both work on the same files",
        );
    }
}

fn size(path: &str, storage: Option<&StorageSpec>, findings: &mut Findings) {
    if let Some(given) = storage
        .and_then(|s| s.size.as_deref())
        .filter(|s| !s.is_empty())
        && quantity(given).is_none_or(|value| value <= 0.0)
    {
        findings.add(path, given, "give a positive quantity such as 10Gi");
    }
}

fn limits(path: &str, given: Option<&ResourceRequirements>, findings: &mut Findings) {
    let Some(given) = given else { return };
    for (name, request) in given.requests.iter().flatten() {
        let Some(limit) = given.limits.as_ref().and_then(|limits| limits.get(name)) else {
            continue;
        };
        if let (Some(request), Some(value)) = (quantity(&request.0), quantity(&limit.0))
            && value < request
        {
            findings.add(
                &format!("{path}.limits.{name}"),
                &limit.0,
                "a limit cannot be below its request",
            );
        }
    }
}

/// A Kubernetes quantity as a number; None when it is none.
pub fn quantity(text: &str) -> Option<f64> {
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-'))
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let number: f64 = digits.parse().ok()?;
    let scale = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * scale)
}
