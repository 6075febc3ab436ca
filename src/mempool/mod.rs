//! Transactions that wait for a block.
//!
//! Each sender has a queue ordered by nonce, in which gaps may be open for a while.
//! A transaction leaves only when a committed block holds it, a rule refuses it, a
//! better paying one takes its place, or it waited too long; why is remembered for
//! [`Mempool::status`]. What is accepted survives a kill of the process by the
//! [`Journal`], and a power cut up to the last [`Mempool::flush`].
//!
//! No signature is verified here, no state is read, and no clock: time comes in.

mod admission;
mod ages;
mod dropped;
mod entries;
mod error;
mod handle;
mod journal;
mod keys;
mod limits;
mod pool;
mod queue;
mod select;
#[cfg(test)]
mod tests;
mod view;

pub use admission::Rules;
pub use dropped::Dropped;
pub use error::{DropReason, JournalError, MempoolError};
pub use handle::{Candidate, Inserted, Mempool};
pub use journal::{InspectedJournal, Journal, Recovered, SyncHandle};
pub use limits::{DROPPED_COUNT_MAX, MempoolLimits, REPLACEMENT_BUMP_PERCENT};
pub use view::{Listed, TxStatus};
