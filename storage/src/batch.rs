//! Changes that become visible together.
//!
//! A batch holds bytes and reads nothing: it cannot depend on what is stored.

use std::{collections::BTreeMap, fmt};

use crate::{
    KeyRange, LimitKind, StorageError, Table,
    limits::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX},
};

/// An ordered list of changes to any number of tables, committed as one.
///
/// The outcome is that of applying the changes in the order they were given: of two to one key
/// the later wins, and a put after a range was deleted stays. Engines apply what remains in key
/// order, because inserting sorted keys is several times faster than inserting shuffled ones.
#[derive(Clone, Default)]
pub struct Batch {
    tables: BTreeMap<Table, TableChanges>,
    bytes: usize,
}

/// What a batch does to one table: first clear the ranges, then set the entries.
#[derive(Clone, Default)]
pub(crate) struct TableChanges {
    pub(crate) cleared: Vec<KeyRange>,
    /// Value to put, or `None` to delete.
    pub(crate) entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a key.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.set(table, key.into(), Some(value.into()));
    }

    /// Removes a key, which need not exist.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.set(table, key.into(), None);
    }

    /// Removes every key of the range, those put earlier in this batch included.
    pub fn delete_range(&mut self, table: Table, range: KeyRange) {
        if range.is_empty() {
            return;
        }
        let changes = self.tables.entry(table).or_default();
        let mut freed = 0;
        changes.entries.retain(|key, value| {
            let kept = !range.contains(key);
            if !kept {
                freed += entry_bytes(key.len(), value.as_deref());
            }
            kept
        });
        self.bytes = self.bytes.saturating_sub(freed);
        if range.is_all() {
            changes.cleared.clear();
        }
        changes.cleared.push(range);
    }

    /// Whether committing the batch would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of changes that remain: keys set or removed, and ranges removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.values().map(|changes| changes.cleared.len() + changes.entries.len()).sum()
    }

    /// Bytes of the keys and values that remain.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the changes of another batch after those of this one.
    pub fn append(&mut self, later: Self) {
        for (table, changes) in later.tables {
            for range in changes.cleared {
                self.delete_range(table, range);
            }
            for (key, value) in changes.entries {
                self.set(table, key, value);
            }
        }
    }

    /// Refuses a batch that holds anything above the limits.
    ///
    /// # Errors
    ///
    /// [`StorageError::Limit`] for the first key, value or total that is too large.
    pub fn check_limits(&self) -> Result<(), StorageError> {
        for changes in self.tables.values() {
            for (key, value) in &changes.entries {
                check(LimitKind::Key, KEY_BYTES_MAX, key.len())?;
                check(LimitKind::Value, VALUE_BYTES_MAX, value.as_ref().map_or(0, Vec::len))?;
            }
        }
        check(LimitKind::Batch, BATCH_BYTES_MAX, self.bytes)
    }

    pub(crate) fn into_tables(self) -> BTreeMap<Table, TableChanges> {
        self.tables
    }

    /// Keeps the first `count` changes in the order an engine applies them.
    pub(crate) fn truncate(&mut self, count: usize) {
        let mut room = count;
        for changes in self.tables.values_mut() {
            changes.cleared.truncate(room);
            room -= changes.cleared.len();
            if let Some(key) = changes.entries.keys().nth(room).cloned() {
                changes.entries.split_off(&key);
            }
            room -= changes.entries.len();
        }
        self.tables.retain(|_, changes| !changes.cleared.is_empty() || !changes.entries.is_empty());
        self.bytes = self
            .tables
            .values()
            .flat_map(|changes| &changes.entries)
            .map(|(key, value)| entry_bytes(key.len(), value.as_deref()))
            .sum();
    }

    fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let key_bytes = key.len();
        self.bytes = self.bytes.saturating_add(entry_bytes(key_bytes, value.as_deref()));
        let replaced = self.tables.entry(table).or_default().entries.insert(key, value);
        if let Some(replaced) = replaced {
            self.bytes = self.bytes.saturating_sub(entry_bytes(key_bytes, replaced.as_deref()));
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} changes, {} bytes)", self.len(), self.bytes)
    }
}

fn entry_bytes(key_bytes: usize, value: Option<&[u8]>) -> usize {
    key_bytes.saturating_add(value.map_or(0, <[u8]>::len))
}

fn check(what: LimitKind, expected: usize, found: usize) -> Result<(), StorageError> {
    if found > expected {
        return Err(StorageError::Limit { what, expected, found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: Table = Table::new("a");
    const B: Table = Table::new("b");

    #[test]
    fn later_change_to_a_key_replaces_the_earlier_and_its_bytes() {
        let mut batch = Batch::new();
        batch.put(A, *b"key", *b"long value");
        batch.put(A, *b"key", *b"v");
        assert_eq!((batch.len(), batch.bytes()), (1, 4));
        batch.delete(A, *b"key");
        assert_eq!((batch.len(), batch.bytes()), (1, 3));
    }

    #[test]
    fn deleting_a_range_drops_what_was_staged_in_it() {
        let mut batch = Batch::new();
        batch.put(A, [1], [1, 1]);
        batch.put(A, [2], [2, 2]);
        batch.put(B, [1], [3]);
        batch.delete_range(A, KeyRange::up_to([1]));
        assert_eq!((batch.len(), batch.bytes()), (3, 5));
        let tables = batch.into_tables();
        assert_eq!(tables.get(&A).unwrap().entries.len(), 1);
        assert_eq!(tables.get(&B).unwrap().entries.len(), 1);
    }

    #[test]
    fn empty_range_changes_nothing() {
        let mut batch = Batch::new();
        batch.delete_range(A, KeyRange::between([2], [1]));
        assert!(batch.is_empty());
    }

    #[test]
    fn appended_changes_come_last() {
        let mut first = Batch::new();
        first.put(A, [1], [1]);
        first.put(A, [2], [2]);
        let mut second = Batch::new();
        second.delete_range(A, KeyRange::all());
        second.put(A, [2], [9]);
        first.append(second);
        let tables = first.into_tables();
        let changes = tables.get(&A).unwrap();
        assert_eq!(changes.cleared, [KeyRange::all()]);
        assert_eq!(changes.entries, BTreeMap::from([(vec![2], Some(vec![9]))]));
    }

    #[test]
    fn truncated_batch_keeps_that_many_changes() {
        let mut batch = Batch::new();
        for key in 0..5_u8 {
            batch.put(A, [key], [key]);
            batch.put(B, [key], [key, key]);
        }
        for count in 0..=10 {
            let mut part = batch.clone();
            part.truncate(count);
            assert_eq!(part.len(), count);
            assert_eq!(part.bytes(), count.min(5) * 2 + count.saturating_sub(5) * 3);
        }
    }

    #[test]
    fn rejects_key_and_value_above_the_limit_by_one() {
        let mut batch = Batch::new();
        batch.put(A, vec![0; KEY_BYTES_MAX], vec![0; VALUE_BYTES_MAX]);
        batch.check_limits().unwrap();
        let mut long_key = batch.clone();
        long_key.put(A, vec![0; KEY_BYTES_MAX + 1], []);
        assert!(matches!(
            long_key.check_limits(),
            Err(StorageError::Limit { what: LimitKind::Key, expected: KEY_BYTES_MAX, found }) if found == KEY_BYTES_MAX + 1
        ));
        batch.put(A, [], vec![0; VALUE_BYTES_MAX + 1]);
        assert!(matches!(
            batch.check_limits(),
            Err(StorageError::Limit { what: LimitKind::Value, .. })
        ));
    }
}
