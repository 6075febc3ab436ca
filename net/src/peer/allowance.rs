//! How many transactions of a peer are looked at: those that are refused take of its allowance,
//! those that are accepted give back.
//!
//! To pass on what is refused elsewhere is no fault: the state there is that of an earlier or a
//! later block. So nobody is banned for it. Who sends little else is not listened to for a
//! while: what is good of it comes from others, or again later. No clock here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::PeerId;

/// What a refused transaction costs that its sender could have known to be refused, and what an
/// accepted one earns.
const KNOWABLE: u32 = 4;
/// What one costs that may have been good where it came from.
const LATE: u32 = 1;
/// What a peer may spend at once, and what it gets each second.
const BURST: u32 = 8_000;
const PER_SECOND: u64 = 400;
/// How long a peer is not listened to that spent all of it.
const PAUSE_MS: u64 = 10_000;
/// Peers that are remembered.
const PEERS_MAX: usize = 4_096;

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
    fn refill(&mut self, now_ms: u64) {
        let seconds = now_ms.saturating_sub(self.at_ms) / 1_000;
        self.at_ms = self.at_ms.saturating_add(seconds.saturating_mul(1_000));
        let more = u32::try_from(seconds.saturating_mul(PER_SECOND)).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(BURST);
    }
}

/// The allowance of every peer of which something was refused, connected or not: who comes again
/// gets no new one.
#[derive(Debug, Default)]
pub struct Allowances(BTreeMap<PeerId, Allowance>);

impl Allowances {
    /// Notes what became of transactions; until when the peer is not listened to, if that
    /// begins now.
    pub fn judged(&mut self, peer: PeerId, tally: Tally, now_ms: u64) -> Option<u64> {
        if !self.0.contains_key(&peer) {
            if tally.spent() == 0 {
                return None;
            }
            self.make_room();
        }
        let new = Allowance { left: BURST, at_ms: now_ms, paused_until_ms: 0 };
        let allowance = self.0.entry(peer).or_insert(new);
        allowance.refill(now_ms);
        let (has, spent) = (allowance.left.saturating_add(tally.earned()), tally.spent());
        allowance.left = has.saturating_sub(spent).min(BURST);
        // What was under way when a pause began makes it no longer.
        if spent <= has || allowance.paused_until_ms > now_ms {
            return None;
        }
        allowance.paused_until_ms = now_ms.saturating_add(PAUSE_MS);
        Some(allowance.paused_until_ms)
    }

    /// Until when a peer is not listened to, if it is not now.
    #[must_use]
    pub fn paused_until(&self, peer: &PeerId, now_ms: u64) -> Option<u64> {
        Some(self.0.get(peer)?.paused_until_ms).filter(|until| *until > now_ms)
    }

    /// Peers that are not listened to at a time.
    pub fn paused(&self, now_ms: u64) -> impl Iterator<Item = &PeerId> {
        self.0.keys().filter(move |peer| self.paused_until(peer, now_ms).is_some())
    }

    /// Forgets whoever has most left.
    fn make_room(&mut self) {
        if self.0.len() >= PEERS_MAX {
            let best = self.0.iter().max_by_key(|(_, one)| (one.left, Reverse(one.at_ms)));
            let best = best.map(|(peer, _)| *peer);
            best.and_then(|best| self.0.remove(&best));
        }
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
                if allowances.paused_until(&PEER, tenth * 100).is_none() {
                    let _ = allowances.judged(PEER, tally, tenth * 100);
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
            assert_eq!(allowances.judged(PEER, tally, second * 1_000), None);
        }
        // A quiet chain: of what little there is, all comes late.
        for second in 3_600..7_200 {
            let tally = Tally { accepted: 0, refused: 0, late: 400 };
            assert_eq!(allowances.judged(PEER, tally, second * 1_000), None);
        }
    }

    #[test]
    fn a_pause_ends_and_is_not_made_longer_by_what_was_under_way() {
        let mut allowances = Allowances::default();
        let flood = Tally { refused: BURST, ..Tally::default() };
        assert_eq!(allowances.judged(PEER, flood, 500), Some(500 + PAUSE_MS));
        assert_eq!(allowances.judged(PEER, flood, 700), None);
        assert_eq!(allowances.paused(PAUSE_MS).collect::<Vec<_>>(), [&PEER]);
        assert_eq!(allowances.paused_until(&PEER, 500 + PAUSE_MS), None);
        assert_eq!(allowances.judged(PEER, REFUSED, 500 + PAUSE_MS), None);
        assert!(allowances.judged(PEER, flood, 501 + PAUSE_MS).is_some());
    }

    #[test]
    fn memory_is_bounded_and_keeps_those_that_are_paused() {
        let mut allowances = Allowances::default();
        let flood = Tally { refused: BURST, ..Tally::default() };
        let _ = allowances.judged(PEER, flood, 0);
        for n in 0..2 * PEERS_MAX as u64 {
            let mut key = [2; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            let _ = allowances.judged(PeerId(key), REFUSED, 1);
        }
        assert_eq!(allowances.0.len(), PEERS_MAX);
        assert!(allowances.paused_until(&PEER, 1).is_some());
        let _ = allowances.judged(PeerId([3; 32]), ACCEPTED, 1);
        assert!(!allowances.0.contains_key(&PeerId([3; 32])), "there is nothing to remember");
    }
}
