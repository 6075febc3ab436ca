//! Known addresses, and whom to call when.
//!
//! Static peers are called until they answer; learned ones as long as there are fewer
//! connections than wanted. After a failure the next call waits twice as long, with
//! jitter, up to a bound. No clock and no randomness: time and seed come in.

use std::collections::{BTreeMap, BTreeSet};

use super::{PeerAddress, PeerId};

/// Wait after the first failure, and the longest wait, in milliseconds.
const BACKOFF_MS: u64 = 500;
const BACKOFF_MS_MAX: u64 = 30_000;
/// Learned addresses that are remembered.
const LEARNED_MAX: usize = 1_024;
/// Failures after which a learned address is forgotten.
const FAILURES_MAX: u32 = 12;

#[derive(Debug)]
struct Entry {
    address: PeerAddress,
    is_static: bool,
    failures: u32,
    due_ms: u64,
    is_calling: bool,
}

/// The address book.
#[derive(Debug)]
pub struct Book {
    us: PeerId,
    wanted: usize,
    seed: u64,
    entries: BTreeMap<PeerId, Entry>,
}

impl Book {
    /// A book of these static peers that calls learned ones up to `wanted` connections.
    #[must_use]
    pub fn new(us: PeerId, peers: Vec<PeerAddress>, wanted: usize, seed: u64) -> Self {
        let mut book = Self { us, wanted, seed, entries: BTreeMap::new() };
        for address in peers {
            book.add(address, 0);
        }
        book
    }

    /// Adds a static peer, or moves it to another address; it is called at once. Whether
    /// the book changed.
    pub fn add(&mut self, address: PeerAddress, now_ms: u64) -> bool {
        if address.id == self.us {
            return false;
        }
        let known = self.entries.get(&address.id);
        if known.is_some_and(|entry| entry.is_static && entry.address == address) {
            return false;
        }
        let is_calling = known.is_some_and(|entry| entry.is_calling);
        let (id, failures, due_ms) = (address.id, 0, now_ms);
        let entry = Entry { address, is_static: true, failures, due_ms, is_calling };
        self.entries.insert(id, entry);
        true
    }

    /// Takes note of an address that a peer told of, or that a peer called from.
    pub fn learn(&mut self, address: PeerAddress, now_ms: u64) {
        let is_known = self.entries.contains_key(&address.id);
        if address.id != self.us && !is_known && self.entries.len() < LEARNED_MAX {
            let entry =
                Entry { due_ms: now_ms, is_static: false, failures: 0, is_calling: false, address };
            self.entries.insert(entry.address.id, entry);
        }
    }

    /// A connection is up, whoever called.
    pub fn connected(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.is_calling = false;
        }
    }

    /// A call failed, or a connection that had lasted `lasted_ms` ended.
    pub fn failed(&mut self, peer: &PeerId, lasted_ms: u64, now_ms: u64) {
        let jitter = self.jitter();
        let Some(entry) = self.entries.get_mut(peer) else { return };
        entry.is_calling = false;
        // A connection that was good for a while was no failure.
        entry.failures =
            if lasted_ms > BACKOFF_MS_MAX { 0 } else { entry.failures.saturating_add(1) };
        let wait = BACKOFF_MS.saturating_mul(1 << entry.failures.min(10)).min(BACKOFF_MS_MAX);
        let half = wait / 2;
        let wait = half.saturating_add(jitter.checked_rem(half).unwrap_or(0));
        entry.due_ms = now_ms.saturating_add(wait);
        if !entry.is_static && entry.failures > FAILURES_MAX {
            self.entries.remove(peer);
        }
    }

    /// Whom to call now; each counts as being called until it is connected or failed.
    pub fn due(
        &mut self,
        connected: &BTreeSet<PeerId>,
        banned: impl Fn(&PeerId) -> bool,
        now_ms: u64,
    ) -> Vec<PeerAddress> {
        let calling = self.entries.values().filter(|entry| entry.is_calling).count();
        let mut room = self.wanted.saturating_sub(connected.len()).saturating_sub(calling);
        let mut due = Vec::new();
        for entry in self.entries.values_mut() {
            let id = entry.address.id;
            if entry.is_calling || entry.due_ms > now_ms || connected.contains(&id) || banned(&id) {
                continue;
            }
            if !entry.is_static {
                let Some(left) = room.checked_sub(1) else { continue };
                room = left;
            }
            entry.is_calling = true;
            due.push(entry.address.clone());
        }
        due
    }

    /// Addresses to tell others of, without `except`: static and answered ones.
    #[must_use]
    pub fn share(&self, count: usize, except: &PeerId) -> Vec<PeerAddress> {
        let good = self.entries.values().filter(|e| e.failures == 0 && e.address.id != *except);
        good.take(count).map(|entry| entry.address.clone()).collect()
    }

    /// Every address, and whether it is static.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerAddress, bool)> {
        self.entries.values().map(|entry| (&entry.address, entry.is_static))
    }

    /// Xorshift of the seed: spreads calls, needs no secrecy.
    fn jitter(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(n: u8) -> PeerAddress {
        PeerAddress { id: PeerId([n; 32]), host: "10.0.0.1".to_owned(), port: 7_000 }
    }

    #[test]
    fn a_static_peer_is_called_until_it_answers_ever_more_rarely() {
        let mut book = Book::new(PeerId([9; 32]), vec![address(1), address(9)], 0, 7);
        let none = BTreeSet::new();
        let mut calls = Vec::new();
        for now_ms in (0..300_000).step_by(100) {
            for called in book.due(&none, |_| false, now_ms) {
                assert_eq!(called, address(1));
                calls.push(now_ms);
                book.failed(&called.id, 0, now_ms);
            }
        }
        let gaps: Vec<u64> = calls.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps[0] <= 1_100 && gaps.len() > 10, "{gaps:?}");
        assert!(gaps.iter().skip(7).all(|gap| (15_000..=30_100).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn learned_peers_fill_up_to_what_is_wanted() {
        let mut book = Book::new(PeerId([9; 32]), vec![address(1)], 3, 7);
        for n in 2..8 {
            book.learn(address(n), 0);
        }
        assert_eq!(book.due(&BTreeSet::new(), |_| false, 0).len(), 3 + 1);
        let connected: BTreeSet<_> = (1..4).map(|n| PeerId([n; 32])).collect();
        for n in 1..8 {
            book.connected(&PeerId([n; 32]));
        }
        assert!(book.due(&connected, |_| false, 0).is_empty());
        let one = BTreeSet::from([PeerId([1; 32])]);
        let called = book.due(&one, |peer| *peer == PeerId([2; 32]), 0);
        assert_eq!(called.iter().map(|a| a.id.0[0]).collect::<Vec<_>>(), [3, 4]);
        for _ in 0..=FAILURES_MAX {
            book.failed(&PeerId([3; 32]), 0, 0);
        }
        assert!(!book.iter().any(|(address, _)| address.id == PeerId([3; 32])));
    }
}
