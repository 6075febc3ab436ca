//! The list of accounts by balance.
//!
//! Every transfer moves two accounts in it, each out of one row and into another, at random.
//! That would cost more than all else in the index, so that it is not done for every block:
//! accounts that changed are noted, and moved at once if they are few, else in slices with
//! pauses between them forty times as long, so that a fortieth of a thread's time goes into it.
//! A slice is large, because most of its cost is in pages that more accounts would share.
//! What was noted is made again from the blocks after a restart.
//!
//! Invariant: an account stands in the list under the balance that its row of [`LISTED`]
//! has, and nowhere else.

use std::time::{Duration, Instant};

use ait_engine::execute::EXPECTED_TOGETHER;
use ait_engine::state::{Account, Key, StateView};
use ait_engine::types::{Address, Height};
use ait_storage::{Batch, Durability, KeyRange, Snapshot};

use super::super::ChainError;
use super::super::read::Inner;
use super::super::tables::{INDEX_META, INDEX_VERSION, IndexMeta, LISTED, ONLY, RICHEST, to_bytes};
use super::build::Indexable;
use super::marks::Marks;
use super::{Index, integer, richest_key};

/// So few are moved at once.
const FEW: usize = 1_000;
/// Accounts of a slice.
const SLICE: usize = 50_000;
/// How many times as long as a slice took a pause is.
const REST: u32 = 40;
/// Rows that are written in one batch where the list begins.
const BATCH_ROWS: usize = 200_000;
/// Entries of the state that are read under one lock.
const READ_ENTRIES: usize = 4_096;

/// Accounts that are to be moved in the list.
#[derive(Debug)]
pub(in super::super) struct Listing {
    /// Numbers of their entries.
    noted: Marks,
    /// The height that the list is up to once the present round over them is done.
    round: u64,
    /// Whether there is no list yet.
    is_new: bool,
    /// Whether there are pauses between slices.
    rests: bool,
    /// When the last slice was done, and how long that took.
    since: Instant,
    took: Duration,
}

impl Listing {
    /// What is noted of the blocks that are in the index and not in the list; none if it was
    /// told to stop meanwhile. `rests` says whether there are pauses between slices.
    ///
    /// # Errors
    /// When a store fails.
    pub(in super::super) fn open(
        inner: &Inner,
        is_stopping: &dyn Fn() -> bool,
        rests: bool,
    ) -> Result<Option<Self>, ChainError> {
        let meta = inner.index.meta()?;
        // An index of another version is made again, and its list with it.
        let is_new = meta.listed == 0 || meta.version != INDEX_VERSION;
        let mut listing = Self {
            noted: Marks::default(),
            round: meta.height,
            is_new,
            rests,
            since: Instant::now(),
            took: Duration::ZERO,
        };
        if !is_new {
            for height in meta.listed..=meta.height {
                if is_stopping() {
                    return Ok(None);
                }
                let block = Indexable::read(inner, Height::saturating(height))?;
                listing.note(inner, &[block])?;
            }
        }
        Ok(Some(listing))
    }

    /// Notes the accounts of blocks. Entries that are no accounts are left out when they are read.
    pub(super) fn note(&mut self, inner: &Inner, blocks: &[Indexable]) -> Result<(), ChainError> {
        for block in blocks {
            match &block.changed {
                Some(changed) => changed.iter().for_each(|number| self.noted.set(*number)),
                None if block.block.height() > Height::ZERO => self.look_up(inner, block)?,
                // The list begins with the accounts of genesis.
                None => {}
            }
        }
        Ok(())
    }

    /// Notes the accounts of a block that was read again.
    fn look_up(&mut self, inner: &Inner, block: &Indexable) -> Result<(), ChainError> {
        for part in block.touched().chunks(READ_ENTRIES) {
            // Let go now and then, so that no block waits for long.
            let state = inner.state.reader();
            for near in part.chunks(EXPECTED_TOGETHER) {
                let keys = near.iter().filter(|address| !address.is_reserved()).map(Key::account);
                let keys: Vec<Key> = keys.collect();
                state.expect(&keys);
                for key in &keys {
                    if let Some(number) = state.number_of(key)? {
                        self.noted.set(number);
                    }
                }
            }
        }
        Ok(())
    }

    /// How long what is noted may wait; none if nothing is.
    pub(in super::super) fn rest(&self) -> Option<Duration> {
        let is_empty = self.noted.is_empty();
        if self.is_new || (!self.rests && !is_empty) {
            return Some(Duration::ZERO);
        }
        (!is_empty).then(|| (self.took * REST).saturating_sub(self.since.elapsed()))
    }

    /// Whether what is noted is moved with the blocks themselves: `is_level` says that the
    /// index has all of them.
    pub(super) const fn may_join(&self, is_level: bool) -> bool {
        is_level && !self.is_new && self.noted.len() <= FEW
    }

    /// Moves what is noted within the batch of the blocks themselves.
    pub(super) fn join(
        &mut self,
        inner: &Inner,
        before: &dyn Snapshot,
        batch: &mut Batch,
        meta: &mut IndexMeta,
    ) -> Result<(), ChainError> {
        while !self.noted.is_empty() {
            let (numbers, _) = self.noted.take(FEW);
            move_accounts(&read(inner, &numbers)?, before, batch, meta)?;
        }
        meta.listed = meta.height + 1;
        Ok(())
    }

    /// Moves a slice of what is noted, or begins the list. Told to stop, it leaves the rest
    /// to the next start.
    pub(in super::super) fn step(
        &mut self,
        inner: &Inner,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<(), ChainError> {
        let index = &inner.index;
        if self.is_new {
            if !list_all(index, inner, is_stopping)? {
                return Ok(());
            }
            self.is_new = false;
        }
        // What the beginning took says nothing of what comes.
        let began = Instant::now();
        let (before, mut meta) = (index.snapshot()?, index.meta()?);
        if self.noted.is_at_start() {
            self.round = meta.height;
        }
        let (numbers, is_round) = self.noted.take(SLICE);
        let mut batch = Batch::new();
        move_accounts(&read(inner, &numbers)?, &*before, &mut batch, &mut meta)?;
        drop(before);
        if is_round {
            // Whatever was noted when the round began is moved.
            meta.listed = if self.noted.is_empty() { meta.height } else { self.round } + 1;
        }
        commit(index, batch, &meta)?;
        (self.since, self.took) = (Instant::now(), began.elapsed());
        tracing::debug!(accounts = numbers.len(), took = ?self.took, "moved in the list of accounts");
        Ok(())
    }
}

fn commit(index: &Index, mut batch: Batch, meta: &IndexMeta) -> Result<(), ChainError> {
    batch.put(INDEX_META, ONLY, to_bytes(meta)?);
    Ok(index.storage.commit(batch, Durability::Immediate)?)
}

/// What the accounts of these numbers hold now, in the order of their addresses: that is what
/// they held after the last block of the index, or after a later one that will be noted as well.
fn read(inner: &Inner, numbers: &[u64]) -> Result<Vec<(Address, Account)>, ChainError> {
    let mut accounts = Vec::with_capacity(numbers.len());
    for part in numbers.chunks(READ_ENTRIES) {
        let state = inner.state.reader();
        for number in part {
            let leaf = state.leaf(*number)?;
            if let Ok(found) = Account::try_from(&leaf.value) {
                accounts.push((Address(leaf.key.0), found));
            }
        }
    }
    accounts.sort_unstable_by_key(|(address, _)| *address);
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

/// Begins the list with every account of the state; false if it was told to stop meanwhile.
fn list_all(
    index: &Index,
    inner: &Inner,
    is_stopping: &dyn Fn() -> bool,
) -> Result<bool, ChainError> {
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
        if is_last || batch.len() >= BATCH_ROWS {
            commit(index, std::mem::take(&mut batch), &meta)?;
        }
        if is_last {
            return Ok(true);
        }
        if is_stopping() {
            return Ok(false);
        }
        first = end;
    }
}
