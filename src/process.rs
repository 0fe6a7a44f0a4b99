//! The whole process as one value: start it, learn its addresses, stop it. `main` and the cluster tests use it alike.
//!
//! Stopping goes from the outside in: readiness ends, actors drain, the Lease is released once nothing is under way
//! (otherwise it runs out), then servers and threads end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::args::{Args, Environment};
use crate::clock;
use crate::engine::{Actors, Clients, Engine, Handle, Hooks, Leadership, Settings};
use crate::fence;
use crate::leader::{self, Elector};
use crate::lease::Timing;
use crate::server::{self, auth, health, introspection, tls};
use crate::shutdown::{DRAIN, Shutdown};

/// Time to reach the API server.
const CONNECT: Duration = Duration::from_secs(5);

/// Part of the shutdown that is left for the Lease, servers and threads after the actors have drained.
const RESERVE: Duration = Duration::from_secs(2);

/// Why the process did not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable configuration of the API server.
    #[error("unable to find the API server: {0}")]
    Config(String),
    /// The client could not be made of it.
    #[error("unable to make the client of the API server: {0}")]
    Client(#[from] kube::Error),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// No serving certificate.
    #[error(transparent)]
    Certificate(#[from] tls::Error),
    /// The actors did not start.
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
    /// Signals or threads.
    #[error("unable to set up the process: {0}")]
    System(#[from] std::io::Error),
    /// The actors' thread ended by itself.
    #[error("the actors' thread ended unexpectedly")]
    Ended,
}

/// How to reach the API server.
///
/// Watches live long, so reads have no time limit; every other request gets its own where it is made. The client does
/// not retry by itself: 429 and 503 must reach the executor, which paces by them.
///
/// # Errors
/// When there is no usable configuration.
pub async fn config(kubeconfig: Option<&Path>) -> Result<Config, Error> {
    let mut config = match kubeconfig {
        None => Config::infer()
            .await
            .map_err(|error| Error::Config(error.to_string()))?,
        Some(path) => {
            let file =
                Kubeconfig::read_from(path).map_err(|error| Error::Config(error.to_string()))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| Error::Config(error.to_string()))?
        }
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = None;
    config.default_retry = false;
    let agent =
        http::HeaderValue::from_static(concat!("multigres-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((http::header::USER_AGENT, agent));
    Ok(config)
}

/// A running operator.
pub struct Process {
    engine: Engine,
    handle: Arc<Handle>,
    shutdown: Shutdown,
    leadership: watch::Receiver<Leadership>,
    elector: Option<(oneshot::Sender<bool>, JoinHandle<()>)>,
    /// Keeps a leadership without election from ending.
    _alone: Option<watch::Sender<Leadership>>,
    servers: JoinSet<()>,
    metrics: Option<SocketAddr>,
    health: Option<SocketAddr>,
}

impl Process {
    /// Starts everything on the current multi-thread runtime. Call [`crate::runtime::install_crypto`] first.
    ///
    /// # Errors
    /// When an address is taken or the actors do not start.
    pub async fn start(
        config: Config,
        args: &Args,
        environment: &Environment,
        hooks: Hooks,
    ) -> Result<Self, Error> {
        let io = Runtime::current();
        let client = Client::try_from(config.clone())?;
        let metrics = server::listen(&args.metrics_bind_address)
            .await
            .map_err(Error::Listen)?;
        let probes = server::listen(&args.health_probe_bind_address)
            .await
            .map_err(Error::Listen)?;
        let (sender, leadership) = watch::channel(Leadership::Standby);
        let (elector, alone) = if args.leader_elect {
            (
                Some(elect(client.clone(), args, environment, sender, &io)),
                None,
            )
        } else {
            sender.send_replace(leader::alone());
            (None, Some(sender))
        };
        let clients = Clients {
            reads: client.clone(),
            writes: fence::client(config, leadership.clone(), io.clone())?,
        };
        let settings = Settings {
            namespace: environment.namespace.clone(),
            identity: environment.name.clone(),
            call_deadline: Timing::from(args.lease_duration).write,
            variables: environment.defaults.clone(),
            image_strategy: args.image_update_strategy.into(),
            stores: args.topology_stores,
            data_plane: args.data_plane,
            hooks,
        };
        let engine = Engine::start(clients, leadership.clone(), settings, io).await?;
        let handle = engine.handle();
        let mut process = Self {
            engine,
            handle,
            shutdown: Shutdown::default(),
            leadership,
            elector,
            _alone: alone,
            servers: JoinSet::new(),
            metrics: metrics
                .as_ref()
                .and_then(|listener| listener.local_addr().ok()),
            health: probes
                .as_ref()
                .and_then(|listener| listener.local_addr().ok()),
        };
        process.serve(
            client,
            metrics,
            probes,
            args.metrics_secure,
            &environment.name,
        )?;
        Ok(process)
    }

    fn serve(
        &mut self,
        client: Client,
        metrics: Option<tokio::net::TcpListener>,
        probes: Option<tokio::net::TcpListener>,
        secure: bool,
        name: &str,
    ) -> Result<(), Error> {
        let actors: Arc<dyn Actors> = self.handle.clone();
        if let Some(listener) = metrics {
            let names = vec![
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
                name.to_owned(),
            ];
            let acceptor = if secure {
                Some(tls::self_signed(names)?)
            } else {
                None
            };
            let guard = secure.then(|| Arc::new(auth::Guard::new(auth::ApiReviewer(client))));
            let desk = introspection::Desk {
                actors: actors.clone(),
                guard,
                leadership: self.leadership.clone(),
            };
            self.servers.spawn(server::serve(
                listener,
                acceptor,
                introspection::router(desk),
                self.shutdown.clone(),
            ));
        }
        if let Some(listener) = probes {
            let probe = health::Probe {
                actors,
                shutdown: self.shutdown.clone(),
            };
            self.servers.spawn(server::serve(
                listener,
                None,
                health::router(probe),
                self.shutdown.clone(),
            ));
        }
        Ok(())
    }

    /// Where metrics and introspection are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where the probes are served.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    /// The actors.
    pub fn actors(&self) -> Arc<Handle> {
        self.handle.clone()
    }

    /// Until when this process may write.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Tells the process to stop; [`Process::stop`] does the rest.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Works until told to stop.
    ///
    /// # Errors
    /// When the actors' thread ends by itself.
    pub async fn run(mut self) -> Result<(), Error> {
        tokio::select! {
            () = self.shutdown.begun() => {
                self.stop().await;
                Ok(())
            }
            () = self.engine.ended() => Err(Error::Ended),
        }
    }

    /// Drains and ends within [`DRAIN`].
    pub async fn stop(mut self) {
        self.shutdown.begin();
        let deadline = clock::monotonic() + DRAIN.saturating_sub(RESERVE);
        self.handle.drain(deadline).await;
        let idle = clock::monotonic() < deadline;
        if let Some((stop, task)) = self.elector.take() {
            let _ = stop.send(idle);
            let _ = tokio::time::timeout(RESERVE / 2, task).await;
        }
        while self.servers.join_next().await.is_some() {} // each ends a second after the shutdown began at the latest
        self.engine.stop().await;
    }
}

fn elect(
    client: Client,
    args: &Args,
    environment: &Environment,
    sender: watch::Sender<Leadership>,
    io: &Runtime,
) -> (oneshot::Sender<bool>, JoinHandle<()>) {
    let leases: Api<Lease> = Api::namespaced(client, &environment.namespace);
    let timing = Timing::from(args.lease_duration);
    let elector = Elector::new(
        leases,
        &environment.namespace,
        &environment.identity,
        timing,
        sender,
    );
    let (stop, stopped) = oneshot::channel();
    (stop, io.spawn(elector.run(stopped)))
}

/// The binary: logs, client, signals, work, end.
///
/// # Errors
/// One line for the person who starts it.
pub async fn run(args: Args, environment: Environment) -> Result<(), Error> {
    let config = config(args.kubeconfig.as_deref()).await?;
    let process = Process::start(config, &args, &environment, Hooks::default()).await?;
    let signals = process.shutdown().on_signals()?;
    Runtime::current().spawn(signals);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = %environment.namespace, "operator started");
    process.run().await?;
    tracing::info!("operator stopped");
    Ok(())
}
