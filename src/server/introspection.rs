//! `GET /metrics` and `GET /debug/…`, behind the guard.
//!
//! Debugging an object needs `get` on `multigresclusters/debug` or `shards/debug` in its namespace; `/metrics` and
//! `/debug/actors` are non-resource URLs. Without a guard (`--metrics-secure=false`) everybody may read everything.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use tokio::time::timeout;

use super::auth::{Guard, Target, Verdict};
use super::metrics;
use crate::clock;
use crate::engine::{Actors, Inspection, Leadership};

/// Time for an answer of the actors.
const ANSWER: Duration = Duration::from_secs(2);

/// The exposition format, version 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the handlers need.
#[derive(Clone)]
pub struct Desk {
    /// Who answers.
    pub actors: Arc<dyn Actors>,
    /// Who may ask; None = everybody.
    pub guard: Option<Arc<Guard>>,
    /// Whether this process leads.
    pub leadership: watch::Receiver<Leadership>,
}

/// The routes.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/debug/actors", get(actors))
        .route("/debug/clusters/{namespace}/{name}", get(cluster))
        .route("/debug/shards/{namespace}/{name}", get(shard))
        .with_state(desk)
}

async fn scrape(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    if let Some(refusal) = desk.refuses(&headers, &Target::Path("/metrics")).await {
        return refusal;
    }
    let Ok(mut samples) = timeout(ANSWER, desk.actors.samples()).await else {
        return busy();
    };
    let leads = matches!(*desk.leadership.borrow(), Leadership::Leader { until } if clock::monotonic() < until);
    samples.extend(metrics::process(leads));
    match metrics::render(samples) {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn actors(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    desk.answer(&headers, &Target::Path("/debug/actors"), Inspection::Actors)
        .await
}

async fn cluster(
    State(desk): State<Desk>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let target = Target::Debug {
        resource: "multigresclusters",
        namespace: namespace.clone(),
        name: name.clone(),
    };
    desk.answer(&headers, &target, Inspection::Cluster { namespace, name })
        .await
}

async fn shard(
    State(desk): State<Desk>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let target = Target::Debug {
        resource: "shards",
        namespace: namespace.clone(),
        name: name.clone(),
    };
    desk.answer(&headers, &target, Inspection::Shard { namespace, name })
        .await
}

impl Desk {
    async fn answer(&self, headers: &HeaderMap, target: &Target, what: Inspection) -> Response {
        if let Some(refusal) = self.refuses(headers, target).await {
            return refusal;
        }
        match timeout(ANSWER, self.actors.inspect(what)).await {
            Ok(Some(state)) => axum::Json(state).into_response(),
            Ok(None) => (StatusCode::NOT_FOUND, "not known\n").into_response(),
            Err(_) => busy(),
        }
    }

    async fn refuses(&self, headers: &HeaderMap, target: &Target) -> Option<Response> {
        let guard = self.guard.as_ref()?;
        match guard.judge(headers, target).await {
            Verdict::Allowed => None,
            Verdict::Denied => Some((StatusCode::FORBIDDEN, "not allowed\n").into_response()),
            Verdict::Unknown => Some(
                (
                    StatusCode::UNAUTHORIZED,
                    [(WWW_AUTHENTICATE, "Bearer")],
                    "a valid bearer token is needed\n",
                )
                    .into_response(),
            ),
            Verdict::Unavailable => Some(
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the API server does not answer\n",
                )
                    .into_response(),
            ),
        }
    }
}

fn busy() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the actors do not answer\n",
    )
        .into_response()
}
