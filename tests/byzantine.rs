//! A proposer that breaks the rules, seen by one node: what is passed on, who is blamed,
//! and what is reported. `tests/cluster` does the same to real nodes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use ait_engine::block::Block;
use ait_engine::message::Message;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Amount, Height, Nonce, Round, TimestampMs};
use ait_engine::vote::{ProposalMessage, SignedProposal};
use ait_net::peer::PeerId;
use ait_node::chain::{self, ChainError, ChainOptions, ChainWriter, GenesisSource, Stores};
use ait_node::consensus::{FileSigner, LogWriter};
use ait_node::devnet::DevnetPlan;
use ait_node::mempool::{Mempool, MempoolLimits};
use ait_node::sequencer::{Effect, Input, SequencerCore, SequencerOptions};

const TIME_S: u64 = 1_700_000_000;
const NOW: Duration = Duration::from_secs(1);
const PROPOSER: PeerId = PeerId([1; 32]);
const OTHER: PeerId = PeerId([2; 32]);

fn plan() -> DevnetPlan {
    DevnetPlan::new([42; 32], TIME_S).unwrap()
}

fn open() -> ChainWriter {
    let document = plan().document;
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [1; 32], build: &build };
    chain::open(&Stores::memory(), &source, &ChainOptions::default(), &mut |_| {}).unwrap()
}

/// A node that follows the chain, and whose clock shows so many milliseconds after genesis.
fn follower(after_ms: u64) -> SequencerCore<FileSigner, LogWriter> {
    let mempool = Arc::new(Mempool::new(MempoolLimits::default(), None));
    let now = TimestampMs::saturating(TIME_S * 1_000 + after_ms);
    let options = SequencerOptions::default();
    SequencerCore::new(open(), None, mempool, Arc::new(move || now), options)
}

/// A good first block, made so many milliseconds after genesis, and its proposal.
fn proposed(after_ms: u64) -> (SignedProposal, Arc<Block>) {
    let (plan, mut writer) = (plan(), open());
    let to = plan.names.resolve("somebody").unwrap();
    let payload = Payload::Transfer { to, amount: Amount::saturating(5) };
    let (alice, chain_id) = (plan.names.secret_key("alice"), plan.document.chain_id);
    let (nonce, fee) = (Nonce::saturating(0), Amount::saturating(1));
    let signed = Transaction::sign(&alice, chain_id, nonce, fee, None, payload);
    let all = vec![VerifiedTransaction::assume_verified(signed)];
    let proposer = plan.validator.public_key().address();
    let time = TimestampMs::saturating(TIME_S * 1_000 + after_ms);
    let block_id = writer.build(all, time, proposer).unwrap().block_id.unwrap();
    let (height, round) = (Height::saturating(1), Round::ZERO);
    let proposal = ProposalMessage { height, round, pol_round: None, block_id, proposer };
    let signature = plan.validator.sign(proposal.sign_hash(&chain_id).as_bytes());
    let block = Arc::new(writer.proposal(&block_id).unwrap().clone());
    (SignedProposal { proposal, signature }, block)
}

fn body(from: PeerId, proposal: SignedProposal, block: &Arc<Block>) -> Input {
    Input::Body { from, proposal, block: Arc::clone(block) }
}

#[test]
fn passes_on_a_body_only_once_it_was_found_good() {
    let (good, block) = proposed(1_000);
    let (_, another) = proposed(1_001);
    let mut core = follower(2_000);
    let effects = core.handle(NOW, body(PROPOSER, good, &another)).unwrap();
    let is_blamed = |effect: &Effect| matches!(effect, Effect::Misbehaved { peer: PROPOSER, .. });
    assert!(effects.iter().any(is_blamed), "{effects:?}");
    let is_passed_on = |effect: &&Effect| matches!(effect, Effect::BodyAccepted { .. });
    assert!(!effects.iter().any(|effect| is_passed_on(&effect)), "{effects:?}");
    // What is served under that proposal afterwards is the block of the proposal.
    let effects = core.handle(NOW, body(OTHER, good, &block)).unwrap();
    let passed_on: Vec<_> = effects.iter().filter(is_passed_on).collect();
    let [Effect::BodyAccepted { from: OTHER, proposal, block: served }] = passed_on[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((*proposal, served.header.id()), (good, good.proposal.block_id));
}

#[test]
fn a_block_ahead_of_the_clock_is_refused_and_nobody_blamed() {
    // Where it was passed on it may have been good: clocks differ.
    let (proposal, block) = proposed(1_000_000);
    let mut core = follower(2_000);
    let effects = core.handle(NOW, body(OTHER, proposal, &block)).unwrap();
    let is_wrong =
        |e: &Effect| matches!(e, Effect::Misbehaved { .. } | Effect::BodyAccepted { .. });
    assert!(!effects.iter().any(is_wrong), "{effects:?}");
}

#[test]
fn two_proposals_of_a_round_are_reported_once_however_often_they_come() {
    let (first, second) = (proposed(1_000).0, proposed(1_001).0);
    let mut core = follower(2_000);
    let mut reported = 0;
    for from in [PROPOSER, OTHER, PROPOSER] {
        for signed in [first, second] {
            let message = Message::Proposal(signed);
            let effects = core.handle(NOW, Input::Message { from, message }).unwrap();
            let is_report = |effect: &&Effect| matches!(effect, Effect::Equivocated { .. });
            reported += effects.iter().filter(is_report).count();
        }
    }
    assert_eq!(reported, 1);
}

#[test]
fn a_flood_of_proposals_of_a_round_is_not_passed_on() {
    let mut core = follower(2_000);
    let (mut passed_on, mut reported) = (0, 0);
    for n in 0..50 {
        let message = Message::Proposal(proposed(1_000 + n).0);
        for effect in core.handle(NOW, Input::Message { from: PROPOSER, message }).unwrap() {
            passed_on += usize::from(matches!(effect, Effect::Forward { .. }));
            reported += usize::from(matches!(effect, Effect::Equivocated { .. }));
        }
    }
    assert_eq!((passed_on, reported), (4, 3));
}
