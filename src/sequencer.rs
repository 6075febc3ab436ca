//! The sequencer: one thread that feeds consensus and does what it says.
//!
//! A height is started only when something executable is pending and the block interval
//! has passed, so that an idle chain makes no block and runs no time-out. A decision is
//! committed before anything else is done. The first fault ends the thread, and with it
//! the node: to go on could sign twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ait_engine::types::{Address, BlockId, Height, Round, TxHash};

use crate::chain::{ChainError, ChainWriter, CommitError};
use crate::consensus::{
    Action, Consensus, ConsensusFailure, Event, Timeout, VoteSigner, WriteAheadLog,
};
use crate::ingress::Clock;
use crate::mempool::Mempool;
use crate::telemetry::metrics;

/// How long the thread sleeps at most before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// Why the sequencer stopped.
#[derive(Debug, thiserror::Error)]
pub enum SequencerError {
    /// Consensus failed.
    #[error(transparent)]
    Consensus(#[from] ConsensusFailure),
    /// The decided block was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The chain failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Bounds of what a block takes from the mempool.
#[derive(Debug, Clone, Copy)]
pub struct SequencerOptions {
    /// Least time between the starts of two heights.
    pub block_interval: Duration,
    /// Candidates that are tried for a block at most.
    pub candidates_max: usize,
    /// Bytes of candidates at most.
    pub candidate_bytes_max: u64,
}

impl Default for SequencerOptions {
    fn default() -> Self {
        Self {
            block_interval: Duration::from_secs(2),
            candidates_max: 20_000,
            candidate_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// Orders transactions into blocks.
#[derive(Debug)]
pub struct Sequencer<S, L> {
    writer: ChainWriter,
    consensus: Consensus<S, L>,
    mempool: Arc<Mempool>,
    address: Address,
    clock: ShownClock,
    options: SequencerOptions,
    stop: Arc<AtomicBool>,
    timeouts: BTreeMap<Timeout, Instant>,
    /// A request for a block that could not be answered yet.
    wanted: Option<(Height, Round)>,
    committed_at: Option<Instant>,
    /// A block built for the next height, not yet proposed.
    built: Option<BlockId>,
}

/// A clock that can be shown.
struct ShownClock(Clock);

impl std::fmt::Debug for ShownClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl<S: VoteSigner, L: WriteAheadLog> Sequencer<S, L> {
    /// A sequencer for the validator of this address.
    #[must_use]
    pub fn new(
        writer: ChainWriter,
        consensus: Consensus<S, L>,
        mempool: Arc<Mempool>,
        address: Address,
        clock: Clock,
        options: SequencerOptions,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let (timeouts, clock) = (BTreeMap::new(), ShownClock(clock));
        Self {
            writer,
            consensus,
            mempool,
            address,
            clock,
            options,
            stop,
            timeouts,
            wanted: None,
            committed_at: None,
            built: None,
        }
    }

    /// Takes up the height that was under way before a restart, if the log has one.
    ///
    /// # Errors
    /// [`SequencerError`]; the node must end.
    pub fn recover(
        &mut self,
        logged: Option<(Height, Vec<Vec<u8>>)>,
    ) -> Result<(), SequencerError> {
        let next = self.writer.height().next();
        let Some((_, entries)) = logged.filter(|(h, e)| Some(*h) == next && !e.is_empty()) else {
            return Ok(());
        };
        self.writer.restore_proposals()?;
        let validators = self.writer.validators().clone();
        let actions = self.consensus.recover(&validators, &entries)?;
        let before = self.writer.height();
        self.run_height(actions, before)
    }

    /// Makes blocks until told to stop.
    ///
    /// # Errors
    /// [`SequencerError`]; the node must end.
    pub fn run(mut self) -> Result<(), SequencerError> {
        let mut next_start = Instant::now();
        while !self.stopped() {
            let wait = next_start.saturating_duration_since(Instant::now());
            if wait > Duration::ZERO {
                std::thread::sleep(wait.min(TICK));
                continue;
            }
            if !self.mempool.wait_executable(TICK) {
                continue;
            }
            // Built before the height is started: what nobody can propose starts no height, so
            // that no time-out runs while there is nothing to decide.
            self.built = self.build()?;
            if self.built.is_none() {
                continue;
            }
            next_start = Instant::now() + self.options.block_interval;
            let before = self.writer.height();
            let Some(height) = before.next() else { return Ok(()) };
            let validators = self.writer.validators().clone();
            let actions = self.consensus.on(Event::StartHeight { height, validators })?;
            self.run_height(actions, before)?;
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Does what consensus says until the height above `before` is committed.
    fn run_height(&mut self, actions: Vec<Action>, before: Height) -> Result<(), SequencerError> {
        let mut actions = VecDeque::from(actions);
        while !self.stopped() {
            while let Some(action) = actions.pop_front() {
                actions.extend(self.act(action)?);
            }
            if self.writer.height() > before {
                self.timeouts.clear();
                self.wanted = None;
                return Ok(());
            }
            if let Some((height, round)) = self.wanted.take() {
                // Only after a restart, when the mempool lost what was under way. Time-outs wait,
                // too: this validator is the set, and nobody else waits for it.
                self.wanted = Some((height, round));
                if self.mempool.wait_executable(TICK) {
                    self.wanted = None;
                    actions.extend(self.propose(height, round)?);
                }
                continue;
            }
            std::thread::sleep(Duration::from_millis(1));
            let now = Instant::now();
            let elapsed = self.timeouts.iter().find(|(_, at)| **at <= now).map(|(t, _)| *t);
            if let Some(timeout) = elapsed {
                self.timeouts.remove(&timeout);
                actions.extend(self.consensus.on(Event::TimeoutElapsed(timeout))?);
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<Vec<Action>, SequencerError> {
        match action {
            Action::ScheduleTimeout { timeout, after_ms } => {
                self.timeouts.insert(timeout, Instant::now() + Duration::from_millis(after_ms));
            }
            Action::CancelTimeout(timeout) => {
                self.timeouts.remove(&timeout);
            }
            Action::CancelAllTimeouts => self.timeouts.clear(),
            Action::GetValue { height, round } => return self.propose(height, round),
            Action::Decide(certificate) => {
                let began = Instant::now();
                let block = self.writer.commit(certificate)?;
                let since = self.committed_at.replace(began).map(|before| began - before);
                metrics::committed(&block, began.elapsed(), since);
                let now = (self.clock.0)();
                let chain = self.writer.chain();
                self.mempool.on_block(&block, now, |senders| chain.accounts(senders))?;
                tracing::info!(height = %block.height(), transactions = block.tx_hashes.len(), "committed");
            }
            Action::StartRound { height, round, .. } if round > Round::ZERO => {
                tracing::warn!(%height, %round, "consensus needed another round");
            }
            // A set of one has nobody to send to, and its own blocks are stored.
            Action::Publish(_)
            | Action::RestreamBlock { .. }
            | Action::StartRound { .. }
            | Action::Finalize { .. } => {}
        }
        Ok(Vec::new())
    }

    fn propose(&mut self, height: Height, round: Round) -> Result<Vec<Action>, SequencerError> {
        let built = match self.built.take() {
            Some(built) => Some(built),
            None => self.build()?,
        };
        match built {
            Some(block_id) => Ok(self.consensus.on(Event::Proposed { height, round, block_id })?),
            None => {
                self.wanted = Some((height, round));
                Ok(Vec::new())
            }
        }
    }

    fn build(&mut self) -> Result<Option<BlockId>, ChainError> {
        let (options, began) = (self.options, Instant::now());
        let candidates = self.mempool.select(options.candidates_max, options.candidate_bytes_max);
        let now = (self.clock.0)();
        let built = self.writer.build(candidates, now, self.address)?;
        metrics::built(began.elapsed());
        for (hash, refusal) in built.refused {
            let hash: TxHash = hash;
            self.mempool.refuse(&hash, refusal, now);
        }
        Ok(built.block_id)
    }
}
