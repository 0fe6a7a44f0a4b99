//! The actors on their thread. Nothing else in the process names the `actors` crate.
//!
//! The actors share one thread with a LocalSet of its own; their I/O runs on the process' worker threads. The thread
//! ends when the [`Engine`] is stopped, and the process ends when the thread does so by itself.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

pub use actors::metric::Sample;
pub use actors::operator::{Clients, Handle, Hooks, Inspection, Leadership, SampleKind};
use actors::operator::{Dialer, Grpc};

/// Stack of the actors' thread. Decisions are shallow; the pages are only used when touched.
const STACK: usize = 2 * 1024 * 1024;

/// How long the actors' thread may take to end after it was told to.
const STOP: Duration = Duration::from_secs(1);

/// Why the actors did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thread or its event loop could not be made.
    #[error("unable to start the actors' thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The thread ended before the actors were up.
    #[error("the actors' thread ended while starting")]
    Ended,
}

/// What the process tells the actors.
#[derive(Clone, Default)]
pub struct Settings {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of this process in events.
    pub identity: String,
    /// Longest wait for the answer to a request; below the margin of the lease.
    pub call_deadline: Duration,
    /// `MULTIGRES_IMAGE_*` and `OTEL_*` variables that are set.
    pub variables: BTreeMap<String, String>,
    /// When changed default images reach clusters that do not say.
    pub image_strategy: actors::operator::ImageStrategy,
    /// Topology stores are followed and written.
    pub stores: bool,
    /// Follow the data plane: the processes in the pods, beyond what Kubernetes tells.
    pub data_plane: bool,
    /// Test hooks.
    pub hooks: Hooks,
}

/// An answer of the actors that is still to come.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the servers ask: the actors, or a test.
pub trait Actors: Send + Sync + 'static {
    /// State of an object; None when it is not known.
    fn inspect(&self, what: Inspection) -> Answer<'_, Option<Value>>;
    /// All metrics; empty when the actors are gone.
    fn samples(&self) -> Answer<'_, Vec<Sample>>;
    /// A sign of life; false when the actors are gone.
    fn alive(&self) -> Answer<'_, bool>;
    /// Ready to work.
    ///
    /// # Errors
    /// What is missing.
    fn ready(&self) -> Result<(), String>;
}

impl Actors for Handle {
    fn inspect(&self, what: Inspection) -> Answer<'_, Option<Value>> {
        Box::pin(Handle::inspect(self, what))
    }

    fn samples(&self) -> Answer<'_, Vec<Sample>> {
        Box::pin(Handle::samples(self))
    }

    fn alive(&self) -> Answer<'_, bool> {
        Box::pin(Handle::alive(self))
    }

    fn ready(&self) -> Result<(), String> {
        Handle::ready(self)
    }
}

/// The running actors.
pub struct Engine {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
}

impl Engine {
    /// Starts the actors' thread; `io` is the runtime on which they do I/O.
    ///
    /// # Errors
    /// When the thread cannot be made or ends at once.
    pub async fn start(
        clients: Clients,
        leadership: watch::Receiver<Leadership>,
        settings: Settings,
        io: Runtime,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let (send, started) = oneshot::channel();
        std::thread::Builder::new()
            .name("actors".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let _end = end; // dropped when the thread ends, in a panic too
                let grpc = || Arc::new(Grpc(io.clone())) as Arc<dyn Dialer>;
                let settings = actors::operator::Settings {
                    dialer: settings.data_plane.then(grpc),
                    namespace: settings.namespace,
                    identity: settings.identity,
                    call_deadline: settings.call_deadline,
                    variables: settings.variables,
                    image_strategy: settings.image_strategy,
                    stores: settings.stores,
                    io,
                    hooks: settings.hooks,
                };
                LocalSet::new().block_on(&runtime, async move {
                    let _ = send.send(actors::operator::start(clients, leadership, settings).await);
                    let _ = stopped.await;
                });
            })?;
        let handle = started.await.map_err(|_| Error::Ended)?;
        Ok(Self {
            handle,
            stop: Some(stop),
            ended,
        })
    }

    /// Asks and drains the actors.
    pub fn handle(&self) -> Arc<Handle> {
        Arc::new(self.handle.clone())
    }

    /// Returns when the actors' thread has ended without being asked to.
    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Ends the thread; drain first.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let _ = tokio::time::timeout(STOP, &mut self.ended).await;
    }
}
