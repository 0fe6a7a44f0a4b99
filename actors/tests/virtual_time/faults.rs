//! A fault at any request of a bring-up costs time only: the end is the same, and nothing is made twice.

use std::collections::BTreeMap;

use actors::object::{Key, Kind};
use serde_json::Value;

use crate::bed::{Bed, End};
use crate::rebuild::{assert_same, essence};
use crate::server::Fault;
use crate::shapes::MINIMAL;

const FAULTS: [Fault; 6] = [
    Fault::Refuse(409),
    Fault::Refuse(429),
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::Hang,
    Fault::LoseAnswer,
];

async fn undisturbed() -> (u64, BTreeMap<Key, Value>) {
    let bed = Bed::new(60);
    bed.create(MINIMAL);
    assert_eq!(bed.life(async |_| bed.silence().await).await, End::Done(()));
    (bed.server.mark(), bed.server.peek(essence))
}

/// Every request meets one kind of fault, and each kind meets requests of all sorts; `ACTORS_FAULTS=all` tries every pair.
#[tokio::test(start_paused = true)]
async fn a_fault_at_any_request_costs_time_only() {
    let (requests, whole) = undisturbed().await;
    let all = std::env::var_os("ACTORS_FAULTS").is_some_and(|value| value == "all");
    for number in 1..=requests {
        for (index, fault) in FAULTS.into_iter().enumerate() {
            if all || number as usize % FAULTS.len() == index {
                survive(number, fault, &whole).await;
            }
        }
    }
}

async fn survive(number: u64, fault: Fault, whole: &BTreeMap<Key, Value>) {
    let when = format!("{fault:?} at request {number}");
    let bed = Bed::new(61);
    bed.server
        .fail(fault, 1, move |request| request.number == number);
    let cluster = bed.create(MINIMAL);
    let end = bed.life(async |_| {
        bed.healthy(&cluster).await;
        bed.silence().await;
    });
    assert_eq!(end.await, End::Done(()), "{when}");
    assert_same(whole, &bed.server.peek(essence), &when);
    let mut made: BTreeMap<Key, usize> = BTreeMap::new();
    for request in bed
        .server
        .writes_since(0)
        .into_iter()
        .filter(|request| request.changed && !request.status)
    {
        *made.entry(request.key.unwrap()).or_default() += 1;
    }
    assert!(
        made.values().all(|times| *times == 1),
        "{when}: made twice: {made:?}"
    );
}

/// The API server is gone for ten seconds in the middle of a bring-up: no work is lost.
#[tokio::test(start_paused = true)]
async fn an_outage_of_ten_seconds_loses_no_work() {
    let (_, whole) = undisturbed().await;
    for fault in [Fault::Hang, Fault::Refuse(429), Fault::Refuse(503)] {
        let bed = Bed::new(62);
        let cluster = bed.create(MINIMAL);
        let end = bed.life(async |_| {
            let half = |state: &crate::server::State| {
                state.objects.keys().any(|key| key.kind == Kind::Pod)
            };
            bed.server.until("a pod", half).await;
            bed.server.fail(fault, usize::MAX, |_| true);
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            bed.server.with(|state| state.rules.clear());
            let back = bed.now();
            bed.healthy(&cluster).await;
            let waited = bed.now().duration_since(back);
            assert!(
                waited.as_secs() < 16,
                "{fault:?}: healthy only after {waited:#}"
            );
            bed.silence().await;
        });
        assert_eq!(end.await, End::Done(()), "{fault:?}");
        assert_same(&whole, &bed.server.peek(essence), &format!("{fault:?}"));
    }
}
