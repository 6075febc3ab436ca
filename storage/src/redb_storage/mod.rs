//! The engine that keeps tables in one redb file: what a node runs on by default.
//!
//! A commit is two-phase and records redb's page allocation (its "quick repair") unless the
//! options say otherwise: opening after a crash then takes no time that grows with the file, and
//! never trusts a page because a fast checksum happened to match.
//!
//! No table's meaning, no retry, and no second writer to one file.

mod commit;
mod contain;
mod damage;
mod disk;
mod failure;
mod mend;
mod open;
mod snapshot;
mod watched;

use std::{
    fmt,
    io::{self, ErrorKind},
    path::Path,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{
    Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTableMetadata,
    TableHandle,
};

use crate::{
    Batch, Durability, NextPart, Place, Snapshot, Storage, StorageError, TableStats,
    redb_storage::{commit::Extent, contain::contain, snapshot::RedbSnapshot},
};

pub use contain::{PanicIn, note_panic};
pub use disk::{DiskFault, SimulatedDisk};
pub use mend::Mend;

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
    /// Locked for writing only by what needs the file to itself; `None` once it is closed.
    database: RwLock<Option<Handle>>,
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

    fn close(self) -> Result<(), redb::DatabaseError> {
        match self {
            Self::Writable(database) => database.close(),
            Self::ReadOnly(database) => database.close(),
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
        let place = Place::Path(path.to_owned());
        match contain(&place, || open::open(path, options)) {
            Ok(database) => Ok(Self::new(Handle::Writable(database), place, options)),
            Err(error) => Err(damage::located(error, path, options)),
        }
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
        let place = Place::Path(path.to_owned());
        let database = contain(&place, || open::open_read_only(path, options))?;
        Ok(Self::new(Handle::ReadOnly(database), place, options))
    }

    /// Opens the file of a simulated disk, or makes it if the disk is empty.
    ///
    /// # Errors
    ///
    /// As [`RedbStorage::open`].
    pub fn on_disk(disk: &SimulatedDisk, options: &RedbOptions) -> Result<Self, StorageError> {
        let place = Place::Path("simulated.redb".into());
        let database = contain(&place, || open::open_on(disk.clone(), &place, options))?;
        Ok(Self::new(Handle::Writable(database), place, options))
    }

    /// Closes the file, making every commit durable, and releases its lock. Dropping does the
    /// same and cannot report a failure.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; durable commits are safe nevertheless.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), StorageError> {
        let handle = self.database.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(handle) = handle else { return Ok(()) };
        contain(&self.place, || {
            handle.close().map_err(|error| failure::database(&self.place, error))
        })
    }

    fn new(handle: Handle, place: Place, options: &RedbOptions) -> Self {
        Self {
            database: RwLock::new(Some(handle)),
            place,
            quick_repair: options.quick_repair,
            poisoned: AtomicBool::new(false),
        }
    }

    fn begin_read(&self) -> Result<ReadTransaction, StorageError> {
        let database = self.database.read().map_err(|_| self.refusal())?;
        let handle = database.as_ref().ok_or_else(|| self.refusal())?;
        handle.begin_read().map_err(|error| failure::transaction(&self.place, error))
    }

    fn refusal(&self) -> StorageError {
        StorageError::Poisoned { place: self.place.clone() }
    }

    fn only_readable(&self) -> StorageError {
        let source = io::Error::new(ErrorKind::PermissionDenied, "opened for reading only");
        StorageError::ReadOnly { place: self.place.clone(), source }
    }

    fn write(
        &self,
        next: NextPart<'_>,
        durability: Durability,
        extent: Extent,
    ) -> Result<(), StorageError> {
        let handle = self.database.read().map_err(|_| self.refusal())?;
        let Some(Handle::Writable(database)) = &*handle else {
            return Err(self.only_readable());
        };
        let commit = commit::Commit {
            database,
            place: &self.place,
            quick_repair: self.quick_repair,
            poisoned: &self.poisoned,
        };
        let written = contain(&self.place, || commit.run(next, durability, extent));
        if written.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        written?
    }

    fn write_one(
        &self,
        batch: Batch,
        durability: Durability,
        extent: Extent,
    ) -> Result<(), StorageError> {
        batch.check_limits()?;
        let mut batch = Some(batch);
        self.write(&mut || Ok(batch.take()), durability, extent)
    }
}

impl Drop for RedbStorage {
    fn drop(&mut self) {
        // Whoever wants to know of a failure closes; durable commits are safe.
        let _ = self.shut();
    }
}

impl fmt::Debug for RedbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedbStorage({})", self.place)
    }
}

impl Storage for RedbStorage {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        let transaction = contain(&self.place, || self.begin_read())?;
        Ok(Box::new(RedbSnapshot::new(transaction, self.place.clone())))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        self.write_one(batch, durability, Extent::Whole)
    }

    fn commit_parts(&self, next: NextPart<'_>, durability: Durability) -> Result<(), StorageError> {
        self.write(next, durability, Extent::Whole)
    }

    fn abandon(&self, mut batch: Batch, staged: usize) -> Result<(), StorageError> {
        batch.check_limits()?;
        batch.truncate(staged);
        self.write_one(batch, Durability::Immediate, Extent::Abandoned)
    }

    fn stats(&self) -> Result<Vec<TableStats>, StorageError> {
        contain(&self.place, || {
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
        })
    }

    fn compact(&self) -> Result<bool, StorageError> {
        let mut handle = self.database.write().map_err(|_| self.refusal())?;
        let Some(Handle::Writable(database)) = &mut *handle else {
            return Err(self.only_readable());
        };
        contain(&self.place, || {
            // redb commits until its lists of free pages are empty, which they never are when an
            // entry is damaged: compaction would go on for ever.
            let whole = database
                .check_integrity()
                .map_err(|error| failure::integrity(&self.place, error))?;
            if !whole {
                return Err(failure::corrupt(&self.place, "pages differ from their checksums"));
            }
            database.compact().map_err(|error| failure::compaction(&self.place, error))
        })
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
