//! The pending transactions and the orders in which they are looked at.
//!
//! Every order is an index kept up to date by [`Pool::put`] and [`Pool::take`], so
//! that nothing costs more than what it returns or removes, times a logarithm.
//! Given the same calls, the same result: no clock, no lock, no file here.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ait_engine::execute::Refusal;
use ait_engine::state::Account;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{Address, Amount, Height, Nonce, TimestampMs, TxHash};

use super::admission::{check, check_funds};
use super::ages::Ages;
use super::keys::Secret;
use super::limits::REPLACEMENT_BUMP_PERCENT;
use super::queue::{Entry, FeeRate, HeadKey, Queue, TailKey, spending};
use super::{DropReason, MempoolError, MempoolLimits, Rules};

/// A transaction that is no longer pending, though no block holds it.
#[derive(Debug, Clone)]
pub(super) struct Removed {
    pub(super) transaction: Arc<VerifiedTransaction>,
    pub(super) reason: DropReason,
}

/// How many senders are looked at together.
pub(super) const TOGETHER: usize = 32;

/// What taking a transaction did.
#[derive(Debug)]
pub(super) enum Taken {
    /// It was pending already.
    Duplicate,
    /// It is pending now, and these no longer are.
    Accepted { removed: Vec<Removed> },
}

/// All pending transactions.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) limits: MempoolLimits,
    pub(super) queues: HashMap<Address, Queue, Secret>,
    by_hash: HashMap<TxHash, (Address, Nonce), Secret>,
    /// By number, which is also the order of their times but for moments.
    pub(super) arrivals: BTreeMap<u64, (Address, Nonce)>,
    ages: Ages,
    pub(super) heads: BTreeMap<HeadKey, Address>,
    pub(super) tails: BTreeMap<TailKey, Address>,
    expiries: BTreeMap<(Height, u64), (Address, Nonce)>,
    bytes: u64,
    next_seq: u64,
    head: Height,
}

impl Pool {
    pub(super) fn new(limits: MempoolLimits) -> Self {
        Self {
            limits,
            queues: HashMap::default(),
            by_hash: HashMap::default(),
            arrivals: BTreeMap::new(),
            ages: Ages::default(),
            heads: BTreeMap::new(),
            tails: BTreeMap::new(),
            expiries: BTreeMap::new(),
            bytes: 0,
            next_seq: 0,
            head: Height::ZERO,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn has_executable(&self) -> bool {
        !self.heads.is_empty()
    }

    pub(super) fn contains(&self, hash: &TxHash) -> bool {
        self.by_hash.contains_key(hash)
    }

    pub(super) fn find(&self, hash: &TxHash) -> Option<(&Queue, &Entry)> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        let queue = self.queues.get(sender)?;
        Some((queue, queue.get(*nonce)?))
    }

    pub(super) fn entry_at(&self, sender: &Address, nonce: Nonce) -> Option<&Entry> {
        self.queues.get(sender)?.get(nonce)
    }

    /// Takes a transaction, or says why not and changes nothing. `account` is the
    /// sender's at the height of `rules`; `added_at` is when it first came.
    pub(super) fn insert(
        &mut self,
        transaction: Arc<VerifiedTransaction>,
        account: Account,
        rules: &Rules,
        added_at: TimestampMs,
    ) -> Result<Taken, MempoolError> {
        if self.contains(&transaction.hash()) {
            return Ok(Taken::Duplicate);
        }
        if rules.head < self.head {
            return Err(MempoolError::Outdated { expected: self.head, found: rules.head });
        }
        let sender = transaction.sender();
        // Accounts of senders with pending transactions are kept up to date here.
        let account = self.queues.get(&sender).map_or(account, Queue::account);
        check(&transaction, &account, rules)?;
        let nonce = transaction.transaction().nonce;
        self.check_distance(nonce, &account)?;
        let replaced = self.check_queue(&transaction, &account)?;
        let rate = FeeRate::of(&transaction);
        let victims = self.plan_room(&transaction, rate, replaced)?;
        let mut removed = Vec::new();
        if replaced.is_some() {
            let by = transaction.hash();
            self.drop_at(&sender, nonce, DropReason::Replaced { by }, &mut removed);
        }
        for (address, nonce, reason) in victims {
            self.drop_at(&address, nonce, reason, &mut removed);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.put(account, Entry::new(transaction, seq, added_at));
        self.drop_unaffordable(&sender, &mut removed);
        Ok(Taken::Accepted { removed })
    }

    /// Reads the first transactions of senders, all at once: looked at one by one, each is waited
    /// for, because each read of memory tells where the next one is.
    pub(super) fn touch<'s>(&self, senders: impl Iterator<Item = &'s Address>) {
        let queues: Vec<&Queue> = senders.filter_map(|sender| self.queues.get(sender)).collect();
        let entries: Vec<&Entry> =
            queues.into_iter().filter_map(|queue| queue.entries().next()).collect();
        let seen = entries.iter().fold(0, |seen, entry| seen ^ entry.seq);
        let read = |entry: &&Entry| {
            let transaction = entry.transaction.transaction();
            transaction.fee.get() ^ u64::from(transaction.signature.0[63])
        };
        std::hint::black_box(entries.iter().map(read).fold(seen, |seen, read| seen ^ read));
    }

    fn check_distance(&self, nonce: Nonce, account: &Account) -> Result<(), MempoolError> {
        let ahead = self.limits.per_sender_max.saturating_sub(1);
        let expected = Nonce::saturating(account.nonce.get().saturating_add(ahead));
        if nonce > expected {
            return Err(MempoolError::NonceTooFar { expected, found: nonce });
        }
        Ok(())
    }

    /// Checks it against the sender's other transactions; gives the bytes of the one it replaces.
    fn check_queue(
        &self,
        transaction: &VerifiedTransaction,
        account: &Account,
    ) -> Result<Option<u64>, MempoolError> {
        let spends = spending(transaction.transaction());
        let Some(queue) = self.queues.get(&transaction.sender()) else {
            check_funds(account, spends)?;
            return Ok(None);
        };
        let nonce = transaction.transaction().nonce;
        check_funds(account, queue.spending_before(nonce) + spends)?;
        let Some(old) = queue.get(nonce) else { return Ok(None) };
        let (old_fee, found) = (old.transaction.transaction().fee, transaction.transaction().fee);
        let bump = (u128::from(old_fee.get()) * u128::from(REPLACEMENT_BUMP_PERCENT)).div_ceil(100);
        let expected = u128::from(old_fee.get()) + bump.max(1);
        if u128::from(found.get()) < expected {
            let expected = u64::try_from(expected).map_or(Amount::MAX, Amount::saturating);
            return Err(MempoolError::ReplacementUnderpriced { expected, found });
        }
        Ok(Some(old.bytes()))
    }

    /// Removes one that the builder found never to apply.
    pub(super) fn refuse(&mut self, hash: &TxHash, refusal: Refusal) -> Option<Removed> {
        let (sender, nonce) = *self.by_hash.get(hash)?;
        let mut removed = Vec::new();
        self.drop_at(&sender, nonce, DropReason::Refused(refusal), &mut removed);
        removed.pop()
    }

    /// Brings everything to the state after a block that changed these accounts to what they
    /// are now; accounts read before it are no longer taken. Those in the block leave without
    /// a trace; gives those that leave for another reason.
    pub(super) fn end_block(
        &mut self,
        height: Height,
        included: &[TxHash],
        accounts: &[(Address, Account)],
        now: TimestampMs,
    ) -> Vec<Removed> {
        self.head = self.head.max(height);
        // In the order in which they were selected, which is that of the indexes. Mostly they are
        // all that their senders have, so that little is left of the queues to be looked at.
        for part in included.chunks(TOGETHER) {
            let found = part.iter().filter_map(|hash| self.by_hash.remove(hash));
            let found: Vec<_> = found.collect();
            self.touch(found.iter().map(|(sender, _)| sender));
            for (sender, nonce) in found {
                self.detach(&sender, nonce);
            }
        }
        let mut removed = Vec::new();
        for part in accounts.chunks(TOGETHER) {
            let pending = part.iter().filter(|(address, _)| self.queues.contains_key(address));
            let pending: Vec<_> = pending.collect();
            self.touch(pending.iter().map(|(address, _)| address));
            for (address, account) in pending {
                self.edit(address, |queue| queue.set_account(*account));
                self.drop_used(address, account, &mut removed);
                self.drop_unaffordable(address, &mut removed);
            }
        }
        self.drop_expired(&mut removed);
        self.drop_old(now, &mut removed);
        removed
    }

    /// Removes those that waited too long.
    pub(super) fn drop_old(&mut self, now: TimestampMs, removed: &mut Vec<Removed>) {
        let ttl_ms = self.limits.ttl_ms;
        // These are too old even where the times of some are wrong.
        let old = self.ages.pop_older(now, ttl_ms);
        while let Some((&seq, &(sender, nonce))) = self.arrivals.first_key_value() {
            let Some(entry) = self.entry_at(&sender, nonce) else { break };
            let added_at = entry.added_at;
            let is_old = now.get().saturating_sub(added_at.get()) > ttl_ms;
            if !is_old && old.is_none_or(|last| seq > last) {
                break;
            }
            self.drop_at(&sender, nonce, DropReason::TooOld { added_at, ttl_ms }, removed);
        }
    }

    fn drop_expired(&mut self, removed: &mut Vec<Removed>) {
        while let Some((&(expires_at, _), &(sender, nonce))) = self.expiries.first_key_value() {
            let Err(refusal) = super::admission::check_expiry(Some(expires_at), self.head) else {
                break;
            };
            self.drop_at(&sender, nonce, refusal.into(), removed);
        }
    }

    fn drop_used(&mut self, address: &Address, account: &Account, removed: &mut Vec<Removed>) {
        let used = self.queues.get(address).map(Queue::used).unwrap_or_default();
        for nonce in used {
            let refusal = Refusal::NonceUsed { expected: account.nonce, found: nonce };
            self.drop_at(address, nonce, refusal.into(), removed);
        }
    }

    /// Removes what the account cannot pay any more, given what comes before.
    fn drop_unaffordable(&mut self, address: &Address, removed: &mut Vec<Removed>) {
        let Some(queue) = self.queues.get(address) else { return };
        let account = queue.account();
        for (nonce, needed) in queue.unaffordable() {
            let Err(refusal) = check_funds(&account, needed) else { continue };
            self.drop_at(address, nonce, refusal.into(), removed);
        }
    }

    fn drop_at(
        &mut self,
        sender: &Address,
        nonce: Nonce,
        reason: DropReason,
        removed: &mut Vec<Removed>,
    ) {
        if let Some(entry) = self.take(sender, nonce) {
            removed.push(Removed { transaction: entry.transaction, reason });
        }
    }

    /// Adds to the sender's queue and to every index.
    fn put(&mut self, account: Account, entry: Entry) {
        let (sender, nonce) = (entry.transaction.sender(), entry.nonce());
        self.by_hash.insert(entry.transaction.hash(), (sender, nonce));
        self.arrivals.insert(entry.seq, (sender, nonce));
        self.ages.came(entry.seq, entry.added_at);
        if let Some(height) = entry.expires_at() {
            self.expiries.insert((height, entry.seq), (sender, nonce));
        }
        self.bytes += entry.bytes();
        self.queues.entry(sender).or_insert_with(|| Queue::new(account));
        self.edit(&sender, |queue| queue.insert(entry));
    }

    /// Takes out of the sender's queue and of every index.
    fn take(&mut self, sender: &Address, nonce: Nonce) -> Option<Entry> {
        let entry = self.detach(sender, nonce)?;
        self.by_hash.remove(&entry.transaction.hash());
        Some(entry)
    }

    /// Takes out of the sender's queue and of every index but that of hashes.
    fn detach(&mut self, sender: &Address, nonce: Nonce) -> Option<Entry> {
        let entry = self.edit(sender, |queue| queue.remove(nonce))??;
        self.arrivals.remove(&entry.seq);
        if let Some(height) = entry.expires_at() {
            self.expiries.remove(&(height, entry.seq));
        }
        self.bytes = self.bytes.saturating_sub(entry.bytes());
        Some(entry)
    }

    /// Changes a queue and brings the indexes of heads and tails up to date.
    fn edit<R>(&mut self, sender: &Address, change: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let Place::Occupied(mut place) = self.queues.entry(*sender) else { return None };
        let queue = place.get_mut();
        let ends =
            |queue: &Queue| (queue.head().map(Entry::head_key), queue.tail().map(Entry::tail_key));
        let (head, tail) = ends(queue);
        let result = change(queue);
        let (new_head, new_tail) = ends(queue);
        if head != new_head {
            head.and_then(|key| self.heads.remove(&key));
            new_head.and_then(|key| self.heads.insert(key, *sender));
        }
        if tail != new_tail {
            tail.and_then(|key| self.tails.remove(&key));
            new_tail.and_then(|key| self.tails.insert(key, *sender));
        }
        if queue.is_empty() {
            place.remove();
        }
        Some(result)
    }
}
