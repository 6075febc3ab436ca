//! A thread that verifies, asks the state and fills the mempool; and the same for
//! what a journal held when the node starts.

use std::sync::Arc;

use ait_engine::crypto::KeyCache;
use ait_engine::execute::Refusal;
use ait_engine::state::Account;
use ait_engine::transaction::{
    Payload, Transaction, TransactionError, VerifiedTransaction, verify_transactions,
};
use ait_engine::types::{Address, TimestampMs, TxHash};
use tokio::sync::oneshot;

use super::line::Line;
use super::{AccountSource, Clock, SubmitError, Submitted};
use crate::mempool::{Candidate, Inserted, Mempool, MempoolError, Recovered, Rules};
use crate::telemetry::Stage;

/// Largest batch: beyond it a signature gets no cheaper.
pub(super) const BATCH_COUNT_MAX: usize = 512;
/// How often accounts are read again because a block came in between.
const READ_ATTEMPTS: usize = 8;

/// The answers to some transactions, in their order.
pub(super) type Answers = Vec<Result<Submitted, SubmitError>>;

/// Transactions that came together, and who waits for the answers.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) transactions: Vec<Transaction>,
    pub(super) reply: oneshot::Sender<Answers>,
}

impl Job {
    /// A job with how many transactions it has, and where their answers come from.
    pub(super) fn new(
        transactions: Vec<Transaction>,
    ) -> ((usize, Self), oneshot::Receiver<Answers>) {
        let (reply, answers) = oneshot::channel();
        ((transactions.len(), Self { transactions, reply }), answers)
    }
}

pub(super) struct Worker {
    line: Arc<Line<Job>>,
    mempool: Arc<Mempool>,
    source: Arc<dyn AccountSource>,
    clock: Clock,
    cache: Arc<KeyCache>,
}

impl Worker {
    pub(super) fn new(
        line: Arc<Line<Job>>,
        mempool: Arc<Mempool>,
        source: Arc<dyn AccountSource>,
        clock: Clock,
        cache: Arc<KeyCache>,
    ) -> Self {
        Self { line, mempool, source, clock, cache }
    }

    pub(super) fn run(self) {
        while let Some(jobs) = self.line.take(BATCH_COUNT_MAX) {
            let (mut all, mut replies) = (Vec::new(), Vec::with_capacity(jobs.len()));
            for Job { mut transactions, reply } in jobs {
                replies.push((transactions.len(), reply));
                if all.is_empty() {
                    all = transactions;
                } else {
                    all.append(&mut transactions);
                }
            }
            let now = (self.clock)();
            let cache = Some(&*self.cache);
            let mut results = submit(&self.mempool, &*self.source, all, now, cache).into_iter();
            for (count, reply) in replies {
                // Whoever asked may be gone.
                let _ = reply.send(results.by_ref().take(count).collect());
            }
        }
    }
}

/// Verifies transactions, asks the state, and fills the mempool; the answers stand in
/// their order.
pub(crate) fn submit(
    mempool: &Mempool,
    source: &dyn AccountSource,
    transactions: Vec<Transaction>,
    now: TimestampMs,
    cache: Option<&KeyCache>,
) -> Answers {
    crate::telemetry::metrics::verified(transactions.len());
    let verified = Stage::Verify.time(|| verify_transactions(transactions, cache));
    let batch = verified.into_iter().map(|result| (now, result));
    let admission = Admission { mempool, source, now };
    Stage::Admit.time(|| admission.admit(batch, Mempool::insert_batch))
}

type Verified = Result<VerifiedTransaction, TransactionError>;
type Insert = fn(&Mempool, Vec<Candidate>, &Rules) -> Vec<Result<Inserted, MempoolError>>;

struct Admission<'a> {
    mempool: &'a Mempool,
    source: &'a dyn AccountSource,
    now: TimestampMs,
}

impl Admission<'_> {
    /// Inserts what verified; the results stand in the order of the batch.
    fn admit(
        &self,
        batch: impl ExactSizeIterator<Item = (TimestampMs, Verified)>,
        insert: Insert,
    ) -> Answers {
        let mut results = Vec::with_capacity(batch.len());
        let mut open = Vec::with_capacity(batch.len());
        for (at, (added_at, verified)) in batch.enumerate() {
            match verified {
                Ok(transaction) => {
                    // Stands unless the attempts below run out.
                    results.push(Err(SubmitError::Busy));
                    open.push((at, added_at, Arc::new(transaction)));
                }
                Err(error) => results.push(Err(error.into())),
            }
        }
        for _ in 0..READ_ATTEMPTS {
            if open.is_empty() {
                break;
            }
            open = self.attempt(open, insert, &mut results);
        }
        results
    }

    /// Answers what it can; gives back what a block overtook.
    fn attempt(
        &self,
        open: Vec<Open>,
        insert: Insert,
        results: &mut [Result<Submitted, SubmitError>],
    ) -> Vec<Open> {
        let mut answer = |at: usize, result| {
            if let Some(slot) = results.get_mut(at) {
                *slot = result;
            }
        };
        let (rules, accounts) = match self.read(&open) {
            Ok(read) => read,
            Err(reason) => {
                for (at, ..) in open {
                    answer(at, Err(SubmitError::Unavailable { reason: reason.clone() }));
                }
                return Vec::new();
            }
        };
        let mut asked = Vec::with_capacity(open.len());
        let mut candidates = Vec::with_capacity(open.len());
        for ((at, added_at, transaction), account) in open.into_iter().zip(accounts) {
            let account = account.unwrap_or_default();
            match self.refusal(&transaction, &account) {
                Ok(None) => {
                    asked.push((at, added_at, Arc::clone(&transaction)));
                    candidates.push(Candidate { transaction, account, added_at });
                }
                Ok(Some(refusal)) => answer(at, Err(refusal.into())),
                Err(reason) => answer(at, Err(SubmitError::Unavailable { reason })),
            }
        }
        let mut overtaken = Vec::new();
        for (one, result) in asked.into_iter().zip(insert(self.mempool, candidates, &rules)) {
            let hash = one.2.hash();
            match result {
                Ok(Inserted { duplicate, replaced }) => {
                    answer(one.0, Ok(Submitted { hash, duplicate, replaced }));
                }
                Err(MempoolError::Outdated { .. }) => overtaken.push(one),
                Err(error) => answer(one.0, Err(error.into())),
            }
        }
        overtaken
    }

    /// The rules, and the account of each sender.
    fn read(&self, open: &[Open]) -> Result<(Rules, Vec<Option<Account>>), String> {
        // The height first: what is read after it is at least as new.
        let head = self.source.head_height();
        let settings = self.source.settings()?;
        let rules = Rules { chain_id: self.source.chain_id(), head, settings };
        let senders: Vec<Address> = open.iter().map(|(.., one)| one.sender()).collect();
        Ok((rules, self.source.accounts(&senders)?))
    }

    /// Asks the engine about what the mempool cannot know: whether a transaction that
    /// could be executed next has an effect. A transfer's rules the mempool checks itself.
    fn refusal(
        &self,
        transaction: &VerifiedTransaction,
        account: &Account,
    ) -> Result<Option<Refusal>, String> {
        let is_transfer = matches!(transaction.transaction().payload, Payload::Transfer { .. });
        if is_transfer
            || transaction.transaction().nonce != account.nonce
            || self.mempool.get(&transaction.hash()).is_some()
        {
            return Ok(None);
        }
        self.source.refusal(transaction, self.now)
    }
}

/// Its place in the batch, when it came, and the transaction.
type Open = (usize, TimestampMs, Arc<VerifiedTransaction>);

/// What became of a journal's transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Pending again.
    pub kept: usize,
    /// Not taken again; mostly because a block holds them.
    pub dropped: usize,
}

/// Verifies what a journal held and inserts what still applies, then rewrites the
/// journal. To be called before the way in opens.
///
/// # Errors
/// [`SubmitError::Unavailable`] when the state cannot be read, [`SubmitError::Mempool`]
/// when the journal cannot be written: the journal then is as it was.
pub fn restore(
    mempool: &Mempool,
    source: &dyn AccountSource,
    recovered: Recovered,
    now: TimestampMs,
) -> Result<Restored, SubmitError> {
    let journaled = recovered.transactions.len();
    let unused = without_used(source, recovered.transactions)
        .map_err(|reason| SubmitError::Unavailable { reason })?;
    let mut restored = Restored { kept: 0, dropped: journaled.saturating_sub(unused.len()) };
    let mut waiting = unused.into_iter().peekable();
    let admission = Admission { mempool, source, now };
    while waiting.peek().is_some() {
        let (times, batch): (Vec<_>, Vec<Transaction>) =
            waiting.by_ref().take(BATCH_COUNT_MAX).unzip();
        let hashes: Vec<TxHash> = batch.iter().map(Transaction::hash).collect();
        let batch = times.into_iter().zip(verify_transactions(batch, None));
        let results = admission.admit(batch, Mempool::restore_batch);
        for (hash, result) in hashes.into_iter().zip(results) {
            match result {
                Ok(_) => restored.kept = restored.kept.saturating_add(1),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => {
                    restored.dropped = restored.dropped.saturating_add(1);
                    mempool.note_not_restored(hash, error.code(), error.to_string(), now);
                }
            }
        }
    }
    // Without room the file stays as it is.
    if !mempool.is_paused() {
        mempool.sweep(now);
        mempool.compact()?;
    }
    Ok(restored)
}

/// Leaves out those whose nonces are used, which a block most likely holds: verifying
/// them would make up most of the time.
fn without_used(
    source: &dyn AccountSource,
    journaled: Vec<(TimestampMs, Transaction)>,
) -> Result<Vec<(TimestampMs, Transaction)>, String> {
    let mut unused = Vec::new();
    let mut waiting = journaled.into_iter().peekable();
    while waiting.peek().is_some() {
        let part: Vec<_> = waiting.by_ref().take(BATCH_COUNT_MAX).collect();
        let senders: Vec<Address> = part.iter().map(|(_, one)| one.sender()).collect();
        let accounts = source.accounts(&senders)?;
        let nonces = accounts.into_iter().map(|account| account.unwrap_or_default().nonce);
        let kept = part.into_iter().zip(nonces).filter(|((_, one), nonce)| one.nonce >= *nonce);
        unused.extend(kept.map(|(one, _)| one));
    }
    Ok(unused)
}
