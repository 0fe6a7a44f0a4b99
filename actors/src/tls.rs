//! What TLS adds to a container and its pod: mTLS between components (`workloads.md` 11.1), TLS towards the user's etcd
//! (`topology.md` 1.1), TLS for PostgreSQL clients (`workloads.md` 11.2).

use crds::GlobalTopoServerRef;
use k8s_openapi::api::core::v1::{
    ProjectedVolumeSource, SecretProjection, Volume, VolumeMount, VolumeProjection,
};

use crate::secrets::Needed;
use crate::workload::{self, READABLE, item, listed, mount_ro, secret_volume};

/// The component under whose name the operator itself calls poolers and multiadmin.
pub const OPERATOR: &str = "multigres-operator";

/// Files of a certificate with the authority that signed it.
pub const PAIR_AND_CA: &[&str] = &["tls.crt", "tls.key", "ca.crt"];
/// Files of a certificate.
pub const PAIR: &[&str] = &["tls.crt", "tls.key"];
/// File of an authority.
pub const CA: &[&str] = &["ca.crt"];

const STORE_DIR: &str = "/etc/multigres/topo-tls";
const STORE_VOLUME: &str = "topo-tls";

/// Secret with the certificate that PostgreSQL clients see; one per cluster, so that two clusters of a namespace do not share
/// it (`workloads.md` T11).
pub fn public_secret(cluster: &str) -> String {
    format!("{cluster}-multigateway-tls")
}

/// Arguments, mounts and volumes, and the Secrets that must be there first.
#[derive(Default)]
pub struct Tls {
    /// Flags and values, apart.
    pub args: Vec<String>,
    /// Mounts, all read-only.
    pub mounts: Vec<VolumeMount>,
    /// Volumes of the pod.
    pub volumes: Vec<Volume>,
    /// What is mounted.
    pub secrets: Vec<Needed>,
}

impl Tls {
    /// mTLS with the other components: serves with the component's certificate and calls poolers with it. `of` is component,
    /// cluster and namespace, `at` the volume's name and the folder.
    pub fn mesh(&mut self, of: (&str, &str, &str), at: (&str, &str)) {
        self.serve(of, at);
        let ((_, cluster, namespace), (_, dir)) = (of, at);
        self.args
            .extend(workload::call_tls(dir, cluster, namespace));
    }

    /// The same for a component that calls nobody.
    pub fn serve(&mut self, of: (&str, &str, &str), at: (&str, &str)) {
        let ((component, cluster, namespace), (volume, dir)) = (of, at);
        let secret = workload::certificate_name(component, cluster, namespace);
        self.args.extend(workload::serve_tls(dir));
        self.mounts.push(mount_ro(volume, dir));
        self.volumes
            .push(secret_volume(volume, &secret, READABLE, None));
        self.secrets.push(Needed::issued(secret, PAIR_AND_CA));
    }

    /// TLS for PostgreSQL clients, offered and not demanded.
    pub fn public(&mut self, cluster: &str, volume: &str, dir: &str) {
        let secret = public_secret(cluster);
        self.args.extend([
            "--pg-tls-cert-file".to_owned(),
            format!("{dir}/tls.crt"),
            "--pg-tls-key-file".to_owned(),
            format!("{dir}/tls.key"),
        ]);
        self.mounts.push(mount_ro(volume, dir));
        self.volumes
            .push(secret_volume(volume, &secret, READABLE, None));
        self.secrets.push(Needed::issued(secret, PAIR));
    }

    /// TLS towards an external topology store, where the cluster names Secrets for it.
    pub fn store(&mut self, store: &GlobalTopoServerRef) {
        let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let sources = [
            (given(&store.client_cert_secret), PAIR),
            (given(&store.ca_secret), CA),
        ];
        let mut projections = Vec::new();
        for (name, files) in sources {
            let Some(name) = name else { continue };
            for file in files {
                let flag = match *file {
                    "tls.crt" => "cert",
                    "tls.key" => "key",
                    _ => "ca",
                };
                self.args.push(format!("--topo-etcd-tls-{flag}"));
                self.args.push(format!("{STORE_DIR}/{file}"));
            }
            projections.push(VolumeProjection {
                secret: Some(SecretProjection {
                    name: name.clone(),
                    items: Some(files.iter().map(|file| item(file, file)).collect()),
                    optional: None,
                }),
                ..VolumeProjection::default()
            });
            self.secrets.push(Needed::given(name, files));
        }
        if let Some(sources) = listed(projections) {
            self.mounts.push(mount_ro(STORE_VOLUME, STORE_DIR));
            self.volumes.push(Volume {
                name: STORE_VOLUME.to_owned(),
                projected: Some(ProjectedVolumeSource {
                    default_mode: Some(READABLE),
                    sources: Some(sources),
                }),
                ..Volume::default()
            });
        }
    }
}
