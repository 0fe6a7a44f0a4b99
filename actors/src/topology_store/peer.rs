//! May we call this peer now? One state per peer (an etcd, a pooler, a multiorch), so that one that is down costs nobody else.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// First wait after a failure.
const FIRST: Duration = Duration::from_millis(250);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// How a call ended, as far as the next one is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It answered, whatever the answer.
    Answered,
    /// No connection, no answer in time, or "not now".
    Unreachable,
    /// It understands us but will not serve us as we are: a wrong certificate, an unknown method, a wrong argument. Calling
    /// again soon cannot help.
    Refused,
}

/// What is known of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Where it was called; another address is another peer.
    pub address: Box<str>,
    /// Failures in a row.
    pub failures: u32,
    /// Since when it has not answered.
    pub failing_since: Option<Timestamp>,
    /// Not before.
    pub not_before: Option<Timestamp>,
    /// The last failure, in words.
    pub error: Box<str>,
    /// When it answered last.
    pub answered: Option<Timestamp>,
}

impl Peer {
    /// A peer that was never called.
    pub fn at(address: &str) -> Self {
        Self {
            address: address.into(),
            ..Self::default()
        }
    }

    /// The peer at an address: a new one when the address is another.
    #[must_use]
    pub fn moved(self, address: &str) -> Self {
        if *self.address == *address {
            self
        } else {
            Self::at(address)
        }
    }

    /// May it be called at `now`? Otherwise: when.
    ///
    /// # Errors
    /// The instant from which it may be called.
    pub fn may_call(&self, now: Timestamp) -> Result<(), Timestamp> {
        match self.not_before {
            Some(at) if at > now => Err(at),
            _ => Ok(()),
        }
    }

    /// Learns how a call ended.
    pub fn learn(&mut self, outcome: Outcome, error: &str, now: Timestamp) {
        if outcome == Outcome::Answered {
            let address = std::mem::take(&mut self.address);
            *self = Self {
                address,
                answered: Some(now),
                ..Self::default()
            };
            return;
        }
        let wait = match outcome {
            Outcome::Refused => LONGEST,
            _ => delay(&self.address, self.failures),
        };
        self.failures = self.failures.saturating_add(1);
        self.failing_since = self.failing_since.or(Some(now));
        self.not_before = now.checked_add(wait).ok();
        self.error = error.into();
    }
}

/// The wait after `failures` earlier failures in a row: doubling, and spread by the peer's name over the upper half, so that
/// peers that fell together are not called together and a replay sees the same waits.
pub fn delay(name: &str, failures: u32) -> Duration {
    let whole = FIRST
        .saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX))
        .min(LONGEST);
    // FNV-1a.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let spread = hash % 1024;
    whole / 2 + whole / 2 * spread / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_double_up_to_a_bound_and_an_answer_ends_them() {
        let mut peer = Peer::at("10.0.0.1:15270");
        assert_eq!(peer.may_call(at(0)), Ok(()));
        let mut last = Duration::ZERO;
        for failure in 0..40 {
            let wait = delay(&peer.address, failure);
            assert!(wait >= last && wait <= LONGEST, "{wait:?}");
            last = wait;
            peer.learn(Outcome::Unreachable, "refused", at(100));
            assert_eq!(
                peer.may_call(at(100)),
                Err(at(100).checked_add(wait).unwrap())
            );
        }
        assert!(last >= LONGEST / 2);
        assert_eq!(peer.failing_since, Some(at(100)));
        peer.learn(Outcome::Answered, "", at(200));
        assert_eq!(peer.may_call(at(200)), Ok(()));
        assert_eq!((peer.failures, peer.failing_since), (0, None));
    }

    #[test]
    fn a_peer_that_refuses_us_is_not_asked_soon() {
        let mut peer = Peer::at("a");
        peer.learn(Outcome::Refused, "bad certificate", at(10));
        assert_eq!(peer.may_call(at(39)), Err(at(40)));
    }

    #[test]
    fn another_address_is_another_peer() {
        let mut peer = Peer::at("a");
        peer.learn(Outcome::Unreachable, "refused", at(10));
        let same = peer.clone().moved("a");
        assert_eq!(same, peer);
        assert_eq!(peer.moved("b"), Peer::at("b"));
    }

    #[test]
    fn peers_that_fell_together_are_not_called_together() {
        let waits: std::collections::BTreeSet<_> = (0..50)
            .map(|n| delay(&format!("10.0.0.{n}:15270"), 6))
            .collect();
        assert!(waits.len() > 40, "{}", waits.len());
    }
}
