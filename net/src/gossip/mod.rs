//! Gossip of transactions: ways by which the nodes and processes of a chain tell each
//! other of transactions that one of them accepted.
//!
//! A backend carries transactions and knows nothing of their worth: who receives verifies.
//! One contract, in `net/tests/gossip`, holds for every backend. The default is QUIC, with
//! [`crate::protocol`] deciding what goes to whom; [`RedisGossip`] joins the processes of a
//! site.

mod aging;
mod batch;
mod gated;
mod redis;
mod seen;

pub use aging::Aging;
pub use batch::{BATCH_BYTES_MAX, BATCH_COUNT_MAX, BatchError, TransactionBatch};
pub use redis::{RedisError, RedisGossip, RedisOptions, RedisUrl};
pub use seen::Seen;

use std::sync::Arc;

use ait_engine::transaction::{Transaction, VerifiedTransaction};
use ait_engine::types::TxHash;

use crate::peer::{PeerId, Tally};

/// Where transactions came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A peer on the transport.
    Peer(PeerId),
    /// A process of the same site, by the random id it chose at start.
    Process([u8; 16]),
}

/// Transactions that somebody else published, at most [`BATCH_COUNT_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who sent them here; not necessarily who accepted them first.
    pub source: Source,
    /// The transactions, unverified, with their hashes.
    pub transactions: Vec<(TxHash, Transaction)>,
}

/// What became of an [`Incoming`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Who sent it.
    pub source: Source,
    /// Why one of its transactions is not valid whatever the state: the sender did not
    /// verify it. None if all are.
    pub invalid: Option<String>,
    /// How many were taken, and how many not.
    pub tally: Tally,
    /// Those that were not taken and may come again: for now there was no room, or it was
    /// not valid. A hash does not cover the signature, so that the valid one may follow.
    pub not_taken: Vec<TxHash>,
}

/// A way to publish transactions to all others. What the others publish comes out of the
/// bounded channel that each backend hands out when it starts. A transaction is never given
/// back to who published it, comes once to each other within some seconds, and in the order
/// of its publisher.
///
/// Loss is allowed (a full queue, a broken connection) but counted in
/// `gossip_dropped_total`; whoever accepted a transaction keeps it and publishes it again
/// when it waits for long.
pub trait Gossip: Send + Sync + 'static {
    /// Name for logs and metrics.
    fn name(&self) -> &'static str;

    /// Queues transactions for all others. Never waits: if the queue is full they are
    /// dropped, counted, and `false` is returned.
    fn publish(&self, transactions: &[Arc<VerifiedTransaction>]) -> bool;

    /// Hears what became of what it handed out.
    fn judged(&self, verdict: Verdict);
}
