//! The single writer: builds and checks proposals, commits certified blocks.

mod behind;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use ait_engine::block::{Block, CertifiedBlock, CertifyError, Header};
use ait_engine::certificate::Certificate;
use ait_engine::crypto::Signature;
use ait_engine::execute::{
    BlockBuilder, BlockError, EXPECTED_TOGETHER, Fault, Refusal, Transition, refill_block,
};
use ait_engine::state::{Account, StateView};
use ait_engine::transaction::{
    Transaction, TransactionError, VerifiedTransaction, verify_transactions,
};
use ait_engine::types::{Address, Amount, BlockId, Hash, Height, TimestampMs, TxHash};
use ait_engine::validator::ValidatorSet;

use super::background::Background;
use super::index::build::{Indexable, payout};
use super::read::{Chain, Head, from_block_error};
use super::{ChainError, ChainOptions, CheckpointPolicy, CommittedBlock, ViewError};
use crate::planted::{Bug, misplace_fees};
use crate::telemetry::Stage;

/// What building a block gave.
#[derive(Debug)]
pub struct Built {
    /// The block's id; none if no transaction applied.
    pub block_id: Option<BlockId>,
    /// Transactions that do not apply, and why.
    pub refused: Vec<(TxHash, Refusal)>,
}

/// Verifies the signatures of transactions; the results stand in their order.
pub type Verify<'a> =
    &'a mut dyn FnMut(Vec<Transaction>) -> Vec<Result<VerifiedTransaction, TransactionError>>;

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// It breaks a rule.
    #[error("{reason}")]
    Invalid {
        /// Which.
        reason: String,
    },
    /// Executing it gives another state or other outcomes than its header says: one of the
    /// two machines is wrong.
    #[error("{reason}")]
    Diverged {
        /// What differs.
        reason: String,
    },
}

impl BlockFault {
    fn of<E: std::error::Error>(error: BlockError<E>) -> Self {
        let reason = error.to_string();
        match error {
            BlockError::Header { field: "state_root" | "outcomes_root", .. } => {
                Self::Diverged { reason }
            }
            _ => Self::Invalid { reason },
        }
    }
}

/// Where a block that is to be committed is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    /// In the store of blocks, before it is told to anybody.
    InStore,
    /// In a log or an archive, already; in the store later.
    Elsewhere,
}

/// Why a certified block was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// No such block was built or received.
    #[error("block {0} was decided but its body is not here")]
    UnknownBlock(BlockId),
    /// The certificate does not make it final.
    #[error(transparent)]
    Certify(#[from] CertifyError),
    /// This node's storage.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// The only way to change the chain on this node.
#[derive(Debug)]
pub struct ChainWriter {
    chain: Chain,
    parent: Header,
    validators: ValidatorSet,
    policy: CheckpointPolicy,
    /// Executed proposals of the next height.
    proposals: BTreeMap<BlockId, (Block, Transition)>,
    background: Background,
    /// Accounts that the newest committed block changed, as it left them.
    changed: Vec<(Address, Account)>,
    planted: Option<Bug>,
}

impl ChainWriter {
    pub(super) fn new(
        chain: Chain,
        parent: Header,
        validators: ValidatorSet,
        options: &ChainOptions,
    ) -> Result<Self, ChainError> {
        let background = Background::start(&chain.inner, options)?;
        let (policy, planted, proposals) = (options.checkpoints, options.planted, BTreeMap::new());
        let validators = trusted(validators, planted);
        let changed = Vec::new();
        Ok(Self { chain, parent, validators, policy, proposals, background, changed, planted })
    }

    pub(crate) const fn planted(&self) -> Option<Bug> {
        self.planted
    }

    /// The chain, to read from.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Height of the newest committed block.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.parent.height
    }

    /// Header of the newest committed block.
    #[must_use]
    pub const fn parent(&self) -> &Header {
        &self.parent
    }

    /// Accounts that the newest block changed, as it left them, if it was committed since the
    /// start.
    #[must_use]
    pub fn changed(&self) -> &[(Address, Account)] {
        &self.changed
    }

    /// Validators of the next height.
    #[must_use]
    pub const fn validators(&self) -> &ValidatorSet {
        &self.validators
    }

    /// Builds the next block from candidates in their order and executes it. Candidates
    /// beyond the block's room are left alone.
    ///
    /// # Errors
    /// When the state or the store of blocks fails.
    pub fn build<T: Borrow<VerifiedTransaction>>(
        &mut self,
        candidates: Vec<T>,
        now: TimestampMs,
        proposer: Address,
    ) -> Result<Built, ChainError> {
        let time = now.max(self.parent.time.next().unwrap_or(self.parent.time));
        let mut refused = Vec::new();
        let built = {
            let state = self.chain.state();
            let mut builder = BlockBuilder::new(&state, &self.parent, time, proposer)
                .map_err(from_block_error)?;
            Stage::Execute.time(|| fill(&mut builder, &candidates, &mut refused))?;
            match Stage::CommitTree.time(|| builder.finish()) {
                Ok(built) => built,
                Err(BlockError::Empty) => return Ok(Built { block_id: None, refused }),
                Err(error) => return Err(from_block_error(error)),
            }
        };
        let (block, transition) = built;
        let block_id = transition.block_id;
        self.proposals.insert(block_id, (block, transition));
        Ok(Built { block_id: Some(block_id), refused })
    }

    /// Checks a proposed block of another validator and executes it.
    /// `verify` verifies the signatures of its transactions.
    ///
    /// # Errors
    /// `Ok(Err(..))` says what is wrong with the block; `Err` is a fault of this node.
    pub fn receive(
        &mut self,
        block: Block,
        verify: Verify<'_>,
    ) -> Result<Result<BlockId, BlockFault>, ChainError> {
        let id = block.header.id();
        if self.proposals.contains_key(&id) {
            return Ok(Ok(id));
        }
        if !block.body_matches_header() {
            let reason = "the body is not the one that the header commits to".to_owned();
            return Ok(Err(BlockFault::Invalid { reason }));
        }
        let verified = Stage::Verify.time(|| verify(block.transactions.clone()));
        let verified: Result<Vec<_>, _> = verified.into_iter().collect();
        let transactions = match verified {
            Ok(transactions) => transactions,
            Err(error) => return Ok(Err(BlockFault::Invalid { reason: error.to_string() })),
        };
        let transition = match self.execute(&block.header, &transactions)? {
            Ok((_, transition)) => transition,
            Err(fault) => return Ok(Err(fault)),
        };
        self.proposals.insert(id, (block, transition));
        Ok(Ok(id))
    }

    /// Executes a block upon the newest committed one, and gives it made again.
    pub(super) fn execute(
        &self,
        header: &Header,
        transactions: &[VerifiedTransaction],
    ) -> Result<Result<(Block, Transition), BlockFault>, ChainError> {
        let state = self.chain.state();
        let executed =
            Stage::Execute.time(|| refill_block(&state, &self.parent, header, transactions));
        let is_checked = self.planted != Some(Bug::UncheckedRoot);
        let finish = |builder: BlockBuilder<'_, _>| match is_checked {
            true => Stage::CommitTree.time(|| builder.finish_as(header)),
            false => builder.finish().map(|made| made_as(header, made)),
        };
        match executed.and_then(finish) {
            Ok(made) => Ok(Ok(made)),
            Err(BlockError::State(fault)) => Err(fault.into()),
            Err(error) => Ok(Err(BlockFault::of(error))),
        }
    }

    /// Executes and commits a block of an archive whose transactions were verified; nothing else
    /// is assumed of it. It is written while the next one is executed: when
    /// [`ChainWriter::settle`] returned it is durable.
    ///
    /// # Errors
    /// `Ok(Err(..))` says what is wrong with the block; `Err` is a fault of this node.
    pub fn replay(
        &mut self,
        header: &Header,
        transactions: &[VerifiedTransaction],
        certificate: Certificate,
    ) -> Result<Result<(), BlockFault>, ChainError> {
        let (block, transition) = match self.execute(header, transactions)? {
            Ok(made) => made,
            Err(fault) => return Ok(Err(fault)),
        };
        let set = &self.validators;
        match CertifiedBlock::verify_executed(block, &transition, certificate, set, &[]) {
            Ok(certified) => {
                match self.commit_executed(certified, transition, Durable::Elsewhere) {
                    Ok(_) => {
                        self.write_block();
                        Ok(Ok(()))
                    }
                    Err(CommitError::Chain(error)) => Err(error),
                    Err(other) => Ok(Err(BlockFault::Invalid { reason: other.to_string() })),
                }
            }
            Err(error) => Ok(Err(BlockFault::Invalid { reason: error.to_string() })),
        }
    }

    /// Executes proposals of the next height that were logged before a restart.
    ///
    /// # Errors
    /// When the state fails.
    pub fn restore_proposals(&mut self, blocks: Vec<Block>) -> Result<(), ChainError> {
        for block in blocks {
            let id = block.header.id();
            if let Err(fault) = self.receive(block, &mut |all| verify_transactions(all, None))? {
                tracing::warn!(%id, %fault, "a logged proposal is not valid");
            }
        }
        Ok(())
    }

    /// Header of an executed proposal.
    #[must_use]
    pub fn proposal(&self, id: &BlockId) -> Option<&Block> {
        self.proposals.get(id).map(|(block, _)| block)
    }

    pub(super) fn take_proposal(&mut self, id: &BlockId) -> Option<(Block, Transition)> {
        self.proposals.remove(id)
    }

    /// Commits the proposal that the certificate is for. Durable when this returns: the store of
    /// blocks has it.
    ///
    /// # Errors
    /// [`CommitError`]; the node must stop then, for the network may count on this block.
    pub fn commit(&mut self, certificate: Certificate) -> Result<Arc<CommittedBlock>, CommitError> {
        self.commit_proposal(certificate, &[], Durable::InStore)
    }

    /// As [`ChainWriter::commit`] for a block that a log has with all that made it final, so that
    /// it is durable before. It is written to the store once [`ChainWriter::write_block`] was
    /// called; [`ChainWriter::settle`] must have returned before the log is given up. Signatures `made_here` for the same hash are not
    /// verified.
    ///
    /// # Errors
    /// As [`ChainWriter::commit`].
    pub fn commit_logged(
        &mut self,
        certificate: Certificate,
        made_here: &[(Hash, Signature)],
    ) -> Result<Arc<CommittedBlock>, CommitError> {
        self.commit_proposal(certificate, made_here, Durable::Elsewhere)
    }

    fn commit_proposal(
        &mut self,
        certificate: Certificate,
        made_here: &[(Hash, Signature)],
        durable: Durable,
    ) -> Result<Arc<CommittedBlock>, CommitError> {
        let id = certificate.block_id;
        let (block, transition) =
            self.proposals.remove(&id).ok_or(CommitError::UnknownBlock(id))?;
        let set = &self.validators;
        let certified =
            CertifiedBlock::verify_executed(block, &transition, certificate, set, made_here)?;
        self.commit_executed(certified, transition, durable)
    }

    pub(super) fn commit_executed(
        &mut self,
        certified: CertifiedBlock,
        transition: Transition,
        durable: Durable,
    ) -> Result<Arc<CommittedBlock>, CommitError> {
        self.settle()?;
        if self.chain.inner.state.unwritten() > self.policy.entries.saturating_mul(2) {
            self.background.wait_for_new_checkpoint()?;
        }
        let (id, height) = (certified.id(), certified.header().height);
        let parent = certified.header().clone();
        let (block, certificate) = certified.into_parts();
        let committed = Arc::new(CommittedBlock {
            tx_hashes: transition.outcomes.iter().map(|outcome| outcome.tx_hash).collect(),
            outcomes: transition.outcomes,
            block,
            id,
            certificate: Some(certificate),
        });
        let inner = &self.chain.inner;
        let mut writes = transition.writes;
        if let Some(bug @ (Bug::FeesTwice | Bug::FeesAstray)) = self.planted {
            let fees = committed.outcomes.iter().map(|outcome| outcome.fee.get()).sum();
            let proposer = self.validators.get(&parent.proposer);
            let payout = proposer.map_or(parent.proposer, |proposer| proposer.payout);
            misplace_fees(bug, &mut writes, &payout, Amount::saturating(fees));
        }
        match durable {
            Durable::InStore => {
                inner.blocks.commit(&committed)?;
                self.background.stored(height);
            }
            Durable::Elsewhere => inner.blocks.hand_over(Arc::clone(&committed)),
        }
        inner.state.apply(height, &writes)?;
        self.changed.clear();
        self.changed.extend(writes.accounts());
        self.proposals.clear();
        self.parent = parent;
        let next = trusted(transition.next_validators, self.planted);
        let proposing = std::mem::replace(&mut self.validators, next);
        inner.recent.put(&committed);
        let total = inner.head.borrow().transaction_total;
        inner.head.send_replace(Head {
            height,
            block_id: id,
            header: Arc::new(self.parent.clone()),
            transaction_total: total.saturating_add(committed.tx_hashes.len() as u64),
        });
        // Without subscribers there is nobody to tell.
        let _ = inner.events.send(Arc::clone(&committed));
        let payout = payout(&committed, &proposing);
        let changed = Some(writes.leaves.iter().map(|(number, _)| *number).collect());
        self.background.index(Indexable {
            block: Arc::clone(&committed),
            payout,
            changed,
            room: None,
        })?;
        self.background.checkpoint()?;
        Ok(committed)
    }

    /// Has the newest block written to the store, if a log or an archive alone has it.
    pub fn write_block(&self) {
        self.background.store();
    }

    /// Waits until the store has the newest block.
    ///
    /// # Errors
    /// When the store, or anything else behind the writer, failed; the node must stop then.
    pub fn settle(&self) -> Result<(), ChainError> {
        self.background.wait_until_stored(self.parent.height)
    }
}

/// Applies candidates as long as there is room, and notes which are refused.
fn fill<V: StateView<Error = ViewError>, T: Borrow<VerifiedTransaction>>(
    builder: &mut BlockBuilder<'_, V>,
    candidates: &[T],
    refused: &mut Vec<(TxHash, Refusal)>,
) -> Result<(), ChainError> {
    builder.reserve(candidates.len());
    for together in candidates.chunks(EXPECTED_TOGETHER) {
        builder.expect(together);
        for candidate in together.iter().map(Borrow::borrow) {
            if builder.check_room(candidate.byte_count()).is_err() {
                return Ok(());
            }
            match builder.push(candidate) {
                Ok(()) => {}
                Err(Fault::Refused(refusal)) => refused.push((candidate.hash(), refusal)),
                Err(Fault::State(fault)) => return Err(fault.into()),
            }
        }
    }
    Ok(())
}

/// The validators as a node with this bug takes them.
pub(crate) fn trusted(validators: ValidatorSet, planted: Option<Bug>) -> ValidatorSet {
    match planted {
        #[cfg(debug_assertions)]
        Some(Bug::ShortCertificate) => validators.with_half_as_quorum(),
        _ => validators,
    }
}

/// A block that was made again under the header that it came with, right or wrong.
fn made_as(header: &Header, (block, transition): (Block, Transition)) -> (Block, Transition) {
    let block = Block { header: header.clone(), ..block };
    (block, Transition { block_id: header.id(), ..transition })
}

impl From<ViewError> for CommitError {
    fn from(error: ViewError) -> Self {
        Self::Chain(error.into())
    }
}
