//! A client whose connections end with the leadership.
//!
//! The executor asks for leadership before each send. But between the question and the moment when the bytes leave, the
//! process may be paused for longer than its Lease lasts: a stopped container, a machine out of memory. What was on its way
//! to the socket would then be sent in the term of another process. So the task of each connection asks again whenever it
//! runs, and ends without leadership; what waited in it is dropped and counts as unanswered.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use hyper::rt::Executor;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;

use crate::engine::Leadership;

/// A connection at work.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks while this process leads.
#[derive(Clone)]
struct Fence {
    leadership: watch::Receiver<Leadership>,
    io: Runtime,
}

impl Executor<Task> for Fence {
    fn execute(&self, mut task: Task) {
        let leadership = self.leadership.clone();
        self.io.spawn(poll_fn(move |context| {
            let leads = leadership.borrow().holds();
            if leads {
                task.as_mut().poll(context)
            } else {
                Poll::Ready(())
            }
        }));
    }
}

/// A client that sends only while this process leads; its connections run on `io`.
///
/// # Errors
/// When the configuration is unusable.
pub fn client(
    config: Config,
    leadership: watch::Receiver<Leadership>,
    io: Runtime,
) -> kube::Result<Client> {
    Ok(ClientBuilder::try_from((config, Fence { leadership, io }))?.build())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Notify, oneshot};

    use super::*;
    use crate::leader;

    #[tokio::test]
    async fn what_waits_in_a_connection_when_leadership_ends_is_never_sent() {
        let (sender, leadership) = watch::channel(leader::alone());
        let (bytes, sent) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (alive, ended) = oneshot::channel::<()>();
        let (queue, counter) = (bytes.clone(), sent.clone());
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let io = Runtime::current();
        Fence { leadership, io }.execute(Box::pin(async move {
            let _alive = alive;
            loop {
                queue.notified().await;
                counter.fetch_add(1, Ordering::SeqCst);
                let _ = tell.send(()).await;
            }
        }));
        bytes.notify_one();
        told.recv().await.unwrap();
        sender.send_replace(Leadership::Standby);
        bytes.notify_one();
        assert!(ended.await.is_err(), "the connection is gone");
        assert_eq!(sent.load(Ordering::SeqCst), 1);
    }
}
