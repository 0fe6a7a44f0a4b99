//! A watch of the benchmark: what arrived, and when.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The objects that are known, by name.
pub type Known = BTreeMap<String, DynamicObject>;

/// When something arrived.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// For differences.
    pub instant: Instant,
    /// To compare with logs.
    pub time: Timestamp,
}

impl At {
    /// This moment.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: Timestamp::now(),
        }
    }
}

/// One watch. What arrives waits with its time until it is looked at, so that a slow look costs nothing.
pub struct Watch {
    arrived: mpsc::UnboundedReceiver<(At, DynamicObject)>,
    known: Known,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches the selected objects until dropped.
    pub fn start(api: Api<DynamicObject>, selection: watcher::Config) -> Self {
        let (sender, arrived) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let events = watcher::watcher(api, selection).default_backoff();
            let mut events = std::pin::pin!(events.applied_objects());
            while let Some(event) = events.next().await {
                match event {
                    Ok(object) => {
                        if sender.send((At::now(), object)).is_err() {
                            return;
                        }
                    }
                    Err(error) => eprintln!("a watch goes on after: {error}"),
                }
            }
        });
        Self {
            arrived,
            known: Known::new(),
            task,
        }
    }

    fn enter(&mut self, object: DynamicObject) {
        self.known.insert(object.name_any(), object);
    }

    /// What is known by now.
    pub fn now(&mut self) -> &Known {
        while let Ok((_, object)) = self.arrived.try_recv() {
            self.enter(object);
        }
        &self.known
    }

    /// Waits until what is known has an answer; with the moment at which the object arrived that gave it.
    ///
    /// # Errors
    /// When it has none for long.
    pub async fn until<T>(
        &mut self,
        what: &str,
        ask: impl Fn(&Known) -> Option<T>,
    ) -> anyhow::Result<(T, At)> {
        if let Some(answer) = ask(&self.known) {
            return Ok((answer, At::now()));
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let Ok(next) = tokio::time::timeout_at(end, self.arrived.recv()).await else {
                bail!("waited {PATIENCE:?} in vain for {what}");
            };
            let (at, object) = next.context("the watch has ended")?;
            self.enter(object);
            if let Some(answer) = ask(&self.known) {
                return Ok((answer, at));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
