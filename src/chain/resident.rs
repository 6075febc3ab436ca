//! What is in memory of the state: pages that were read or changed, and what is new.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use ait_engine::state::{GROUP_LEAVES, Key, Value, WriteSet, node_count, top_level};
use ait_engine::types::StateRoot;

use super::pages::{FrozenPages, Pages};
use super::proven::{Prover, level_of};
use super::tables::{GROUPS_PER_CHUNK, NODE_ROWS, NODES_PER_CHUNK};
use super::view::{DiskView, NodePlace, TOGETHER, ViewError, corrupt, slot};

/// Bytes that a page takes with what the allocator and the table add.
const GROUP_BYTES: usize = 576;
const NODES_BYTES: usize = 2_080;
/// Pages beyond the bound, and a sixteenth of it, at which readers let go of some.
const OVER: usize = 1_024;

/// The slots of eight leaves that are hashed together.
#[derive(Debug, Clone)]
pub(super) struct Group(pub(super) [[u8; 64]; 8]);

impl Default for Group {
    fn default() -> Self {
        Self([[0; 64]; 8])
    }
}

impl Group {
    fn place(number: u64) -> usize {
        usize::try_from(number % GROUP_LEAVES).unwrap_or(usize::MAX)
    }

    /// The slot of a leaf of this group.
    pub(super) fn slot(&self, number: u64) -> Option<&[u8; 64]> {
        self.0.get(Self::place(number))
    }

    /// The slots of leaves of this group, from number `first` to before `end`.
    pub(super) fn slots(&self, first: u64, end: u64) -> Option<&[[u8; 64]]> {
        let count = usize::try_from(end.checked_sub(first)?).ok()?;
        self.0.get(Self::place(first)..)?.get(..count)
    }
}

/// A chunk of nodes.
pub(super) type NodePage = [[u8; 32]; NODES_PER_CHUNK];

/// What is not in pages and not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) keys: BTreeMap<Key, u64>,
    pub(super) long_values: BTreeMap<u64, Value>,
    /// How many leaves were written.
    written: usize,
}

/// The state in memory.
#[derive(Debug, Default)]
pub(super) struct Resident {
    pub(super) entry_count: u64,
    pub(super) groups: Pages<Group>,
    /// Chunks of nodes, by tier.
    pub(super) tiers: Vec<Pages<NodePage>>,
    /// About how much pages may take.
    bytes_max: usize,
    fresh: Fresh,
    /// What the checkpoint under way writes. Held here, too, so that none of its pages gives
    /// way while the disk lacks them, whatever becomes of the writing.
    frozen: Option<Arc<Frozen>>,
}

/// What a checkpoint writes.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) entry_count: u64,
    pub(super) groups: FrozenPages<Group>,
    pub(super) tiers: Vec<FrozenPages<NodePage>>,
    pub(super) fresh: Fresh,
}

fn to_usize(number: u64) -> Result<usize, ViewError> {
    usize::try_from(number).map_err(|_| corrupt(format!("{number} is no number of a page here")))
}

impl Resident {
    /// Nothing of a state of this many entries; pages may take about `bytes_max`.
    pub(super) fn new(entry_count: u64, bytes_max: usize) -> Result<Self, ViewError> {
        let mut state = Self { entry_count, bytes_max, ..Self::default() };
        if entry_count > 0 {
            state.groups = Pages::new(to_usize(entry_count.div_ceil(GROUP_LEAVES))?);
            for level in ait_engine::state::GROUP_LEVEL..=top_level(entry_count) {
                let last = node_count(level, entry_count).saturating_sub(1);
                let NodePlace { tier, chunk, .. } = NodePlace::new(level, last);
                // The lowest level of a tier has the most chunks.
                if tier >= state.tiers.len() {
                    state.tiers.push(Pages::new(to_usize(chunk)?.saturating_add(1)));
                }
            }
        }
        Ok(state)
    }

    /// Takes over what a block changed; what is not in memory of it is read from `disk`.
    ///
    /// # Errors
    /// When the disk cannot be read. The state is of no use then.
    pub(super) fn merge(
        &mut self,
        writes: &WriteSet,
        disk: &DiskView,
        root: StateRoot,
    ) -> Result<(), ViewError> {
        self.fetch(writes, disk, root)?;
        let group_of = |number: u64| number / GROUP_LEAVES;
        let by_group: Vec<_> =
            writes.leaves.chunk_by(|a, b| group_of(a.0) == group_of(b.0)).collect();
        for part in by_group.chunks(TOGETHER) {
            let mut groups = Vec::with_capacity(part.len());
            for (number, _) in part.iter().filter_map(|changed| changed.first()) {
                groups.push(to_usize(group_of(*number))?);
            }
            // Read at once, so that they are not waited for one by one.
            let slots = groups
                .iter()
                .zip(part)
                .filter_map(|(group, changed)| self.groups.get(*group)?.slot(changed.first()?.0));
            std::hint::black_box(slots.fold(0, |seen, slot| seen ^ slot[0] ^ slot[63]));
            for (changed, group) in part.iter().zip(groups) {
                let change = |page: &mut Group| {
                    for (number, leaf) in *changed {
                        if let Some(place) = page.0.get_mut(Group::place(*number)) {
                            *place = slot(leaf);
                        }
                    }
                };
                self.groups.edit::<ViewError>(group, || Ok(Group::default()), change)?;
            }
        }
        for (number, leaf) in &writes.leaves {
            if let Value::Long(_) = &leaf.value {
                self.fresh.long_values.insert(*number, leaf.value.clone());
            }
        }
        self.fresh.keys.extend(writes.keys.iter().map(|(key, number)| (*key, *number)));
        let place = |((level, index), _): &((u8, u64), _)| NodePlace::new(*level, *index);
        let chunk = |place: NodePlace| (place.tier, place.chunk);
        for changed in writes.nodes.chunk_by(|a, b| chunk(place(a)) == chunk(place(b))) {
            let Some((tier, number)) = changed.first().map(|node| chunk(place(node))) else {
                continue;
            };
            while self.tiers.len() <= tier {
                self.tiers.push(Pages::default());
            }
            let Some(pages) = self.tiers.get_mut(tier) else { continue };
            let load = || Ok([[0; 32]; NODES_PER_CHUNK]);
            let change = |page: &mut NodePage| {
                for node in changed {
                    if let Some(hash) = page.get_mut(place(node).at) {
                        *hash = node.1.0;
                    }
                }
            };
            pages.edit::<ViewError>(to_usize(number)?, load, change)?;
        }
        self.entry_count = writes.entry_count;
        self.fresh.written = self.fresh.written.saturating_add(writes.leaves.len());
        Ok(())
    }

    /// Brings into memory what a block changes in part, proven, before any of it changes.
    fn fetch(&self, writes: &WriteSet, disk: &DiskView, root: StateRoot) -> Result<(), ViewError> {
        let prover = Prover { resident: self, disk, root };
        let mut last = None;
        for (number, _) in &writes.leaves {
            let group = number / GROUP_LEAVES;
            let is_old = group.saturating_mul(GROUP_LEAVES) < self.entry_count;
            if is_old && last != Some(group) && !self.has_group(group) {
                self.groups.put(to_usize(group)?, prover.group(group)?);
            }
            last = Some(group);
        }
        let top = top_level(self.entry_count);
        let mut last = None;
        for ((level, index), _) in &writes.nodes {
            let NodePlace { tier, chunk, .. } = NodePlace::new(*level, *index);
            let base = level_of(tier);
            let first = chunk.saturating_mul(1 << (NODE_ROWS - 1));
            let is_old = base <= top && first < node_count(base, self.entry_count);
            if is_old && last != Some((tier, chunk)) {
                prover.nodes(tier, chunk)?;
            }
            last = Some((tier, chunk));
        }
        Ok(())
    }

    /// Whether a group of leaves is in memory.
    pub(super) fn has_group(&self, group: u64) -> bool {
        usize::try_from(group).is_ok_and(|number| self.groups.get(number).is_some())
    }

    /// Begins a checkpoint: gives what differs from the disk.
    pub(super) fn freeze(&mut self) -> Arc<Frozen> {
        let frozen = Arc::new(Frozen {
            entry_count: self.entry_count,
            groups: self.groups.freeze(),
            tiers: self.tiers.iter_mut().map(Pages::freeze).collect(),
            fresh: std::mem::take(&mut self.fresh),
        });
        self.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// What was frozen is on disk.
    pub(super) fn thaw(&mut self) {
        self.frozen = None;
        self.groups.thaw();
        self.tiers.iter_mut().for_each(Pages::thaw);
    }

    pub(super) const fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Leaves written since the last checkpoint began.
    pub(super) const fn written(&self) -> usize {
        self.fresh.written
    }

    /// Leaves written that are not on disk yet.
    pub(super) fn unwritten(&self) -> usize {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.fresh.written);
        self.fresh.written.saturating_add(frozen)
    }

    /// Lets go of pages that equal the disk's until about as many bytes are taken as may be.
    pub(super) fn shrink(&mut self) {
        let nodes_max = self.nodes_max();
        if let Some(lowest) = self.tiers.first_mut() {
            lowest.shrink(nodes_max);
        }
        self.groups.shrink(self.groups_max());
    }

    /// Whether clearly more is in memory than should be, and could give way.
    pub(super) fn is_over(&self) -> bool {
        let is_over = |excess: usize, max: usize| excess > max / 16 + OVER;
        let (groups, nodes) = (self.groups_max(), self.nodes_max());
        is_over(self.groups.excess(groups), groups)
            || self.tiers.first().is_some_and(|lowest| is_over(lowest.excess(nodes), nodes))
    }

    /// Eight leaves have 64 bytes of nodes, so that a fifth is plenty for them.
    const fn nodes_max(&self) -> usize {
        self.bytes_max / 5 / NODES_BYTES
    }

    const fn groups_max(&self) -> usize {
        (self.bytes_max - self.bytes_max / 5) / GROUP_BYTES
    }

    /// Whether a whole chunk of leaves may come into memory.
    pub(super) fn has_room(&self) -> bool {
        self.groups.resident().saturating_add(GROUPS_PER_CHUNK) <= self.groups_max()
    }

    /// About how many bytes the pages take.
    pub(super) fn bytes(&self) -> usize {
        let nodes: usize = self.tiers.iter().map(Pages::resident).sum();
        self.groups.resident() * GROUP_BYTES + nodes * NODES_BYTES
    }

    /// From the newest to the oldest.
    fn fresh(&self) -> impl Iterator<Item = &Fresh> {
        std::iter::once(&self.fresh).chain(self.frozen.as_deref().map(|frozen| &frozen.fresh))
    }

    /// Number of a key that is not on disk yet.
    pub(super) fn number_of(&self, key: &Key) -> Option<u64> {
        self.fresh().find_map(|fresh| fresh.keys.get(key).copied())
    }

    /// The greatest key below `key` among those that are not on disk yet.
    pub(super) fn key_below(&self, key: &Key) -> Option<(Key, u64)> {
        let below = (Bound::Unbounded, Bound::Excluded(*key));
        let greatest = |fresh: &Fresh| {
            fresh.keys.range(below).next_back().map(|(key, number)| (*key, *number))
        };
        self.fresh().filter_map(greatest).max()
    }

    /// A value that is too long for a slot and not on disk yet.
    pub(super) fn long_value(&self, number: u64) -> Option<&Value> {
        self.fresh().find_map(|fresh| fresh.long_values.get(&number))
    }
}
