//! Invariant 5 over whole histories: pods die and come back, and what is shown of them is empty, partial or stale, while live
//! reads fail and stores fall silent.

use std::collections::BTreeSet;

use actors::topology_store::prune::{self, Subject};
use actors::topology_store::view::Item;
use proptest::prelude::*;

use crate::law::law;
use crate::lessons::{Cluster, ZONE1, cluster, pod, pooler_key};
use crate::samples::{pooler, pooler_item};

/// Poolers of the shard.
const POOLERS: usize = 100;

/// What the informer shows from now on. It follows nothing by itself: what is shown grows stale.
#[derive(Clone, Debug)]
enum Shown {
    /// The pods that exist.
    All,
    /// No pod.
    Nothing,
    /// Some of the pods that exist: those of whose number this is no multiple.
    Part(usize),
}

#[derive(Clone, Debug)]
enum Step {
    /// So many pods are gone at once, beginning with this one.
    Die(usize, usize),
    /// All pods but one are gone at once.
    AllButOneDie(usize),
    /// A pod is there again, and its pooler has registered.
    Return(usize),
    /// The informer shows this.
    Show(Shown),
    /// Live reads are answered, or fail.
    Reads(bool),
    /// The cell's store is followed, or is not.
    Follow(bool),
    /// The operator begins anew.
    Restart,
    /// One decision, and its answer.
    Once,
    /// So many seconds.
    Pass(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let shown = prop_oneof![
        3 => Just(Shown::All),
        1 => Just(Shown::Nothing),
        2 => (2..5_usize).prop_map(Shown::Part),
    ];
    let step = prop_oneof![
        2 => (0..POOLERS, 1..20_usize).prop_map(|(first, count)| Step::Die(first, count)),
        1 => (0..POOLERS).prop_map(Step::AllButOneDie),
        2 => (0..POOLERS).prop_map(Step::Return),
        4 => shown.prop_map(Step::Show),
        2 => any::<bool>().prop_map(Step::Reads),
        1 => any::<bool>().prop_map(Step::Follow),
        1 => Just(Step::Restart),
        4 => Just(Step::Once),
        4 => (1..40_i64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..40)
}

/// The world as it is, and the operator in it.
struct World {
    operator: Cluster,
    alive: BTreeSet<usize>,
    /// What the cell's store holds.
    store: Vec<Item>,
    revision: i64,
    reads: bool,
    followed: bool,
    /// The number of each record that was marked since its pooler registered last.
    marked: BTreeSet<usize>,
}

impl World {
    fn new() -> Self {
        let mut operator = cluster(POOLERS);
        // Nobody tells who is in the cohort, so that nothing is forgotten in the end.
        operator.cohorts.clear();
        Self {
            operator,
            alive: (0..POOLERS).collect(),
            store: (0..POOLERS)
                .map(|n| pooler_item(ZONE1, &pooler("zone1", &pod(n)), 3))
                .collect(),
            revision: 10,
            reads: true,
            followed: true,
            marked: BTreeSet::new(),
        }
    }

    fn show(&mut self, shown: &Shown) {
        let passes = |n: &usize| match shown {
            Shown::All => true,
            Shown::Nothing => false,
            Shown::Part(part) => !n.is_multiple_of(*part),
        };
        let shown = self.alive.iter().copied().filter(passes);
        self.operator.pods = shown.map(|n| pod(n).into()).collect();
    }

    fn follow(&mut self, followed: bool) {
        self.followed = followed;
        let (revision, items) = (self.revision, self.store.clone());
        if followed {
            self.operator.zone1().replace(revision, items);
        } else {
            self.operator.zone1().lost();
        }
    }

    /// A record is written, by whomever.
    fn put(&mut self, n: usize, value: Option<Vec<u8>>) {
        self.revision += 1;
        let (version, key) = (self.revision, pooler_key(n));
        let item = Item {
            key,
            value,
            version,
        };
        self.store[n] = item.clone();
        if self.followed {
            self.operator.zone1().advance(version, [item]);
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Die(first, count) => {
                let gone = *first..first + count;
                self.alive.retain(|n| !gone.contains(n));
            }
            Step::AllButOneDie(one) => self.alive.retain(|n| n == one),
            Step::Return(n) => {
                if self.alive.insert(*n) {
                    let record = pooler_item(ZONE1, &pooler("zone1", &pod(*n)), 0);
                    self.put(*n, record.value);
                    self.marked.remove(n);
                }
            }
            Step::Show(shown) => self.show(shown),
            Step::Reads(reads) => self.reads = *reads,
            Step::Follow(followed) => self.follow(*followed),
            Step::Restart => self.operator.state = prune::State::default(),
            Step::Once => drop(self.once()?),
            Step::Pass(seconds) => self.pass(*seconds)?,
        }
        Ok(())
    }

    /// One decision. Returns whether it did something, and when to look again.
    fn once(&mut self) -> Result<(bool, Option<jiff::Timestamp>), TestCaseError> {
        let plan = self.operator.decide();
        if let Some((cell, write)) = plan.write {
            prop_assert!(plan.confirm.is_none(), "one thing per pass");
            prop_assert_eq!(cell.as_deref(), Some("zone1"));
            let found = self.store.iter().position(|item| *item.key == *write.key);
            let n = found.unwrap();
            // Somebody else was first: the version that was judged is not there any more.
            if self.store[n].version == write.version {
                prop_assert!(!self.alive.contains(&n), "{} lives", pod(n));
                prop_assert!(self.marked.insert(n), "{} was marked before", pod(n));
                self.put(n, write.value);
            } else {
                let there = self.store[n].clone();
                self.operator.zone1().wrote(there);
            }
            self.operator.state.answered(&write.key);
            return Ok((true, None));
        }
        if let Some(confirm) = plan.confirm {
            let Subject::Pod(name) = &confirm.subject else {
                return Err(TestCaseError::fail(format!("{confirm:?}")));
            };
            let exists = self.alive.iter().any(|n| pod(*n) == **name);
            let gone = self.reads.then_some(!exists);
            let now = self.operator.now;
            self.operator.state.confirmed(&confirm.key, gone, now);
            return Ok((true, None));
        }
        Ok((false, plan.wake))
    }

    /// Lets time pass, and everything be done that is due.
    fn pass(&mut self, seconds: i64) -> Result<(), TestCaseError> {
        let start = self.operator.now;
        let end = start.saturating_add(jiff::SignedDuration::from_secs(seconds));
        let end = end.unwrap();
        loop {
            let (busy, wake) = self.once()?;
            match wake.filter(|at| *at < end) {
                _ if busy => {}
                Some(at) => self.operator.now = at,
                None => break,
            }
        }
        self.operator.now = end;
        Ok(())
    }
}

/// L-TOPO-03: whatever is shown (nothing, a part, something old), whoever dies (one, or all at once) and whenever the operator
/// begins anew: nobody who lives is marked, nobody twice; and once all is shown, exactly the dead are.
#[test]
fn no_history_marks_a_pooler_that_lives() {
    law(48, steps(), |steps| {
        let mut world = World::new();
        for step in &steps {
            world.step(step)?;
        }
        world.reads = true;
        world.follow(true);
        world.show(&Shown::All);
        world.pass(3_600)?;
        let dead = (0..POOLERS).filter(|n| !world.alive.contains(n));
        // With nobody alive it is more likely that we see too little.
        if world.alive.is_empty() {
            return Ok(());
        }
        prop_assert_eq!(world.marked.clone(), dead.collect::<BTreeSet<_>>());
        Ok(())
    });
}
