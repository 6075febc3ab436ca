//! Translating redb's errors into this crate's.
//!
//! Every error of redb is named here; none is passed on as text that a caller would have to read.

use std::io::{self, ErrorKind};

use redb::{
    CommitError, CompactionError, DatabaseError, SetDurabilityError, TableError, TransactionError,
};

use crate::{LimitKind, Place, StorageError, Table, limits::VALUE_BYTES_MAX, redb_storage::ENGINE};

/// The one file format that redb 3 and 4 write.
const FORMAT: u8 = 3;

pub(super) fn io(place: &Place, source: io::Error) -> StorageError {
    let place = place.clone();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StorageError::Full { place, source }
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StorageError::ReadOnly { place, source }
        }
        ErrorKind::NotFound => StorageError::Missing { place },
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            StorageError::Corrupt { place, detail: source.to_string() }
        }
        _ => StorageError::Io { place, source },
    }
}

pub(super) fn storage(place: &Place, error: redb::StorageError) -> StorageError {
    match error {
        redb::StorageError::Io(source) => io(place, source),
        redb::StorageError::Corrupted(detail) => corrupt(place, detail),
        redb::StorageError::ValueTooLarge(found) => {
            StorageError::Limit { what: LimitKind::Value, expected: VALUE_BYTES_MAX, found }
        }
        redb::StorageError::PreviousIo | redb::StorageError::LockPoisoned(_) => {
            StorageError::Poisoned { place: place.clone() }
        }
        redb::StorageError::DatabaseClosed => StorageError::Closed { place: place.clone() },
        redb::StorageError::Unsupported => {
            StorageError::Unsupported { engine: ENGINE, operation: "lock this file" }
        }
        other => other_io(place, other),
    }
}

pub(super) fn database(place: &Place, error: DatabaseError) -> StorageError {
    let place_owned = || place.clone();
    match error {
        DatabaseError::Storage(error) => storage(place, error),
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StorageError::Locked { place: place_owned() }
        }
        DatabaseError::RepairAborted => StorageError::NeedsRecovery { place: place_owned() },
        DatabaseError::UpgradeRequired(found) => {
            StorageError::Version { place: place_owned(), expected: FORMAT, found }
        }
        DatabaseError::TransactionInProgress => busy(place, "closing"),
        other => other_io(place, other),
    }
}

pub(super) fn transaction(place: &Place, error: TransactionError) -> StorageError {
    match error {
        TransactionError::Storage(error) => storage(place, error),
        TransactionError::WouldBlock | TransactionError::ReadTransactionStillInUse(_) => {
            busy(place, "a transaction")
        }
        other => other_io(place, other),
    }
}

pub(super) fn table(place: &Place, error: TableError) -> StorageError {
    match error {
        TableError::Storage(error) => storage(place, error),
        // Tables of other types: the file was written by another program.
        other => corrupt(place, other.to_string()),
    }
}

pub(super) fn commit(place: &Place, error: CommitError) -> StorageError {
    match error {
        CommitError::Storage(error) => storage(place, error),
        CommitError::TransactionPoisoned => StorageError::Poisoned { place: place.clone() },
        other => other_io(place, other),
    }
}

pub(super) fn durability(place: &Place, error: SetDurabilityError) -> StorageError {
    other_io(place, error)
}

pub(super) fn compaction(place: &Place, error: CompactionError) -> StorageError {
    match error {
        CompactionError::Storage(error) => storage(place, error),
        _ => busy(place, "compaction"),
    }
}

pub(super) fn integrity(place: &Place, error: DatabaseError) -> StorageError {
    match error {
        DatabaseError::TransactionInProgress => busy(place, "compaction"),
        other => database(place, other),
    }
}

pub(super) fn corrupt(place: &Place, detail: impl Into<String>) -> StorageError {
    StorageError::Corrupt { place: place.clone(), detail: detail.into() }
}

/// Says in which table the damage was met.
pub(super) fn in_table(table: Table, error: StorageError) -> StorageError {
    match error {
        StorageError::Corrupt { place, detail } => {
            StorageError::Corrupt { place, detail: format!("table {}: {detail}", table.name()) }
        }
        other => other,
    }
}

fn busy(place: &Place, operation: &'static str) -> StorageError {
    StorageError::Busy { place: place.clone(), operation }
}

/// What redb may add in a later version: its enums are open.
fn other_io(place: &Place, error: impl std::error::Error + Send + Sync + 'static) -> StorageError {
    StorageError::Io { place: place.clone(), source: io::Error::other(error) }
}
