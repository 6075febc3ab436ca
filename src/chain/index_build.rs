//! Writing the indexes: one batch for all blocks that wait.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ait_engine::receipt::Receipt;
use ait_engine::state::{Account, StateView};
use ait_engine::transaction::Payload;
use ait_engine::types::{Address, Amount, Height};
use ait_engine::validator::ValidatorSet;
use ait_storage::{Batch, Durability, Snapshot};

use super::blocks::CommittedBlock;
use super::index::{Index, Location, Side, account_tx_prefix, richest_key};
use super::read::{Inner, account, validators};
use super::tables::{
    ACCOUNT_TXS, ACCOUNTS, AccountRecord, BLOCK_HEIGHTS, INDEX_META, IndexMeta, ONLY,
    RECEIPT_ORDER, RECEIPTS, RICHEST, SCHEMA_VERSION, TX_LOCATIONS, TX_TOTALS, read_account,
    to_bytes,
};
use super::{ChainError, StateReader};

/// A committed block and what the accounts that it touched hold after it.
#[derive(Debug)]
pub(super) struct Indexable {
    pub(super) block: Arc<CommittedBlock>,
    pub(super) accounts: Vec<(Address, Account)>,
    /// Who got the block's fees, if there were any.
    pub(super) payout: Option<Address>,
}

/// Entries of the state that are read under one lock.
const READ_ENTRIES: u64 = 4_096;

impl Indexable {
    /// A committed block from the store, with what its accounts hold now: that is what they
    /// held after it, or after a later block that will be indexed as well.
    pub(super) fn read(inner: &Inner, height: Height) -> Result<Self, ChainError> {
        let missing = || ChainError::corrupt(format!("block {height} is missing"));
        let block = match inner.recent.get(height) {
            Some(block) => block,
            None => Arc::new(inner.blocks.block(height)?.ok_or_else(missing)?),
        };
        if height == Height::ZERO {
            let accounts = all_accounts(inner)?;
            return Ok(Self { block, accounts, payout: None });
        }
        let state = inner.state.reader();
        let payout = payout(&block, &validators(&state)?);
        let accounts = touched(&state, &block, payout)?;
        Ok(Self { block, accounts, payout })
    }
}

/// Who gets a block's fees, if there are any.
pub(super) fn payout(block: &CommittedBlock, validators: &ValidatorSet) -> Option<Address> {
    let has_fees = block.outcomes.iter().any(|outcome| outcome.fee > Amount::ZERO);
    let proposer = validators.get(&block.block.header.proposer).filter(|_| has_fees);
    proposer.map(|validator| validator.payout)
}

fn all_accounts(inner: &Inner) -> Result<Vec<(Address, Account)>, ChainError> {
    let mut accounts = Vec::new();
    let mut first = 0;
    loop {
        // Let go now and then, so that no block waits for long.
        let state = inner.state.reader();
        let end = state.entry_count()?.min(first + READ_ENTRIES);
        if first >= end {
            return Ok(accounts);
        }
        for number in first..end {
            let leaf = state.leaf(number)?;
            if let Ok(account) = Account::try_from(&leaf.value) {
                accounts.push((Address(leaf.key.0), account));
            }
        }
        first = end;
    }
}

/// Accounts that a block can have touched.
fn touched(
    state: &StateReader<'_>,
    block: &CommittedBlock,
    payout: Option<Address>,
) -> Result<Vec<(Address, Account)>, ChainError> {
    let mut addresses = BTreeSet::new();
    for (transaction, outcome) in block.block.transactions.iter().zip(&block.outcomes) {
        addresses.insert(transaction.sender());
        addresses.extend(outcome.rewards.iter().map(|reward| reward.address));
        if let Payload::Transfer { to, .. } = transaction.payload {
            addresses.insert(to);
        }
    }
    addresses.extend(payout);
    let mut accounts = Vec::new();
    for address in addresses {
        if let Some(found) = account(state, &address)? {
            accounts.push((address, found));
        }
    }
    Ok(accounts)
}

struct Update {
    /// The index before the update: one view for all reads.
    before: Box<dyn Snapshot>,
    batch: Batch,
    meta: IndexMeta,
    /// Records being changed, with the balance under which they stand in the index.
    accounts: BTreeMap<Address, (Option<u64>, AccountRecord)>,
}

impl Index {
    /// Adds blocks, which must follow each other and the last one indexed; those that
    /// are in the index already are skipped.
    pub(super) fn add(&self, blocks: &[Indexable]) -> Result<(), ChainError> {
        let before = self.storage.snapshot()?;
        let meta = self.meta()?;
        let is_empty = meta.schema == 0;
        let mut update = Update { before, batch: Batch::new(), meta, accounts: BTreeMap::new() };
        let next = if is_empty { 0 } else { update.meta.height + 1 };
        for indexable in blocks.iter().filter(|b| b.block.height().get() >= next) {
            update.add(indexable)?;
        }
        if update.batch.is_empty() {
            return Ok(());
        }
        let batch = update.finish()?;
        Ok(self.storage.commit(batch, Durability::Immediate)?)
    }
}

impl Update {
    fn add(&mut self, indexable: &Indexable) -> Result<(), ChainError> {
        let block = &indexable.block;
        let height = block.height();
        let key = height.get().to_be_bytes();
        self.batch.put(BLOCK_HEIGHTS, block.id.0, key);
        for (index, hash) in (0_u32..).zip(&block.tx_hashes) {
            let location = Location { height, index };
            self.batch.put(TX_LOCATIONS, hash.0, location.to_bytes());
            self.add_sides(block, location)?;
        }
        self.meta.transaction_count += block.tx_hashes.len() as u64;
        self.batch.put(TX_TOTALS, key, self.meta.transaction_count.to_be_bytes());
        self.meta.height = height.get();
        self.meta.schema = SCHEMA_VERSION;
        for (address, account) in &indexable.accounts {
            let (_, record) = self.account(address)?;
            record.balance = account.balance.get();
            record.nonce = account.nonce.get();
            if height == Height::ZERO {
                record.updated_ms = block.block.header.time.get();
            }
        }
        if let Some(payout) = &indexable.payout {
            let (_, record) = self.account(payout)?;
            record.updated_ms = block.block.header.time.get();
        }
        Ok(())
    }

    fn add_sides(&mut self, block: &CommittedBlock, location: Location) -> Result<(), ChainError> {
        let at = usize::try_from(location.index).unwrap_or(usize::MAX);
        let (Some(transaction), Some(outcome)) =
            (block.block.transactions.get(at), block.outcomes.get(at))
        else {
            return Err(ChainError::corrupt("a block with fewer outcomes than transactions"));
        };
        let time_ms = block.block.header.time.get();
        self.add_side(&transaction.sender(), Side::Sent, location, time_ms)?;
        let mut received: Vec<Address> =
            outcome.rewards.iter().map(|reward| reward.address).collect();
        match &transaction.payload {
            Payload::Transfer { to, .. } => received.push(*to),
            Payload::ReceiptClaim(claim) => self.add_receipt(&claim.receipt, location)?,
            _ => {}
        }
        received.sort_unstable();
        received.dedup();
        for address in received {
            self.add_side(&address, Side::Received, location, time_ms)?;
        }
        Ok(())
    }

    fn add_side(
        &mut self,
        address: &Address,
        side: Side,
        location: Location,
        time_ms: u64,
    ) -> Result<(), ChainError> {
        let mut key = account_tx_prefix(address, side);
        key.extend(location.to_bytes());
        self.batch.put(ACCOUNT_TXS, key, Vec::new());
        let (_, record) = self.account(address)?;
        record.updated_ms = time_ms;
        match side {
            Side::Sent => record.sent += 1,
            Side::Received => record.received += 1,
        }
        Ok(())
    }

    fn add_receipt(&mut self, receipt: &[u8], location: Location) -> Result<(), ChainError> {
        let receipt = Receipt::parse(receipt)
            .map_err(|error| ChainError::corrupt(format!("a committed receipt: {error}")))?;
        let number = self.meta.receipt_count.to_be_bytes();
        self.batch.put(RECEIPT_ORDER, number, location.to_bytes());
        self.batch.put(RECEIPTS, receipt.receipt_id.into_bytes(), location.to_bytes());
        self.meta.receipt_count += 1;
        Ok(())
    }

    fn account(
        &mut self,
        address: &Address,
    ) -> Result<&mut (Option<u64>, AccountRecord), ChainError> {
        match self.accounts.entry(*address) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let record = match self.before.get(ACCOUNTS, &address.0)? {
                    Some(bytes) => {
                        let record = read_account(&bytes)?;
                        (Some(record.balance), record)
                    }
                    None => (None, AccountRecord::default()),
                };
                Ok(entry.insert(record))
            }
        }
    }

    /// The batch; the view is gone before it is committed.
    fn finish(mut self) -> Result<Batch, ChainError> {
        for (address, (old_balance, record)) in &self.accounts {
            match old_balance {
                Some(balance) if *balance == record.balance => {}
                Some(balance) => {
                    self.batch.delete(RICHEST, richest_key(*balance, address));
                    self.batch.put(RICHEST, richest_key(record.balance, address), Vec::new());
                }
                None => {
                    self.meta.account_count += 1;
                    self.batch.put(RICHEST, richest_key(record.balance, address), Vec::new());
                }
            }
            self.batch.put(ACCOUNTS, address.0, to_bytes(record)?);
        }
        self.batch.put(INDEX_META, ONLY, to_bytes(&self.meta)?);
        Ok(self.batch)
    }
}
