//! One lane per object and part: at most one request under way, and the newest action waits behind it. Clusters take turns: one
//! that has begun is finished before the next begins, so that in a fleet the first is up early and not all of them late.

use std::collections::{BTreeMap, BTreeSet};

use super::parcel::Parcel;
use crate::action::{Planned, Slot, Urgency};
use crate::object::Key;
use crate::room::ActorId;
use crate::store::Group;

/// A lane's name.
pub type Lane = (Key, Slot);

/// Actions of one cluster in one turn: a little more than it takes to bring a small one up. Who needs more goes to the end of
/// the queue, so that a cluster that never rests holds up nobody for long.
const TURN: usize = 64;

/// An action on its way to the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Who asked.
    pub actor: ActorId,
    /// What for.
    pub planned: Planned,
    /// The cluster that it is for.
    pub group: Group,
    /// The turn of that cluster, by the number with which it began.
    pub turn: u64,
    /// Order of arrival.
    pub number: u64,
}

/// What a cluster has pending without a pause.
#[derive(Debug)]
struct Burst {
    turn: u64,
    pending: usize,
    taken: usize,
}

/// Whether it can wait (deletions cannot), turn of the cluster, urgency, number, lane.
type Place = (bool, u64, Urgency, u64, Lane);

#[derive(Debug, Default)]
struct Track {
    running: Option<Parcel>,
    waiting: Option<Parcel>,
}

impl Track {
    /// Where what waits stands in the order of service.
    fn place(lane: &Lane, parcel: &Parcel) -> Place {
        let job = parcel.slip();
        let urgency = job.planned.action.urgency();
        let can_wait = urgency != Urgency::Deletion;
        (can_wait, job.turn, urgency, job.number, lane.clone())
    }
}

/// All lanes.
#[derive(Debug, Default)]
pub struct Lanes {
    tracks: BTreeMap<Lane, Track>,
    ready: BTreeSet<Place>,
    bursts: BTreeMap<Group, Burst>,
    next: u64,
    running: usize,
    /// Actions that replaced or repeated one that was already there.
    pub coalesced: u64,
}

impl Lanes {
    /// Puts an action into its lane. The same action under way or waiting is not repeated; another one waiting is replaced.
    pub fn submit(&mut self, actor: ActorId, group: Group, planned: Planned) {
        let number = self.next + 1;
        let turn = match self.bursts.get(&group) {
            Some(burst) if burst.taken < TURN => burst.turn,
            _ => number,
        };
        let (key, slot) = planned.action.lane();
        let lane = (key.clone(), slot);
        let track = self.tracks.entry(lane.clone()).or_default();
        let parcel = Parcel::new(Job {
            actor,
            group: group.clone(),
            turn,
            number,
            planned,
        });
        let same = |known: &Option<Parcel>| {
            known
                .as_ref()
                .is_some_and(|known| known.asks_the_same_as(&parcel))
        };
        if same(&track.waiting) || (track.waiting.is_none() && same(&track.running)) {
            self.coalesced += 1;
            return;
        }
        self.next = number;
        if let Some(old) = track.waiting.take() {
            self.ready.remove(&Track::place(&lane, &old));
            rest(&mut self.bursts, &old.slip().group);
            self.coalesced += 1;
        }
        let burst = self.bursts.entry(group).or_insert(Burst {
            turn,
            pending: 0,
            taken: 0,
        });
        if burst.turn != turn {
            (burst.turn, burst.taken) = (turn, 0);
        }
        burst.pending += 1;
        burst.taken += 1;
        if track.running.is_none() {
            self.ready.insert(Track::place(&lane, &parcel));
        }
        track.waiting = Some(parcel);
    }

    /// The next action to send: deletions of all clusters first, then those of the cluster whose turn is oldest, by urgency.
    pub fn start(&mut self) -> Option<Job> {
        let (.., lane) = self.ready.pop_first()?;
        let track = self.tracks.get_mut(&lane)?;
        let parcel = track.waiting.take()?;
        let job = parcel.open();
        track.running = Some(parcel);
        self.running += 1;
        Some(job)
    }

    /// The request of this lane was answered and its answer is in the store. A status that waited is dropped: it was decided
    /// before the answer, so its event may tell of a transition that has been told, and the answer wakes the actor anyway.
    pub fn finish(&mut self, lane: &Lane) {
        let Some(track) = self.tracks.get_mut(lane) else {
            return;
        };
        if let Some(sent) = track.running.take() {
            self.running -= 1;
            rest(&mut self.bursts, &sent.slip().group);
        }
        if lane.1 == Slot::Status
            && let Some(old) = track.waiting.take()
        {
            rest(&mut self.bursts, &old.slip().group);
            self.coalesced += 1;
        }
        match &track.waiting {
            Some(parcel) => {
                self.ready.insert(Track::place(lane, parcel));
            }
            None => {
                self.tracks.remove(lane);
            }
        }
    }

    /// Forgets everything that was not sent: the process ends.
    pub fn clear(&mut self) {
        self.keep(|_| false);
    }

    /// Forgets writes that were not sent: leadership is lost, and whoever leads decides anew. Nobody repeats a read.
    pub fn clear_writes(&mut self) {
        self.keep(|job| !job.planned.action.writes());
    }

    /// Forgets the writes that an actor has waiting, since its resource is gone. What it wanted to know is still of use: that
    /// one of its objects is gone too, or what is in a Secret that others refer to.
    pub fn forget(&mut self, actor: &ActorId) {
        self.keep(|job| job.actor != *actor || !job.planned.action.writes());
    }

    fn keep(&mut self, keep: impl Fn(&Job) -> bool) {
        let (ready, bursts) = (&mut self.ready, &mut self.bursts);
        self.tracks.retain(|lane, track| {
            if let Some(old) = track.waiting.take_if(|old| !keep(old.slip())) {
                ready.remove(&Track::place(lane, &old));
                rest(bursts, &old.slip().group);
            }
            track.running.is_some() || track.waiting.is_some()
        });
    }

    /// Requests under way.
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Actions that only the window holds back.
    pub fn backlog(&self) -> usize {
        self.ready.len()
    }

    /// Lanes with something waiting.
    pub fn waiting(&self) -> usize {
        self.tracks
            .values()
            .filter(|track| track.waiting.is_some())
            .count()
    }

    /// Nothing under way or waiting.
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// What an actor has pending: verb, object, reason, under way or not.
    pub fn pending(&self, actor: &ActorId) -> Vec<(&'static str, String, String, bool)> {
        self.tracks
            .values()
            .flat_map(|track| {
                track
                    .running
                    .iter()
                    .map(|parcel| (parcel.slip(), true))
                    .chain(track.waiting.iter().map(|parcel| (parcel.slip(), false)))
            })
            .filter(|(job, _)| job.actor == *actor)
            .map(|(job, running)| {
                let (key, _) = job.planned.action.lane();
                (
                    job.planned.action.verb(),
                    key.to_string(),
                    job.planned.reason.clone(),
                    running,
                )
            })
            .collect()
    }
}

/// One action less is pending of a cluster; with the last one its turn ends.
fn rest(bursts: &mut BTreeMap<Group, Burst>, group: &Group) {
    if let Some(burst) = bursts.get_mut(group) {
        burst.pending -= 1;
        if burst.pending == 0 {
            bursts.remove(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, Manager};
    use crate::object::Kind;

    fn read(name: &str) -> Planned {
        Planned {
            action: Action::Read {
                key: Key::new(Kind::Pod, "n", name),
            },
            reason: String::new(),
        }
    }

    fn delete(name: &str, version: u64) -> Planned {
        let key = Key::new(Kind::Pod, "n", name);
        Planned {
            action: Action::Delete {
                key,
                uid: "u".into(),
                version,
            },
            reason: String::new(),
        }
    }

    fn actor() -> ActorId {
        ActorId::custom(Kind::Shard, "uid")
    }

    fn group(name: &str) -> Group {
        ("n".into(), name.into())
    }

    fn finish(lanes: &mut Lanes, job: &Job) {
        let (key, slot) = job.planned.action.lane();
        lanes.finish(&(key.clone(), slot));
    }

    fn names(jobs: &[Job]) -> Vec<&str> {
        jobs.iter()
            .map(|job| &*job.planned.action.lane().0.name)
            .collect()
    }

    #[test]
    fn a_cluster_that_has_begun_is_finished_first() {
        let mut lanes = Lanes::default();
        for cluster in ["a", "b"] {
            for number in 0..2 {
                let name = format!("{cluster}{number}");
                lanes.submit(actor(), group(cluster), read(&name));
            }
        }
        let first = lanes.start().unwrap();
        lanes.submit(actor(), group("a"), read("a2"));
        finish(&mut lanes, &first);
        let jobs: Vec<Job> = std::iter::from_fn(|| lanes.start()).collect();
        assert_eq!(names(&jobs), ["a1", "a2", "b0", "b1"]);
        for job in &jobs {
            finish(&mut lanes, job);
        }
        assert!(lanes.bursts.is_empty(), "every turn has ended");
        lanes.submit(actor(), group("b"), read("b"));
        lanes.submit(actor(), group("a"), read("a"));
        let jobs: Vec<Job> = std::iter::from_fn(|| lanes.start()).collect();
        assert_eq!(names(&jobs), ["b", "a"], "a new turn begins at the end");
    }

    #[test]
    fn a_cluster_that_never_rests_holds_up_nobody_for_long() {
        let mut lanes = Lanes::default();
        lanes.submit(actor(), group("busy"), read("busy-0"));
        lanes.submit(actor(), group("patient"), read("patient"));
        let sent = (1..).find(|number| {
            let job = lanes.start().unwrap();
            let name = format!("busy-{number}");
            lanes.submit(actor(), group("busy"), read(&name));
            finish(&mut lanes, &job);
            names(&[job]) == ["patient"]
        });
        assert_eq!(sent, Some(TURN + 1));
    }

    #[test]
    fn one_request_per_lane_and_the_newest_waits() {
        let mut lanes = Lanes::default();
        lanes.submit(actor(), group("c"), delete("a", 1));
        let job = lanes.start().unwrap();
        lanes.submit(actor(), group("c"), delete("a", 2));
        lanes.submit(actor(), group("c"), delete("a", 3));
        assert!(lanes.start().is_none(), "the lane is busy");
        let (key, slot) = job.planned.action.lane();
        lanes.finish(&(key.clone(), slot));
        assert_eq!(lanes.start().unwrap().planned, delete("a", 3));
        assert_eq!(lanes.coalesced, 1);
    }

    #[test]
    fn a_status_decided_before_the_answer_to_the_last_one_is_decided_anew() {
        let status = |phase: &str| Planned {
            action: Action::Status {
                key: Key::new(Kind::Cell, "n", "a"),
                uid: "u".into(),
                version: None,
                status: serde_json::json!({ "phase": phase }),
                manager: Manager::Operator,
                events: Vec::new(),
            },
            reason: String::new(),
        };
        let mut lanes = Lanes::default();
        lanes.submit(actor(), group("c"), status("Progressing"));
        let job = lanes.start().unwrap();
        lanes.submit(actor(), group("c"), status("Healthy"));
        let (key, slot) = job.planned.action.lane();
        lanes.finish(&(key.clone(), slot));
        assert!(
            lanes.start().is_none(),
            "its event tells of a transition from a status that is no longer there"
        );
        assert!(lanes.is_empty());
    }

    #[test]
    fn the_same_action_is_not_repeated() {
        let mut lanes = Lanes::default();
        lanes.submit(actor(), group("c"), delete("a", 1));
        lanes.submit(actor(), group("c"), delete("a", 1));
        lanes.start().unwrap();
        lanes.submit(actor(), group("c"), delete("a", 1));
        assert_eq!(lanes.waiting(), 0);
        assert_eq!(lanes.coalesced, 2);
    }

    #[test]
    fn deletions_go_before_reads() {
        let mut lanes = Lanes::default();
        lanes.submit(actor(), group("c"), read("a"));
        lanes.submit(actor(), group("c"), delete("b", 1));
        assert_eq!(lanes.start().unwrap().planned, delete("b", 1));
    }

    #[test]
    fn clear_keeps_only_what_is_under_way() {
        let mut lanes = Lanes::default();
        lanes.submit(actor(), group("c"), delete("a", 1));
        lanes.submit(actor(), group("c"), delete("b", 1));
        let job = lanes.start().unwrap();
        lanes.clear();
        assert!(lanes.start().is_none());
        let (key, slot) = job.planned.action.lane();
        lanes.finish(&(key.clone(), slot));
        assert!(lanes.is_empty());
    }
}
