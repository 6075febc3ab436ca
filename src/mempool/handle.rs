//! The mempool as the rest of the node sees it: shared, journaled, observed.
//!
//! One lock, held for memory work and one write per batch; the disk is waited for
//! outside of it, but for the rare compaction of the journal. What is decided is decided in `pool`.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ait_engine::execute::Refusal;
use ait_engine::state::Account;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{Address, TimestampMs, TxHash};
use metrics::{counter, gauge};
use tokio::sync::{broadcast, watch};

use super::dropped::DroppedRing;
use super::limits::DROPPED_COUNT_MAX;
use super::pool::{Pool, Removed, Taken};
use super::{DropReason, Dropped, Journal, JournalError, MempoolError, MempoolLimits, Rules};
use crate::chain::CommittedBlock;
use crate::disk::{Shortage, WriteFault};

/// How many accepted transactions a slow subscriber may lag behind.
const ACCEPTED_BACKLOG: usize = 32_768;

/// A transaction that asks to be pending, with its sender's account in the state.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The transaction.
    pub transaction: Arc<VerifiedTransaction>,
    /// The sender's account at the height of the [`Rules`] it comes with.
    pub account: Account,
    /// When it first came.
    pub added_at: TimestampMs,
}

/// What became of an accepted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted {
    /// It was pending before.
    pub duplicate: bool,
    /// The transaction whose place it took.
    pub replaced: Option<TxHash>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) pool: Pool,
    pub(super) dropped: DroppedRing,
    journal: Option<Journal>,
    /// Set once the journal failed; nothing is accepted any more.
    failure: Option<WriteFault>,
    /// Why nothing is accepted for now.
    shortage: Option<Shortage>,
}

/// The pending transactions of this node.
#[derive(Debug)]
pub struct Mempool {
    inner: Mutex<Inner>,
    ready: watch::Sender<bool>,
    accepted: broadcast::Sender<Arc<VerifiedTransaction>>,
    waker: OnceLock<Waker>,
}

/// Called when a block could be made.
struct Waker(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

impl Mempool {
    /// An empty mempool. What a journal held is inserted by [`crate::ingress::restore`].
    #[must_use]
    pub fn new(limits: MempoolLimits, journal: Option<Journal>) -> Self {
        let inner = Inner {
            pool: Pool::new(limits),
            dropped: DroppedRing::new(DROPPED_COUNT_MAX),
            journal,
            failure: None,
            shortage: None,
        };
        Self {
            inner: Mutex::new(inner),
            ready: watch::Sender::new(false),
            accepted: broadcast::Sender::new(ACCEPTED_BACKLOG),
            waker: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one transaction.
    ///
    /// # Errors
    /// [`MempoolError`]: why it is not taken.
    pub fn insert(&self, candidate: Candidate, rules: &Rules) -> Result<Inserted, MempoolError> {
        let mut results = self.insert_batch(vec![candidate], rules);
        results.pop().unwrap_or(Err(MempoolError::Full))
    }

    /// Takes many transactions in order, with one write of the journal for all.
    pub fn insert_batch(
        &self,
        candidates: Vec<Candidate>,
        rules: &Rules,
    ) -> Vec<Result<Inserted, MempoolError>> {
        let mut inner = self.lock();
        let mut accepted = Vec::new();
        let mut results: Vec<_> =
            candidates.into_iter().map(|one| inner.insert(one, rules, &mut accepted)).collect();
        if let Err(error) = inner.write() {
            for result in &mut results {
                *result = Err(error.clone());
            }
            accepted.clear();
        }
        self.announce(&inner);
        // Sent under the lock, so that subscribers see the order of acceptance.
        for transaction in accepted {
            // Nobody listening is no fault.
            let _ = self.accepted.send(transaction);
        }
        let size = inner.pool.len();
        drop(inner);
        count_results(&results, size);
        results
    }

    /// Executable transactions for a block, at most `count_max` and `bytes_max`: each
    /// sender's in the order of nonces, senders by fee per byte, then by arrival. They
    /// stay pending until [`Mempool::on_block`] or [`Mempool::refuse`].
    #[must_use]
    pub fn select(&self, count_max: usize, bytes_max: u64) -> Vec<Arc<VerifiedTransaction>> {
        self.lock().pool.select(count_max, bytes_max)
    }

    /// Brings the mempool to the state after a committed block. `changed` are the accounts that
    /// it changed, as it left them.
    pub fn on_block(
        &self,
        block: &CommittedBlock,
        changed: &[(Address, Account)],
        now: TimestampMs,
    ) {
        let mut inner = self.lock();
        let removed = inner.pool.end_block(block.height(), &block.tx_hashes, changed, now);
        for hash in &block.tx_hashes {
            inner.dropped.forget(hash);
        }
        inner.let_go(removed, now);
        inner.settle();
        self.announce(&inner);
    }

    /// Lets go of a transaction that the builder found not to apply. A nonce gap is
    /// the fault of another, so that the transaction stays.
    pub fn refuse(&self, hash: &TxHash, refusal: Refusal, now: TimestampMs) {
        if matches!(refusal, Refusal::NonceGap { .. }) {
            return;
        }
        let mut inner = self.lock();
        let removed = inner.pool.refuse(hash, refusal);
        inner.let_go(removed, now);
        inner.settle();
        self.announce(&inner);
    }

    /// Lets go of what waited too long. For a timer; each block does it too.
    pub fn sweep(&self, now: TimestampMs) {
        let mut inner = self.lock();
        let mut removed = Vec::new();
        inner.pool.drop_old(now, &mut removed);
        inner.let_go(removed, now);
        inner.settle();
        self.announce(&inner);
    }

    /// Notes why a transaction of the journal is not taken again.
    pub(crate) fn note_not_restored(
        &self,
        hash: TxHash,
        code: &'static str,
        reason: String,
        at: TimestampMs,
    ) {
        let reason = DropReason::NotRestored { code, reason };
        self.lock().dropped.push(hash, Dropped { reason, at });
    }

    /// Takes journaled transactions again, which need no new record.
    pub(crate) fn restore_batch(
        &self,
        candidates: Vec<Candidate>,
        rules: &Rules,
    ) -> Vec<Result<Inserted, MempoolError>> {
        let mut inner = self.lock();
        let (journal, shortage) = (inner.journal.take(), inner.shortage.take());
        let mut accepted = Vec::new();
        let results =
            candidates.into_iter().map(|one| inner.insert(one, rules, &mut accepted)).collect();
        (inner.journal, inner.shortage) = (journal, shortage);
        self.announce(&inner);
        results
    }

    /// Rewrites the journal with what is pending.
    ///
    /// # Errors
    /// [`MempoolError::Journal`] when the disk fails; nothing is accepted after that.
    pub fn compact(&self) -> Result<(), MempoolError> {
        self.lock().compact()
    }

    /// Makes all that was accepted so far survive a power cut. Blocks on the disk; to
    /// be called every second or so, and at shutdown.
    ///
    /// # Errors
    /// [`JournalError`] when the disk fails; nothing is accepted after that, unless the file
    /// system became read-only: once it is writable, [`Mempool::compact`] writes all again.
    pub fn flush(&self) -> Result<(), JournalError> {
        let handle = self.lock().journal.as_mut().and_then(Journal::unsynced);
        let Some(handle) = handle else { return Ok(()) };
        handle.sync().inspect_err(|error| {
            if error.source.kind() != ErrorKind::ReadOnlyFilesystem {
                self.lock().failure = Some(error.kept());
            }
        })
    }

    /// Whether all that the journal wrote is synced.
    pub(crate) fn is_journal_synced(&self) -> bool {
        self.lock().journal.as_ref().is_none_or(Journal::is_synced)
    }

    /// Has the journal write to another file, for disks that fail.
    pub(crate) fn redirect_journal(&self, path: &Path) -> std::io::Result<()> {
        self.lock().journal.as_mut().map_or(Ok(()), |journal| journal.redirect(path))
    }

    /// Accepts nothing while there is a shortage; what is pending stays.
    pub fn pause(&self, shortage: Option<Shortage>) {
        self.lock().shortage = shortage;
    }

    /// Whether nothing is accepted for now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().shortage.is_some()
    }

    /// Why nothing is accepted any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<WriteFault> {
        self.lock().failure.clone()
    }

    /// Whether a block could be made.
    #[must_use]
    pub fn has_executable(&self) -> bool {
        self.lock().pool.has_executable()
    }

    /// Whether a block could be made, with a wake-up when that changes.
    #[must_use]
    pub fn subscribe_ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Has `wake` called whenever a block could be made, often and under the mempool's lock:
    /// it must return at once. Only the first call counts.
    pub fn on_executable(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.waker.set(Waker(Box::new(wake)));
    }

    /// Every transaction that is accepted from now on.
    #[must_use]
    pub fn subscribe_accepted(&self) -> broadcast::Receiver<Arc<VerifiedTransaction>> {
        self.accepted.subscribe()
    }

    fn announce(&self, inner: &Inner) {
        let has_executable = inner.pool.has_executable();
        // Whoever makes the block first.
        if let (true, Some(waker)) = (has_executable, self.waker.get()) {
            (waker.0)();
        }
        self.ready
            .send_if_modified(|ready| std::mem::replace(ready, has_executable) != has_executable);
        // Both are far below the integers that a float holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        {
            gauge!("mempool_size").set(inner.pool.len() as f64);
            gauge!("mempool_bytes").set(inner.pool.bytes() as f64);
        }
    }
}

impl Inner {
    fn insert(
        &mut self,
        candidate: Candidate,
        rules: &Rules,
        accepted: &mut Vec<Arc<VerifiedTransaction>>,
    ) -> Result<Inserted, MempoolError> {
        if let Some(reason) = &self.failure {
            return Err(MempoolError::Journal { reason: reason.to_string() });
        }
        if let Some(shortage) = self.shortage {
            return Err(MempoolError::Paused(shortage));
        }
        let Candidate { transaction, account, added_at } = candidate;
        let taken = self.pool.insert(Arc::clone(&transaction), account, rules, added_at)?;
        let Taken::Accepted { removed } = taken else {
            return Ok(Inserted { duplicate: true, replaced: None });
        };
        let replaced = removed
            .iter()
            .find(|removed| matches!(removed.reason, DropReason::Replaced { .. }))
            .map(|removed| removed.transaction.hash());
        self.dropped.forget(&transaction.hash());
        // The journal names those that go first, so that reading it never passes a bound.
        self.let_go(removed, added_at);
        if let Some(journal) = &mut self.journal {
            journal.note_added(added_at, transaction.transaction());
        }
        accepted.push(transaction);
        Ok(Inserted { duplicate: false, replaced })
    }

    fn let_go(&mut self, removed: impl IntoIterator<Item = Removed>, at: TimestampMs) {
        for Removed { transaction, reason } in removed {
            if matches!(reason, DropReason::Evicted | DropReason::SenderFull) {
                counter!("mempool_evicted_total").increment(1);
                crate::telemetry::metrics::mempool(0, 1, self.pool.len() as u64);
            }
            if let Some(journal) = &mut self.journal {
                journal.note_dropped(&transaction.hash());
            }
            self.dropped.push(transaction.hash(), Dropped { reason, at });
        }
    }

    /// Writes what was noted; a failure stops all acceptance.
    fn write(&mut self) -> Result<(), MempoolError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if self.failure.is_none() {
            if let Err(error) = journal.write() {
                self.failure = Some(error.kept());
            } else if journal.is_wasteful(self.pool.bytes()) {
                return self.compact();
            }
        }
        match &self.failure {
            Some(reason) => Err(MempoolError::Journal { reason: reason.to_string() }),
            None => Ok(()),
        }
    }

    /// Writes where nobody waits for an answer: a failure is latched and shown by [`Mempool::failure`].
    fn settle(&mut self) {
        if let Err(error) = self.write() {
            tracing::error!(%error, "the mempool accepts nothing any more");
        }
    }

    fn compact(&mut self) -> Result<(), MempoolError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let live = self.pool.arrivals.values().filter_map(|(sender, nonce)| {
            let entry = self.pool.entry_at(sender, *nonce)?;
            Some((entry.added_at, entry.transaction.transaction()))
        });
        journal.compact(live).map_err(|error| {
            self.failure = Some(error.kept());
            MempoolError::Journal { reason: error.to_string() }
        })
    }
}

fn count_results(results: &[Result<Inserted, MempoolError>], size: usize) {
    let is_new = |result: &&Result<Inserted, MempoolError>| {
        matches!(result, Ok(Inserted { duplicate: false, .. }))
    };
    let added = results.iter().filter(is_new).count() as u64;
    counter!("mempool_added_total").increment(added);
    crate::telemetry::metrics::mempool(added, 0, size as u64);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        counter!("mempool_refused_total", "code" => error.code()).increment(1);
    }
}
