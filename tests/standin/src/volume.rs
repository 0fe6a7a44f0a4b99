//! What survives a pod: the data volume.

use serde::Serialize;

use crate::{
    lsn::Lsn,
    rule::{Position, Revocation},
    wal::Wal,
};

/// The PostgreSQL data on a volume.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Data {
    /// The log.
    pub wal: Wal,
    /// What the log says about rules.
    pub position: Position,
}

/// A data volume. Volumes are told apart by the identity of their claim, so a claim that was deleted and made again is
/// another volume.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Volume {
    /// The data; none on a fresh volume.
    pub data: Option<Data>,
    /// The pooler's promise, a file beside the data.
    pub revocation: Option<Revocation>,
    /// PostgreSQL cannot be started on it any more.
    pub damaged: bool,
    /// After a rewind: the position up to which the member must catch up before it may be recruited.
    pub blocked_until: Option<Lsn>,
}

impl Volume {
    /// The end of the log.
    pub fn head(&self) -> Lsn {
        self.data
            .as_ref()
            .map_or_else(Lsn::default, |data| data.wal.head())
    }

    /// Rules of terms below this one get nothing from the pooler.
    pub fn promised(&self) -> i64 {
        self.revocation
            .as_ref()
            .map_or(0, |revocation| revocation.below_term)
    }
}
