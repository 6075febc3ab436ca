//! Entries of the write-ahead log: the inputs that must survive a crash, encoded, and the
//! blocks that are voted for.

use ait_engine::block::Block;
use ait_engine::certificate::CommitSignature;
use ait_engine::codec::{Canonical, DecodeError, Reader, Writer};
use ait_engine::crypto::Signature;
use ait_engine::limits::VALIDATOR_COUNT_MAX;
use ait_engine::message::PolkaCertificate;
use ait_engine::types::{BlockId, Round};
use ait_engine::vote::{SignedProposal, SignedVote};
use malachitebft_core_consensus::{Input, ProposedValue};
use malachitebft_core_types::{SignedMessage, Validity, ValueOrigin};

use super::context::{
    Ctx, CtxAddress, CtxHeight, CtxSignature, CtxValue, from_lib_round, to_lib_round,
};
use super::convert::{polka_from_lib, polka_to_lib, timeout_from_lib, timeout_to_lib};
use super::port::{ConsensusFailure, Timeout, TimeoutKind};

const VOTE: u8 = 1;
const PROPOSAL: u8 = 2;
const TIMEOUT: u8 = 3;
const VALUE: u8 = 4;
const POLKA: u8 = 5;
const BLOCK: u8 = 6;

/// The entry of a block in its canonical bytes.
pub(super) fn block(bytes: &[u8]) -> Vec<u8> {
    [&[BLOCK], bytes].concat()
}

/// The canonical bytes of the block of an entry; none if it is an input.
pub(super) fn block_of(entry: &[u8]) -> Option<&[u8]> {
    entry.split_first().filter(|(kind, _)| **kind == BLOCK).map(|(_, bytes)| bytes)
}

/// The blocks of a log, in the order in which they were kept.
///
/// # Errors
/// [`ConsensusFailure::Entry`] when one is not canonical.
pub fn logged_blocks(entries: &[Vec<u8>]) -> Result<Vec<Block>, ConsensusFailure> {
    let blocks = entries.iter().filter_map(|entry| block_of(entry)).map(Block::decode);
    let blocks: Result<_, DecodeError> = blocks.collect();
    blocks.map_err(|error| ConsensusFailure::Entry { reason: error.to_string() })
}

/// The input of an entry; none if it is a block, or none at all.
pub(super) fn input(entry: &[u8]) -> Option<Input<Ctx>> {
    decode(entry).ok()
}

/// Encodes an input; none for those that are never logged.
pub(super) fn encode(input: &Input<Ctx>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match input {
        Input::Vote(vote) => {
            out.put_u8(VOTE);
            SignedVote { vote: vote.message.vote, signature: vote.signature.0 }.encode_to(&mut out);
        }
        Input::Proposal(proposal) => {
            out.put_u8(PROPOSAL);
            let (proposal, signature) = (proposal.message.message, proposal.signature.0);
            SignedProposal { proposal, signature }.encode_to(&mut out);
        }
        Input::TimeoutElapsed(timeout) => {
            let timeout = timeout_from_lib(*timeout)?;
            out.put_u8(TIMEOUT);
            out.put_u8(timeout.kind as u8);
            put_round(&mut out, timeout.round);
        }
        Input::ProposedValue(value, _) => {
            out.put_u8(VALUE);
            out.put_u64(value.height.0.get());
            put_round(&mut out, from_lib_round(value.round));
            out.put_u8(u8::from(value.valid_round.is_defined()));
            put_round(&mut out, from_lib_round(value.valid_round));
            out.put(&value.proposer.0.0);
            out.put(&value.value.0.0);
            out.put_u8(u8::from(value.validity.is_valid()));
        }
        Input::PolkaCertificate(polka) => {
            let polka = polka_from_lib(polka);
            out.put_u8(POLKA);
            out.put_u64(polka.height.get());
            put_round(&mut out, polka.round);
            out.put(&polka.block_id.0);
            out.put_count(polka.signatures.len());
            for signature in &polka.signatures {
                out.put(&signature.validator.0);
                out.put(&signature.signature.0);
            }
        }
        _ => return None,
    }
    Some(out)
}

/// Decodes an entry.
pub(super) fn decode(entry: &[u8]) -> Result<Input<Ctx>, DecodeError> {
    let mut reader = Reader::new(entry);
    let input = match reader.u8()? {
        VOTE => {
            let vote = SignedVote::decode_from(&mut reader)?;
            Input::Vote(SignedMessage::new(vote.vote.into(), CtxSignature(vote.signature)))
        }
        PROPOSAL => {
            let proposal = SignedProposal::decode_from(&mut reader)?;
            let signature = CtxSignature(proposal.signature);
            Input::Proposal(SignedMessage::new(proposal.proposal.into(), signature))
        }
        TIMEOUT => {
            let kind = match reader.u8()? {
                0 => TimeoutKind::Propose,
                1 => TimeoutKind::Prevote,
                2 => TimeoutKind::Precommit,
                3 => TimeoutKind::Rebroadcast,
                found => {
                    return Err(DecodeError::Unknown {
                        what: "time-out kind",
                        found: found.into(),
                    });
                }
            };
            Input::TimeoutElapsed(timeout_to_lib(Timeout { kind, round: round(&mut reader)? }))
        }
        VALUE => value(&mut reader)?,
        POLKA => polka(&mut reader)?,
        found => return Err(DecodeError::Unknown { what: "log entry", found: found.into() }),
    };
    reader.finish()?;
    Ok(input)
}

fn value(reader: &mut Reader<'_>) -> Result<Input<Ctx>, DecodeError> {
    let height = CtxHeight(reader.height()?);
    let of_round = to_lib_round(round(reader)?);
    let has_valid_round = reader.flag("valid round flag")?;
    let valid_round = to_lib_round(round(reader)?);
    let value = ProposedValue {
        height,
        round: of_round,
        valid_round: if has_valid_round {
            valid_round
        } else {
            malachitebft_core_types::Round::Nil
        },
        proposer: CtxAddress(reader.address()?),
        value: CtxValue(BlockId(reader.array()?)),
        validity: Validity::from_bool(reader.flag("validity")?),
    };
    Ok(Input::ProposedValue(value, ValueOrigin::Consensus))
}

fn polka(reader: &mut Reader<'_>) -> Result<Input<Ctx>, DecodeError> {
    let (height, of_round, block_id) = (reader.height()?, round(reader)?, reader.block_id()?);
    let count = reader.count("polka signature count", VALIDATOR_COUNT_MAX)?;
    let mut signatures = Vec::with_capacity(count);
    for _ in 0..count {
        let validator = reader.address()?;
        signatures.push(CommitSignature { validator, signature: Signature(reader.array()?) });
    }
    let polka = PolkaCertificate { height, round: of_round, block_id, signatures };
    Ok(Input::PolkaCertificate(polka_to_lib(&polka)))
}

fn round(reader: &mut Reader<'_>) -> Result<Round, DecodeError> {
    Ok(Round::saturating(u64::from(reader.u32()?)))
}

fn put_round(out: &mut Vec<u8>, round: Round) {
    out.put_u32(u32::try_from(round.get()).unwrap_or(u32::MAX));
}
