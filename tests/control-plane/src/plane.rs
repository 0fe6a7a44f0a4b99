//! One running control plane.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use crate::{
    audit::Audit,
    binaries::Binaries,
    certificates::write_kubeconfig,
    components::Components,
    process::{Launch, Process, Running, Signal, signal_pid},
    slot::Slot,
    stages, wait,
};

/// For everything that a healthy plane does within seconds; long because a loaded machine is slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How pods behave.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Pods {
    /// Ready as soon as they are placed, gone as soon as they are deleted.
    #[default]
    Instant,
    /// The operator's pods are made ready and are deleted by a stand-in data plane; all others are [`Pods::Instant`].
    StandIn,
}

/// How to start a plane.
#[derive(Clone, Debug)]
pub struct PlaneOptions {
    /// Where its files go; a temporary folder without it.
    pub dir: Option<PathBuf>,
    /// Keep the files when the plane stops. They are kept anyway when the test fails.
    pub keep: bool,
    /// Nodes in each of the three zones.
    pub nodes_per_zone: usize,
    /// How pods behave.
    pub pods: Pods,
    /// Survive this process.
    pub detach: bool,
    /// Part of the temporary folder's name.
    pub name: String,
}

impl Default for PlaneOptions {
    fn default() -> Self {
        Self {
            dir: None,
            keep: false,
            nodes_per_zone: 1,
            pods: Pods::Instant,
            detach: false,
            name: "plane".to_owned(),
        }
    }
}

/// A running control plane; ends when dropped unless it is detached.
pub struct Plane {
    components: Components,
    keep: bool,
    detach: bool,
    nodes_per_zone: usize,
    pods: Pods,
    client: Client,
    kubeconfig: PathBuf,
    processes: Mutex<BTreeMap<Process, Running>>,
    companions: Mutex<BTreeMap<String, Running>>,
    tokens: AtomicUsize,
}

impl Plane {
    /// Starts a plane and waits until its nodes take pods.
    pub async fn start(options: PlaneOptions) -> anyhow::Result<Self> {
        let mut plane = Self::start_server(options).await?;
        plane.start_nodes().await?;
        Ok(plane)
    }

    /// Starts etcd and the API server only; [`Plane::start_nodes`] starts the rest.
    ///
    /// The moment between the two is the one in which custom kinds should come. The API server's admission plugin
    /// OwnerReferencesPermissionEnforcement takes a list of all kinds when it checks the first owner reference with
    /// `blockOwnerDeletion`, and a new one only every 30 s: until then it refuses such references to kinds it does not
    /// know (403). Controllers write owner references as soon as they run.
    pub async fn start_server(options: PlaneOptions) -> anyhow::Result<Self> {
        let binaries = tokio::task::spawn_blocking(Binaries::locate).await??;
        let slot = Arc::new(Slot::take()?);
        let components = Components::new(binaries, folder(&options)?, slot, options.detach)?;
        components.prepare()?;
        let kubeconfig = components.folder.join("admin.kubeconfig");
        let client = connect(&kubeconfig).await?;
        let mut plane = Self {
            components,
            keep: options.keep,
            detach: options.detach,
            nodes_per_zone: options.nodes_per_zone,
            pods: options.pods,
            client,
            kubeconfig,
            processes: Mutex::default(),
            companions: Mutex::default(),
            tokens: AtomicUsize::new(0),
        };
        let started = plane.server().await;
        plane.judge(started)?;
        Ok(plane)
    }

    /// Starts the controllers, the scheduler and the nodes, and waits until pods can be made.
    pub async fn start_nodes(&mut self) -> anyhow::Result<()> {
        let started = self.controllers().await;
        self.judge(started)
    }

    /// Of a plane that did not come up, the logs stay and nothing else.
    fn judge(&mut self, started: anyhow::Result<()>) -> anyhow::Result<()> {
        started.with_context(|| {
            // Nobody will look after it, and its logs tell why.
            self.detach = false;
            self.keep = true;
            format!("logs are in {}", self.dir().join("logs").display())
        })
    }

    async fn server(&self) -> anyhow::Result<()> {
        self.run(Process::Etcd)?;
        self.run(Process::ApiServer)?;
        wait::until("the API server", DEADLINE, async || {
            self.check()?;
            let request = ::http::Request::get("/readyz").body(Vec::new())?;
            Ok(self.client.request_text(request).await.ok())
        })
        .await?;
        Ok(())
    }

    async fn controllers(&self) -> anyhow::Result<()> {
        self.run(Process::ControllerManager)?;
        self.run(Process::Scheduler)?;
        stages::install(&self.client, self.pods).await?;
        self.run(Process::Kwok)?;
        stages::nodes(&self.client, self.nodes_per_zone).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), "default");
        wait::object(
            accounts,
            "default",
            "the controller manager",
            DEADLINE,
            |_| true,
        )
        .await?;
        self.check()
    }

    fn run(&self, process: Process) -> anyhow::Result<()> {
        let running = self.components.start(process)?;
        self.processes().insert(process, running);
        Ok(())
    }

    /// Starts a program that belongs to the plane: it ends with it, or survives with it.
    pub fn run_beside(&self, name: &str, program: &Path, args: Vec<String>) -> anyhow::Result<()> {
        let running = Running::start(Launch {
            name,
            program,
            args,
            env: Vec::new(),
            log: self.dir().join("logs").join(format!("{name}.log")),
            detach: self.detach,
            lock: None,
        })?;
        self.companions().insert(name.to_owned(), running);
        Ok(())
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<Process, Running>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn companions(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.companions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if a process of the plane has ended.
    pub fn check(&self) -> anyhow::Result<()> {
        self.processes().values_mut().try_for_each(Running::check)?;
        self.companions().values_mut().try_for_each(Running::check)
    }

    /// A client with all rights (user `admin`).
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API server's address.
    pub fn api_server(&self) -> String {
        self.components.api_server()
    }

    /// The address of the API server's etcd.
    pub fn etcd(&self) -> String {
        self.components.etcd()
    }

    /// The folder of the plane's files.
    pub fn dir(&self) -> &Path {
        &self.components.folder
    }

    /// The programs.
    pub fn binaries(&self) -> &Binaries {
        &self.components.binaries
    }

    /// The network of the pods' addresses, a /16 that no other plane of this machine has.
    pub fn pod_cidr(&self) -> String {
        self.components.slot.pod_cidr()
    }

    /// A free port on 127.0.0.1 that no other plane of this machine hands out.
    pub fn free_port(&self) -> anyhow::Result<u16> {
        self.components.slot.port()
    }

    pub(crate) fn pods(&self) -> Pods {
        self.pods
    }

    pub(crate) fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.components.slot)
    }

    /// The audit log.
    pub fn audit(&self) -> Audit {
        Audit::new(self.dir().join("audit.log"), self.client())
    }

    /// Writes a kubeconfig with a new token of a ServiceAccount that holds for a day.
    pub async fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(24 * 60 * 60),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec,
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("failed to get a token of {namespace}/{name}"))?;
        let token = answer.status.context("the answer has no token")?.token;
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        let path = self
            .dir()
            .join(format!("{namespace}.{name}.{number}.kubeconfig"));
        write_kubeconfig(
            &path,
            &self.api_server(),
            &self.dir().join("ca.crt"),
            &json!({ "token": token }),
        )?;
        Ok(path)
    }

    /// Runs kubectl as administrator.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.tool("kubectl", args)
    }

    /// Runs Helm as administrator.
    pub fn helm(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.tool("helm", args)
    }

    fn tool(&self, program: &str, args: &[&str]) -> anyhow::Result<Output> {
        Command::new(self.binaries().path(program))
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.dir().join("kubectl"))
            .env("HELM_CACHE_HOME", self.dir().join("helm/cache"))
            .env("HELM_CONFIG_HOME", self.dir().join("helm/config"))
            .env("HELM_DATA_HOME", self.dir().join("helm/data"))
            .output()
            .with_context(|| format!("failed to run {program}"))
    }

    /// The process id of a component.
    pub fn pid(&self, process: Process) -> anyhow::Result<u32> {
        let processes = self.processes();
        Ok(processes
            .get(&process)
            .ok_or_else(|| anyhow!("{} is not running", process.program()))?
            .pid())
    }

    /// The process ids of all components.
    pub fn pids(&self) -> Vec<u32> {
        self.processes().values().map(Running::pid).collect()
    }

    /// The process ids of all components and of what runs beside them, by program.
    pub fn named_pids(&self) -> BTreeMap<String, u32> {
        let processes = self.processes();
        let processes = processes.iter();
        let own = processes.map(|(process, running)| (process.program().to_owned(), running.pid()));
        let companions = self.companions();
        let beside = companions
            .iter()
            .map(|(name, running)| (name.clone(), running.pid()));
        own.chain(beside).collect()
    }

    /// Sends a signal to a component.
    pub fn signal(&self, process: Process, signal: Signal) -> anyhow::Result<()> {
        signal_pid(self.pid(process)?, signal)
    }

    /// Ends the plane, a detached one too.
    pub fn stop(mut self) {
        self.detach = false;
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let processes = std::mem::take(&mut *self.processes());
        let companions = std::mem::take(&mut *self.companions());
        if self.detach {
            let all = processes.into_values().chain(companions.into_values());
            all.for_each(Running::forget);
            return;
        }
        // Clients first, so that their last lines are not about servers that went away.
        drop(companions);
        processes.into_values().rev().for_each(drop);
        if self.keep || std::thread::panicking() {
            eprintln!("the plane's files are kept in {}", self.dir().display());
        } else if let Err(error) = fs::remove_dir_all(self.dir()) {
            eprintln!("failed to remove {}: {error}", self.dir().display());
        }
    }
}

/// A client that uses a kubeconfig. It shows refusals (429, 503) to the caller instead of trying again by itself.
pub async fn connect(kubeconfig: &Path) -> anyhow::Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

fn folder(options: &PlaneOptions) -> anyhow::Result<PathBuf> {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").context("no random number")?;
    let short: String = random.chars().take(8).collect();
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("multigres-{}-{short}", options.name)),
    };
    fs::create_dir_all(dir.join("logs"))
        .with_context(|| format!("failed to create {}", dir.display()))?;
    Ok(dir.canonicalize()?)
}
