//! What the schema admits but no object can be built from. Values are checked after resolution, wherever they come from; the
//! path of a problem is where its value stands.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::provenance::Provenance;
use super::template::{IMPLICIT, TemplateKind, Templates, references};
use super::{Problem, syntax};
use crate::quantity::quantity;
use crate::{
    BackupConfig, CellSpec, EtcdSpec, ExternalServiceConfig, ExternalTopoServerSpec,
    GatewayBufferConfig, MultigresClusterSpec, PodPlacementSpec, PoolSpec, ShardResolvedSpec,
    StatelessSpec, StorageSpec, TopoServerSpec, guc,
};

/// Names that the topology understands (`api.md` 8.2).
const POLICIES: [&str; 2] = ["AT_LEAST_2", "MULTI_CELL_AT_LEAST_2"];
/// What the gateway does when nothing is set (`admission.md` 2.5): window and longest failover.
const WINDOW: Duration = Duration::from_secs(10);
const MAX_FAILOVER: Duration = Duration::from_secs(20);

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings(Vec<Problem>);

impl Findings {
    /// A problem is told once, however many children share the value.
    pub fn add(
        &mut self,
        path: impl Into<String>,
        value: impl ToString,
        remedy: impl Into<String>,
    ) {
        let problem = Problem {
            path: path.into(),
            value: value.to_string(),
            remedy: remedy.into(),
        };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// All of them.
    pub fn into_problems(self) -> Vec<Problem> {
        self.0
    }
}

/// What can be said before anything is resolved.
pub(super) fn manifest(
    name: &str,
    spec: &MultigresClusterSpec,
    templates: &Templates,
    findings: &mut Findings,
) {
    // Services are named after the cluster as it is (`api.md` trap T21). Without a name it is not from the API server.
    let letter = |c: char| c.is_ascii_lowercase();
    if !(name.is_empty() || (syntax::label(name) && name.starts_with(letter))) {
        findings.add(
            "metadata.name",
            name,
            "Services are named after the cluster: begin with a letter and use lower-case letters, digits and hyphens",
        );
    }
    // A missing template named `default` counts as an empty one (`api.md` 8.2).
    for reference in references(spec) {
        let there = match reference.kind {
            TemplateKind::Core => templates.core.contains_key(&reference.name),
            TemplateKind::Cell => templates.cell.contains_key(&reference.name),
            TemplateKind::Shard => templates.shard.contains_key(&reference.name),
        };
        if !there && reference.explicit && reference.name != IMPLICIT {
            let remedy = format!(
                "referenced {} not found in the cluster's namespace: create it or name another",
                reference.kind.name()
            );
            findings.add(reference.path, reference.name, remedy);
        }
    }
    if spec.cells.is_empty() {
        findings.add(
            "spec.cells",
            "[]",
            "name at least one cell: shards need a place to run",
        );
    }
    for (c, cell) in spec.cells.iter().enumerate() {
        let place = [("zoneId", &cell.zone_id), ("region", &cell.region)];
        for (field, value) in place {
            if let Some(value) = value.as_ref().filter(|value| !syntax::label_value(value)) {
                let path = format!("spec.cells[{c}].{field}");
                findings.add(
                    path,
                    value,
                    "nodes are selected by it: it must be a label value",
                );
            }
        }
    }
    exposure(
        "spec.externalGateway",
        spec.external_gateway.as_ref(),
        findings,
    );
    exposure(
        "spec.externalAdminWeb",
        spec.external_admin_web.as_ref(),
        findings,
    );
}

fn exposure(path: &str, given: Option<&ExternalServiceConfig>, findings: &mut Findings) {
    let Some(given) = given.filter(|given| given.enabled) else {
        return;
    };
    for (i, address) in given.external_ips.iter().enumerate() {
        if address.parse::<IpAddr>().is_err() {
            findings.add(
                format!("{path}.externalIPs[{i}]"),
                address,
                "invalid IP address",
            );
        }
    }
    for key in given
        .annotations
        .keys()
        .filter(|key| !syntax::qualified(key))
    {
        findings.add(
            format!("{path}.annotations"),
            key,
            "not a valid annotation key",
        );
    }
}

/// Checks of one component's resolved values.
pub(super) struct At<'f, 'p> {
    pub findings: &'f mut Findings,
    pub provenance: &'p Provenance,
    pub component: usize,
}

impl At<'_, '_> {
    pub(super) fn add(
        &mut self,
        within: &str,
        field: &str,
        value: impl ToString,
        remedy: impl Into<String>,
    ) {
        let path = self.provenance.place(self.component, within, field);
        self.findings.add(path, value, remedy);
    }

    /// The quorum rule of a database.
    pub fn policy(&mut self, given: &str) {
        if !POLICIES.contains(&given) {
            self.add(
                "",
                "durabilityPolicy",
                given,
                "use AT_LEAST_2 or MULTI_CELL_AT_LEAST_2",
            );
        }
    }

    /// A managed global topology store.
    pub fn topology(&mut self, server: &TopoServerSpec) {
        if let Some(etcd) = &server.etcd {
            self.etcd("etcd", etcd);
        }
        self.placement("placement", server.placement.as_ref());
    }

    fn etcd(&mut self, within: &str, etcd: &EtcdSpec) {
        self.storage(&format!("{within}.storage"), etcd.storage.as_ref());
        self.resources(within, etcd.resources.as_ref());
    }

    /// An etcd of the user's.
    pub fn external(&mut self, within: &str, external: &ExternalTopoServerSpec) {
        if external.implementation.as_deref() != Some("etcd") {
            let given = external.implementation.as_deref().unwrap_or_default();
            self.add(
                within,
                "implementation",
                given,
                "the data plane knows etcd only",
            );
        }
        let secrets = [
            ("caSecret", &external.ca_secret),
            ("clientCertSecret", &external.client_cert_secret),
        ];
        for (field, name) in secrets {
            self.object_name(within, field, name.as_deref());
        }
        self.client_certificate(within, external);
    }

    /// A Deployment's settings.
    pub fn stateless(&mut self, within: &str, of: &StatelessSpec) {
        self.resources(within, of.resources.as_ref());
        for key in of
            .pod_annotations
            .keys()
            .filter(|key| !syntax::qualified(key))
        {
            self.add(
                within,
                &format!("podAnnotations.{key}"),
                key,
                "not a valid annotation key",
            );
        }
        for (key, value) in &of.pod_labels {
            if !syntax::qualified(key) || !syntax::label_value(value) {
                self.add(
                    within,
                    &format!("podLabels.{key}"),
                    value,
                    "not a valid label",
                );
            }
        }
    }

    /// A workload's tolerations.
    pub fn placement(&mut self, field: &str, placement: Option<&PodPlacementSpec>) {
        let list = placement
            .map(|p| p.tolerations.as_slice())
            .unwrap_or_default();
        for problem in list.iter().filter_map(syntax::toleration) {
            self.add("", field, "tolerations", problem);
        }
    }

    /// A cell.
    pub fn cell(&mut self, cell: &CellSpec) {
        self.stateless("multigateway", &cell.multigateway.stateless);
        if let Some(buffer) = &cell.multigateway.buffer {
            self.buffer(buffer);
        }
        self.placement(
            "multigatewayPlacement",
            cell.multigateway_placement.as_ref(),
        );
        let Some(store) = &cell.topo_server else {
            return;
        };
        if let Some(etcd) = &store.etcd {
            self.etcd("localTopoServer.etcd", etcd);
        }
        if let Some(external) = &store.external {
            self.external("localTopoServer.external", external);
        }
        self.same_tls(cell, store);
    }

    /// Durations of the gateway's buffer (`admission.md` R78–R80).
    fn buffer(&mut self, buffer: &GatewayBufferConfig) {
        const AT: &str = "multigateway.buffer";
        if buffer.enabled == Some(false) {
            return;
        }
        let mut read = |field: &str, given: &Option<String>, zero: bool| {
            let text = given.as_deref()?;
            let value = syntax::duration(text);
            if value.is_none_or(|value| value.is_zero() && !zero) {
                self.add(AT, field, text, "give a duration above zero such as 10s");
                return None;
            }
            value
        };
        let window = read("window", &buffer.window, false);
        let longest = read("maxFailoverDuration", &buffer.max_failover_duration, false);
        read(
            "minTimeBetweenFailovers",
            &buffer.min_time_between_failovers,
            true,
        );
        if window.unwrap_or(WINDOW) > longest.unwrap_or(MAX_FAILOVER) {
            let given = buffer.window.as_deref().unwrap_or("10s (built-in)");
            let limit = buffer
                .max_failover_duration
                .as_deref()
                .unwrap_or("20s (built-in)");
            self.add(
                AT,
                "window",
                given,
                format!("must be <= maxFailoverDuration, which is {limit}"),
            );
        }
    }

    /// A shard; `cells` are those of the cluster.
    pub fn shard(&mut self, shard: &ShardResolvedSpec, cells: &[String]) {
        self.stateless("multiorch", &shard.multiorch.stateless);
        self.known("multiorch", &shard.multiorch.cells, cells);
        let tolerations = shard.multiorch.placement.as_ref();
        for problem in tolerations
            .iter()
            .flat_map(|p| &p.tolerations)
            .filter_map(syntax::toleration)
        {
            self.add("multiorch", "placement", "tolerations", problem);
        }
        for (name, value) in &shard.postgres_config {
            if let Err(remedy) = guc::check(name, value) {
                self.add("", &format!("postgresConfig.{name}"), value, remedy);
            }
        }
        if let Some(reference) = &shard.postgres_config_ref {
            self.object_name("", "postgresConfigRef", Some(&reference.name));
        }
        for (name, pool) in &shard.pools {
            self.pool(name, pool, cells);
        }
    }

    fn known(&mut self, within: &str, given: &[String], cells: &[String]) {
        if given.is_empty() && !cells.is_empty() {
            self.add(
                within,
                "cells",
                "[]",
                "matches NO cells: name a cell of spec.cells",
            );
        }
        for cell in given.iter().filter(|cell| !cells.contains(cell)) {
            self.add(
                within,
                "cells",
                cell,
                "non-existent cell: name a cell of spec.cells",
            );
        }
    }

    fn pool(&mut self, name: &str, pool: &PoolSpec, cells: &[String]) {
        let within = format!("pools.{name}");
        if name.len() > 25 || !syntax::label(name) {
            // The name stands where the pool stands: take the place of any of its fields.
            let place = self.provenance.place(self.component, &within, "cells");
            let place = place.strip_suffix(".cells").unwrap_or(&place);
            self.findings.add(
                place,
                name,
                "a pool name has 1 to 25 lower-case letters, digits and inner hyphens",
            );
        }
        self.known(&within, &pool.cells, cells);
        self.storage(&format!("{within}.storage"), pool.storage.as_ref());
        let containers = [
            ("postgres", &pool.postgres),
            ("multipooler", &pool.multipooler),
        ];
        for (container, given) in containers {
            let resources = given.as_ref().and_then(|c| c.resources.as_ref());
            self.resources(&format!("{within}.{container}"), resources);
        }
        let user = |config: &Option<crate::ContainerConfig>| config.as_ref()?.run_as_user;
        let (postgres, pooler) = (user(&pool.postgres), user(&pool.multipooler));
        if let Some(given) = pooler.filter(|given| postgres != Some(*given)) {
            self.add(
                &format!("{within}.multipooler"),
                "runAsUser",
                given,
                "give postgres.runAsUser the same value: both work on the same files",
            );
        }
        for problem in pool.tolerations.iter().filter_map(syntax::toleration) {
            self.add(&within, "tolerations", "tolerations", problem);
        }
    }

    /// Backup settings of a level.
    pub fn backup(&mut self, backup: &BackupConfig) {
        if let Some(filesystem) = &backup.filesystem {
            self.storage("backup.filesystem.storage", filesystem.storage.as_ref());
        }
        if let Some(s3) = &backup.s3 {
            for (field, value) in [("bucket", &s3.bucket), ("region", &s3.region)] {
                if value.is_empty() {
                    self.add("backup.s3", field, "", "S3 needs it");
                }
            }
            self.object_name(
                "backup.s3",
                "credentialsSecret",
                s3.credentials_secret.as_deref(),
            );
            self.object_name(
                "backup.s3",
                "serviceAccountName",
                s3.service_account_name.as_deref(),
            );
        } else if backup.type_ != "filesystem" {
            self.add("backup", "type", &backup.type_, "use filesystem or s3");
        }
        let given = backup
            .pgbackrest_tls
            .as_ref()
            .and_then(|tls| tls.secret_name.as_deref());
        self.object_name("backup", "pgbackrestTLS", given);
        let given = backup.encryption.as_ref().map(|of| of.secret_name.as_str());
        self.object_name("backup", "encryption", given);
    }

    fn object_name(&mut self, within: &str, field: &str, given: Option<&str>) {
        if let Some(given) = given.filter(|given| !given.is_empty() && !syntax::subdomain(given)) {
            self.add(within, field, given, "not a valid object name");
        }
    }

    fn storage(&mut self, within: &str, storage: Option<&StorageSpec>) {
        let Some(storage) = storage else { return };
        if let Some(size) = &storage.size
            && quantity(size).is_none_or(|value| value <= 0.0)
        {
            self.add(
                within,
                "size",
                size,
                "give a positive quantity such as 10Gi",
            );
        }
        self.object_name(within, "class", storage.class.as_deref());
        for mode in storage
            .access_modes
            .iter()
            .filter(|mode| !syntax::access_mode(mode))
        {
            let remedy = "use ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod";
            self.add(within, "accessModes", mode, remedy);
        }
        // The API server refuses the combination.
        if storage.access_modes.len() > 1
            && storage.access_modes.iter().any(|m| m == "ReadWriteOncePod")
        {
            self.add(
                within,
                "accessModes",
                "ReadWriteOncePod",
                "it cannot be combined with other modes",
            );
        }
    }

    fn resources(&mut self, within: &str, given: Option<&ResourceRequirements>) {
        let Some(given) = given else { return };
        for (part, map) in [("requests", &given.requests), ("limits", &given.limits)] {
            for (name, value) in map.iter().flatten() {
                if quantity(&value.0).is_none_or(|value| value < 0.0) {
                    let path = format!("resources.{part}.{name}");
                    self.resource(
                        within,
                        &path,
                        &value.0,
                        "give a quantity that is not negative, such as 500m or 1Gi",
                    );
                }
            }
        }
        for (name, request) in given.requests.iter().flatten() {
            let Some(limit) = given.limits.as_ref().and_then(|limits| limits.get(name)) else {
                continue;
            };
            if let (Some(least), Some(most)) = (quantity(&request.0), quantity(&limit.0))
                && most < least
            {
                let remedy = format!("must be >= request, which is {}", request.0);
                self.resource(
                    within,
                    &format!("resources.limits.{name}"),
                    &limit.0,
                    &remedy,
                );
            }
        }
    }

    /// Resources are noted as one block.
    fn resource(&mut self, within: &str, path: &str, value: &str, remedy: &str) {
        let place = self.provenance.place(self.component, within, "resources");
        let place = format!(
            "{}{}",
            place.strip_suffix("resources").unwrap_or(&place),
            path
        );
        self.findings.add(place, value, remedy);
    }
}
