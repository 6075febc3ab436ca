//! The way in: from a decoded transaction to a pending one.
//!
//! A bounded line leads to threads that verify signatures in batches of what is there
//! now: nobody waits for a batch to fill, but while the processor has others to run that
//! fill it. Then the sender's accounts are read and the mempool decides. A full line answers
//! [`SubmitError::Busy`] at once, which is the backpressure.
//!
//! Nothing is decoded here and no clock is read: the caller brings one.

// What no input may do here: panic, or overflow unseen. An exception says why it is none.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_in_result,
        clippy::unwrap_used
    )
)]

mod line;
mod source;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::thread::JoinHandle;

use ait_engine::crypto::KeyCache;
use ait_engine::execute::Refusal;
use ait_engine::transaction::{Transaction, TransactionError};
use ait_engine::types::{TimestampMs, TxHash};

pub use source::AccountSource;
pub(crate) use worker::submit;
pub use worker::{Restored, restore};

use crate::mempool::{Mempool, MempoolError};
use line::Line;
use worker::{BATCH_COUNT_MAX, Job, Worker};

/// Where the present time comes from.
pub type Clock = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// How the way in is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressOptions {
    /// Most transactions that wait to be verified.
    pub queue_max: usize,
    /// Threads that verify.
    pub threads: usize,
    /// Public keys that are kept decompressed, 200 bytes each.
    pub cached_keys: usize,
}

impl Default for IngressOptions {
    fn default() -> Self {
        // Signatures are most of the work, and what else there is waits for the disk now and then.
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { queue_max: 16_384, threads, cached_keys: 131_072 }
    }
}

/// A transaction that is pending now, or was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Its hash.
    pub hash: TxHash,
    /// It was pending before.
    pub duplicate: bool,
    /// The transaction whose place it took.
    pub replaced: Option<TxHash>,
}

/// Why a transaction was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It is not valid whatever the state.
    #[error(transparent)]
    Invalid(#[from] TransactionError),
    /// The mempool does not take it.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// More transactions arrive than can be verified.
    #[error("too many transactions wait to be verified")]
    Busy,
    /// The state cannot be read.
    #[error("the state cannot be read: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

impl SubmitError {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(error) => error.code(),
            Self::Mempool(error) => error.code(),
            Self::Busy => "busy",
            Self::Unavailable { .. } => "state_unavailable",
            Self::Stopping => "stopping",
        }
    }

    /// What the caller may do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Invalid(TransactionError::Signature) => {
                "sign the transaction's hash with the sender's key"
            }
            Self::Invalid(_) => "correct the transaction and sign it again",
            Self::Mempool(error) => error.hint(),
            Self::Busy => "try again in a moment",
            Self::Unavailable { .. } => "try again; the node's log says more",
            Self::Stopping => "send it to the node again once it is back",
        }
    }

    /// Whether a node that passes it on could have known, whatever its newest block and whatever
    /// else is pending there.
    #[must_use]
    pub const fn is_knowable(&self) -> bool {
        let Self::Mempool(error) = self else { return false };
        match error {
            // Who has something may have had more.
            MempoolError::Refused(Refusal::InsufficientFunds { balance, .. }) => balance.get() == 0,
            MempoolError::Refused(
                Refusal::NonceUsed { .. }
                | Refusal::NonceGap { .. }
                | Refusal::Expired { .. }
                | Refusal::ReceiptClaimed { .. }
                | Refusal::JobClaimed { .. },
            ) => false,
            MempoolError::Refused(_) => true,
            _ => false,
        }
    }

    /// Whether the node is at fault and the same transaction may be sent again.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Busy
                | Self::Unavailable { .. }
                | Self::Stopping
                | Self::Mempool(
                    MempoolError::Outdated { .. }
                        | MempoolError::Journal { .. }
                        | MempoolError::Paused(_)
                )
        )
    }
}

/// The way in; clones share one line.
#[derive(Clone)]
pub struct Ingress {
    line: Arc<Line<Job>>,
}

impl std::fmt::Debug for Ingress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingress").field("waiting", &self.line.len()).finish()
    }
}

impl Ingress {
    /// Starts the threads. They end when the second value is shut down or dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        options: IngressOptions,
        mempool: Arc<Mempool>,
        source: Arc<dyn AccountSource>,
        clock: Clock,
    ) -> std::io::Result<(Self, IngressThreads)> {
        let line = Arc::new(Line::new(options.queue_max));
        let cache = Arc::new(KeyCache::new(options.cached_keys));
        let mut threads = IngressThreads { line: Arc::clone(&line), handles: Vec::new() };
        for number in 0..options.threads.max(1) {
            let worker = Worker::new(
                Arc::clone(&line),
                Arc::clone(&mempool),
                Arc::clone(&source),
                Arc::clone(&clock),
                Arc::clone(&cache),
            );
            let thread = std::thread::Builder::new().name(format!("verify-{number}"));
            threads.handles.push(thread.spawn(move || worker.run())?);
        }
        Ok((Self { line }, threads))
    }

    /// Submits a transaction and waits for the answer.
    ///
    /// # Errors
    /// [`SubmitError`]: why it was not taken.
    pub async fn submit(&self, transaction: Transaction) -> Result<Submitted, SubmitError> {
        let ((_, job), answers) = Job::new(vec![transaction]);
        self.line.offer(job)?;
        let answer = answers.await.ok().and_then(|mut answers| answers.pop());
        answer.unwrap_or(Err(SubmitError::Stopping))
    }

    /// Submits many transactions; the answers stand in their order.
    pub async fn submit_many(
        &self,
        transactions: Vec<Transaction>,
    ) -> Vec<Result<Submitted, SubmitError>> {
        let count = transactions.len();
        let room = match self.line.reserve(count) {
            Ok(room) => room,
            Err(error) => return vec![Err(error); count],
        };
        let mut waiting = transactions.into_iter().take(room);
        let (mut jobs, mut parts) = (Vec::new(), Vec::new());
        while waiting.len() > 0 {
            let part: Vec<Transaction> = waiting.by_ref().take(BATCH_COUNT_MAX).collect();
            let length = part.len();
            let (job, answers) = Job::new(part);
            jobs.push(job);
            parts.push((length, answers));
        }
        // All are in the line before the first is waited for, so that several threads share them.
        self.line.push(jobs);
        let mut results = Vec::with_capacity(count);
        for (length, answers) in parts {
            match answers.await {
                Ok(answers) => results.extend(answers),
                Err(_) => results.extend(vec![Err(SubmitError::Stopping); length]),
            }
        }
        results.resize(count, Err(SubmitError::Busy));
        results
    }

    /// How many wait to be verified.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.line.len()
    }
}

/// The threads behind an [`Ingress`].
#[derive(Debug)]
pub struct IngressThreads {
    line: Arc<Line<Job>>,
    handles: Vec<JoinHandle<()>>,
}

impl IngressThreads {
    /// Takes no more, answers what waits, and ends the threads. Blocks until then.
    pub fn shut_down(mut self) {
        self.end();
    }

    /// Whether a thread ended though it was not told to.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.handles.iter().any(JoinHandle::is_finished)
    }

    fn end(&mut self) {
        self.line.close();
        for handle in self.handles.drain(..) {
            if handle.join().is_err() {
                tracing::error!("a verifying thread had panicked");
            }
        }
    }
}

impl Drop for IngressThreads {
    fn drop(&mut self) {
        self.end();
    }
}

/// The code by which a refusal is answered.
impl From<Refusal> for SubmitError {
    fn from(refusal: Refusal) -> Self {
        Self::Mempool(refusal.into())
    }
}
