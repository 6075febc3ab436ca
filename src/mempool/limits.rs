//! How much the mempool holds. Bounds of this node only; no rule of the chain.

use ait_engine::limits::TRANSACTION_BYTES_MAX;

/// How many dropped transactions are remembered with their reasons.
pub const DROPPED_COUNT_MAX: usize = 10_000;
/// A replacement pays this many per cent more, and at least one base unit.
pub const REPLACEMENT_BUMP_PERCENT: u64 = 10;
/// How many transactions in a row may be too large for the rest of a block before
/// selection ends.
pub(super) const MISFIT_COUNT_MAX: usize = 64;

/// How much the mempool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MempoolLimits {
    /// Most transactions.
    pub count_max: usize,
    /// Most bytes of transactions.
    pub bytes_max: u64,
    /// Most transactions of one sender, and how far ahead of the account's nonce one may be.
    pub per_sender_max: u64,
    /// Most bytes of one sender.
    pub per_sender_bytes_max: u64,
    /// How long one is kept, in milliseconds.
    pub ttl_ms: u64,
}

impl Default for MempoolLimits {
    fn default() -> Self {
        Self {
            count_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
            per_sender_max: 1_024,
            per_sender_bytes_max: 4 * 1024 * 1024,
            ttl_ms: 3 * 60 * 60 * 1_000,
        }
    }
}

const _: () = assert!(TRANSACTION_BYTES_MAX < 4 * 1024 * 1024);
