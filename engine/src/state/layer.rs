//! Part of a state in memory: what some blocks wrote over an older state. The
//! whole of a small state, too.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Key, Leaf, StateView, WriteSet};
use crate::types::Hash;

/// What one or more [`WriteSet`]s changed; the newest value of each.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    entry_count: Option<u64>,
    leaves: BTreeMap<u64, Leaf>,
    keys: BTreeMap<Key, u64>,
    nodes: BTreeMap<(u8, u64), Hash>,
}

impl Layer {
    /// Adds the changes of the next block.
    pub fn merge(&mut self, writes: &WriteSet) {
        self.entry_count = Some(writes.entry_count);
        self.leaves.extend(writes.leaves.iter().map(|(number, leaf)| (*number, leaf.clone())));
        self.keys.extend(writes.keys.iter().map(|(key, number)| (*key, *number)));
        self.nodes.extend(writes.nodes.iter().map(|(at, hash)| (*at, *hash)));
    }

    /// Entries of the state, if anything was written.
    #[must_use]
    pub const fn entry_count(&self) -> Option<u64> {
        self.entry_count
    }

    /// Number of a key that this layer added.
    #[must_use]
    pub fn number_of(&self, key: &Key) -> Option<u64> {
        self.keys.get(key).copied()
    }

    /// The greatest key below `key` among those that this layer added.
    #[must_use]
    pub fn key_below(&self, key: &Key) -> Option<(Key, u64)> {
        let below = (Bound::Unbounded, Bound::Excluded(*key));
        self.keys.range(below).next_back().map(|(key, number)| (*key, *number))
    }

    /// A leaf that this layer wrote.
    #[must_use]
    pub fn leaf(&self, number: u64) -> Option<&Leaf> {
        self.leaves.get(&number)
    }

    /// The leaves of these numbers that this layer wrote, in order.
    pub fn leaves_between(&self, first: u64, end: u64) -> impl Iterator<Item = (u64, &Leaf)> {
        self.leaves.range(first..end).map(|(number, leaf)| (*number, leaf))
    }

    /// A node that this layer wrote.
    #[must_use]
    pub fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.nodes.get(&(level, index)).copied()
    }

    /// All leaves that this layer wrote, by number.
    pub fn leaves(&self) -> impl Iterator<Item = (u64, &Leaf)> {
        self.leaves.iter().map(|(number, leaf)| (*number, leaf))
    }

    /// All keys that this layer added, in order.
    pub fn keys(&self) -> impl Iterator<Item = (&Key, u64)> {
        self.keys.iter().map(|(key, number)| (key, *number))
    }

    /// All nodes that this layer wrote, by level and index.
    pub fn nodes(&self) -> impl Iterator<Item = ((u8, u64), Hash)> {
        self.nodes.iter().map(|(at, hash)| (*at, *hash))
    }

    /// How many leaves and nodes it holds: a measure of its memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.len() + self.nodes.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entry_count.is_none()
    }
}

/// A read of a [`MemoryState`] that found nothing where something must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state in memory lacks {what} {at}")]
pub struct Missing {
    what: &'static str,
    at: u64,
}

/// A whole state in memory: genesis, tests, vectors.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    layer: Layer,
}

impl MemoryState {
    /// Applies the changes of the next block.
    pub fn apply(&mut self, writes: &WriteSet) {
        self.layer.merge(writes);
    }
}

impl StateView for MemoryState {
    type Error = Missing;

    fn entry_count(&self) -> Result<u64, Missing> {
        Ok(self.layer.entry_count().unwrap_or(0))
    }

    fn number_of(&self, key: &Key) -> Result<Option<u64>, Missing> {
        Ok(self.layer.number_of(key))
    }

    fn number_below(&self, key: &Key) -> Result<u64, Missing> {
        Ok(self.layer.key_below(key).map_or(0, |(_, number)| number))
    }

    fn leaf(&self, number: u64) -> Result<Leaf, Missing> {
        self.layer.leaf(number).cloned().ok_or(Missing { what: "leaf", at: number })
    }

    fn leaves(&self, first: u64, end: u64) -> Result<Vec<Leaf>, Missing> {
        let found: Vec<_> =
            self.layer.leaves_between(first, end).map(|(_, leaf)| leaf.clone()).collect();
        let is_whole = u64::try_from(found.len()) == Ok(end - first);
        if is_whole { Ok(found) } else { Err(Missing { what: "a leaf after", at: first }) }
    }

    fn node(&self, level: u8, index: u64) -> Result<Hash, Missing> {
        self.layer.node(level, index).ok_or(Missing { what: "node", at: index })
    }
}
