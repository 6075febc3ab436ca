//! The port: what goes into the state machine and what comes out, in the engine's types.

use ait_engine::certificate::Certificate;
use ait_engine::crypto::Signature;
use ait_engine::message::{Message, VerifiedMessage};
use ait_engine::types::{Address, BlockId, Hash, Height, Round};
use ait_engine::validator::ValidatorSet;
use ait_engine::vote::{ProposalMessage, Vote};

use crate::disk::WriteFault;

/// What a time-out is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeoutKind {
    /// The proposal did not come.
    Propose,
    /// Prevotes are split.
    Prevote,
    /// Precommits are split.
    Precommit,
    /// Say again what was said: somebody may have missed it.
    Rebroadcast,
}

/// A time-out of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeout {
    /// What it is for.
    pub kind: TimeoutKind,
    /// The round.
    pub round: Round,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The height after the last finalized one may begin.
    StartHeight {
        /// The height.
        height: Height,
        /// Its validators.
        validators: ValidatorSet,
    },
    /// Answer to [`Action::GetValue`]: the block was built, executed and stored.
    Proposed {
        /// The height asked for.
        height: Height,
        /// The round asked for.
        round: Round,
        /// The block.
        block_id: BlockId,
    },
    /// A block of another validator was received, executed and stored, or found invalid.
    BlockReceived {
        /// Its height.
        height: Height,
        /// The round it was proposed in.
        round: Round,
        /// Who proposed it.
        proposer: Address,
        /// The block.
        block_id: BlockId,
        /// Whether it executes to what its header says.
        is_valid: bool,
    },
    /// A message of another validator, of the height under way.
    Received(VerifiedMessage),
    /// The block of the height under way, or to be started, was committed without this
    /// machine's decision: its certificate came from others. The height is over.
    Overtaken {
        /// The height.
        height: Height,
    },
    /// A time-out that was scheduled has elapsed.
    TimeoutElapsed(Timeout),
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Feed [`Event::TimeoutElapsed`] after this many milliseconds.
    ScheduleTimeout {
        /// The time-out.
        timeout: Timeout,
        /// Milliseconds from now.
        after_ms: u64,
    },
    /// This time-out is not needed any more.
    CancelTimeout(Timeout),
    /// No time-out is needed any more.
    CancelAllTimeouts,
    /// A round began.
    StartRound {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// Who proposes.
        proposer: Address,
    },
    /// Build a block, then feed [`Event::Proposed`].
    GetValue {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
    },
    /// Send the stored body of a block again.
    RestreamBlock {
        /// Its height.
        height: Height,
        /// The round.
        round: Round,
        /// The block.
        block_id: BlockId,
    },
    /// Send to all validators, once [`super::Consensus::record`] returned. What it rests on is in
    /// the log, and flushed.
    Publish(Message),
    /// The block is final: commit it before anything else.
    Decide {
        /// What proves it.
        certificate: Certificate,
        /// What this validator signed since the last event: the signatures need no verification.
        made_here: Vec<(Hash, Signature)>,
    },
    /// The height is over; the next may be started once it was committed.
    Finalize {
        /// The height.
        height: Height,
    },
}

/// Signs for this validator, never two different things at one (height, round, step). No
/// signature leaves before [`VoteSigner::flush`] returned.
pub trait VoteSigner: Send {
    /// Signs a vote.
    ///
    /// # Errors
    /// When it would be a second one.
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, WriteFault>;

    /// Signs a proposal.
    ///
    /// # Errors
    /// When it would be a second one.
    fn sign_proposal(&mut self, proposal: &ProposalMessage) -> Result<Signature, WriteFault>;

    /// Makes the record of everything signed durable.
    ///
    /// # Errors
    /// When it cannot be written.
    fn flush(&mut self) -> Result<(), WriteFault>;
}

/// Remembers the inputs of the height under way.
pub trait WriteAheadLog: Send {
    /// Begins the log of a height: what is logged of others is gone.
    ///
    /// # Errors
    /// When it cannot be written.
    fn begin(&mut self, height: Height) -> Result<(), WriteFault>;

    /// Appends an entry; it need not be durable yet.
    ///
    /// # Errors
    /// When it cannot be written.
    fn append(&mut self, entry: &[u8]) -> Result<(), WriteFault>;

    /// Makes every appended entry durable.
    ///
    /// # Errors
    /// When it cannot be synced.
    fn flush(&mut self) -> Result<(), WriteFault>;
}

/// Why consensus stopped for good. The process must end: to go on could sign twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusFailure {
    /// The write-ahead log failed.
    #[error("the write-ahead log failed: {source}")]
    Log {
        /// Why.
        source: WriteFault,
    },
    /// Signing failed.
    #[error("signing failed: {source}")]
    Signer {
        /// Why.
        source: WriteFault,
    },
    /// A height was started before the one before was finalized, or not the next one.
    #[error("height {found} was started, expected {expected}")]
    Height {
        /// The next height.
        expected: Height,
        /// The one started.
        found: Height,
    },
    /// An entry of the log cannot be read.
    #[error("an entry of the write-ahead log cannot be read: {reason}")]
    Entry {
        /// Why.
        reason: String,
    },
    /// The library gave up.
    #[error("the consensus state machine failed: {reason}")]
    Machine {
        /// Why.
        reason: String,
    },
    /// It failed before.
    #[error("consensus has failed before and must not go on")]
    Poisoned,
}
