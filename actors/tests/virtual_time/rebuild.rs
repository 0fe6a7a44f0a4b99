//! Everything in memory is a cache: a process killed at any instant is followed by one that ends the same.

use std::collections::BTreeMap;

use actors::object::{Key, Kind};
use serde_json::Value;

use crate::bed::{Bed, End};
use crate::server::{Kill, State};
use crate::shapes::MINIMAL;

/// What two runs must have in common: everything but what the server or chance adds.
pub fn essence(state: &State) -> BTreeMap<Key, Value> {
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let uids: BTreeMap<String, String> = state
        .objects
        .iter()
        .map(|(key, object)| (uid(object), key.to_string()))
        .collect();
    let objects = state.objects.iter().map(|(key, object)| {
        let mut object = object.clone();
        strip(&mut object, &uids);
        if let Some(data) = object["data"]
            .as_object_mut()
            .filter(|_| key.kind == Kind::Secret)
        {
            data.values_mut().for_each(|value| *value = Value::Null);
        }
        (key.clone(), object)
    });
    objects.collect()
}

/// Takes out what differs from run to run: versions, generations, times, and the hash, which is also over the owner's uid.
fn strip(value: &mut Value, uids: &BTreeMap<String, String>) {
    const CHANCE: [&str; 6] = [
        "resourceVersion",
        "generation",
        "observedGeneration",
        "lastTransitionTime",
        "lastAppliedAt",
        "multigres.com/applied-hash",
    ];
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !CHANCE.contains(&name.as_str()));
            map.values_mut().for_each(|value| strip(value, uids));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| strip(value, uids)),
        Value::String(text) => {
            if let Some(name) = uids.get(text) {
                *text = format!("uid of {name}");
            }
        }
        _ => {}
    }
}

/// Panics with the first difference only: the whole would be unreadable.
pub fn assert_same(one: &BTreeMap<Key, Value>, two: &BTreeMap<Key, Value>, when: &str) {
    for key in one.keys().chain(two.keys()) {
        assert_eq!(one.get(key), two.get(key), "{when}: {key}");
    }
}

/// A bring-up, and the state of the server after each request.
async fn recorded() -> (Vec<State>, BTreeMap<Key, Value>) {
    let bed = Bed::new(3);
    bed.create(MINIMAL);
    bed.server
        .with(|state| state.past = Some(vec![state.fork()]));
    let end = bed.life(async |_| bed.silence().await).await;
    assert_eq!(end, End::Done(()));
    let states = bed.server.with(|state| state.past.take().unwrap());
    let whole = bed.server.peek(essence);
    (states, whole)
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_request_the_end_is_the_same() {
    let (states, undisturbed) = recorded().await;
    assert!(states.len() > 30, "only {} requests", states.len());
    for (number, state) in states.into_iter().enumerate() {
        let made = state.objects.keys().cloned().collect::<Vec<_>>();
        let bed = Bed::on(state, 4);
        let end = bed.life(async |_| bed.silence().await).await;
        assert_eq!(end, End::Done(()));
        assert_same(
            &undisturbed,
            &bed.server.peek(essence),
            &format!("killed after request {number}"),
        );
        for request in bed.server.writes_since(0) {
            let again = request.method == "POST" && made.contains(request.key.as_ref().unwrap());
            assert!(
                !again,
                "killed after request {number}: made again: {request:?}"
            );
        }
    }
}

/// Dies at every third request, with or without the last one carried out.
#[tokio::test(start_paused = true)]
async fn killed_again_and_again_it_comes_to_an_end() {
    let (_, undisturbed) = recorded().await;
    let bed = Bed::new(5);
    bed.create(MINIMAL);
    let mut lives = 0;
    loop {
        let at = bed.server.mark() + 3;
        let carried_out = lives % 2 == 0;
        bed.server
            .with(|state| state.kill = Some(Kill { at, carried_out }));
        lives += 1;
        if bed.life(async |_| bed.silence().await).await == End::Done(()) {
            break;
        }
        assert!(lives < 200, "it does not get on");
    }
    assert!(lives > 5, "it was hardly ever killed: {lives}");
    assert_same(
        &undisturbed,
        &bed.server.peek(essence),
        "killed again and again",
    );
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_of_a_settled_state_writes_nothing() {
    let bed = Bed::new(6);
    bed.create(MINIMAL);
    bed.life(async |_| bed.silence().await).await;
    for _ in 0..3 {
        let mark = bed.server.mark();
        bed.life(async |_| bed.silence().await).await;
        assert!(
            bed.server.writes_since(mark).is_empty(),
            "{:?}",
            bed.server.writes_since(mark)
        );
        let events = bed
            .server
            .since(mark)
            .into_iter()
            .filter(|request| request.writes())
            .count();
        assert_eq!(events, 0);
    }
}
