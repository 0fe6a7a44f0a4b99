//! One server with its controllers, and the lives of the operator on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::clock::Clock;
use actors::object::{Key, Kind};
use actors::operator::{
    Dialer, Handle, Hooks, ImageStrategy, Inspection, Leadership, Settings, start_with,
};
use actors::supervisor::Inflow;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::requests::{Client, DEADLINE, Process};
use crate::server::{Server, State};
use crate::watches::{Dice, Travel, Watches};

/// Longer than any wait of the operator (certificates are renewed a minute apart): after this much silence nothing more
/// will happen by itself.
pub const SILENCE: Duration = Duration::from_secs(65);

/// The day on which every test begins.
const ORIGIN: &str = "2026-01-01T00:00:00Z";

/// A server, and what every life of the operator on it has in common.
pub struct Bed {
    pub server: Arc<Server>,
    pub travel: watch::Sender<Travel>,
    pub hooks: Hooks,
    /// What stands in for the data plane; none: the operator does not look for one.
    pub dialer: Option<Arc<dyn Dialer>>,
    /// The environment of the next process.
    pub variables: BTreeMap<String, String>,
    /// Topology stores are looked at; such a test needs real time.
    pub stores: bool,
    /// Counts decisions, and news that arrived.
    news: watch::Sender<u64>,
    began: Instant,
    dice: std::cell::Cell<u64>,
}

/// One process of the operator.
pub struct Life<'a> {
    pub bed: &'a Bed,
    pub server: Arc<Server>,
    pub handle: Handle,
    pub inflow: mpsc::Sender<Inflow>,
    pub leadership: watch::Sender<Leadership>,
}

/// What came of a life.
#[derive(Debug, PartialEq, Eq)]
pub enum End<T> {
    /// It did what it should.
    Done(T),
    /// It was killed first.
    Killed,
}

impl Bed {
    /// An empty server. The same seed gives the same order of everything.
    pub fn new(seed: u64) -> Self {
        Self::on(State::default(), seed)
    }

    /// A server in this state.
    pub fn on(state: State, seed: u64) -> Self {
        let server = Arc::new(Server::new(state));
        tokio::runtime::Handle::current().spawn(crate::controllers::run(server.clone()));
        Self {
            server,
            travel: watch::channel(Travel::default()).0,
            hooks: Hooks::default(),
            dialer: None,
            variables: BTreeMap::new(),
            stores: false,
            news: watch::Sender::new(0),
            began: Instant::now(),
            dice: std::cell::Cell::new(seed),
        }
    }

    /// Leads until long after the test.
    pub fn leader() -> Leadership {
        Leadership::Leader {
            until: Instant::now() + Duration::from_secs(365 * 24 * 3600),
        }
    }

    /// Runs one process until `scenario` is through or somebody kills it. Nothing of it stays.
    pub async fn life<T>(&self, scenario: impl AsyncFnOnce(&Life<'_>) -> T) -> End<T> {
        self.life_as(Self::leader(), scenario).await
    }

    /// The same with another leadership at the start.
    pub async fn life_as<T>(
        &self,
        leadership: Leadership,
        scenario: impl AsyncFnOnce(&Life<'_>) -> T,
    ) -> End<T> {
        let local = LocalSet::new();
        let process = Arc::new(Process::new(self.server.clone()));
        let running = local.run_until(async {
            let life = self.start(leadership, &process);
            tokio::select! {
                biased;
                () = process.died.notified() => End::Killed,
                result = scenario(&life) => End::Done(result),
            }
        });
        let end = running.await;
        process.die();
        let violations = self.server.peek(|state| state.violations.clone());
        assert!(
            violations.is_empty(),
            "invariants broken:\n{}",
            violations.join("\n")
        );
        end
    }

    fn start(&self, leadership: Leadership, process: &Arc<Process>) -> Life<'_> {
        let now = self.now();
        let (leads, watched) = watch::channel(leadership);
        let settings = Settings {
            namespace: "multigres-operator".into(),
            identity: "operator-0".into(),
            variables: self.variables.clone(),
            image_strategy: ImageStrategy::default(),
            call_deadline: DEADLINE,
            stores: self.stores,
            dialer: self.dialer.clone(),
            io: tokio::runtime::Handle::current(),
            hooks: self.announcing(),
        };
        let api = Arc::new(Client(process.clone()));
        let (handle, inflow, epoch) = start_with(api, watched, &settings, Clock::starting_at(now));
        self.dice.set(self.dice.get() + 1);
        let watches = Watches {
            server: self.server.clone(),
            inflow: inflow.clone(),
            epoch,
            travel: self.travel.subscribe(),
            news: self.news.clone(),
            dice: Dice(self.dice.get()),
        };
        tokio::task::spawn_local(watches.run());
        Life {
            bed: self,
            server: self.server.clone(),
            handle,
            inflow,
            leadership: leads,
        }
    }

    /// The test's hooks, and before them one that tells of each decision.
    fn announcing(&self) -> Hooks {
        let (own, news) = (self.hooks.before_decision.clone(), self.news.clone());
        Hooks {
            before_decision: Some(Arc::new(move |id, key, incarnation| {
                news.send_modify(|count| *count += 1);
                if let Some(own) = &own {
                    own(id, key, incarnation);
                }
            })),
        }
    }

    /// Changes with each decision of any actor, whose outcome can be seen from then on, and with all news that arrives.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The time.
    pub fn now(&self) -> jiff::Timestamp {
        let origin: jiff::Timestamp = ORIGIN.parse().unwrap();
        origin + jiff::SignedDuration::try_from(self.began.elapsed()).unwrap()
    }

    /// How events travel from here on.
    pub fn travel(&self, travel: Travel) {
        self.travel.send_replace(travel);
    }

    /// Waits until nothing moved for [`SILENCE`]: no request, no change. Panics when that does not come.
    pub async fn silence(&self) {
        /// Far more than any bring-up needs.
        const MOST: u64 = 2000;
        let mut movement = self.server.movement();
        let before = self.server.mark();
        while self.server.mark() < before + MOST {
            movement.borrow_and_update();
            if tokio::time::timeout(SILENCE, movement.changed())
                .await
                .is_err()
            {
                return;
            }
        }
        panic!("{MOST} requests and no end\n{}", self.server.tail());
    }

    /// Waits until a resource says it is Healthy, for its newest spec.
    pub async fn healthy(&self, key: &Key) {
        self.phase(key, "Healthy").await;
    }

    /// Waits until a resource says this phase, for its newest spec.
    pub async fn phase(&self, key: &Key, phase: &str) {
        self.server
            .until(&format!("{key} is {phase}"), |state| {
                state.objects.get(key).is_some_and(|object| {
                    object["status"]["phase"] == phase
                        && object["status"]["observedGeneration"]
                            == object["metadata"]["generation"]
                })
            })
            .await;
    }
}

impl Life<'_> {
    /// What introspection says of all actors.
    pub async fn actors(&self) -> Vec<Value> {
        let answer = self.handle.inspect(Inspection::Actors).await.unwrap();
        answer["actors"].as_array().unwrap().clone()
    }

    /// The same of the process.
    pub async fn process(&self) -> Value {
        self.handle.inspect(Inspection::Actors).await.unwrap()["process"].clone()
    }

    /// The actor of a resource (or, with a pool, of that pool), as introspection shows it.
    pub async fn actor(&self, key: &Key, pool: Option<&str>) -> Value {
        let object = key.to_string();
        let found =
            self.actors().await.into_iter().find(|actor| {
                actor["object"] == object.as_str() && actor["pool"][0].as_str() == pool
            });
        found.unwrap_or_else(|| panic!("no actor of {key} {pool:?}"))
    }

    /// One metric, summed over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let samples = self.handle.samples().await;
        let values = samples
            .iter()
            .filter(|sample| sample.name == name)
            .map(|sample| sample.value);
        values.sum()
    }

    /// A new list of everything; every actor looks again.
    pub async fn relist(&self) {
        self.inflow.send(Inflow::Leadership(true)).await.unwrap();
        self.bed.silence().await;
    }

    /// The store's count of a kind.
    pub async fn known(&self, kind: Kind) -> u64 {
        self.process().await["objects"][kind.name()]
            .as_u64()
            .unwrap_or_default()
    }
}
