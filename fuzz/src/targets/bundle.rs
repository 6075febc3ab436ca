//! Files about faults. The first byte chooses: a block that diverged, behind a head and before
//! a checksum made here, which is read as what is written, and looked at without a panic; or
//! evidence of two signatures, which is believed only if two different statements of one place
//! are really signed by the key.

use std::fs;
use std::sync::LazyLock;

use ait_engine::codec::{Canonical, DecodeError};
use ait_engine::crypto::{self, Signature};
use ait_engine::genesis::GenesisDocument;
use ait_engine::state::MemoryState;
use ait_engine::types::{BlockId, Hash, Round};
use ait_engine::vote::{ProposalMessage, SignedProposal, SignedVote, Vote, VoteKind};
use ait_node::divergence::{self, BundleError, Divergence};
use ait_node::evidence::{Equivocation, Evidence, EvidenceKind};

use crate::world::{WORLD, directory};

/// A directory of this process, so that a run writes one file only.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(directory);

fn bundle(content: &[u8]) {
    let mut bytes = b"AITDIVRG\x01".to_vec();
    bytes.extend((content.len() as u32).to_le_bytes());
    bytes.extend(content);
    let sum = blake3::hash(&bytes);
    bytes.extend(&sum.as_bytes()[..16]);
    let thread = std::thread::current().id();
    let path = FOLDER.path().join(format!("{thread:?}"));
    fs::write(&path, &bytes).unwrap();
    match divergence::read(&path) {
        Ok(read) => {
            assert_eq!(read.encode(), content, "another spelling of a bundle is read");
            let _ = divergence::examine(&read).map(|examined| examined.verdict());
        }
        Err(BundleError::Form(error)) => {
            assert_eq!(Divergence::decode(content), Err::<Divergence, DecodeError>(error));
        }
        Err(error) => panic!("the frame made here is refused: {error}"),
    }
}

/// The hash that a statement is signed over, and its place.
fn statement(evidence: &Evidence, bytes: &[u8]) -> Option<(Hash, [u64; 2])> {
    if evidence.kind == EvidenceKind::Proposal {
        let read = ProposalMessage::decode(bytes).ok()?;
        return Some((read.sign_hash(&evidence.chain_id), [read.height.get(), read.round.get()]));
    }
    let read = Vote::decode(bytes).ok()?;
    Some((read.sign_hash(&evidence.chain_id), [read.height.get(), read.round.get()]))
}

fn evidence(text: &[u8]) {
    let Ok(evidence) = serde_json::from_slice::<Evidence>(text) else { return };
    let Ok(proved) = evidence.verify() else { return };
    let signed = evidence.signed.clone().map(|one| {
        let bytes = hex::decode(&one.statement).unwrap();
        let (hash, place) = statement(&evidence, &bytes).expect("a statement");
        let good = crypto::verify(&evidence.public_key, hash.as_bytes(), &one.signature);
        assert!(good.is_ok(), "a statement that was not signed");
        assert_eq!(place, [proved.height.get(), proved.round.get()], "of another place");
        hash
    });
    assert_ne!(signed[0], signed[1], "one statement twice is no fault");
}

pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((0, content)) => bundle(content),
        Some((1, text)) => evidence(text),
        _ => {}
    }
}

/// The world's first block over the state before it.
pub fn divergence() -> Divergence {
    let world = &*WORLD;
    let genesis = GenesisDocument::parse(&world.genesis).unwrap().build().unwrap();
    let mut state = MemoryState::default();
    state.apply(&genesis.state);
    let block = &world.blocks[0].0;
    let made = Divergence::record(&state, &genesis.header, block, "as a seed").unwrap();
    Divergence { made_by: "seed".to_owned(), ..made }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let (world, key) = (&*WORLD, &WORLD.plan.validator);
    let good = divergence();
    let mut refused = good.clone();
    refused.block.transactions.clear();
    refused.executed = divergence::Executed::Refused { reason: "empty".to_owned() };
    let chain_id = world.plan.document.chain_id;
    let (height, round) = (world.blocks[0].0.header.height, Round::ZERO);
    let validator = key.public_key().address();
    let vote = |block_id| {
        let kind = VoteKind::Precommit;
        let vote = Vote { kind, height, round, block_id, validator };
        let signature = key.sign(vote.sign_hash(&chain_id).as_bytes());
        SignedVote { vote, signature }
    };
    let proposal = |id: u8| {
        let (block_id, proposer) = (BlockId([id; 32]), validator);
        let proposal = ProposalMessage { height, round, pol_round: None, block_id, proposer };
        let signature: Signature = key.sign(proposal.sign_hash(&chain_id).as_bytes());
        SignedProposal { proposal, signature }
    };
    let faults = [
        Equivocation::Votes(vote(None), vote(Some(world.ids[1]))),
        Equivocation::Proposals(proposal(1), proposal(2)),
        // No fault.
        Equivocation::Votes(vote(None), vote(None)),
    ];
    let mut seeds: Vec<_> =
        [good, refused].iter().map(|made| [&[0][..], &made.encode()].concat()).collect();
    for fault in &faults {
        let evidence = Evidence::new(chain_id, key.public_key(), fault);
        seeds.push([&[1][..], &serde_json::to_vec(&evidence).unwrap()].concat());
    }
    seeds
}
