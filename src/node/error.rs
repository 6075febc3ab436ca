//! Why a node does not start, or stopped.

use std::path::PathBuf;

use ait_engine::types::{Address, Height};

use crate::chain::ChainError;
use crate::consensus::{LogError, SignerError};
use crate::ingress::SubmitError;
use crate::mempool::JournalError;
use crate::sequencer::SequencerError;

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The disk cannot be looked at.
    #[error("the data directory {directory}: {source}")]
    Disk {
        /// The data directory.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The chain cannot be opened.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The write-ahead log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The signer cannot be opened.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The journal of pending transactions cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Pending transactions cannot be taken up.
    #[error("pending transactions cannot be taken up: {0}")]
    Restore(SubmitError),
    /// The sequencer failed.
    #[error(transparent)]
    Sequencer(#[from] SequencerError),
    /// A thread cannot be started or ended badly.
    #[error("the thread {name} {what}")]
    Thread {
        /// Which.
        name: &'static str,
        /// What happened.
        what: String,
    },
    /// The key is of no validator of this chain.
    #[error("the key {0} belongs to no validator of this chain; name its validator's key")]
    NotValidator(Address),
    /// The key signed at heights that this chain does not have.
    #[error(
        "the validator's key signed at height {signed}, but the chain here ends at {head}: it was reset or is an old copy"
    )]
    SignedAhead {
        /// Height of the signer's record.
        signed: Height,
        /// Newest block here.
        head: Height,
    },
}

impl NodeError {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "directory_failed",
            Self::Chain(error) => error.code(),
            Self::Log(_) => "consensus_log_failed",
            Self::Signer(_) => "signer_failed",
            Self::Journal(_) => "journal_failed",
            Self::Restore(error) => error.code(),
            Self::Sequencer(_) => "sequencer_failed",
            Self::Thread { .. } => "thread_failed",
            Self::NotValidator(_) => "not_validator",
            Self::SignedAhead { .. } => "signed_ahead",
        }
    }

    /// What the operator may do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "check the path and its permissions",
            Self::Chain(error) => error.hint(),
            Self::NotValidator(_) => {
                "name the validator's key in sequencer.key_file; genesis.json lists the validators"
            }
            Self::SignedAhead { .. } => {
                "put the newest copy of the data directory back; only if nobody else ever saw this chain: ait-node db reset --forget-signer"
            }
            Self::Log(LogError::Damaged { .. }) => {
                "ait-node db repair; a validator among several then signs nothing at the height under way"
            }
            Self::Log(_) | Self::Signer(_) => {
                "never delete consensus.log or signer.record to get going: that could sign twice"
            }
            Self::Journal(_) | Self::Restore(_) => {
                "free or repair the disk of the data directory; the message names the file"
            }
            Self::Sequencer(_) | Self::Thread { .. } => "the log says more",
        }
    }
}
