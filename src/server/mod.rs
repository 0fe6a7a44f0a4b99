//! The process' HTTP servers: metrics and introspection (HTTPS), health (plain).
//!
//! Each server has bounds: connections, time of the TLS handshake, of a request's head and of a request. One that is
//! told to stop takes no new connections and lets open requests end.

pub mod auth;
pub mod health;
pub mod introspection;
pub mod metrics;
pub mod tls;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::args::Bind;
use crate::shutdown::Shutdown;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Time for the head of a request, idle time between two included.
const HEAD: Duration = Duration::from_secs(30);

/// Time for a request: the review takes at most 5 s, the actors' answer at most 2 s.
const REQUEST: Duration = Duration::from_secs(10);

/// Time that open requests get when the server stops.
const LINGER: Duration = Duration::from_secs(1);

/// Pause after the kernel refused a connection, for lack of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens; None when the address is off.
///
/// # Errors
/// The address and why it cannot be listened on.
pub async fn listen(bind: &Bind) -> Result<Option<TcpListener>, String> {
    let (address, listener) = match bind {
        Bind::Off => return Ok(None),
        Bind::At(address) => (address.clone(), TcpListener::bind(address.as_str()).await),
        Bind::Any(port) => {
            let both = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port))).await;
            let listener = match both {
                Ok(listener) => Ok(listener),
                Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port))).await,
            };
            (format!(":{port}"), listener)
        }
    };
    listener
        .map(Some)
        .map_err(|error| format!("unable to listen on {address}: {error}"))
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: Shutdown,
) {
    let router = router.layer(from_fn(limit));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let next = tokio::select! {
            () = shutdown.begun() => break,
            next = accepted => next,
        };
        match next {
            Some((Ok((stream, _)), place)) => {
                let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
                connections.spawn(async move {
                    connect(stream, tls, router, watcher).await;
                    drop(place);
                });
            }
            Some((Err(_), _)) => tokio::time::sleep(PAUSE).await,
            None => break,
        }
    }
    drop(listener);
    let _ = timeout(LINGER, graceful.shutdown()).await;
}

async fn connect(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, watcher: Watcher) {
    match tls {
        None => answer(stream, router, watcher).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await {
                answer(stream, router, watcher).await;
            }
        }
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    watcher: Watcher,
) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    let connection = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .into_owned();
    let _ = watcher.watch(connection).await; // a broken connection is the peer's business
}

async fn limit(request: Request, next: Next) -> Response {
    match timeout(REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n").into_response(),
    }
}

#[cfg(test)]
mod tests;
