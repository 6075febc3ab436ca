//! How many transactions of a peer are looked at: those that are refused take of its allowance,
//! those that are accepted give back.
//!
//! To pass on what is refused elsewhere is no fault: the state there is that of an earlier or a
//! later block. So nobody is banned for it. Who sends little else is not listened to for a
//! while: what is good of it comes from others, or again later. A host has an allowance, too:
//! who comes under ever new keys gets no new one with each. No clock here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Host, PeerId};

/// What a refused transaction costs that its sender could have known to be refused, and what an
/// accepted one earns.
const KNOWABLE: u32 = 4;
/// What one costs that may have been good where it came from.
const LATE: u32 = 1;
/// What a peer may spend at once, and what it gets each second.
const BURST: u32 = 8_000;
const PER_SECOND: u64 = 400;
/// A host has as much as so many peers: several honest ones may share an address.
const HOST_PEERS: u32 = 4;
/// How long a peer is not listened to that spent all of it.
const PAUSE_MS: u64 = 10_000;
/// Peers that are remembered, and hosts.
const COUNT_MAX: usize = 4_096;

/// What became of transactions of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Taken, and new.
    pub accepted: u32,
    /// Refused for what whoever passed it on could have known: its sender has nothing, say.
    pub refused: u32,
    /// Refused for what a block in between explains, or what else is pending here.
    pub late: u32,
}

impl Tally {
    const fn earned(&self) -> u32 {
        self.accepted.saturating_mul(KNOWABLE)
    }

    const fn spent(&self) -> u32 {
        self.refused.saturating_mul(KNOWABLE).saturating_add(self.late.saturating_mul(LATE))
    }
}

#[derive(Debug)]
struct Allowance {
    left: u32,
    at_ms: u64,
    paused_until_ms: u64,
}

impl Allowance {
    /// What is left at a time, and since when that is so, where `share` peers have it together.
    fn refilled(&self, share: u32, now_ms: u64) -> (u32, u64) {
        let seconds = now_ms.saturating_sub(self.at_ms) / 1_000;
        let more = seconds.saturating_mul(PER_SECOND).saturating_mul(u64::from(share));
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let left = self.left.saturating_add(more).min(BURST.saturating_mul(share));
        (left, self.at_ms.saturating_add(seconds.saturating_mul(1_000)))
    }
}

/// Those of which something was refused, each with what it may still spend.
#[derive(Debug)]
struct Spenders<K> {
    all: BTreeMap<K, Allowance>,
    /// How many peers each stands for.
    share: u32,
}

impl<K: Ord + Copy> Spenders<K> {
    const fn new(share: u32) -> Self {
        Self { all: BTreeMap::new(), share }
    }

    /// Notes what became of transactions; until when nobody listens, if that begins now.
    fn judged(&mut self, key: K, tally: Tally, now_ms: u64) -> Option<u64> {
        if !self.all.contains_key(&key) {
            if tally.spent() == 0 {
                return None;
            }
            self.make_room();
        }
        let most = BURST.saturating_mul(self.share);
        let new = Allowance { left: most, at_ms: now_ms, paused_until_ms: 0 };
        let allowance = self.all.entry(key).or_insert(new);
        (allowance.left, allowance.at_ms) = allowance.refilled(self.share, now_ms);
        let (has, spent) = (allowance.left.saturating_add(tally.earned()), tally.spent());
        allowance.left = has.saturating_sub(spent).min(most);
        // What was under way when a pause began makes it no longer.
        if spent <= has || allowance.paused_until_ms > now_ms {
            return None;
        }
        allowance.paused_until_ms = now_ms.saturating_add(PAUSE_MS);
        Some(allowance.paused_until_ms)
    }

    fn paused_until(&self, key: &K, now_ms: u64) -> Option<u64> {
        Some(self.all.get(key)?.paused_until_ms).filter(|until| *until > now_ms)
    }

    /// Forgets whoever has most left.
    fn make_room(&mut self) {
        if self.all.len() >= COUNT_MAX {
            let best = self.all.iter().max_by_key(|(_, one)| (one.left, Reverse(one.at_ms)));
            let best = best.map(|(key, _)| *key);
            best.and_then(|best| self.all.remove(&best));
        }
    }
}

/// The allowance of every peer and every host of which something was refused, connected or not:
/// who comes again gets no new one.
#[derive(Debug)]
pub struct Allowances {
    peers: Spenders<PeerId>,
    hosts: Spenders<Host>,
}

/// A pause that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paused {
    /// When it ends.
    pub until_ms: u64,
    /// Whether all peers of the host are not listened to.
    pub is_host: bool,
}

impl Default for Allowances {
    fn default() -> Self {
        Self { peers: Spenders::new(1), hosts: Spenders::new(HOST_PEERS) }
    }
}

impl Allowances {
    /// Notes what became of transactions of a peer, and of whoever else is at its host; the pause
    /// if one begins now.
    pub fn judged(
        &mut self,
        peer: PeerId,
        host: Option<Host>,
        tally: Tally,
        now_ms: u64,
    ) -> Option<Paused> {
        let of_peer = self.peers.judged(peer, tally, now_ms);
        let of_host = host.and_then(|host| self.hosts.judged(host, tally, now_ms));
        let until_ms = of_host.or(of_peer)?;
        Some(Paused { until_ms, is_host: of_host.is_some() })
    }

    /// Until when a peer at this host is not listened to, if it is not now.
    #[must_use]
    pub fn paused_until(&self, peer: &PeerId, host: Option<Host>, now_ms: u64) -> Option<u64> {
        let of_host = host.and_then(|host| self.hosts.paused_until(&host, now_ms));
        self.peers.paused_until(peer, now_ms).max(of_host)
    }

    /// Peers that are not listened to at a time.
    pub fn paused(&self, now_ms: u64) -> impl Iterator<Item = &PeerId> {
        self.peers.all.keys().filter(move |peer| self.peers.paused_until(peer, now_ms).is_some())
    }

    /// How much of its allowance a peer has spent, of 8,000.
    #[must_use]
    pub fn spent(&self, peer: &PeerId, now_ms: u64) -> u32 {
        let left = self.peers.all.get(peer).map(|one| one.refilled(1, now_ms).0);
        left.map_or(0, |left| BURST.saturating_sub(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);
    const ACCEPTED: Tally = Tally { accepted: 1, refused: 0, late: 0 };
    const REFUSED: Tally = Tally { accepted: 0, refused: 1, late: 0 };
    const LATE_ONE: Tally = Tally { accepted: 0, refused: 0, late: 1 };

    /// Transactions of one kind that are looked at in so many seconds, when a thousand come in
    /// each tenth of one.
    fn looked_at(tally: Tally, seconds: u64) -> u32 {
        let (mut allowances, mut count) = (Allowances::default(), 0);
        for tenth in 0..seconds * 10 {
            for _ in 0..1_000 {
                if allowances.paused_until(&PEER, None, tenth * 100).is_none() {
                    let _ = allowances.judged(PEER, None, tally, tenth * 100);
                    count += 1;
                }
            }
        }
        count
    }

    #[test]
    fn a_flood_is_limited_to_a_burst_and_a_rate() {
        for (tally, cost) in [(REFUSED, KNOWABLE), (LATE_ONE, LATE)] {
            let most = (BURST + 600 * PER_SECOND as u32) / cost;
            let count = looked_at(tally, 600);
            assert!(count <= most + 61, "{count} of {most}");
            assert!(count >= most / 2, "{count}: it may still say something");
        }
        assert_eq!(looked_at(ACCEPTED, 100), 1_000_000);
    }

    #[test]
    fn who_relays_what_is_good_is_listened_to_though_blocks_overtake_it() {
        let mut allowances = Allowances::default();
        // For an hour, each second: 5,000 good ones and as many that came after their block,
        // and a hundred of accounts that a block funded which is not here yet.
        for second in 0..3_600 {
            let tally = Tally { accepted: 5_000, refused: 100, late: 5_000 };
            assert_eq!(allowances.judged(PEER, None, tally, second * 1_000), None);
        }
        // A quiet chain: of what little there is, all comes late.
        for second in 3_600..7_200 {
            let tally = Tally { accepted: 0, refused: 0, late: 400 };
            assert_eq!(allowances.judged(PEER, None, tally, second * 1_000), None);
        }
    }

    #[test]
    fn a_pause_ends_and_is_not_made_longer_by_what_was_under_way() {
        let mut allowances = Allowances::default();
        let flood = Tally { refused: BURST, ..Tally::default() };
        let paused = Paused { until_ms: 500 + PAUSE_MS, is_host: false };
        assert_eq!(allowances.judged(PEER, None, flood, 500), Some(paused));
        assert_eq!(allowances.spent(&PEER, 500), BURST);
        assert_eq!(allowances.judged(PEER, None, flood, 700), None);
        assert_eq!(allowances.paused(PAUSE_MS).collect::<Vec<_>>(), [&PEER]);
        assert_eq!(allowances.paused_until(&PEER, None, 500 + PAUSE_MS), None);
        assert_eq!(allowances.judged(PEER, None, REFUSED, 500 + PAUSE_MS), None);
        assert!(allowances.judged(PEER, None, flood, 501 + PAUSE_MS).is_some());
    }

    #[test]
    fn memory_is_bounded_and_keeps_those_that_are_paused() {
        let mut allowances = Allowances::default();
        let flood = Tally { refused: BURST, ..Tally::default() };
        let _ = allowances.judged(PEER, None, flood, 0);
        for n in 0..2 * COUNT_MAX as u64 {
            let mut key = [2; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            let _ = allowances.judged(PeerId(key), None, REFUSED, 1);
        }
        assert_eq!(allowances.peers.all.len(), COUNT_MAX);
        assert!(allowances.paused_until(&PEER, None, 1).is_some());
        let _ = allowances.judged(PeerId([3; 32]), None, ACCEPTED, 1);
        assert!(
            !allowances.peers.all.contains_key(&PeerId([3; 32])),
            "there is nothing to remember"
        );
    }

    #[test]
    fn ever_new_keys_of_one_host_have_what_four_peers_have() {
        let mut allowances = Allowances::default();
        let (host, other) = (Some(Host::of("192.0.2.1")), Some(Host::of("192.0.2.2")));
        // A new key for each two hundred, which no key's own allowance would stop.
        let tally = Tally { refused: 200, ..Tally::default() };
        let (mut count, mut paused) = (0, None);
        for n in 0..1_000_u32 {
            let mut key = [4; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            if allowances.paused_until(&PeerId(key), host, 0).is_none() {
                count += tally.refused;
                paused = allowances.judged(PeerId(key), host, tally, 0).or(paused);
            }
        }
        assert_eq!(paused, Some(Paused { until_ms: PAUSE_MS, is_host: true }));
        let most = HOST_PEERS * BURST / KNOWABLE;
        assert!(count > most && count <= most + tally.refused, "{count} of {most}");
        // Whoever is elsewhere is listened to, and the host again after the pause.
        assert_eq!(allowances.paused_until(&PEER, other, 0), None);
        assert_eq!(allowances.paused_until(&PEER, host, 1), Some(PAUSE_MS));
        assert_eq!(allowances.paused_until(&PEER, host, PAUSE_MS), None);
    }
}
