//! What is read from disk of the state, proven before it is used.
//!
//! Eight leaves must hash to the node above them, nodes to those above these, and the top node
//! to the root: that of a header which validators signed. So whatever a disk or its file system
//! does to a byte, it ends in an error and never in a wrong balance. A page is proven when it
//! comes into memory, once.

use ait_engine::state::{
    GROUP_LEAVES, GROUP_LEVEL, group_hashes, inline_leaf_hashes, node_count, parent_hashes,
    root_hash, top_level,
};
use ait_engine::types::{Hash, StateRoot};

use super::resident::{Group, NodePage, Resident};
use super::tables::NODE_ROWS;
use super::view::{DiskView, NodePlace, ViewError, corrupt, is_long, leaf_of};

/// Levels of the tree at which a chunk of nodes begins and ends, and its number at the latter.
const TOP_ROW: u8 = NODE_ROWS - 1;

/// Reads what is not in memory. A page that is not there equals the disk's, because it did not
/// change since the last checkpoint: so it is part of the newest state as well.
#[derive(Clone, Copy)]
pub(super) struct Prover<'a> {
    pub(super) resident: &'a Resident,
    pub(super) disk: &'a DiskView,
    /// Root of the newest state.
    pub(super) root: StateRoot,
}

fn damaged(what: String) -> ViewError {
    corrupt(format!("{what}; the file of the state is damaged, ait-node db check says more"))
}

impl<'a> Prover<'a> {
    /// A group of leaves from disk.
    ///
    /// # Errors
    /// When it cannot be read, or is not what the tree says.
    pub(super) fn group(&self, number: u64) -> Result<Group, ViewError> {
        let group = self.disk.group(number)?;
        self.prove_groups(number, &group.0)?;
        Ok(group)
    }

    /// All leaves of the chunk that a group is in, with the number of the first.
    ///
    /// # Errors
    /// When they cannot be read, or are not what the tree says.
    pub(super) fn chunk(&self, group: u64) -> Result<(u64, Vec<[u8; 64]>), ViewError> {
        let (first, slots) = self.disk.chunk(group)?;
        // The last group of all is not full; it is read alone when it is asked for.
        let whole = slots.len() - slots.len() % Group::default().0.len();
        let whole = slots.get(..whole).unwrap_or_default();
        // Those that changed since are in memory, and stay as they are there.
        let is_new = |group: &u64| self.resident.has_group(*group);
        let groups = first / GROUP_LEAVES..;
        for (number, slots) in groups.zip(whole.as_chunks::<8>().0) {
            if !is_new(&number) {
                self.prove_groups(number, slots)?;
            }
        }
        Ok((first, slots))
    }

    fn prove_groups(&self, group: u64, slots: &[[u8; 64]; 8]) -> Result<(), ViewError> {
        let first = group.saturating_mul(GROUP_LEAVES);
        let present = self.resident.entry_count.saturating_sub(first).min(GROUP_LEAVES);
        let present = usize::try_from(present).unwrap_or(slots.len());
        let mut hashes = inline_leaf_hashes(slots.get(..present).unwrap_or_default());
        for ((number, slot), hash) in (first..).zip(slots).zip(&mut hashes) {
            if is_long(slot) {
                *hash = leaf_of(number, slot, || self.disk.long_value(number))?.hash();
            }
        }
        hashes.resize(slots.len(), Hash::ZERO);
        let node = self.node(GROUP_LEVEL, group)?;
        if group_hashes(&hashes).first() == Some(&node) {
            Ok(())
        } else {
            Err(damaged(format!("leaves {first} to {} are not those of the tree", first + 7)))
        }
    }

    /// A node of the tree, from memory or from disk.
    ///
    /// # Errors
    /// When it cannot be read, or is not what the tree says.
    pub(super) fn node(&self, level: u8, index: u64) -> Result<Hash, ViewError> {
        let place = NodePlace::new(level, index);
        let page = self.nodes(place.tier, place.chunk)?;
        let missing = || corrupt(format!("the state has no node {index} at level {level}"));
        page.get(place.at).map(|hash| Hash(*hash)).ok_or_else(missing)
    }

    /// A chunk of nodes, which comes into memory if it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or is not what the tree says.
    pub(super) fn nodes(&self, tier: usize, chunk: u64) -> Result<&'a NodePage, ViewError> {
        let missing = || corrupt(format!("the state has no chunk {chunk} of nodes in tier {tier}"));
        let pages = self.resident.tiers.get(tier).ok_or_else(missing)?;
        let number = usize::try_from(chunk).map_err(|_| missing())?;
        if let Some(page) = pages.get(number) {
            return Ok(page);
        }
        let page = self.disk.nodes(tier, chunk)?.ok_or_else(missing)?;
        if self.is_proven(tier, chunk, &page)? {
            pages.put(number, page).ok_or_else(missing)
        } else {
            Err(damaged(format!("chunk {chunk} of nodes in tier {tier} is not that of the tree")))
        }
    }

    /// Whether nodes of a chunk hash to each other, and its top node to what is above it.
    fn is_proven(&self, tier: usize, chunk: u64, page: &NodePage) -> Result<bool, ViewError> {
        let count = self.resident.entry_count;
        let base = level_of(tier);
        let top = top_level(count);
        let rows = top.saturating_sub(base).min(TOP_ROW);
        let mut below: Vec<Hash> = Vec::new();
        for row in 0..=rows {
            let nodes = row_of(page, row, chunk, node_count(base + row, count));
            if row > 0 {
                // A child alone has a place without leaves beside it.
                if below.len() % 2 == 1 {
                    below.push(Hash::ZERO);
                }
                if parent_hashes(&below) != nodes {
                    return Ok(false);
                }
            }
            below = nodes;
        }
        let Some(own) = below.first().copied() else { return Ok(false) };
        if base + rows == top {
            return Ok(root_hash(count, &own) == self.root);
        }
        let sibling = chunk ^ 1;
        let other = if sibling < node_count(base + TOP_ROW, count) {
            self.top_of(tier, sibling)?
        } else {
            Hash::ZERO
        };
        let pair = if chunk.is_multiple_of(2) { [own, other] } else { [other, own] };
        let parent = self.node(base + NODE_ROWS, chunk / 2)?;
        Ok(parent_hashes(&pair).first() == Some(&parent))
    }

    /// The top node of a chunk as it stands: it proves another, and is proven with it.
    fn top_of(&self, tier: usize, chunk: u64) -> Result<Hash, ViewError> {
        let number = usize::try_from(chunk).unwrap_or(usize::MAX);
        let resident = self.resident.tiers.get(tier).and_then(|pages| pages.get(number));
        let top = match resident {
            Some(page) => page.last().copied(),
            None => self.disk.nodes(tier, chunk)?.and_then(|page| page.last().copied()),
        };
        top.map(Hash).ok_or_else(|| corrupt(format!("tier {tier} has no chunk {chunk}")))
    }
}

/// The lowest level of a tier.
pub(super) fn level_of(tier: usize) -> u8 {
    let tier = u8::try_from(tier).unwrap_or(u8::MAX);
    GROUP_LEVEL.saturating_add(tier.saturating_mul(NODE_ROWS))
}

/// The nodes of a row of a chunk that have leaves below them, of `count` at their level.
fn row_of(page: &NodePage, row: u8, chunk: u64, count: u64) -> Vec<Hash> {
    let width = 1_u64 << (TOP_ROW - row);
    let present = count.saturating_sub(chunk.saturating_mul(width)).min(width);
    let (begin, present) = (64 - (64_usize >> row), usize::try_from(present).unwrap_or(0));
    page.iter().skip(begin).take(present).map(|hash| Hash(*hash)).collect()
}
