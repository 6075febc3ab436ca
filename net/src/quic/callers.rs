//! How often an address may call. A handshake costs two signatures and a key exchange here, and
//! whoever calls with ever new keys has each of them for nothing.
//!
//! No clock: times come in, in milliseconds since some beginning.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::peer::Host;

/// Calls that all addresses that are not shown to be the callers' own may make at once, and each
/// second.
const UNPROVEN: Rate = Rate { burst: 32, per_second: 32 };
/// Those of one address that is.
const PROVEN: Rate = Rate { burst: 16, per_second: 4 };
/// Addresses that are remembered.
const HOSTS_MAX: usize = 1_024;

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u64,
    per_second: u64,
}

/// What is left of a rate, in thousandths of a call.
#[derive(Debug, Clone, Copy)]
struct Left {
    milli: u64,
    at_ms: u64,
}

impl Left {
    const fn all(rate: Rate, at_ms: u64) -> Self {
        Self { milli: rate.burst.saturating_mul(1_000), at_ms }
    }

    /// Whether there is one more.
    fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        let more = now_ms.saturating_sub(self.at_ms).saturating_mul(rate.per_second);
        let most = rate.burst.saturating_mul(1_000);
        (self.milli, self.at_ms) = (self.milli.saturating_add(more).min(most), now_ms);
        let left = self.milli.checked_sub(1_000);
        self.milli = left.unwrap_or(self.milli);
        left.is_some()
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is greeted.
    Greet,
    /// The caller must show that its address is its own, and call again.
    Prove,
    /// It is refused.
    Refuse,
}

#[derive(Debug)]
struct Caller {
    ip: IpAddr,
    left: Left,
    refused: u64,
}

/// Who called.
#[derive(Debug)]
pub(super) struct Callers {
    unproven: Left,
    hosts: HashMap<Host, Caller>,
}

impl Default for Callers {
    fn default() -> Self {
        Self { unproven: Left::all(UNPROVEN, 0), hosts: HashMap::new() }
    }
}

impl Callers {
    /// A call from an address; `is_proven` says that it is the caller's own. Programs of this
    /// machine may call as they like.
    pub(super) fn called(&mut self, ip: IpAddr, is_proven: bool, now_ms: u64) -> Verdict {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Verdict::Greet;
        }
        if !is_proven {
            // Counted of no address: anybody may write another's.
            let has_room = self.unproven.take(UNPROVEN, now_ms);
            return if has_room { Verdict::Greet } else { Verdict::Prove };
        }
        let host = Host::from(ip);
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&host) {
            let oldest = self.hosts.iter().min_by_key(|(host, one)| (one.left.at_ms, **host));
            let oldest = oldest.map(|(host, _)| *host);
            oldest.and_then(|oldest| self.hosts.remove(&oldest));
        }
        let new = || Caller { ip, left: Left::all(PROVEN, now_ms), refused: 0 };
        let caller = self.hosts.entry(host).or_insert_with(new);
        if caller.left.take(PROVEN, now_ms) {
            return Verdict::Greet;
        }
        caller.refused = caller.refused.saturating_add(1);
        Verdict::Refuse
    }

    /// How many calls of whom were refused, for those that called last.
    pub(super) fn refused(&self) -> Vec<(IpAddr, u64)> {
        let refused = self.hosts.values().filter(|one| one.refused > 0);
        let mut refused: Vec<_> = refused.map(|one| (one.ip, one.refused)).collect();
        refused.sort_unstable();
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn an_address_calls_at_a_rate_and_is_named_for_more() {
        let mut callers = Callers::default();
        let greeted = |callers: &mut Callers, who, now_ms| {
            (0..100).filter(|_| callers.called(ip(who), true, now_ms) == Verdict::Greet).count()
                as u64
        };
        assert_eq!(greeted(&mut callers, 1, 0), PROVEN.burst);
        assert_eq!(greeted(&mut callers, 2, 0), PROVEN.burst, "another is not held back by it");
        assert_eq!(callers.called(ip(1), true, 0), Verdict::Refuse);
        assert_eq!(greeted(&mut callers, 1, 2_000), 2 * PROVEN.per_second);
        let named: Vec<_> = callers.refused().into_iter().map(|(ip, _)| ip).collect();
        assert_eq!(named, [ip(1), ip(2)]);
        let here = IpAddr::from([127, 0, 0, 1]);
        assert!((0..100).all(|_| callers.called(here, true, 0) == Verdict::Greet));
    }

    #[test]
    fn who_writes_anothers_address_takes_nothing_of_its_rate() {
        let mut callers = Callers::default();
        let calls: Vec<_> = (0..1_000).map(|_| callers.called(ip(1), false, 5)).collect();
        let greeted = calls.iter().filter(|verdict| **verdict == Verdict::Greet).count() as u64;
        assert_eq!(greeted, UNPROVEN.burst);
        assert!(calls.iter().skip(greeted as usize).all(|verdict| *verdict == Verdict::Prove));
        assert_eq!(callers.called(ip(1), true, 5), Verdict::Greet);
        assert!(callers.refused().is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut callers = Callers::default();
        for n in 0..3 * HOSTS_MAX as u32 {
            let _ = callers.called(ip(n), true, u64::from(n));
        }
        assert_eq!(callers.hosts.len(), HOSTS_MAX);
    }
}
