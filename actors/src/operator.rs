//! The operator as the process sees it: start it on a LocalSet, ask it, drain it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::effects::executor::Executor;
use crate::effects::kubernetes::{ApiServer, Kubernetes};
use crate::effects::links::Links;
use crate::effects::topologies::Door;
use crate::informers;
use crate::metric::Sample;
use crate::object::Kind;
use crate::supervisor::{Collect, Drain, Inflow, Ping, Question, Supervisor};
use crate::world::World;

pub use crate::effects::executor::Leadership;
pub use crate::effects::links::{Connection, Dialer, Grpc};
pub use crate::metric::SampleKind;
pub use crate::supervisor::Inspection;
pub use crate::world::Hooks;
pub use crds::rollout::Strategy as ImageStrategy;

/// What the process tells the operator.
pub struct Settings {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of this process in events: the pod's name.
    pub identity: String,
    /// `MULTIGRES_IMAGE_*` and `OTEL_*` variables that are set.
    pub variables: BTreeMap<String, String>,
    /// When changed default images reach clusters that do not say.
    pub image_strategy: ImageStrategy,
    /// Longest wait for the answer to a request; below the margin of the lease.
    pub call_deadline: Duration,
    /// Topology stores are followed and written. Without it gateways and orchestrators start as soon as their store is Ready.
    pub stores: bool,
    /// Opens connections to pods of the data plane; `None`: none are opened, and nothing is claimed of what runs in a pod.
    pub dialer: Option<Arc<dyn Dialer>>,
    /// Threads for I/O.
    pub io: tokio::runtime::Handle,
    /// Test hooks.
    pub hooks: Hooks,
}

/// Messages between the I/O threads and the actors that may wait; a full channel slows the watches down.
const INFLOW: usize = 1024;

/// How long the first lists wait for the lease, so that a process that leads at once does not list twice.
const LEASE_GRACE: Duration = Duration::from_millis(400);

/// Ways to the API server.
pub struct Clients {
    /// For reads and watches.
    pub reads: kube::Client,
    /// For what takes leadership: it sends only while this process leads.
    pub writes: kube::Client,
}

/// The running operator.
#[derive(Clone)]
pub struct Handle {
    supervisor: Addr<Supervisor>,
    ready: Arc<AtomicBool>,
}

/// Starts supervisor and informers. Must run inside a LocalSet on the actors' thread.
pub async fn start(
    clients: Clients,
    leadership: watch::Receiver<Leadership>,
    settings: Settings,
) -> Handle {
    let client = clients.reads;
    let api = Arc::new(ApiServer::new(
        client.clone(),
        clients.writes,
        settings.call_deadline,
    ));
    let (handle, inflow, epoch) = start_with(api, leadership.clone(), &settings, Clock::system());
    let mut waiting = leadership.clone();
    let _ = tokio::time::timeout(LEASE_GRACE, waiting.wait_for(Leadership::holds)).await;
    // Leadership gained from here on asks for new lists; what is listed below is newer than the lease of now.
    let leads = leadership.borrow().holds();
    settings
        .io
        .spawn(announce(leadership, inflow.clone(), leads));
    for kind in Kind::ALL {
        let (client, inflow, epoch) = (client.clone(), inflow.clone(), epoch.clone());
        if kind.is_optional() {
            let io = settings.io.clone();
            settings
                .io
                .spawn(informers::follow_optional(kind, client, inflow, epoch, io));
        } else {
            settings
                .io
                .spawn(informers::follow(kind, client, inflow, epoch));
        }
    }
    for kind in Kind::FOREIGN {
        let (client, inflow) = (client.clone(), inflow.clone());
        settings
            .io
            .spawn(informers::follow_foreign(kind, client, inflow));
    }
    handle
}

/// Starts the supervisor alone; the caller feeds it. For tests on virtual time.
pub fn start_with(
    api: Arc<dyn Kubernetes>,
    leadership: watch::Receiver<Leadership>,
    settings: &Settings,
    clock: Clock,
) -> (Handle, mpsc::Sender<Inflow>, watch::Receiver<u64>) {
    let (sender, receiver) = mpsc::channel(INFLOW);
    let door = settings.stores.then(|| Door {
        io: settings.io.clone(),
        api: api.clone(),
        leadership: leadership.clone(),
    });
    let (links, reports) = Links::new(
        settings.dialer.clone(),
        api.clone(),
        settings.io.clone(),
        sender.clone(),
    );
    let executor = Executor::new(
        api,
        settings.io.clone(),
        sender.clone(),
        leadership,
        clock,
        &settings.identity,
    );
    let defaults = crds::resolve::OperatorDefaults::from_environment(
        &settings.variables,
        settings.image_strategy,
    );
    let world = Rc::new(World::new(
        executor,
        links,
        clock,
        settings.hooks.clone(),
        defaults,
        door,
    ));
    let (relist, epoch) = watch::channel(0);
    let ready = Arc::new(AtomicBool::new(false));
    let supervisor = Supervisor::new(world, receiver, reports, relist, ready.clone()).start();
    (Handle { supervisor, ready }, sender, epoch)
}

/// Tells the supervisor when leadership comes and goes. A deadline that passes ends it, whatever is heard later.
async fn announce(
    mut leadership: watch::Receiver<Leadership>,
    inflow: mpsc::Sender<Inflow>,
    mut leads: bool,
) {
    loop {
        let held = *leadership.borrow_and_update();
        let now = held.holds();
        if now != leads {
            leads = now;
            if inflow.send(Inflow::Leadership(now)).await.is_err() {
                return;
            }
        }
        let expiry = async {
            match held {
                Leadership::Leader { until } if now => tokio::time::sleep_until(until).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() {
                return;
            },
            () = expiry => {}
        }
    }
}

impl Handle {
    /// Answers from the actors' state; None when the object is not known.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn inspect(&self, inspection: Inspection) -> Option<Value> {
        self.supervisor
            .send(Question(inspection))
            .await
            .ok()
            .flatten()
    }

    /// All metrics.
    pub async fn samples(&self) -> Vec<Sample> {
        self.supervisor.send(Collect).await.unwrap_or_default()
    }

    /// The actors' thread answers; False when the supervisor is gone.
    pub async fn alive(&self) -> bool {
        self.supervisor.send(Ping).await.is_ok()
    }

    /// Informers synced and the supervisor alive.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready(&self) -> Result<(), String> {
        if !self.supervisor.connected() {
            return Err("the supervisor is gone".to_owned());
        }
        if self.ready.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("informers are not synced yet".to_owned())
        }
    }

    /// Stops starting work; returns when nothing is under way, at the deadline at the latest.
    pub async fn drain(&self, deadline: tokio::time::Instant) {
        let _ = tokio::time::timeout_at(deadline, self.supervisor.send(Drain)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    /// A renewal that comes after the deadline is a new leadership: what was decided in between was dropped.
    #[tokio::test(start_paused = true)]
    async fn a_lease_renewed_too_late_is_announced_as_lost_and_gained() {
        let leader = |after| Leadership::Leader {
            until: monotonic() + Duration::from_secs(after),
        };
        let (elector, leadership) = watch::channel(leader(10));
        let (sender, mut inflow) = mpsc::channel(8);
        tokio::runtime::Handle::current().spawn(announce(leadership, sender, true));
        tokio::time::sleep(Duration::from_secs(5)).await;
        elector.send_replace(leader(10));
        assert!(inflow.try_recv().is_err(), "renewed in time: no news");
        tokio::time::sleep(Duration::from_secs(11)).await;
        elector.send_replace(leader(10));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut heard = Vec::new();
        while let Ok(Inflow::Leadership(leads)) = inflow.try_recv() {
            heard.push(leads);
        }
        assert_eq!(heard, [false, true]);
    }
}
