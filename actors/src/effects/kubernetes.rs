//! The API server, reduced to one call: the executor and the tests see nothing else of it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A request as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// GET, POST, PATCH, PUT or DELETE.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// Content type of the body; empty without body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Call {
    /// A read.
    pub const fn get(path: String) -> Self {
        Self {
            method: "GET",
            path,
            content_type: "",
            body: Vec::new(),
        }
    }
}

/// Why a call brought no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server answered with an error.
    #[error("{message} ({code} {reason})")]
    Refused {
        /// HTTP status.
        code: u16,
        /// Reason in the server's Status.
        reason: String,
        /// Its message.
        message: String,
    },
    /// No answer: whether the write happened is unknown.
    #[error("no answer from the API server: {0}")]
    Lost(String),
    /// Not sent: we do not hold the lease.
    #[error("not the leader")]
    NotLeader,
    /// The action could not be turned into a request: a bug, or a Secret with unusable content.
    #[error("{0}")]
    Unusable(String),
}

impl Failure {
    /// The HTTP status, 0 when there was no answer.
    pub const fn code(&self) -> u16 {
        match self {
            Failure::Refused { code, .. } => *code,
            _ => 0,
        }
    }
}

/// The answer's body.
pub type Answered = Result<Vec<u8>, Failure>;

/// One request to the API server.
pub trait Kubernetes: Send + Sync + 'static {
    /// Sends it and returns the body.
    ///
    /// # Errors
    /// See [`Failure`].
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = Answered> + Send>>;
}

/// The real server.
pub struct ApiServer {
    reads: kube::Client,
    writes: kube::Client,
    deadline: Duration,
}

impl ApiServer {
    /// Sends what only reads through `reads`, everything else through `writes`. `deadline` is the longest wait for an answer:
    /// below the margin of the lease, so that a write of a lost leader is over when another one begins.
    pub const fn new(reads: kube::Client, writes: kube::Client, deadline: Duration) -> Self {
        Self {
            reads,
            writes,
            deadline,
        }
    }
}

impl Kubernetes for ApiServer {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let client = match call.method {
            "GET" => self.reads.clone(),
            _ => self.writes.clone(),
        };
        let deadline = self.deadline;
        Box::pin(async move {
            let uri = timed(&call, deadline);
            let mut request = http::Request::builder().method(call.method).uri(uri);
            if !call.content_type.is_empty() {
                request = request.header(http::header::CONTENT_TYPE, call.content_type);
            }
            let request = request
                .body(call.body)
                .map_err(|error| Failure::Unusable(error.to_string()))?;
            match tokio::time::timeout(deadline, client.request_text(request)).await {
                Ok(Ok(text)) => Ok(text.into_bytes()),
                Ok(Err(kube::Error::Api(status))) => Err(Failure::Refused {
                    code: status.code,
                    reason: status.reason.clone(),
                    message: status.message.clone(),
                }),
                Ok(Err(error)) => Err(Failure::Lost(error.to_string())),
                Err(_) => Err(Failure::Lost(format!("none within {deadline:?}"))),
            }
        })
    }
}

/// The address of a call. A write tells the server its deadline too (`timeout`, Kubernetes API concepts), so that a request
/// that was given up here is not carried out there later.
fn timed(call: &Call, deadline: Duration) -> String {
    if call.method == "GET" {
        return call.path.clone();
    }
    let separator = if call.path.contains('?') { '&' } else { '?' };
    format!("{}{separator}timeout={}ms", call.path, deadline.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_tells_the_server_when_it_is_too_late() {
        let call = |method, path: &str| Call {
            method,
            path: path.to_owned(),
            content_type: "",
            body: Vec::new(),
        };
        let deadline = Duration::from_secs(4);
        assert_eq!(timed(&call("GET", "/a"), deadline), "/a");
        assert_eq!(timed(&call("POST", "/a"), deadline), "/a?timeout=4000ms");
        assert_eq!(
            timed(&call("PATCH", "/a?force=true"), deadline),
            "/a?force=true&timeout=4000ms"
        );
    }
}
