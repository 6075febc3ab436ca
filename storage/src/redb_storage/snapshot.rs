//! Reading from one redb read transaction.
//!
//! Nothing here copies a value.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use redb::{OwnedRange, ReadOnlyTable, ReadTransaction, TableError};

use crate::{
    Direction, Entry, EntryIterator, KeyRange, Place, Snapshot, StorageError, Table, Value,
    redb_storage::{commit::definition, contain::contain, failure},
};

type OpenTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

pub(super) struct RedbSnapshot {
    transaction: ReadTransaction,
    place: Place,
    /// Tables opened so far, because opening one looks its name up in the file; `None` for those
    /// that do not exist, and in this view never will.
    tables: RwLock<BTreeMap<Table, Option<Arc<OpenTable>>>>,
}

impl RedbSnapshot {
    pub(super) fn new(transaction: ReadTransaction, place: Place) -> Self {
        Self { transaction, place, tables: RwLock::default() }
    }

    fn table(&self, table: Table) -> Result<Option<Arc<OpenTable>>, StorageError> {
        // The map is changed by single insertions, so that a panic elsewhere leaves it sound.
        let known = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&table).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let opened = match self.transaction.open_table(definition(table)) {
            Ok(open) => Some(Arc::new(open)),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(failure::table(&self.place, error)),
        };
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.insert(table, opened.clone());
        Ok(opened)
    }
}

impl Snapshot for RedbSnapshot {
    fn get(&self, name: Table, key: &[u8]) -> Result<Option<Value>, StorageError> {
        contain(&self.place, || {
            let Some(table) = self.table(name)? else {
                return Ok(None);
            };
            let value =
                table.get_owned(key).map_err(|error| failure::storage(&self.place, error))?;
            Ok(value.map(Value::redb))
        })
        .map_err(|error| failure::in_table(name, error))
    }

    fn range(
        &self,
        name: Table,
        range: KeyRange,
        direction: Direction,
    ) -> Result<EntryIterator<'_>, StorageError> {
        let rest = contain(&self.place, || {
            let Some(table) = self.table(name)?.filter(|_| !range.is_empty()) else {
                return Ok(None);
            };
            let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (range.start(), range.end());
            let found = table.range_owned::<&[u8]>(bounds);
            found.map(Some).map_err(|error| failure::storage(&self.place, error))
        })
        .map_err(|error| failure::in_table(name, error))?;
        Ok(Box::new(Scan { rest, direction, name, place: &self.place }))
    }
}

/// A scan in progress; it ends with its first failure.
struct Scan<'a> {
    rest: Option<OwnedRange<&'static [u8], &'static [u8]>>,
    direction: Direction,
    name: Table,
    place: &'a Place,
}

impl Iterator for Scan<'_> {
    type Item = Result<Entry, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.as_mut()?;
        let found = contain(self.place, || {
            let found = match self.direction {
                Direction::Forward => rest.next(),
                Direction::Reverse => rest.next_back(),
            };
            let Some(found) = found else { return Ok(None) };
            let (key, value) = found.map_err(|error| failure::storage(self.place, error))?;
            Ok(Some((Value::redb(key), Value::redb(value))))
        })
        .map_err(|error| failure::in_table(self.name, error));
        if !matches!(found, Ok(Some(_))) {
            self.rest = None;
        }
        found.transpose()
    }
}
