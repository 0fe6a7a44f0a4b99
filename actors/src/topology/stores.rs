//! What a TopologyActor remembers of its stores: their records, and how the connection to each is. Lost on restart: everything;
//! it is read again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::places::{Place, Places};
use crate::effects::etcd::{Event, Report, Written};
use crate::topology_store::peer::{Outcome, Peer};
use crate::topology_store::record::Lifecycle;
use crate::topology_store::view::{View, Views};

/// The connection to one store.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// How it is reached in this life.
    pub place: Place,
    /// Counted over all stores: reports of earlier lives are dropped.
    pub life: u64,
    /// The member through which the store is followed.
    pub following: Option<String>,
    /// Members that failed since the store answered last, and when first.
    failed: BTreeMap<String, Timestamp>,
    /// The members, as they answered last; shown, and named when none answers.
    members: Vec<Peer>,
}

impl Link {
    fn new(place: Place, life: u64) -> Self {
        let members = place.endpoints.iter().map(|at| Peer::at(at)).collect();
        Self {
            place,
            life,
            following: None,
            failed: BTreeMap::new(),
            members,
        }
    }

    /// Must the store be dialled anew to be at `place`? A store that is followed through a member that stays is left alone:
    /// its other members may come and go.
    fn moved(&self, place: &Place) -> bool {
        let same_store = self.place.root == place.root && self.place.trust == place.trust;
        let stays = |member: &String| place.endpoints.contains(member);
        self.place != *place && !(same_store && self.following.as_ref().is_some_and(stays))
    }

    /// Every member was tried since the store answered last, and none answered.
    pub fn exhausted(&self) -> bool {
        let tried = |member: &Peer| self.failed.contains_key(&*member.address);
        self.members.iter().all(tried)
    }

    /// The members, each failing since it failed after the store answered last.
    pub fn tried(&self) -> Vec<Peer> {
        let members = self.members.iter().cloned();
        members
            .map(|member| Peer {
                failing_since: self.failed.get(&*member.address).copied(),
                ..member
            })
            .collect()
    }

    fn learn(&mut self, endpoint: &str, outcome: Outcome, error: &str, now: Timestamp) {
        let known = self.members.iter_mut();
        if let Some(member) = known
            .into_iter()
            .find(|member| *member.address == *endpoint)
        {
            member.learn(outcome, error, now);
        }
    }
}

/// All stores of a cluster.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Their records.
    pub views: Views,
    links: BTreeMap<Box<str>, Link>,
    lives: u64,
    /// Cells that are followed no more, and of which no pooler was alive when they were followed last.
    pub ended: BTreeSet<Box<str>>,
    /// How often a store's history turned out to be another one than was known (a wiped etcd).
    pub rewound: u64,
    /// How often a watch was cancelled since its history was compacted.
    pub compacted: u64,
}

impl Default for Stores {
    fn default() -> Self {
        Self {
            views: Views {
                global: View::new(""),
                cells: BTreeMap::new(),
            },
            links: BTreeMap::new(),
            lives: 0,
            ended: BTreeSet::new(),
            rewound: 0,
            compacted: 0,
        }
    }
}

/// What is to be done about connections.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// To be opened; one that was open is replaced.
    pub opened: Vec<(Box<str>, Link)>,
    /// To be closed.
    pub closed: Vec<Box<str>>,
}

/// What a report said about a write: how it ended, if it was one.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// The key.
    pub key: Box<str>,
    /// `ok`, `conflict`, `unknown` or `not_leader`.
    pub code: &'static str,
}

impl Stores {
    /// The connection to a store; `None`: it is not dialled.
    pub fn link(&self, store: &str) -> Option<&Link> {
        self.links.get(store)
    }

    /// Follows `places`: views exist for the stores that do, links for those that can be dialled.
    pub fn arrange(&mut self, places: &Places) -> Moves {
        self.arrange_views(places);
        let mut opened = Vec::new();
        for (store, spot) in places.all() {
            match (&spot.place, self.links.get(store)) {
                (Ok(place), Some(link)) if !link.moved(place) => {}
                (Ok(place), _) => {
                    self.lives += 1;
                    let link = Link::new(place.clone(), self.lives);
                    self.links.insert(store.into(), link.clone());
                    opened.push((store.into(), link));
                }
                (Err(_), _) => {}
            }
        }
        let dialled = |store: &str| {
            let mut all = places.all();
            all.any(|(known, spot)| known == store && spot.place.is_ok())
        };
        let closed: Vec<Box<str>> = self
            .links
            .keys()
            .filter(|store| !dialled(store))
            .cloned()
            .collect();
        for store in &closed {
            self.links.remove(store);
        }
        let broken = opened.iter().map(|(store, _)| store).chain(&closed);
        for store in broken.cloned().collect::<Vec<_>>() {
            if let Some(view) = self.views.own(&store) {
                view.lost();
            }
        }
        Moves { opened, closed }
    }

    fn arrange_views(&mut self, places: &Places) {
        let fits = |view: &View, root: &str| view.root() == root.trim_end_matches('/');
        if !fits(&self.views.global, &places.global.root) {
            self.views.global = View::new(&places.global.root);
        }
        let gone = self.views.cells.keys();
        let gone: Vec<Box<str>> = gone
            .filter(|cell| !places.cells.contains_key(*cell))
            .cloned()
            .collect();
        for cell in gone {
            if self
                .views
                .of_cell(&cell)
                .is_some_and(|view| ended(view, &cell))
            {
                self.ended.insert(cell.clone());
            }
            self.views.cells.remove(&cell);
        }
        self.ended.retain(|cell| !places.cells.contains_key(cell));
        let cells = &mut self.views.cells;
        for (cell, spot) in &places.cells {
            let view = cells.entry(cell.clone()).or_insert(None);
            match spot {
                None => *view = None,
                Some(spot) if view.as_ref().is_none_or(|view| !fits(view, &spot.root)) => {
                    *view = Some(View::new(&spot.root));
                }
                Some(_) => {}
            }
        }
    }

    /// Takes a report in. Those of an earlier life change nothing, but for what they say about the end of a write.
    pub fn take_in(&mut self, report: Report, now: Timestamp) -> Option<Answered> {
        let store = report.source.store;
        let alive = self
            .links
            .get(&store)
            .is_some_and(|link| link.life == report.source.life);
        let (link, view) = (self.links.get_mut(&store), self.views.own(&store));
        let both = link.zip(view).filter(|_| alive);
        match (report.event, both) {
            (
                Event::Read {
                    endpoint,
                    revision,
                    items,
                },
                Some((link, view)),
            ) => {
                link.learn(&endpoint, Outcome::Answered, "", now);
                link.failed.clear();
                link.following = Some(endpoint);
                self.rewound += u64::from(view.replace(revision, items));
                None
            }
            (Event::Changed { revision, items }, Some((_, view))) => {
                view.advance(revision, items);
                None
            }
            (Event::Compacted, Some(_)) => {
                // What is known stays true until the store is read again, which follows at once.
                self.compacted += 1;
                None
            }
            (Event::Lost { endpoint, error }, Some((link, view))) => {
                link.learn(&endpoint, Outcome::Unreachable, &error, now);
                link.failed.entry(endpoint).or_insert(now);
                link.following = None;
                view.lost();
                None
            }
            (Event::Written { key, outcome, .. }, both) => {
                let code = outcome.code();
                if let (Written::Done(item) | Written::Conflict(item), Some((_, view))) =
                    (outcome, both)
                {
                    view.wrote(item);
                }
                Some(Answered { key, code })
            }
            (_, None) => None,
        }
    }

    /// For introspection.
    pub fn told(&self, places: Option<&Places>) -> Vec<Value> {
        let all = places.into_iter().flat_map(Places::all);
        all.map(|(store, spot)| {
            let view = self.views.of_store(store);
            let link = self.links.get(store);
            let lack = spot.place.as_ref().err();
            json!({
                "store": if store.is_empty() { "global" } else { store },
                "root": spot.root,
                "lack": lack,
                "complete": view.is_some_and(View::complete),
                "revision": view.and_then(View::revision),
                "records": view.map_or(0, |view| view.records().count()),
                "garbage": view.into_iter().flat_map(View::garbage).take(GARBAGE)
                    .map(|(path, why)| json!({"key": path.under(&spot.root), "why": why.to_string()}))
                    .collect::<Vec<_>>(),
                "life": link.map(|link| link.life),
                "following": link.and_then(|link| link.following.clone()),
                "members": link.map(|link| link.members.clone()),
            })
        })
        .collect()
    }
}

/// All is known of a cell, and none of its poolers is alive.
fn ended(view: &View, cell: &str) -> bool {
    let mut poolers = view.poolers(cell);
    view.complete() && poolers.all(|(_, _, pooler)| pooler.lifecycle == Lifecycle::Shutdown)
}

/// Garbage shown per store.
const GARBAGE: usize = 20;

#[cfg(test)]
mod tests {
    use super::super::places::{Lack, Spot};
    use super::*;
    use crate::effects::etcd::Source;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn places(endpoints: &[&str]) -> Places {
        Places {
            global: Spot {
                root: "/g".to_owned(),
                place: if endpoints.is_empty() {
                    Err(Lack::Members)
                } else {
                    Ok(Place {
                        endpoints: endpoints.iter().map(ToString::to_string).collect(),
                        root: "/g".to_owned(),
                        trust: None,
                    })
                },
            },
            cells: BTreeMap::new(),
        }
    }

    fn told(stores: &mut Stores, life: u64, event: Event) -> Option<Answered> {
        let source = Source {
            store: "".into(),
            life,
        };
        stores.take_in(Report { source, event }, at(5))
    }

    fn read(endpoint: &str) -> Event {
        Event::Read {
            endpoint: endpoint.to_owned(),
            revision: 3,
            items: Vec::new(),
        }
    }

    fn lost(endpoint: &str) -> Event {
        Event::Lost {
            endpoint: endpoint.to_owned(),
            error: "refused".to_owned(),
        }
    }

    #[test]
    fn a_store_that_is_followed_stays_open_while_other_members_come_and_go() {
        let mut stores = Stores::default();
        assert_eq!(stores.arrange(&places(&["a"])).opened.len(), 1);
        told(&mut stores, 1, read("a"));
        assert!(stores.views.global.complete());
        assert!(stores.arrange(&places(&["b", "a"])).opened.is_empty());
        assert!(stores.views.global.complete());
        told(&mut stores, 1, lost("a"));
        let Moves { opened, closed } = stores.arrange(&places(&["b", "a"]));
        assert_eq!((opened[0].1.life, closed.len()), (2, 0));
        assert!(
            stores.arrange(&places(&["b", "a"])).opened.is_empty(),
            "once"
        );
        told(&mut stores, 1, read("a"));
        assert!(!stores.views.global.complete(), "of an earlier life");
        told(&mut stores, 2, read("b"));
        assert!(stores.views.global.complete());
        let Moves { opened, closed } = stores.arrange(&places(&[]));
        assert!(opened.is_empty() && closed == ["".into()]);
        assert!(!stores.views.global.complete() && stores.views.global.known());
    }

    #[test]
    fn a_store_is_out_of_reach_when_every_member_was_tried_since_it_answered() {
        let mut stores = Stores::default();
        stores.arrange(&places(&["a", "b"]));
        told(&mut stores, 1, lost("a"));
        assert!(!stores.link("").unwrap().exhausted());
        told(&mut stores, 1, read("b"));
        told(&mut stores, 1, lost("b"));
        assert!(!stores.link("").unwrap().exhausted(), "a was tried before");
        told(&mut stores, 1, lost("a"));
        assert!(stores.link("").unwrap().exhausted());
        let since: Vec<_> = stores.link("").unwrap().tried();
        assert!(
            since
                .iter()
                .all(|member| member.failing_since == Some(at(5)))
        );
    }

    #[test]
    fn a_write_that_was_answered_late_is_answered_all_the_same() {
        let mut stores = Stores::default();
        stores.arrange(&places(&["a"]));
        let event = Event::Written {
            key: "/g/cells/a/Cell".into(),
            outcome: Written::Unknown("no answer".to_owned()),
            latency: std::time::Duration::ZERO,
        };
        let answered = told(&mut stores, 0, event).unwrap();
        assert_eq!(
            (&*answered.key, answered.code),
            ("/g/cells/a/Cell", "unknown")
        );
    }
}
