//! A job on the shelf: patches and statuses are kept as text, as objects are anyway, which takes a tenth of the memory of the
//! tree as which they were decided. A fleet that comes up at once has thousands of jobs waiting, and what they take is never
//! given back as a whole.

use serde_json::Value;

use super::lanes::Job;
use crate::action::Planned;

/// A packed job.
#[derive(Debug)]
pub struct Parcel {
    /// The job with an empty content.
    slip: Job,
    content: Box<str>,
}

fn take_content(planned: &mut Planned) -> Box<str> {
    planned
        .action
        .content_mut()
        .map_or_else(Box::default, |content| {
            content.take().to_string().into_boxed_str()
        })
}

impl Parcel {
    /// Packs a job.
    pub fn new(mut job: Job) -> Self {
        let content = take_content(&mut job.planned);
        Self { slip: job, content }
    }

    /// Who asked for what and when; the content of the action is missing.
    pub const fn slip(&self) -> &Job {
        &self.slip
    }

    /// The job as it was packed.
    pub fn open(&self) -> Job {
        let mut job = self.slip.clone();
        if let Some(content) = job.planned.action.content_mut() {
            // Text that we made of JSON is JSON.
            *content = serde_json::from_str(&self.content).unwrap_or(Value::Null);
        }
        job
    }

    /// Is the same action in here?
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.slip.planned.action == other.slip.planned.action && self.content == other.content
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::action::Action;
    use crate::object::{Key, Kind};
    use crate::room::ActorId;

    fn parcel(number: u64, patch: Value) -> (Job, Parcel) {
        let key = Key::new(Kind::Service, "n", "a");
        let job = Job {
            actor: ActorId::custom(Kind::Shard, "u"),
            planned: Planned {
                action: Action::metadata(key, patch),
                reason: "r".to_owned(),
            },
            group: ("n".into(), "c".into()),
            turn: number,
            number,
        };
        (job.clone(), Parcel::new(job))
    }

    #[test]
    fn what_is_opened_is_what_was_packed() {
        let (job, parcel) = parcel(1, json!({"spec": {"a": [1, "x", null, true, {}], "b": -7}}));
        assert_eq!(parcel.open(), job);
        assert_ne!(*parcel.slip(), job, "the content is not kept twice");
    }

    #[test]
    fn parcels_are_compared_by_what_is_in_them() {
        let ((_, one), (_, two)) = (parcel(1, json!({"a": 1})), parcel(2, json!({"a": 1})));
        assert!(one.asks_the_same_as(&two));
        let (_, other) = parcel(3, json!({"a": 2}));
        assert!(!one.asks_the_same_as(&other));
    }
}
