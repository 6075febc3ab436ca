//! Building a block from transactions, and checking a received one by building it again.

use std::borrow::Borrow;

use super::{Context, Draft, Fault, Refusal, StateFault, apply, credit};
use crate::block::{Block, FieldDifference, Header, PROTOCOL_VERSION, transaction_leaves};
use crate::list;
use crate::outcome::Outcome;
use crate::params::Settings;
use crate::state::{EntryKind, Key, StateView, WriteSet};
use crate::transaction::{Payload, Transaction, VerifiedTransaction};
use crate::types::{Address, Amount, BlockId, TimestampMs, TxHash};
use crate::validator::ValidatorSet;

/// What executing a block changes; nothing of it is stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Transition {
    /// The block's id.
    pub block_id: BlockId,
    /// An outcome for each transaction, in order.
    pub outcomes: Vec<Outcome>,
    /// What changes in the state.
    pub writes: WriteSet,
    /// Validators of the next height.
    pub next_validators: ValidatorSet,
}

/// A bound of the block that another transaction would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// As many transactions as a block may hold.
    #[error("the block holds as many transactions as it may")]
    Transactions,
    /// As many bytes as a block may hold.
    #[error("the block has no room for the transaction's bytes")]
    Bytes,
}

/// Why a block is not valid here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError<E> {
    /// A transaction does not apply.
    #[error("transaction {index} ({tx_hash}) does not apply: {refusal}")]
    Transaction {
        /// Its position.
        index: usize,
        /// Its hash.
        tx_hash: TxHash,
        /// Why.
        refusal: Refusal,
    },
    /// A block without transactions is never made.
    #[error("the block holds no transaction")]
    Empty,
    /// The block passes a bound.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// A header field is not what executing the block gives.
    #[error("the header's {field} is {found}, expected {expected}")]
    Header {
        /// The field.
        field: &'static str,
        /// What executing gives.
        expected: String,
        /// What the header says.
        found: String,
    },
    /// The state cannot be used any more; not the block's fault.
    #[error(transparent)]
    State(StateFault<E>),
}

impl<E> From<StateFault<E>> for BlockError<E> {
    fn from(fault: StateFault<E>) -> Self {
        Self::State(fault)
    }
}

/// Transactions whose entries are expected together: few enough for the processor's nearest
/// cache.
pub const EXPECTED_TOGETHER: usize = 32;

/// A block being built over a state.
#[derive(Debug)]
pub struct BlockBuilder<'p, V> {
    draft: Draft<V>,
    parent: &'p Header,
    context: Context,
    proposer: Address,
    settings: Settings,
    validators: ValidatorSet,
    transactions: Vec<Transaction>,
    outcomes: Vec<Outcome>,
    fees: Amount,
    bytes: u64,
}

impl<'p, V: StateView> BlockBuilder<'p, V> {
    /// Begins the block after `parent`, whose state `view` is.
    ///
    /// # Errors
    /// [`BlockError::Header`] if height, time or proposer cannot be; [`BlockError::State`]
    /// if the state cannot be read.
    pub fn new(
        view: V,
        parent: &'p Header,
        time: TimestampMs,
        proposer: Address,
    ) -> Result<Self, BlockError<V::Error>> {
        let mismatch =
            |field, expected: String, found: String| BlockError::Header { field, expected, found };
        let height = parent.height.next().ok_or_else(|| {
            mismatch("height", "one that exists".to_owned(), parent.height.to_string())
        })?;
        if time <= parent.time {
            let expected = format!("later than the parent's {}", parent.time);
            return Err(mismatch("time", expected, time.to_string()));
        }
        let seed = parent.id().0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut draft = Draft::new(view, seed);
        let validators: ValidatorSet =
            read(&mut draft, &Key::validators(), EntryKind::Validators, "validator set")?;
        if validators.get(&proposer).is_none() {
            return Err(mismatch("proposer", "a validator".to_owned(), proposer.to_string()));
        }
        let settings = read(&mut draft, &Key::settings(), EntryKind::Settings, "settings")?;
        Ok(Self {
            draft,
            parent,
            context: Context { chain_id: parent.chain_id, height, time },
            proposer,
            settings,
            validators,
            transactions: Vec::new(),
            outcomes: Vec::new(),
            fees: Amount::ZERO,
            bytes: 0,
        })
    }

    /// How many transactions were applied.
    #[must_use]
    pub fn transaction_count(&self) -> usize {
        self.transactions.len()
    }

    /// Whether the block has room for another transaction of `byte_count` bytes.
    ///
    /// # Errors
    /// The [`Limit`] that it would pass.
    pub fn check_room(&self, byte_count: u32) -> Result<(), Limit> {
        let params = &self.settings.params;
        if self.transactions.len() as u64 >= params.block_transactions_max {
            return Err(Limit::Transactions);
        }
        if self.bytes.saturating_add(u64::from(byte_count)) > params.block_bytes_max {
            return Err(Limit::Bytes);
        }
        Ok(())
    }

    /// Says that the first of these transactions are pushed next, which makes that faster and
    /// changes nothing else. To be called again after each [`EXPECTED_TOGETHER`].
    pub fn expect(&self, transactions: &[impl Borrow<VerifiedTransaction>]) {
        let mut keys = Vec::with_capacity(EXPECTED_TOGETHER.saturating_mul(2));
        for transaction in transactions.iter().take(EXPECTED_TOGETHER).map(Borrow::borrow) {
            keys.push(Key::account(&transaction.sender()));
            if let Payload::Transfer { to, .. } = &transaction.transaction().payload {
                keys.push(Key::account(to));
            }
        }
        self.draft.expect(&keys);
    }

    /// Makes room in memory for as many transactions more.
    pub fn reserve(&mut self, count: usize) {
        let max = self.settings.params.block_transactions_max;
        let count = count.min(usize::try_from(max).unwrap_or(usize::MAX));
        self.transactions.reserve(count);
        self.outcomes.reserve(count);
        // Of a sender and of a recipient.
        self.draft.reserve(count.saturating_mul(2));
    }

    /// Applies a transaction and adds it to the block. The caller asks
    /// [`BlockBuilder::check_room`] first; [`BlockBuilder::finish`] checks again.
    ///
    /// # Errors
    /// [`Fault::Refused`] if it does not apply, and is not added; [`Fault::State`] if
    /// the state cannot be read.
    pub fn push(
        &mut self,
        transaction: impl Borrow<VerifiedTransaction>,
    ) -> Result<(), Fault<V::Error>> {
        let transaction = transaction.borrow();
        let outcome = apply(&mut self.draft, &self.context, &self.settings, transaction)?;
        // Fees are part of the supply, so that their sum is in bounds.
        self.fees = self.fees.checked_add(outcome.fee).ok_or(Refusal::SupplyOverflow)?;
        self.bytes = self.bytes.saturating_add(u64::from(transaction.byte_count()));
        self.outcomes.push(outcome);
        self.transactions.push(transaction.transaction().clone());
        Ok(())
    }

    /// Pays the fees out, computes the roots and closes the block.
    ///
    /// # Errors
    /// [`BlockError::Empty`] without a transaction, [`BlockError::Limit`] over a bound,
    /// [`BlockError::State`] if the state cannot be read.
    pub fn finish(mut self) -> Result<(Block, Transition), BlockError<V::Error>> {
        if self.transactions.is_empty() {
            return Err(BlockError::Empty);
        }
        let params = &self.settings.params;
        if self.transactions.len() as u64 > params.block_transactions_max {
            return Err(Limit::Transactions.into());
        }
        if self.bytes > params.block_bytes_max {
            return Err(Limit::Bytes.into());
        }
        self.pay_proposer()?;
        let next_validators = self.validators.clone();
        let writes = self.draft.finish()?;
        let (leaves, bytes) = transaction_leaves(&self.transactions);
        let (outcome_leaves, _) = list::leaf_hashes(&self.outcomes);
        let header = Header {
            version: PROTOCOL_VERSION,
            chain_id: self.context.chain_id,
            height: self.context.height,
            parent: self.parent.id(),
            time: self.context.time,
            proposer: self.proposer,
            transactions_root: list::root(&leaves),
            outcomes_root: list::root(&outcome_leaves),
            state_root: writes.root,
            validators_hash: self.validators.hash(),
            next_validators_hash: next_validators.hash(),
            // Both are bounded by the parameters' own bounds, checked above.
            transaction_count: u32::try_from(leaves.len()).unwrap_or(u32::MAX),
            body_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        let block_id = header.id();
        let Self { mut transactions, mut outcomes, .. } = self;
        // Room was made for all that were offered; a block of few of them lives for long.
        if transactions.len() < transactions.capacity() / 2 {
            transactions.shrink_to_fit();
            outcomes.shrink_to_fit();
        }
        let block = Block { header, transactions };
        Ok((block, Transition { block_id, outcomes, writes, next_validators }))
    }

    /// Finishes a block that was received with this header, which must be the very same; gives
    /// the block made again, body and all.
    ///
    /// # Errors
    /// [`BlockError`] if there is no such block, or its header differs.
    pub fn finish_as(self, header: &Header) -> Result<(Block, Transition), BlockError<V::Error>> {
        let (rebuilt, transition) = self.finish()?;
        match rebuilt.header.differences(header).into_iter().next() {
            Some(FieldDifference { field, expected, found }) => {
                Err(BlockError::Header { field, expected, found })
            }
            None => Ok((rebuilt, transition)),
        }
    }

    fn pay_proposer(&mut self) -> Result<(), BlockError<V::Error>> {
        let missing = BlockError::State(StateFault::Missing { what: "proposer" });
        let payout = self.validators.get(&self.proposer).ok_or(missing)?.payout;
        if self.fees == Amount::ZERO {
            return Ok(());
        }
        match credit(&mut self.draft, &payout, self.fees) {
            Ok(()) => Ok(self.draft.keep()?),
            Err(Fault::State(fault)) => Err(fault.into()),
            // The fees are part of the supply, which is in bounds, so that no balance passes it.
            Err(Fault::Refused(_)) => {
                Err(StateFault::Missing { what: "balance below the supply" }.into())
            }
        }
    }
}

fn read<V: StateView, T: crate::codec::Canonical>(
    draft: &mut Draft<V>,
    key: &Key,
    kind: EntryKind,
    what: &'static str,
) -> Result<T, StateFault<V::Error>> {
    let value = draft.get(key)?.ok_or(StateFault::Missing { what })?;
    value.decode(kind).map_err(StateFault::Corrupt)
}

/// Executes a received block over the state of `parent` and checks every field of its header.
///
/// `transactions` are the block's, verified, in order.
///
/// # Errors
/// [`BlockError`]: the first thing that is wrong with it.
pub fn execute_block<V: StateView>(
    view: V,
    parent: &Header,
    header: &Header,
    transactions: &[VerifiedTransaction],
) -> Result<Transition, BlockError<V::Error>> {
    let finished = refill_block(view, parent, header, transactions)?.finish_as(header);
    finished.map(|(_, transition)| transition)
}

/// Builds a received block again over the state of `parent`: the block as it should be, of
/// which only time, proposer and transactions are taken from what was received.
///
/// # Errors
/// [`BlockError`] if there is no such block.
pub fn rebuild_block<V: StateView>(
    view: V,
    parent: &Header,
    header: &Header,
    transactions: &[VerifiedTransaction],
) -> Result<(Block, Transition), BlockError<V::Error>> {
    refill_block(view, parent, header, transactions)?.finish()
}

/// Executes the transactions of a received block over the state of `parent`, without the
/// roots: those are left to [`BlockBuilder::finish`] and [`BlockBuilder::finish_as`].
///
/// # Errors
/// [`BlockError`] if one of them does not apply or the block is too large.
pub fn refill_block<'a, V: StateView>(
    view: V,
    parent: &'a Header,
    header: &Header,
    transactions: &[VerifiedTransaction],
) -> Result<BlockBuilder<'a, V>, BlockError<V::Error>> {
    let mut builder = BlockBuilder::new(view, parent, header.time, header.proposer)?;
    builder.reserve(transactions.len());
    for (index, transaction) in transactions.iter().enumerate() {
        if index.is_multiple_of(EXPECTED_TOGETHER) {
            builder.expect(transactions.get(index..).unwrap_or_default());
        }
        let tx_hash = transaction.hash();
        builder.check_room(transaction.byte_count())?;
        builder.push(transaction).map_err(|fault| match fault {
            Fault::Refused(refusal) => BlockError::Transaction { index, tx_hash, refusal },
            Fault::State(fault) => BlockError::State(fault),
        })?;
    }
    Ok(builder)
}
