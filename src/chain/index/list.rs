//! The list of accounts by balance.
//!
//! Every transfer moves two accounts in it, each out of one row and into another, at random.
//! That would cost more than all else in the index, so that it is not done for every block:
//! accounts that changed are noted, and moved at once if they are few, else when twenty times
//! as long went by as moving took last, so that a twentieth of a thread's time goes into it.
//! What was noted is made again from the blocks after a restart.
//!
//! Invariant: an account stands in the list under the balance that its row of [`LISTED`]
//! has, and nowhere else.

use std::time::{Duration, Instant};

use ait_engine::state::{Account, StateView};
use ait_engine::types::{Address, Height};
use ait_storage::{Batch, Durability, KeyRange, Snapshot};

use super::super::ChainError;
use super::super::read::{Inner, account};
use super::super::tables::{INDEX_META, IndexMeta, LISTED, ONLY, RICHEST, to_bytes};
use super::build::Indexable;
use super::runs::in_order;
use super::{Index, integer, richest_key};

/// Accounts that are noted at most before they are moved, 32 bytes each; twice as many while
/// it is not known that some are the same.
const NOTED_MAX: usize = 2_000_000;
/// So few are moved at once.
const FEW: usize = 1_000;
/// How many times as long as it took last must go by before it is done again.
const REST: u32 = 20;
/// Accounts that are moved in one batch.
const BATCH_ACCOUNTS: usize = 100_000;
/// Entries of the state that are read under one lock.
const READ_ENTRIES: usize = 4_096;

/// Accounts that are to be moved in the list.
#[derive(Debug)]
pub(in super::super) struct Listing {
    /// Each at least once, in no order.
    noted: Vec<Address>,
    /// Whether there is no list yet.
    is_new: bool,
    /// When the list was last up to date, and how long that took.
    since: Instant,
    took: Duration,
}

impl Listing {
    /// What is noted of the blocks that are in the index and not in the list.
    ///
    /// # Errors
    /// When a store fails.
    pub(in super::super) fn open(inner: &Inner) -> Result<Self, ChainError> {
        let meta = inner.index.meta()?;
        let (is_new, since) = (meta.listed == 0, Instant::now());
        let mut listing = Self { noted: Vec::new(), is_new, since, took: Duration::ZERO };
        if meta.listed > 0 {
            for height in meta.listed..=meta.height {
                let block = Indexable::read(inner, Height::saturating(height))?;
                listing.note(&[block]);
            }
        }
        Ok(listing)
    }

    /// Notes the accounts of blocks.
    pub(super) fn note(&mut self, blocks: &[Indexable]) {
        for block in blocks {
            if block.block.height() > Height::ZERO {
                block.touched(&mut self.noted);
            }
            if self.noted.len() >= 2 * NOTED_MAX {
                self.sort();
            }
        }
    }

    fn sort(&mut self) {
        self.noted.sort_unstable_by(|a, b| in_order(&a.0, &b.0));
        self.noted.dedup();
    }

    /// What is noted, in order; nothing is any more.
    fn take(&mut self) -> Vec<Address> {
        self.sort();
        std::mem::take(&mut self.noted)
    }

    /// How long what is noted may wait; none if nothing is.
    pub(in super::super) fn rest(&self) -> Option<Duration> {
        if self.noted.is_empty() && !self.is_new {
            return None;
        }
        if self.is_new || self.noted.len() >= NOTED_MAX {
            return Some(Duration::ZERO);
        }
        Some((self.took * REST).saturating_sub(self.since.elapsed()))
    }

    /// Whether it is time: `is_level` says that the index has all blocks.
    pub(super) fn is_due(&self, is_level: bool) -> bool {
        (is_level && self.noted.len() <= FEW) || self.rest() == Some(Duration::ZERO)
    }

    /// Moves what is noted if it fits into the batch of the blocks themselves; whether it did.
    pub(super) fn join(
        &mut self,
        inner: &Inner,
        before: &dyn Snapshot,
        batch: &mut Batch,
        meta: &mut IndexMeta,
    ) -> Result<bool, ChainError> {
        if self.is_new || self.noted.len() > FEW {
            return Ok(false);
        }
        let noted = self.take();
        move_accounts(&read(inner, &noted)?, before, batch, meta)?;
        meta.listed = meta.height + 1;
        Ok(true)
    }

    /// Moves all that is noted, in batches of its own.
    pub(in super::super) fn flush(&mut self, inner: &Inner) -> Result<(), ChainError> {
        let index = &inner.index;
        if self.is_new {
            list_all(index, inner)?;
        }
        // What the beginning took says nothing of what comes.
        let (began, noted) = (Instant::now(), self.take());
        for part in noted.chunks(BATCH_ACCOUNTS) {
            let (before, mut meta) = (index.snapshot()?, index.meta()?);
            let mut batch = Batch::new();
            move_accounts(&read(inner, part)?, &*before, &mut batch, &mut meta)?;
            drop(before);
            commit(index, batch, &meta)?;
        }
        let mut meta = index.meta()?;
        meta.listed = meta.height + 1;
        commit(index, Batch::new(), &meta)?;
        (self.is_new, self.since, self.took) = (false, Instant::now(), began.elapsed());
        tracing::debug!(accounts = noted.len(), took = ?self.took, "moved in the list of accounts");
        Ok(())
    }
}

fn commit(index: &Index, mut batch: Batch, meta: &IndexMeta) -> Result<(), ChainError> {
    batch.put(INDEX_META, ONLY, to_bytes(meta)?);
    Ok(index.storage.commit(batch, Durability::Immediate)?)
}

/// What these accounts hold now: that is what they held after the last block of the index,
/// or after a later one that will be noted as well.
fn read(inner: &Inner, addresses: &[Address]) -> Result<Vec<(Address, Account)>, ChainError> {
    let mut accounts = Vec::with_capacity(addresses.len());
    for part in addresses.chunks(READ_ENTRIES) {
        // Let go now and then, so that no block waits for long.
        let state = inner.state.reader();
        for address in part {
            if let Some(found) = account(&state, address)? {
                accounts.push((*address, found));
            }
        }
    }
    Ok(accounts)
}

fn move_accounts(
    accounts: &[(Address, Account)],
    before: &dyn Snapshot,
    batch: &mut Batch,
    meta: &mut IndexMeta,
) -> Result<(), ChainError> {
    for (address, account) in accounts {
        let balance = account.balance.get();
        match before.get(LISTED, &address.0)? {
            Some(bytes) => {
                let old = integer(&bytes)?;
                if old == balance {
                    continue;
                }
                batch.delete(RICHEST, richest_key(old, address));
            }
            None => meta.account_count += 1,
        }
        put(batch, address, balance);
    }
    Ok(())
}

fn put(batch: &mut Batch, address: &Address, balance: u64) {
    batch.put(LISTED, address.0, balance.to_be_bytes());
    batch.put(RICHEST, richest_key(balance, address), Vec::new());
}

/// Begins the list with every account of the state.
fn list_all(index: &Index, inner: &Inner) -> Result<(), ChainError> {
    let mut batch = Batch::new();
    let mut meta = index.meta()?;
    // What an interrupted beginning left.
    batch.delete_range(LISTED, KeyRange::all());
    batch.delete_range(RICHEST, KeyRange::all());
    (meta.account_count, meta.listed) = (0, 0);
    let mut first = 0;
    loop {
        let end = {
            let state = inner.state.reader();
            let end = state.entry_count()?.min(first + READ_ENTRIES as u64);
            for number in first..end {
                let leaf = state.leaf(number)?;
                if let Ok(account) = Account::try_from(&leaf.value) {
                    put(&mut batch, &Address(leaf.key.0), account.balance.get());
                    meta.account_count += 1;
                }
            }
            end
        };
        let is_last = end < first + READ_ENTRIES as u64;
        if is_last || batch.len() >= 2 * BATCH_ACCOUNTS {
            commit(index, std::mem::take(&mut batch), &meta)?;
        }
        if is_last {
            return Ok(());
        }
        first = end;
    }
}
