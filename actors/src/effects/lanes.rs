//! One lane per object and part: at most one request under way, and the newest action waits behind it.

use std::collections::{BTreeMap, BTreeSet};

use super::parcel::Parcel;
use crate::action::{Planned, Slot, Urgency};
use crate::object::Key;
use crate::room::ActorId;

/// A lane's name.
pub type Lane = (Key, Slot);

/// An action on its way to the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Who asked.
    pub actor: ActorId,
    /// What for.
    pub planned: Planned,
    /// Order of arrival.
    pub number: u64,
}

#[derive(Debug, Default)]
struct Track {
    running: Option<Parcel>,
    waiting: Option<Parcel>,
}

impl Track {
    /// Where what waits stands in the order of service.
    fn place(lane: &Lane, parcel: &Parcel) -> (Urgency, u64, Lane) {
        let job = parcel.slip();
        (job.planned.action.urgency(), job.number, lane.clone())
    }
}

/// All lanes.
#[derive(Debug, Default)]
pub struct Lanes {
    tracks: BTreeMap<Lane, Track>,
    ready: BTreeSet<(Urgency, u64, Lane)>,
    next: u64,
    running: usize,
    /// Actions that replaced or repeated one that was already there.
    pub coalesced: u64,
}

impl Lanes {
    /// Puts an action into its lane. The same action under way or waiting is not repeated; another one waiting is replaced.
    pub fn submit(&mut self, actor: ActorId, planned: Planned) {
        let (key, slot) = planned.action.lane();
        let lane = (key.clone(), slot);
        let track = self.tracks.entry(lane.clone()).or_default();
        let parcel = Parcel::new(Job {
            actor,
            number: self.next + 1,
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
        self.next += 1;
        if let Some(old) = track.waiting.take() {
            self.ready.remove(&Track::place(&lane, &old));
            self.coalesced += 1;
        }
        if track.running.is_none() {
            self.ready.insert(Track::place(&lane, &parcel));
        }
        track.waiting = Some(parcel);
    }

    /// The next action to send: most urgent first, then oldest.
    pub fn start(&mut self) -> Option<Job> {
        let (_, _, lane) = self.ready.pop_first()?;
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
        if track.running.take().is_some() {
            self.running -= 1;
        }
        if lane.1 == Slot::Status && track.waiting.take().is_some() {
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
        let ready = &mut self.ready;
        self.tracks.retain(|lane, track| {
            if let Some(old) = track.waiting.take_if(|old| !keep(old.slip())) {
                ready.remove(&Track::place(lane, &old));
            }
            track.running.is_some() || track.waiting.is_some()
        });
    }

    /// Requests under way.
    pub const fn running(&self) -> usize {
        self.running
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

    #[test]
    fn one_request_per_lane_and_the_newest_waits() {
        let mut lanes = Lanes::default();
        lanes.submit(actor(), delete("a", 1));
        let job = lanes.start().unwrap();
        lanes.submit(actor(), delete("a", 2));
        lanes.submit(actor(), delete("a", 3));
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
                status: serde_json::json!({ "phase": phase }),
                manager: Manager::Operator,
                events: Vec::new(),
            },
            reason: String::new(),
        };
        let mut lanes = Lanes::default();
        lanes.submit(actor(), status("Progressing"));
        let job = lanes.start().unwrap();
        lanes.submit(actor(), status("Healthy"));
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
        lanes.submit(actor(), delete("a", 1));
        lanes.submit(actor(), delete("a", 1));
        lanes.start().unwrap();
        lanes.submit(actor(), delete("a", 1));
        assert_eq!(lanes.waiting(), 0);
        assert_eq!(lanes.coalesced, 2);
    }

    #[test]
    fn deletions_go_before_reads() {
        let mut lanes = Lanes::default();
        lanes.submit(actor(), read("a"));
        lanes.submit(actor(), delete("b", 1));
        assert_eq!(lanes.start().unwrap().planned, delete("b", 1));
    }

    #[test]
    fn clear_keeps_only_what_is_under_way() {
        let mut lanes = Lanes::default();
        lanes.submit(actor(), delete("a", 1));
        lanes.submit(actor(), delete("b", 1));
        let job = lanes.start().unwrap();
        lanes.clear();
        assert!(lanes.start().is_none());
        let (key, slot) = job.planned.action.lane();
        lanes.finish(&(key.clone(), slot));
        assert!(lanes.is_empty());
    }
}
