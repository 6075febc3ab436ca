//! Writing one batch, or several as one, as one redb transaction.
//!
//! The only code of this engine that changes a file that is open.

use std::{
    ops::Bound,
    sync::atomic::{AtomicBool, Ordering},
};

use redb::{Database, TableDefinition, WriteTransaction};

use crate::{
    Batch, Durability, NextPart, Place, StorageError, Table,
    batch::TableChanges,
    redb_storage::{contain::outside, failure},
};

/// How far a commit goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// To its end.
    Whole,
    /// Until its changes are staged, and no further.
    Abandoned,
}

pub(super) struct Commit<'a> {
    pub(super) database: &'a Database,
    pub(super) place: &'a Place,
    pub(super) quick_repair: bool,
    pub(super) poisoned: &'a AtomicBool,
}

pub(super) fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

impl Commit<'_> {
    /// What was refused with nothing changed is the inner error.
    pub(super) fn run(
        &self,
        next: NextPart<'_>,
        durability: Durability,
        extent: Extent,
    ) -> Result<Result<(), StorageError>, StorageError> {
        let mut transaction =
            self.database.begin_write().map_err(|error| failure::transaction(self.place, error))?;
        // Looked at while this thread is the one writer: a commit that failed while this one
        // waited for its turn has set it.
        if self.poisoned.load(Ordering::Acquire) {
            return Err(StorageError::Poisoned { place: self.place.clone() });
        }
        let durability = match durability {
            Durability::Immediate => redb::Durability::Immediate,
            Durability::None => redb::Durability::None,
        };
        transaction
            .set_durability(durability)
            .map_err(|error| failure::durability(self.place, error))?;
        transaction.set_quick_repair(self.quick_repair);
        let abort = |transaction: WriteTransaction| {
            transaction.abort().map_err(|error| failure::storage(self.place, error))
        };
        loop {
            let given = match outside(&mut *next) {
                Ok(given) => given,
                Err(panic) => {
                    abort(transaction)?;
                    panic.go_on();
                }
            };
            let part = given.and_then(|part| {
                part.as_ref().map_or(Ok(()), Batch::check_limits)?;
                Ok(part)
            });
            match part {
                Ok(Some(part)) => {
                    for (table, changes) in part.into_tables() {
                        self.change(&transaction, table, changes)?;
                    }
                }
                Ok(None) => break,
                Err(refused) => return abort(transaction).map(|()| Err(refused)),
            }
        }
        match extent {
            Extent::Whole => {
                transaction.commit().map_err(|error| failure::commit(self.place, error))
            }
            Extent::Abandoned => abort(transaction),
        }
        .map(Ok)
    }

    fn change(
        &self,
        transaction: &WriteTransaction,
        table: Table,
        changes: TableChanges,
    ) -> Result<(), StorageError> {
        let TableChanges { mut cleared, entries } = changes;
        // Dropping a table frees its pages without visiting its entries.
        if cleared.first().is_some_and(crate::KeyRange::is_all) {
            cleared.remove(0);
            transaction
                .delete_table(definition(table))
                .map_err(|error| failure::table(self.place, error))?;
        }
        let mut open = transaction
            .open_table(definition(table))
            .map_err(|error| failure::table(self.place, error))?;
        for range in &cleared {
            let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (range.start(), range.end());
            open.retain_in::<&[u8], _>(bounds, |_, _| false)
                .map_err(|error| failure::storage(self.place, error))?;
        }
        for (key, value) in entries {
            let done = match &value {
                Some(value) => open.insert(key.as_slice(), value.as_slice()),
                None => open.remove(key.as_slice()),
            };
            done.map_err(|error| failure::storage(self.place, error))?;
        }
        Ok(())
    }
}
