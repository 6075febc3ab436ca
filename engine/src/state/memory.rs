//! A whole state in memory: genesis, tests, vectors.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Key, Leaf, StateView, WriteSet};
use crate::types::Hash;

/// A read of a [`MemoryState`] that found nothing where something must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state in memory lacks {what} {at}")]
pub struct Missing {
    what: &'static str,
    at: u64,
}

/// The entries of a state and its tree.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    entry_count: u64,
    leaves: BTreeMap<u64, Leaf>,
    keys: BTreeMap<Key, u64>,
    nodes: BTreeMap<(u8, u64), Hash>,
}

impl MemoryState {
    /// Applies the changes of the next block.
    pub fn apply(&mut self, writes: &WriteSet) {
        self.entry_count = writes.entry_count;
        self.leaves.extend(writes.leaves.iter().cloned());
        self.keys.extend(writes.keys.iter().map(|(key, number)| (*key, *number)));
        self.nodes.extend(writes.nodes.iter().copied());
    }
}

impl StateView for MemoryState {
    type Error = Missing;

    fn entry_count(&self) -> Result<u64, Missing> {
        Ok(self.entry_count)
    }

    fn number_of(&self, key: &Key) -> Result<Option<u64>, Missing> {
        Ok(self.keys.get(key).copied())
    }

    fn number_below(&self, key: &Key) -> Result<u64, Missing> {
        let below = (Bound::Unbounded, Bound::Excluded(*key));
        Ok(self.keys.range(below).next_back().map_or(0, |(_, number)| *number))
    }

    fn leaf(&self, number: u64) -> Result<Leaf, Missing> {
        self.leaves.get(&number).cloned().ok_or(Missing { what: "leaf", at: number })
    }

    fn node(&self, level: u8, index: u64) -> Result<Hash, Missing> {
        let missing = Missing { what: "node", at: index };
        self.nodes.get(&(level, index)).copied().ok_or(missing)
    }
}
