//! Gossip of transactions: ways by which the nodes and processes of a chain tell each
//! other of transactions that one of them accepted.
//!
//! A backend carries batches and knows nothing of their worth: who receives verifies.
//! What was seen before is dropped by [`Seen`], so that nothing is verified twice or
//! sent in a circle.

mod batch;
mod seen;

pub use batch::{BATCH_BYTES_MAX, BATCH_COUNT_MAX, BatchError, TransactionBatch};
pub use seen::Seen;

use std::sync::Arc;

use crate::peer::PeerId;

/// Where a batch came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A peer on the transport.
    Peer(PeerId),
    /// A process of the same site, by the random id it chose at start.
    Process([u8; 16]),
}

/// A batch that somebody else published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who sent it here; not necessarily who made it.
    pub source: Source,
    /// The transactions, unverified.
    pub batch: TransactionBatch,
}

/// A way to publish batches to all others. What the others publish comes out of the
/// bounded channel that each backend hands out when it starts; a batch is never given
/// back to who published it, comes once to each other, and in the order of its publisher.
///
/// Loss is allowed (a full queue, a broken connection) but counted; whoever accepted a
/// transaction keeps it and publishes it again when it waits for long.
pub trait Gossip: Send + Sync + 'static {
    /// Name for logs and metrics.
    fn name(&self) -> &'static str;

    /// Queues a batch for all others. Never waits: if the queue is full the batch is
    /// dropped, counted, and `false` is returned.
    fn publish(&self, batch: &Arc<TransactionBatch>) -> bool;
}
