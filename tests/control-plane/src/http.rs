//! One GET over plain HTTP, for readiness probes and metrics.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longer than any probe takes; a stopped process would otherwise hold the caller.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status code and body of a page.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(TIMEOUT, exchange)
        .await
        .context("no answer in time")??;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no head")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .context("the answer has no status")?;
    Ok((
        status.parse().context("the status is no number")?,
        body.to_owned(),
    ))
}
