//! The state as the engine reads it: pages in memory first, then the disk.

use std::sync::{Arc, RwLockReadGuard};

use ait_engine::state::{GROUP_LEAVES, GROUP_LEVEL, Key, Leaf, LeafBlocks, StateView, Value};
use ait_engine::types::Hash;
use ait_storage::{Direction, KeyRange, Snapshot, StorageError};

use super::numbers::Numbers;
use super::resident::Group;
use super::state::Shared;
use super::tables::{
    KEYS, LEAVES, LEAVES_PER_CHUNK, LONG_VALUE_MARK, LONG_VALUES, NODE_ROWS, NODES,
    NODES_PER_CHUNK, access_leaves, access_nodes,
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

/// Where a node lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodePlace {
    pub(super) tier: usize,
    /// Number of its chunk in the tier.
    pub(super) chunk: u64,
    /// Its place in the chunk.
    pub(super) at: usize,
}

impl NodePlace {
    pub(super) fn new(level: u8, index: u64) -> Self {
        let above = level.saturating_sub(GROUP_LEVEL);
        let (tier, row) = (above / NODE_ROWS, above % NODE_ROWS);
        let width_bits = u32::from(NODE_ROWS - 1 - row);
        let within = index & ((1 << width_bits) - 1);
        // Rows of 32, 16, .. nodes one after another.
        let at = (64 - (64 >> row)) + usize::try_from(within).unwrap_or(0);
        Self { tier: usize::from(tier), chunk: index >> width_bits, at }
    }
}

/// Key of a chunk of nodes.
pub(super) fn node_key(tier: usize, chunk: u64) -> [u8; 9] {
    let mut key = [0; 9];
    // The tree has at most 64 levels.
    key[0] = u8::try_from(tier).unwrap_or(u8::MAX);
    key[1..].copy_from_slice(&chunk.to_be_bytes());
    key
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

/// Whether the value is too long for the slot.
pub(super) fn is_long(slot: &[u8; 64]) -> bool {
    slot[40] == LONG_VALUE_MARK
}

/// The leaf in a slot; `long` gives the value that is too long for one.
pub(super) fn leaf_of(
    number: u64,
    slot: &[u8; 64],
    long: impl FnOnce() -> Result<Option<Value>, ViewError>,
) -> Result<Leaf, ViewError> {
    let missing = || corrupt(format!("the state has no leaf {number}"));
    let (key, rest) = slot.split_first_chunk::<32>().ok_or_else(missing)?;
    let (next, value) = rest.split_first_chunk::<8>().ok_or_else(missing)?;
    let value =
        if is_long(slot) { long()?.ok_or_else(missing)? } else { long_or_inline(number, value)? };
    Ok(Leaf { key: Key(*key), next: u64::from_le_bytes(*next), value })
}

fn long_or_inline(number: u64, bytes: &[u8]) -> Result<Value, ViewError> {
    Value::from_bytes(bytes).map_err(|error| corrupt(format!("leaf {number}: {error}")))
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

    /// The slots of a group; those after the last entry are empty, all of them perhaps.
    pub(super) fn group(&self, group: u64) -> Result<Group, ViewError> {
        let first = group.saturating_mul(GROUP_LEAVES);
        let end = self.entry_count.min(first.saturating_add(GROUP_LEAVES));
        let mut slots = Group::default();
        let Some(count) = end.checked_sub(first).filter(|count| *count > 0) else {
            return Ok(slots);
        };
        let missing = || corrupt(format!("the state has no leaves {first} to {end}"));
        let chunk = (first / LEAVES_PER_CHUNK).to_be_bytes();
        let bytes = self.snapshot.get(LEAVES, &chunk)?.ok_or_else(missing)?;
        let stored = &access_leaves(&bytes).map_err(corrupt)?.slots;
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let at = first % LEAVES_PER_CHUNK;
        let stored = stored.get(place(at)..place(at + count)).ok_or_else(missing)?;
        for (slot, stored) in slots.0.iter_mut().zip(stored) {
            *slot = *stored;
        }
        Ok(slots)
    }

    /// All slots of the chunk that a group is in, and the number of its first entry.
    pub(super) fn chunk(&self, group: u64) -> Result<(u64, Vec<[u8; 64]>), ViewError> {
        let number = group.saturating_mul(GROUP_LEAVES) / LEAVES_PER_CHUNK;
        let bytes = self.snapshot.get(LEAVES, &number.to_be_bytes())?;
        let missing = || corrupt(format!("the state has no chunk {number} of leaves"));
        let slots = access_leaves(&bytes.ok_or_else(missing)?).map_err(corrupt)?.slots.to_vec();
        Ok((number.saturating_mul(LEAVES_PER_CHUNK), slots))
    }

    /// A value that is too long for a slot.
    pub(super) fn long_value(&self, at: u64) -> Result<Option<Value>, ViewError> {
        let bytes = self.snapshot.get(LONG_VALUES, &at.to_be_bytes())?;
        bytes.map(|bytes| long_or_inline(at, &bytes)).transpose()
    }

    /// A chunk of nodes.
    pub(super) fn nodes(
        &self,
        tier: usize,
        chunk: u64,
    ) -> Result<Option<[[u8; 32]; NODES_PER_CHUNK]>, ViewError> {
        let bytes = self.snapshot.get(NODES, &node_key(tier, chunk))?;
        bytes
            .map(|bytes| access_nodes(&bytes).map(|chunk| chunk.hashes).map_err(corrupt))
            .transpose()
    }
}

fn number(bytes: &[u8]) -> Result<u64, ViewError> {
    let bytes =
        bytes.try_into().map_err(|_| corrupt("an entry number is not 8 bytes".to_owned()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// How many places of memory are read at once, so that they are not waited for one by one.
pub(super) const TOGETHER: usize = 64;

/// One consistent read view of the state at the head. Writers wait while it lives: keep it short.
pub struct StateReader<'a> {
    pub(super) shared: RwLockReadGuard<'a, Shared>,
    numbers: &'a Numbers,
}

impl<'a> StateReader<'a> {
    pub(super) const fn new(shared: RwLockReadGuard<'a, Shared>, numbers: &'a Numbers) -> Self {
        Self { shared, numbers }
    }

    fn group(&self, number: u64) -> Result<&Group, ViewError> {
        let missing = || corrupt(format!("the state has no group {number} of leaves"));
        let at = usize::try_from(number).map_err(|_| missing())?;
        let groups = &self.shared.resident.groups;
        if let Some(group) = groups.get(at) {
            return Ok(group);
        }
        if self.shared.resident.has_room() {
            self.load_chunk(number)?;
            if let Some(group) = groups.get(at) {
                return Ok(group);
            }
        }
        groups.put(at, self.shared.prover().group(number)?).ok_or_else(missing)
    }

    /// Takes all that lies beside a group into memory, and notes the numbers of its keys: one
    /// read in place of hundreds.
    fn load_chunk(&self, group: u64) -> Result<(), ViewError> {
        let (first, slots) = self.shared.prover().chunk(group)?;
        let groups = &self.shared.resident.groups;
        let (parts, last) = slots.as_chunks();
        for (number, slots) in (first / GROUP_LEAVES..).zip(parts) {
            // The last group is not full; it is read when it is asked for.
            if let Ok(at) = usize::try_from(number)
                && groups.get(at).is_none()
            {
                groups.put(at, Group(*slots));
            }
        }
        for (number, slot) in (first..).zip(parts.as_flattened().iter().chain(last)) {
            if let Some(key) = slot.first_chunk() {
                self.numbers.put(&Key(*key), number);
            }
        }
        Ok(())
    }

    /// Entries on disk, each of which has a row in the table of keys.
    #[must_use]
    pub fn entries_on_disk(&self) -> u64 {
        self.shared.disk.entry_count
    }

    /// Rows of the table of keys on disk after a key, at most `limit`: keys and entry numbers.
    ///
    /// # Errors
    /// A row that is none, or a fault of the store.
    pub fn keys_on_disk(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, u64)>, ViewError> {
        let range = after.map_or_else(KeyRange::all, |key| KeyRange::after(key.0));
        let rows = self.shared.disk.snapshot.range(KEYS, range, Direction::Forward)?;
        let read = |row: Result<(ait_storage::Value, ait_storage::Value), StorageError>| {
            let (key, value) = row?;
            let key = <[u8; 32]>::try_from(&*key)
                .map_err(|_| corrupt("a state key is not 32 bytes long".to_owned()))?;
            Ok((Key(key), number(&value)?))
        };
        rows.take(limit).map(read).collect()
    }

    /// Whether the leaf of a number, which may be any, has this key.
    fn has_key(&self, number: u64, key: &Key) -> Result<bool, ViewError> {
        if number >= self.shared.resident.entry_count {
            return Ok(false);
        }
        let slot = self.group(number / GROUP_LEAVES)?.slot(number);
        Ok(slot.is_some_and(|slot| slot.first_chunk() == Some(&key.0)))
    }

    /// Whether the leaves say that no entry has this key: the one below it is followed by one
    /// above it.
    fn is_absent(&self, key: &Key) -> Result<bool, ViewError> {
        let below = self.leaf(self.number_below(key)?)?;
        // The last one is followed by the sentinel.
        Ok(below.key < *key && (below.next == 0 || self.leaf(below.next)?.key > *key))
    }

    fn leaf_of(&self, number: u64, slot: &[u8; 64]) -> Result<Leaf, ViewError> {
        leaf_of(number, slot, || match self.shared.resident.long_value(number) {
            Some(value) => Ok(Some(value.clone())),
            None => self.shared.disk.long_value(number),
        })
    }
}

impl StateView for StateReader<'_> {
    type Error = ViewError;

    fn entry_count(&self) -> Result<u64, ViewError> {
        Ok(self.shared.resident.entry_count)
    }

    fn number_of(&self, key: &Key) -> Result<Option<u64>, ViewError> {
        if let Some(number) = self.shared.resident.number_of(key) {
            return Ok(Some(number));
        }
        for number in self.numbers.candidates(key) {
            if self.has_key(number, key)? {
                return Ok(Some(number));
            }
        }
        let found = self.shared.disk.number_of(key)?;
        match found {
            Some(number) if self.has_key(number, key)? => self.numbers.put(key, number),
            None if self.is_absent(key)? => {}
            _ => {
                let key = hex::encode(key.0);
                return Err(corrupt(format!("the table of keys is damaged at {key}")));
            }
        }
        Ok(found)
    }

    fn number_below(&self, key: &Key) -> Result<u64, ViewError> {
        let in_memory = self.shared.resident.key_below(key);
        let below = in_memory.max(self.shared.disk.key_below(key)?);
        Ok(below.map_or(0, |(_, number)| number))
    }

    fn leaf(&self, number: u64) -> Result<Leaf, ViewError> {
        let missing = || corrupt(format!("the state has no leaf {number}"));
        if number >= self.shared.resident.entry_count {
            return Err(missing());
        }
        let group = self.group(number / GROUP_LEAVES)?;
        let slot = group.slot(number).ok_or_else(missing)?;
        self.leaf_of(number, slot)
    }

    fn leaf_blocks(&self, first: u64, end: u64, out: &mut LeafBlocks) -> Result<(), ViewError> {
        if first >= end {
            return Ok(());
        }
        let missing = || corrupt(format!("the state has no leaves {first} to {end}"));
        if end > self.shared.resident.entry_count {
            return Err(missing());
        }
        let group = self.group(first / GROUP_LEAVES)?;
        let slots = group.slots(first, end).ok_or_else(missing)?;
        let place = out.len();
        out.extend(slots);
        for ((number, slot), place) in (first..).zip(slots).zip(place..) {
            if is_long(slot) {
                out.set(place, &self.leaf_of(number, slot)?);
            }
        }
        Ok(())
    }

    fn node(&self, level: u8, index: u64) -> Result<Hash, ViewError> {
        self.shared.prover().node(level, index)
    }

    fn nodes(&self, level: u8, indices: &[u64], out: &mut Vec<Hash>) -> Result<(), ViewError> {
        // All of a level are in one tier.
        let tier = self.shared.resident.tiers.get(NodePlace::new(level, 0).tier);
        let mut places = [None; TOGETHER];
        for part in indices.chunks(TOGETHER) {
            for (place, index) in places.iter_mut().zip(part) {
                let NodePlace { chunk, at, .. } = NodePlace::new(level, *index);
                let number = usize::try_from(chunk).unwrap_or(usize::MAX);
                *place = tier.and_then(|pages| pages.get(number)?.get(at));
            }
            for (place, index) in places.iter().zip(part) {
                out.push(match place {
                    Some(hash) => Hash(**hash),
                    None => self.node(level, *index)?,
                });
            }
        }
        Ok(())
    }

    /// Reading an entry takes three reads of memory far away, each of which tells where the
    /// next is. Done here step by step for all keys, those of a step wait for each other no more.
    fn expect(&self, keys: &[Key]) {
        let mut seen = keys.iter().fold(0, |seen, key| seen ^ self.numbers.touch(key));
        let candidates = keys.iter().flat_map(|key| self.numbers.candidates(key));
        let numbers: Vec<u64> = candidates.collect();
        let groups = &self.shared.resident.groups;
        let place = |number: &u64| usize::try_from(number / GROUP_LEAVES).unwrap_or(usize::MAX);
        for number in &numbers {
            seen ^= u64::from(groups.is_resident(place(number)));
        }
        for number in &numbers {
            let slot = groups.get(place(number)).and_then(|group| group.slot(*number));
            // A slot may lie across two lines of the cache.
            seen ^= slot.map_or(0, |slot| u64::from(slot[0] ^ slot[63]));
        }
        std::hint::black_box(seen);
    }
}
