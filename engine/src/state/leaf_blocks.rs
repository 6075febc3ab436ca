//! Leaves as they are hashed, many one after another.

use std::collections::BTreeMap;

use super::Leaf;
use crate::hash::{BlockHasher, Domain};
use crate::types::Hash;

/// Places of leaves. Most leaves are one block of 64 bytes, which SIMD hashes many at once; for
/// the others there is the hash itself.
#[derive(Debug, Default)]
pub struct LeafBlocks {
    blocks: Vec<[u8; 64]>,
    /// The hashes of places that have no block.
    hashes: BTreeMap<usize, Hash>,
}

impl LeafBlocks {
    /// How many places there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.hashes.clear();
    }

    /// Appends leaves of the form of [`Leaf::inline_block`].
    pub fn extend(&mut self, blocks: &[[u8; 64]]) {
        self.blocks.extend_from_slice(blocks);
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: &Leaf) {
        self.push_absent();
        self.set(self.blocks.len().saturating_sub(1), leaf);
    }

    /// Appends a place without a leaf, whose hash is zero.
    pub fn push_absent(&mut self) {
        self.hashes.insert(self.blocks.len(), Hash::ZERO);
        self.blocks.push([0; 64]);
    }

    /// Puts a leaf at a place that there is.
    pub fn set(&mut self, place: usize, leaf: &Leaf) {
        match (leaf.inline_block(), self.blocks.get_mut(place)) {
            (_, None) => {}
            (Some(block), Some(old)) => {
                *old = block;
                self.hashes.remove(&place);
            }
            (None, Some(_)) => {
                self.hashes.insert(place, leaf.hash());
            }
        }
    }

    /// The hash of each place.
    pub(super) fn hash(&self) -> Vec<Hash> {
        let mut hashes = Vec::with_capacity(self.blocks.len());
        BlockHasher::new(Domain::StateLeaf).hash_into(&self.blocks, &mut hashes);
        for (place, hash) in &self.hashes {
            if let Some(known) = hashes.get_mut(*place) {
                *known = *hash;
            }
        }
        hashes
    }
}

/// Hashes of leaves; zero where there is none.
pub(super) fn leaf_hashes<'a>(leaves: impl Iterator<Item = Option<&'a Leaf>>) -> Vec<Hash> {
    let mut blocks = LeafBlocks::default();
    for leaf in leaves {
        match leaf {
            Some(leaf) => blocks.push(leaf),
            None => blocks.push_absent(),
        }
    }
    blocks.hash()
}
