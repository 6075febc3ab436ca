//! What a validator signs: votes and proposals.
//!
//! Both are signed as a 32-byte hash in the vote domain over the chain id and the
//! canonical encoding, whose first byte tells them apart. A vote names its
//! validator, so that it means the same wherever it is read.

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::Signature;
use crate::hash::Domain;
use crate::types::{Address, BlockId, ChainId, Hash, Height, Round};

const TAG_PREVOTE: u8 = 1;
const TAG_PRECOMMIT: u8 = 2;
const TAG_PROPOSAL: u8 = 3;

/// Which of the two votes of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteKind {
    /// First vote: this block is good.
    Prevote,
    /// Second vote: I saw a quorum of prevotes.
    Precommit,
}

/// A vote of a validator for a block, or for none (nil).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// Height it is cast at.
    pub height: Height,
    /// Round it is cast in.
    pub round: Round,
    /// The block, or nil.
    pub block_id: Option<BlockId>,
    /// Who votes.
    pub validator: Address,
}

/// A vote and its signature over [`Vote::sign_hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedVote {
    /// The vote.
    pub vote: Vote,
    /// The validator's signature.
    pub signature: Signature,
}

/// A proposer's message that it proposes a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalMessage {
    /// Height it is made at.
    pub height: Height,
    /// Round it is made in.
    pub round: Round,
    /// The earlier round in which the block had a quorum of prevotes, if any.
    pub pol_round: Option<Round>,
    /// The proposed block.
    pub block_id: BlockId,
    /// Who proposes.
    pub proposer: Address,
}

/// A proposal and its signature over [`ProposalMessage::sign_hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedProposal {
    /// The proposal.
    pub proposal: ProposalMessage,
    /// The proposer's signature.
    pub signature: Signature,
}

fn sign_hash(chain_id: &ChainId, message: &impl Canonical) -> Hash {
    let mut bytes = Vec::with_capacity(160);
    bytes.put_chain_id(chain_id);
    message.encode_to(&mut bytes);
    Domain::Vote.hash(&[&bytes])
}

impl Vote {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn sign_hash(&self, chain_id: &ChainId) -> Hash {
        sign_hash(chain_id, self)
    }
}

impl ProposalMessage {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn sign_hash(&self, chain_id: &ChainId) -> Hash {
        sign_hash(chain_id, self)
    }
}

fn round_from(reader: &mut Reader<'_>) -> Result<Round, DecodeError> {
    Ok(Round::saturating(u64::from(reader.u32()?)))
}

fn put_round(out: &mut Vec<u8>, round: Round) {
    // A round is at most u32::MAX.
    out.put_u32(u32::try_from(round.get()).unwrap_or(u32::MAX));
}

impl Canonical for Vote {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(match self.kind {
            VoteKind::Prevote => TAG_PREVOTE,
            VoteKind::Precommit => TAG_PRECOMMIT,
        });
        out.put_u64(self.height.get());
        put_round(out, self.round);
        out.put_u8(u8::from(self.block_id.is_some()));
        out.put(&self.block_id.unwrap_or(BlockId::ZERO).0);
        out.put(&self.validator.0);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = match reader.u8()? {
            TAG_PREVOTE => VoteKind::Prevote,
            TAG_PRECOMMIT => VoteKind::Precommit,
            found => {
                return Err(DecodeError::Unknown { what: "vote kind", found: u64::from(found) });
            }
        };
        let height = reader.height()?;
        let round = round_from(reader)?;
        let is_some = reader.flag("vote block flag")?;
        let block_id = reader.block_id()?;
        if !is_some && block_id != BlockId::ZERO {
            return Err(DecodeError::Invalid { what: "block id of a nil vote" });
        }
        Ok(Self {
            kind,
            height,
            round,
            block_id: is_some.then_some(block_id),
            validator: reader.address()?,
        })
    }
}

impl Canonical for SignedVote {
    fn encode_to(&self, out: &mut Vec<u8>) {
        self.vote.encode_to(out);
        out.put(&self.signature.0);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { vote: Vote::decode_from(reader)?, signature: Signature(reader.array()?) })
    }
}

impl Canonical for ProposalMessage {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(TAG_PROPOSAL);
        out.put_u64(self.height.get());
        put_round(out, self.round);
        out.put_u8(u8::from(self.pol_round.is_some()));
        put_round(out, self.pol_round.unwrap_or(Round::ZERO));
        out.put(&self.block_id.0);
        out.put(&self.proposer.0);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.tag("proposal tag", TAG_PROPOSAL)?;
        let height = reader.height()?;
        let round = round_from(reader)?;
        let is_some = reader.flag("proposal round flag")?;
        let pol_round = round_from(reader)?;
        if !is_some && pol_round != Round::ZERO {
            return Err(DecodeError::Invalid { what: "absent proof-of-lock round" });
        }
        Ok(Self {
            height,
            round,
            pol_round: is_some.then_some(pol_round),
            block_id: reader.block_id()?,
            proposer: reader.address()?,
        })
    }
}

impl Canonical for SignedProposal {
    fn encode_to(&self, out: &mut Vec<u8>) {
        self.proposal.encode_to(out);
        out.put(&self.signature.0);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            proposal: ProposalMessage::decode_from(reader)?,
            signature: Signature(reader.array()?),
        })
    }
}
