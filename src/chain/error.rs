//! What can go wrong with the node's own copy of the chain.

use ait_engine::execute::StateFault;
use ait_engine::types::{BlockId, Height};
use ait_storage::{StorageError, StorageErrorKind};

use super::ViewError;

/// A fault of this node's storage or of what it holds; never a client's.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The genesis document is not valid.
    #[error(transparent)]
    Genesis(#[from] ait_engine::genesis::GenesisError),
    /// The storage engine failed.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// Something stored is not what it must be.
    #[error("the database is corrupt: {what}; restore a copy of the data directory")]
    Corrupt {
        /// What and where.
        what: String,
    },
    /// The store of blocks is not what it must be, which neither state nor index can mend.
    #[error(
        "the database is corrupt: the store of blocks: {what}; restore a copy of the data directory"
    )]
    Blocks {
        /// What and where.
        what: String,
    },
    /// The store of blocks ends before what was made of its blocks, and was longer therefore.
    #[error(
        "blocks are missing at the end of the store of blocks: it ends at {head}, the {part} is at {height}"
    )]
    BlocksLost {
        /// Newest block that is there.
        head: Height,
        /// What was made of more.
        part: &'static str,
        /// Of how many.
        height: Height,
    },
    /// The database belongs to another chain.
    #[error(
        "the database belongs to another chain: its genesis is {found}, the configured one is {expected}"
    )]
    OtherChain {
        /// Genesis that was configured.
        expected: BlockId,
        /// Genesis in the database.
        found: BlockId,
    },
    /// Written by a newer program.
    #[error(
        "the database has schema version {found}, this program knows {known}; upgrade the program"
    )]
    SchemaTooNew {
        /// Version found.
        found: u32,
        /// Newest version that this program knows.
        known: u32,
    },
    /// A stored block does not execute to what its header says.
    #[error("block {height} does not replay: {reason}")]
    Replay {
        /// Which block.
        height: Height,
        /// The first difference.
        reason: String,
    },
    /// A directory cannot be made, or a file beside the databases not be read.
    #[error("{what}: {source}")]
    Directory {
        /// Which one.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A thread behind the writer could not write for want of room.
    #[error("the index or the state cannot be written: {source}")]
    NoRoom {
        /// What the system says.
        source: std::io::Error,
    },
    /// What is asked for stands in the index, which this node does not keep.
    #[error("this node keeps no index of transactions and accounts")]
    IndexDisabled,
    /// A part of the node that this needs has stopped.
    #[error("{what} has stopped; see the log before this")]
    Stopped {
        /// Which part.
        what: &'static str,
    },
}

impl ChainError {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "genesis_invalid",
            Self::Storage(_) => "storage_failed",
            Self::Corrupt { .. } | Self::Blocks { .. } | Self::BlocksLost { .. } => {
                "database_corrupt"
            }
            Self::OtherChain { .. } => "database_of_other_chain",
            Self::SchemaTooNew { .. } => "database_too_new",
            Self::Replay { .. } => "replay_failed",
            Self::Directory { .. } => "directory_failed",
            Self::NoRoom { .. } => "storage_failed",
            Self::IndexDisabled => "index_disabled",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// What the operator may do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "ait-node genesis verify says what is wrong with a document",
            Self::Storage(StorageError::Locked { .. }) => {
                "another node runs in this data directory: stop it, or use another --data-dir"
            }
            Self::Storage(_) => {
                "ait-node db check says which file; check the disk and its permissions"
            }
            Self::Corrupt { .. } | Self::Blocks { .. } | Self::Replay { .. } => {
                "ait-node db check finds the first bad block; restore a copy of the data directory"
            }
            Self::BlocksLost { .. } => {
                "ait-node db repair looks for them in what is left of the file"
            }
            Self::OtherChain { .. } => {
                "use the genesis document of that chain, which may have been altered here, or another --data-dir"
            }
            Self::SchemaTooNew { .. } => "upgrade the program",
            Self::Directory { .. } => "check the path and its permissions",
            Self::NoRoom { .. } => "free or add room on the disk of the data directory",
            Self::IndexDisabled => {
                "set storage.index to true and start the node again, or ask a node that has it so"
            }
            Self::Stopped { .. } => "the log says why",
        }
    }

    /// Whether what is stored is not what was written.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. }
            | Self::Blocks { .. }
            | Self::BlocksLost { .. }
            | Self::Replay { .. } => true,
            Self::Storage(error) => error.kind() == StorageErrorKind::Corrupt,
            _ => false,
        }
    }

    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(super) fn blocks_corrupt(what: impl Into<String>) -> Self {
        Self::Blocks { what: what.into() }
    }
}

impl From<ViewError> for ChainError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Storage(error) => Self::Storage(error),
            ViewError::Corrupt { what } => Self::Corrupt { what },
        }
    }
}

impl From<StateFault<ViewError>> for ChainError {
    fn from(fault: StateFault<ViewError>) -> Self {
        match fault {
            StateFault::Read(error) => error.into(),
            other => Self::corrupt(other.to_string()),
        }
    }
}
