//! The state tree: a binary Merkle tree over entry numbers.
//!
//! Level 0 holds the leaves, level `d` the node over `2^d` of them; the tree is as
//! high as its count needs. A place without leaves below it is all zero. The root
//! is the hash of the entry count and the top node.
//!
//! Nodes below [`GROUP_LEVEL`] are never stored: eight leaves are hashed anew when
//! one of them changes, which SIMD does in less time than a stored hash is read.

use std::collections::BTreeMap;

use super::leaf_blocks::LeafBlocks;
use super::{Account, Key, Leaf, StateView, Value};
use crate::hash::{BlockHasher, Domain, pair};
use crate::types::{Address, Hash, StateRoot};

/// The lowest level whose nodes are stored.
pub const GROUP_LEVEL: u8 = 3;
/// Leaves under one node of [`GROUP_LEVEL`].
pub const GROUP_LEAVES: u64 = 1 << GROUP_LEVEL;

pub(super) const GROUP_COUNT: usize = 1 << GROUP_LEVEL;
/// Groups that are hashed together: enough for SIMD, few enough for the processor's cache.
const BATCH_GROUPS: usize = 256;
/// About how many nodes change with a group, if many groups of a large state do.
const NODES_EACH: usize = 6;

/// What a block changes in the state, ordered: the engine's result, storage's task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct WriteSet {
    /// Entries after the block.
    pub entry_count: u64,
    /// New and changed leaves, in ascending order of their numbers.
    pub leaves: Vec<(u64, Leaf)>,
    /// New keys and their numbers.
    pub keys: BTreeMap<Key, u64>,
    /// New and changed nodes, in ascending order of level and index.
    pub nodes: Vec<((u8, u64), Hash)>,
    /// Root of the state after the block.
    pub root: StateRoot,
}

impl WriteSet {
    /// Accounts that the block changed, and some beside new ones, with what they hold after it.
    pub fn accounts(&self) -> impl Iterator<Item = (Address, Account)> + '_ {
        self.leaves.iter().filter_map(|(_, leaf)| {
            Account::try_from(&leaf.value).ok().map(|account| (Address(leaf.key.0), account))
        })
    }

    /// A node, if the block changes it.
    pub(super) fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let at = self.nodes.binary_search_by_key(&(level, index), |(place, _)| *place).ok()?;
        self.nodes.get(at).map(|(_, hash)| *hash)
    }
}

/// Level of the top node of a tree of `count` leaves; at least [`GROUP_LEVEL`].
#[must_use]
pub fn top_level(count: u64) -> u8 {
    (GROUP_LEVEL..63).find(|level| count <= 1 << level).unwrap_or(63)
}

/// How many nodes `level` has in a tree of `count` leaves.
#[must_use]
pub const fn node_count(level: u8, count: u64) -> u64 {
    count.div_ceil(1 << level)
}

/// Root of a tree of `count` leaves with this top node.
#[must_use]
pub fn root_hash(count: u64, top: &Hash) -> StateRoot {
    StateRoot(Domain::StateRoot.hash(&[&count.to_le_bytes(), &top.0]).0)
}

/// Hashes of leaves in the form of [`Leaf::inline_block`].
#[must_use]
pub fn inline_leaf_hashes(blocks: &[[u8; 64]]) -> Vec<Hash> {
    let mut hashes = Vec::with_capacity(blocks.len());
    BlockHasher::new(Domain::StateLeaf).hash_into(blocks, &mut hashes);
    hashes
}

/// The nodes of [`GROUP_LEVEL`] over groups of eight leaves, whose hashes stand one group after
/// another, those of absent leaves being zero. What is left of a last group is not looked at.
#[must_use]
pub fn group_hashes(leaves: &[Hash]) -> Vec<Hash> {
    let hasher = BlockHasher::new(Domain::StateNode);
    let (groups, _) = leaves.as_chunks::<GROUP_COUNT>();
    let mut hashes = groups.as_flattened().to_vec();
    for _ in 0..GROUP_LEVEL {
        hashes = hasher.hash_pairs(&hashes);
    }
    hashes
}

/// The nodes above pairs of nodes, those of absent children being zero. A last one alone is not
/// looked at.
#[must_use]
pub fn parent_hashes(children: &[Hash]) -> Vec<Hash> {
    BlockHasher::new(Domain::StateNode).hash_pairs(children)
}

/// Computes the tree after `leaves` were written over the state of `view`, which
/// then has `entry_count` entries, `keys` being those added. The leaves come in ascending
/// order of their numbers, no two of one number.
///
/// # Errors
/// What reading the view gives.
pub fn update<V: StateView>(
    view: &V,
    entry_count: u64,
    leaves: Vec<(u64, Leaf)>,
    keys: BTreeMap<Key, u64>,
) -> Result<WriteSet, V::Error> {
    let old_count = view.entry_count()?;
    let hasher = BlockHasher::new(Domain::StateNode);
    let mut touched = group_nodes(view, &hasher, old_count, &leaves)?;
    // In order of level and index.
    let mut nodes = Vec::with_capacity(touched.len().saturating_mul(NODES_EACH));
    let top = top_level(entry_count);
    for level in GROUP_LEVEL..top {
        nodes.extend(touched.iter().map(|(index, hash)| ((level, *index), *hash)));
        let pairs = || touched.chunk_by(|(left, _), (right, _)| left ^ 1 == *right);
        let is_old = |index: &u64| *index < node_count(level, old_count);
        let alone = pairs().filter_map(|pair| match pair {
            [(index, _)] => Some(index ^ 1).filter(is_old),
            _ => None,
        });
        let alone: Vec<u64> = alone.collect();
        let mut unchanged = Vec::with_capacity(alone.len());
        view.nodes(level, &alone, &mut unchanged)?;
        let mut unchanged = unchanged.into_iter();
        let mut indices = Vec::with_capacity(touched.len());
        let mut blocks = Vec::with_capacity(touched.len());
        for siblings in pairs() {
            let [(index, hash), next @ ..] = siblings else { continue };
            let other = match next.first() {
                Some((_, other)) => *other,
                None if is_old(&(index ^ 1)) => match unchanged.next() {
                    Some(other) => other,
                    None => view.node(level, index ^ 1)?,
                },
                None => Hash::ZERO,
            };
            indices.push(index / 2);
            blocks.push(if index % 2 == 0 { pair(hash, &other) } else { pair(&other, hash) });
        }
        let mut hashes = Vec::with_capacity(blocks.len());
        hasher.hash_into(&blocks, &mut hashes);
        touched = indices.into_iter().zip(hashes).collect();
    }
    nodes.extend(touched.iter().map(|(index, hash)| ((top, *index), *hash)));
    let top_node = match touched.first() {
        Some((_, hash)) => *hash,
        None if old_count > 0 => view.node(top, 0)?,
        None => Hash::ZERO,
    };
    let root = root_hash(entry_count, &top_node);
    Ok(WriteSet { entry_count, leaves, keys, nodes, root })
}

/// Where an entry stands among those of its group.
pub(super) fn place_in_group(number: u64) -> usize {
    usize::try_from(number % GROUP_LEAVES).unwrap_or(GROUP_COUNT)
}

/// Nodes of [`GROUP_LEVEL`] above the changed leaves, by index.
fn group_nodes<V: StateView>(
    view: &V,
    hasher: &BlockHasher,
    old_count: u64,
    leaves: &[(u64, Leaf)],
) -> Result<Vec<(u64, Hash)>, V::Error> {
    let group_of = |number: u64| number / GROUP_LEAVES;
    let by_group: Vec<_> = leaves.chunk_by(|a, b| group_of(a.0) == group_of(b.0)).collect();
    let mut nodes = Vec::with_capacity(by_group.len());
    let mut all = LeafBlocks::default();
    for batch in by_group.chunks(BATCH_GROUPS) {
        // All groups one after another, so that all are hashed together.
        all.clear();
        let mut groups = Vec::with_capacity(batch.len());
        for changed in batch {
            let Some((number, _)) = changed.first() else { continue };
            let group = group_of(*number);
            let first = group << GROUP_LEVEL;
            let end = first.saturating_add(GROUP_LEAVES);
            let place = all.len();
            view.leaf_blocks(first.min(old_count), end.min(old_count), &mut all)?;
            while all.len() < place.saturating_add(GROUP_COUNT) {
                all.push_absent();
            }
            for (number, leaf) in *changed {
                all.set(place.saturating_add(place_in_group(*number)), leaf);
            }
            groups.push(group);
        }
        let mut hashes = all.hash();
        for _ in 0..GROUP_LEVEL {
            hashes = hasher.hash_pairs(&hashes);
        }
        nodes.extend(groups.into_iter().zip(hashes));
    }
    Ok(nodes)
}

/// Root of the state behind a view.
///
/// # Errors
/// What reading the view gives.
pub fn root<V: StateView>(view: &V) -> Result<StateRoot, V::Error> {
    let count = view.entry_count()?;
    let top = if count == 0 { Hash::ZERO } else { view.node(top_level(count), 0)? };
    Ok(root_hash(count, &top))
}

/// Makes the first state: the sentinel, then all entries in order of their keys.
#[derive(Debug, Default)]
pub struct GenesisTree {
    entries: BTreeMap<Key, Value>,
}

impl GenesisTree {
    /// Adds an entry; false if the key is taken.
    #[must_use]
    pub fn insert(&mut self, key: Key, value: Value) -> bool {
        key != Key::SENTINEL && self.entries.insert(key, value).is_none()
    }

    /// The first state's entries, keys and nodes.
    #[expect(clippy::unreachable, reason = "an empty state is never read: every leaf is given")]
    pub fn build(self) -> WriteSet {
        let count = (self.entries.len() as u64).saturating_add(1);
        let sentinel = (Key::SENTINEL, Value::SENTINEL);
        let ordered = std::iter::once(sentinel).chain(self.entries);
        let mut keys = BTreeMap::new();
        let mut leaves = Vec::new();
        // The last entry leads back to the first.
        let links = (0..count).zip((1..count).chain([0]));
        for ((number, next), (key, value)) in links.zip(ordered) {
            keys.insert(key, number);
            leaves.push((number, Leaf { key, next, value }));
        }
        match update(&super::MemoryState::default(), count, leaves, keys) {
            Ok(writes) => writes,
            Err(_) => unreachable!("an empty state is never read"),
        }
    }
}
