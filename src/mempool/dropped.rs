//! The last transactions that were let go, with the reason.
//!
//! Bounded: the oldest is forgotten first. Nothing here is stored.

use std::collections::{HashMap, VecDeque};

use ait_engine::types::{TimestampMs, TxHash};

use super::DropReason;

/// A transaction that was pending, and why it is no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// When.
    pub at: TimestampMs,
}

#[derive(Debug)]
pub(super) struct DroppedRing {
    capacity: usize,
    next: u64,
    order: VecDeque<(u64, TxHash)>,
    by_hash: HashMap<TxHash, (u64, Dropped)>,
}

impl DroppedRing {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, next: 0, order: VecDeque::new(), by_hash: HashMap::new() }
    }

    pub(super) fn push(&mut self, hash: TxHash, dropped: Dropped) {
        let number = self.next;
        self.next += 1;
        self.order.push_back((number, hash));
        self.by_hash.insert(hash, (number, dropped));
        while self.order.len() > self.capacity {
            let Some((number, hash)) = self.order.pop_front() else { break };
            if self.by_hash.get(&hash).is_some_and(|(found, _)| *found == number) {
                self.by_hash.remove(&hash);
            }
        }
    }

    /// Forgets one that is pending again, or in a block.
    pub(super) fn forget(&mut self, hash: &TxHash) {
        if !self.by_hash.is_empty() {
            self.by_hash.remove(hash);
        }
    }

    pub(super) fn get(&self, hash: &TxHash) -> Option<&Dropped> {
        self.by_hash.get(hash).map(|(_, dropped)| dropped)
    }
}
