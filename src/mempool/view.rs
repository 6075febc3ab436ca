//! What can be asked about pending transactions. Reads only.

use std::ops::Bound;
use std::sync::Arc;

use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{Address, Nonce, TimestampMs, TxHash};

use super::Dropped;
use super::pool::Pool;

/// A pending transaction in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Number of its arrival: the cursor of the next page.
    pub seq: u64,
    /// When it came.
    pub added_at: TimestampMs,
    /// The transaction.
    pub transaction: Arc<VerifiedTransaction>,
}

/// What is known of a transaction that is in no block.
#[derive(Debug, Clone)]
pub enum TxStatus {
    /// It waits for a block.
    Pending {
        /// The transaction.
        transaction: Arc<VerifiedTransaction>,
        /// When it came.
        added_at: TimestampMs,
        /// The nonce that must come first and that nobody sent; none if it can be executed.
        missing_nonce: Option<Nonce>,
    },
    /// It was pending and no longer is.
    Dropped(Dropped),
    /// It was never here, or that is forgotten.
    Unknown,
}

impl Pool {
    pub(super) fn list(&self, limit: usize, after: Option<u64>) -> Vec<Listed> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let places = self.arrivals.range((from, Bound::Unbounded)).take(limit);
        places
            .filter_map(|(_, (sender, nonce))| {
                let entry = self.entry_at(sender, *nonce)?;
                let (seq, added_at) = (entry.seq, entry.added_at);
                Some(Listed { seq, added_at, transaction: Arc::clone(&entry.transaction) })
            })
            .collect()
    }

    pub(super) fn of_sender(&self, sender: &Address) -> Vec<Arc<VerifiedTransaction>> {
        let entries = self.queues.get(sender).into_iter().flat_map(|queue| queue.entries());
        entries.map(|entry| Arc::clone(&entry.transaction)).collect()
    }

    pub(super) fn next_nonce(&self, sender: &Address, committed: Nonce) -> Nonce {
        self.queues.get(sender).map_or(committed, |queue| queue.next_nonce().max(committed))
    }

    pub(super) fn status(&self, hash: &TxHash) -> TxStatus {
        let Some((queue, entry)) = self.find(hash) else { return TxStatus::Unknown };
        let missing = queue.next_nonce();
        TxStatus::Pending {
            transaction: Arc::clone(&entry.transaction),
            added_at: entry.added_at,
            missing_nonce: Some(missing).filter(|missing| *missing < entry.nonce()),
        }
    }
}
