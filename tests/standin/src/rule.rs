//! Rules: who leads a shard, with whom, under which number.

use jiff::Timestamp;
use serde::Serialize;

use crate::{name::Id, policy::Policy};

/// The number of a rule: the higher one wins.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RuleNumber {
    /// The coordinator's term; a new leader means a new term.
    pub term: i64,
    /// Changes of the cohort under one leader; starts again with each term.
    pub subterm: i64,
}

/// Who leads a shard and with whom.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Rule {
    /// Its number.
    pub number: RuleNumber,
    /// The pooler that may write.
    pub leader: Id,
    /// The members, in the order of their joining.
    pub cohort: Vec<Id>,
    /// The durability policy in force.
    pub policy: Policy,
    /// Who wrote it.
    pub coordinator: Id,
    /// When it was written.
    pub created: Timestamp,
}

/// What a pooler's write-ahead log says about rules.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Position {
    /// The highest decided rule.
    pub decision: Option<Rule>,
    /// A newer rule that is written and not decided.
    pub proposal: Option<Rule>,
}

impl Position {
    /// The rule that counts when recruits are compared: the proposal, or the decision.
    pub fn newest(&self) -> Option<&Rule> {
        self.proposal.as_ref().or(self.decision.as_ref())
    }

    /// The number of the decided rule; zero before the first.
    pub fn decided(&self) -> RuleNumber {
        self.decision
            .as_ref()
            .map_or_else(RuleNumber::default, |rule| rule.number)
    }
}

/// A promise to take no part below a term. Kept in the pooler's directory on the data volume.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Revocation {
    /// Rules of lower terms get nothing from this pooler any more.
    pub below_term: i64,
    /// To whom it was promised.
    pub coordinator: Id,
    /// When that coordinator began.
    pub initiated: Timestamp,
    /// The rule that is to be replaced; none for the first rule of a shard.
    pub outgoing: Option<RuleNumber>,
}
