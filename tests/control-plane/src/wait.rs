//! Waiting for conditions, always with a deadline and a name.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use anyhow::{Context, anyhow, bail};
use futures::{StreamExt, pin_mut};
use kube::{
    Api, Resource, ResourceExt,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, MissedTickBehavior};

/// How often a condition without a watch is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Asks until there is an answer; says on standard error what it waits for. For conditions that cannot be watched.
pub async fn until<T>(
    description: &str,
    deadline: Duration,
    ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    eprintln!("waiting for {description}");
    quietly(description, deadline, ask).await
}

/// [`until`] without the line on standard error.
pub async fn quietly<T>(
    description: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(answer) = ask()
            .await
            .with_context(|| format!("while waiting for {description}"))?
        {
            return Ok(answer);
        }
        if Instant::now() > end {
            bail!("waited {deadline:?} in vain for {description}");
        }
    }
}

/// Waits on a watch until the selected objects (by `namespace/name`) satisfy a condition.
pub async fn objects<K, T>(
    api: Api<K>,
    selection: watcher::Config,
    description: &str,
    deadline: Duration,
    mut condition: impl FnMut(&BTreeMap<String, K>) -> Option<T>,
) -> anyhow::Result<T>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    eprintln!("waiting for {description}");
    let mut known = BTreeMap::new();
    let mut listed = BTreeMap::new();
    let waiting = async {
        let events = watcher::watcher(api, selection);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {
                    // Nothing is known before the list is complete, not even that there is nothing.
                    listed.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listed.insert(key(&object), object);
                    continue;
                }
                Ok(Event::InitDone) => known = std::mem::take(&mut listed),
                Ok(Event::Apply(object)) => {
                    known.insert(key(&object), object);
                }
                Ok(Event::Delete(object)) => {
                    known.remove(&key(&object));
                }
                Err(error) => {
                    eprintln!("the watch for {description} goes on after: {error}");
                    continue;
                }
            }
            if let Some(answer) = condition(&known) {
                return Ok(answer);
            }
        }
        Err(anyhow!("the watch for {description} ended"))
    };
    match tokio::time::timeout(deadline, waiting).await {
        Ok(answer) => answer,
        Err(_) => bail!("waited {deadline:?} in vain for {description}"),
    }
}

/// Waits on a watch until one object satisfies a condition, and returns it.
pub async fn object<K>(
    api: Api<K>,
    name: &str,
    description: &str,
    deadline: Duration,
    mut condition: impl FnMut(&K) -> bool,
) -> anyhow::Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let selection = watcher::Config::default().fields(&format!("metadata.name={name}"));
    objects(api, selection, description, deadline, |known| {
        known.values().find(|object| condition(object)).cloned()
    })
    .await
}

/// Waits on a watch until one object is gone.
pub async fn gone<K>(api: Api<K>, name: &str, deadline: Duration) -> anyhow::Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let selection = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let description = format!("the end of {name}");
    objects(api, selection, &description, deadline, |known| {
        known.is_empty().then_some(())
    })
    .await
}

fn key<K: Resource>(object: &K) -> String {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}
