//! One sender's pending transactions in the order of their nonces.
//!
//! Knows nothing of other senders and enforces no bound.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use ait_engine::state::Account;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Height, Nonce, TimestampMs};

use super::entries::Entries;

/// Fee per byte, compared exactly.
#[derive(Debug, Clone, Copy)]
pub(super) struct FeeRate {
    fee: u64,
    bytes: u32,
}

impl FeeRate {
    pub(super) fn of(transaction: &VerifiedTransaction) -> Self {
        let bytes = transaction.byte_count().max(1);
        Self { fee: transaction.transaction().fee.get(), bytes }
    }
}

impl Ord for FeeRate {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = u128::from(self.fee) * u128::from(other.bytes);
        let right = u128::from(other.fee) * u128::from(self.bytes);
        left.cmp(&right)
    }
}

impl PartialOrd for FeeRate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for FeeRate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for FeeRate {}

/// Order in which the first transactions of senders are selected: best first.
pub(super) type HeadKey = (Reverse<FeeRate>, u64);
/// Order in which the last transactions of senders are evicted: worst first, newest of equals first.
pub(super) type TailKey = (FeeRate, Reverse<u64>);

/// A pending transaction.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) transaction: Arc<VerifiedTransaction>,
    /// The transaction's own, here because it is far away in memory.
    nonce: Nonce,
    /// Number of its arrival; no two are alike.
    pub(super) seq: u64,
    pub(super) added_at: TimestampMs,
    pub(super) rate: FeeRate,
}

impl Entry {
    pub(super) fn new(
        transaction: Arc<VerifiedTransaction>,
        seq: u64,
        added_at: TimestampMs,
    ) -> Self {
        let (nonce, rate) = (transaction.transaction().nonce, FeeRate::of(&transaction));
        Self { transaction, nonce, seq, added_at, rate }
    }

    pub(super) const fn nonce(&self) -> Nonce {
        self.nonce
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.rate.bytes)
    }

    pub(super) fn expires_at(&self) -> Option<Height> {
        self.transaction.transaction().expires_at
    }

    pub(super) fn head_key(&self) -> HeadKey {
        (Reverse(self.rate), self.seq)
    }

    pub(super) fn tail_key(&self) -> TailKey {
        (self.rate, Reverse(self.seq))
    }
}

/// What a transaction takes from its sender.
pub(super) fn spending(transaction: &Transaction) -> u128 {
    let amount = match &transaction.payload {
        Payload::Transfer { amount, .. } => amount.get(),
        _ => 0,
    };
    u128::from(amount) + u128::from(transaction.fee.get())
}

/// One sender's pending transactions; gaps between nonces are allowed.
#[derive(Debug)]
pub(super) struct Queue {
    account: Account,
    entries: Entries,
    /// How many follow the account's nonce without a gap.
    run: u64,
    bytes: u64,
    spending: u128,
}

impl Queue {
    pub(super) fn new(account: Account) -> Self {
        Self { account, entries: Entries::default(), run: 0, bytes: 0, spending: 0 }
    }

    pub(super) const fn account(&self) -> Account {
        self.account
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries have smaller nonces.
    fn count_below(&self, nonce: Nonce) -> usize {
        self.entries.place(nonce).unwrap_or_else(|place| place)
    }

    pub(super) fn get(&self, nonce: Nonce) -> Option<&Entry> {
        self.entries.get(self.entries.place(nonce).ok()?)
    }

    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The first nonce after those that can be executed.
    pub(super) const fn next_nonce(&self) -> Nonce {
        Nonce::saturating(self.account.nonce.get().saturating_add(self.run))
    }

    /// The transaction that can be executed first.
    pub(super) fn head(&self) -> Option<&Entry> {
        self.get(self.account.nonce)
    }

    /// The transaction with the highest nonce.
    pub(super) fn tail(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// The transaction with the highest nonce below `nonce`.
    pub(super) fn before(&self, nonce: Nonce) -> Option<&Entry> {
        self.entries.get(self.count_below(nonce).checked_sub(1)?)
    }

    /// What the transactions with nonces below `nonce` take. Costs what lies above.
    pub(super) fn spending_before(&self, nonce: Nonce) -> u128 {
        let after: u128 =
            self.entries.iter().skip(self.count_below(nonce)).map(entry_spending).sum();
        self.spending.saturating_sub(after)
    }

    /// Nonces that the account has used.
    pub(super) fn used(&self) -> Vec<Nonce> {
        let used = self.count_below(self.account.nonce);
        self.entries.iter().take(used).map(Entry::nonce).collect()
    }

    /// Nonces that the account cannot pay for, each with what it and those before it
    /// take. Costs nothing when all are affordable. Used nonces must be gone.
    pub(super) fn unaffordable(&self) -> Vec<(Nonce, u128)> {
        let balance = u128::from(self.account.balance.get());
        let mut found = Vec::new();
        let mut sum = self.spending;
        for entry in self.entries.iter().rev() {
            if sum <= balance {
                break;
            }
            found.push((entry.nonce(), sum));
            sum = sum.saturating_sub(entry_spending(entry));
        }
        found
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let nonce = entry.nonce();
        let place = self.entries.place(nonce);
        if let Ok(place) = place {
            self.remove_at(place);
        }
        self.bytes += entry.bytes();
        self.spending += entry_spending(&entry);
        self.entries.insert(place.unwrap_or_else(|place| place), entry);
        if nonce == self.next_nonce() {
            self.extend_run();
        }
    }

    pub(super) fn remove(&mut self, nonce: Nonce) -> Option<Entry> {
        let entry = self.remove_at(self.entries.place(nonce).ok()?)?;
        if let Some(offset) = nonce.checked_sub(self.account.nonce) {
            self.run = self.run.min(offset.get());
        }
        Some(entry)
    }

    fn remove_at(&mut self, place: usize) -> Option<Entry> {
        let entry = self.entries.remove(place)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes());
        self.spending = self.spending.saturating_sub(entry_spending(&entry));
        Some(entry)
    }

    pub(super) fn set_account(&mut self, account: Account) {
        let (begin, end) = (self.account.nonce, self.next_nonce());
        self.account = account;
        let has_run = begin <= account.nonce && account.nonce <= end;
        self.run = if has_run { end.get() - account.nonce.get() } else { 0 };
        self.extend_run();
    }

    fn extend_run(&mut self) {
        let Ok(first) = self.entries.place(self.next_nonce()) else { return };
        let mut next = self.next_nonce();
        for entry in self.entries.iter().skip(first) {
            if entry.nonce() != next {
                break;
            }
            self.run += 1;
            next = self.next_nonce();
        }
    }
}

fn entry_spending(entry: &Entry) -> u128 {
    spending(entry.transaction.transaction())
}
