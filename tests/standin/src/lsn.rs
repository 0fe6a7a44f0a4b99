//! Positions in PostgreSQL's write-ahead log.

use std::fmt;

use serde::{Serialize, Serializer};

/// A position in the write-ahead log, in bytes; written as PostgreSQL writes it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lsn(pub u64);

impl Lsn {
    /// This position and so many bytes more.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_postgresql_writes_it() {
        assert_eq!(Lsn(0x0D0F_3F40).to_string(), "0/D0F3F40");
        assert_eq!(Lsn((2 << 32) + 0x28).to_string(), "2/28");
        assert_eq!(Lsn::default().to_string(), "0/0");
    }
}
