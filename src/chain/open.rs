//! Opening a chain: check what is on disk, execute again what lies after the checkpoint.

use std::collections::BTreeSet;
use std::sync::Arc;

use ait_engine::block::Header;
use ait_engine::execute::{BlockError, execute_block};
use ait_engine::genesis::Genesis;
use ait_engine::state::{Account, StateView};
use ait_engine::transaction::{Payload, VerifiedTransaction};
use ait_engine::types::{Address, Height};
use tokio::sync::{broadcast, watch};

use super::blocks::{BlockStore, CommittedBlock, GenesisSource};
use super::index::Index;
use super::index_build::Indexable;
use super::read::{Chain, Head, Inner, account};
use super::state::{CheckpointPolicy, StateStore};
use super::{ChainError, ChainWriter, StateReader, Stores};

/// Blocks that a slow subscriber may be behind.
const EVENT_BLOCKS: usize = 256;
/// Blocks indexed in one batch while the index is made again.
const REBUILD_BLOCKS: usize = 256;

/// How to run a chain.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChainOptions {
    /// When to write checkpoints.
    pub checkpoints: CheckpointPolicy,
}

/// What opening does, for a progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenProgress {
    /// Makes the index of old blocks again.
    Index {
        /// Blocks done.
        done: u64,
        /// Blocks in all.
        total: u64,
    },
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
    let missing = |height| ChainError::corrupt(format!("block {height} is missing"));
    let (genesis_id, genesis_header) =
        blocks.header(Height::ZERO)?.ok_or_else(|| missing(Height::ZERO))?;
    let state = StateStore::open(Arc::clone(&stores.state), genesis_id, || match genesis {
        Some(genesis) => Ok(genesis.state),
        None => (source.build)().map(|genesis: Genesis| genesis.state),
    })?;
    let index = Index { storage: Arc::clone(&stores.index) };
    let (head, checkpoint) = (blocks.height()?, state.checkpoint_height());
    if checkpoint > head {
        let what = format!("the state is at height {checkpoint}, the blocks end at {head}");
        return Err(ChainError::corrupt(what));
    }
    let (_, at_checkpoint) = blocks.header(checkpoint)?.ok_or_else(|| missing(checkpoint))?;
    if at_checkpoint.state_root != state.head().1 {
        let what = format!("the state on disk is not that of block {checkpoint}");
        return Err(ChainError::corrupt(what));
    }
    rebuild_index(&blocks, &state, &index, checkpoint, progress)?;
    let parent = replay(&blocks, &state, &index, at_checkpoint, head, progress)?;
    let known = Head {
        height: head,
        block_id: parent.id(),
        header: Arc::new(parent.clone()),
        transaction_total: index.transaction_count()?,
    };
    debug_assert_eq!(genesis_header.id(), genesis_id);
    let inner = Inner {
        blocks,
        state,
        index,
        genesis_id,
        head: watch::Sender::new(known),
        events: broadcast::Sender::new(EVENT_BLOCKS),
    };
    let chain = Chain { inner: Arc::new(inner) };
    let validators = chain.validators()?;
    ChainWriter::new(chain, parent, validators, options.checkpoints)
}

/// Executes the blocks after the checkpoint; gives the header of the last.
fn replay(
    blocks: &BlockStore,
    state: &StateStore,
    index: &Index,
    mut parent: Header,
    head: Height,
    progress: &mut dyn FnMut(OpenProgress),
) -> Result<Header, ChainError> {
    let first = parent.height.get() + 1;
    let total = head.get() + 1 - first;
    for height in first..=head.get() {
        progress(OpenProgress::Replay { done: height - first, total });
        let block = read(blocks, Height::saturating(height))?;
        let transactions = block.block.transactions.iter().cloned();
        let verified = transactions.map(VerifiedTransaction::assume_verified).collect();
        let header = &block.block.header;
        let transition = {
            let reader = state.reader();
            execute_block(&reader, &parent, header, verified).map_err(|error| match error {
                BlockError::State(fault) => fault.into(),
                other => ChainError::Replay { height: header.height, reason: other.to_string() },
            })?
        };
        parent = header.clone();
        state.apply(parent.height, &transition.writes);
        let accounts = transition.accounts().collect();
        index.add(&[Indexable { block: Arc::new(block), accounts }])?;
    }
    progress(OpenProgress::Replay { done: total, total });
    Ok(parent)
}

fn read(blocks: &BlockStore, height: Height) -> Result<CommittedBlock, ChainError> {
    let missing = || ChainError::corrupt(format!("block {height} is missing"));
    blocks.block(height)?.ok_or_else(missing)
}

/// Indexes the blocks up to the checkpoint that the index lacks: none of them, unless it
/// is new or was deleted. What accounts hold is taken from the state at the checkpoint.
fn rebuild_index(
    blocks: &BlockStore,
    state: &StateStore,
    index: &Index,
    checkpoint: Height,
    progress: &mut dyn FnMut(OpenProgress),
) -> Result<(), ChainError> {
    let meta = index.meta()?;
    let first = if meta.schema == 0 { 0 } else { meta.height + 1 };
    let total = (checkpoint.get() + 1).saturating_sub(first);
    let reader = state.reader();
    let mut batch = Vec::new();
    for height in first..=checkpoint.get() {
        let block = read(blocks, Height::saturating(height))?;
        let accounts = if height == 0 { all_accounts(&reader)? } else { touched(&reader, &block)? };
        batch.push(Indexable { block: Arc::new(block), accounts });
        if batch.len() == REBUILD_BLOCKS || height == checkpoint.get() {
            index.add(&batch)?;
            batch.clear();
            progress(OpenProgress::Index { done: height + 1 - first, total });
        }
    }
    Ok(())
}

fn all_accounts(state: &StateReader<'_>) -> Result<Vec<(Address, Account)>, ChainError> {
    let mut accounts = Vec::new();
    for number in 0..state.entry_count()? {
        let leaf = state.leaf(number)?;
        if let Ok(account) = Account::try_from(&leaf.value) {
            accounts.push((Address(leaf.key.0), account));
        }
    }
    Ok(accounts)
}

/// Accounts that a block can have touched, beside the proposer's, which [`all_accounts`]
/// of the same rebuild has.
fn touched(
    state: &StateReader<'_>,
    block: &CommittedBlock,
) -> Result<Vec<(Address, Account)>, ChainError> {
    let mut addresses = BTreeSet::new();
    for (transaction, outcome) in block.block.transactions.iter().zip(&block.outcomes) {
        addresses.insert(transaction.sender());
        addresses.extend(outcome.rewards.iter().map(|reward| reward.address));
        if let Payload::Transfer { to, .. } = transaction.payload {
            addresses.insert(to);
        }
    }
    let mut accounts = Vec::new();
    for address in addresses {
        if let Some(found) = account(state, &address)? {
            accounts.push((address, found));
        }
    }
    Ok(accounts)
}
