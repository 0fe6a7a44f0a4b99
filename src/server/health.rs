//! `GET /healthz`: the actors answer. `GET /readyz`: they know the cluster; leadership is not needed. Both in plain HTTP
//! and open to all, like every kubelet probe.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use tokio::time::timeout;

use crate::engine::Actors;
use crate::shutdown::Shutdown;

/// Time for a sign of life of the actors.
const ALIVE: Duration = Duration::from_secs(5);

/// What the handlers need.
#[derive(Clone)]
pub struct Probe {
    /// Who must be alive.
    pub actors: Arc<dyn Actors>,
    /// A process that stops is not ready.
    pub shutdown: Shutdown,
}

/// The routes.
pub fn router(probe: Probe) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(probe)
}

async fn healthz(State(probe): State<Probe>) -> (StatusCode, String) {
    match timeout(ALIVE, probe.actors.alive()).await {
        Ok(true) => (StatusCode::OK, "ok\n".to_owned()),
        Ok(false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the actors are gone\n".to_owned(),
        ),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the actors do not answer\n".to_owned(),
        ),
    }
}

async fn readyz(State(probe): State<Probe>) -> (StatusCode, String) {
    if probe.shutdown.has_begun() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting down\n".to_owned(),
        );
    }
    match probe.actors.ready() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
