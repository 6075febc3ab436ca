//! The sequencer as a state machine.
//!
//! Invariants: consensus is at the height after the newest committed block, or between
//! heights; a message is verified once, with the validators of its height, before anything
//! is done upon it; a block is executed before it is voted for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ait_engine::codec::Canonical;
use ait_engine::execute::Refusal;
use ait_engine::message::Message;
use ait_engine::types::{Address, BlockId, Height, Round, TxHash};
use ait_engine::vote::SignedProposal;

use super::early::Early;
use super::port::{Effect, Input, SequencerError, SequencerOptions};
use crate::chain::{ChainError, ChainWriter, CommitError, CommittedBlock};
use crate::consensus::{
    Action, Consensus, Event, Logged, RecentVotes, Timeout, TimeoutKind, VoteSigner, WriteAheadLog,
    logged_blocks,
};
use crate::ingress::Clock;
use crate::mempool::Mempool;
use crate::planted::Bug;
use crate::telemetry::{Stage, metrics};

/// How long to wait when no pending transaction could be put into a block.
const NOTHING_BUILT: Duration = Duration::from_millis(20);
/// How long a time-out is put off while there is nothing to decide.
const IDLE: Duration = Duration::from_millis(100);
/// Heights whose votes are kept to see contradictions, and votes at most.
const VOTE_HEIGHTS: u64 = 16;
const VOTES_MAX: usize = 65_536;
/// Messages of the height under way that a new peer is told.
const SAID_MAX: usize = 256;

/// The voting part of a validator.
#[derive(Debug)]
pub struct Voter<S, L> {
    /// The state machine.
    pub consensus: Consensus<S, L>,
    /// The validator.
    pub address: Address,
    /// The first height that it may vote at: above what its key signed before, unless the
    /// log of that height is here.
    pub first: Height,
}

/// The height under way.
#[derive(Debug, Default)]
pub(super) struct Under {
    /// Whether consensus was started.
    pub(super) is_started: bool,
    /// The newest round.
    pub(super) round: Round,
    /// The newest round in which another validator said something.
    pub(super) heard: Option<Round>,
    pub(super) timeouts: BTreeMap<Timeout, Duration>,
    /// A request for a block that could not be answered yet.
    pub(super) wanted: Option<Round>,
    /// A block built for the height, not yet proposed.
    pub(super) built: Option<BlockId>,
    /// What this validator said.
    pub(super) said: Vec<Message>,
    /// Verified proposals of others.
    pub(super) proposals: BTreeMap<(Round, BlockId), SignedProposal>,
    /// Blocks that consensus was told of, good or bad.
    pub(super) judged: Vec<BlockId>,
    /// When this validator may propose.
    pub(super) not_before: Duration,
}

/// Orders transactions into blocks, and takes blocks that are final.
pub struct SequencerCore<S, L> {
    pub(super) writer: ChainWriter,
    pub(super) voter: Option<Voter<S, L>>,
    pub(super) mempool: Arc<Mempool>,
    pub(super) clock: Clock,
    options: SequencerOptions,
    pub(super) under: Under,
    pub(super) early: Early,
    pub(super) votes: RecentVotes,
    /// When the next height may be started.
    next_start: Duration,
    committed_at: Option<Duration>,
    /// Greatest height that a verified certificate was seen of.
    pub(super) certified: Height,
    pub(super) effects: Vec<Effect>,
}

impl<S, L> std::fmt::Debug for SequencerCore<S, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SequencerCore").field("height", &self.writer.height()).finish()
    }
}

impl<S: VoteSigner, L: WriteAheadLog> SequencerCore<S, L> {
    /// A sequencer that votes, or one that only follows.
    #[must_use]
    pub fn new(
        writer: ChainWriter,
        voter: Option<Voter<S, L>>,
        mempool: Arc<Mempool>,
        clock: Clock,
        options: SequencerOptions,
    ) -> Self {
        let certified = writer.height();
        Self {
            writer,
            voter,
            mempool,
            clock,
            options,
            under: Under::default(),
            early: Early::default(),
            votes: RecentVotes::new(VOTE_HEIGHTS, VOTES_MAX),
            next_start: Duration::ZERO,
            committed_at: None,
            certified,
            effects: Vec::new(),
        }
    }

    /// The chain's writer.
    #[must_use]
    pub const fn writer(&self) -> &ChainWriter {
        &self.writer
    }

    /// Takes up the height that was under way before a restart, if the log has one. Must be
    /// the first call.
    ///
    /// # Errors
    /// [`SequencerError`]; the node must end.
    pub fn recover(
        &mut self,
        logged: Option<Logged>,
        now: Duration,
    ) -> Result<Vec<Effect>, SequencerError> {
        let next = self.writer.height().next();
        let logged = logged.filter(|(h, e)| Some(*h) == next && !e.is_empty());
        if let (Some((_, entries)), Some(voter)) = (logged, &mut self.voter) {
            self.writer.restore_proposals(logged_blocks(&entries)?)?;
            let actions = voter.consensus.recover(self.writer.validators(), &entries)?;
            self.under.is_started = true;
            self.perform(actions, now)?;
        }
        self.go_on(now)?;
        self.give_out()
    }

    /// When [`Input::Tick`] is due without anything else; none: not before something happens.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Duration> {
        let timeout = self.under.timeouts.values().min().copied();
        let start = match (&self.voter, self.under.is_started, self.under.wanted) {
            (None, ..) | (_, true, None) => None,
            (_, true, Some(_)) => Some(self.under.not_before),
            // Until the blocks that others have are here, time changes nothing.
            (_, false, _) => self.may_start().then_some(self.next_start),
        };
        let start = start.filter(|_| self.mempool.has_executable());
        match (timeout, start) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Takes an input at a time since some beginning, and gives what is to be done, in order.
    ///
    /// # Errors
    /// [`SequencerError`]; the node must end.
    pub fn handle(&mut self, now: Duration, input: Input) -> Result<Vec<Effect>, SequencerError> {
        self.take(now, input)?;
        self.go_on(now)?;
        self.give_out()
    }

    /// What is to be done, once the signer's record has all that was signed.
    fn give_out(&mut self) -> Result<Vec<Effect>, SequencerError> {
        self.record()?;
        Ok(std::mem::take(&mut self.effects))
    }

    /// Makes the signer's record durable: before anything is published, and before the store has
    /// a block of the height.
    pub(super) fn record(&mut self) -> Result<(), SequencerError> {
        if let Some(voter) = &mut self.voter {
            voter.consensus.record()?;
        }
        Ok(())
    }

    fn take(&mut self, now: Duration, input: Input) -> Result<(), SequencerError> {
        match input {
            Input::Tick => Ok(()),
            Input::Message { from, message } => self.on_message(now, from, message),
            Input::Body { from, proposal, block } => self.on_body(now, from, proposal, block),
            Input::Final { from, certificate } => self.on_final(now, from, certificate),
            Input::Connected { peer } => {
                self.tell(peer);
                Ok(())
            }
            Input::Import { id, prepared } => self.on_import(now, id, *prepared),
        }
    }

    /// Time-outs that elapsed, a height to be started, a block that was asked for.
    fn go_on(&mut self, now: Duration) -> Result<(), SequencerError> {
        while let Some(timeout) = self.elapsed(now) {
            self.under.timeouts.remove(&timeout);
            if self.is_idle(timeout) {
                self.under.timeouts.insert(timeout, now + IDLE);
                continue;
            }
            self.feed(Event::TimeoutElapsed(timeout), now)?;
        }
        if self.voter.is_none() || !self.mempool.has_executable() {
            return Ok(());
        }
        match (self.under.is_started, self.under.wanted) {
            (true, Some(round)) if now >= self.under.not_before => self.propose(round, now),
            (false, _) if now >= self.next_start && self.may_start() => self.start_with_work(now),
            _ => Ok(()),
        }
    }

    /// Whether the next height is this node's to vote in, and no block of it is known to be
    /// final elsewhere.
    fn may_start(&self) -> bool {
        let is_voter = |next| self.voter.as_ref().is_some_and(|voter| next >= voter.first);
        self.writer.height().next().is_some_and(is_voter) && self.certified <= self.writer.height()
    }

    fn elapsed(&self, now: Duration) -> Option<Timeout> {
        self.under.timeouts.iter().find(|(_, at)| **at <= now).map(|(timeout, _)| *timeout)
    }

    /// Whether nobody waits for the proposal of this round: no work here, and no other
    /// validator said anything in it. To let the time-out run would turn rounds for nothing.
    fn is_idle(&self, timeout: Timeout) -> bool {
        timeout.kind == TimeoutKind::Propose
            && self.under.heard < Some(timeout.round)
            && !self.mempool.has_executable()
    }

    /// Starts the next height because transactions wait. The proposer builds first: what
    /// nobody can propose starts no height.
    fn start_with_work(&mut self, now: Duration) -> Result<(), SequencerError> {
        let Some(next) = self.writer.height().next() else { return Ok(()) };
        let proposer = self.writer.validators().proposer(next, Round::ZERO).address();
        if self.voter.as_ref().is_some_and(|voter| voter.address == proposer) {
            self.under.built = self.build()?;
            if self.under.built.is_none() {
                self.next_start = now + NOTHING_BUILT;
                return Ok(());
            }
        }
        self.start(now)
    }

    pub(super) fn start(&mut self, now: Duration) -> Result<(), SequencerError> {
        let Some(height) = self.writer.height().next() else { return Ok(()) };
        if self.under.is_started || self.voter.as_ref().is_none_or(|voter| height < voter.first) {
            return Ok(());
        }
        // The log of the last height is given up now.
        if self.writer.planted() != Some(Bug::UnsettledLog) {
            self.writer.settle()?;
        }
        self.under.is_started = true;
        self.under.not_before = self.next_start;
        self.next_start = self.next_start.max(now) + self.options.block_interval;
        let validators = self.writer.validators().clone();
        self.feed(Event::StartHeight { height, validators }, now)
    }

    pub(super) fn feed(&mut self, event: Event, now: Duration) -> Result<(), SequencerError> {
        let Some(voter) = &mut self.voter else { return Ok(()) };
        let actions = voter.consensus.on(event)?;
        self.perform(actions, now)
    }

    /// Does what consensus says, and what follows from it.
    fn perform(&mut self, actions: Vec<Action>, now: Duration) -> Result<(), SequencerError> {
        let mut decided = None;
        for action in actions {
            match action {
                Action::ScheduleTimeout { timeout, after_ms } => {
                    self.under.timeouts.insert(timeout, now + Duration::from_millis(after_ms));
                }
                Action::CancelTimeout(timeout) => {
                    self.under.timeouts.remove(&timeout);
                }
                Action::CancelAllTimeouts => self.under.timeouts.clear(),
                Action::GetValue { round, .. } => self.under.wanted = Some(round),
                // Committed before anything else is done. The log was flushed with all of it.
                Action::Decide { certificate, made_here } => {
                    decided =
                        Some(self.commit(|writer| writer.commit_logged(certificate, &made_here))?);
                }
                Action::StartRound { height, round, .. } => {
                    self.under.round = round;
                    if round > Round::ZERO {
                        metrics::round();
                        tracing::warn!(%height, %round, "consensus needed another round");
                    }
                }
                Action::Publish(message) => self.publish(message),
                // The proposal that follows takes the body along.
                Action::RestreamBlock { .. } | Action::Finalize { .. } => {}
            }
        }
        if let Some(block) = decided {
            // Before the store has it: what the store has the log is given up for, after a crash
            // as well, and then it cannot bring the record level.
            self.record()?;
            self.writer.write_block();
            return self.committed(block, now);
        }
        match self.under.wanted {
            Some(round) if now >= self.under.not_before && self.mempool.has_executable() => {
                self.propose(round, now)
            }
            _ => Ok(()),
        }
    }

    fn publish(&mut self, message: Message) {
        if let Message::Proposal(proposal) = &message
            && let Some(block) = self.writer.proposal(&proposal.proposal.block_id)
        {
            let (proposal, block) = (*proposal, Arc::new(block.clone()));
            self.under.proposals.insert(place(&proposal), proposal);
            self.effects.push(Effect::PublishBody { proposal, block });
        }
        if self.under.said.len() < SAID_MAX && !self.under.said.contains(&message) {
            self.under.said.push(message.clone());
        }
        self.effects.push(Effect::Publish(message));
    }

    fn propose(&mut self, round: Round, now: Duration) -> Result<(), SequencerError> {
        self.under.wanted = None;
        let is_wasted =
            self.writer.planted() == Some(Bug::WastedRounds) && round.get() < Bug::ROUNDS_WASTED;
        if is_wasted || round != self.under.round {
            // The round went by while there was nothing to propose.
            return Ok(());
        }
        let built = match self.under.built.take() {
            Some(built) => Some(built),
            None => self.build()?,
        };
        match (built, self.writer.height().next()) {
            (Some(block_id), Some(height)) => {
                self.keep(&block_id)?;
                self.feed(Event::Proposed { height, round, block_id }, now)
            }
            _ => {
                self.under.wanted = Some(round);
                self.under.not_before = now + NOTHING_BUILT;
                Ok(())
            }
        }
    }

    /// Logs the body of an executed proposal: it must be there after a crash if it is voted for.
    pub(super) fn keep(&mut self, id: &BlockId) -> Result<(), SequencerError> {
        let voter = self.voter.as_mut().filter(|_| self.under.is_started);
        if let (Some(voter), Some(block)) = (voter, self.writer.proposal(id)) {
            let bytes = Stage::Encode.time(|| block.encode());
            voter.consensus.keep_block(&bytes)?;
        }
        Ok(())
    }

    fn build(&mut self) -> Result<Option<BlockId>, ChainError> {
        let Some(voter) = &self.voter else { return Ok(None) };
        let (options, began) = (self.options, std::time::Instant::now());
        let candidates = self.mempool.select(options.candidates_max, options.candidate_bytes_max);
        let now = (self.clock)();
        let built = self.writer.build(candidates, now, voter.address)?;
        metrics::built(began.elapsed());
        for (hash, refusal) in built.refused {
            let hash: TxHash = hash;
            self.mempool.refuse(&hash, refusal, now);
        }
        if self.writer.planted() == Some(Bug::NotQueuedAgain) {
            let block = built.block_id.and_then(|id| self.writer.proposal(&id));
            for one in block.iter().flat_map(|block| &block.transactions) {
                self.mempool.refuse(&one.hash(), Refusal::AmountZero, now);
            }
        }
        Ok(built.block_id)
    }

    pub(super) fn commit(
        &mut self,
        commit: impl FnOnce(&mut ChainWriter) -> Result<Arc<CommittedBlock>, CommitError>,
    ) -> Result<Arc<CommittedBlock>, CommitError> {
        // The time is measured for the metrics alone.
        let began = std::time::Instant::now();
        let block = commit(&mut self.writer)?;
        metrics::commit_took(began.elapsed());
        Ok(block)
    }

    /// A block is final and durable: the next height is open.
    pub(super) fn committed(
        &mut self,
        block: Arc<CommittedBlock>,
        now: Duration,
    ) -> Result<(), SequencerError> {
        let since = self.committed_at.replace(now).map(|before| now.saturating_sub(before));
        metrics::committed(&block, since);
        self.mempool.on_block(&block, self.writer.changed(), (self.clock)());
        let (height, transactions) = (block.height(), block.tx_hashes.len());
        tracing::info!(%height, transactions, "committed");
        if !self.under.is_started {
            self.next_start = now + self.options.block_interval;
        }
        self.under = Under::default();
        self.certified = self.certified.max(height);
        self.effects.push(Effect::Committed(block));
        let Some(next) = height.next() else { return Ok(()) };
        let mut early = VecDeque::from(self.early.take(next));
        while let Some(input) = early.pop_front() {
            self.take(now, input)?;
        }
        Ok(())
    }
}

pub(super) const fn place(signed: &SignedProposal) -> (Round, BlockId) {
    (signed.proposal.round, signed.proposal.block_id)
}
