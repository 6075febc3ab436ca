//! The types of the consensus library, as thin wrappers of the engine's.

use std::fmt;
use std::time::Duration;

use ait_engine::crypto::{PublicKey, Signature};
use ait_engine::types::{Address, BlockId, Height, Round};
use ait_engine::validator::{Validator, ValidatorSet};
use ait_engine::vote::{ProposalMessage, Vote, VoteKind};
use malachitebft_core_types as lib;
use malachitebft_core_types::{NilOrVal, SignedExtension, VoteType};

/// Ties our types together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ctx;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct CtxHeight(pub(super) Height);

impl fmt::Display for CtxHeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl lib::Height for CtxHeight {
    const ZERO: Self = Self(Height::ZERO);
    const INITIAL: Self = Self(Height::saturating(1));

    fn increment_by(&self, n: u64) -> Self {
        Self(Height::saturating(self.0.get().saturating_add(n)))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.get().checked_sub(n).and_then(Height::new).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0.get()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CtxAddress(pub(super) Address);

impl fmt::Display for CtxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl lib::Address for CtxAddress {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CtxValidator {
    address: CtxAddress,
    validator: Validator,
}

impl lib::Validator<Ctx> for CtxValidator {
    fn address(&self) -> &CtxAddress {
        &self.address
    }
    fn public_key(&self) -> &PublicKey {
        &self.validator.public_key
    }
    fn voting_power(&self) -> u64 {
        self.validator.power.get()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CtxSet {
    pub(super) set: ValidatorSet,
    list: Vec<CtxValidator>,
}

impl From<ValidatorSet> for CtxSet {
    fn from(set: ValidatorSet) -> Self {
        let wrap = |v: &Validator| CtxValidator { address: CtxAddress(v.address()), validator: *v };
        Self { list: set.iter().map(wrap).collect(), set }
    }
}

impl lib::ValidatorSet<Ctx> for CtxSet {
    fn count(&self) -> usize {
        self.list.len()
    }
    fn total_voting_power(&self) -> u64 {
        self.set.total_power().get()
    }
    fn get_by_address(&self, address: &CtxAddress) -> Option<&CtxValidator> {
        self.list.get(self.set.position(&address.0)?)
    }
    fn get_by_index(&self, index: usize) -> Option<&CtxValidator> {
        self.list.get(index)
    }
}

/// The value that is agreed on: a block id. The block itself travels beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CtxValue(pub(super) BlockId);

impl lib::Value for CtxValue {
    type Id = BlockId;
    fn id(&self) -> BlockId {
        self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CtxProposal {
    pub(super) message: ProposalMessage,
    value: CtxValue,
    proposer: CtxAddress,
}

impl From<ProposalMessage> for CtxProposal {
    fn from(message: ProposalMessage) -> Self {
        let (value, proposer) = (CtxValue(message.block_id), CtxAddress(message.proposer));
        Self { message, value, proposer }
    }
}

impl lib::Proposal<Ctx> for CtxProposal {
    fn height(&self) -> CtxHeight {
        CtxHeight(self.message.height)
    }
    fn round(&self) -> lib::Round {
        to_lib_round(self.message.round)
    }
    fn value(&self) -> &CtxValue {
        &self.value
    }
    fn take_value(self) -> CtxValue {
        self.value
    }
    fn pol_round(&self) -> lib::Round {
        self.message.pol_round.map_or(lib::Round::Nil, to_lib_round)
    }
    fn validator_address(&self) -> &CtxAddress {
        &self.proposer
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CtxVote {
    pub(super) vote: Vote,
    value: NilOrVal<BlockId>,
    validator: CtxAddress,
}

impl From<Vote> for CtxVote {
    fn from(vote: Vote) -> Self {
        let value = vote.block_id.map_or(NilOrVal::Nil, NilOrVal::Val);
        Self { vote, value, validator: CtxAddress(vote.validator) }
    }
}

impl lib::Vote<Ctx> for CtxVote {
    fn height(&self) -> CtxHeight {
        CtxHeight(self.vote.height)
    }
    fn round(&self) -> lib::Round {
        to_lib_round(self.vote.round)
    }
    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }
    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }
    fn vote_type(&self) -> VoteType {
        match self.vote.kind {
            VoteKind::Prevote => VoteType::Prevote,
            VoteKind::Precommit => VoteType::Precommit,
        }
    }
    fn validator_address(&self) -> &CtxAddress {
        &self.validator
    }
    fn extension(&self) -> Option<&SignedExtension<Ctx>> {
        None
    }
    fn take_extension(&mut self) -> Option<SignedExtension<Ctx>> {
        None
    }
    // Extensions are switched off: there is nothing to add.
    fn extend(self, _: SignedExtension<Ctx>) -> Self {
        self
    }
}

/// Bodies travel on our own transport: there are no parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CtxPart;

impl lib::ProposalPart<Ctx> for CtxPart {
    fn is_first(&self) -> bool {
        true
    }
    fn is_last(&self) -> bool {
        true
    }
}

/// A signature with the order that the library asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CtxSignature(pub(super) Signature);

impl PartialOrd for CtxSignature {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CtxSignature {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.0.cmp(&other.0.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ed25519;

impl lib::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = CtxSignature;
    type PublicKey = PublicKey;
    /// Keys stay with the signer: the library never sees one.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<CtxSignature, &'static str> {
        let bytes = bytes.try_into().map_err(|_| "a signature has 64 bytes")?;
        Ok(CtxSignature(Signature(bytes)))
    }
    fn encode_signature(signature: &CtxSignature) -> Vec<u8> {
        signature.0.0.to_vec()
    }
    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        bytes.try_into().map(PublicKey).map_err(|_| "a public key has 32 bytes")
    }
    fn encode_public_key(public_key: &PublicKey) -> Vec<u8> {
        public_key.0.to_vec()
    }
}

/// Time-outs are ours to schedule; see [`super::machine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NoTimeouts;

impl lib::Timeouts<Ctx> for NoTimeouts {
    fn duration_for(&self, _: lib::Timeout) -> Duration {
        Duration::ZERO
    }
}

impl lib::Context for Ctx {
    type Address = CtxAddress;
    type Height = CtxHeight;
    type ProposalPart = CtxPart;
    type Proposal = CtxProposal;
    type Validator = CtxValidator;
    type ValidatorSet = CtxSet;
    type Timeouts = NoTimeouts;
    type Value = CtxValue;
    type Vote = CtxVote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(
        &self,
        validators: &'a CtxSet,
        height: CtxHeight,
        round: lib::Round,
    ) -> &'a CtxValidator {
        let proposer = validators.set.proposer(height.0, from_lib_round(round)).address();
        // The list has the set's order, and the proposer is one of the set.
        let position = validators.set.position(&proposer).unwrap_or(0);
        &validators.list[position]
    }

    fn new_proposal(
        &self,
        height: CtxHeight,
        round: lib::Round,
        value: CtxValue,
        pol_round: lib::Round,
        address: CtxAddress,
    ) -> CtxProposal {
        ProposalMessage {
            height: height.0,
            round: from_lib_round(round),
            pol_round: pol_round.is_defined().then(|| from_lib_round(pol_round)),
            block_id: value.0,
            proposer: address.0,
        }
        .into()
    }

    fn new_prevote(
        &self,
        height: CtxHeight,
        round: lib::Round,
        value: NilOrVal<BlockId>,
        address: CtxAddress,
    ) -> CtxVote {
        new_vote(VoteKind::Prevote, height, round, value, address)
    }

    fn new_precommit(
        &self,
        height: CtxHeight,
        round: lib::Round,
        value: NilOrVal<BlockId>,
        address: CtxAddress,
    ) -> CtxVote {
        new_vote(VoteKind::Precommit, height, round, value, address)
    }
}

fn new_vote(
    kind: VoteKind,
    height: CtxHeight,
    round: lib::Round,
    value: NilOrVal<BlockId>,
    address: CtxAddress,
) -> CtxVote {
    let block_id = match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(id) => Some(id),
    };
    Vote { kind, height: height.0, round: from_lib_round(round), block_id, validator: address.0 }
        .into()
}

pub(super) fn to_lib_round(round: Round) -> lib::Round {
    // A round is at most u32::MAX.
    lib::Round::new(u32::try_from(round.get()).unwrap_or(u32::MAX))
}

/// The round; nil, which messages never carry, becomes 0.
pub(super) fn from_lib_round(round: lib::Round) -> Round {
    Round::saturating(round.as_u32().map_or(0, u64::from))
}
