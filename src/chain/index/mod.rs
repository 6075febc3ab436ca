//! Indexes over the committed chain: where a transaction is, what an account did.
//!
//! Derived data: written behind the commit point by [`build`], all of it can be made again
//! from blocks and state. Where transactions are and who took part stands in sorted runs
//! ([`runs`]); the list of accounts by balance ([`list`]) is brought up to date when there is
//! time. What an account holds is the state's to say.
//! Every read is bounded by its limit.

pub(super) mod build;
mod list;
mod marks;
mod runs;

use std::sync::Arc;

use ait_engine::state::Account;
use ait_engine::types::{Address, Amount, BlockId, Height, Nonce, TimestampMs, TxHash};
use ait_storage::{Direction, KeyRange, Snapshot, Storage};

use super::ChainError;
use super::tables::{
    ACCOUNT_TXS, BLOCK_HEIGHTS, INDEX_META, INDEX_VERSION, IndexMeta, ONLY, PAYOUTS, RECEIPT_ORDER,
    RECEIPTS, RICHEST, TX_LOCATIONS, TX_TOTALS, read_index_meta,
};
use runs::Runs;

pub(super) use list::Listing;

/// Where a transaction is: height of its block and position therein.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Height of the block.
    pub height: Height,
    /// Position in the block, from 0.
    pub index: u32,
}

impl Location {
    pub(super) const BYTES: usize = 12;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.height.get().to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, ChainError> {
        let parts = bytes.split_first_chunk::<8>().and_then(|(height, index)| {
            Some((u64::from_be_bytes(*height), u32::from_be_bytes(index.try_into().ok()?)))
        });
        let (height, index) =
            parts.ok_or_else(|| ChainError::corrupt("a location in the index"))?;
        Ok(Self { height: Height::saturating(height), index })
    }
}

/// Which side of a transaction an account is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It sent it.
    Sent,
    /// It received something by it.
    Received,
}

/// What an account holds and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountStats {
    /// Base units it holds.
    pub balance: Amount,
    /// Its next nonce.
    pub nonce: Nonce,
    /// Transactions that it sent.
    pub sent: u64,
    /// Transactions by which it received something.
    pub received: u64,
    /// Time of the last block that touched it.
    pub updated_at: TimestampMs,
}

/// Read access to the indexes.
#[derive(Debug, Clone)]
pub struct Index {
    pub(super) storage: Arc<dyn Storage>,
    /// Whether it is kept up: nothing is read of one that is not.
    pub(super) is_kept: bool,
}

/// Bytes of a record of [`TX_LOCATIONS`]: hash and location.
const TX_BYTES: usize = 32 + Location::BYTES;
/// Bytes of what the records of an account's side begin with, and of such a record.
const SIDE_BYTES: usize = 33;
const ACCOUNT_TX_BYTES: usize = SIDE_BYTES + Location::BYTES;

fn account_tx_prefix(address: &Address, side: Side) -> [u8; SIDE_BYTES] {
    let mut prefix = [0; SIDE_BYTES];
    prefix[..32].copy_from_slice(&address.0);
    prefix[32] = match side {
        Side::Sent => 0,
        Side::Received => 1,
    };
    prefix
}

fn richest_key(balance: u64, address: &Address) -> Vec<u8> {
    [&(u64::MAX - balance).to_be_bytes()[..], &address.0].concat()
}

impl Index {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, ChainError> {
        if self.is_kept { Ok(self.storage.snapshot()?) } else { Err(ChainError::IndexDisabled) }
    }

    pub(super) fn meta(&self) -> Result<IndexMeta, ChainError> {
        meta(&*self.storage.snapshot()?)
    }

    /// An index by itself: for tools that look at a damaged chain.
    #[must_use]
    pub const fn existing(storage: Arc<dyn Storage>) -> Self {
        Self { storage, is_kept: true }
    }

    /// Whether this node keeps it. What is asked of one that is not kept is
    /// [`ChainError::IndexDisabled`].
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Whether anything was ever written to it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn is_begun(&self) -> Result<bool, ChainError> {
        Ok(self.meta()?.version != 0)
    }

    /// Height up to which the index goes.
    ///
    /// # Errors
    /// When the store fails.
    pub fn height(&self) -> Result<Height, ChainError> {
        Ok(Height::saturating(self.meta()?.height))
    }

    /// Whether the list of accounts goes as far as the index does.
    pub fn is_listed(&self) -> Result<bool, ChainError> {
        let meta = self.meta()?;
        Ok(meta.version == INDEX_VERSION && meta.listed == meta.height + 1)
    }

    /// Height of the first block that is not in the index.
    pub(super) fn next_height(&self) -> Result<Height, ChainError> {
        let meta = self.meta()?;
        let is_here = meta.version == INDEX_VERSION;
        Ok(Height::saturating(if is_here { meta.height + 1 } else { 0 }))
    }

    /// Where a transaction is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn transaction(&self, hash: &TxHash) -> Result<Option<Location>, ChainError> {
        let snapshot = self.snapshot()?;
        let meta = meta(&*snapshot)?;
        let found = tx_runs(&*snapshot, &meta).newest(&hash.0)?;
        found.map(|record| Location::from_bytes(record.get(32..).unwrap_or_default())).transpose()
    }

    /// Where the claim of a receipt is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn receipt(&self, receipt_id: &str) -> Result<Option<Location>, ChainError> {
        let found = self.snapshot()?.get(RECEIPTS, receipt_id.as_bytes())?;
        found.map(|bytes| Location::from_bytes(&bytes)).transpose()
    }

    /// Height of the block with this id.
    ///
    /// # Errors
    /// When the store fails.
    pub fn block_height(&self, id: &BlockId) -> Result<Option<Height>, ChainError> {
        let stored = self.snapshot()?.get(BLOCK_HEIGHTS, &id.0)?;
        stored.map(|bytes| integer(&bytes).map(Height::saturating)).transpose()
    }

    /// Transactions in the chain.
    ///
    /// # Errors
    /// When the store fails.
    pub fn transaction_count(&self) -> Result<u64, ChainError> {
        Ok(meta(&*self.snapshot()?)?.transaction_count)
    }

    /// At most `limit` transactions, newest first, without the `offset` newest.
    ///
    /// # Errors
    /// When the store fails.
    pub fn transactions(&self, offset: u64, limit: usize) -> Result<Vec<Location>, ChainError> {
        let snapshot = self.snapshot()?;
        let meta = meta(&*snapshot)?;
        let Some(mut ordinal) = meta.transaction_count.checked_sub(offset) else {
            return Ok(Vec::new());
        };
        let mut locations = Vec::new();
        // The lowest height up to which there are at least `ordinal` transactions holds the last of them.
        let mut height = first_height_with(&*snapshot, meta.height, ordinal)?;
        while ordinal > 0 && locations.len() < limit {
            let before = if height == 0 { 0 } else { total(&*snapshot, height - 1)? };
            while ordinal > before && locations.len() < limit {
                ordinal -= 1;
                let index = u32::try_from(ordinal - before).unwrap_or(u32::MAX);
                locations.push(Location { height: Height::saturating(height), index });
            }
            height = height.saturating_sub(1);
        }
        Ok(locations)
    }

    /// What an account did, beside what the state says that it holds; none where there is
    /// no index.
    ///
    /// # Errors
    /// When the store fails.
    pub fn account(
        &self,
        address: &Address,
        account: &Account,
    ) -> Result<Option<AccountStats>, ChainError> {
        if !self.is_kept {
            return Ok(None);
        }
        let snapshot = self.snapshot()?;
        let meta = meta(&*snapshot)?;
        let is_here = meta.version == INDEX_VERSION;
        is_here.then(|| stats(&*snapshot, &meta, address, account)).transpose()
    }

    /// Transactions of an account, newest first, those before a location if one is given.
    ///
    /// # Errors
    /// When the store fails.
    pub fn account_transactions(
        &self,
        address: &Address,
        side: Side,
        before: Option<Location>,
        limit: usize,
    ) -> Result<Vec<Location>, ChainError> {
        let from = account_tx_prefix(address, side);
        // Locations are never all ones.
        let last = [u8::MAX; Location::BYTES];
        let before = before.map_or(last, Location::to_bytes);
        let to = [&from[..], &before].concat();
        let snapshot = self.snapshot()?;
        let meta = meta(&*snapshot)?;
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        account_runs(&*snapshot, &meta).newest_first(&from, &to, |record| {
            found.push(Location::from_bytes(record.get(SIDE_BYTES..).unwrap_or_default())?);
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    /// Accounts in the list.
    ///
    /// # Errors
    /// When the store fails.
    pub fn account_count(&self) -> Result<u64, ChainError> {
        Ok(meta(&*self.snapshot()?)?.account_count)
    }

    /// Accounts that hold at least `min_balance` with what they hold, richest first, after one
    /// if it is given. While the node is busy, the list may be some minutes old.
    ///
    /// # Errors
    /// When the store fails.
    pub fn richest(
        &self,
        min_balance: Amount,
        after: Option<(Amount, Address)>,
        limit: usize,
    ) -> Result<Vec<(Address, Amount)>, ChainError> {
        let range = match after {
            Some((balance, address)) => KeyRange::after(richest_key(balance.get(), &address)),
            None => KeyRange::all(),
        };
        let snapshot = self.snapshot()?;
        let mut found = Vec::new();
        for entry in snapshot.range(RICHEST, range, Direction::Forward)?.take(limit) {
            let (key, _) = entry?;
            let parts = key.split_first_chunk::<8>().and_then(|(balance, address)| {
                let balance = Amount::new(u64::MAX - u64::from_be_bytes(*balance))?;
                Some((Address(address.try_into().ok()?), balance))
            });
            let (address, balance) =
                parts.ok_or_else(|| ChainError::corrupt("a key in the index of balances"))?;
            if balance < min_balance {
                break;
            }
            found.push((address, balance));
        }
        Ok(found)
    }

    /// Claimed receipts.
    ///
    /// # Errors
    /// When the store fails.
    pub fn receipt_count(&self) -> Result<u64, ChainError> {
        Ok(meta(&*self.snapshot()?)?.receipt_count)
    }

    /// At most `limit` claims, newest first, without the `offset` newest.
    ///
    /// # Errors
    /// When the store fails.
    pub fn receipts(&self, offset: u64, limit: usize) -> Result<Vec<Location>, ChainError> {
        let snapshot = self.snapshot()?;
        let Some(end) = meta(&*snapshot)?.receipt_count.checked_sub(offset) else {
            return Ok(Vec::new());
        };
        let range = KeyRange::before(end.to_be_bytes());
        let entries = snapshot.range(RECEIPT_ORDER, range, Direction::Reverse)?;
        entries.take(limit).map(|entry| Location::from_bytes(&entry?.1)).collect()
    }
}

fn meta(snapshot: &dyn Snapshot) -> Result<IndexMeta, ChainError> {
    match snapshot.get(INDEX_META, ONLY)? {
        Some(bytes) => read_index_meta(&bytes),
        None => Ok(IndexMeta::default()),
    }
}

const fn tx_runs<'a>(snapshot: &'a dyn Snapshot, meta: &'a IndexMeta) -> Runs<'a, TX_BYTES> {
    Runs { table: TX_LOCATIONS, snapshot, runs: meta.tx_runs.as_slice() }
}

const fn account_runs<'a>(
    snapshot: &'a dyn Snapshot,
    meta: &'a IndexMeta,
) -> Runs<'a, ACCOUNT_TX_BYTES> {
    Runs { table: ACCOUNT_TXS, snapshot, runs: meta.account_runs.as_slice() }
}

fn stats(
    snapshot: &dyn Snapshot,
    meta: &IndexMeta,
    address: &Address,
    account: &Account,
) -> Result<AccountStats, ChainError> {
    let runs = account_runs(snapshot, meta);
    let mut counts = [0, 0];
    // At genesis, unless something came later.
    let mut last = Height::ZERO;
    for (count, side) in counts.iter_mut().zip([Side::Sent, Side::Received]) {
        let prefix = account_tx_prefix(address, side);
        *count = runs.count(&prefix)?;
        if let Some(record) = runs.newest(&prefix)? {
            let at = Location::from_bytes(record.get(SIDE_BYTES..).unwrap_or_default())?;
            last = last.max(at.height);
        }
    }
    let (_, mut updated) = totals(snapshot, last.get())?;
    if let Some(bytes) = snapshot.get(PAYOUTS, &address.0)? {
        updated = updated.max(integer(&bytes)?);
    }
    let [sent, received] = counts;
    let updated_at = TimestampMs::saturating(updated);
    let Account { balance, nonce } = *account;
    Ok(AccountStats { balance, nonce, sent, received, updated_at })
}

fn integer(bytes: &[u8]) -> Result<u64, ChainError> {
    let bytes = bytes.try_into().map_err(|_| ChainError::corrupt("an integer in the index"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Transactions up to and including `height`, and its block's time.
fn totals(snapshot: &dyn Snapshot, height: u64) -> Result<(u64, u64), ChainError> {
    let missing = || ChainError::corrupt(format!("the index has no total for height {height}"));
    let bytes = snapshot.get(TX_TOTALS, &height.to_be_bytes())?.ok_or_else(missing)?;
    let (total, time) = bytes.split_first_chunk::<8>().ok_or_else(missing)?;
    Ok((u64::from_be_bytes(*total), integer(time)?))
}

/// Transactions up to and including `height`.
fn total(snapshot: &dyn Snapshot, height: u64) -> Result<u64, ChainError> {
    Ok(totals(snapshot, height)?.0)
}

fn first_height_with(snapshot: &dyn Snapshot, head: u64, ordinal: u64) -> Result<u64, ChainError> {
    let (mut low, mut high) = (0, head);
    while low < high {
        let middle = low + (high - low) / 2;
        if total(snapshot, middle)? >= ordinal {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}
