//! How the layers of each struct come together (`admission.md` 2.6), field by field. Every struct is written out in full, so that
//! a new field does not compile until it says how it merges.

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::defaults;
use super::layers::{Layers, list, text};
use super::provenance::Recorder;
use crate::{
    ContainerConfig, EtcdSpec, ExternalTopoServerSpec, GatewayBufferConfig, LocalTopoServerSpec,
    MultigatewaySpec, MultiorchSpec, PoolSpec, StatelessSpec, StorageSpec,
};

/// Resources count as given when any member is, an empty map included (`api.md` trap T26).
fn given(resources: Option<&ResourceRequirements>) -> Option<&ResourceRequirements> {
    resources.filter(|r| r.requests.is_some() || r.limits.is_some() || r.claims.is_some())
}

/// A Deployment's settings.
pub fn stateless(
    l: Layers<'_, StatelessSpec>,
    component: &str,
    rec: &mut Recorder<'_>,
) -> StatelessSpec {
    StatelessSpec {
        replicas: rec.pick("replicas", l.first(|s| s.replicas.as_ref()), || Some(1)),
        resources: rec.pick(
            "resources",
            l.first(|s| given(s.resources.as_ref())),
            || defaults::resources(component),
        ),
        affinity: rec.given("affinity", l.first(|s| s.affinity.as_ref())),
        pod_annotations: rec.union("podAnnotations", l.map(|s| Some(&s.pod_annotations))),
        pod_labels: rec.union("podLabels", l.map(|s| Some(&s.pod_labels))),
    }
}

/// A cell's gateways.
pub fn gateway(l: Layers<'_, MultigatewaySpec>, rec: &mut Recorder<'_>) -> MultigatewaySpec {
    MultigatewaySpec {
        stateless: stateless(l.map(|g| Some(&g.stateless)), "multigateway", rec),
        buffer: Some(buffer(
            l.map(|g| g.buffer.as_ref()),
            &mut rec.within("buffer"),
        )),
    }
}

fn buffer(l: Layers<'_, GatewayBufferConfig>, rec: &mut Recorder<'_>) -> GatewayBufferConfig {
    GatewayBufferConfig {
        enabled: rec.pick("enabled", l.first(|b| b.enabled.as_ref()), || Some(true)),
        window: rec.given("window", l.first(|b| text(&b.window))),
        max_failover_duration: rec.given(
            "maxFailoverDuration",
            l.first(|b| text(&b.max_failover_duration)),
        ),
        min_time_between_failovers: rec.given(
            "minTimeBetweenFailovers",
            l.first(|b| text(&b.min_time_between_failovers)),
        ),
        size: rec.given("size", l.first(|b| b.size.as_ref())),
        drain_concurrency: rec.given(
            "drainConcurrency",
            l.first(|b| b.drain_concurrency.as_ref()),
        ),
    }
}

/// A shard's orchestrators; `cells` are all cells of the cluster, sorted.
pub fn multiorch(
    l: Layers<'_, MultiorchSpec>,
    cells: &[String],
    rec: &mut Recorder<'_>,
) -> MultiorchSpec {
    MultiorchSpec {
        stateless: stateless(l.map(|o| Some(&o.stateless)), "multiorch", rec),
        placement: rec.given("placement", l.first(|o| o.placement.as_ref())),
        cells: rec
            .pick("cells", l.first(|o| list(&o.cells)), || {
                Some(cells.to_vec())
            })
            .unwrap_or_default(),
    }
}

/// A pool: two pods when it has one cell, since AT_LEAST_2 needs two, else one per cell.
pub fn pool(l: Layers<'_, PoolSpec>, cells: &[String], rec: &mut Recorder<'_>) -> PoolSpec {
    let cells = rec
        .pick("cells", l.first(|p| list(&p.cells)), || {
            Some(cells.to_vec())
        })
        .unwrap_or_default();
    let replicas = if cells.len() == 1 { 2 } else { 1 };
    PoolSpec {
        type_: rec.given("type", l.first(|p| text(&p.type_))),
        cells,
        replicas_per_cell: rec.pick(
            "replicasPerCell",
            l.first(|p| p.replicas_per_cell.as_ref()),
            || Some(replicas),
        ),
        storage: Some(storage(
            l.map(|p| p.storage.as_ref()),
            "1Gi",
            &mut rec.within("storage"),
        )),
        postgres: Some(container(
            l.map(|p| p.postgres.as_ref()),
            "postgres",
            &mut rec.within("postgres"),
        )),
        multipooler: Some(container(
            l.map(|p| p.multipooler.as_ref()),
            "multipooler",
            &mut rec.within("multipooler"),
        )),
        affinity: rec.given("affinity", l.first(|p| p.affinity.as_ref())),
        tolerations: rec
            .given("tolerations", l.first(|p| list(&p.tolerations)))
            .unwrap_or_default(),
        fs_group: rec.given("fsGroup", l.first(|p| p.fs_group.as_ref())),
        pvc_deletion_policy: rec.given(
            "pvcDeletionPolicy",
            l.first(|p| p.pvc_deletion_policy.as_ref()),
        ),
    }
}

fn container(
    l: Layers<'_, ContainerConfig>,
    component: &str,
    rec: &mut Recorder<'_>,
) -> ContainerConfig {
    ContainerConfig {
        resources: rec.pick(
            "resources",
            l.first(|c| given(c.resources.as_ref())),
            || defaults::resources(component),
        ),
        run_as_user: rec.given("runAsUser", l.first(|c| c.run_as_user.as_ref())),
        run_as_group: rec.given("runAsGroup", l.first(|c| c.run_as_group.as_ref())),
    }
}

/// A volume.
pub fn storage(l: Layers<'_, StorageSpec>, size: &str, rec: &mut Recorder<'_>) -> StorageSpec {
    StorageSpec {
        size: rec.pick("size", l.first(|s| text(&s.size)), || Some(size.to_owned())),
        class: rec.given("class", l.first(|s| text(&s.class))),
        access_modes: rec
            .given("accessModes", l.first(|s| list(&s.access_modes)))
            .unwrap_or_default(),
    }
}

/// A managed etcd: three members with one gibibyte each.
pub fn etcd(l: Layers<'_, EtcdSpec>, root: &str, rec: &mut Recorder<'_>) -> EtcdSpec {
    EtcdSpec {
        image: rec.pick("image", l.first(|e| text(&e.image)), || {
            Some(crate::image::ETCD.to_owned())
        }),
        replicas: rec.pick("replicas", l.first(|e| e.replicas.as_ref()), || Some(3)),
        storage: Some(storage(
            l.map(|e| e.storage.as_ref()),
            "1Gi",
            &mut rec.within("storage"),
        )),
        resources: rec.pick(
            "resources",
            l.first(|e| given(e.resources.as_ref())),
            || defaults::resources("etcd"),
        ),
        root_path: rec.pick("rootPath", l.first(|e| text(&e.root_path)), || {
            Some(root.to_owned())
        }),
        pvc_deletion_policy: rec.given(
            "pvcDeletionPolicy",
            l.first(|e| e.pvc_deletion_policy.as_ref()),
        ),
    }
}

/// An etcd of the user's.
pub fn external(
    l: Layers<'_, ExternalTopoServerSpec>,
    root: &str,
    rec: &mut Recorder<'_>,
) -> ExternalTopoServerSpec {
    ExternalTopoServerSpec {
        endpoints: rec
            .given("endpoints", l.first(|e| list(&e.endpoints)))
            .unwrap_or_default(),
        implementation: rec.pick(
            "implementation",
            l.first(|e| text(&e.implementation)),
            || Some("etcd".to_owned()),
        ),
        ca_secret: rec.given("caSecret", l.first(|e| text(&e.ca_secret))),
        client_cert_secret: rec.given("clientCertSecret", l.first(|e| text(&e.client_cert_secret))),
        root_path: rec.pick("rootPath", l.first(|e| text(&e.root_path)), || {
            Some(root.to_owned())
        }),
    }
}

/// A cell's own store: the inline one replaces the template's as a whole.
pub fn local_topology(
    l: Layers<'_, LocalTopoServerSpec>,
    cell: &str,
    rec: &mut Recorder<'_>,
) -> Option<LocalTopoServerSpec> {
    // Only the strongest layer that names a store at all.
    let (inline, template) = match (l.inline, l.template) {
        (None, None) => return None,
        (Some(inline), _) => (Some(inline), None),
        (None, template) => (None, template),
    };
    let l = Layers::of(inline, template);
    let root = format!("/multigres/{cell}");
    let managed = l.map(|t| t.etcd.as_ref());
    let foreign = l.map(|t| t.external.as_ref());
    Some(LocalTopoServerSpec {
        etcd: managed
            .any()
            .then(|| etcd(managed, &root, &mut rec.within("etcd"))),
        external: foreign
            .any()
            .then(|| external(foreign, &root, &mut rec.within("external"))),
    })
}
