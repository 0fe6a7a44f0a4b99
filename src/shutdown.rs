//! When to stop: SIGTERM or SIGINT. A second signal ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Time for everything between the first signal and the end of the process. Far below a pod's usual grace of 30 s.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Exit code after a second signal, as a shell reports SIGINT.
const INTERRUPTED: i32 = 130;

/// Tells every part of the process to stop.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Shutdown {
    /// Asks to stop. May be repeated.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Has it begun?
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it has begun, at once if it had already.
    pub async fn begun(&self) {
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }

    /// Begins at the first SIGTERM or SIGINT, ends the process at the second. Runs until then.
    ///
    /// # Errors
    /// When the signal handlers cannot be set.
    pub fn on_signals(&self) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        Ok(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if shutdown.has_begun() {
                    std::process::exit(INTERRUPTED);
                }
                shutdown.begin();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn begins_once_and_stays() {
        let shutdown = Shutdown::default();
        assert!(!shutdown.has_begun());
        shutdown.begin();
        shutdown.clone().begun().await;
        assert!(shutdown.has_begun());
    }
}
