//! What goes into the sequencer and what comes out.

use std::sync::Arc;
use std::time::Duration;

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::message::{Message, VerifiedMessage};
use ait_engine::types::{BlockId, Height, Round};
use ait_engine::vote::SignedProposal;
use ait_net::peer::PeerId;

use crate::chain::{ChainError, CommitError, CommittedBlock};
use crate::consensus::ConsensusFailure;
use crate::divergence::Divergence;
use crate::evidence::Evidence;
use crate::import::{ImportError, Imported, Prepared};

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

/// Bounds of what a block takes from the mempool, and pace.
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

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed, or a transaction became executable.
    Tick,
    /// A validator says something; unverified.
    Message {
        /// Who sent it here.
        from: PeerId,
        /// What it says.
        message: Message,
    },
    /// The body of a proposed block; unverified.
    Body {
        /// Who sent it here.
        from: PeerId,
        /// The proposal that it belongs to.
        proposal: SignedProposal,
        /// The block.
        block: Arc<Block>,
    },
    /// A peer says that a block is final; unverified.
    Final {
        /// Who sent it here.
        from: PeerId,
        /// Why it is final.
        certificate: Certificate,
    },
    /// A peer is connected: it may have missed what was said.
    Connected {
        /// Which.
        peer: PeerId,
    },
    /// A certified block from sync or from outside.
    Import {
        /// Comes back with the answer.
        id: u64,
        /// The block.
        prepared: Box<Prepared>,
    },
}

/// What a peer did that no correct node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offence {
    /// It passed on a message of validators that does not verify.
    BadMessage {
        /// What is wrong.
        reason: String,
    },
    /// It sent a block that breaks a rule.
    BadBlock {
        /// What is wrong.
        reason: String,
    },
    /// It sent a certificate that proves nothing.
    BadCertificate {
        /// What is wrong.
        reason: String,
    },
}

/// What to do.
#[derive(Debug)]
pub enum Effect {
    /// Say this to all.
    Publish(Message),
    /// Send this body to all who lack it.
    PublishBody {
        /// The proposal that it belongs to.
        proposal: SignedProposal,
        /// The block.
        block: Arc<Block>,
    },
    /// A message of another validator is good: pass it on to those who lack it.
    Forward {
        /// Who sent it here.
        from: PeerId,
        /// The message.
        message: VerifiedMessage,
    },
    /// A block of another validator is good: tell those who lack it that it is here.
    BodyAccepted {
        /// Who sent it here.
        from: PeerId,
        /// The proposal that it belongs to.
        proposal: SignedProposal,
        /// The block, to be served: what was not accepted is not passed on.
        block: Arc<Block>,
    },
    /// Say this to one peer.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: Message,
    },
    /// Tell a peer that the body of this proposal is here.
    OfferBody {
        /// To whom.
        peer: PeerId,
        /// The proposal.
        proposal: SignedProposal,
    },
    /// The body of this proposal is not here: ask this peer for it.
    WantBody {
        /// Who sent the proposal.
        from: PeerId,
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// The block.
        block_id: BlockId,
    },
    /// A peer is at fault.
    Misbehaved {
        /// Which.
        peer: PeerId,
        /// What it did.
        offence: Offence,
    },
    /// A validator signed two things where one is allowed.
    Equivocated {
        /// Both signatures.
        evidence: Evidence,
    },
    /// Executing a block gave something else than its header says.
    Diverged {
        /// The block, and everything needed to execute it again.
        divergence: Box<Divergence>,
    },
    /// A block is final and durable here.
    Committed(Arc<CommittedBlock>),
    /// Answer to [`Input::Import`].
    Imported {
        /// Of which input.
        id: u64,
        /// What became of it.
        result: Result<Imported, ImportError>,
    },
}
