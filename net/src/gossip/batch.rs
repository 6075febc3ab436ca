//! A batch of transactions as it travels: canonical encodings, one behind the other.

use ait_engine::codec::{Canonical, DecodeError, Reader};
use ait_engine::limits::TRANSACTION_BYTES_MAX;
use ait_engine::transaction::Transaction;

/// Most transactions of a batch: what one signature batch verifies best.
pub const BATCH_COUNT_MAX: usize = 512;
/// Largest batch, in bytes.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

const _: () = assert!(TRANSACTION_BYTES_MAX < BATCH_BYTES_MAX);

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A transaction is not canonical.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It passes a bound.
    #[error("a batch of {bytes} bytes and {count} transactions passes the bound")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// Its transactions, as far as they were counted.
        count: usize,
    },
}

/// Encoded transactions: at least one, at most [`BATCH_COUNT_MAX`] and [`BATCH_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionBatch {
    bytes: Vec<u8>,
    count: usize,
}

impl TransactionBatch {
    /// Splits encoded transactions into batches within the bounds, in order.
    #[must_use]
    pub fn split<'a>(transactions: impl IntoIterator<Item = &'a Transaction>) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        for transaction in transactions {
            let encoded = transaction.encode();
            match batches.last_mut() {
                Some(last)
                    if last.count < BATCH_COUNT_MAX
                        && last.bytes.len().saturating_add(encoded.len()) <= BATCH_BYTES_MAX =>
                {
                    last.bytes.extend_from_slice(&encoded);
                    last.count = last.count.saturating_add(1);
                }
                _ => batches.push(Self { bytes: encoded, count: 1 }),
            }
        }
        batches
    }

    /// Reads what came from outside: every byte of it is checked.
    ///
    /// # Errors
    /// [`BatchError`] if it is empty, too large or not canonical.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Vec<Transaction>), BatchError> {
        let mut transactions = Vec::new();
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { bytes: bytes.len(), count: 0 });
        }
        let mut reader = Reader::new(bytes);
        while transactions.is_empty() || reader.remaining() > 0 {
            if transactions.len() == BATCH_COUNT_MAX {
                let count = transactions.len().saturating_add(1);
                return Err(BatchError::TooLarge { bytes: bytes.len(), count });
            }
            transactions.push(Transaction::decode_from(&mut reader)?);
        }
        let batch = Self { bytes: bytes.to_vec(), count: transactions.len() };
        Ok((batch, transactions))
    }

    /// The encoded transactions.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }
}
