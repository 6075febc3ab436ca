//! The state: entries under 32-byte keys, committed to by one tree over their
//! numbers.
//!
//! Every entry (an account, a claimed receipt, the parameters, ..) gets the next
//! number when it is made and keeps it. Leaf `n` of the tree holds entry `n`: its
//! key, the number of the entry with the next greater key, and its value. The
//! second makes absence provable: two leaves that follow each other in key order,
//! one below and one above the key that is absent. Nothing is ever removed.
//!
//! The numbers follow from the order of creation on the chain alone, so that the
//! root is the same on every storage engine and after a restore.
//! `specs/state.md` has the layout and the measurements behind the choice.
//!
//! Absent here: how entries are stored. That is the other side of [`StateView`].

mod entry;
mod leaf_blocks;
mod memory;
mod proof;
mod recorded;
mod tree;

pub use entry::{Account, Coordinator, EntryKind, Key, Leaf, Provider, Supply, Value};
pub use leaf_blocks::LeafBlocks;
pub use memory::{MemoryState, Missing};
pub use proof::{Claim, LeafPath, ProofError, StateProof};
pub use recorded::{
    NotRecorded, Question, RecordedState, Recording, Unproven, decode_leaves, encode_leaves,
};
pub use tree::{
    GROUP_LEAVES, GROUP_LEVEL, GenesisTree, WriteSet, group_hashes, inline_leaf_hashes, node_count,
    parent_hashes, root, root_hash, top_level, update,
};

use crate::types::Hash;

/// Read access to the state after some block, as the engine needs it.
///
/// The engine reads through this port and returns a [`WriteSet`]; who implements
/// it decides where the bytes lie. All methods see the same state.
pub trait StateView {
    /// Why a read failed; never "absent".
    type Error: std::error::Error;

    /// How many entries there are, the sentinel at number 0 included.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn entry_count(&self) -> Result<u64, Self::Error>;

    /// Number of the entry under this key.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn number_of(&self, key: &Key) -> Result<Option<u64>, Self::Error>;

    /// Number of the entry with the greatest key below this one; 0, the sentinel, if there is none.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn number_below(&self, key: &Key) -> Result<u64, Self::Error>;

    /// The leaf of an existing entry.
    ///
    /// # Errors
    /// When the state cannot be read or lacks the entry.
    fn leaf(&self, number: u64) -> Result<Leaf, Self::Error>;

    /// Appends the leaves from number `first` to before `end`, all of which exist, in order:
    /// at most [`GROUP_LEAVES`], and of one group. Who has them side by side gives them at once.
    ///
    /// # Errors
    /// When the state cannot be read or lacks an entry.
    fn leaf_blocks(&self, first: u64, end: u64, out: &mut LeafBlocks) -> Result<(), Self::Error> {
        for number in first..end {
            out.push(&self.leaf(number)?);
        }
        Ok(())
    }

    /// The inner node at `level` (at least [`GROUP_LEVEL`]) and `index` of the tree.
    ///
    /// # Errors
    /// When the state cannot be read or lacks the node.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;

    /// Appends the nodes of a level at these ascending indices.
    ///
    /// # Errors
    /// As [`StateView::node`].
    fn nodes(&self, level: u8, indices: &[u64], out: &mut Vec<Hash>) -> Result<(), Self::Error> {
        for index in indices {
            out.push(self.node(level, *index)?);
        }
        Ok(())
    }

    /// Says that the entries under these keys will be asked for soon. What is read does not
    /// depend on it: who has them in memory may bring them nearer to the processor, many at once.
    fn expect(&self, _keys: &[Key]) {}
}

impl<V: StateView + ?Sized> StateView for &V {
    type Error = V::Error;

    fn entry_count(&self) -> Result<u64, Self::Error> {
        (**self).entry_count()
    }
    fn number_of(&self, key: &Key) -> Result<Option<u64>, Self::Error> {
        (**self).number_of(key)
    }
    fn number_below(&self, key: &Key) -> Result<u64, Self::Error> {
        (**self).number_below(key)
    }
    fn leaf(&self, number: u64) -> Result<Leaf, Self::Error> {
        (**self).leaf(number)
    }
    fn leaf_blocks(&self, first: u64, end: u64, out: &mut LeafBlocks) -> Result<(), Self::Error> {
        (**self).leaf_blocks(first, end, out)
    }
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        (**self).node(level, index)
    }
    fn nodes(&self, level: u8, indices: &[u64], out: &mut Vec<Hash>) -> Result<(), Self::Error> {
        (**self).nodes(level, indices, out)
    }
    fn expect(&self, keys: &[Key]) {
        (**self).expect(keys);
    }
}

#[cfg(test)]
mod tests;
