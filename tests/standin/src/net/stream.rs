//! A connection that fails on demand.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::Sleep,
};

use super::fault::{Faults, Network};

type Change = Pin<Box<dyn Future<Output = watch::Receiver<Faults>> + Send>>;

/// A connection under the faults of its peer.
pub struct Stream {
    inner: TcpStream,
    faults: watch::Receiver<Faults>,
    change: Change,
    /// The write that is slow right now.
    delay: Option<Pin<Box<Sleep>>>,
}

fn changed(mut faults: watch::Receiver<Faults>) -> Change {
    Box::pin(async move {
        if faults.changed().await.is_err() {
            // The registry is gone: faults stay as they are.
            std::future::pending::<()>().await;
        }
        faults
    })
}

impl Stream {
    /// Puts a connection under faults.
    pub fn new(inner: TcpStream, faults: watch::Receiver<Faults>) -> Self {
        Self {
            inner,
            change: changed(faults.clone()),
            faults,
            delay: None,
        }
    }

    /// Whether bytes may pass now, and how they are.
    fn gate(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Network>> {
        while let Poll::Ready(faults) = self.change.as_mut().poll(cx) {
            self.change = changed(faults);
        }
        let (network, crash) = {
            let faults = self.faults.borrow();
            (faults.network, faults.crash)
        };
        match network {
            Network::Hang => Poll::Pending,
            Network::Refuse => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            _ if crash => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            network => Poll::Ready(Ok(network)),
        }
    }

    fn slowly(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let slow = self.faults.borrow().slow_milliseconds;
        if slow == 0 {
            self.delay = None;
            return Poll::Ready(());
        }
        let delay = self
            .delay
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(slow))));
        ready!(delay.as_mut().poll(cx));
        self.delay = None;
        Poll::Ready(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.gate(cx))?;
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let network = ready!(self.gate(cx))?;
        ready!(self.slowly(cx));
        if network == Network::Garbage {
            let noise: Vec<u8> = bytes.iter().map(|byte| byte ^ 0x5A).collect();
            return Pin::new(&mut self.inner).poll_write(cx, &noise);
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
