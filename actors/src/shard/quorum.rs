//! May a member of the cohort be missing? The formulas of `design.md` 4, over sets of members and nothing else.
//!
//! The policy and the cohort are those of the leader's *decided rule*, never those of the topology.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::proto::clustermetadata as wire;
use crate::topology_store::record::ProcessId;

/// How many must hold a commit before it is acknowledged, the leader among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Policy {
    /// This many members.
    AtLeast(usize),
    /// Members in this many cells.
    MultiCell(usize),
}

impl Policy {
    /// The policy of a rule; `None` for one that this version does not know, under which nothing may be judged safe.
    pub fn of(policy: &wire::DurabilityPolicy) -> Option<Self> {
        let required = usize::try_from(policy.required_count)
            .ok()
            .filter(|required| *required > 0)?;
        match wire::QuorumType::try_from(policy.quorum_type).ok()? {
            wire::QuorumType::AtLeastN => Some(Policy::AtLeast(required)),
            wire::QuorumType::MultiCellAtLeastN => Some(Policy::MultiCell(required)),
            wire::QuorumType::Unknown => None,
        }
    }

    /// N.
    pub const fn required(self) -> usize {
        match self {
            Policy::AtLeast(required) | Policy::MultiCell(required) => required,
        }
    }

    /// These members alone can acknowledge a commit.
    fn satisfied(self, members: &BTreeSet<&ProcessId>) -> bool {
        match self {
            Policy::AtLeast(required) => members.len() >= required,
            Policy::MultiCell(required) => {
                let cells: BTreeSet<_> = members.iter().map(|member| &member.cell).collect();
                cells.len() >= required
            }
        }
    }
}

/// A cohort under its decided rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cohort {
    /// C.
    pub members: BTreeSet<ProcessId>,
    /// Who leads.
    pub leader: ProcessId,
    /// When a commit is durable.
    pub policy: Policy,
}

/// Which requirement would be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Breach {
    /// The rest could not acknowledge a commit: writes would block.
    Durability,
    /// The rest is no majority of the cohort: no failover.
    Majority,
    /// Those that are missing could acknowledge commits on their own, so a failover would have to wait for them.
    Overlap,
}

impl Breach {
    /// In words, for refusals.
    pub const fn why(self) -> &'static str {
        match self {
            Breach::Durability => "the rest of the cohort could not acknowledge commits",
            Breach::Majority => "the rest is no majority of the cohort",
            Breach::Overlap => {
                "the missing members could acknowledge commits on their own, so there would be no failover"
            }
        }
    }
}

impl Cohort {
    /// Those of `eligible` that count, and the leader: E ∪ leader.
    fn present<'a>(&'a self, eligible: &'a BTreeSet<ProcessId>) -> BTreeSet<&'a ProcessId> {
        self.members
            .iter()
            .filter(|member| **member == self.leader || eligible.contains(member))
            .collect()
    }

    /// May `gone` be away for a while? `eligible` is E: other members that are fresh, eligible, streaming and not blocked from
    /// recruitment. Somebody outside the cohort may always be away.
    ///
    /// # Errors
    /// The first requirement that would be broken.
    pub fn may_miss(&self, gone: &ProcessId, eligible: &BTreeSet<ProcessId>) -> Result<(), Breach> {
        if !self.members.contains(gone) {
            return Ok(());
        }
        let mut rest = self.present(eligible);
        rest.remove(gone);
        self.holds(&rest)
    }

    /// Does the shard hold with nothing but these members? Under a multi-cell policy the first requirement also leaves an
    /// acknowledger outside the leader's cell: the leader's own is only one of the N cells.
    fn holds(&self, rest: &BTreeSet<&ProcessId>) -> Result<(), Breach> {
        if !self.policy.satisfied(rest) {
            return Err(Breach::Durability);
        }
        if rest.len() < majority(self.members.len()) {
            return Err(Breach::Majority);
        }
        let missing = self
            .members
            .iter()
            .filter(|member| !rest.contains(member))
            .collect();
        if self.policy.satisfied(&missing) {
            return Err(Breach::Overlap);
        }
        Ok(())
    }

    /// How many members more may be lost, whichever they are: |E ∪ leader| − max(⌊n/2⌋ + 1, n − N + 1), and never so many that
    /// commits block (N counts as a bound too: with n = N the first two would still promise one). Negative: the shard is at risk
    /// already. Under a multi-cell policy, by cells.
    pub fn margin(&self, eligible: &BTreeSet<ProcessId>) -> i64 {
        let present = self.present(eligible);
        let total = count(self.members.len());
        let here = count(present.len());
        let required = count(self.policy.required());
        let majority = count(majority(self.members.len()));
        match self.policy {
            Policy::AtLeast(_) => here - majority.max(total - required + 1).max(required),
            Policy::MultiCell(_) => (here - majority)
                .min(self.cells_to_spare(&present))
                .min(self.overlap_to_spare(&present)),
        }
    }

    /// Losses until the present span fewer than N cells: the worst takes whole cells, the small ones first.
    fn cells_to_spare(&self, present: &BTreeSet<&ProcessId>) -> i64 {
        let mut sizes: Vec<usize> = per_cell(present.iter().copied()).into_values().collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let kept: usize = sizes
            .iter()
            .take(self.policy.required().saturating_sub(1))
            .sum();
        count(present.len()) - count(kept) - 1
    }

    /// Losses until the missing span N cells: the worst takes one member of each further cell.
    fn overlap_to_spare(&self, present: &BTreeSet<&ProcessId>) -> i64 {
        let missing = per_cell(
            self.members
                .iter()
                .filter(|member| !present.contains(member)),
        );
        let further = per_cell(present.iter().copied())
            .into_keys()
            .filter(|cell| !missing.contains_key(cell))
            .count();
        let lacking = count(self.policy.required()) - count(missing.len());
        if lacking > count(further) {
            i64::MAX
        } else {
            lacking - 1
        }
    }
}

/// Members a strict majority needs.
const fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// Cohorts have a handful of members.
fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn per_cell<'a>(members: impl Iterator<Item = &'a ProcessId>) -> BTreeMap<&'a str, usize> {
    let mut cells = BTreeMap::new();
    for member in members {
        *cells.entry(member.cell.as_ref()).or_default() += 1;
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `shape`: members per cell; the leader is the first of cell a.
    fn cohort(shape: &[usize], policy: Policy) -> Cohort {
        let members = shape
            .iter()
            .zip(["a", "b", "c"])
            .flat_map(|(size, cell)| {
                (0..*size).map(move |n| ProcessId::new(cell, &format!("p{n}")))
            })
            .collect();
        Cohort {
            members,
            leader: ProcessId::new("a", "p0"),
            policy,
        }
    }

    /// All shapes of n members in one to three cells, cell a inhabited.
    fn shapes(n: usize) -> Vec<Vec<usize>> {
        let mut shapes = vec![vec![n]];
        for b in 1..n {
            shapes.push(vec![n - b, b]);
            shapes.extend((1..n - b).map(|c| vec![n - b - c, b, c]));
        }
        shapes
    }

    fn subsets(members: &BTreeSet<ProcessId>) -> impl Iterator<Item = BTreeSet<ProcessId>> + '_ {
        (0..1_u32 << members.len()).map(move |mask| {
            members
                .iter()
                .enumerate()
                .filter(|(n, _)| mask >> n & 1 == 1)
                .map(|(_, member)| member.clone())
                .collect()
        })
    }

    /// n, N → margin when everybody is well; `design.md` 4 and `topology.md` 5.6.
    #[test]
    fn margin_of_a_healthy_cohort_at_least() {
        let table = [
            // N =  1   2   3
            (1, [0, -1, -2]),
            (2, [0, 0, -1]),
            (3, [0, 1, 0]),
            (4, [0, 1, 1]),
            (5, [0, 1, 2]),
            (6, [0, 1, 2]),
            (7, [0, 1, 2]),
        ];
        for (n, margins) in table {
            for (required, margin) in (1..=3).zip(margins) {
                let cohort = cohort(&[n], Policy::AtLeast(required));
                assert_eq!(
                    cohort.margin(&cohort.members),
                    margin,
                    "n = {n}, N = {required}"
                );
            }
        }
    }

    /// Members per cell → margin under MULTI_CELL_AT_LEAST_N.
    #[test]
    fn margin_of_a_healthy_cohort_multi_cell() {
        for (shape, required, margin) in [
            (&[3][..], 2, -1), // one cell never spans two
            (&[1, 1], 2, 0),   // the other one acknowledges every commit
            (&[2, 1], 2, 0),
            (&[2, 2], 2, 1),
            (&[1, 1, 1], 2, 1),
            (&[2, 2, 2], 2, 1), // two lost in two cells could acknowledge on their own
            (&[3, 2, 2], 2, 1),
            (&[1, 1, 1], 3, 0),
            (&[2, 2, 2], 3, 1),
            (&[3, 2, 2], 3, 1), // two lost in one cell take that cell out
            (&[3, 3, 1], 3, 0),
            (&[2, 2], 3, -1),
            (&[1], 1, 0),
            (&[2, 1], 1, 0),
        ] {
            let cohort = cohort(shape, Policy::MultiCell(required));
            assert_eq!(
                cohort.margin(&cohort.members),
                margin,
                "{shape:?}, N = {required}"
            );
        }
    }

    /// The closed formulas against the definition, for n = 1…7, N = 1…3, one to three cells and every set of healthy members.
    #[test]
    fn margin_is_the_number_of_arbitrary_losses_that_are_survived() {
        let mut cases = 0;
        for (n, required) in (1..=7).flat_map(|n| (1..=3).map(move |required| (n, required))) {
            for shape in shapes(n) {
                for policy in [Policy::AtLeast(required), Policy::MultiCell(required)] {
                    let cohort = cohort(&shape, policy);
                    for eligible in subsets(&cohort.members) {
                        cases += 1;
                        let present = cohort.present(&eligible);
                        let losses = |lost: &BTreeSet<ProcessId>| -> bool {
                            let rest = present
                                .iter()
                                .copied()
                                .filter(|member| !lost.contains(member))
                                .collect();
                            cohort.holds(&rest).is_ok()
                        };
                        let present_owned: BTreeSet<ProcessId> =
                            present.iter().map(|member| (*member).clone()).collect();
                        let survived = (0..=present.len()).take_while(|k| {
                            subsets(&present_owned)
                                .filter(|lost| lost.len() == *k)
                                .all(|lost| losses(&lost))
                        });
                        let expected = i64::try_from(survived.count()).unwrap() - 1;
                        let margin = cohort.margin(&eligible);
                        if expected < 0 {
                            assert!(margin < 0, "{cohort:?} {eligible:?}: {margin}");
                        } else {
                            assert_eq!(margin, expected, "{cohort:?} {eligible:?}");
                        }
                        if margin > 0 {
                            for member in &cohort.members {
                                assert_eq!(
                                    cohort.may_miss(member, &eligible),
                                    Ok(()),
                                    "{cohort:?} {member:?}"
                                );
                            }
                        }
                    }
                }
            }
        }
        assert!(cases > 10_000, "{cases}");
    }

    #[test]
    fn who_may_be_missing_and_why_not() {
        let two = cohort(&[2], Policy::AtLeast(2));
        let p1 = ProcessId::new("a", "p1");
        let p2 = ProcessId::new("a", "p2");
        assert_eq!(two.may_miss(&p1, &two.members), Err(Breach::Durability));
        let three = cohort(&[3], Policy::AtLeast(2));
        assert_eq!(three.may_miss(&p1, &three.members), Ok(()));
        assert_eq!(three.may_miss(&three.leader, &three.members), Ok(()));
        let without = BTreeSet::from([p2.clone()]);
        assert_eq!(three.may_miss(&p2, &without), Err(Breach::Durability));
        assert_eq!(
            three.may_miss(&p1, &without),
            Ok(()),
            "it is missing already"
        );
        let async_three = cohort(&[3], Policy::AtLeast(1));
        assert_eq!(
            async_three.may_miss(&p1, &async_three.members),
            Err(Breach::Overlap)
        );
        let five = cohort(&[5], Policy::AtLeast(3));
        let few = BTreeSet::from([p1.clone(), p2.clone()]);
        assert_eq!(five.may_miss(&p1, &few), Err(Breach::Durability));
        assert_eq!(
            cohort(&[5], Policy::AtLeast(2)).may_miss(&p1, &few),
            Err(Breach::Majority)
        );
        let cells = cohort(&[2, 1], Policy::MultiCell(2));
        let b = ProcessId::new("b", "p0");
        assert_eq!(cells.may_miss(&b, &cells.members), Err(Breach::Durability));
        assert_eq!(
            cells.may_miss(&p1, &cells.members),
            Ok(()),
            "the acknowledger in the other cell stays"
        );
        assert_eq!(
            cells.may_miss(&ProcessId::new("c", "x"), &cells.members),
            Ok(()),
            "no member"
        );
        // Three copies in two cells beside the leader's are spanned by one far member each; two of the near ones do not count.
        let spread = cohort(&[3, 1, 1], Policy::MultiCell(3));
        let c = ProcessId::new("c", "p0");
        assert_eq!(
            spread.may_miss(&c, &spread.members),
            Err(Breach::Durability)
        );
    }

    #[test]
    fn a_policy_this_version_does_not_know_is_no_policy() {
        let policy = |quorum_type, required_count| {
            Policy::of(&wire::DurabilityPolicy {
                quorum_type,
                required_count,
                ..Default::default()
            })
        };
        assert_eq!(policy(3, 2), Some(Policy::AtLeast(2)));
        assert_eq!(policy(4, 2), Some(Policy::MultiCell(2)));
        for (quorum_type, required) in [(0, 2), (9, 2), (3, 0), (4, -1)] {
            assert_eq!(policy(quorum_type, required), None);
        }
    }
}
