//! How often an address may call, and how many of its calls are greeted at once. A handshake costs
//! two signatures and a key exchange here, and whoever calls with ever new keys has each of them for
//! nothing. Whoever lets its calls hang takes places of its own, and nobody else's.
//!
//! No clock: times come in, in milliseconds since some beginning.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::peer::{Host, PeerId};

/// Calls that all addresses that are not shown to be the callers' own may make at once, and each
/// second.
const UNPROVEN: Rate = Rate { burst: 32, per_second: 32 };
/// Those of one address that is.
const PROVEN: Rate = Rate { burst: 16, per_second: 4 };
/// Calls that are greeted at once: of all addresses that are not shown to be the callers' own, of all
/// that are, and of one of these.
const UNPROVEN_MAX: usize = 32;
const PROVEN_MAX: usize = 256;
const HOST_MAX: usize = 8;
/// Those of this machine, and of each host of a peer that the operator named, beside all others.
const KNOWN_MAX: usize = 64;
/// Addresses that are remembered, of those that are not being greeted.
const HOSTS_MAX: usize = 1_024;

const _: () = assert!(HOST_MAX * 8 < PROVEN_MAX);

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
    /// It is greeted; [`Callers::greeted`] gives the place back.
    Greet(Place),
    /// The caller must show that its address is its own, and call again.
    Prove,
    /// It is refused.
    Refuse,
}

/// What a call that is being greeted takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// One of those of addresses that are not proven.
    Unproven,
    /// One of this host's, and of all.
    Proven(Host),
    /// One of this host's alone: it is this machine, or a named peer's.
    Known(Host),
}

#[derive(Debug)]
struct Caller {
    ip: IpAddr,
    left: Left,
    refused: u64,
    greeting: usize,
}

/// Who called.
#[derive(Debug)]
pub(super) struct Callers {
    unproven: Left,
    unproven_greeting: usize,
    proven_greeting: usize,
    hosts: HashMap<Host, Caller>,
    /// Peers that the operator named, and where they were found when they were called last.
    named: BTreeMap<PeerId, Vec<Host>>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            unproven: Left::all(UNPROVEN, 0),
            unproven_greeting: 0,
            proven_greeting: 0,
            hosts: HashMap::new(),
            named: BTreeMap::new(),
        }
    }
}

impl Callers {
    /// The operator named these peers.
    pub(super) fn name(&mut self, peers: &BTreeSet<PeerId>) {
        self.named.retain(|peer, _| peers.contains(peer));
        for peer in peers {
            self.named.entry(*peer).or_default();
        }
    }

    /// A peer that is called is at these addresses.
    pub(super) fn found(&mut self, peer: &PeerId, ips: impl Iterator<Item = IpAddr>) {
        if let Some(hosts) = self.named.get_mut(peer) {
            *hosts = ips.map(Host::from).collect();
        }
    }

    /// A call from an address; `is_proven` says that it is the caller's own. Programs of this
    /// machine may call as often as they like.
    pub(super) fn called(&mut self, ip: IpAddr, is_proven: bool, now_ms: u64) -> Verdict {
        let ip = ip.to_canonical();
        let is_here = ip.is_loopback();
        if !is_proven && !is_here {
            // Counted of no address: anybody may write another's.
            if self.unproven_greeting >= UNPROVEN_MAX || !self.unproven.take(UNPROVEN, now_ms) {
                return Verdict::Prove;
            }
            self.unproven_greeting = self.unproven_greeting.saturating_add(1);
            return Verdict::Greet(Place::Unproven);
        }
        let host = Host::from(ip);
        let is_known = is_here || self.named.values().any(|hosts| hosts.contains(&host));
        let has_room = is_known || self.proven_greeting < PROVEN_MAX;
        let most = if is_known { KNOWN_MAX } else { HOST_MAX };
        let caller = self.caller(host, ip, now_ms);
        // Who is refused for want of a place pays for the call all the same.
        let is_rare = is_here || caller.left.take(PROVEN, now_ms);
        if !is_rare || !has_room || caller.greeting >= most {
            caller.refused = caller.refused.saturating_add(1);
            return Verdict::Refuse;
        }
        caller.greeting = caller.greeting.saturating_add(1);
        if is_known {
            return Verdict::Greet(Place::Known(host));
        }
        self.proven_greeting = self.proven_greeting.saturating_add(1);
        Verdict::Greet(Place::Proven(host))
    }

    /// What is known of a host, which is among those that are remembered from now on.
    fn caller(&mut self, host: Host, ip: IpAddr, now_ms: u64) -> &mut Caller {
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&host) {
            let idle = self.hosts.iter().filter(|(_, one)| one.greeting == 0);
            let oldest = idle.min_by_key(|(host, one)| (one.left.at_ms, **host));
            let oldest = oldest.map(|(host, _)| *host);
            oldest.and_then(|oldest| self.hosts.remove(&oldest));
        }
        let new = || Caller { ip, left: Left::all(PROVEN, now_ms), refused: 0, greeting: 0 };
        self.hosts.entry(host).or_insert_with(new)
    }

    /// A call was greeted, or led to nothing.
    pub(super) fn greeted(&mut self, place: Place) {
        let host = match place {
            Place::Unproven => {
                self.unproven_greeting = self.unproven_greeting.saturating_sub(1);
                return;
            }
            Place::Proven(host) => {
                self.proven_greeting = self.proven_greeting.saturating_sub(1);
                host
            }
            Place::Known(host) => host,
        };
        if let Some(caller) = self.hosts.get_mut(&host) {
            caller.greeting = caller.greeting.saturating_sub(1);
        }
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

    /// Calls until it is greeted no more; the places that were had.
    fn calls(callers: &mut Callers, who: IpAddr, is_proven: bool, now_ms: u64) -> Vec<Place> {
        let call = || match callers.called(who, is_proven, now_ms) {
            Verdict::Greet(place) => Some(place),
            Verdict::Prove | Verdict::Refuse => None,
        };
        std::iter::from_fn(call).take(1_000).collect()
    }

    /// The same where each call is over at once.
    fn brief_calls(callers: &mut Callers, who: u32, now_ms: u64) -> u64 {
        let is_greeted = |_: &u32| match callers.called(ip(who), true, now_ms) {
            Verdict::Greet(place) => {
                callers.greeted(place);
                true
            }
            Verdict::Prove | Verdict::Refuse => false,
        };
        (0..100).filter(is_greeted).count() as u64
    }

    #[test]
    fn an_address_calls_at_a_rate_and_is_named_for_more() {
        let mut callers = Callers::default();
        assert_eq!(brief_calls(&mut callers, 1, 0), PROVEN.burst);
        assert_eq!(brief_calls(&mut callers, 2, 0), PROVEN.burst, "another is not held back by it");
        assert_eq!(callers.called(ip(1), true, 0), Verdict::Refuse);
        assert_eq!(brief_calls(&mut callers, 1, 2_000), 2 * PROVEN.per_second);
        let named: Vec<_> = callers.refused().into_iter().map(|(ip, _)| ip).collect();
        assert_eq!(named, [ip(1), ip(2)]);
        assert_eq!(brief_calls(&mut callers, 0x7f00_0001, 0), 100, "this machine");
    }

    #[test]
    fn who_writes_anothers_address_takes_nothing_of_its_rate() {
        let mut callers = Callers::default();
        let places = calls(&mut callers, ip(1), false, 5);
        assert_eq!(places, vec![Place::Unproven; UNPROVEN_MAX]);
        assert_eq!(callers.called(ip(1), false, 5), Verdict::Prove);
        // Nor any of the places of those that show that their address is their own.
        assert_eq!(calls(&mut callers, ip(1), true, 5).len(), HOST_MAX);
        assert_eq!(callers.called(ip(2), false, 60_000), Verdict::Prove, "they hang");
        places.into_iter().for_each(|place| callers.greeted(place));
        assert_eq!(callers.called(ip(2), false, 60_000), Verdict::Greet(Place::Unproven));
    }

    #[test]
    fn who_lets_its_calls_hang_has_a_share_and_is_named_for_more() {
        let mut callers = Callers::default();
        let held = calls(&mut callers, ip(1), true, 0);
        assert_eq!(held, vec![Place::Proven(Host::from(ip(1))); HOST_MAX]);
        assert_eq!(callers.refused(), [(ip(1), 1)]);
        assert_eq!(calls(&mut callers, ip(2), true, 0).len(), HOST_MAX);
        // Its rate is not what was missing.
        callers.greeted(held[0]);
        assert_eq!(callers.called(ip(1), true, 0), Verdict::Greet(held[0]));
    }

    #[test]
    fn named_peers_and_this_machine_are_greeted_though_all_places_are_taken() {
        let mut callers = Callers::default();
        let peer = PeerId([1; 32]);
        callers.name(&BTreeSet::from([peer]));
        callers.found(&peer, [ip(1)].into_iter());
        // Who was not named is a stranger wherever it was found.
        callers.found(&PeerId([2; 32]), [ip(2)].into_iter());
        let mut taken = 0;
        for n in 100..100 + PROVEN_MAX as u32 {
            taken += calls(&mut callers, ip(n), true, 0).len();
        }
        assert_eq!(taken, PROVEN_MAX);
        let known = Verdict::Greet(Place::Known(Host::from(ip(1))));
        assert_eq!(callers.called(ip(1), true, 0), known);
        assert_eq!(callers.called(ip(2), true, 0), Verdict::Refuse);
        let here = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(calls(&mut callers, here, false, 0).len(), KNOWN_MAX);
        callers.name(&BTreeSet::new());
        assert_eq!(callers.called(ip(1), true, 0), Verdict::Refuse, "it is named no more");
    }

    #[test]
    fn memory_is_bounded() {
        let mut callers = Callers::default();
        let held = calls(&mut callers, ip(0), true, 0);
        for n in 1..3 * HOSTS_MAX as u32 {
            let _ = brief_calls(&mut callers, n, u64::from(n));
        }
        assert_eq!(callers.hosts.len(), HOSTS_MAX);
        assert_eq!(callers.hosts[&Host::from(ip(0))].greeting, held.len());
    }
}
