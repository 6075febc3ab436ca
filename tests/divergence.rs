//! A block whose header does not say what executing it gives: the validator prevotes nil,
//! keeps a file, and the real binary explains that file anywhere.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ait_engine::block::Block;
use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::crypto::SecretKey;
use ait_engine::genesis::{Authority, GenesisDocument};
use ait_engine::message::Message;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction, verify_transactions};
use ait_engine::types::{
    Amount, BlockId, ChainId, Hash, Height, Nonce, Round, StateRoot, TimestampMs, VotingPower,
};
use ait_engine::vote::{ProposalMessage, SignedProposal, SignedVote, Vote, VoteKind};
use ait_net::peer::PeerId;
use ait_node::chain::{
    self, BlockFault, ChainError, ChainOptions, ChainWriter, GenesisSource, StorageEngine, Stores,
};
use ait_node::consensus::{Consensus, ConsensusConfig, FileLog, FileSigner};
use ait_node::devnet::DevnetPlan;
use ait_node::divergence;
use ait_node::evidence::{Equivocation, Evidence};
use ait_node::import::{ImportBlock, ImportError};
use ait_node::mempool::{Mempool, MempoolLimits};
use ait_node::node::{Node, NodeOptions};
use ait_node::sequencer::{Effect, Input, SequencerCore, SequencerOptions, Voter};
use ait_storage::MemoryStorage;
use serde_json::{Value, json};

const TIME: u64 = 1_700_000_000;

fn plan() -> DevnetPlan {
    DevnetPlan::new([42; 32], TIME).unwrap()
}

fn open(document: &GenesisDocument) -> ChainWriter {
    let [blocks, state, index] = [(); 3].map(|()| Arc::new(MemoryStorage::new()));
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [1; 32], build: &build };
    let stores = Stores { blocks, state, index };
    chain::open(&stores, &source, &ChainOptions::default(), &mut |_| {}).unwrap()
}

/// The first block of a chain, as its proposer makes it.
fn block(document: &GenesisDocument) -> Block {
    let (plan, mut writer) = (plan(), open(document));
    let transfer = |n: u64| {
        let to = plan.names.resolve(&format!("to-{n}")).unwrap();
        let payload = Payload::Transfer { to, amount: Amount::saturating(5) };
        let (nonce, fee) = (Nonce::saturating(n), Amount::saturating(1));
        let alice = plan.names.secret_key("alice");
        let signed = Transaction::sign(&alice, document.chain_id, nonce, fee, None, payload);
        VerifiedTransaction::assume_verified(signed)
    };
    let proposer = writer.validators().proposer(Height::saturating(1), Round::ZERO).address();
    let now = TimestampMs::saturating((TIME + 1) * 1_000);
    let built = writer.build((0..3).map(transfer).collect(), now, proposer).unwrap();
    writer.proposal(&built.block_id.unwrap()).unwrap().clone()
}

fn receive(writer: &mut ChainWriter, block: &Block) -> Result<(), BlockFault> {
    let received = writer.receive(block.clone(), &mut |all| verify_transactions(all, None));
    received.unwrap().map(drop)
}

/// Exit code, what was printed on each side.
fn explain(path: &Path, more: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ait-node"))
        .arg("explain")
        .arg(path)
        .args(more)
        .current_dir(path.parent().unwrap())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn explain_json(path: &Path) -> (i32, Value) {
    let (code, said, _) = explain(path, &["--json"]);
    (code, serde_json::from_str(&said).unwrap())
}

/// The only file that a node kept in its data directory.
fn kept(data_dir: &Path) -> PathBuf {
    let entries = std::fs::read_dir(data_dir.join("divergence")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    paths.pop().unwrap()
}

#[test]
fn a_wrong_root_is_explained_with_both_values_on_any_machine() {
    let (document, directory) = (plan().document, tempfile::tempdir().unwrap());
    let good = block(&document);
    let mut writer = open(&document);
    for field in ["state_root", "outcomes_root"] {
        let mut wrong = good.clone();
        let (said, right) = match field {
            "state_root" => {
                wrong.header.state_root = StateRoot([7; 32]);
                (StateRoot([7; 32]).to_string(), good.header.state_root.to_string())
            }
            _ => {
                wrong.header.outcomes_root = Hash([7; 32]);
                (Hash([7; 32]).to_string(), good.header.outcomes_root.to_string())
            }
        };
        let Err(BlockFault::Diverged { reason }) = receive(&mut writer, &wrong) else {
            panic!("a wrong {field} is not noticed")
        };
        let divergence = writer.divergence(&wrong, &reason).unwrap();
        let path = divergence::write(directory.path(), &divergence).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = elsewhere.path().join("copy.ait");
        std::fs::copy(path, &copy).unwrap();

        let (code, text, error) = explain(&copy, &[]);
        assert_eq!(code, 1, "{text}{error}");
        for part in [&*format!("{field} differs"), &said, &right, "proven by", "transactions: 3"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(error.contains("block 1"), "{error}");
        let (code, json) = explain_json(&copy);
        assert_eq!((code, &json["ok"], &json["machines_agree"]), (1, &false.into(), &true.into()));
        let differences = json["differences"].as_array().unwrap();
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0]["field"], field);
        assert_eq!(differences[0]["header"], said);
        assert_eq!(
            (&differences[0]["here"], &differences[0]["when_made"]),
            (&right.clone().into(), &right.into())
        );
        assert_eq!(json["block_id"], wrong.header.id().to_string());
        assert_eq!(json["transactions"].as_array().unwrap().len(), 3);
        let alice = plan().names.resolve("alice").unwrap().to_string();
        let entries = json["entries"].as_array().unwrap();
        let alice = entries.iter().find(|entry| entry["id"] == alice).unwrap();
        assert_eq!((&alice["before"]["nonce"], &alice["here"]["nonce"]), (&0.into(), &3.into()));
    }
    assert_eq!(std::fs::read_dir(directory.path().join("divergence")).unwrap().count(), 2);
    // The same block with the right roots is good after all that.
    assert_eq!(receive(&mut writer, &good), Ok(()));
}

#[test]
fn exit_codes_tell_good_blocks_and_bad_files() {
    let (document, directory) = (plan().document, tempfile::tempdir().unwrap());
    let good = block(&document);
    let divergence = open(&document).divergence(&good, "nothing").unwrap();
    let path = divergence::write(directory.path(), &divergence).unwrap();
    let (code, json) = explain_json(&path);
    assert_eq!((code, &json["ok"], &json["state_proven"]), (0, &true.into(), &true.into()));
    assert!(json["differences"].as_array().unwrap().is_empty());
    assert!(explain(&path, &[]).1.contains("the header says what executing gives here"));

    // Control characters of a file do not reach the terminal.
    let mut rude = divergence.clone();
    rude.reason = "\u{1b}[2Jgone\nblock 9: fine".to_owned();
    rude.block.header.state_root = StateRoot([3; 32]);
    let path = divergence::write(directory.path(), &rude).unwrap();
    let (code, text, _) = explain(&path, &[]);
    assert_eq!(code, 1);
    assert!(!text.contains('\u{1b}') && !text.contains("\nblock 9"), "{text}");

    let mut forged = divergence;
    forged.block.transactions[0].fee = Amount::saturating(99);
    forged.block.header.state_root = StateRoot([4; 32]);
    let forged = divergence::write(directory.path(), &forged).unwrap();
    let cut = directory.path().join("cut.ait");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    for bad in [&forged, &cut, &directory.path().join("missing.ait")] {
        let (code, said, error) = explain(bad, &["--json"]);
        assert_eq!((code, said.as_str()), (2, ""), "{}: {error}", bad.display());
        let error: Value = serde_json::from_str(&error).unwrap();
        assert_eq!(error["code"], "bad_divergence_file");
    }
}

/// Two validators; the key of the one that proposes first, and the other's.
fn two_validators() -> (GenesisDocument, SecretKey, SecretKey) {
    let (mut document, first) = (plan().document, plan().validator);
    let second = SecretKey::from_seed([77; 32]);
    document.authorities.push(Authority {
        public_key: second.public_key(),
        weight: VotingPower::saturating(1),
        payout: None,
    });
    let proposer =
        open(&document).validators().proposer(Height::saturating(1), Round::ZERO).address();
    if proposer == first.public_key().address() {
        (document, first, second)
    } else {
        (document, second, first)
    }
}

#[test]
fn a_validator_executes_before_it_prevotes_and_prevotes_nil() {
    let directory = tempfile::tempdir().unwrap();
    let (document, theirs, ours) = two_validators();
    let (good, height) = (block(&document), Height::saturating(1));
    for is_wrong in [true, false] {
        let path = directory.path().join(is_wrong.to_string());
        std::fs::create_dir(&path).unwrap();
        let (writer, chain_id) = (open(&document), document.chain_id);
        let (address, key) = (ours.public_key().address(), SecretKey::from_seed(*ours.seed()));
        let (log, _) = FileLog::open(&path.join("consensus.log"), height).unwrap();
        let signer = FileSigner::open(&path.join("signer.record"), chain_id, key).unwrap();
        let config = ConsensusConfig::new(chain_id, address);
        let log = log.into_writer(None);
        let consensus = Consensus::new(config, height, writer.validators(), signer, log);
        let voter = Voter { consensus, address, first: height };
        let mempool = Arc::new(Mempool::new(MempoolLimits::default(), None));
        let clock: ait_node::ingress::Clock =
            Arc::new(|| TimestampMs::saturating((TIME + 2) * 1_000));
        let options = SequencerOptions::default();
        let mut core = SequencerCore::new(writer, Some(voter), mempool, clock, options);
        let now = Duration::from_secs(1);
        let mut effects = core.recover(None, now).unwrap();

        let mut block = good.clone();
        if is_wrong {
            block.header.state_root = StateRoot([7; 32]);
        }
        let block_id = block.header.id();
        let proposer = theirs.public_key().address();
        let proposal =
            ProposalMessage { height, round: Round::ZERO, pol_round: None, block_id, proposer };
        let signature = theirs.sign(proposal.sign_hash(&chain_id).as_bytes());
        let proposal = SignedProposal { proposal, signature };
        let from = PeerId([9; 32]);
        effects.extend(
            core.handle(now, Input::Body { from, proposal, block: Arc::new(block) }).unwrap(),
        );

        let mut prevotes = Vec::new();
        let mut diverged = Vec::new();
        for effect in effects {
            match effect {
                Effect::Publish(Message::Vote(signed)) if signed.vote.kind == VoteKind::Prevote => {
                    assert!(diverged.is_empty(), "the file delays the prevote");
                    prevotes.push(signed.vote.block_id);
                }
                Effect::Diverged { divergence } => diverged.push(divergence),
                Effect::Misbehaved { offence, .. } => panic!("{offence:?}"),
                _ => {}
            }
        }
        assert_eq!(prevotes, [Some(block_id).filter(|_| !is_wrong)]);
        assert_eq!(diverged.len(), usize::from(is_wrong));
        for divergence in diverged {
            assert_eq!(divergence.block.header.id(), block_id);
            assert!(divergence.reason.contains("state_root"), "{}", divergence.reason);
            let path = divergence::write(&path, &divergence).unwrap();
            assert_eq!(explain_json(&path).1["differences"][0]["field"], "state_root");
        }
    }
}

#[test]
fn a_node_keeps_the_file_of_a_certified_block_that_diverges_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (document, key) = (plan().document, plan().validator);
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [1; 32], build: &build };
    let options = NodeOptions::new(directory.path(), StorageEngine::Memory);
    let clock = ait_node::clock::system();
    let node = Node::start(&options, &source, plan().validator, &clock, &mut |_| {}).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let import = |block: Block| {
        let (height, block_id) = (block.header.height, block.header.id());
        let validator = key.public_key().address();
        let (kind, round) = (VoteKind::Precommit, Round::ZERO);
        let vote = Vote { kind, height, round, block_id: Some(block_id), validator };
        let signature = key.sign(vote.sign_hash(&document.chain_id).as_bytes());
        let signatures = vec![CommitSignature { validator, signature }];
        let certificate = Certificate::new(height, Round::ZERO, block_id, signatures);
        runtime.block_on(node.importer().import(ImportBlock { block, certificate }))
    };
    let good = block(&document);
    let mut wrong = good.clone();
    wrong.header.state_root = StateRoot([7; 32]);
    let refused = import(wrong);
    assert!(matches!(refused, Err(ImportError::BadRoot { .. })), "{refused:?}");
    let path = kept(directory.path());
    let (code, json) = explain_json(&path);
    assert_eq!((code, &json["differences"][0]["field"]), (1, &"state_root".into()));
    assert!(import(good).is_ok());
    assert_eq!((node.failure(), node.chain().head().height), (None, Height::saturating(1)));
    node.stop().unwrap();
}

#[test]
fn evidence_is_checked_and_explained_without_a_node() {
    let key = SecretKey::from_seed([7; 32]);
    let chain = ChainId::from_bytes(b"test").unwrap();
    let vote = |block: Option<BlockId>| {
        let vote = Vote {
            kind: VoteKind::Prevote,
            height: Height::saturating(3),
            round: Round::saturating(0),
            block_id: block,
            validator: key.public_key().address(),
        };
        SignedVote { vote, signature: key.sign(&vote.sign_hash(&chain).0) }
    };
    let found = Equivocation::Votes(vote(Some(BlockId([5; 32]))), vote(None));
    let folder = tempfile::tempdir().unwrap();
    let path = Evidence::new(chain, key.public_key(), &found).write(folder.path()).unwrap();
    let (code, said, _) = explain(&path, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("signed two prevotes at height 3, round 0") && said.contains("nil"));
    let (code, said) = explain_json(&path);
    assert_eq!((code, &said["validator"]), (0, &json!(key.public_key().address())));
    // One digit of a signature.
    let text = std::fs::read_to_string(&path).unwrap();
    let mut altered: Value = serde_json::from_str(&text).unwrap();
    let signature = altered["signed"][0]["signature"].as_str().unwrap().to_owned();
    let last = if signature.ends_with('0') { "1" } else { "0" };
    altered["signed"][0]["signature"] = json!(signature[..signature.len() - 1].to_owned() + last);
    std::fs::write(&path, altered.to_string()).unwrap();
    let (code, said, errors) = explain(&path, &[]);
    assert_eq!(code, 2, "{said}");
    assert!(errors.contains("evidence"), "{errors}");
}
