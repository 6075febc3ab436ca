//! What can go wrong, and what the caller or the operator may do about it.
//!
//! Storage has no peers: every error here is local, and none is ever shown to a remote client as
//! it stands, since it may name a path.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

/// A storage operation that did not happen, or of which it is unknown whether it happened.
///
/// Only a failed [`commit`](crate::Storage::commit) leaves doubt, and only until the storage is
/// opened again: the batch is then there as a whole or not at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk, the quota or the largest file size is exhausted.
    #[error("no space left to write {place}: {source}")]
    Full {
        /// What was being written.
        place: Place,
        /// The system's answer.
        source: io::Error,
    },
    /// The storage may be read and not written.
    #[error("{place} is read-only or its permissions refuse this access: {source}")]
    ReadOnly {
        /// What was opened.
        place: Place,
        /// The system's answer.
        source: io::Error,
    },
    /// The bytes found are not a storage this engine wrote, or not all of it.
    #[error("{place} is damaged or is not a storage file: {detail}")]
    Corrupt {
        /// What was being read.
        place: Place,
        /// What was found.
        detail: String,
    },
    /// The file has a format that this program does not read.
    #[error("{place} has file format {found}, this program reads format {expected}")]
    Version {
        /// What was opened.
        place: Place,
        /// The format this program reads.
        expected: u8,
        /// The format of the file.
        found: u8,
    },
    /// There is nothing to open.
    #[error("{place} does not exist")]
    Missing {
        /// What was to be opened.
        place: Place,
    },
    /// Another process, or another handle of this one, has the storage open.
    #[error("{place} is already open in another process (or twice in this one)")]
    Locked {
        /// What was to be opened.
        place: Place,
    },
    /// The storage was not closed cleanly and must be opened for writing once to be recovered.
    #[error("{place} was not closed cleanly and can be read only after recovery")]
    NeedsRecovery {
        /// What was to be opened.
        place: Place,
    },
    /// A snapshot or a commit is in progress where none may be.
    #[error("{place} is in use: {operation} needs it to itself")]
    Busy {
        /// What is in use.
        place: Place,
        /// What was asked.
        operation: &'static str,
    },
    /// A key, value or batch is larger than [`limits`](crate::limits) allow. Nothing was written.
    #[error("{what} of {found} bytes is larger than the {expected} bytes allowed")]
    Limit {
        /// What is too large.
        what: LimitKind,
        /// The most that is accepted.
        expected: usize,
        /// The size met.
        found: usize,
    },
    /// An earlier operation on this handle failed, so that it refuses further work.
    #[error("{place} refuses further work after an earlier failure")]
    Poisoned {
        /// What refuses.
        place: Place,
    },
    /// The handle was closed while this snapshot of it was still in use.
    #[error("{place} was closed")]
    Closed {
        /// What was closed.
        place: Place,
    },
    /// The engine has no such operation.
    #[error("the {engine} engine cannot {operation}")]
    Unsupported {
        /// The engine.
        engine: &'static str,
        /// What was asked.
        operation: &'static str,
    },
    /// Any other failure of the system below.
    #[error("cannot read or write {place}: {source}")]
    Io {
        /// What was being read or written.
        place: Place,
        /// The system's answer.
        source: io::Error,
    },
    /// A test asked for this failure ([`Faulty`](crate::Faulty)).
    #[error("injected failure of {operation} number {number}")]
    Injected {
        /// The operation that failed.
        operation: crate::Operation,
        /// Its number.
        number: u64,
    },
    /// A test ended this handle ([`Faulty`](crate::Faulty)): as after a power cut, nothing works
    /// until the storage is opened again.
    #[error("the storage crashed by request of a test")]
    Crashed,
}

/// [`StorageError`] without its details: what a caller matches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// No space.
    Full,
    /// No permission to write.
    ReadOnly,
    /// Damaged or foreign bytes.
    Corrupt,
    /// Another file format.
    Version,
    /// Nothing there.
    Missing,
    /// Open elsewhere.
    Locked,
    /// To be opened for writing first.
    NeedsRecovery,
    /// In use.
    Busy,
    /// Too large.
    Limit,
    /// Refuses after a failed commit.
    Poisoned,
    /// Closed while in use.
    Closed,
    /// Not offered by the engine.
    Unsupported,
    /// Another failure below.
    Io,
    /// Injected by a test.
    Injected,
    /// Ended by a test.
    Crashed,
}

impl StorageError {
    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> StorageErrorKind {
        match self {
            Self::Full { .. } => StorageErrorKind::Full,
            Self::ReadOnly { .. } => StorageErrorKind::ReadOnly,
            Self::Corrupt { .. } => StorageErrorKind::Corrupt,
            Self::Version { .. } => StorageErrorKind::Version,
            Self::Missing { .. } => StorageErrorKind::Missing,
            Self::Locked { .. } => StorageErrorKind::Locked,
            Self::NeedsRecovery { .. } => StorageErrorKind::NeedsRecovery,
            Self::Busy { .. } => StorageErrorKind::Busy,
            Self::Limit { .. } => StorageErrorKind::Limit,
            Self::Poisoned { .. } => StorageErrorKind::Poisoned,
            Self::Closed { .. } => StorageErrorKind::Closed,
            Self::Unsupported { .. } => StorageErrorKind::Unsupported,
            Self::Io { .. } => StorageErrorKind::Io,
            Self::Injected { .. } => StorageErrorKind::Injected,
            Self::Crashed => StorageErrorKind::Crashed,
        }
    }

    /// Whether the same call may succeed later although nobody repaired anything.
    ///
    /// A failed commit is never retryable: its handle refuses further writes, and what it left
    /// is known only after opening the storage again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), StorageErrorKind::Locked | StorageErrorKind::Busy)
    }

    /// What the operator may do, as one sentence.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.kind() {
            StorageErrorKind::Full => {
                "Free space on this file system or move the data directory, then start again: nothing half-written remains."
            }
            StorageErrorKind::ReadOnly => {
                "Make the file and its directory writable by the user that runs the node, or choose another data directory."
            }
            StorageErrorKind::Corrupt => {
                "Restore the file from a backup, or remove it and let the node synchronise again from its peers."
            }
            StorageErrorKind::Version => {
                "Use the release that wrote the file, or convert it with that release's export."
            }
            StorageErrorKind::Missing => {
                "Check the path, or initialise a new data directory there."
            }
            StorageErrorKind::Locked => {
                "Stop the other process that uses this data directory, or choose another directory."
            }
            StorageErrorKind::NeedsRecovery => {
                "Start the node once on this data directory, stop it, and try again."
            }
            StorageErrorKind::Busy => "Try again when no other operation runs.",
            StorageErrorKind::Limit => {
                "Make the data smaller: this is a defect of the caller, not of the disk."
            }
            StorageErrorKind::Poisoned => {
                "Restart the node; the log names the commit that failed and its cause."
            }
            StorageErrorKind::Unsupported => "Choose a storage engine that offers this operation.",
            StorageErrorKind::Io => {
                "Look at the system's log for failures of the disk, then restart the node."
            }
            StorageErrorKind::Closed | StorageErrorKind::Injected | StorageErrorKind::Crashed => {
                "Open the storage again."
            }
        }
    }
}

/// Where a failure happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A file.
    Path(PathBuf),
    /// The wrapper that injects failures.
    Wrapper,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Wrapper => f.write_str("the failing storage of a test"),
        }
    }
}

/// What exceeded a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// One key.
    Key,
    /// One value.
    Value,
    /// All keys and values of a batch.
    Batch,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a key",
            Self::Value => "a value",
            Self::Batch => "a batch",
        })
    }
}
