//! Durability policies: when a write is safe, and when a failover may take place (`topology.md` 5.3, 5.6).

use std::collections::BTreeSet;

use serde::Serialize;

use crate::name::Id;

/// How acknowledgements are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Quorum {
    /// So many distinct poolers, the leader among them.
    AtLeast,
    /// Poolers in so many distinct cells, the leader's among them.
    MultiCell,
}

/// A durability policy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Policy {
    /// Its name, such as `AT_LEAST_2`.
    pub name: String,
    /// Its version; 0 so far.
    pub version: i64,
    /// How acknowledgements are counted.
    pub quorum: Quorum,
    /// How many are required.
    pub required: usize,
}

impl Policy {
    /// `AT_LEAST_<required>`.
    pub fn at_least(required: usize) -> Self {
        Self {
            name: format!("AT_LEAST_{required}"),
            version: 0,
            quorum: Quorum::AtLeast,
            required,
        }
    }

    /// `MULTI_CELL_AT_LEAST_<required>`.
    pub fn multi_cell(required: usize) -> Self {
        Self {
            name: format!("MULTI_CELL_AT_LEAST_{required}"),
            version: 0,
            quorum: Quorum::MultiCell,
            required,
        }
    }

    /// Whether a write that these poolers hold is durable.
    pub fn satisfied_by<'a>(&self, holders: impl IntoIterator<Item = &'a Id>) -> bool {
        let holders: BTreeSet<&Id> = holders.into_iter().collect();
        let count = match self.quorum {
            Quorum::AtLeast => holders.len(),
            Quorum::MultiCell => holders
                .iter()
                .map(|id| id.cell.as_str())
                .collect::<BTreeSet<_>>()
                .len(),
        };
        count >= self.required
    }

    /// Whether these recruits allow a new leader: they are a strict majority of the cohort, and the rest of it can no
    /// longer make a write durable on its own.
    pub fn feasible(&self, cohort: &[Id], recruits: &BTreeSet<Id>) -> bool {
        let recruited = cohort.iter().filter(|id| recruits.contains(id)).count();
        let rest = cohort.iter().filter(|id| !recruits.contains(id));
        2 * recruited > cohort.len() && !self.satisfied_by(rest)
    }

    /// The members whose acknowledgement a leader waits for, and how many of them.
    pub fn standbys(&self, leader: &Id, cohort: &[Id]) -> (usize, Vec<Id>) {
        let wanted = self.required.saturating_sub(1);
        let eligible = |id: &&Id| self.quorum == Quorum::AtLeast || id.cell != leader.cell;
        let members = if wanted == 0 {
            Vec::new()
        } else {
            cohort.iter().filter(eligible).cloned().collect()
        };
        (wanted, members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cohort(cells: &[&str]) -> Vec<Id> {
        let number = |(i, cell): (usize, &&str)| Id::pooler(*cell, format!("p{i}"));
        cells.iter().enumerate().map(number).collect()
    }

    fn first(cohort: &[Id], count: usize) -> BTreeSet<Id> {
        cohort[..count].iter().cloned().collect()
    }

    /// `topology.md` 5.6: the fewest reachable members with which a failover is possible.
    #[test]
    fn fewest_recruits_of_at_least_n() {
        for (members, required, fewest) in [
            (1, 1, 1),
            (2, 2, 2),
            (3, 2, 2),
            (4, 2, 3),
            (5, 2, 4),
            (5, 3, 3),
            (6, 2, 5),
            (7, 2, 6),
            (7, 3, 5),
            (3, 1, 3),
        ] {
            let cohort = cohort(&vec!["a"; members]);
            let policy = Policy::at_least(required);
            let found = (0..=members).find(|n| policy.feasible(&cohort, &first(&cohort, *n)));
            assert_eq!(found, Some(fewest), "n = {members}, N = {required}");
        }
    }

    #[test]
    fn several_cells() {
        let cohort = cohort(&["a", "a", "b", "b", "c"]);
        let policy = Policy::multi_cell(2);
        assert!(!policy.satisfied_by(&cohort[..2]), "one cell only");
        assert!(policy.satisfied_by(&cohort[1..3]));
        // The rest, p3 in b and p4 in c, could go on without the recruits.
        assert!(!policy.feasible(&cohort, &first(&cohort, 3)));
        // Here only one cell is left to the rest.
        assert!(policy.feasible(&cohort, &first(&cohort, 4)));
    }

    #[test]
    fn a_leader_waits_for_members_of_other_cells_only_when_cells_count() {
        let cohort = cohort(&["a", "a", "b"]);
        let (count, members) = Policy::multi_cell(2).standbys(&cohort[0], &cohort);
        assert_eq!((count, members), (1, cohort[2..].to_vec()));
        let (count, members) = Policy::at_least(2).standbys(&cohort[0], &cohort);
        assert_eq!((count, members), (1, cohort.clone()));
        assert_eq!(
            Policy::at_least(1).standbys(&cohort[0], &cohort),
            (0, vec![])
        );
    }
}
