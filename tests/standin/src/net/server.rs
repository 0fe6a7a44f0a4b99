//! Sockets of a peer: plain HTTP and gRPC, with and without TLS, under faults.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic::{body::Body, codegen::Service};

use super::{
    fault::{Faults, Network},
    stream::Stream,
};

/// A request whose body is one for tonic's services.
pub type Request = http::Request<Body>;
/// An answer.
pub type Response = http::Response<Body>;
/// An answer to come.
pub type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// What answers at a peer's ports.
pub trait Answer: Send + Sync + 'static {
    /// Answers a request, by its path.
    fn answer(self: Arc<Self>, request: Request) -> Answering;
}

/// Counts the calls that all peers of a fleet were sent.
#[derive(Debug, Default)]
pub struct Calls {
    rpc: AtomicU64,
    http: AtomicU64,
    callers: Mutex<BTreeSet<Vec<u8>>>,
}

impl Calls {
    /// gRPC calls, streams included, so far.
    pub fn rpc(&self) -> u64 {
        self.rpc.load(Ordering::Relaxed)
    }

    /// HTTP requests so far.
    pub fn http(&self) -> u64 {
        self.http.load(Ordering::Relaxed)
    }

    /// The certificates, in DER, that callers have shown where they had to.
    pub fn callers(&self) -> BTreeSet<Vec<u8>> {
        let callers = self.callers.lock();
        callers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shown(&self, certificate: &[u8]) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.insert(certificate.to_vec());
    }
}

/// One port of a peer.
#[derive(Clone)]
pub struct Port {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is wrong with the peer.
    pub faults: watch::Receiver<Faults>,
    /// Its certificate, if it speaks TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What answers.
    pub service: Arc<dyn Answer>,
    /// Where calls are counted.
    pub calls: Arc<Calls>,
}

impl Port {
    /// Serves the port until dropped.
    pub async fn serve(mut self) {
        let listener = self.open().await;
        self.serve_on(listener).await;
    }

    /// Opens the port, once it may be open.
    pub async fn open(&mut self) -> TcpListener {
        loop {
            self.closed_no_more().await;
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                // The address is the pod's own: whoever holds it is about to go.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Serves a port that is open until dropped.
    pub async fn serve_on(mut self, mut listener: TcpListener) {
        loop {
            self.accept(listener).await;
            listener = self.open().await;
        }
    }

    /// Waits while connections are to be refused.
    async fn closed_no_more(&mut self) {
        let open = |faults: &Faults| faults.network != Network::Refuse && !faults.crash;
        if self.faults.wait_for(open).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Accepts connections until they are to be refused.
    async fn accept(&mut self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    let stream = Stream::new(stream, self.faults.clone());
                    connections.spawn(self.clone().connection(stream));
                },
                Some(_) = connections.join_next() => {}
                changed = self.faults.changed() => {
                    let faults = self.faults.borrow();
                    if changed.is_ok() && (faults.network == Network::Refuse || faults.crash) {
                        return;
                    }
                }
            }
        }
    }

    async fn connection(self, stream: Stream) {
        match self.tls.clone() {
            None => self.exchange(stream).await,
            Some(config) => {
                if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                    let shown = stream.get_ref().1.peer_certificates();
                    if let Some(own) = shown.and_then(<[_]>::first) {
                        self.calls.shown(own);
                    }
                    self.exchange(stream).await;
                }
            }
        }
    }

    async fn exchange(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(64)
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(65_535);
        let service = TowerToHyperService::new(self);
        // Broken connections are what a stand-in is for.
        let _ = builder
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}

impl<B> Service<http::Request<B>> for Port
where
    B: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let rpc = request.version() == http::Version::HTTP_2;
        let counter = if rpc {
            &self.calls.rpc
        } else {
            &self.calls.http
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let answer = Arc::clone(&self.service).answer(request.map(Body::new));
        Box::pin(async move { Ok(answer.await) })
    }
}

/// A short text with a status.
pub fn text(status: u16, text: impl Into<String>) -> Response {
    let mut response = http::Response::new(Body::new(text.into()));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// The pages that every component has; nothing for other paths.
pub fn page(path: &str, ready: bool, component: &str) -> Option<Response> {
    Some(match path {
        "/live" | "/" => text(200, "ok"),
        "/ready" if ready => text(200, "ready"),
        "/ready" => text(503, "not ready"),
        "/version" => text(
            200,
            format!(
                "{{\"revision\":\"stand-in\",\"modified\":false,\"go_version\":\"none\",\"main_path\":\"{component}\"}}"
            ),
        ),
        _ => return None,
    })
}
