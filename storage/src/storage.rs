//! The interface every engine offers and what it promises.
//!
//! Nothing here is specific to an engine, and no engine promises less than is written here.

use std::{fmt::Debug, sync::Arc};

use crate::{Batch, Direction, KeyRange, StorageError, Table, TableStats, Value};

/// When a commit may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the batch survives a power cut, and with it every batch committed before.
    Immediate,
    /// When the batch is visible. It becomes durable with the next `Immediate` commit; a crash
    /// before that loses it and everything after it, and never a batch without those that
    /// followed.
    ///
    /// Not free of charge in redb: pages written by such commits are settled by the next
    /// durable one, which after 40 of them took 0.3 s with a million entries and 5.8 s with ten
    /// million. Commit durably every few batches.
    None,
}

/// A key and its value.
pub type Entry = (Value, Value);

/// Entries of a scan, read as it proceeds.
pub type EntryIterator<'a> = Box<dyn Iterator<Item = Result<Entry, StorageError>> + 'a>;

/// Gives one batch after the other until there is none.
pub type NextPart<'a> = &'a mut dyn FnMut() -> Result<Option<Batch>, StorageError>;

/// Named ordered tables behind one handle that any number of threads may share.
///
/// **Atomicity.** After a commit, and after any failure, crash or power cut followed by opening
/// the storage again, a batch is there as a whole or not at all.
///
/// **Isolation.** A snapshot shows the batches whose commit returned before it was taken, all of
/// each, and nothing that is committed while it lives. Readers never wait for a writer nor a
/// writer for readers.
///
/// **Order.** Commits happen one after another, in the order in which the calls get their turn.
/// Keys are ordered as unsigned bytes.
///
/// **Durability.** What [`Durability`] says.
///
/// **After a failure.** A batch above the [`limits`](crate::limits) is refused before anything is
/// written, and the handle stays good. After any other failed commit the handle refuses to
/// write ([`StorageError::Poisoned`]): whether the batch took effect is known only once the
/// storage is opened again. Reads go on as far as the engine can serve them.
pub trait Storage: Send + Sync + Debug {
    /// A consistent read view of what is committed now.
    ///
    /// # Errors
    ///
    /// If the engine cannot read its current state.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError>;

    /// Makes all changes of a batch visible at once, or none of them.
    ///
    /// # Errors
    ///
    /// [`StorageError::Limit`] with nothing changed; any other error leaves the handle refusing
    /// to write.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StorageError>;

    /// Commits the batches that `next` gives, in their order, as if they were one: for changes that
    /// together would take much memory. The limit of a batch is that of each. `next` reads of
    /// this storage from a snapshot that was taken before: one that it took itself might wait for
    /// this commit.
    ///
    /// # Errors
    ///
    /// As [`Storage::commit`]; an error of `next` as it is, with nothing changed.
    fn commit_parts(&self, next: NextPart<'_>, durability: Durability) -> Result<(), StorageError> {
        let mut whole = Batch::new();
        while let Some(part) = next()? {
            whole.append(part);
        }
        self.commit(whole, durability)
    }

    /// Stages the first `staged` changes of a batch as a commit would, then abandons them: what
    /// a process that dies inside a commit leaves behind. Nothing becomes visible. For fault
    /// injection.
    ///
    /// # Errors
    ///
    /// As [`Storage::commit`].
    fn abandon(&self, batch: Batch, staged: usize) -> Result<(), StorageError>;

    /// The size of every table that exists, ordered by name. May read every page: for tools and
    /// slow metrics, not for each block.
    ///
    /// # Errors
    ///
    /// If the engine cannot read its tables.
    fn stats(&self) -> Result<Vec<TableStats>, StorageError>;

    /// Gives unused space back to the file system; whether there was any. Reads everything first,
    /// waits for nothing and lets nothing else run meanwhile: for tools, not for a node at work.
    ///
    /// # Errors
    ///
    /// [`StorageError::Busy`] while a snapshot lives, [`StorageError::Unsupported`] if the engine
    /// has no such operation.
    fn compact(&self) -> Result<bool, StorageError> {
        Err(StorageError::Unsupported { engine: self.engine(), operation: "compact" })
    }

    /// Name of the engine, as configuration has it: `redb` or `memory`.
    fn engine(&self) -> &'static str;
}

/// A read view of one moment, good for as long as it is kept.
///
/// Keep it for as short a time as the work allows: space that newer commits free cannot be used
/// again while an older view is alive.
pub trait Snapshot: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// If the engine cannot read it.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Value>, StorageError>;

    /// The entries of a range in key order or in reverse.
    ///
    /// # Errors
    ///
    /// If the engine cannot begin the scan; each step may fail as well, and the scan then ends.
    fn range(
        &self,
        table: Table,
        range: KeyRange,
        direction: Direction,
    ) -> Result<EntryIterator<'_>, StorageError>;

    /// The first entry of a range.
    ///
    /// # Errors
    ///
    /// If the engine cannot read it.
    fn first(&self, table: Table, range: KeyRange) -> Result<Option<Entry>, StorageError> {
        self.range(table, range, Direction::Forward)?.next().transpose()
    }

    /// The last entry of a range.
    ///
    /// # Errors
    ///
    /// If the engine cannot read it.
    fn last(&self, table: Table, range: KeyRange) -> Result<Option<Entry>, StorageError> {
        self.range(table, range, Direction::Reverse)?.next().transpose()
    }
}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        (**self).snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        (**self).commit(batch, durability)
    }

    fn commit_parts(&self, next: NextPart<'_>, durability: Durability) -> Result<(), StorageError> {
        (**self).commit_parts(next, durability)
    }

    fn abandon(&self, batch: Batch, staged: usize) -> Result<(), StorageError> {
        (**self).abandon(batch, staged)
    }

    fn stats(&self) -> Result<Vec<TableStats>, StorageError> {
        (**self).stats()
    }

    fn compact(&self) -> Result<bool, StorageError> {
        (**self).compact()
    }

    fn engine(&self) -> &'static str {
        (**self).engine()
    }
}
