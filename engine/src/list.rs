//! A Merkle tree over an ordered list: transactions and outcomes of a block.
//!
//! A leaf is the hash of an item's canonical bytes; a node the hash of its two
//! children; the last node of an odd level moves up unchanged; the root is the
//! hash of the count and the top node, so that trees of different sizes never
//! share a root. Leaves and nodes have domains of their own (as RFC 6962 does
//! with prefixes), so that a node never passes as a leaf.

use crate::codec::Canonical;
use crate::hash::{BlockHasher, Domain};
use crate::types::Hash;

/// Hash of one item.
#[must_use]
pub fn leaf_hash(item: &[u8]) -> Hash {
    Domain::ListLeaf.hash(&[item])
}

/// Hashes of items, and how many bytes they take in all.
#[must_use]
pub fn leaf_hashes<'a, T: Canonical + 'a>(
    items: impl IntoIterator<Item = &'a T>,
) -> (Vec<Hash>, usize) {
    let (leaves, lengths) = Domain::ListLeaf.hash_items(items, T::encode_to);
    (leaves, lengths.into_iter().fold(0, usize::saturating_add))
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Domain::ListNode.hash(&[&left.0, &right.0])
}

fn root_hash(count: u32, top: &Hash) -> Hash {
    Domain::ListRoot.hash(&[&count.to_le_bytes(), &top.0])
}

fn parents(level: &[Hash]) -> Vec<Hash> {
    let mut parents = BlockHasher::new(Domain::ListNode).hash_pairs(level);
    let (_, alone) = level.as_chunks::<2>();
    parents.extend(alone);
    parents
}

/// Root over these leaves; the top of an empty list is all zero.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let count = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = parents(&level);
    }
    root_hash(count, &level.first().copied().unwrap_or_default())
}

/// Proof that an item stands at a position of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListProof {
    /// Position of the item, from 0.
    pub index: u32,
    /// Length of the list.
    pub count: u32,
    /// Sibling hashes from the leaf up; a level without a sibling has none.
    pub siblings: Vec<Hash>,
}

impl ListProof {
    /// Proof for the leaf at `index`, if there is one.
    #[must_use]
    pub fn new(leaves: &[Hash], index: u32) -> Option<Self> {
        let count = u32::try_from(leaves.len()).ok()?;
        if index >= count {
            return None;
        }
        let mut at = usize::try_from(index).ok()?;
        let mut level = leaves.to_vec();
        let mut siblings = Vec::new();
        while level.len() > 1 {
            siblings.extend(level.get(at ^ 1));
            level = parents(&level);
            at /= 2;
        }
        Some(Self { index, count, siblings })
    }

    /// Whether the list with this root holds `leaf` at the proof's position.
    #[must_use]
    pub fn verify(&self, expected_root: &Hash, leaf: &Hash) -> bool {
        if self.index >= self.count {
            return false;
        }
        let (mut at, mut width, mut node) = (self.index, self.count, *leaf);
        let mut siblings = self.siblings.iter();
        while width > 1 {
            if at % 2 == 1 {
                let Some(left) = siblings.next() else { return false };
                node = node_hash(left, &node);
            } else if at.saturating_add(1) < width {
                let Some(right) = siblings.next() else { return false };
                node = node_hash(&node, right);
            }
            at /= 2;
            width = width.div_ceil(2);
        }
        siblings.next().is_none() && root_hash(self.count, &node) == *expected_root
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn leaves(count: u32) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_le_bytes())).collect()
    }

    #[test]
    fn proves_every_item_of_every_size_and_no_other() {
        for count in 1..40 {
            let leaves = leaves(count);
            let root = root(&leaves);
            for index in 0..count {
                let proof = ListProof::new(&leaves, index).unwrap();
                let leaf = &leaves[index as usize];
                assert!(proof.verify(&root, leaf));
                let elsewhere = ListProof { index: (index + 1) % (count + 1), ..proof.clone() };
                assert!(!elsewhere.verify(&root, leaf));
                let longer = ListProof { count: count + 1, ..proof.clone() };
                assert!(!longer.verify(&root, leaf));
                assert!(!proof.verify(&root, &leaf_hash(b"another")));
                let mut cut = proof.clone();
                assert_eq!(cut.siblings.pop().is_some(), count > 1);
                assert_eq!(cut.verify(&root, leaf), count == 1);
            }
            assert_eq!(ListProof::new(&leaves, count), None);
        }
    }

    #[test]
    fn roots_depend_on_count_and_order() {
        let three = leaves(3);
        let mut swapped = three.clone();
        swapped.swap(0, 1);
        let duplicated = [three[0], three[1], three[2], three[2]];
        let mut roots = vec![root(&[]), root(&three), root(&swapped), root(&duplicated)];
        roots.sort_unstable();
        roots.dedup();
        assert_eq!(roots.len(), 4);
    }
}
