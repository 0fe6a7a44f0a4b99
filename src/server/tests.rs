use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::*;
use crate::engine::{Actors, Answer, Inspection, Leadership, Sample, SampleKind};
use auth::tests::Desk as Reviewers;

/// Knows one shard; may be unready or hang.
#[derive(Clone, Copy, Default)]
struct Stage {
    hangs: bool,
    unready: bool,
}

impl Actors for Stage {
    fn inspect(&self, what: Inspection) -> Answer<'_, Option<Value>> {
        Box::pin(async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            match what {
                Inspection::Shard { namespace, name } if namespace == "ns" && name == "one" => {
                    Some(json!({"shard": name}))
                }
                Inspection::Actors => Some(json!([])),
                _ => None,
            }
        })
    }

    fn samples(&self) -> Answer<'_, Vec<Sample>> {
        let sample = Sample {
            name: "living",
            help: "h",
            kind: SampleKind::Gauge,
            labels: Vec::new(),
            value: 1.0,
        };
        Box::pin(async move {
            if self.hangs {
                std::future::pending().await
            } else {
                vec![sample]
            }
        })
    }

    fn alive(&self) -> Answer<'_, bool> {
        Box::pin(async move {
            if self.hangs {
                std::future::pending().await
            } else {
                true
            }
        })
    }

    fn ready(&self) -> Result<(), String> {
        if self.unready {
            Err("pods are not listed yet".to_owned())
        } else {
            Ok(())
        }
    }
}

fn desk(stage: Stage, guard: bool) -> Router {
    let (_, leadership) = watch::channel(Leadership::Standby);
    let guard = guard.then(|| Arc::new(auth::Guard::new(Reviewers::default())));
    introspection::router(introspection::Desk {
        actors: Arc::new(stage),
        guard,
        leadership,
    })
}

async fn start(
    router: Router,
    tls: Option<TlsAcceptor>,
) -> (SocketAddr, Shutdown, tokio::task::JoinHandle<()>) {
    let listener = listen(&Bind::At("127.0.0.1:0".to_owned()))
        .await
        .unwrap()
        .unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::default());
    #[expect(clippy::disallowed_methods, reason = "test")]
    let task = tokio::spawn(serve(listener, tls, router, shutdown.clone()));
    (address, shutdown, task)
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    token: &str,
) -> (u16, String) {
    let credentials = if token.is_empty() {
        String::new()
    } else {
        format!("Authorization: Bearer {token}\r\n")
    };
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{credentials}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

async fn get(router: Router, path: &str, token: &str) -> (u16, String) {
    let (address, ..) = start(router, None).await;
    exchange(TcpStream::connect(address).await.unwrap(), path, token).await
}

#[tokio::test]
async fn every_path_is_guarded() {
    for path in [
        "/metrics",
        "/debug/actors",
        "/debug/clusters/ns/one",
        "/debug/shards/ns/one",
    ] {
        for (token, status) in [("", 401), ("nobody", 401), ("stranger", 403)] {
            assert_eq!(
                get(desk(Stage::default(), true), path, token).await.0,
                status,
                "{path} {token}"
            );
        }
    }
}

#[tokio::test]
async fn a_reader_gets_metrics_and_state() {
    let router = || desk(Stage::default(), true);
    let (status, text) = get(router(), "/metrics", "reader").await;
    assert!(
        status == 200
            && text.contains("living 1")
            && text.contains("process_resident_memory_bytes"),
        "{text}"
    );
    assert!(
        text.contains("leader_election_master_status{name=\"multigres-operator.multigres.com\"} 0"),
        "{text}"
    );
    assert_eq!(
        get(router(), "/debug/shards/ns/one", "reader").await,
        (200, r#"{"shard":"one"}"#.to_owned())
    );
    assert_eq!(get(router(), "/debug/shards/ns/two", "reader").await.0, 404);
    assert_eq!(get(router(), "/debug/actors", "reader").await.0, 200);
    assert_eq!(get(router(), "/elsewhere", "reader").await.0, 404);
}

#[tokio::test]
async fn without_a_guard_everybody_reads() {
    assert_eq!(
        get(desk(Stage::default(), false), "/metrics", "").await.0,
        200
    );
}

#[tokio::test]
async fn actors_that_hang_are_a_503() {
    let stage = Stage {
        hangs: true,
        ..Stage::default()
    };
    assert_eq!(get(desk(stage, false), "/debug/actors", "").await.0, 503);
}

#[tokio::test]
async fn probes() {
    let shutdown = Shutdown::default();
    let probe = |stage| {
        health::router(health::Probe {
            actors: Arc::new(stage),
            shutdown: shutdown.clone(),
        })
    };
    assert_eq!(get(probe(Stage::default()), "/healthz", "").await.0, 200);
    assert_eq!(get(probe(Stage::default()), "/readyz", "").await.0, 200);
    let unready = Stage {
        unready: true,
        ..Stage::default()
    };
    assert_eq!(
        get(probe(unready), "/readyz", "").await,
        (503, "pods are not listed yet\n".to_owned())
    );
    shutdown.begin();
    assert_eq!(get(probe(Stage::default()), "/readyz", "").await.0, 503);
    assert_eq!(get(probe(Stage::default()), "/healthz", "").await.0, 200);
}

/// Accepts the self-signed certificate.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[tokio::test]
async fn https_serves_and_stops_gracefully() {
    let acceptor = tls::self_signed(vec!["localhost".to_owned()]).unwrap();
    let (address, shutdown, task) = start(desk(Stage::default(), true), Some(acceptor)).await;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(Trusting))
    .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    assert_eq!(exchange(stream, "/metrics", "reader").await.0, 200);
    let idle = TcpStream::connect(address).await.unwrap();
    shutdown.begin();
    timeout(LINGER * 2, task).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn addresses_are_listened_on() {
    assert!(listen(&Bind::Off).await.unwrap().is_none());
    let any = listen(&Bind::Any(0)).await.unwrap().unwrap();
    let port = any.local_addr().unwrap().port();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert!(
        listen(&Bind::Any(port))
            .await
            .unwrap_err()
            .contains(&port.to_string())
    );
}
