//! What is taken out first, and what must go first when there is no room.
//!
//! Both merge an index with the successors of what was already chosen; nothing is
//! changed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{Address, Nonce};

use super::limits::MISFIT_COUNT_MAX;
use super::pool::{Pool, TOGETHER};
use super::queue::{Entry, FeeRate, HeadKey, Queue, TailKey};
use super::{DropReason, MempoolError};

/// Who must go to make room, and why.
type Victim = (Address, Nonce, DropReason);

impl Pool {
    /// Executable transactions: each sender's in the order of nonces, senders by fee
    /// per byte, earlier arrivals first among equals.
    pub(super) fn select(&self, count_max: usize, bytes_max: u64) -> Vec<Arc<VerifiedTransaction>> {
        let mut chosen = Vec::with_capacity(count_max.min(self.len()));
        let mut heads = self.heads.iter().peekable();
        let mut successors: BTreeMap<HeadKey, (&Queue, &Entry)> = BTreeMap::new();
        let (mut room, mut misfits, mut touched) = (bytes_max, 0, 0_usize);
        while chosen.len() < count_max && misfits < MISFIT_COUNT_MAX {
            let from_index = match (heads.peek(), successors.first_key_value()) {
                (None, None) => break,
                (Some((head, _)), Some((successor, _))) => *head < successor,
                (Some(_), None) => true,
                (None, Some(_)) => false,
            };
            let best = if from_index {
                if touched == 0 {
                    touched = TOGETHER;
                    self.touch(heads.clone().take(TOGETHER).map(|(_, sender)| sender));
                }
                touched -= 1;
                let queue = heads.next().and_then(|(_, sender)| self.queues.get(sender));
                queue.and_then(|queue| Some((queue, queue.head()?)))
            } else {
                successors.pop_first().map(|(_, best)| best)
            };
            let Some((queue, entry)) = best else { break };
            let Some(left) = room.checked_sub(entry.bytes()) else {
                // What follows from this sender must wait too.
                misfits += 1;
                continue;
            };
            (room, misfits) = (left, 0);
            chosen.push(Arc::clone(&entry.transaction));
            if let Some(next) = entry.nonce().next().and_then(|nonce| queue.get(nonce)) {
                successors.insert(next.head_key(), (queue, next));
            }
        }
        chosen
    }

    /// Who must go so that this transaction fits; `replaced` are the bytes of the one
    /// whose nonce it takes. Only those that pay less per byte go, or the sender's own
    /// with higher nonces, which are worth nothing without this one.
    pub(super) fn plan_room(
        &self,
        transaction: &VerifiedTransaction,
        rate: FeeRate,
        replaced: Option<u64>,
    ) -> Result<Vec<Victim>, MempoolError> {
        let mut plan = Plan {
            count: (self.len() + 1).saturating_sub(usize::from(replaced.is_some())),
            bytes: (self.bytes() + u64::from(transaction.byte_count()))
                .saturating_sub(replaced.unwrap_or(0)),
            victims: Vec::new(),
        };
        let own_lowest = self.plan_own(transaction, replaced, &mut plan)?;
        self.plan_others(transaction, rate, own_lowest, &mut plan)?;
        Ok(plan.victims)
    }

    /// Within the sender's own bytes. Gives the nonce from which on all its own go.
    fn plan_own(
        &self,
        transaction: &VerifiedTransaction,
        replaced: Option<u64>,
        plan: &mut Plan,
    ) -> Result<Nonce, MempoolError> {
        let (sender, nonce) = (transaction.sender(), transaction.transaction().nonce);
        let queue = self.queues.get(&sender);
        let mut bytes = queue.map_or(0, Queue::bytes) + u64::from(transaction.byte_count())
            - replaced.unwrap_or(0);
        let expected = self.limits.per_sender_bytes_max;
        let mut lowest = Nonce::MAX;
        let mut entries = queue.into_iter().flat_map(|queue| queue.entries().rev());
        while bytes > expected {
            match entries.next() {
                Some(entry) if entry.nonce() > nonce => {
                    bytes -= entry.bytes();
                    lowest = entry.nonce();
                    plan.give_up(sender, entry, DropReason::SenderFull);
                }
                _ => return Err(MempoolError::SenderFull { expected, found: bytes }),
            }
        }
        Ok(lowest)
    }

    /// Within the bounds of all.
    fn plan_others(
        &self,
        transaction: &VerifiedTransaction,
        rate: FeeRate,
        own_lowest: Nonce,
        plan: &mut Plan,
    ) -> Result<(), MempoolError> {
        if plan.count <= self.limits.count_max && plan.bytes <= self.limits.bytes_max {
            return Ok(());
        }
        let (sender, nonce) = (transaction.sender(), transaction.transaction().nonce);
        let mut tails = self.tails.iter().peekable();
        let mut successors: BTreeMap<TailKey, Address> = BTreeMap::new();
        let mut lowest: BTreeMap<Address, Nonce> = BTreeMap::from([(sender, own_lowest)]);
        while plan.count > self.limits.count_max || plan.bytes > self.limits.bytes_max {
            let from_index = match (tails.peek(), successors.first_key_value()) {
                (None, None) => return Err(MempoolError::Full),
                (Some((tail, _)), Some((successor, _))) => *tail < successor,
                (Some(_), None) => true,
                (None, Some(_)) => false,
            };
            let address = if from_index {
                tails.next().map(|(_, address)| *address)
            } else {
                successors.pop_first().map(|(_, address)| address)
            };
            let Some(address) = address else { return Err(MempoolError::Full) };
            let below = lowest.get(&address).copied().unwrap_or(Nonce::MAX);
            let Some(entry) = self.queues.get(&address).and_then(|queue| queue.before(below))
            else {
                continue;
            };
            if address == sender {
                if entry.nonce() <= nonce {
                    continue;
                }
            } else if entry.rate >= rate {
                return Err(MempoolError::Full);
            }
            lowest.insert(address, entry.nonce());
            let reason =
                if address == sender { DropReason::SenderFull } else { DropReason::Evicted };
            plan.give_up(address, entry, reason);
            let queue = self.queues.get(&address);
            if let Some(next) = queue.and_then(|queue| queue.before(entry.nonce())) {
                successors.insert(next.tail_key(), address);
            }
        }
        Ok(())
    }
}

/// What would be pending, and who goes.
struct Plan {
    count: usize,
    bytes: u64,
    victims: Vec<Victim>,
}

impl Plan {
    fn give_up(&mut self, address: Address, entry: &Entry, reason: DropReason) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(entry.bytes());
        self.victims.push((address, entry.nonce(), reason));
    }
}
