//! The store of state: a checkpoint on disk and what later blocks changed in memory.
//!
//! Invariants: the layers in memory hold exactly the blocks after the checkpoint;
//! a checkpoint is one atomic batch that moves the height on disk; a reader sees
//! layers and disk of one moment.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ait_engine::state::{Layer, Value, WriteSet};
use ait_engine::types::{BlockId, Height, StateRoot};
use ait_storage::{Batch, Durability, Storage};

use super::ChainError;
use super::numbers::Numbers;
use super::tables::{
    KEYS, LEAVES, LEAVES_PER_CHUNK, LONG_VALUES, LeafChunk, NODES, NODES_PER_CHUNK, NodeChunk,
    ONLY, SCHEMA_VERSION, STATE_META, StateMeta, read_leaves, read_nodes, read_state_meta,
    to_bytes,
};
use super::view::{DiskView, StateReader, node_place, slot};

/// When a checkpoint is due.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointPolicy {
    /// After this many blocks,
    pub blocks: u64,
    /// or when this many leaves and nodes lie in memory.
    pub entries: usize,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { blocks: 256, entries: 2_000_000 }
    }
}

/// What readers and the writer share.
pub(super) struct Shared {
    /// Written since the last checkpoint began.
    active: Layer,
    /// Being written to disk.
    frozen: Option<Arc<Layer>>,
    pub(super) disk: DiskView,
    /// Height and root of the newest state.
    height: Height,
    root: StateRoot,
    /// Height on disk.
    checkpoint: Height,
}

impl Shared {
    pub(super) const fn height(&self) -> Height {
        self.height
    }

    /// Layers from the newest to the oldest.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.active).chain(self.frozen.as_deref())
    }
}

/// A layer on its way to disk.
#[derive(Debug)]
pub(super) struct Checkpoint {
    layer: Arc<Layer>,
    height: Height,
    root: StateRoot,
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
    ///
    /// # Errors
    /// [`ChainError`] when the store cannot be read, is of another chain or a newer program.
    pub fn open(
        storage: Arc<dyn Storage>,
        genesis: BlockId,
        first_state: impl FnOnce() -> Result<WriteSet, ChainError>,
    ) -> Result<Self, ChainError> {
        let stored = storage.snapshot()?.get(STATE_META, ONLY)?;
        let meta = if let Some(bytes) = stored {
            read_state_meta(&bytes)?
        } else {
            let writes = first_state()?;
            let mut layer = Layer::default();
            layer.merge(&writes);
            write(&*storage, genesis, &layer, Height::ZERO, writes.root)?;
            let bytes = storage.snapshot()?.get(STATE_META, ONLY)?;
            let missing = || ChainError::corrupt("the first state was not written");
            read_state_meta(&bytes.ok_or_else(missing)?)?
        };
        if meta.schema > SCHEMA_VERSION {
            return Err(ChainError::SchemaTooNew { found: meta.schema, known: SCHEMA_VERSION });
        }
        if meta.genesis != genesis.0 {
            let found = BlockId(meta.genesis);
            return Err(ChainError::OtherChain { expected: genesis, found });
        }
        let disk = DiskView { entry_count: meta.entry_count, snapshot: storage.snapshot()?.into() };
        let shared = Shared {
            active: Layer::default(),
            frozen: None,
            disk,
            height: meta.height(),
            root: meta.root(),
            checkpoint: meta.height(),
        };
        let numbers = Numbers::new(meta.entry_count);
        Ok(Self { storage, genesis, numbers, shared: RwLock::new(shared) })
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
        StateReader::new(self.read(), &self.numbers)
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

    /// Leaves and nodes in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.read().layers().map(Layer::len).sum()
    }

    /// Takes over what the block of `height` changed. The block is durable already.
    pub(super) fn apply(&self, height: Height, writes: &WriteSet) {
        let mut shared = self.write();
        shared.active.merge(writes);
        shared.height = height;
        shared.root = writes.root;
    }

    /// Begins a checkpoint of the state as it is, unless one is under way or none is due.
    pub(super) fn begin_checkpoint(&self, policy: &CheckpointPolicy) -> Option<Checkpoint> {
        let mut shared = self.write();
        let blocks = shared.height.get().saturating_sub(shared.checkpoint.get());
        let due = blocks >= policy.blocks.max(1) || shared.active.len() >= policy.entries;
        if shared.frozen.is_some() || shared.active.is_empty() || !due {
            return None;
        }
        let layer = Arc::new(std::mem::take(&mut shared.active));
        shared.frozen = Some(Arc::clone(&layer));
        Some(Checkpoint { layer, height: shared.height, root: shared.root })
    }

    /// Writes a checkpoint and lets go of what it held in memory.
    pub(super) fn finish_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), ChainError> {
        let Checkpoint { layer, height, root } = checkpoint;
        write(&*self.storage, self.genesis, layer, *height, *root)?;
        let snapshot = self.storage.snapshot()?.into();
        let mut shared = self.write();
        let entry_count = layer.entry_count().unwrap_or(shared.disk.entry_count);
        shared.disk = DiskView { entry_count, snapshot };
        shared.frozen = None;
        shared.checkpoint = *height;
        Ok(())
    }
}

impl Checkpoint {
    pub(super) const fn height(&self) -> Height {
        self.height
    }
}

/// Writes a layer as one durable batch, in the order of keys.
fn write(
    storage: &dyn Storage,
    genesis: BlockId,
    layer: &Layer,
    height: Height,
    root: StateRoot,
) -> Result<(), ChainError> {
    let snapshot = storage.snapshot()?;
    let mut batch = Batch::new();
    let mut leaves = layer.leaves().peekable();
    while let Some((first, _)) = leaves.peek() {
        let chunk = first / LEAVES_PER_CHUNK;
        let key = chunk.to_be_bytes();
        let mut slots = match snapshot.get(LEAVES, &key)? {
            Some(bytes) => read_leaves(&bytes)?.slots,
            None => Vec::new(),
        };
        while let Some((number, leaf)) = leaves.next_if(|(n, _)| n / LEAVES_PER_CHUNK == chunk) {
            let at = usize::try_from(number % LEAVES_PER_CHUNK).unwrap_or(usize::MAX);
            // Numbers are dense and come in order.
            if at == slots.len() {
                slots.push(slot(leaf));
            } else {
                let gap = || ChainError::corrupt(format!("there is a gap before leaf {number}"));
                *slots.get_mut(at).ok_or_else(gap)? = slot(leaf);
            }
            if let Value::Long(bytes) = &leaf.value {
                batch.put(LONG_VALUES, number.to_be_bytes(), bytes.to_vec());
            }
        }
        batch.put(LEAVES, key, to_bytes(&LeafChunk { slots })?);
    }
    for (key, number) in layer.keys() {
        batch.put(KEYS, key.0, number.to_le_bytes());
    }
    let mut chunks: BTreeMap<[u8; 9], NodeChunk> = BTreeMap::new();
    for ((level, index), hash) in layer.nodes() {
        let (key, at) = node_place(level, index);
        let chunk = match chunks.entry(key) {
            Entry::Occupied(chunk) => chunk.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(match snapshot.get(NODES, &key)? {
                Some(bytes) => read_nodes(&bytes)?,
                None => NodeChunk { hashes: [[0; 32]; NODES_PER_CHUNK] },
            }),
        };
        if let Some(place) = chunk.hashes.get_mut(at) {
            *place = hash.0;
        }
    }
    for (key, chunk) in &chunks {
        batch.put(NODES, *key, to_bytes(chunk)?);
    }
    let meta = StateMeta {
        schema: SCHEMA_VERSION,
        genesis: genesis.0,
        height: height.get(),
        entry_count: layer.entry_count().unwrap_or(0),
        root: root.0,
    };
    batch.put(STATE_META, ONLY, to_bytes(&meta)?);
    Ok(storage.commit(batch, Durability::Immediate)?)
}
