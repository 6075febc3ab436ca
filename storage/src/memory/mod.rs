//! The engine that keeps everything in memory: for tests, the simulator and throw-away chains.
//!
//! No file, and no failure of its own.

mod entries;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use entries::Entries;

use crate::{
    Batch, Direction, Durability, EntryIterator, KeyRange, NextPart, Snapshot, Storage,
    StorageError, Table, TableStats, Value, batch::TableChanges,
};

type Tables = BTreeMap<Table, Arc<Entries>>;

/// Tables in memory, shared between a writer and its snapshots until either changes.
///
/// It keeps the state of the last durable commit as well, so that [`MemoryStorage::recover`] can
/// show what a power cut would have left.
#[derive(Default)]
pub struct MemoryStorage {
    versions: Mutex<Versions>,
    /// Held by the one commit that prepares a version, so that readers need not wait for it.
    writer: Mutex<()>,
}

#[derive(Clone, Default)]
struct Versions {
    visible: Arc<Tables>,
    durable: Arc<Tables>,
}

impl MemoryStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new handle on what a process would find after a power cut now: the state as of the last
    /// commit with [`Durability::Immediate`].
    #[must_use]
    pub fn recover(&self) -> Self {
        let durable = Arc::clone(&self.lock().durable);
        Self {
            versions: Mutex::new(Versions { visible: Arc::clone(&durable), durable }),
            writer: Mutex::default(),
        }
    }

    /// No code that holds the lock leaves the versions half changed, even if it panics.
    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStorage({} tables)", self.lock().visible.len())
    }
}

impl Storage for MemoryStorage {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        Ok(Box::new(MemorySnapshot(Arc::clone(&self.lock().visible))))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        let mut batch = Some(batch);
        self.commit_parts(&mut || Ok(batch.take()), durability)
    }

    fn commit_parts(
        &self,
        parts: NextPart<'_>,
        durability: Durability,
    ) -> Result<(), StorageError> {
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Tables::clone(&self.lock().visible);
        while let Some(part) = parts()? {
            part.check_limits()?;
            apply(&mut next, part);
        }
        let mut versions = self.lock();
        versions.visible = Arc::new(next);
        if durability == Durability::Immediate {
            versions.durable = Arc::clone(&versions.visible);
        }
        Ok(())
    }

    fn abandon(&self, mut batch: Batch, staged: usize) -> Result<(), StorageError> {
        batch.check_limits()?;
        batch.truncate(staged);
        let mut abandoned = Tables::clone(&self.lock().visible);
        apply(&mut abandoned, batch);
        Ok(())
    }

    fn stats(&self) -> Result<Vec<TableStats>, StorageError> {
        let tables = Arc::clone(&self.lock().visible);
        Ok(tables.iter().map(|(table, entries)| entries.stats(*table)).collect())
    }

    fn engine(&self) -> &'static str {
        "memory"
    }
}

fn apply(tables: &mut Tables, batch: Batch) {
    for (table, TableChanges { cleared, entries: changed }) in batch.into_tables() {
        let entries = Arc::make_mut(tables.entry(table).or_default());
        for range in &cleared {
            entries.remove_range(range);
        }
        for (key, value) in changed {
            match value {
                Some(value) => entries.insert(&key, value.into()),
                None => entries.remove(&key),
            }
        }
    }
}

struct MemorySnapshot(Arc<Tables>);

impl Snapshot for MemorySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Value>, StorageError> {
        let value = self.0.get(&table).and_then(|entries| entries.get(key));
        Ok(value.map(|value| Value::shared(Arc::clone(value))))
    }

    fn range(
        &self,
        table: Table,
        range: KeyRange,
        direction: Direction,
    ) -> Result<EntryIterator<'_>, StorageError> {
        let Some(entries) = self.0.get(&table) else {
            return Ok(Box::new(std::iter::empty()));
        };
        let found = entries.range(range).map(|(key, value)| {
            Ok((Value::shared(Arc::clone(key)), Value::shared(Arc::clone(value))))
        });
        Ok(match direction {
            Direction::Forward => Box::new(found),
            Direction::Reverse => Box::new(found.rev()),
        })
    }
}
