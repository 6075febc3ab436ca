//! The store of state: a checkpoint on disk, and in memory pages of the newest state.
//!
//! Invariants: a page that differs from the checkpoint is in memory; a checkpoint is one
//! atomic batch that moves the height on disk; a reader sees memory and disk of one moment.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ait_engine::state::{GROUP_LEAVES, WriteSet};
use ait_engine::types::{BlockId, Height, StateRoot};
use ait_storage::Storage;

use super::ChainError;
use super::checkpoint::{Checkpoint, Parts, write};
use super::numbers::Numbers;
use super::proven::Prover;
use super::resident::Resident;
use super::tables::{ONLY, SCHEMA_VERSION, STATE_META, read_state_meta};
use super::view::{DiskView, StateReader};

/// When a checkpoint is due.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointPolicy {
    /// After this many blocks,
    pub blocks: u64,
    /// or when entries were written this often: a start after a crash executes that much again.
    pub entries: usize,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { blocks: 256, entries: 2_000_000 }
    }
}

/// What readers and the writer share.
pub(super) struct Shared {
    pub(super) resident: Resident,
    pub(super) disk: DiskView,
    /// Height and root of the newest state.
    height: Height,
    root: StateRoot,
    /// Height on disk.
    checkpoint: Height,
    /// Whether a block was taken over in part: this state is none, and must not reach the disk.
    is_broken: bool,
}

impl Shared {
    pub(super) const fn height(&self) -> Height {
        self.height
    }

    /// Reads from disk what is not in memory.
    pub(super) const fn prover(&self) -> Prover<'_> {
        Prover { resident: &self.resident, disk: &self.disk, root: self.root }
    }
}

/// The state of the chain.
pub struct StateStore {
    storage: Arc<dyn Storage>,
    genesis: BlockId,
    numbers: Numbers,
    shared: RwLock<Shared>,
}

impl std::fmt::Debug for StateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateStore").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl StateStore {
    /// Opens the state of the chain with this genesis; writes the first state if there is none.
    /// Pages in memory may take about `page_bytes`, and what is not on disk yet besides.
    ///
    /// # Errors
    /// [`ChainError`] when the store cannot be read, is of another chain or a newer program.
    pub fn open(
        storage: Arc<dyn Storage>,
        genesis: BlockId,
        page_bytes: usize,
        first_state: impl FnOnce() -> Result<WriteSet, ChainError>,
    ) -> Result<Self, ChainError> {
        let stored = storage.snapshot()?.get(STATE_META, ONLY)?;
        let meta = if let Some(bytes) = stored {
            read_state_meta(&bytes)?
        } else {
            let writes = first_state()?;
            let nothing = DiskView { entry_count: 0, snapshot: storage.snapshot()?.into() };
            let mut first = Resident::default();
            first.merge(&writes, &nothing, writes.root)?;
            let (frozen, root) = (first.freeze(), writes.root);
            let checkpoint = Checkpoint { frozen, height: Height::ZERO, root };
            write(&*storage, genesis, &checkpoint, Parts::Alone)?;
            let bytes = storage.snapshot()?.get(STATE_META, ONLY)?;
            let missing = || ChainError::corrupt("the first state was not written");
            read_state_meta(&bytes.ok_or_else(missing)?)?
        };
        if meta.schema > SCHEMA_VERSION {
            return Err(ChainError::SchemaTooNew { found: meta.schema, known: SCHEMA_VERSION });
        }
        if meta.genesis != genesis.0 {
            let found = BlockId(meta.genesis);
            return Err(ChainError::corrupt(format!(
                "the state is of the chain that begins with {found}"
            )));
        }
        let disk = DiskView { entry_count: meta.entry_count, snapshot: storage.snapshot()?.into() };
        if let Some(last) = meta.entry_count.checked_sub(1) {
            // Memory is taken for as many: a damaged record must not ask for more than there are.
            disk.group(last / GROUP_LEAVES)?;
        }
        let shared = Shared {
            resident: Resident::new(meta.entry_count, page_bytes)?,
            disk,
            height: meta.height(),
            root: meta.root(),
            checkpoint: meta.height(),
            is_broken: false,
        };
        let numbers = Numbers::new(meta.entry_count);
        Ok(Self { storage, genesis, numbers, shared: RwLock::new(shared) })
    }

    /// Height of the state in a storage, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn height_in(storage: &dyn Storage) -> Result<Option<Height>, ChainError> {
        let stored = storage.snapshot()?.get(STATE_META, ONLY)?;
        stored.map(|bytes| Ok(read_state_meta(&bytes)?.height())).transpose()
    }

    // A poisoned lock means that a thread panicked while it merged a block; the node stops then,
    // and readers of the last moments see the state as far as it came.
    fn read(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A consistent read view at the head.
    #[must_use]
    pub fn reader(&self) -> StateReader<'_> {
        let shared = self.read();
        if !shared.resident.is_over() {
            return StateReader::new(shared, &self.numbers);
        }
        // Readers load pages, and without blocks nothing else lets go of any. Who holds
        // another reader meanwhile is not waited for: the next one does it.
        drop(shared);
        if let Ok(mut shared) = self.shared.try_write() {
            shared.resident.shrink();
        }
        StateReader::new(self.read(), &self.numbers)
    }

    /// Whether a block was taken over in part, so that nothing here is of use any more.
    pub(super) fn is_broken(&self) -> bool {
        self.read().is_broken
    }

    /// Height and root of the newest state.
    #[must_use]
    pub fn head(&self) -> (Height, StateRoot) {
        let shared = self.read();
        (shared.height, shared.root)
    }

    /// Height of the state on disk.
    #[must_use]
    pub fn checkpoint_height(&self) -> Height {
        self.read().checkpoint
    }

    /// How often entries were written that are not on disk yet.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.read().resident.unwritten()
    }

    /// About how many bytes of the state are in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.read().resident.bytes()
    }

    /// Takes over what the block of `height` changed. The block is durable already.
    ///
    /// # Errors
    /// When the disk cannot be read. The state in memory is of no use then.
    pub(super) fn apply(&self, height: Height, writes: &WriteSet) -> Result<(), ChainError> {
        let mut shared = self.write();
        let Shared { resident, disk, root, .. } = &mut *shared;
        if let Err(error) = resident.merge(writes, disk, *root) {
            shared.is_broken = true;
            return Err(error.into());
        }
        resident.shrink();
        shared.height = height;
        shared.root = writes.root;
        Ok(())
    }

    /// Begins a checkpoint of the state as it is, unless one is under way or none is due.
    pub(super) fn begin_checkpoint(&self, policy: &CheckpointPolicy) -> Option<Checkpoint> {
        let mut shared = self.write();
        let blocks = shared.height.get().saturating_sub(shared.checkpoint.get());
        let due = blocks >= policy.blocks.max(1) || shared.resident.written() >= policy.entries;
        if shared.is_broken || shared.resident.is_frozen() || blocks == 0 || !due {
            return None;
        }
        let frozen = shared.resident.freeze();
        Some(Checkpoint { frozen, height: shared.height, root: shared.root })
    }

    /// Writes a checkpoint and lets go of what it held in memory.
    pub(super) fn finish_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), ChainError> {
        write(&*self.storage, self.genesis, checkpoint, Parts::Together)?;
        let snapshot = self.storage.snapshot()?.into();
        let mut shared = self.write();
        shared.disk = DiskView { entry_count: checkpoint.frozen.entry_count, snapshot };
        shared.resident.thaw();
        shared.checkpoint = checkpoint.height;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ait_engine::state::{Account, GenesisTree, Key, Leaf, StateView, update};
    use ait_engine::types::Amount;
    use ait_storage::{Batch, Durability, KeyRange, MemoryStorage};

    use crate::chain::tables::{KEYS, LEAVES, NODES};

    use super::*;

    const ENTRIES: u64 = 20_000;
    const NOW: CheckpointPolicy = CheckpointPolicy { blocks: 1, entries: 0 };

    fn first_state() -> WriteSet {
        let mut tree = GenesisTree::default();
        for n in 1..ENTRIES {
            let mut key = [1; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            assert!(tree.insert(Key(key), Account::default().into()));
        }
        tree.build()
    }

    fn open(storage: &Arc<dyn Storage>, page_bytes: usize) -> StateStore {
        let id = BlockId([7; 32]);
        StateStore::open(Arc::clone(storage), id, page_bytes, || Ok(first_state())).unwrap()
    }

    /// Another balance for each of these.
    fn change(state: &StateStore, numbers: impl Iterator<Item = u64>, balance: u64) -> WriteSet {
        let (reader, balance) = (state.reader(), Amount::saturating(balance));
        let leaf = |n| Leaf {
            value: Account { balance, ..Account::default() }.into(),
            ..reader.leaf(n).unwrap()
        };
        let leaves = numbers.map(|n| (n, leaf(n))).collect();
        update(&reader, ENTRIES, leaves, std::collections::BTreeMap::new()).unwrap()
    }

    fn balance(state: &StateStore, number: u64) -> u64 {
        let value = state.reader().leaf(number).unwrap().value;
        Account::try_from(&value).unwrap().balance.get()
    }

    #[test]
    fn what_a_failed_checkpoint_should_have_written_is_still_read() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let state = open(&storage, 0);
        let writes = change(&state, (1..ENTRIES).step_by(64), 5);
        state.apply(Height::saturating(1), &writes).unwrap();
        // Begun, and never finished: as if the disk were full.
        drop(state.begin_checkpoint(&NOW).unwrap());
        for height in 2..6 {
            let writes = change(&state, std::iter::once(2), height);
            state.apply(Height::saturating(height), &writes).unwrap();
        }
        assert!((1..ENTRIES).step_by(64).all(|number| balance(&state, number) == 5));
        assert_eq!(balance(&state, 2), 5);
        assert!(state.begin_checkpoint(&NOW).is_none());
    }

    #[test]
    fn a_block_taken_over_in_part_never_reaches_the_disk() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        drop(open(&storage, 0));
        let mut damage = Batch::new();
        damage.delete_range(LEAVES, KeyRange::between(5_u64.to_be_bytes(), 9_u64.to_be_bytes()));
        storage.commit(damage, Durability::Immediate).unwrap();
        let state = open(&storage, 0);
        let good = change(&state, 1..9, 5);
        state.apply(Height::saturating(1), &good).unwrap();
        let leaf = good.leaves[0].1.clone();
        let bad = WriteSet { leaves: vec![(1, leaf.clone()), (4_000, leaf)], ..good };
        assert!(state.apply(Height::saturating(2), &bad).is_err());
        assert!(state.is_broken() && state.begin_checkpoint(&NOW).is_none());
        assert_eq!(open(&storage, 0).checkpoint_height(), Height::ZERO);
    }

    #[test]
    fn who_reads_the_whole_state_leaves_little_of_it_in_memory() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        drop(open(&storage, 0));
        let state = open(&storage, 0);
        for _ in 0..3 {
            for number in 0..ENTRIES {
                state.reader().leaf(number).unwrap();
            }
        }
        // Of 2,500 groups, those that may be over the bound.
        let kept = state.memory_bytes() / 576;
        assert!((1..1_200).contains(&kept), "{kept} groups");
    }
    /// Every row of every table, one byte of it altered: the entry is right or an error.
    #[test]
    fn no_altered_byte_of_any_table_gives_another_state() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        drop(open(&storage, 0));
        let keys: Vec<(u64, Leaf)> = {
            let state = open(&storage, 0);
            let leaf = |number| (number, state.reader().leaf(number).unwrap());
            (0..ENTRIES).step_by(97).map(leaf).collect()
        };
        let mut unlike = Key([1; 32]);
        unlike.0[..8].copy_from_slice(&500_u64.to_be_bytes());
        unlike.0[31] = 9;
        let mut found = 0;
        for table in [LEAVES, NODES, KEYS] {
            let rows: Vec<_> = {
                let snapshot = storage.snapshot().unwrap();
                let rows = snapshot.range(table, KeyRange::all(), ait_storage::Direction::Forward);
                rows.unwrap()
                    .map(|row| row.unwrap())
                    .map(|(k, v)| (k.to_vec(), v.to_vec()))
                    .collect()
            };
            for (at, (key, value)) in rows.iter().enumerate().step_by(rows.len() / 40 + 1) {
                let mut altered = value.clone();
                let place = (at * 7_919) % altered.len();
                altered[place] ^= 1 << (at % 8);
                let mut batch = Batch::new();
                batch.put(table, key.clone(), altered);
                storage.commit(batch, Durability::Immediate).unwrap();
                let state = open(&storage, 1 << 30);
                for (number, leaf) in &keys {
                    let reader = state.reader();
                    let by_key = reader.number_of(&leaf.key);
                    let read = reader.leaf(*number);
                    assert!(
                        by_key.as_ref().map_or(true, |found| *found == Some(*number)),
                        "{by_key:?}"
                    );
                    assert!(read.as_ref().map_or(true, |read| read == leaf), "{read:?}");
                    found += usize::from(by_key.is_err() || read.is_err());
                }
                let absent = state.reader().number_of(&unlike);
                assert!(absent.as_ref().map_or(true, Option::is_none), "{absent:?}");
                let mut batch = Batch::new();
                batch.put(table, key.clone(), value.clone());
                storage.commit(batch, Durability::Immediate).unwrap();
            }
        }
        assert!(found > 40, "only {found} were seen");
        // A key that is gone is no account that never was.
        let mut batch = Batch::new();
        batch.delete(KEYS, keys[7].1.key.0.to_vec());
        storage.commit(batch, Durability::Immediate).unwrap();
        assert!(open(&storage, 0).reader().number_of(&keys[7].1.key).is_err());
    }
}
