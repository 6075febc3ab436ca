//! The engine that keeps tables in one redb file: what a node runs on by default.
//!
//! A commit is two-phase and records redb's page allocation (its "quick repair") unless the
//! options say otherwise: opening after a crash then takes no time that grows with the file, and
//! never trusts a page because a fast checksum happened to match.
//!
//! No table's meaning, no retry, and no second writer to one file.

mod commit;
mod failure;
mod open;
mod snapshot;

use std::{
    fmt,
    path::Path,
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{
    Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTableMetadata,
    TableHandle,
};

use crate::{
    Batch, Durability, Place, Snapshot, Storage, StorageError, TableStats,
    redb_storage::{commit::Extent, snapshot::RedbSnapshot},
};

/// Name of this engine in configuration and messages.
const ENGINE: &str = "redb";

/// How to open a redb file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedbOptions {
    /// Memory for cached pages, in bytes.
    pub cache_bytes: usize,
    /// Whether a file that does not exist is made.
    pub create: bool,
    /// Whether every durable commit leaves what the next opening needs after a crash. Without
    /// it, commits are 6 to 12 % faster, and opening after a crash reads the whole file.
    pub quick_repair: bool,
    /// Whether opening verifies the checksum of every page, which reads the whole file.
    pub verify: bool,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024 * 1024, create: true, quick_repair: true, verify: false }
    }
}

/// Tables in one redb file, which this handle locks against every other.
pub struct RedbStorage {
    /// Locked for writing only by what needs the file to itself.
    database: RwLock<Handle>,
    place: Place,
    quick_repair: bool,
    /// Set by the first commit that fails, and never cleared.
    poisoned: AtomicBool,
}

enum Handle {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
}

impl Handle {
    fn begin_read(&self) -> Result<ReadTransaction, redb::TransactionError> {
        match self {
            Self::Writable(database) => database.begin_read(),
            Self::ReadOnly(database) => database.begin_read(),
        }
    }
}

impl RedbStorage {
    /// Opens a file for reading and writing, or makes it if the options say so.
    ///
    /// A new file can be read by its owner alone, and appears under its name only once it is a
    /// whole database: a crash while making it leaves nothing that cannot be opened.
    ///
    /// # Errors
    ///
    /// [`StorageError::Locked`] if it is open already, [`StorageError::Corrupt`] if it is damaged
    /// or no redb file, [`StorageError::Missing`], [`StorageError::ReadOnly`],
    /// [`StorageError::Full`], [`StorageError::Version`] or [`StorageError::Io`].
    pub fn open(path: impl AsRef<Path>, options: &RedbOptions) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let database = open::open(path, options)?;
        Ok(Self::new(Handle::Writable(database), Place::Path(path.to_owned()), options))
    }

    /// Opens an existing file for reading only, beside any number of other readers.
    ///
    /// # Errors
    ///
    /// As [`RedbStorage::open`], and [`StorageError::NeedsRecovery`] for a file that was not
    /// closed cleanly and whose recovery would have to write.
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: &RedbOptions,
    ) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let database = open::open_read_only(path, options)?;
        Ok(Self::new(Handle::ReadOnly(database), Place::Path(path.to_owned()), options))
    }

    /// Closes the file, making every commit durable, and releases its lock. Dropping does the
    /// same and cannot report a failure.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; durable commits are safe nevertheless.
    pub fn close(self) -> Result<(), StorageError> {
        let Self { database, place, .. } = self;
        let closed = match database.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            Handle::Writable(database) => database.close(),
            Handle::ReadOnly(database) => database.close(),
        };
        closed.map_err(|error| failure::database(&place, error))
    }

    fn new(handle: Handle, place: Place, options: &RedbOptions) -> Self {
        Self {
            database: RwLock::new(handle),
            place,
            quick_repair: options.quick_repair,
            poisoned: AtomicBool::new(false),
        }
    }

    fn begin_read(&self) -> Result<ReadTransaction, StorageError> {
        let database = self.database.read().map_err(|_| self.refusal())?;
        database.begin_read().map_err(|error| failure::transaction(&self.place, error))
    }

    fn refusal(&self) -> StorageError {
        StorageError::Poisoned { place: self.place.clone() }
    }

    fn write(
        &self,
        batch: Batch,
        durability: Durability,
        extent: Extent,
    ) -> Result<(), StorageError> {
        batch.check_limits()?;
        let handle = self.database.read().map_err(|_| self.refusal())?;
        let Handle::Writable(database) = &*handle else {
            return Err(StorageError::ReadOnly {
                place: self.place.clone(),
                detail: "opened for reading only".to_owned(),
            });
        };
        let written = commit::Commit {
            database,
            place: &self.place,
            quick_repair: self.quick_repair,
            poisoned: &self.poisoned,
        }
        .run(batch, durability, extent);
        if written.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        written
    }
}

impl fmt::Debug for RedbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedbStorage({})", self.place)
    }
}

impl Storage for RedbStorage {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        Ok(Box::new(RedbSnapshot::new(self.begin_read()?, self.place.clone())))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        self.write(batch, durability, Extent::Whole)
    }

    fn abandon(&self, mut batch: Batch, staged: usize) -> Result<(), StorageError> {
        batch.check_limits()?;
        batch.truncate(staged);
        self.write(batch, Durability::Immediate, Extent::Abandoned)
    }

    fn stats(&self) -> Result<Vec<TableStats>, StorageError> {
        let transaction = self.begin_read()?;
        let tables =
            transaction.list_tables().map_err(|error| failure::storage(&self.place, error))?;
        let mut stats = tables
            .map(|handle| {
                let name = handle.name().to_owned();
                let table = transaction
                    .open_untyped_table(handle)
                    .map_err(|error| failure::table(&self.place, error))?;
                table_stats(name, &table).map_err(|error| failure::storage(&self.place, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        stats.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(stats)
    }

    fn compact(&self) -> Result<bool, StorageError> {
        let mut handle = self.database.write().map_err(|_| self.refusal())?;
        let Handle::Writable(database) = &mut *handle else {
            return Err(StorageError::ReadOnly {
                place: self.place.clone(),
                detail: "opened for reading only".to_owned(),
            });
        };
        database.compact().map_err(|error| failure::compaction(&self.place, error))
    }

    fn engine(&self) -> &'static str {
        ENGINE
    }
}

fn table_stats(
    name: String,
    table: &redb::ReadOnlyUntypedTable,
) -> Result<TableStats, redb::StorageError> {
    let stats = table.stats()?;
    Ok(TableStats {
        name,
        entries: table.len()?,
        stored_bytes: stats.stored_bytes(),
        metadata_bytes: stats.metadata_bytes(),
        fragmented_bytes: stats.fragmented_bytes(),
    })
}

#[cfg(all(test, unix))]
mod tests;
