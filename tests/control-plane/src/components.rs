//! The programs of a plane and their arguments.

use std::{path::PathBuf, sync::Arc};

use crate::{
    binaries::Binaries,
    certificates::{Authority, write_private},
    process::{Launch, Process, Running},
    slot::Slot,
};

/// Every request is logged once, when it is answered.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
";
/// Services get no endpoints here: their addresses would be loopback ones, which EndpointSlices refuse.
const CONTROLLERS: &str = "--controllers=*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller";

/// What starts the programs of one plane.
pub(crate) struct Components {
    pub(crate) binaries: Binaries,
    pub(crate) folder: PathBuf,
    pub(crate) slot: Arc<Slot>,
    pub(crate) detach: bool,
    etcd: u16,
    server: u16,
}

impl Components {
    pub(crate) fn new(
        binaries: Binaries,
        folder: PathBuf,
        slot: Arc<Slot>,
        detach: bool,
    ) -> anyhow::Result<Self> {
        let (etcd, server) = (slot.port()?, slot.port()?);
        Ok(Self {
            binaries,
            folder,
            slot,
            detach,
            etcd,
            server,
        })
    }

    pub(crate) fn api_server(&self) -> String {
        format!("https://127.0.0.1:{}", self.server)
    }

    pub(crate) fn etcd(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd)
    }

    /// Writes certificates, kubeconfigs and the audit policy.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        let authority = Authority::create(&self.folder)?;
        let server = self.api_server();
        authority.server("server")?;
        authority.service_accounts()?;
        authority.client("admin", "admin", Some("system:masters"), &server)?;
        authority.client("kwok", "kwok", Some("system:masters"), &server)?;
        authority.client("scheduler", "system:kube-scheduler", None, &server)?;
        authority.client(
            "controller-manager",
            "system:kube-controller-manager",
            None,
            &server,
        )?;
        write_private(&self.folder.join("audit-policy.yaml"), AUDIT_POLICY)
    }

    pub(crate) fn start(&self, process: Process) -> anyhow::Result<Running> {
        let args = match process {
            Process::Etcd => self.etcd_args()?,
            Process::ApiServer => self.api_server_args(),
            Process::ControllerManager => self.controller_manager_args()?,
            Process::Scheduler => self.scheduler_args()?,
            Process::Kwok => self.kwok_args(),
        };
        if self.detach && process == Process::Etcd {
            self.slot.release();
        }
        Running::start(Launch {
            name: process.program(),
            program: &self.binaries.path(process.program()),
            args,
            // kwok would read ~/.kwok/kwok.yaml.
            env: vec![("HOME".to_owned(), self.file(""))],
            log: self
                .folder
                .join("logs")
                .join(format!("{}.log", process.program())),
            detach: self.detach,
            lock: (process == Process::Etcd).then(|| self.slot.path()),
        })
    }

    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.folder.join(name);
        path.display().to_string()
    }

    fn etcd_args(&self) -> anyhow::Result<Vec<String>> {
        let client = self.etcd();
        let peer = format!("http://127.0.0.1:{}", self.slot.port()?);
        Ok(vec![
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
            "--quota-backend-bytes=8589934592".to_owned(),
            "--log-level=warn".to_owned(),
        ])
    }

    fn api_server_args(&self) -> Vec<String> {
        vec![
            format!("--etcd-servers={}", self.etcd()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.server),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            format!("--client-ca-file={}", self.file("ca.crt")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!(
                "--service-account-key-file={}",
                self.file("service-accounts.pub")
            ),
            format!(
                "--service-account-signing-key-file={}",
                self.file("service-accounts.key")
            ),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/12".to_owned(),
            format!("--audit-policy-file={}", self.file("audit-policy.yaml")),
            format!("--audit-log-path={}", self.file("audit.log")),
            // The default rotates at 100 MB, which would lose counts.
            "--audit-log-maxsize=20000".to_owned(),
            "--allow-privileged=true".to_owned(),
        ]
    }

    fn controller_manager_args(&self) -> anyhow::Result<Vec<String>> {
        Ok(vec![
            format!(
                "--kubeconfig={}",
                self.file("controller-manager.kubeconfig")
            ),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.slot.port()?),
            format!("--cert-dir={}", self.file("controller-manager")),
            "--use-service-account-credentials".to_owned(),
            format!(
                "--service-account-private-key-file={}",
                self.file("service-accounts.key")
            ),
            format!("--root-ca-file={}", self.file("ca.crt")),
            "--leader-elect=false".to_owned(),
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
            // Kwok reports its nodes seldom (stages/stages.yaml).
            "--node-monitor-grace-period=24h".to_owned(),
            CONTROLLERS.to_owned(),
        ])
    }

    fn scheduler_args(&self) -> anyhow::Result<Vec<String>> {
        Ok(vec![
            format!("--kubeconfig={}", self.file("scheduler.kubeconfig")),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.slot.port()?),
            format!("--cert-dir={}", self.file("scheduler")),
            "--leader-elect=false".to_owned(),
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ])
    }

    fn kwok_args(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.file("kwok.kubeconfig")),
            "--manage-all-nodes=false".to_owned(),
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
            "--enable-crds=Stage".to_owned(),
            format!("--cidr={}", self.slot.pod_cidr()),
            "--node-ip=127.0.0.1".to_owned(),
            "--node-lease-duration-seconds=0".to_owned(),
        ]
    }
}
