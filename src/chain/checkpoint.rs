//! A checkpoint: the state of one height on its way to the disk.

use std::sync::Arc;

use ait_engine::types::{BlockId, Height, StateRoot};
use ait_storage::{Batch, Durability, Place, Snapshot, Storage, StorageError, Table};

use super::ChainError;
use super::pages::SharedPage;
use super::resident::{Frozen, Group};
use super::tables::{
    GROUPS_PER_CHUNK, KEYS, LEAVES, LEAVES_PER_CHUNK, LONG_VALUES, LeafChunk, NODES, NodeChunk,
    ONLY, SCHEMA_VERSION, STATE_META, StateMeta, read_leaves, to_bytes,
};
use super::view::node_key;

/// Bytes of a part of a checkpoint.
const PART_BYTES: usize = 32 << 20;

/// What is on its way to disk.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) frozen: Arc<Frozen>,
    pub(super) height: Height,
    pub(super) root: StateRoot,
}

impl Checkpoint {
    pub(super) const fn height(&self) -> Height {
        self.height
    }
}

/// Whether the parts of a checkpoint may be there without each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// All or none of them.
    Together,
    /// Each for itself: without its record a first state is none, and is written again.
    Alone,
}

/// Writes a checkpoint in the order of keys and in parts; the last one has the record that says
/// what state it is.
pub(super) fn write(
    storage: &dyn Storage,
    genesis: BlockId,
    checkpoint: &Checkpoint,
    parts: Parts,
) -> Result<(), ChainError> {
    let snapshot = storage.snapshot()?;
    let meta = StateMeta {
        schema: SCHEMA_VERSION,
        genesis: genesis.0,
        height: checkpoint.height.get(),
        entry_count: checkpoint.frozen.entry_count,
        root: checkpoint.root.0,
    };
    let meta = std::iter::once_with(|| Ok((STATE_META, ONLY.to_vec(), to_bytes(&meta)?)));
    let mut rows = rows(&checkpoint.frozen, &*snapshot).chain(meta);
    let mut next = || {
        let mut part = Batch::new();
        for row in &mut rows {
            let (table, key, value): Row = row?;
            part.put(table, key, value);
            if part.bytes() >= PART_BYTES {
                break;
            }
        }
        Ok::<_, ChainError>((!part.is_empty()).then_some(part))
    };
    if parts == Parts::Alone {
        while let Some(part) = next()? {
            storage.commit(part, Durability::Immediate)?;
        }
        return Ok(());
    }
    let mut fault = None;
    let mut next = || {
        next().map_err(|error| match error {
            ChainError::Storage(error) => error,
            other => {
                let detail = other.to_string();
                fault = Some(other);
                StorageError::Corrupt { place: Place::Wrapper, detail }
            }
        })
    };
    let written = storage.commit_parts(&mut next, Durability::Immediate);
    match fault {
        Some(fault) => Err(fault),
        None => Ok(written?),
    }
}

type Row = (Table, Vec<u8>, Vec<u8>);

/// What a checkpoint changes, each row made when it is asked for.
fn rows<'a>(
    frozen: &'a Frozen,
    before: &'a dyn Snapshot,
) -> impl Iterator<Item = Result<Row, ChainError>> + 'a {
    let chunks = frozen.groups.chunk_by(|a, b| a.0 / GROUPS_PER_CHUNK == b.0 / GROUPS_PER_CHUNK);
    let leaves = chunks.map(|groups| leaf_chunk(groups, frozen.entry_count, before));
    let long_values = frozen.fresh.long_values.iter().map(|(number, value)| {
        Ok((LONG_VALUES, number.to_be_bytes().to_vec(), value.as_bytes().to_vec()))
    });
    let keys = frozen.fresh.keys.iter();
    let keys = keys.map(|(key, number)| Ok((KEYS, key.0.to_vec(), number.to_le_bytes().to_vec())));
    let nodes = frozen.tiers.iter().enumerate().flat_map(|(tier, pages)| {
        pages.iter().map(move |(number, page)| {
            let chunk = NodeChunk { hashes: ***page };
            Ok((NODES, node_key(tier, *number as u64).to_vec(), to_bytes(&chunk)?))
        })
    });
    leaves.chain(long_values).chain(keys).chain(nodes)
}

/// A chunk of leaves with those groups as they are now.
fn leaf_chunk(
    groups: &[(usize, SharedPage<Group>)],
    entry_count: u64,
    before: &dyn Snapshot,
) -> Result<Row, ChainError> {
    let number = groups.first().map_or(0, |(first, _)| first / GROUPS_PER_CHUNK) as u64;
    let key = number.to_be_bytes();
    let is_whole = groups.len() == GROUPS_PER_CHUNK;
    let stored = if is_whole { None } else { before.get(LEAVES, &key)? };
    let mut slots = match stored {
        Some(bytes) => read_leaves(&bytes)?.slots,
        None => Vec::new(),
    };
    let count = entry_count.saturating_sub(number.saturating_mul(LEAVES_PER_CHUNK));
    slots.resize(usize::try_from(count.min(LEAVES_PER_CHUNK)).unwrap_or(0), [0; 64]);
    for (group, page) in groups {
        let begin = (group % GROUPS_PER_CHUNK) * page.0.len();
        for (slot, written) in slots.iter_mut().skip(begin).zip(&page.0) {
            *slot = *written;
        }
    }
    Ok((LEAVES, key.to_vec(), to_bytes(&LeafChunk { slots })?))
}
