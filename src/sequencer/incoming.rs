//! What comes from others: messages, bodies, certificates and blocks.
//!
//! Invariant: nothing unverified passes from here to consensus, to the chain or to others.

use std::sync::Arc;
use std::time::Duration;

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::limits::BLOCK_TIME_DRIFT_MS_MAX;
use ait_engine::message::Message;
use ait_engine::types::BlockId;
use ait_engine::vote::{SignedProposal, SignedVote};
use ait_net::peer::PeerId;

use super::core::{SequencerCore, place};
use super::early::Early;
use super::port::{Effect, Offence, SequencerError};
use crate::chain::{BlockFault, CommittedBlock, ImportFailure};
use crate::consensus::{Event, VoteSigner, WriteAheadLog};
use crate::evidence::{Equivocation, Evidence};
use crate::import::{ImportError, Imported, Prepared};

/// Rounds ahead of the present one of which messages are taken.
const ROUNDS_AHEAD_MAX: u64 = 64;
/// Votes of others that a new peer is told.
const VOTES_TOLD_MAX: usize = 256;
/// Proposals of one round that are taken. A correct proposer makes one; a second proves
/// what its proposer is, and without a bound each would be kept, passed on and reported.
const PROPOSALS_OF_ROUND_MAX: usize = 4;

impl<S: VoteSigner, L: WriteAheadLog> SequencerCore<S, L> {
    pub(super) fn on_message(
        &mut self,
        now: Duration,
        from: PeerId,
        message: Message,
    ) -> Result<(), SequencerError> {
        let Some(next) = self.writer.height().next() else { return Ok(()) };
        let height = message.height();
        if Early::takes(next, height) {
            self.early.put(from, message);
            return Ok(());
        }
        let is_late_vote = Some(next) == height.next() && matches!(message, Message::Vote(_));
        let round_max = self.under.round.get().saturating_add(ROUNDS_AHEAD_MAX);
        if (height != next && !is_late_vote) || message.round().get() > round_max {
            return Ok(());
        }
        let chain_id = self.writer.parent().chain_id;
        let verified = match message.verify(&chain_id, self.writer.validators()) {
            Ok(verified) => verified,
            // A late vote may be of a set that is gone.
            Err(_) if is_late_vote => return Ok(()),
            Err(error) => {
                let offence = Offence::BadMessage { reason: error.to_string() };
                self.effects.push(Effect::Misbehaved { peer: from, offence });
                return Ok(());
            }
        };
        if let Message::Proposal(signed) = verified.message()
            && self.of_round(signed).count() >= PROPOSALS_OF_ROUND_MAX
            && !self.under.proposals.contains_key(&place(signed))
        {
            return Ok(());
        }
        self.note(verified.message());
        if is_late_vote {
            return Ok(());
        }
        let heard = verified.message().round();
        self.under.heard = self.under.heard.max(Some(heard));
        if let Message::Proposal(signed) = verified.message() {
            let proposal = signed.proposal;
            self.under.proposals.insert(place(signed), *signed);
            if self.writer.proposal(&proposal.block_id).is_none() {
                let (height, round) = (proposal.height, proposal.round);
                let block_id = proposal.block_id;
                self.effects.push(Effect::WantBody { from, height, round, block_id });
            }
        }
        self.effects.push(Effect::Forward { from, message: verified.clone() });
        self.start(now)?;
        // Starting may have decided the height already, from what was said before.
        if self.writer.height().next() == Some(next) && self.under.is_started {
            self.feed(Event::Received(verified), now)?;
        }
        Ok(())
    }

    /// Verified proposals of the same round.
    fn of_round(&self, signed: &SignedProposal) -> impl Iterator<Item = &SignedProposal> {
        let (round, _) = place(signed);
        let all = (round, BlockId([0; 32]))..=(round, BlockId([u8::MAX; 32]));
        self.under.proposals.range(all).map(|(_, proposal)| proposal)
    }

    /// Remembers a vote or proposal, and reports who contradicts itself.
    fn note(&mut self, message: &Message) {
        let found = match message {
            Message::Vote(vote) => {
                let found: Option<(SignedVote, SignedVote)> = self.votes.add(*vote);
                found.map(|(a, b)| Equivocation::Votes(a, b))
            }
            Message::Proposal(signed) => {
                let is_new = !self.under.proposals.contains_key(&place(signed));
                let other = self.of_round(signed).next().filter(|_| is_new);
                other.map(|first| Equivocation::Proposals(*first, *signed))
            }
            _ => None,
        };
        if let Some(found) = found {
            let validators = self.writer.validators();
            let validator = validators.get(&found.validator());
            let chain_id = self.writer.parent().chain_id;
            // Verified with these validators a moment ago.
            let of = |key| Effect::Equivocated { evidence: Evidence::new(chain_id, key, &found) };
            self.effects.extend(validator.map(|validator| of(validator.public_key)));
        }
    }

    pub(super) fn on_body(
        &mut self,
        now: Duration,
        from: PeerId,
        signed: SignedProposal,
        block: Arc<Block>,
    ) -> Result<(), SequencerError> {
        let Some(next) = self.writer.height().next() else { return Ok(()) };
        let (proposal, id) = (signed.proposal, block.header.id());
        if Early::takes(next, proposal.height) {
            self.early.put_body(from, signed, block);
            return Ok(());
        }
        if proposal.height != next {
            return Ok(());
        }
        let bad = |reason: &str| Effect::Misbehaved {
            peer: from,
            offence: Offence::BadBlock { reason: reason.to_owned() },
        };
        if id != proposal.block_id || block.header.height != next {
            self.effects.push(bad("the body is not the proposed block"));
            return Ok(());
        }
        if !self.under.proposals.contains_key(&place(&signed)) {
            // Verifies it, and starts the height.
            self.on_message(now, from, Message::Proposal(signed))?;
        }
        let is_open = self.writer.height().next() == Some(next);
        let is_verified = self.under.proposals.contains_key(&place(&signed));
        if !is_open || !is_verified || self.under.judged.contains(&id) {
            return Ok(());
        }
        self.under.judged.push(id);
        let latest = (self.clock)().get().saturating_add(BLOCK_TIME_DRIFT_MS_MAX);
        let is_early = block.header.time.get() > latest;
        let received = if is_early {
            let reason = "its time is too far ahead of this node's clock".to_owned();
            Err(BlockFault::Invalid { reason })
        } else {
            let mempool = Arc::clone(&self.mempool);
            self.writer.receive(Block::clone(&block), &mut |all| mempool.verify(all))?
        };
        let is_valid = received.is_ok();
        let mut diverged = None;
        match received {
            Ok(_) => {
                self.keep(&id)?;
                self.effects.push(Effect::BodyAccepted { from, proposal: signed, block });
            }
            Err(fault) => {
                tracing::warn!(height = %next, block_id = %id, %fault, "a proposed block is refused");
                match fault {
                    BlockFault::Diverged { reason } => {
                        let divergence = Box::new(self.writer.divergence(&block, &reason)?);
                        diverged = Some(Effect::Diverged { divergence });
                    }
                    // Clocks differ: it may have been good where it was passed on.
                    BlockFault::Invalid { .. } if is_early => {}
                    BlockFault::Invalid { reason } => self.effects.push(bad(&reason)),
                }
            }
        }
        // A height that this validator sits out is not started.
        if self.under.is_started {
            let (height, round, proposer) = (proposal.height, proposal.round, proposal.proposer);
            let event = Event::BlockReceived { height, round, proposer, block_id: id, is_valid };
            self.feed(event, now)?;
        }
        // The prevote goes out before anybody writes a file.
        self.effects.extend(diverged);
        Ok(())
    }

    /// A peer's newest block: committed here at once if it was executed already.
    pub(super) fn on_final(
        &mut self,
        now: Duration,
        from: PeerId,
        certificate: Certificate,
    ) -> Result<(), SequencerError> {
        let Some(next) = self.writer.height().next() else { return Ok(()) };
        if certificate.height < next {
            return Ok(());
        }
        let (chain_id, height) = (self.writer.parent().chain_id, certificate.height);
        let block_id = certificate.block_id;
        let validators = self.writer.validators();
        if let Err(error) = certificate.verify(&chain_id, height, block_id, validators) {
            // Of a later height it may be of a set that is not known yet.
            if height == next {
                let offence = Offence::BadCertificate { reason: error.to_string() };
                self.effects.push(Effect::Misbehaved { peer: from, offence });
            }
            return Ok(());
        }
        self.certified = self.certified.max(height);
        if height == next && self.writer.proposal(&block_id).is_some() {
            self.record()?;
            let block = self.commit(|writer| writer.commit(certificate))?;
            self.overtaken(block, now)?;
        }
        Ok(())
    }

    pub(super) fn on_import(
        &mut self,
        now: Duration,
        id: u64,
        prepared: Prepared,
    ) -> Result<(), SequencerError> {
        self.record()?;
        let result = match self.writer.import(prepared) {
            Ok(Some(block)) => {
                self.overtaken(block, now)?;
                Ok(Imported::Committed)
            }
            Ok(None) => Ok(Imported::Exists),
            Err(ImportFailure::Chain(error)) => return Err(error.into()),
            Err(ImportFailure::Refused(error)) => Err(error),
            Err(ImportFailure::Diverged { block, reason }) => {
                let divergence = Box::new(self.writer.divergence(&block, &reason)?);
                self.effects.push(Effect::Diverged { divergence });
                Err(ImportError::BadRoot { reason })
            }
        };
        self.effects.push(Effect::Imported { id, result });
        Ok(())
    }

    /// A block was committed that consensus here had not decided.
    fn overtaken(
        &mut self,
        block: Arc<CommittedBlock>,
        now: Duration,
    ) -> Result<(), SequencerError> {
        self.feed(Event::Overtaken { height: block.height() }, now)?;
        self.committed(block, now)
    }

    /// Says again to a new peer what was said of the height under way: what this validator said,
    /// and votes of others, for who holds to a block that a quorum prevoted may need those
    /// who missed their prevotes.
    pub(super) fn tell(&mut self, peer: PeerId) {
        let said = self.under.said.iter().cloned();
        let next = self.writer.height().next();
        let votes = next.into_iter().flat_map(|height| self.votes.of(height)).take(VOTES_TOLD_MAX);
        let all = said.chain(votes.map(|vote| Message::Vote(*vote)));
        self.effects.extend(all.map(|message| Effect::Send { peer, message }));
        for proposal in self.under.proposals.values() {
            if self.writer.proposal(&proposal.proposal.block_id).is_some() {
                self.effects.push(Effect::OfferBody { peer, proposal: *proposal });
            }
        }
    }
}
