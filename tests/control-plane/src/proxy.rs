//! A proxy before the API server that lies about one kind: watches that hang, lists that are short, lists that expire between
//! two pages, writes that are refused. Everything else passes as it is, the caller's token included.
#![allow(
    clippy::disallowed_methods,
    reason = "a proxy is a task of its own, and so is each stream that it passes on"
)]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use anyhow::Context;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header};
use hyper::{
    body::{Body as HttpBody, Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use kube::{
    Client, Config,
    client::Body,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{certificates::write_private, plane::Plane};

/// Objects per page of a list that expires.
const SHORT_PAGE: u32 = 2;
/// Headers about one connection, or about a body that may have changed on the way.
const OWN: [HeaderName; 4] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// Whether a list may name an object, by its name.
pub type Shows = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What is wrong with requests about one kind. By default nothing.
#[derive(Clone, Default)]
pub struct Trouble {
    /// Watches deliver nothing; what happened meanwhile comes when this ends.
    pub hang: bool,
    /// Lists leave out what this does not let pass, as if it did not exist.
    pub shows: Option<Shows>,
    /// Lists come in pages of two objects, and each second page is 410 Gone.
    pub expire: bool,
    /// Writes are answered with 503 and do not reach the server.
    pub refuse_writes: bool,
}

/// How often a kind's trouble struck, since the proxy began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Toll {
    /// Watches that were opened while they hang.
    pub hung: u64,
    /// Lists with something left out.
    pub short: u64,
    /// Pages that were gone.
    pub expired: u64,
    /// Writes that were refused.
    pub refused: u64,
}

#[derive(Clone, Default)]
struct Rule {
    trouble: Trouble,
    /// Watches that were opened under an earlier number end.
    cut: u64,
    toll: Toll,
}

type Rules = watch::Sender<BTreeMap<String, Rule>>;

/// The proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.address)
    }
}

impl Proxy {
    /// Listens on loopback, in front of a plane's API server.
    ///
    /// # Errors
    /// When it cannot listen, or the plane's kubeconfig cannot be read.
    pub async fn start(plane: &Plane) -> anyhow::Result<Self> {
        let file = Kubeconfig::read_from(plane.kubeconfig())?;
        let mut config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        // Whoever asks shows a token of its own.
        config.auth_info = AuthInfo::default();
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let rules = Arc::new(watch::Sender::new(BTreeMap::new()));
        let task = tokio::spawn(serve(listener, client, Arc::clone(&rules)));
        Ok(Self {
            address,
            rules,
            task,
        })
    }

    /// Writes a copy of a kubeconfig that leads here, beside it.
    ///
    /// # Errors
    /// When the file cannot be read, or the copy not be written.
    pub fn kubeconfig(&self, original: &Path) -> anyhow::Result<PathBuf> {
        let mut config = Kubeconfig::read_from(original)?;
        for named in &mut config.clusters {
            let cluster = named.cluster.as_mut().context("a cluster without server")?;
            cluster.server = Some(format!("http://{}", self.address));
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
        let copy = original.with_extension(format!("{}.proxy", self.address.port()));
        write_private(&copy, &serde_json::to_string(&config)?)?;
        Ok(copy)
    }

    fn change(&self, plural: &str, change: impl FnOnce(&mut Rule)) {
        self.rules
            .send_modify(|rules| change(rules.entry(plural.to_owned()).or_default()));
    }

    /// From now on this is wrong with a kind (by its plural), and nothing else.
    pub fn trouble(&self, plural: &str, trouble: Trouble) {
        self.change(plural, |rule| rule.trouble = trouble);
    }

    /// Ends all watches of a kind with 410 Gone, hanging ones too: who watched must list anew.
    pub fn cut(&self, plural: &str) {
        self.change(plural, |rule| rule.cut += 1);
    }

    /// How often a kind's trouble has struck so far.
    pub fn toll(&self, plural: &str) -> Toll {
        let rules = self.rules.borrow();
        rules.get(plural).map(|rule| rule.toll).unwrap_or_default()
    }

    /// Waits until a kind's trouble has struck so often.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn until(
        &self,
        plural: &str,
        within: Duration,
        enough: impl Fn(Toll) -> bool,
    ) -> anyhow::Result<()> {
        let mut rules = self.rules.subscribe();
        let struck =
            rules.wait_for(|rules| rules.get(plural).is_some_and(|rule| enough(rule.toll)));
        let struck = tokio::time::timeout(within, struck).await;
        struck.with_context(|| format!("{plural}: {:?}", self.toll(plural)))??;
        Ok(())
    }
}

async fn serve(listener: TcpListener, client: Client, rules: Arc<Rules>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let (client, rules) = (client.clone(), Arc::clone(&rules));
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let pass = pass(client.clone(), Arc::clone(&rules), request);
                        async { Ok::<_, Infallible>(pass.await.unwrap_or_else(failed)) }
                    });
                    // A client that goes away is its own affair.
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What a request is about: the plural of its kind, and whether it names an object.
fn target(path: &str) -> Option<(&str, bool)> {
    let mut parts = path.trim_matches('/').split('/');
    let group = match parts.next()? {
        "api" => 1,
        "apis" => 2,
        _ => return None,
    };
    let rest: Vec<&str> = parts.skip(group).collect();
    let rest = match rest.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    Some((rest.first()?, rest.len() > 1))
}

fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut parameters = uri.query()?.split('&');
    parameters.find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
}

/// The same, with small pages.
fn short_paged(uri: &Uri) -> anyhow::Result<Uri> {
    let query = uri.query().unwrap_or_default().split('&');
    let others = query.filter(|one| !one.is_empty() && !one.starts_with("limit="));
    let limit = format!("limit={SHORT_PAGE}");
    let query: Vec<&str> = others.chain([limit.as_str()]).collect();
    Ok(format!("{}?{}", uri.path(), query.join("&")).parse()?)
}

async fn pass(
    client: Client,
    rules: Arc<Rules>,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Passed>> {
    let (mut parts, body) = request.into_parts();
    let about = target(parts.uri.path()).map(|(plural, named)| (plural.to_owned(), named));
    let (plural, named) = about.unwrap_or_default();
    let rule = rules.borrow().get(&plural).cloned().unwrap_or_default();
    let strikes = |count: fn(&mut Toll)| {
        rules.send_modify(|rules| count(&mut rules.entry(plural.clone()).or_default().toll));
    };
    let reads = parts.method == Method::GET;
    let watches = reads && matches!(parameter(&parts.uri, "watch"), Some("true" | "1"));
    let lists = reads && !named && !watches;
    if !reads && rule.trouble.refuse_writes {
        strikes(|toll| toll.refused += 1);
        return status(503, "ServiceUnavailable", "refused by the test's proxy");
    }
    if lists && rule.trouble.expire {
        if parameter(&parts.uri, "continue").is_some() {
            strikes(|toll| toll.expired += 1);
            return status(410, "Expired", "the list has expired in the test's proxy");
        }
        parts.uri = short_paged(&parts.uri)?;
    }
    OWN.iter().for_each(|name| drop(parts.headers.remove(name)));
    let body = Body::from(whole(body).await?);
    let answer = client.send(Request::from_parts(parts, body)).await?;
    let (mut parts, body) = answer.into_parts();
    OWN.iter().for_each(|name| drop(parts.headers.remove(name)));
    if watches && parts.status.is_success() {
        if rule.trouble.hang {
            strikes(|toll| toll.hung += 1);
        }
        let (sender, passed) = mpsc::channel(1);
        tokio::spawn(relay(
            body,
            sender,
            rules.subscribe(),
            plural.clone(),
            rule.cut,
        ));
        return Ok(Response::from_parts(parts, Passed(passed)));
    }
    let mut bytes = whole(body).await?;
    if let Some(shows) = rule
        .trouble
        .shows
        .filter(|_| lists && parts.status.is_success())
    {
        let (short, text) = shorten(&bytes, &shows)?;
        bytes = text;
        if short {
            strikes(|toll| toll.short += 1);
        }
    }
    Ok(answered(parts.status, parts.headers, bytes))
}

/// A list without what must not show, and whether that made a difference.
fn shorten(bytes: &[u8], shows: &Shows) -> anyhow::Result<(bool, Vec<u8>)> {
    let mut list: Value = serde_json::from_slice(bytes)?;
    let items = list.get_mut("items").and_then(Value::as_array_mut);
    let items = items.context("a list without items")?;
    let before = items.len();
    items.retain(|item| {
        let name = item.pointer("/metadata/name").and_then(Value::as_str);
        name.is_some_and(|name| shows(name))
    });
    Ok((items.len() < before, serde_json::to_vec(&list)?))
}

/// Passes the lines of a watch on while it does not hang, until it ends or is cut.
async fn relay(
    mut body: Body,
    sender: mpsc::Sender<io::Result<Bytes>>,
    mut rules: watch::Receiver<BTreeMap<String, Rule>>,
    plural: String,
    begun: u64,
) {
    let mut rest = Vec::new();
    loop {
        let rule = rules.borrow_and_update().get(&plural).cloned();
        let rule = rule.unwrap_or_default();
        if rule.cut > begun {
            let error = json!({"type": "ERROR", "object": refusal(410, "Expired", "cut by the test's proxy")});
            // The watcher may be gone, and so is its watch.
            let _ = sender.send(Ok(format!("{error}\n").into())).await;
            return;
        }
        let frame = tokio::select! {
            frame = next(&mut body), if !rule.trouble.hang => frame,
            Ok(()) = rules.changed() => continue,
            () = sender.closed() => return,
        };
        let sent = match frame {
            None => return,
            Some(Err(error)) => sender.send(Err(io::Error::other(error))).await,
            Some(Ok(bytes)) => {
                rest.extend(bytes);
                let lines = rest.iter().rposition(|byte| *byte == b'\n');
                let end = lines.map_or(0, |last| last + 1);
                if end == 0 {
                    continue;
                }
                let lines: Vec<u8> = rest.drain(..end).collect();
                sender.send(Ok(lines.into())).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The next bytes of a body.
async fn next<B>(body: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) => return Some(Ok(bytes)),
            Ok(Err(_)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

async fn whole<B>(mut body: B) -> Result<Vec<u8>, B::Error>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut bytes = Vec::new();
    while let Some(more) = next(&mut body).await {
        bytes.extend(more?);
    }
    Ok(bytes)
}

fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn status(code: u16, reason: &str, message: &str) -> anyhow::Result<Response<Passed>> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/json".parse()?);
    let bytes = serde_json::to_vec(&refusal(code, reason, message))?;
    Ok(answered(StatusCode::from_u16(code)?, headers, bytes))
}

/// The server cannot be reached, or breaks off.
fn failed(error: anyhow::Error) -> Response<Passed> {
    let bytes = format!("{error:#}").into_bytes();
    answered(StatusCode::BAD_GATEWAY, HeaderMap::new(), bytes)
}

fn answered(status: StatusCode, headers: HeaderMap, bytes: Vec<u8>) -> Response<Passed> {
    let (sender, passed) = mpsc::channel(1);
    // There is room for one.
    let _ = sender.try_send(Ok(bytes.into()));
    let mut response = Response::new(Passed(passed));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A body as it comes.
struct Passed(mpsc::Receiver<io::Result<Bytes>>);

impl HttpBody for Passed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = self.0.poll_recv(context);
        next.map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_request_is_in_its_path() {
        for (path, expected) in [
            ("/api/v1/pods", Some(("pods", false))),
            ("/api/v1/namespaces/db/pods", Some(("pods", false))),
            ("/api/v1/namespaces/db/pods/a", Some(("pods", true))),
            ("/api/v1/namespaces/db/pods/a/status", Some(("pods", true))),
            ("/api/v1/namespaces/db", Some(("namespaces", true))),
            ("/apis/apps/v1/deployments", Some(("deployments", false))),
            (
                "/apis/multigres.com/v1alpha1/namespaces/db/shards/a",
                Some(("shards", true)),
            ),
            ("/apis", None),
            ("/readyz", None),
        ] {
            assert_eq!(target(path), expected, "{path}");
        }
    }

    #[test]
    fn pages_are_made_short_whatever_was_asked() -> anyhow::Result<()> {
        for (asked, expected) in [
            (
                "/api/v1/pods?limit=100&labelSelector=a",
                "/api/v1/pods?labelSelector=a&limit=2",
            ),
            ("/api/v1/pods", "/api/v1/pods?limit=2"),
        ] {
            assert_eq!(short_paged(&asked.parse()?)?, expected);
        }
        Ok(())
    }
}
