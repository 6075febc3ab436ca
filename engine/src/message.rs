//! What validators say to each other besides blocks: votes, proposals, and the votes of
//! others as certificates.
//!
//! Decoding checks form only; [`Message::verify`] checks who may say it.

use crate::certificate::CommitSignature;
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::{PublicKey, Signature, verify_batch};
use crate::limits::VALIDATOR_COUNT_MAX;
use crate::types::{Address, BlockId, ChainId, Hash, Height, Round, VotingPower};
use crate::validator::ValidatorSet;
use crate::vote::{SignedProposal, SignedVote, Vote, VoteKind};

const VOTE: u8 = 1;
const PROPOSAL: u8 = 2;
const POLKA: u8 = 3;
const ROUND: u8 = 4;

/// Prevotes with a quorum for one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolkaCertificate {
    /// The height.
    pub height: Height,
    /// The round.
    pub round: Round,
    /// The block.
    pub block_id: BlockId,
    /// The prevotes.
    pub signatures: Vec<CommitSignature>,
}

/// Votes that justify entering a later round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundCertificate {
    /// The height.
    pub height: Height,
    /// The round that may be entered or left.
    pub round: Round,
    /// Whether these are votes of a later round (skip), or precommits of the one before.
    pub is_skip: bool,
    /// The votes.
    pub votes: Vec<SignedVote>,
}

/// What validators say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A vote.
    Vote(SignedVote),
    /// A proposal; the block travels beside it.
    Proposal(SignedProposal),
    /// Prevotes with a quorum.
    PolkaCertificate(PolkaCertificate),
    /// Votes that justify a round.
    RoundCertificate(RoundCertificate),
}

/// Why a message is not one of the validators of its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Its signer has no vote.
    #[error("{signer} is not a validator at this height")]
    UnknownValidator {
        /// The signer.
        signer: Address,
    },
    /// It is not the proposer's turn.
    #[error("{found} proposes in a round of {expected}")]
    NotProposer {
        /// Whose turn it is.
        expected: Address,
        /// Who proposes.
        found: Address,
    },
    /// A signature does not verify.
    #[error("the signature of validator {signer} does not verify")]
    Signature {
        /// The signer.
        signer: Address,
    },
    /// A certificate holds votes that are not for what it says.
    #[error("a vote of {signer} does not belong to its certificate")]
    ForeignVote {
        /// The voter.
        signer: Address,
    },
    /// A certificate has too little power.
    #[error("a certificate of {found} voting power of {total}")]
    BelowQuorum {
        /// Power that voted.
        found: VotingPower,
        /// Total power of the set.
        total: VotingPower,
    },
}

/// A message whose signatures were verified with the validator set of its height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedMessage(Message);

impl VerifiedMessage {
    /// The message.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.0
    }

    /// Gives the message out.
    #[must_use]
    pub fn into_inner(self) -> Message {
        self.0
    }
}

impl Message {
    /// The height it is about.
    #[must_use]
    pub const fn height(&self) -> Height {
        match self {
            Self::Vote(vote) => vote.vote.height,
            Self::Proposal(proposal) => proposal.proposal.height,
            Self::PolkaCertificate(polka) => polka.height,
            Self::RoundCertificate(round) => round.height,
        }
    }

    /// The round it is about.
    #[must_use]
    pub const fn round(&self) -> Round {
        match self {
            Self::Vote(vote) => vote.vote.round,
            Self::Proposal(proposal) => proposal.proposal.round,
            Self::PolkaCertificate(polka) => polka.round,
            Self::RoundCertificate(round) => round.round,
        }
    }

    /// Checks who says it: validators of the height, the proposer of the round, enough of them.
    ///
    /// # Errors
    /// [`MessageError`]: what is wrong with it.
    pub fn verify(
        self,
        chain_id: &ChainId,
        validators: &ValidatorSet,
    ) -> Result<VerifiedMessage, MessageError> {
        match &self {
            Self::Vote(vote) => verify_votes(chain_id, validators, std::slice::from_ref(vote))?,
            Self::Proposal(signed) => verify_proposal(chain_id, validators, signed)?,
            Self::PolkaCertificate(polka) => {
                let votes: Vec<_> = polka.signatures.iter().map(|s| polka.vote(s)).collect();
                verify_votes(chain_id, validators, &votes)?;
                check_power(validators, &votes, true)?;
            }
            Self::RoundCertificate(round) => {
                round.check_votes()?;
                verify_votes(chain_id, validators, &round.votes)?;
                check_power(validators, &round.votes, !round.is_skip)?;
            }
        }
        Ok(VerifiedMessage(self))
    }
}

impl PolkaCertificate {
    fn vote(&self, signature: &CommitSignature) -> SignedVote {
        let vote = Vote {
            kind: VoteKind::Prevote,
            height: self.height,
            round: self.round,
            block_id: Some(self.block_id),
            validator: signature.validator,
        };
        SignedVote { vote, signature: signature.signature }
    }
}

impl RoundCertificate {
    /// Votes of one height and round; of the kind that the certificate's kind asks for.
    fn check_votes(&self) -> Result<(), MessageError> {
        let belongs = |vote: &Vote| {
            vote.height == self.height
                && vote.round == self.round
                && (self.is_skip || vote.kind == VoteKind::Precommit)
        };
        match self.votes.iter().find(|signed| !belongs(&signed.vote)) {
            Some(foreign) => Err(MessageError::ForeignVote { signer: foreign.vote.validator }),
            None => Ok(()),
        }
    }
}

fn verify_proposal(
    chain_id: &ChainId,
    validators: &ValidatorSet,
    signed: &SignedProposal,
) -> Result<(), MessageError> {
    let proposal = signed.proposal;
    let expected = validators.proposer(proposal.height, proposal.round);
    if expected.address() != proposal.proposer {
        let (expected, found) = (expected.address(), proposal.proposer);
        return Err(MessageError::NotProposer { expected, found });
    }
    let hash = proposal.sign_hash(chain_id);
    crate::crypto::verify(&expected.public_key, hash.as_bytes(), &signed.signature)
        .map_err(|_| MessageError::Signature { signer: proposal.proposer })
}

fn verify_votes(
    chain_id: &ChainId,
    validators: &ValidatorSet,
    votes: &[SignedVote],
) -> Result<(), MessageError> {
    let mut signed: Vec<(PublicKey, Hash, Signature)> = Vec::with_capacity(votes.len());
    for SignedVote { vote, signature } in votes {
        let validator = validators
            .get(&vote.validator)
            .ok_or(MessageError::UnknownValidator { signer: vote.validator })?;
        signed.push((validator.public_key, vote.sign_hash(chain_id), *signature));
    }
    let items: Vec<_> = signed.iter().map(|(k, h, s)| (*k, h.as_bytes().as_slice(), *s)).collect();
    verify_batch(&items, None).map_err(|bad| {
        let first = bad.first().and_then(|at| votes.get(*at));
        MessageError::Signature { signer: first.map_or(Address::ZERO, |s| s.vote.validator) }
    })
}

/// A quorum, or more than a third where one honest vote must be among them. A validator
/// counts once, however often it votes.
fn check_power(
    validators: &ValidatorSet,
    votes: &[SignedVote],
    needs_quorum: bool,
) -> Result<(), MessageError> {
    let mut voters: Vec<Address> = votes.iter().map(|signed| signed.vote.validator).collect();
    voters.sort_unstable();
    voters.dedup();
    let powers = voters.iter().filter_map(|voter| validators.get(voter));
    let power = powers.fold(VotingPower::ZERO, |sum, validator| {
        // A sum of distinct validators is at most the total.
        sum.checked_add(validator.power).unwrap_or(VotingPower::MAX)
    });
    let total = validators.total_power();
    let honest = u128::from(power.get()) * 3 > u128::from(total.get());
    if if needs_quorum { validators.is_quorum(power) } else { honest } {
        Ok(())
    } else {
        Err(MessageError::BelowQuorum { found: power, total })
    }
}

fn put_round(out: &mut Vec<u8>, round: Round) {
    // A round is at most u32::MAX.
    out.put_u32(u32::try_from(round.get()).unwrap_or(u32::MAX));
}

fn round_from(reader: &mut Reader<'_>) -> Result<Round, DecodeError> {
    Ok(Round::saturating(u64::from(reader.u32()?)))
}

impl Canonical for PolkaCertificate {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u64(self.height.get());
        put_round(out, self.round);
        out.put(&self.block_id.0);
        out.put_count(self.signatures.len());
        for signature in &self.signatures {
            out.put(&signature.validator.0);
            out.put(&signature.signature.0);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (height, round) = (reader.height()?, round_from(reader)?);
        let block_id = reader.block_id()?;
        let count = reader.count("prevote count", VALIDATOR_COUNT_MAX)?;
        let mut signatures = Vec::with_capacity(count);
        for _ in 0..count {
            let validator = reader.address()?;
            signatures.push(CommitSignature { validator, signature: Signature(reader.array()?) });
        }
        Ok(Self { height, round, block_id, signatures })
    }
}

impl Canonical for RoundCertificate {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u64(self.height.get());
        put_round(out, self.round);
        out.put_u8(u8::from(self.is_skip));
        out.put_count(self.votes.len());
        for vote in &self.votes {
            vote.encode_to(out);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (height, round) = (reader.height()?, round_from(reader)?);
        let is_skip = reader.flag("round certificate kind")?;
        // A validator may have voted twice in the round that is skipped to.
        let count = reader.count("round vote count", 2 * VALIDATOR_COUNT_MAX)?;
        let mut votes = Vec::with_capacity(count.min(VALIDATOR_COUNT_MAX));
        for _ in 0..count {
            votes.push(SignedVote::decode_from(reader)?);
        }
        Ok(Self { height, round, is_skip, votes })
    }
}

impl Canonical for Message {
    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Vote(vote) => {
                out.put_u8(VOTE);
                vote.encode_to(out);
            }
            Self::Proposal(proposal) => {
                out.put_u8(PROPOSAL);
                proposal.encode_to(out);
            }
            Self::PolkaCertificate(polka) => {
                out.put_u8(POLKA);
                polka.encode_to(out);
            }
            Self::RoundCertificate(round) => {
                out.put_u8(ROUND);
                round.encode_to(out);
            }
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            VOTE => Self::Vote(SignedVote::decode_from(reader)?),
            PROPOSAL => Self::Proposal(SignedProposal::decode_from(reader)?),
            POLKA => Self::PolkaCertificate(PolkaCertificate::decode_from(reader)?),
            ROUND => Self::RoundCertificate(RoundCertificate::decode_from(reader)?),
            found => {
                let found = u64::from(found);
                return Err(DecodeError::Unknown { what: "message kind", found });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::crypto::SecretKey;
    use crate::validator::Validator;
    use crate::vote::ProposalMessage;

    const HEIGHT: Height = Height::saturating(5);

    fn chain_id() -> ChainId {
        "test".parse().unwrap()
    }

    fn keys() -> Vec<SecretKey> {
        (1..=4).map(|n| SecretKey::from_seed([n; 32])).collect()
    }

    fn set() -> ValidatorSet {
        let validators = keys().into_iter().map(|key| Validator {
            public_key: key.public_key(),
            power: VotingPower::saturating(1),
            payout: key.public_key().address(),
        });
        ValidatorSet::new(validators.collect()).unwrap()
    }

    fn vote(key: &SecretKey, kind: VoteKind, block_id: Option<BlockId>) -> SignedVote {
        let validator = key.public_key().address();
        let vote = Vote { kind, height: HEIGHT, round: Round::ZERO, block_id, validator };
        SignedVote { vote, signature: key.sign(vote.sign_hash(&chain_id()).as_bytes()) }
    }

    fn polka(count: usize) -> PolkaCertificate {
        let block_id = BlockId([7; 32]);
        let signatures = keys()
            .into_iter()
            .take(count)
            .map(|key| vote(&key, VoteKind::Prevote, Some(block_id)))
            .map(|v| CommitSignature { validator: v.vote.validator, signature: v.signature });
        let signatures = signatures.collect();
        PolkaCertificate { height: HEIGHT, round: Round::ZERO, block_id, signatures }
    }

    fn messages() -> Vec<Message> {
        let set = set();
        let proposer = set.proposer(HEIGHT, Round::ZERO).address();
        let key = keys().into_iter().find(|key| key.public_key().address() == proposer).unwrap();
        let proposal = ProposalMessage {
            height: HEIGHT,
            round: Round::ZERO,
            pol_round: None,
            block_id: BlockId([7; 32]),
            proposer,
        };
        let signature = key.sign(proposal.sign_hash(&chain_id()).as_bytes());
        let precommits = keys().into_iter().take(3);
        let precommits = precommits.map(|key| vote(&key, VoteKind::Precommit, None));
        vec![
            Message::Vote(vote(&keys()[0], VoteKind::Prevote, None)),
            Message::Proposal(SignedProposal { proposal, signature }),
            Message::PolkaCertificate(polka(3)),
            Message::RoundCertificate(RoundCertificate {
                height: HEIGHT,
                round: Round::ZERO,
                is_skip: false,
                votes: precommits.collect(),
            }),
        ]
    }

    #[test]
    fn good_messages_verify_and_have_one_encoding() {
        for message in messages() {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes).unwrap(), message);
            for length in 0..bytes.len() {
                assert!(Message::decode(&bytes[..length]).is_err());
            }
            message.clone().verify(&chain_id(), &set()).unwrap();
            assert!(message.verify(&"other".parse().unwrap(), &set()).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        for message in messages() {
            let bytes = message.encode();
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let verified = Message::decode(&bytes).map(|m| m.verify(&chain_id(), &set()));
                // Precommits that end a round justify a skip to it, too: they stay true.
                let is_skip = matches!(&verified, Ok(Ok(m)) if matches!(m.message(),
                    Message::RoundCertificate(r) if r.is_skip));
                assert!(is_skip || !matches!(verified, Ok(Ok(_))), "bit {bit} of {message:?}");
            }
        }
    }

    #[test]
    fn certificates_need_their_power_each_validator_once() {
        let check = |message: Message| message.verify(&chain_id(), &set());
        let below = |result| matches!(result, Err(MessageError::BelowQuorum { .. }));
        assert!(below(check(Message::PolkaCertificate(polka(2)))));
        let mut twice = polka(2);
        twice.signatures.extend(twice.signatures.clone());
        assert!(below(check(Message::PolkaCertificate(twice))));
        let round = |count: usize, is_skip, kind| {
            let votes = keys()[..count].iter().map(|key| vote(key, kind, None)).collect();
            Message::RoundCertificate(RoundCertificate {
                height: HEIGHT,
                round: Round::ZERO,
                is_skip,
                votes,
            })
        };
        assert!(below(check(round(1, true, VoteKind::Prevote))));
        check(round(2, true, VoteKind::Prevote)).unwrap();
        assert!(below(check(round(2, false, VoteKind::Precommit))));
        let foreign = check(round(3, false, VoteKind::Prevote));
        assert!(matches!(foreign, Err(MessageError::ForeignVote { .. })));
    }
}
