//! What a settled operator does and holds: nothing and little.

use std::time::Duration;

use anyhow::Context;
use control_plane::{Audit, Mark, OperatorProcess, chart, wait};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;

/// A fleet without a write for this long has settled.
const QUIET: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(300);
/// When memory is read, counted from the moment at which the fleet settled.
pub const REST: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(30);

/// Foreign objects, half of them Secrets, and the size of each.
const FOREIGN: usize = 600;
const FOREIGN_BYTES: usize = 500_000;

/// Waits until the operator has written nothing for a while.
///
/// # Errors
/// When it goes on writing.
pub async fn settled(audit: &Audit) -> anyhow::Result<()> {
    let user = chart::user();
    let mut place = audit.settle().await?;
    let mut last = Instant::now();
    let mut writes = 0_usize;
    wait::until("the operator to settle", PATIENCE, async || {
        place = audit.visit(place, |entry, _| {
            if entry.user == user && entry.is_write() {
                writes += 1;
                last = Instant::now();
            }
        })?;
        Ok((last.elapsed() >= QUIET).then_some(()))
    })
    .await
    .with_context(|| format!("{writes} writes since the last cluster was Healthy"))
}

/// Lets time pass, with a line now and then. This is a measured interval, not synchronisation: the figure is what the
/// operator does (or holds) in just this time, so there is no condition that could be waited for.
pub async fn rest(interval: Duration, what: &str) {
    let end = Instant::now() + interval;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        eprintln!("  {what}: {} s left", left.as_secs_f64().ceil());
        tokio::time::sleep(left.min(STEP)).await;
    }
}

/// What happened in an interval.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Write requests.
    pub writes: usize,
    /// Writes of events.
    pub events: usize,
    /// Lines of the log.
    pub lines: usize,
}

/// Counts writes, events and log lines.
pub struct Listener<'a> {
    audit: &'a Audit,
    operator: &'a OperatorProcess,
    mark: Mark,
    lines: usize,
}

impl<'a> Listener<'a> {
    /// Starts to count.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub async fn start(audit: &'a Audit, operator: &'a OperatorProcess) -> anyhow::Result<Self> {
        let mark = audit.settle().await?;
        let lines = operator.log_lines()?.len();
        Ok(Self {
            audit,
            operator,
            mark,
            lines,
        })
    }

    /// The counts so far.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub async fn noise(&self) -> anyhow::Result<Noise> {
        self.audit.settle().await?;
        let user = chart::user();
        let lines = self.operator.log_lines()?;
        for line in lines.iter().skip(self.lines).take(5) {
            eprintln!("  logged: {line}");
        }
        let writes = self.audit.writes(self.mark, &user)?;
        for write in writes.iter().take(5) {
            eprintln!("  wrote: {} {} {}", write.verb, write.target(), write.name);
        }
        Ok(Noise {
            writes: writes.len(),
            events: self.audit.events(self.mark, &user)?.len(),
            lines: lines.len().saturating_sub(self.lines),
        })
    }
}

/// Creates large Secrets and ConfigMaps that are none of the operator's business.
///
/// # Errors
/// When one is refused.
pub async fn foreign(client: Client, namespace: &str) -> anyhow::Result<()> {
    eprintln!("creating {FOREIGN} foreign Secrets and ConfigMaps of {FOREIGN_BYTES} bytes");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let creating = stream::iter(0..FOREIGN).map(|number| {
        let (secrets, maps) = (&secrets, &maps);
        async move {
            let metadata = ObjectMeta {
                name: Some(format!("foreign-{number:03}")),
                ..ObjectMeta::default()
            };
            if number % 2 == 0 {
                let data = [("data".to_owned(), ByteString(vec![b'x'; FOREIGN_BYTES]))];
                let secret = Secret {
                    metadata,
                    data: Some(data.into()),
                    ..Secret::default()
                };
                return secrets
                    .create(&PostParams::default(), &secret)
                    .await
                    .map(drop);
            }
            let data = [("data".to_owned(), "x".repeat(FOREIGN_BYTES))];
            let map = ConfigMap {
                metadata,
                data: Some(data.into()),
                ..ConfigMap::default()
            };
            maps.create(&PostParams::default(), &map).await.map(drop)
        }
    });
    creating
        .buffer_unordered(4)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    Ok(())
}
