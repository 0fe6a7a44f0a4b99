use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

/// A Lease in memory with the API server's optimistic concurrency.
#[derive(Clone, Default)]
struct Memory {
    lease: Arc<Mutex<Option<Lease>>>,
    hangs: Arc<AtomicBool>,
}

impl Memory {
    fn holder(&self) -> Option<String> {
        self.lease
            .lock()
            .unwrap()
            .as_ref()?
            .spec
            .as_ref()?
            .holder_identity
            .clone()
    }

    fn version(lease: &Lease) -> u64 {
        lease
            .metadata
            .resource_version
            .as_ref()
            .map_or(0, |text| text.parse().unwrap())
    }

    async fn reached(&self) {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    fn store(&self, lease: &Lease) -> Lease {
        let mut stored = lease.clone();
        stored.metadata.resource_version = Some((Self::version(lease) + 1).to_string());
        *self.lease.lock().unwrap() = Some(stored.clone());
        stored
    }
}

impl Leases for Memory {
    async fn read(&self) -> Result<Option<Lease>, Error> {
        self.reached().await;
        Ok(self.lease.lock().unwrap().clone())
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, Error> {
        self.reached().await;
        if self.lease.lock().unwrap().is_some() {
            Err(Error::Conflict)
        } else {
            Ok(self.store(lease))
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Error> {
        self.reached().await;
        let current = self.lease.lock().unwrap().as_ref().map(Self::version);
        if current == Some(Self::version(lease)) {
            Ok(self.store(lease))
        } else {
            Err(Error::Conflict)
        }
    }
}

struct Candidate {
    leadership: watch::Receiver<Leadership>,
    stop: oneshot::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "test")]
fn candidate(memory: &Memory, identity: &str) -> Candidate {
    let (sender, leadership) = watch::channel(Leadership::Standby);
    let elector = Elector::new(
        memory.clone(),
        "ns",
        identity,
        Timing::from(Duration::from_secs(15)),
        sender,
    );
    let (stop, stopped) = oneshot::channel();
    Candidate {
        leadership,
        stop,
        task: tokio::spawn(elector.run(stopped)),
    }
}

impl Candidate {
    async fn leads(&mut self) -> Instant {
        match *self
            .leadership
            .wait_for(|now| *now != Leadership::Standby)
            .await
            .unwrap()
        {
            Leadership::Leader { until } => until,
            Leadership::Standby => unreachable!(),
        }
    }

    async fn stands_by(&mut self) {
        self.leadership
            .wait_for(|now| *now == Leadership::Standby)
            .await
            .unwrap();
    }

    fn holds(&self) -> bool {
        matches!(*self.leadership.borrow(), Leadership::Leader { until } if until > clock::monotonic())
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn renewals_extend_leadership() {
    let memory = Memory::default();
    let mut one = candidate(&memory, "one");
    let start = clock::monotonic();
    assert_eq!(one.leads().await, start + seconds(10));
    sleep(seconds(600)).await;
    assert!(one.leads().await >= start + seconds(608));
    assert_eq!(
        memory
            .lease
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .spec
            .as_ref()
            .unwrap()
            .lease_transitions,
        Some(0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_only_after_silence_and_never_beside_the_leader() {
    let memory = Memory::default();
    let mut one = candidate(&memory, "one");
    one.leads().await;
    let mut two = candidate(&memory, "two");
    sleep(seconds(60)).await;
    assert!(one.holds() && !two.holds());
    one.task.abort();
    let killed = clock::monotonic();
    two.leads().await;
    let took = clock::monotonic() - killed;
    assert!(took >= seconds(13) && took <= seconds(17), "{took:?}");
    assert!(
        !one.holds(),
        "the old leadership ended before the new one began"
    );
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_the_next_look() {
    let memory = Memory::default();
    let mut one = candidate(&memory, "one");
    one.leads().await;
    let mut two = candidate(&memory, "two");
    sleep(seconds(5)).await;
    one.stop.send(true).unwrap();
    one.task.await.unwrap();
    assert_eq!(memory.holder().as_deref(), Some(""));
    let released = clock::monotonic();
    two.leads().await;
    assert!(clock::monotonic() - released <= seconds(2));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_when_work_may_be_under_way() {
    let memory = Memory::default();
    let mut one = candidate(&memory, "one");
    one.leads().await;
    one.stop.send(false).unwrap();
    one.task.await.unwrap();
    assert_eq!(memory.holder().as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_process_takes_its_own_lease_back_at_once() {
    let memory = Memory::default();
    let mut one = candidate(&memory, "one");
    one.leads().await;
    one.task.abort();
    let mut again = candidate(&memory, "one");
    let start = clock::monotonic();
    again.leads().await;
    assert_eq!(clock::monotonic(), start);
}

#[tokio::test(start_paused = true)]
async fn leadership_ends_by_itself_when_the_server_hangs_and_returns_with_it() {
    let memory = Memory::default();
    let mut one = candidate(&memory, "one");
    let until = one.leads().await;
    memory.hangs.store(true, Ordering::SeqCst);
    one.stands_by().await;
    assert!(clock::monotonic() >= until && !one.holds());
    memory.hangs.store(false, Ordering::SeqCst);
    one.leads().await;
    assert!(one.holds());
}

#[tokio::test(start_paused = true)]
async fn a_stolen_lease_is_noticed_at_the_next_renewal() {
    let memory = Memory::default();
    let mut one = candidate(&memory, "one");
    one.leads().await;
    let record = memory.read().await.unwrap().unwrap();
    memory.store(&held(
        Some(&record),
        "ns",
        "thief",
        &Timing::from(seconds(15)),
        clock::wall(),
    ));
    let stolen = clock::monotonic();
    one.stands_by().await;
    assert!(clock::monotonic() - stolen <= seconds(5));
}

#[test]
fn without_an_election_leadership_does_not_end() {
    assert!(
        matches!(alone(), Leadership::Leader { until } if until > clock::monotonic() + seconds(1_000_000))
    );
}
