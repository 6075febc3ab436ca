//! What can be asked about pending transactions. Reads only.

use std::ops::Bound;
use std::sync::Arc;

use ait_engine::transaction::{
    Transaction, TransactionError, VerifiedTransaction, verify_transactions,
};
use ait_engine::types::{Address, Nonce, TimestampMs, TxHash};
use metrics::counter;

use super::pool::Pool;
use super::{Dropped, Mempool};

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

impl Mempool {
    /// How many are pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().pool.len()
    }

    /// Whether none is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the pending transactions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().pool.bytes()
    }

    /// A pending transaction.
    #[must_use]
    pub fn get(&self, hash: &TxHash) -> Option<Arc<VerifiedTransaction>> {
        self.lock().pool.find(hash).map(|(_, entry)| Arc::clone(&entry.transaction))
    }

    /// Verifies transactions; those that are pending, with the same signature, were verified
    /// when they came and are not verified again.
    #[must_use]
    pub fn verify(
        &self,
        transactions: Vec<Transaction>,
    ) -> Vec<Result<VerifiedTransaction, TransactionError>> {
        let hashes: Vec<TxHash> = transactions.iter().map(Transaction::hash).collect();
        let known: Vec<Option<Arc<VerifiedTransaction>>> = {
            let inner = self.lock();
            let find =
                |hash| inner.pool.find(hash).map(|(_, entry)| Arc::clone(&entry.transaction));
            hashes.iter().map(find).collect()
        };
        let is_same = |known: &Option<Arc<VerifiedTransaction>>, one: &Transaction| {
            known.as_ref().is_some_and(|known| known.transaction() == one)
        };
        let unknown: Vec<Transaction> = transactions
            .iter()
            .zip(&known)
            .filter(|(one, known)| !is_same(known, one))
            .map(|(one, _)| one.clone())
            .collect();
        counter!("transactions_verified_before_total")
            .increment((transactions.len() - unknown.len()) as u64);
        crate::telemetry::metrics::verified(unknown.len());
        let mut verified = verify_transactions(unknown, None).into_iter();
        let results = transactions.iter().zip(known).map(|(one, known)| match known {
            Some(known) if known.transaction() == one => Ok((*known).clone()),
            // As many were verified as are not known.
            _ => verified.next().unwrap_or(Err(TransactionError::Signature)),
        });
        results.collect()
    }

    /// Pending transactions in order of arrival, those after the number `after`.
    #[must_use]
    pub fn list(&self, limit: usize, after: Option<u64>) -> Vec<Listed> {
        self.lock().pool.list(limit, after)
    }

    /// A sender's pending transactions in the order of nonces.
    #[must_use]
    pub fn of_sender(&self, sender: &Address) -> Vec<Arc<VerifiedTransaction>> {
        self.lock().pool.of_sender(sender)
    }

    /// The nonce that a sender's next transaction should use, after those that are
    /// pending without a gap; `committed` is that of its account.
    #[must_use]
    pub fn next_nonce(&self, sender: &Address, committed: Nonce) -> Nonce {
        self.lock().pool.next_nonce(sender, committed)
    }

    /// What is known of a transaction that is in no block.
    #[must_use]
    pub fn status(&self, hash: &TxHash) -> TxStatus {
        let inner = self.lock();
        match inner.pool.status(hash) {
            TxStatus::Unknown => {
                inner.dropped.get(hash).cloned().map_or(TxStatus::Unknown, TxStatus::Dropped)
            }
            pending => pending,
        }
    }
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
