//! Read access to the chain, shared by all parts of the node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ait_engine::block::Header;
use ait_engine::certificate::Certificate;
use ait_engine::codec::Canonical;
use ait_engine::execute::{BlockBuilder, BlockError, EXPECTED_TOGETHER, Fault, Refusal};
use ait_engine::params::Settings;
use ait_engine::state::{Account, EntryKind, Key, StateProof, StateView, Supply, Value};
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{Address, BlockId, ChainId, Height, StateRoot, TimestampMs};
use ait_engine::validator::ValidatorSet;
use tokio::sync::{broadcast, watch};

use super::certified::{Damage, RecentBlocks};
use super::{BlockStore, ChainError, CommittedBlock, Index, StateReader, StateStore};

/// The newest committed block.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its height.
    pub height: Height,
    /// Its id.
    pub block_id: BlockId,
    /// Its header.
    pub header: Arc<Header>,
    /// Transactions in the chain up to it.
    pub transaction_total: u64,
}

/// A proof with the header and the certificate it leads to.
#[derive(Debug, Clone)]
pub struct Proven {
    /// Header whose state root the proof leads to.
    pub header: Header,
    /// Why the header is final; none for genesis.
    pub certificate: Option<Certificate>,
    /// The proof.
    pub proof: StateProof,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) blocks: BlockStore,
    pub(super) state: StateStore,
    pub(super) index: Index,
    pub(super) genesis_id: BlockId,
    /// Validators of every height: no transaction changes them.
    pub(super) validators: ValidatorSet,
    pub(super) recent: RecentBlocks,
    pub(super) damage: Damage,
    pub(super) head: watch::Sender<Head>,
    /// Height up to which the index goes.
    pub(super) indexed: watch::Sender<Height>,
    pub(super) events: broadcast::Sender<Arc<CommittedBlock>>,
}

/// The chain, to read from. Methods that read storage may wait for the disk: async code
/// calls them from a blocking task.
#[derive(Debug, Clone)]
pub struct Chain {
    pub(super) inner: Arc<Inner>,
}

impl Chain {
    /// Name of the chain.
    #[must_use]
    pub fn chain_id(&self) -> ChainId {
        self.inner.head.borrow().header.chain_id
    }

    /// Id of the genesis block.
    #[must_use]
    pub fn genesis_id(&self) -> BlockId {
        self.inner.genesis_id
    }

    /// The newest committed block; the index may be some blocks behind it. Never waits.
    #[must_use]
    pub fn head(&self) -> Head {
        self.inner.head.borrow().clone()
    }

    /// Changes of the head.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Head> {
        self.inner.head.subscribe()
    }

    /// Every block once it is committed; a slow reader misses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<CommittedBlock>> {
        self.inner.events.subscribe()
    }

    /// A committed block, with a certificate that proves it final.
    ///
    /// # Errors
    /// When the store fails, or what it has does not prove.
    pub fn block(&self, height: Height) -> Result<Option<Arc<CommittedBlock>>, ChainError> {
        if let Some(block) = self.inner.recent.get(height) {
            return Ok(Some(block));
        }
        let block = self.inner.damage.note(self.inner.certified(height))?.map(Arc::new);
        if let Some(block) = &block {
            self.inner.recent.put(block);
        }
        Ok(block)
    }

    /// Whether a block needs not be read from storage.
    #[must_use]
    pub fn is_in_memory(&self, height: Height) -> bool {
        self.inner.recent.has(height)
    }

    /// A committed block as the store has it, whether or not it is in memory, too.
    pub(crate) fn stored_block(
        &self,
        height: Height,
    ) -> Result<Option<CommittedBlock>, ChainError> {
        self.inner.blocks.block(height)
    }

    /// Id and header of a committed block.
    ///
    /// # Errors
    /// When the store fails.
    pub fn header(&self, height: Height) -> Result<Option<(BlockId, Header)>, ChainError> {
        self.inner.damage.note(self.inner.blocks.header(height))
    }

    /// Certificate of a committed block, which proves it final; none for genesis. Read with its
    /// block, which is mostly in memory and verified already.
    ///
    /// # Errors
    /// As [`Chain::block`].
    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>, ChainError> {
        Ok(self.block(height)?.and_then(|block| block.certificate.clone()))
    }

    /// What was found damaged first since the start, if anything was.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.inner.damage.first()
    }

    /// Height of the committed block with this id.
    ///
    /// # Errors
    /// When the store fails.
    pub fn height_of(&self, id: &BlockId) -> Result<Option<Height>, ChainError> {
        self.inner.index.block_height(id)
    }

    /// The indexes.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.inner.index
    }

    /// Height up to which the index goes.
    #[must_use]
    pub fn indexed_height(&self) -> Height {
        *self.inner.indexed.borrow()
    }

    /// Waits until the index has every block that is committed now, at most `timeout`; whether
    /// it has.
    pub async fn indexed(&self, timeout: Duration) -> bool {
        if !self.inner.index.is_kept {
            return false;
        }
        let wanted = self.head().height;
        let mut indexed = self.inner.indexed.subscribe();
        let waited = tokio::time::timeout(timeout, indexed.wait_for(|height| *height >= wanted));
        matches!(waited.await, Ok(Ok(_)))
    }

    /// As [`Chain::indexed`], for a thread of its own.
    #[must_use]
    pub fn wait_until_indexed(&self, timeout: Duration) -> bool {
        let (wanted, began) = (self.head().height, Instant::now());
        while self.indexed_height() < wanted {
            if !self.inner.index.is_kept || began.elapsed() > timeout {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// The state after the newest committed block. Writers wait while the reader lives.
    #[must_use]
    pub fn state(&self) -> StateReader<'_> {
        self.inner.state.reader()
    }

    /// Height of the newest committed state.
    #[must_use]
    pub fn state_height(&self) -> Height {
        self.inner.state.head().0
    }

    /// Height and root of the newest committed state.
    #[must_use]
    pub fn state_head(&self) -> (Height, StateRoot) {
        self.inner.state.head()
    }

    /// Height of the state on disk, and how often entries were written since.
    #[must_use]
    pub fn checkpoint(&self) -> (Height, usize) {
        (self.inner.state.checkpoint_height(), self.inner.state.unwritten())
    }

    /// About how many bytes of the state are in memory.
    #[must_use]
    pub fn state_memory_bytes(&self) -> usize {
        self.inner.state.memory_bytes()
    }

    /// An account; none if it was never used.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn account(&self, address: &Address) -> Result<Option<Account>, ChainError> {
        self.inner.damage.note(account(&self.state(), address))
    }

    /// Accounts as of one state.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn accounts(&self, addresses: &[Address]) -> Result<Vec<Option<Account>>, ChainError> {
        let state = self.state();
        let mut accounts = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(EXPECTED_TOGETHER) {
            state.expect(&part.iter().map(Key::account).collect::<Vec<_>>());
            for address in part {
                accounts.push(self.inner.damage.note(account(&state, address))?);
            }
        }
        Ok(accounts)
    }

    /// What the state holds under a key.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn value(&self, key: &Key) -> Result<Option<Value>, ChainError> {
        self.inner.damage.note(value(&self.state(), key))
    }

    /// Parameters and roles.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn settings(&self) -> Result<Settings, ChainError> {
        decode(&self.state(), &Key::settings(), EntryKind::Settings, "settings")
    }

    /// Validators of the next height.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn validators(&self) -> Result<ValidatorSet, ChainError> {
        validators(&self.state())
    }

    /// The supply.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn supply(&self) -> Result<Supply, ChainError> {
        let value = value(&self.state(), &Key::supply())?;
        let value = value.ok_or_else(|| ChainError::corrupt("the state has no supply"))?;
        Supply::try_from(&value).map_err(|error| ChainError::corrupt(error.to_string()))
    }

    /// Proof of what the state holds under a key, or that it holds nothing.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn prove(&self, key: &Key) -> Result<Proven, ChainError> {
        let (height, proof) = {
            let state = self.state();
            let proof = StateProof::new(&state, key).map_err(ChainError::from);
            (state.shared.height(), self.inner.damage.note(proof)?)
        };
        let missing = || ChainError::blocks_corrupt(format!("block {height} is missing"));
        let (_, header) = self.header(height)?.ok_or_else(missing)?;
        Ok(Proven { header, certificate: self.certificate(height)?, proof })
    }

    /// Whether a transaction alone would apply in a block made at `now`; why not, if not.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn try_apply(
        &self,
        transaction: &VerifiedTransaction,
        now: TimestampMs,
    ) -> Result<Option<Refusal>, ChainError> {
        let state = self.state();
        let height = state.shared.height();
        let (_, parent) = self
            .header(height)?
            .ok_or_else(|| ChainError::blocks_corrupt(format!("block {height} is missing")))?;
        let validators = validators(&state)?;
        let time = now.max(parent.time.next().unwrap_or(parent.time));
        let proposer = validators.proposer(height, ait_engine::types::Round::ZERO).address();
        let mut builder =
            BlockBuilder::new(&state, &parent, time, proposer).map_err(from_block_error)?;
        match builder.push(transaction.clone()) {
            Ok(()) => Ok(None),
            Err(Fault::Refused(refusal)) => Ok(Some(refusal)),
            Err(Fault::State(fault)) => Err(fault.into()),
        }
    }
}

/// A block error where only the state can be at fault.
pub(super) fn from_block_error(error: BlockError<super::ViewError>) -> ChainError {
    match error {
        BlockError::State(fault) => fault.into(),
        other => ChainError::corrupt(other.to_string()),
    }
}

fn value(state: &StateReader<'_>, key: &Key) -> Result<Option<Value>, ChainError> {
    Ok(match state.number_of(key)? {
        Some(number) => Some(state.leaf(number)?.value),
        None => None,
    })
}

/// Validators of the next height.
pub(super) fn validators(state: &StateReader<'_>) -> Result<ValidatorSet, ChainError> {
    decode(state, &Key::validators(), EntryKind::Validators, "validator set")
}

pub(super) fn account(
    state: &StateReader<'_>,
    address: &Address,
) -> Result<Option<Account>, ChainError> {
    if address.is_reserved() {
        // Anybody may ask for any 32 bytes, the keys of other entries among them.
        return Ok(None);
    }
    let Some(value) = value(state, &Key::account(address))? else { return Ok(None) };
    let account = Account::try_from(&value);
    account.map(Some).map_err(|error| ChainError::corrupt(format!("account {address}: {error}")))
}

fn decode<T: Canonical>(
    state: &StateReader<'_>,
    key: &Key,
    kind: EntryKind,
    what: &str,
) -> Result<T, ChainError> {
    let value = value(state, key)?
        .ok_or_else(|| ChainError::corrupt(format!("the state has no {what}")))?;
    value.decode(kind).map_err(|error| ChainError::corrupt(format!("{what}: {error}")))
}
