//! Canonical decoding of everything the engine has an encoding of. The first byte chooses the
//! type. What is read is written as the same bytes; it is read no matter what follows it, and
//! not if a byte of it is missing; two values are equal exactly if their bytes are.

use ait_engine::block::{Block, Header};
use ait_engine::certificate::Certificate;
use ait_engine::codec::{Canonical, Reader};
use ait_engine::genesis::GenesisDocument;
use ait_engine::message::{Message, PolkaCertificate, RoundCertificate};
use ait_engine::outcome::Outcome;
use ait_engine::params::{ParamSet, Settings};
use ait_engine::receipt::ReceiptClaim;
use ait_engine::state::{
    Coordinator, Key, Leaf, MemoryState, Provider, RecordedState, Recording, StateProof, StateView,
};
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Height, Round};
use ait_engine::validator::ValidatorSet;
use ait_engine::vote::{ProposalMessage, SignedProposal, SignedVote, Vote, VoteKind};

use crate::world::{WORLD, transactions};

/// Reads and writes one type.
pub fn round_trip<T: Canonical + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Ok(object) = T::decode_from(&mut reader) else { return };
    let length = reader.position();
    assert_eq!(object.encode(), &bytes[..length], "another encoding of {object:?} is read");
    let whole = T::decode(&bytes[..length]).expect("it is read without what follows");
    assert_eq!(whole, object, "what follows changes what is read");
    assert_eq!(T::decode(bytes).is_ok(), length == bytes.len(), "bytes left over are not refused");
    if let Some(shorter) = length.checked_sub(1) {
        let cut = T::decode(&bytes[..shorter]);
        assert!(cut.is_err(), "without its last byte it is {cut:?}");
    }
}

macro_rules! types {
    ($($type:ty),* $(,)?) => {
        const TYPES: &[fn(&[u8])] = &[$(round_trip::<$type>),*];
    };
}

types!(
    Transaction,
    Header,
    Block,
    Certificate,
    ReceiptClaim,
    ParamSet,
    Settings,
    Outcome,
    Vote,
    SignedVote,
    ProposalMessage,
    SignedProposal,
    Message,
    PolkaCertificate,
    RoundCertificate,
    ValidatorSet,
    StateProof,
    Leaf,
    RecordedState,
    Coordinator,
    Provider,
);

pub fn run(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else { return };
    if let Some(read) = TYPES.get(usize::from(*which)) {
        read(bytes);
    }
    if *which == 0
        && let Ok(transaction) = Transaction::decode(bytes)
    {
        let mut other = transaction.clone();
        other.signature.0[0] ^= 1;
        assert_eq!(other.hash(), transaction.hash(), "the hash covers the signature");
        let other = Transaction { fee: other.fee.next().unwrap_or_default(), ..other };
        assert_ne!(other.hash(), transaction.hash(), "the hash does not cover the fee");
    }
}

/// Votes and proposals of the world's first block, as messages.
pub fn messages() -> Vec<Message> {
    let (world, key) = (&*WORLD, &WORLD.plan.validator);
    let header = &world.blocks[0].0.header;
    let (height, block_id, chain_id) = (header.height, header.id(), header.chain_id);
    let (round, validator) = (Round::saturating(1), key.public_key().address());
    let vote = |kind, block_id| {
        let vote = Vote { kind, height, round, block_id, validator };
        SignedVote { vote, signature: key.sign(vote.sign_hash(&chain_id).as_bytes()) }
    };
    let (pol_round, proposer) = (Some(Round::ZERO), validator);
    let proposal = ProposalMessage { height, round, pol_round, block_id, proposer };
    let signature = key.sign(proposal.sign_hash(&chain_id).as_bytes());
    let signatures = world.blocks[0].1.signatures().to_vec();
    let votes = vec![vote(VoteKind::Precommit, None)];
    vec![
        Message::Vote(vote(VoteKind::Prevote, Some(block_id))),
        Message::Vote(vote(VoteKind::Precommit, None)),
        Message::Proposal(SignedProposal { proposal, signature }),
        Message::PolkaCertificate(PolkaCertificate { height, round, block_id, signatures }),
        Message::RoundCertificate(RoundCertificate { height, round, is_skip: true, votes }),
    ]
}

pub fn seeds() -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let mut seeds = Vec::new();
    let mut add = |which: u8, bytes: Vec<u8>| seeds.push([&[which][..], &bytes].concat());
    for transaction in transactions() {
        add(0, transaction.encode());
        match &transaction.payload {
            Payload::ReceiptClaim(claim) => add(4, claim.encode()),
            Payload::ParamSet(set) => add(5, set.encode()),
            _ => {}
        }
    }
    for (block, certificate) in &world.blocks[..2] {
        add(1, block.header.encode());
        add(2, block.encode());
        add(3, certificate.encode());
    }
    let genesis = GenesisDocument::parse(&world.genesis).unwrap().build().unwrap();
    add(6, genesis.settings.encode());
    add(15, genesis.validators.encode());
    for (_, leaf) in genesis.state.leaves.iter().take(3) {
        add(17, leaf.encode());
    }
    for message in messages() {
        match &message {
            Message::Vote(signed) => {
                add(8, signed.vote.encode());
                add(9, signed.encode());
            }
            Message::Proposal(signed) => {
                add(10, signed.proposal.encode());
                add(11, signed.encode());
            }
            Message::PolkaCertificate(certificate) => add(13, certificate.encode()),
            Message::RoundCertificate(certificate) => add(14, certificate.encode()),
        }
        add(12, message.encode());
    }
    let block = world.chain.block(Height::saturating(2)).unwrap().unwrap();
    for outcome in &block.outcomes {
        add(7, outcome.encode());
    }
    for proof in super::proof::proofs() {
        add(16, proof.encode());
    }
    let payout = world.addresses[0];
    add(19, Coordinator { payout, active: true }.encode());
    let receipt_key = world.plan.coordinator.public_key();
    add(20, Provider { account: payout, receipt_key }.encode());
    // Answers for a key that is there and one that is not, with what leads to the root.
    let mut state = MemoryState::default();
    state.apply(&genesis.state);
    let recording = Recording::new(&state);
    recording.number_of(&Key::supply()).unwrap();
    recording.number_of(&Key::account(&Address([7; 32]))).unwrap();
    add(18, recording.into_recorded().encode());
    add(18, super::bundle::divergence().state.encode());
    seeds
}
