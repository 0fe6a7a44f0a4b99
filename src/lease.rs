//! The Lease: what its record says, what to do about it, and how it is written. Nothing here waits.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::time::Instant;

/// Name of the Lease, in the operator's namespace. The Go operator's name, so that the two never lead side by side.
pub const NAME: &str = "multigres-operator.multigres.com";

/// The intervals that follow from the lease duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a record must stand unchanged before a standby takes it over.
    pub lease: Duration,
    /// How long after a successful renewal was sent the leader still counts as one.
    pub renew_deadline: Duration,
    /// Pause between two looks.
    pub retry: Duration,
    /// Limit of one request; an answer that comes later counts as unknown.
    pub request: Duration,
    /// Limit of a write that needs the leadership: over before another process may lead, since it is sent before
    /// `renew_deadline` is reached and the rest of the lease is longer. At most 4 s, which no healthy write takes.
    pub write: Duration,
}

/// Longest write whatever the lease.
const LONGEST_WRITE: Duration = Duration::from_secs(4);

impl From<Duration> for Timing {
    fn from(lease: Duration) -> Self {
        let lease = lease.max(Duration::from_secs(1));
        Self {
            lease,
            renew_deadline: lease * 2 / 3,
            retry: lease * 2 / 15,
            request: lease / 3,
            write: (lease * 4 / 15).min(LONGEST_WRITE),
        }
    }
}

/// What to do about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no Lease: create it.
    Create,
    /// Nobody holds it, or the holder was silent for too long: take it over.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Another process holds it: look again after this long.
    Wait(Duration),
}

/// Decides. `first_seen` is when *this* process first saw the record as it stands: clocks of machines are never compared.
pub fn decide(
    record: Option<&Lease>,
    identity: &str,
    first_seen: Instant,
    now: Instant,
    timing: &Timing,
) -> Step {
    let Some(lease) = record else {
        return Step::Create;
    };
    let spec = lease.spec.as_ref();
    match spec.and_then(|spec| spec.holder_identity.as_deref()) {
        None | Some("") => Step::Take,
        Some(holder) if holder == identity => Step::Renew,
        Some(_) => {
            // A holder with a longer lease than ours is given its own time.
            let theirs = spec
                .and_then(|spec| spec.lease_duration_seconds)
                .and_then(|seconds| u64::try_from(seconds).ok());
            let patience = timing.lease.max(Duration::from_secs(theirs.unwrap_or(0)));
            let silent = now.saturating_duration_since(first_seen);
            match patience.checked_sub(silent) {
                None | Some(Duration::ZERO) => Step::Take,
                Some(left) => Step::Wait(left.min(timing.retry)),
            }
        }
    }
}

/// The record with us as its holder. Metadata and fields of others are kept.
pub fn held(
    record: Option<&Lease>,
    namespace: &str,
    identity: &str,
    timing: &Timing,
    wall: Timestamp,
) -> Lease {
    let mut lease = record.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(
                [(
                    "app.kubernetes.io/name".to_owned(),
                    "multigres-operator".to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let mut spec = lease.spec.take().unwrap_or_default();
    let ours = spec.holder_identity.as_deref() == Some(identity);
    if !ours {
        spec.lease_transitions = Some(
            spec.lease_transitions
                .map_or(0, |count| count.saturating_add(1)),
        );
        spec.acquire_time = Some(MicroTime(wall));
    }
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(timing.lease.as_secs()).unwrap_or(i32::MAX)),
        renew_time: Some(MicroTime(wall)),
        ..spec
    });
    lease
}

/// The record without a holder, so that the next process need not wait.
pub fn released(record: &Lease, wall: Timestamp) -> Lease {
    let mut lease = record.clone();
    let spec = lease.spec.take().unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(wall)),
        ..spec
    });
    lease
}

/// Why a request about the Lease failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody wrote first.
    #[error("another process wrote first")]
    Conflict,
    /// No answer in time: whether it was written is not known.
    #[error("no answer in time")]
    Unknown,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Where the Lease is kept.
pub trait Leases: Send + Sync {
    /// Reads it.
    fn read(&self) -> impl Future<Output = Result<Option<Lease>, Error>> + Send;
    /// Creates it; a conflict when there is one.
    fn create(&self, lease: &Lease) -> impl Future<Output = Result<Lease, Error>> + Send;
    /// Replaces it; a conflict when its resourceVersion is not that of `lease`.
    fn replace(&self, lease: &Lease) -> impl Future<Output = Result<Lease, Error>> + Send;
}

impl Leases for Api<Lease> {
    async fn read(&self) -> Result<Option<Lease>, Error> {
        Ok(self.get_opt(NAME).await?)
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, Error> {
        Ok(Api::create(self, &PostParams::default(), lease).await?)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Error> {
        Ok(Api::replace(self, NAME, &PostParams::default(), lease).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const TIMING: Timing = Timing {
        lease: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
        request: Duration::from_secs(5),
        write: Duration::from_secs(4),
    };

    fn by(holder: &str, seconds: i32) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        Lease {
            spec: Some(spec),
            ..Lease::default()
        }
    }

    #[test]
    fn timing_follows_the_lease_duration() {
        assert_eq!(Timing::from(Duration::from_secs(15)), TIMING);
    }

    #[test]
    fn decisions() {
        let second = Duration::from_secs(1);
        for (what, record, silent, step) in [
            ("no lease", None, 0, Step::Create),
            ("released", Some(by("", 1)), 0, Step::Take),
            ("no holder", Some(Lease::default()), 0, Step::Take),
            (
                "ours, at once after a restart",
                Some(by("me", 15)),
                0,
                Step::Renew,
            ),
            ("ours, however old", Some(by("me", 15)), 1000, Step::Renew),
            (
                "theirs, fresh",
                Some(by("other", 15)),
                0,
                Step::Wait(2 * second),
            ),
            (
                "theirs, nearly over",
                Some(by("other", 15)),
                14,
                Step::Wait(second),
            ),
            ("theirs, silent", Some(by("other", 15)), 15, Step::Take),
            (
                "theirs, with a longer lease",
                Some(by("other", 60)),
                20,
                Step::Wait(2 * second),
            ),
            (
                "theirs, with a nonsense duration",
                Some(by("other", -1)),
                15,
                Step::Take,
            ),
        ] {
            let first_seen = clock::monotonic();
            let now = first_seen + silent * second;
            assert_eq!(
                decide(record.as_ref(), "me", first_seen, now, &TIMING),
                step,
                "{what}"
            );
        }
    }

    #[test]
    fn a_renewal_is_no_transition_and_a_take_over_is_one() {
        let wall = Timestamp::UNIX_EPOCH;
        let renewed = held(Some(&by("me", 15)), "ns", "me", &TIMING, wall)
            .spec
            .unwrap();
        assert_eq!(
            (renewed.lease_transitions, renewed.acquire_time),
            (Some(3), None)
        );
        let taken = held(Some(&by("other", 15)), "ns", "me", &TIMING, wall)
            .spec
            .unwrap();
        assert_eq!(
            (taken.lease_transitions, taken.acquire_time),
            (Some(4), Some(MicroTime(wall)))
        );
        let created = held(None, "ns", "me", &TIMING, wall);
        assert_eq!(created.metadata.name.as_deref(), Some(NAME));
        assert_eq!(created.spec.unwrap().lease_transitions, Some(0));
        let released = released(&by("me", 15), wall).spec.unwrap();
        assert_eq!(
            (
                released.holder_identity.as_deref(),
                released.lease_duration_seconds
            ),
            (Some(""), Some(1))
        );
    }
}
