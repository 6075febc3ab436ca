//! Pending transactions for peers that are new: in parts, each made when the one before was taken.
//!
//! Whoever can make a key is a new peer as often as it likes, so that few are told at once, and
//! what is not taken is neither encoded nor kept for them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ait_engine::transaction::VerifiedTransaction;
use ait_net::gossip::{BATCH_BYTES_MAX, BATCH_COUNT_MAX};
use ait_net::peer::{Host, PeerId};

use crate::mempool::Listed;

/// Peers that are told at once, in all and at one host.
const AT_ONCE: usize = 16;
const HOST_AT_ONCE: usize = AT_ONCE / 4;
/// Transactions that a peer is told of, and how long that may take. All that wait for long are
/// published again, so that who is slower hears of the rest.
const SHARED_MAX: usize = 20_000;
const SHARE_MS_MAX: u64 = 30_000;

/// Who is still to be told of what.
#[derive(Debug, Default)]
pub(super) struct Sharing(VecDeque<New>);

#[derive(Debug)]
struct New {
    peer: PeerId,
    host: Host,
    turn: Option<Turn>,
}

#[derive(Debug)]
struct Turn {
    /// Number of the last transaction that it was told of.
    after: Option<u64>,
    left: usize,
    until_ms: u64,
}

impl Sharing {
    pub(super) fn add(&mut self, peer: PeerId, host: Host) {
        self.gone(&peer);
        self.0.push_back(New { peer, host, turn: None });
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.0.retain(|new| new.peer != *peer);
    }

    /// The next parts. `takes` says whether a peer has taken what it was sent, `list` gives so
    /// many pending transactions after a number.
    pub(super) fn parts(
        &mut self,
        now_ms: u64,
        takes: impl Fn(&PeerId) -> bool,
        list: impl Fn(usize, Option<u64>) -> Vec<Listed>,
    ) -> Vec<(PeerId, Vec<Arc<VerifiedTransaction>>)> {
        let (mut parts, mut hosts) = (Vec::new(), BTreeMap::<Host, usize>::new());
        let mut turns = 0_usize;
        self.0.retain_mut(|new| {
            if new.turn.as_ref().is_some_and(|turn| now_ms >= turn.until_ms) {
                return false;
            }
            let at_host = hosts.entry(new.host).or_default();
            if new.turn.is_none() && (turns >= AT_ONCE || *at_host >= HOST_AT_ONCE) {
                return true;
            }
            turns = turns.saturating_add(1);
            *at_host = at_host.saturating_add(1);
            let turn = new.turn.get_or_insert_with(|| Turn {
                after: None,
                left: SHARED_MAX,
                until_ms: now_ms.saturating_add(SHARE_MS_MAX),
            });
            if !takes(&new.peer) {
                return true;
            }
            let part = turn.next(&list);
            let is_more = !part.is_empty();
            if is_more {
                parts.push((new.peer, part));
            }
            is_more
        });
        parts
    }
}

impl Turn {
    /// What fits in one batch.
    fn next(
        &mut self,
        list: impl Fn(usize, Option<u64>) -> Vec<Listed>,
    ) -> Vec<Arc<VerifiedTransaction>> {
        let (mut part, mut bytes) = (Vec::new(), 0_usize);
        for listed in list(self.left.min(BATCH_COUNT_MAX), self.after) {
            bytes = bytes.saturating_add(listed.transaction.byte_count() as usize);
            if bytes > BATCH_BYTES_MAX {
                break;
            }
            self.after = Some(listed.seq);
            self.left = self.left.saturating_sub(1);
            part.push(listed.transaction);
        }
        part
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ait_engine::crypto::SecretKey;
    use ait_engine::transaction::{Payload, Transaction};
    use ait_engine::types::{Address, Amount, ChainId, Nonce, TimestampMs};

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId([n; 32])
    }

    /// A pool of so many transactions.
    fn pool(count: u64) -> impl Fn(usize, Option<u64>) -> Vec<Listed> {
        let payload = Payload::Transfer { to: Address([7; 32]), amount: Amount::saturating(1) };
        let (key, chain) = (SecretKey::from_seed([1; 32]), ChainId::from_bytes(b"a"));
        let nonce = Nonce::ZERO;
        let one = Transaction::sign(&key, chain.unwrap(), nonce, Amount::ZERO, None, payload);
        let transaction = Arc::new(one.verify().unwrap());
        move |limit, after| {
            let listed = |seq| Listed {
                seq,
                added_at: TimestampMs::saturating(0),
                transaction: Arc::clone(&transaction),
            };
            (after.map_or(0, |after| after + 1)..count).take(limit).map(listed).collect()
        }
    }

    #[test]
    fn a_new_peer_is_told_of_all_in_parts_as_it_takes_them() {
        let (mut sharing, pool) = (Sharing::default(), pool(1_100));
        sharing.add(peer(1), Host::of("a"));
        let mut part = |takes| {
            let parts = sharing.parts(0, |_| takes, &pool);
            parts.first().map(|(_, part)| part.len())
        };
        assert_eq!((part(false), part(true)), (None, Some(512)));
        assert_eq!((part(false), part(true), part(true)), (None, Some(512), Some(76)));
        assert_eq!(part(true), None);
        assert!(sharing.0.is_empty());
    }

    #[test]
    fn who_takes_nothing_keeps_nobody_waiting_for_long() {
        let (mut sharing, pool) = (Sharing::default(), pool(100));
        // Many keys of one host, then many hosts, and all take nothing.
        for n in 0..8 {
            sharing.add(peer(n), Host::of("a"));
        }
        for n in 8..40 {
            sharing.add(peer(n), Host::of(&n.to_string()));
        }
        sharing.add(peer(99), Host::of("honest"));
        let told = |sharing: &mut Sharing, now_ms| {
            sharing.parts(now_ms, |who| *who == peer(99), &pool).len()
        };
        assert_eq!(told(&mut sharing, 0), 0);
        let turns = |sharing: &Sharing| sharing.0.iter().filter(|new| new.turn.is_some()).count();
        assert_eq!(turns(&sharing), AT_ONCE);
        let of_a = |new: &&New| new.turn.is_some() && new.host == Host::of("a");
        assert_eq!(sharing.0.iter().filter(of_a).count(), HOST_AT_ONCE);
        let told_at = (1..10).find(|turn| told(&mut sharing, turn * SHARE_MS_MAX) > 0);
        assert_eq!(told_at, Some(2));
        sharing.gone(&peer(99));
        assert!(sharing.0.iter().all(|new| new.peer != peer(99)));
    }
}
