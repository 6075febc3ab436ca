//! Indexes over the committed chain: where a transaction is, what an account did.
//!
//! Derived data: written behind the commit point by [`super::index_build`], all of it
//! can be made again from blocks and state. Every read is bounded by its limit.

use std::sync::Arc;

use ait_engine::types::{Address, Amount, BlockId, Height, Nonce, TimestampMs, TxHash};
use ait_storage::{Direction, KeyRange, Snapshot, Storage, Table};

use super::ChainError;
use super::tables::{
    ACCOUNT_TXS, ACCOUNTS, AccountRecord, BLOCK_HEIGHTS, INDEX_META, IndexMeta, ONLY,
    RECEIPT_ORDER, RECEIPTS, RICHEST, TX_LOCATIONS, TX_TOTALS, read_account, read_index_meta,
};

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

impl From<AccountRecord> for AccountStats {
    fn from(record: AccountRecord) -> Self {
        Self {
            balance: Amount::saturating(record.balance),
            nonce: Nonce::saturating(record.nonce),
            sent: record.sent,
            received: record.received,
            updated_at: TimestampMs::saturating(record.updated_ms),
        }
    }
}

/// Read access to the indexes.
#[derive(Debug, Clone)]
pub struct Index {
    pub(super) storage: Arc<dyn Storage>,
}

pub(super) fn account_tx_prefix(address: &Address, side: Side) -> Vec<u8> {
    let mut key = address.0.to_vec();
    key.push(match side {
        Side::Sent => 0,
        Side::Received => 1,
    });
    key
}

pub(super) fn richest_key(balance: u64, address: &Address) -> Vec<u8> {
    [&(u64::MAX - balance).to_be_bytes()[..], &address.0].concat()
}

impl Index {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, ChainError> {
        Ok(self.storage.snapshot()?)
    }

    pub(super) fn meta(&self) -> Result<IndexMeta, ChainError> {
        meta(&*self.snapshot()?)
    }

    /// Height up to which the index goes.
    ///
    /// # Errors
    /// When the store fails.
    pub fn height(&self) -> Result<Height, ChainError> {
        Ok(Height::saturating(self.meta()?.height))
    }

    /// Height of the first block that is not in the index.
    pub(super) fn next_height(&self) -> Result<Height, ChainError> {
        let meta = self.meta()?;
        Ok(Height::saturating(if meta.schema == 0 { 0 } else { meta.height + 1 }))
    }

    fn location(&self, table: Table, key: &[u8]) -> Result<Option<Location>, ChainError> {
        self.snapshot()?.get(table, key)?.map(|bytes| Location::from_bytes(&bytes)).transpose()
    }

    /// Where a transaction is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn transaction(&self, hash: &TxHash) -> Result<Option<Location>, ChainError> {
        self.location(TX_LOCATIONS, &hash.0)
    }

    /// Where the claim of a receipt is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn receipt(&self, receipt_id: &str) -> Result<Option<Location>, ChainError> {
        self.location(RECEIPTS, receipt_id.as_bytes())
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
        Ok(self.meta()?.transaction_count)
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

    /// What an account holds and did; none if no block touched it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn account(&self, address: &Address) -> Result<Option<AccountStats>, ChainError> {
        let stored = self.snapshot()?.get(ACCOUNTS, &address.0)?;
        stored.map(|bytes| read_account(&bytes).map(AccountStats::from)).transpose()
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
        let prefix = account_tx_prefix(address, side);
        let range = match before {
            Some(location) => {
                let end = [&prefix[..], &location.to_bytes()].concat();
                KeyRange::between(prefix.clone(), end)
            }
            None => KeyRange::prefix(prefix.clone()),
        };
        let snapshot = self.snapshot()?;
        let entries = snapshot.range(ACCOUNT_TXS, range, Direction::Reverse)?;
        entries
            .take(limit)
            .map(|entry| Location::from_bytes(entry?.0.get(prefix.len()..).unwrap_or_default()))
            .collect()
    }

    /// Accounts in the state.
    ///
    /// # Errors
    /// When the store fails.
    pub fn account_count(&self) -> Result<u64, ChainError> {
        Ok(self.meta()?.account_count)
    }

    /// Accounts that hold at least `min_balance`, richest first, after one if it is given.
    ///
    /// # Errors
    /// When the store fails.
    pub fn richest(
        &self,
        min_balance: Amount,
        after: Option<(Amount, Address)>,
        limit: usize,
    ) -> Result<Vec<(Address, AccountStats)>, ChainError> {
        let range = match after {
            Some((balance, address)) => KeyRange::after(richest_key(balance.get(), &address)),
            None => KeyRange::all(),
        };
        let snapshot = self.snapshot()?;
        let mut found = Vec::new();
        for entry in snapshot.range(RICHEST, range, Direction::Forward)?.take(limit) {
            let (key, _) = entry?;
            let address = key
                .get(8..)
                .and_then(|bytes| bytes.try_into().ok().map(Address))
                .ok_or_else(|| ChainError::corrupt("a key in the index of balances"))?;
            let record = snapshot
                .get(ACCOUNTS, &address.0)?
                .ok_or_else(|| ChainError::corrupt("an account in the index of balances alone"))?;
            let stats = AccountStats::from(read_account(&record)?);
            if stats.balance < min_balance {
                break;
            }
            found.push((address, stats));
        }
        Ok(found)
    }

    /// Claimed receipts.
    ///
    /// # Errors
    /// When the store fails.
    pub fn receipt_count(&self) -> Result<u64, ChainError> {
        Ok(self.meta()?.receipt_count)
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

fn integer(bytes: &[u8]) -> Result<u64, ChainError> {
    let bytes = bytes.try_into().map_err(|_| ChainError::corrupt("an integer in the index"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Transactions up to and including `height`.
fn total(snapshot: &dyn Snapshot, height: u64) -> Result<u64, ChainError> {
    match snapshot.get(TX_TOTALS, &height.to_be_bytes())? {
        Some(bytes) => integer(&bytes),
        None => Err(ChainError::corrupt(format!("the index has no total for height {height}"))),
    }
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
