//! The state as the engine reads it: newest writes in memory, the rest on disk.

use std::cell::RefCell;
use std::sync::{Arc, RwLockReadGuard};

use ait_engine::state::{GROUP_LEVEL, Key, Leaf, StateView, Value};
use ait_engine::types::Hash;
use ait_storage::{Direction, KeyRange, Snapshot, StorageError, Value as Stored};

use super::numbers::Numbers;
use super::state::Shared;
use super::tables::{
    KEYS, LEAVES, LEAVES_PER_CHUNK, LONG_VALUE_MARK, LONG_VALUES, NODE_ROWS, NODES, access_leaves,
    access_nodes,
};

/// Why the state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The storage engine failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A row is missing or not what it must be.
    #[error("{what}")]
    Corrupt {
        /// What and where.
        what: String,
    },
}

pub(super) fn corrupt(what: String) -> ViewError {
    ViewError::Corrupt { what }
}

/// Where a node lies: key of its chunk and position therein.
pub(super) fn node_place(level: u8, index: u64) -> ([u8; 9], usize) {
    let above = level.saturating_sub(GROUP_LEVEL);
    let (tier, row) = (above / NODE_ROWS, above % NODE_ROWS);
    let width_bits = u32::from(NODE_ROWS - 1 - row);
    let within = index & ((1 << width_bits) - 1);
    let mut key = [0; 9];
    key[0] = tier;
    key[1..].copy_from_slice(&(index >> width_bits).to_be_bytes());
    // Rows of 32, 16, .. nodes one after another.
    (key, (64 - (64 >> row)) + usize::try_from(within).unwrap_or(0))
}

/// A slot of a leaf chunk.
pub(super) fn slot(leaf: &Leaf) -> [u8; 64] {
    leaf.inline_block().unwrap_or_else(|| {
        let mut slot = [0; 64];
        slot[..32].copy_from_slice(&leaf.key.0);
        slot[32..40].copy_from_slice(&leaf.next.to_le_bytes());
        slot[40] = LONG_VALUE_MARK;
        slot
    })
}

/// The state on disk at one checkpoint.
#[derive(Clone)]
pub(super) struct DiskView {
    pub(super) entry_count: u64,
    pub(super) snapshot: Arc<dyn Snapshot>,
}

impl DiskView {
    pub(super) fn number_of(&self, key: &Key) -> Result<Option<u64>, ViewError> {
        self.snapshot.get(KEYS, &key.0)?.map(|bytes| number(&bytes)).transpose()
    }

    pub(super) fn key_below(&self, key: &Key) -> Result<Option<(Key, u64)>, ViewError> {
        let mut below = self.snapshot.range(KEYS, KeyRange::before(key.0), Direction::Reverse)?;
        let Some(entry) = below.next() else { return Ok(None) };
        let (found, value) = entry?;
        let found = <[u8; 32]>::try_from(&*found)
            .map_err(|_| corrupt("a state key is not 32 bytes long".to_owned()))?;
        Ok(Some((Key(found), number(&value)?)))
    }

    /// The chunk of leaves with this number, to be read by [`DiskView::leaves`].
    fn chunk(&self, chunk: u64) -> Result<Stored, ViewError> {
        let missing = || corrupt(format!("the state has no chunk {chunk} of leaves"));
        self.snapshot.get(LEAVES, &chunk.to_be_bytes())?.ok_or_else(missing)
    }

    /// Leaves of one chunk, in order.
    fn leaves(&self, chunk: &[u8], first: u64, end: u64) -> Result<Vec<Leaf>, ViewError> {
        let missing = || corrupt(format!("the state has no leaves {first} to {end}"));
        let at = first % LEAVES_PER_CHUNK;
        let slots = &access_leaves(chunk).map_err(corrupt)?.slots;
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let slots = slots.get(place(at)..place(at + (end - first))).ok_or_else(missing)?;
        let numbered = (first..end).zip(slots);
        numbered.map(|(number, slot)| self.read_slot(number, slot)).collect()
    }

    fn read_slot(&self, number: u64, slot: &[u8; 64]) -> Result<Leaf, ViewError> {
        let missing = || corrupt(format!("the state has no leaf {number}"));
        let (key, rest) = slot.split_first_chunk::<32>().ok_or_else(missing)?;
        let (next, value) = rest.split_first_chunk::<8>().ok_or_else(missing)?;
        let value = if value.first() == Some(&LONG_VALUE_MARK) {
            let long =
                self.snapshot.get(LONG_VALUES, &number.to_be_bytes())?.ok_or_else(missing)?;
            Value::from_bytes(&long)
        } else {
            Value::from_bytes(value)
        };
        let value = value.map_err(|error| corrupt(format!("leaf {number}: {error}")))?;
        Ok(Leaf { key: Key(*key), next: u64::from_le_bytes(*next), value })
    }

    pub(super) fn node(&self, level: u8, index: u64) -> Result<Hash, ViewError> {
        let missing = || corrupt(format!("the state has no node {index} at level {level}"));
        let (key, at) = node_place(level, index);
        let bytes = self.snapshot.get(NODES, &key)?.ok_or_else(missing)?;
        let chunk = access_nodes(&bytes).map_err(corrupt)?;
        chunk.hashes.get(at).map(|hash| Hash(*hash)).ok_or_else(missing)
    }
}

fn number(bytes: &[u8]) -> Result<u64, ViewError> {
    let bytes =
        bytes.try_into().map_err(|_| corrupt("an entry number is not 8 bytes".to_owned()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// One consistent read view of the state at the head. Writers wait while it lives: keep it short.
pub struct StateReader<'a> {
    pub(super) shared: RwLockReadGuard<'a, Shared>,
    numbers: &'a Numbers,
    /// The chunk of leaves that was read last, and its number: a commitment reads the leaves
    /// of a block in the order of their numbers, many of each chunk.
    chunk: RefCell<Option<(u64, Stored)>>,
}

impl<'a> StateReader<'a> {
    pub(super) const fn new(shared: RwLockReadGuard<'a, Shared>, numbers: &'a Numbers) -> Self {
        Self { shared, numbers, chunk: RefCell::new(None) }
    }

    /// Leaves on disk of one chunk, in order.
    fn leaves_on_disk(&self, first: u64, end: u64) -> Result<Vec<Leaf>, ViewError> {
        let (disk, wanted) = (&self.shared.disk, first / LEAVES_PER_CHUNK);
        let mut kept = self.chunk.borrow_mut();
        let chunk = match &mut *kept {
            Some((number, chunk)) if *number == wanted => chunk,
            other => &mut other.insert((wanted, disk.chunk(wanted)?)).1,
        };
        disk.leaves(chunk, first, end)
    }
}

impl StateView for StateReader<'_> {
    type Error = ViewError;

    fn entry_count(&self) -> Result<u64, ViewError> {
        let in_memory = self.shared.layers().find_map(|layer| layer.entry_count());
        Ok(in_memory.unwrap_or(self.shared.disk.entry_count))
    }

    fn number_of(&self, key: &Key) -> Result<Option<u64>, ViewError> {
        match self.shared.layers().find_map(|layer| layer.number_of(key)) {
            Some(number) => Ok(Some(number)),
            None => match self.numbers.get(key) {
                Some(number) => Ok(Some(number)),
                None => {
                    let found = self.shared.disk.number_of(key)?;
                    if let Some(number) = found {
                        self.numbers.put(key, number);
                    }
                    Ok(found)
                }
            },
        }
    }

    fn number_below(&self, key: &Key) -> Result<u64, ViewError> {
        let in_memory = self.shared.layers().filter_map(|layer| layer.key_below(key)).max();
        let below = in_memory.max(self.shared.disk.key_below(key)?);
        Ok(below.map_or(0, |(_, number)| number))
    }

    fn leaf(&self, number: u64) -> Result<Leaf, ViewError> {
        match self.shared.layers().find_map(|layer| layer.leaf(number)) {
            Some(leaf) => Ok(leaf.clone()),
            None => {
                let missing = || corrupt(format!("the state has no leaf {number}"));
                self.leaves_on_disk(number, number + 1)?.pop().ok_or_else(missing)
            }
        }
    }

    fn leaves(&self, first: u64, end: u64) -> Result<Vec<Leaf>, ViewError> {
        // Entries that are only in memory come after those on disk.
        let on_disk = end.min(self.shared.disk.entry_count);
        let mut leaves: Vec<Option<Leaf>> = if first < on_disk {
            self.leaves_on_disk(first, on_disk)?.into_iter().map(Some).collect()
        } else {
            Vec::new()
        };
        leaves.resize(usize::try_from(end.saturating_sub(first)).unwrap_or(0), None);
        let layers: Vec<_> = self.shared.layers().collect();
        for layer in layers.into_iter().rev() {
            // The newest layer comes last and wins.
            for (number, leaf) in layer.leaves_between(first, end) {
                let place = usize::try_from(number - first).unwrap_or(usize::MAX);
                if let Some(slot) = leaves.get_mut(place) {
                    *slot = Some(leaf.clone());
                }
            }
        }
        let whole: Option<Vec<Leaf>> = leaves.into_iter().collect();
        whole.ok_or_else(|| corrupt(format!("the state has no leaves {first} to {end}")))
    }

    fn node(&self, level: u8, index: u64) -> Result<Hash, ViewError> {
        match self.shared.layers().find_map(|layer| layer.node(level, index)) {
            Some(hash) => Ok(hash),
            None => self.shared.disk.node(level, index),
        }
    }
}
