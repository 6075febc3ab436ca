//! Opening a chain: check what is on disk, execute again what lies after the checkpoint.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ait_engine::block::Header;
use ait_engine::execute::{BlockError, execute_block};
use ait_engine::genesis::Genesis;
use ait_engine::state::{Key, StateView};
use ait_engine::transaction::{Payload, VerifiedTransaction};
use ait_engine::types::Height;
use tokio::sync::{broadcast, watch};

use super::blocks::{BlockStore, CommittedBlock, GenesisSource};
use super::certified::{Damage, RecentBlocks};
use super::index::Index;
use super::read::{Chain, Head, Inner, validators};
use super::state::{CheckpointPolicy, StateStore};
use super::{ChainError, ChainWriter, Stores};
use crate::planted::Bug;

/// How often the log says how far it is with what takes long.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Blocks that a slow subscriber may be behind.
const EVENT_BLOCKS: usize = 256;

/// How to run a chain.
#[derive(Debug, Clone, Copy)]
pub struct ChainOptions {
    /// When to write checkpoints.
    pub checkpoints: CheckpointPolicy,
    /// About how much memory pages of the state may take, beside what is not on disk yet.
    pub state_bytes: usize,
    /// Whether transactions and accounts are indexed.
    pub index: bool,
    /// Whether index and checkpoints are written in steps, by who calls [`ChainWriter::step`],
    /// and not by threads.
    pub in_steps: bool,
    /// A bug of the simulator's tests.
    #[doc(hidden)]
    pub planted: Option<Bug>,
}

impl Default for ChainOptions {
    fn default() -> Self {
        Self {
            checkpoints: CheckpointPolicy::default(),
            state_bytes: 1_024 << 20,
            index: true,
            in_steps: false,
            planted: None,
        }
    }
}

/// What opening does, for a progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenProgress {
    /// Executes the blocks after the checkpoint again.
    Replay {
        /// Blocks done.
        done: u64,
        /// Blocks in all.
        total: u64,
    },
}

/// Opens the chain in these stores, making it from the genesis if they are empty.
///
/// # Errors
/// [`ChainError`] when a store fails, is corrupt, or belongs to another chain.
pub fn open(
    stores: &Stores,
    source: &GenesisSource<'_>,
    options: &ChainOptions,
    progress: &mut dyn FnMut(OpenProgress),
) -> Result<ChainWriter, ChainError> {
    let (blocks, genesis) = BlockStore::open(Arc::clone(&stores.blocks), source)?;
    let missing = |height| ChainError::blocks_corrupt(format!("block {height} is missing"));
    let (genesis_id, genesis_header) =
        blocks.header(Height::ZERO)?.ok_or_else(|| missing(Height::ZERO))?;
    let first_state = || match genesis {
        Some(genesis) => Ok(genesis.state),
        None => (source.build)().map(|genesis: Genesis| genesis.state),
    };
    let storage = Arc::clone(&stores.state);
    let state = StateStore::open(storage, genesis_id, options.state_bytes, first_state)?;
    let index = Index { storage: Arc::clone(&stores.index), is_kept: options.index };
    let (head, checkpoint) = (blocks.height()?, state.checkpoint_height());
    let indexed = index.height()?;
    all_made_of(head, checkpoint, indexed)?;
    let (_, at_checkpoint) = blocks.header(checkpoint)?.ok_or_else(|| missing(checkpoint))?;
    if at_checkpoint.state_root != state.head().1 {
        let what = format!("the state on disk is not that of block {checkpoint}");
        return Err(ChainError::corrupt(what));
    }
    let parent = replay(&blocks, &state, at_checkpoint, head, options, progress)?;
    let validators = validators(&state.reader())?;
    let known = Head {
        height: head,
        block_id: parent.id(),
        header: Arc::new(parent.clone()),
        transaction_total: transaction_total(&blocks, &index, head)?,
    };
    debug_assert_eq!(genesis_header.id(), genesis_id);
    let inner = Inner {
        blocks,
        state,
        index,
        genesis_id,
        validators: validators.clone(),
        recent: RecentBlocks::default(),
        damage: Damage::default(),
        head: watch::Sender::new(known),
        indexed: watch::Sender::new(indexed),
        events: broadcast::Sender::new(EVENT_BLOCKS),
    };
    let chain = Chain { inner: Arc::new(inner) };
    look_at_newest(&chain, head)?;
    ChainWriter::new(chain, parent, validators, options)
}

/// Refuses a state and an index that were made of more blocks than there are.
pub(super) fn all_made_of(head: Height, state: Height, index: Height) -> Result<(), ChainError> {
    match [("state", state), ("index", index)].into_iter().find(|(_, height)| *height > head) {
        Some((part, height)) => Err(ChainError::BlocksLost { head, part, height }),
        None => Ok(()),
    }
}

/// Reads the newest blocks, which are asked for first. What is damaged is not given to anybody and
/// keeps nobody from the others.
fn look_at_newest(chain: &Chain, head: Height) -> Result<(), ChainError> {
    for height in head.get().saturating_sub(NEWEST - 1)..=head.get() {
        match chain.block(Height::saturating(height)) {
            Err(error) if !error.is_damage() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Newest blocks that a start looks at.
const NEWEST: u64 = 16;

/// Blocks that are read ahead of their execution.
const BLOCKS_AHEAD: usize = 4;

/// Executes the blocks after the checkpoint; gives the header of the last. Another thread
/// reads them ahead, and what they touch of the state, unless there are to be none.
fn replay(
    blocks: &BlockStore,
    state: &StateStore,
    mut parent: Header,
    head: Height,
    options: &ChainOptions,
    progress: &mut dyn FnMut(OpenProgress),
) -> Result<Header, ChainError> {
    let first = parent.height.get() + 1;
    let total = head.get() + 1 - first;
    std::thread::scope(|scope| {
        let (ahead, read) = sync_channel(BLOCKS_AHEAD);
        let is_ahead = total > 0 && !options.in_steps;
        if is_ahead {
            scope.spawn(move || read_ahead(blocks, state, first..=head.get(), &ahead));
        }
        for height in first..=head.get() {
            progress(OpenProgress::Replay { done: height - first, total });
            let block = match is_ahead {
                // The other thread ends early only if it panicked, and the scope with it.
                true => read.recv().map_err(|_| ChainError::Stopped { what: "a reader" })??,
                false => stored(blocks, height)?,
            };
            parent = execute(state, &parent, &block, options.checkpoints)?;
        }
        Ok::<(), ChainError>(())
    })?;
    progress(OpenProgress::Replay { done: total, total });
    Ok(parent)
}

/// Executes a block and takes it over; gives its header.
fn execute(
    state: &StateStore,
    parent: &Header,
    block: &CommittedBlock,
    policy: CheckpointPolicy,
) -> Result<Header, ChainError> {
    let transactions = block.block.transactions.iter().cloned();
    let verified: Vec<_> = transactions.map(VerifiedTransaction::assume_verified).collect();
    let header = &block.block.header;
    let transition = {
        let reader = state.reader();
        execute_block(&reader, parent, header, &verified).map_err(|error| match error {
            BlockError::State(fault) => fault.into(),
            other => ChainError::Replay { height: header.height, reason: other.to_string() },
        })?
    };
    state.apply(header.height, &transition.writes)?;
    // A crash leaves less than this. Where the state is made anew it bounds the memory.
    if state.unwritten() > policy.entries.saturating_mul(2)
        && let Some(checkpoint) = state.begin_checkpoint(&policy)
    {
        state.finish_checkpoint(&checkpoint)?;
    }
    Ok(header.clone())
}

fn stored(blocks: &BlockStore, height: u64) -> Result<CommittedBlock, ChainError> {
    let block = blocks.block(Height::saturating(height))?;
    block.ok_or_else(|| ChainError::blocks_corrupt(format!("block {height} is missing")))
}

fn read_ahead(
    blocks: &BlockStore,
    state: &StateStore,
    heights: std::ops::RangeInclusive<u64>,
    ahead: &SyncSender<Result<CommittedBlock, ChainError>>,
) {
    for height in heights {
        let read = stored(blocks, height);
        if let Ok(block) = &read {
            warm(state, block);
        }
        let is_last = read.is_err();
        if ahead.send(read).is_err() || is_last {
            return;
        }
    }
}

/// Brings accounts of a block into memory. What cannot be read is found by who needs it.
fn warm(state: &StateStore, block: &CommittedBlock) {
    for transaction in &block.block.transactions {
        let to = match &transaction.payload {
            Payload::Transfer { to, .. } | Payload::Mint { to, .. } => Some(*to),
            _ => None,
        };
        for address in std::iter::once(transaction.sender()).chain(to) {
            // A reader each, so that blocks are not held up.
            let reader = state.reader();
            if let Ok(Some(number)) = reader.number_of(&Key::account(&address)) {
                let _ = reader.leaf(number);
            }
        }
    }
}

/// Transactions up to the head: those in the index, and those of later headers.
fn transaction_total(blocks: &BlockStore, index: &Index, head: Height) -> Result<u64, ChainError> {
    // Also of an index that is not kept any more: its blocks need not be counted again.
    let mut total = index.meta()?.transaction_count;
    let mut told = Instant::now();
    for height in index.height()?.get() + 1..=head.get() {
        let missing = || ChainError::blocks_corrupt(format!("block {height} is missing"));
        let (_, header) = blocks.header(Height::saturating(height))?.ok_or_else(missing)?;
        total = total.saturating_add(u64::from(header.transaction_count));
        if told.elapsed() >= TOLD_EVERY {
            tracing::info!(height, %head, "counting the transactions of blocks without an index");
            told = Instant::now();
        }
    }
    Ok(total)
}
