//! Ordering: a Tendermint state machine behind a port of our own.
//!
//! [`Consensus`] takes an [`Event`] and gives [`Action`]s. Signing and the write-ahead
//! log are ports that it calls itself, because the order of append, flush, sign and
//! publish is what keeps a validator from signing twice. One validator is the same
//! protocol with a set of one. `specs/consensus.md` has the rules and the traps.
//!
//! No clock and no network here, and of blocks only the bytes that the log keeps: values are
//! block ids.

mod certificates;
mod config;
mod context;
mod convert;
mod entry;
mod file_log;
mod machine;
mod port;
mod signer;
mod votes;

#[cfg(test)]
mod tests;

pub use config::ConsensusConfig;
pub use entry::logged_blocks;
pub use file_log::{FileLog, InspectedLog, LogError, LogWriter, Logged};
pub use machine::Consensus;
pub use port::{Action, ConsensusFailure, Event, Timeout, TimeoutKind, VoteSigner, WriteAheadLog};
pub use signer::{FileSigner, InspectedRecord, SignerError};
pub use votes::RecentVotes;
