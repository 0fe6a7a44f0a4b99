//! The informers' part: lists, then events, in the order of each object, as late and as often as a test wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::entry::{Entry, Watched};
use actors::object::{Key, Kind, MANAGED_BY};
use actors::supervisor::Inflow;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::server::{Event, Server};

/// How events travel.
#[derive(Clone, Copy, Debug)]
pub struct Travel {
    /// Shortest delay.
    pub least: Duration,
    /// Longest delay; events of different objects overtake each other.
    pub most: Duration,
    /// Every so many events one arrives twice; 0 = never.
    pub twice: u64,
    /// How long a list takes.
    pub list: Duration,
}

impl Default for Travel {
    fn default() -> Self {
        Self {
            least: Duration::from_millis(1),
            most: Duration::from_millis(5),
            twice: 0,
            list: Duration::from_millis(10),
        }
    }
}

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

/// The trimmed form of an object.
pub fn entry(kind: Kind, object: &Value) -> Entry {
    let watched: Watched = serde_json::from_str(&object.to_string()).unwrap();
    watched.trim(kind).unwrap()
}

/// Does the informer of its kind see this object?
fn selected(kind: Kind, object: &Value) -> bool {
    kind == Kind::MultigresCluster
        || kind.is_template()
        || object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1
}

fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// What the informers make of a change.
fn told(event: &Event) -> Vec<Inflow> {
    let kind = event.key.kind;
    let seen =
        |object: &Option<Value>| object.as_ref().is_some_and(|object| selected(kind, object));
    let mut messages = Vec::new();
    match &event.after {
        Some(after) if seen(&event.after) => {
            messages.push(Inflow::Seen(Box::new(entry(kind, after))))
        }
        _ if seen(&event.before) => {
            let before = event.before.as_ref().unwrap();
            let uid = before["metadata"]["uid"].as_str().unwrap();
            messages.push(Inflow::Left(event.key.clone(), uid.into()));
        }
        _ => {}
    }
    let followed = Kind::FOREIGN.contains(&kind);
    let foreign = |object: &Option<Value>| followed && object.is_some() && !seen(object);
    if foreign(&event.after) || foreign(&event.before) {
        let now = event.after.as_ref().filter(|_| foreign(&event.after));
        messages.push(Inflow::Foreign(event.key.clone(), now.and_then(version)));
    }
    messages
}

/// All informers of one process.
pub struct Watches {
    pub server: Arc<Server>,
    pub inflow: mpsc::Sender<Inflow>,
    pub epoch: watch::Receiver<u64>,
    pub travel: watch::Receiver<Travel>,
    /// Counts what arrived.
    pub news: watch::Sender<u64>,
    pub dice: Dice,
}

/// Events on their way, by the instant of their arrival.
#[derive(Default)]
struct Way {
    events: BTreeMap<(Instant, u64), Event>,
    last: BTreeMap<Key, Instant>,
    count: u64,
}

impl Way {
    fn put(&mut self, event: Event, travel: Travel, dice: &mut Dice) {
        let spread = (travel.most - travel.least).as_millis() as u64;
        let delay = travel.least + Duration::from_millis(dice.below(spread + 1));
        let earliest = self.last.get(&event.key).copied();
        let at = (Instant::now() + delay).max(earliest.unwrap_or_else(Instant::now));
        self.last.insert(event.key.clone(), at);
        self.count += 1;
        if travel.twice > 0 && self.count.is_multiple_of(travel.twice) {
            self.events.insert((at, self.count), event.clone());
            self.count += 1;
        }
        self.events.insert((at, self.count), event);
    }
}

impl Watches {
    /// Lists and follows until the process is gone.
    pub async fn run(mut self) {
        let mut events = self.server.watch();
        let mut way = Way::default();
        if self.list(&mut events, &mut way).await.is_err() {
            return;
        }
        loop {
            let next = way.events.keys().next().copied();
            let arrival = async {
                match next {
                    Some((at, _)) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let sent = tokio::select! {
                biased;
                changed = self.epoch.changed() => match changed {
                    Ok(()) => self.list(&mut events, &mut way).await,
                    Err(_) => return,
                },
                event = events.recv() => {
                    let travel = *self.travel.borrow();
                    way.put(event.unwrap(), travel, &mut self.dice);
                    Ok(())
                }
                () = arrival => {
                    let event = way.events.pop_first().unwrap().1;
                    self.send(told(&event)).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn send(&self, messages: Vec<Inflow>) -> Result<(), ()> {
        for message in messages {
            self.inflow.send(message).await.map_err(drop)?;
            self.news.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Starts every watch of ours over: what was on its way is part of the list. The users' Secrets and ConfigMaps are followed
    /// apart and never listed anew, so news of them goes on its way.
    async fn list(
        &mut self,
        events: &mut mpsc::UnboundedReceiver<Event>,
        way: &mut Way,
    ) -> Result<(), ()> {
        let epoch = *self.epoch.borrow_and_update();
        let duration = self.travel.borrow().list;
        tokio::time::sleep(duration).await;
        let (objects, apart) = self.server.peek(|state| {
            let travelling = std::mem::take(&mut way.events).into_values();
            let arriving = std::iter::from_fn(|| events.try_recv().ok());
            let mut apart: Vec<Inflow> = travelling
                .chain(arriving)
                .flat_map(|event| told(&event))
                .collect();
            apart.retain(|message| matches!(message, Inflow::Foreign(..)));
            let known = state.objects.iter();
            let foreign = known.clone().filter(|(key, object)| {
                Kind::FOREIGN.contains(&key.kind) && !selected(key.kind, object)
            });
            let objects = known.filter(|(key, object)| selected(key.kind, object));
            if epoch == 0 {
                apart.extend(
                    foreign.map(|(key, object)| Inflow::Foreign(key.clone(), version(object))),
                );
            }
            let objects = objects.map(|(key, object)| entry(key.kind, object));
            (objects.collect::<Vec<_>>(), apart)
        });
        let mut objects = objects.into_iter().peekable();
        for kind in kinds_as_stored() {
            if kind.is_optional() {
                self.send(vec![Inflow::Unserved(kind, epoch)]).await?;
                continue;
            }
            self.send(vec![Inflow::Listing(kind)]).await?;
            while let Some(entry) = objects.next_if(|entry| entry.key().kind == kind) {
                self.send(vec![Inflow::Seen(Box::new(entry))]).await?;
            }
            self.send(vec![Inflow::Listed(kind, epoch)]).await?;
        }
        self.send(apart).await
    }
}

/// All kinds in the order of keys.
fn kinds_as_stored() -> Vec<Kind> {
    let mut kinds = Kind::ALL.to_vec();
    kinds.sort();
    kinds
}
