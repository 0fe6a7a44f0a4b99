//! What TLS adds to a container and its pod: mTLS between components (`workloads.md` 11.1), TLS towards the user's etcd
//! (`topology.md` 1.1), TLS for PostgreSQL clients (`workloads.md` 11.2).

use crds::GlobalTopoServerRef;

use crate::secrets::Needed;
use crate::shape::{
    ProjectedVolumeSource, SecretProjection, Text, Volume, VolumeMount, VolumeProjection,
};
use crate::workload::{self, READABLE, item, mount_ro, secret_volume};

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
pub struct Tls<'a> {
    /// Flags and values, apart.
    pub args: Vec<Text<'a>>,
    /// Mounts, all read-only.
    pub mounts: Vec<VolumeMount<'a>>,
    /// Volumes of the pod.
    pub volumes: Vec<Volume<'a>>,
    /// What is mounted.
    pub secrets: Vec<Needed>,
}

impl<'a> Tls<'a> {
    /// mTLS with the other components: serves with the component's certificate and calls poolers with it. `of` is component,
    /// cluster and namespace, `at` the volume's name and the folder.
    pub fn mesh(&mut self, of: (&str, &str, &str), at: (&'a str, &'a str)) {
        self.serve(of, at);
        let ((_, cluster, namespace), (_, dir)) = (of, at);
        self.args
            .extend(workload::call_tls(dir, cluster, namespace));
    }

    /// The same for a component that calls nobody.
    pub fn serve(&mut self, of: (&str, &str, &str), at: (&'a str, &'a str)) {
        let ((component, cluster, namespace), (volume, dir)) = (of, at);
        let secret = workload::certificate_name(component, cluster, namespace);
        self.args.extend(workload::serve_tls(dir));
        self.mounts.push(mount_ro(volume, dir));
        self.volumes
            .push(secret_volume(volume, secret.clone(), READABLE, Vec::new()));
        self.secrets.push(Needed::issued(secret, PAIR_AND_CA));
    }

    /// TLS for PostgreSQL clients, offered and not demanded.
    pub fn public(&mut self, cluster: &str, volume: &'a str, dir: &'a str) {
        let secret = public_secret(cluster);
        self.args.extend([
            "--pg-tls-cert-file".into(),
            format!("{dir}/tls.crt").into(),
            "--pg-tls-key-file".into(),
            format!("{dir}/tls.key").into(),
        ]);
        self.mounts.push(mount_ro(volume, dir));
        self.volumes
            .push(secret_volume(volume, secret.clone(), READABLE, Vec::new()));
        self.secrets.push(Needed::issued(secret, PAIR));
    }

    /// TLS towards an external topology store, where the cluster names Secrets for it.
    pub fn store(&mut self, store: &'a GlobalTopoServerRef) {
        let sources = [
            (workload::text(&store.client_cert_secret), PAIR),
            (workload::text(&store.ca_secret), CA),
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
                self.args.push(format!("--topo-etcd-tls-{flag}").into());
                self.args.push(format!("{STORE_DIR}/{file}").into());
            }
            projections.push(VolumeProjection {
                secret: SecretProjection {
                    name: name.into(),
                    items: files.iter().map(|file| item(file, file)).collect(),
                },
            });
            self.secrets.push(Needed::given(name.to_owned(), files));
        }
        if !projections.is_empty() {
            self.mounts.push(mount_ro(STORE_VOLUME, STORE_DIR));
            self.volumes.push(Volume {
                name: STORE_VOLUME,
                projected: Some(ProjectedVolumeSource {
                    default_mode: READABLE,
                    sources: projections,
                }),
                ..Volume::default()
            });
        }
    }
}
