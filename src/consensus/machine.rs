//! The library's state machine, driven to our rules.
//!
//! Invariants: what an event led to is in the log, and the log flushed, before any action of it
//! is given out; the signer's record follows before anything is published, and before the log is
//! given up; the first failure ends everything (the library itself would log it and go on).

use std::collections::{BTreeMap, BTreeSet};

use ait_engine::crypto::{Signature, verify};
use ait_engine::types::{BlockId, Hash, Height, Round};
use ait_engine::validator::ValidatorSet;
use ait_engine::vote::SignedProposal;
use malachitebft_core_consensus::{
    ConsensusMsg, Effect, Input, LivenessMsg, LocallyProposedValue, Params, ProposedValue,
    Resumable, Resume, SignedConsensusMsg, State, ValuePayload, process,
};
use malachitebft_core_types::{
    self as lib, SignedMessage, Validity, ValueOrigin, VoteExtensionPolicy,
};

use super::certificates::verify_certificate;
use super::config::ConsensusConfig;
use super::context::{
    Ctx, CtxAddress, CtxHeight, CtxSet, CtxSignature, CtxValue, from_lib_round, to_lib_round,
};
use super::convert::{
    certificate_from_lib, polka_from_lib, received, round_from_lib, timeout_from_lib,
    timeout_to_lib, vote_from_lib,
};
use super::entry;
use crate::planted::Bug;
use ait_engine::message::Message;

use super::port::{Action, ConsensusFailure, Event, VoteSigner, WriteAheadLog};
use crate::disk::WriteFault;

/// Heights and messages ahead of the present one that are kept for later.
const QUEUED_HEIGHTS: usize = 8;
const QUEUED_MESSAGES_PER_HEIGHT: usize = 4_096;

/// Ports and what they were told, apart from the library's state, which borrows.
struct Host<S, L> {
    config: ConsensusConfig,
    signer: S,
    log: L,
    unflushed: bool,
    /// Entries of the log that is replayed: they need not be logged again. What is signed
    /// meanwhile must be, for the signer's record goes on without it.
    replayed: BTreeSet<Vec<u8>>,
    /// The message under way was verified before it came here.
    is_verified: bool,
    /// What was signed since the last event, which the library gives back to be verified.
    signed: Vec<(Hash, Signature)>,
    actions: Vec<Action>,
    failure: Option<ConsensusFailure>,
    /// Blocks that this validator logged as its own proposals of the height, by round.
    own_values: BTreeMap<Round, BlockId>,
    /// Proposals of our own that were asked for and are known already.
    answers: Vec<(Height, Round, BlockId)>,
    /// The last finalized height, while none is under way.
    finalized: Option<Height>,
}

/// The consensus of one validator.
pub struct Consensus<S, L> {
    state: State<Ctx>,
    host: Host<S, L>,
    next: Height,
    poisoned: bool,
}

impl<S, L> std::fmt::Debug for Consensus<S, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consensus").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<S: VoteSigner, L: WriteAheadLog> Consensus<S, L> {
    /// Consensus that will begin with `next`, the height after the last committed one.
    ///
    /// The library tolerates a total power up to `u64::MAX / 3`; sets are bounded far below.
    #[must_use]
    pub fn new(
        config: ConsensusConfig,
        next: Height,
        validators: &ValidatorSet,
        signer: S,
        log: L,
    ) -> Self {
        let params = Params {
            address: CtxAddress(config.address),
            threshold_params: config.thresholds(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        let set = CtxSet::from(validators.clone());
        let (heights, messages) = (QUEUED_HEIGHTS, QUEUED_MESSAGES_PER_HEIGHT);
        let state = State::new(Ctx, CtxHeight(next), set, params, heights, messages);
        let host = Host {
            config,
            signer,
            log,
            unflushed: false,
            replayed: BTreeSet::new(),
            is_verified: false,
            signed: Vec::new(),
            actions: Vec::new(),
            failure: None,
            own_values: BTreeMap::new(),
            answers: Vec::new(),
            finalized: next.previous(),
        };
        Self { state, host, next, poisoned: false }
    }

    /// Takes up the height whose log entries these are, as it was before a restart, and
    /// gives what is to be done then. Must be the first call, before any message of the
    /// network: answering first makes a restarted proposer equivocate.
    ///
    /// # Errors
    /// [`ConsensusFailure`]; the process must end.
    pub fn recover(
        &mut self,
        validators: &ValidatorSet,
        entries: &[Vec<u8>],
    ) -> Result<Vec<Action>, ConsensusFailure> {
        let inputs = entries.iter().filter(|bytes| entry::block_of(bytes).is_none());
        let inputs: Result<Vec<_>, _> = inputs.map(|bytes| entry::decode(bytes)).collect();
        let inputs = inputs.map_err(|error| {
            self.poisoned = true;
            ConsensusFailure::Entry { reason: error.to_string() }
        })?;
        for input in &inputs {
            if let Input::ProposedValue(value, _) = input
                && value.proposer.0 == self.host.config.address
            {
                self.host.own_values.insert(from_lib_round(value.round), value.value.0);
            }
        }
        self.state.index_wal_entries(inputs.iter());
        self.host.finalized = None;
        let is_input = |bytes: &&Vec<u8>| entry::block_of(bytes).is_none();
        self.host.replayed = entries.iter().filter(is_input).cloned().collect();
        self.process(start_height(self.next, validators))?;
        for input in inputs {
            self.process(input)?;
        }
        self.state.reset_entries_index();
        self.host.replayed.clear();
        self.answer_known()?;
        self.take_actions()
    }

    /// Logs a block, in its canonical bytes, that this validator proposes or that was found
    /// valid. Must come before the event that tells of it, with which it becomes durable.
    ///
    /// # Errors
    /// [`ConsensusFailure`]; the process must end.
    pub fn keep_block(&mut self, bytes: &[u8]) -> Result<(), ConsensusFailure> {
        self.host.unflushed = true;
        self.host.log.append(&entry::block(bytes)).map_err(|source| {
            self.poisoned = true;
            ConsensusFailure::Log { source }
        })
    }

    /// Takes an event and gives what is to be done, in order.
    ///
    /// # Errors
    /// [`ConsensusFailure`]: what was to be done must not be, and the process must end.
    pub fn on(&mut self, event: Event) -> Result<Vec<Action>, ConsensusFailure> {
        if self.poisoned {
            return Err(ConsensusFailure::Poisoned);
        }
        let input = match event {
            Event::StartHeight { height, validators } => {
                if self.host.finalized.and_then(Height::next) != Some(height) {
                    let expected = self.host.finalized.and_then(Height::next).unwrap_or(self.next);
                    self.poisoned = true;
                    return Err(ConsensusFailure::Height { expected, found: height });
                }
                self.next = height;
                self.host.finalized = None;
                self.host.own_values.clear();
                self.begin_log(height)?;
                start_height(height, &validators)
            }
            Event::Proposed { height, round, block_id } => propose(height, round, block_id),
            Event::BlockReceived { height, round, proposer, block_id, is_valid } => {
                let value = ProposedValue {
                    height: CtxHeight(height),
                    round: to_lib_round(round),
                    valid_round: lib::Round::Nil,
                    proposer: CtxAddress(proposer),
                    value: CtxValue(block_id),
                    validity: Validity::from_bool(is_valid),
                };
                Input::ProposedValue(value, ValueOrigin::Consensus)
            }
            Event::Received(message) => {
                self.host.is_verified = true;
                received(message.into_inner())
            }
            Event::Overtaken { height } => {
                // Nothing of the height matters any more: the next start resets the library.
                self.host.finalized = self.host.finalized.max(Some(height));
                return Ok(vec![Action::CancelAllTimeouts]);
            }
            Event::TimeoutElapsed(timeout) => Input::TimeoutElapsed(timeout_to_lib(timeout)),
        };
        let processed = self.process(input);
        self.host.is_verified = false;
        processed?;
        self.answer_known()?;
        self.take_actions()
    }

    fn begin_log(&mut self, height: Height) -> Result<(), ConsensusFailure> {
        // Until now the log could have brought the record level.
        self.record()?;
        self.host.unflushed = false;
        self.host.log.begin(height).map_err(|source| {
            self.poisoned = true;
            ConsensusFailure::Log { source }
        })
    }

    /// Proposes again what the log says was proposed before a restart.
    fn answer_known(&mut self) -> Result<(), ConsensusFailure> {
        while let Some((height, round, block_id)) = self.host.answers.pop() {
            self.process(propose(height, round, block_id))?;
        }
        Ok(())
    }

    /// What is to be done, once all that it rests on is durable.
    fn take_actions(&mut self) -> Result<Vec<Action>, ConsensusFailure> {
        let actions = std::mem::take(&mut self.host.actions);
        self.host.signed.clear();
        let flushed = self.host.flush_log();
        self.poisoned |= flushed.is_err();
        flushed.map(|()| actions)
    }

    /// Makes the record of what was signed durable. Must come before an [`Action::Publish`] is
    /// carried out; what was decided may be committed before, for the log has it, and brings a
    /// record level that a crash left behind.
    ///
    /// # Errors
    /// [`ConsensusFailure`]: nothing may be published, and the process must end.
    pub fn record(&mut self) -> Result<(), ConsensusFailure> {
        if self.poisoned {
            return Err(ConsensusFailure::Poisoned);
        }
        let recorded = self.host.flush_record();
        self.poisoned |= recorded.is_err();
        recorded
    }

    fn process(&mut self, input: Input<Ctx>) -> Result<(), ConsensusFailure> {
        if self.poisoned {
            return Err(ConsensusFailure::Poisoned);
        }
        let (state, host) = (&mut self.state, &mut self.host);
        let result: Result<(), malachitebft_core_consensus::Error<Ctx>> = process!(
            input: input,
            state: state,
            metrics: &(),
            with: effect => Ok::<_, ConsensusFailure>(host.handle(effect))
        );
        let failure = self.host.failure.take().or_else(|| {
            result.err().map(|error| ConsensusFailure::Machine { reason: error.to_string() })
        });
        match failure {
            None => Ok(()),
            Some(failure) => {
                // Nothing that was to be done after the failure may be.
                self.poisoned = true;
                self.host.actions.clear();
                Err(failure)
            }
        }
    }
}

fn start_height(height: Height, validators: &ValidatorSet) -> Input<Ctx> {
    let set = CtxSet::from(validators.clone());
    // No target time: the block interval is the sequencer's.
    Input::StartHeight(CtxHeight(height), set, false, None, VoteExtensionPolicy::Disabled)
}

fn propose(height: Height, round: Round, block_id: BlockId) -> Input<Ctx> {
    Input::Propose(LocallyProposedValue::new(
        CtxHeight(height),
        to_lib_round(round),
        CtxValue(block_id),
    ))
}

impl<S: VoteSigner, L: WriteAheadLog> Host<S, L> {
    /// Makes the log durable if something was appended since.
    fn flush_log(&mut self) -> Result<(), ConsensusFailure> {
        if self.config.planted == Some(Bug::UnsyncedLog) || !std::mem::take(&mut self.unflushed) {
            return Ok(());
        }
        self.log.flush().map_err(|source| ConsensusFailure::Log { source })
    }

    /// Makes the signer's record durable if something was signed since. After the log: one that
    /// lacks what was signed could not be gone on from.
    fn flush_record(&mut self) -> Result<(), ConsensusFailure> {
        if self.config.planted == Some(Bug::UnsyncedRecord) {
            return Ok(());
        }
        self.signer.flush().map_err(|source| ConsensusFailure::Signer { source })
    }

    fn act(&mut self, action: Action) {
        if self.failure.is_none() {
            self.actions.push(action);
        }
    }

    fn handle(&mut self, effect: Effect<Ctx>) -> Resume<Ctx> {
        match effect {
            Effect::CancelAllTimeouts(r) => {
                self.act(Action::CancelAllTimeouts);
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                if let Some(timeout) = timeout_from_lib(timeout) {
                    self.act(Action::CancelTimeout(timeout));
                }
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                if let Some(timeout) = timeout_from_lib(timeout) {
                    let after_ms = self.config.after_ms(timeout);
                    self.act(Action::ScheduleTimeout { timeout, after_ms });
                }
                r.resume_with(())
            }
            Effect::StartRound(height, round, proposer, _, r) => {
                let round = from_lib_round(round);
                self.act(Action::StartRound { height: height.0, round, proposer: proposer.0 });
                r.resume_with(())
            }
            Effect::GetValue(height, round, _, r) => {
                self.get_value(height.0, from_lib_round(round));
                r.resume_with(())
            }
            Effect::RestreamProposal(height, round, _, _, id, r) => {
                let round = from_lib_round(round);
                self.act(Action::RestreamBlock { height: height.0, round, block_id: id });
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                let certificate = certificate_from_lib(certificate);
                self.act(Action::Decide { certificate, made_here: self.signed.clone() });
                r.resume_with(())
            }
            Effect::Finalize(certificate, _, _, r) => {
                let height = certificate.height.0;
                self.finalized = Some(height);
                self.act(Action::Finalize { height });
                r.resume_with(())
            }
            Effect::WalAppend(_, input, r) => {
                self.append(&input);
                r.resume_with(())
            }
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => r.resume_with(Ok(())),
            Effect::CertVerifiedSyncValue(_, _, r) | Effect::CertRejectedSyncValue(_, _, _, r) => {
                r.resume_with(())
            }
            other => self.handle_messages(other),
        }
    }

    /// Effects that publish, sign or verify.
    fn handle_messages(&mut self, effect: Effect<Ctx>) -> Resume<Ctx> {
        match effect {
            Effect::PublishConsensusMsg(message, r) => {
                self.publish(match message {
                    SignedConsensusMsg::Vote(vote) => Message::Vote(vote_from_lib(&vote)),
                    SignedConsensusMsg::Proposal(proposal) => Message::Proposal(SignedProposal {
                        proposal: proposal.message.message,
                        signature: proposal.signature.0,
                    }),
                });
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(message, r) => {
                self.publish(match message {
                    LivenessMsg::Vote(vote) => Message::Vote(vote_from_lib(&vote)),
                    LivenessMsg::PolkaCertificate(polka) => {
                        Message::PolkaCertificate(polka_from_lib(&polka))
                    }
                    LivenessMsg::SkipRoundCertificate(round) => {
                        Message::RoundCertificate(round_from_lib(&round))
                    }
                });
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                self.publish(Message::Vote(vote_from_lib(&vote)));
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(round, r) => {
                self.publish(Message::RoundCertificate(round_from_lib(&round)));
                r.resume_with(())
            }
            Effect::SignVote(vote, r) => {
                let hash = vote.vote.sign_hash(&self.config.chain_id);
                match self.sign(hash, |signer| signer.sign_vote(&vote.vote)) {
                    Some(signature) => r.resume_with(SignedMessage::new(vote, signature)),
                    None => Resume::Continue,
                }
            }
            Effect::SignProposal(proposal, r) => {
                let hash = proposal.message.sign_hash(&self.config.chain_id);
                match self.sign(hash, |signer| signer.sign_proposal(&proposal.message)) {
                    Some(signature) => r.resume_with(SignedMessage::new(proposal, signature)),
                    None => Resume::Continue,
                }
            }
            Effect::VerifySignature(message, key, r) => {
                let hash = match &message.message {
                    ConsensusMsg::Vote(vote) => vote.vote.sign_hash(&self.config.chain_id),
                    ConsensusMsg::Proposal(p) => p.message.sign_hash(&self.config.chain_id),
                };
                let good = self.is_verified
                    || self.signed.contains(&(hash, message.signature.0))
                    || verify(&key, hash.as_bytes(), &message.signature.0).is_ok();
                r.resume_with(good)
            }
            other => {
                verify_certificate(&self.config.chain_id, self.is_verified, &self.signed, other)
            }
        }
    }

    fn get_value(&mut self, height: Height, round: Round) {
        match self.own_values.get(&round) {
            Some(block_id) => self.answers.push((height, round, *block_id)),
            None => self.act(Action::GetValue { height, round }),
        }
    }

    fn append(&mut self, input: &Input<Ctx>) {
        // Between heights there is no log: what comes then is of one that this validator sits out.
        if self.failure.is_some() || self.finalized.is_some() {
            return;
        }
        let Some(bytes) = entry::encode(input) else {
            let source = "an input that cannot be logged".to_owned().into();
            self.failure = Some(ConsensusFailure::Log { source });
            return;
        };
        if self.replayed.contains(&bytes) {
            return;
        }
        self.unflushed = true;
        if let Err(source) = self.log.append(&bytes) {
            self.failure = Some(ConsensusFailure::Log { source });
        }
    }

    fn publish(&mut self, message: Message) {
        self.act(Action::Publish(message));
    }

    fn sign(
        &mut self,
        hash: Hash,
        sign: impl FnOnce(&mut S) -> Result<Signature, WriteFault>,
    ) -> Option<CtxSignature> {
        if self.failure.is_some() {
            return None;
        }
        match sign(&mut self.signer) {
            Ok(signature) => {
                self.signed.push((hash, signature));
                Some(CtxSignature(signature))
            }
            Err(source) => {
                self.failure = Some(ConsensusFailure::Signer { source });
                None
            }
        }
    }
}
