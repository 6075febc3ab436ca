//! What this validator signed is in its record before anything that would let the log of the
//! height go: a record that stays behind would let it sign something else there.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use ait_engine::crypto::Signature;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Amount, Height, Nonce, TimestampMs};
use ait_engine::vote::{ProposalMessage, Vote};
use ait_node::chain::{self, ChainError, ChainOptions, GenesisSource, Stores};
use ait_node::consensus::{Consensus, ConsensusConfig, FileLog, FileSigner, VoteSigner};
use ait_node::devnet::DevnetPlan;
use ait_node::disk::WriteFault;
use ait_node::mempool::{Candidate, Mempool, MempoolLimits, Rules};
use ait_node::sequencer::{Effect, Input, SequencerCore, SequencerOptions, Voter};
use ait_storage::{KeyRange, Storage, Table};

const TIME_S: u64 = 1_700_000_000;

/// A signer that looks what the store of blocks has when the record is to be synced.
struct Watching {
    inner: FileSigner,
    blocks: Arc<dyn Storage>,
    signed: Option<Height>,
}

impl VoteSigner for Watching {
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, WriteFault> {
        self.signed = Some(vote.height);
        self.inner.sign_vote(vote)
    }

    fn sign_proposal(&mut self, proposal: &ProposalMessage) -> Result<Signature, WriteFault> {
        self.signed = Some(proposal.height);
        self.inner.sign_proposal(proposal)
    }

    fn flush(&mut self) -> Result<(), WriteFault> {
        let Some(height) = self.signed.take() else { return Ok(()) };
        // Long enough for another thread to be faster, if it were allowed to.
        std::thread::sleep(Duration::from_millis(30));
        let last = self.blocks.snapshot().unwrap().last(Table::new("blocks"), KeyRange::all());
        let stored =
            last.unwrap().map_or(0, |(key, _)| u64::from_be_bytes((*key).try_into().unwrap()));
        assert!(stored < height.get(), "the store has {stored} before the record has its votes");
        self.inner.flush()
    }
}

#[test]
fn the_store_has_a_block_only_once_the_record_has_its_votes() {
    let directory = tempfile::tempdir().unwrap();
    let plan = DevnetPlan::new([42; 32], TIME_S).unwrap();
    let chain_id = plan.document.chain_id;
    let build = || plan.document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [1; 32], build: &build };
    let stores = Stores::memory();
    let writer = chain::open(&stores, &source, &ChainOptions::default(), &mut |_| {}).unwrap();
    let (address, first) = (plan.validator.public_key().address(), Height::saturating(1));
    let (log, _) = FileLog::open(&directory.path().join("consensus.log"), first).unwrap();
    let record = directory.path().join("signer.record");
    let inner = FileSigner::open(&record, chain_id, plan.validator).unwrap();
    let blocks = Arc::clone(&stores.blocks);
    let signer = Watching { inner, blocks, signed: None };
    let config = ConsensusConfig::new(chain_id, address);
    let set = writer.validators();
    let consensus = Consensus::new(config, first, set, signer, log.into_writer(None));
    let voter = Voter { consensus, address, first };
    let mempool = Arc::new(Mempool::new(MempoolLimits::default(), None));
    let clock: ait_node::ingress::Clock =
        Arc::new(|| TimestampMs::saturating((TIME_S + 2) * 1_000));
    let options = SequencerOptions::default();
    let mut core = SequencerCore::new(writer, Some(voter), Arc::clone(&mempool), clock, options);
    core.recover(None, Duration::ZERO).unwrap();
    let alice = plan.names.secret_key("alice");
    for number in 0..3 {
        let to = plan.names.resolve("somebody").unwrap();
        let payload = Payload::Transfer { to, amount: Amount::saturating(5) };
        let (nonce, fee) = (Nonce::saturating(number), Amount::saturating(1));
        let signed = Transaction::sign(&alice, chain_id, nonce, fee, None, payload);
        let transaction = Arc::new(VerifiedTransaction::assume_verified(signed));
        let chain = core.writer().chain();
        let account = chain.account(&transaction.sender()).unwrap().unwrap();
        let (head, settings) = (chain.state_height(), chain.settings().unwrap());
        let rules = Rules { chain_id, head, settings };
        let added_at = TimestampMs::saturating(7);
        mempool.insert(Candidate { transaction, account, added_at }, &rules).unwrap();
        let now = Duration::from_secs(60 * (number + 1));
        let effects = core.handle(now, Input::Tick).unwrap();
        let is_committed = |effect: &Effect| matches!(effect, Effect::Committed(_));
        assert!(effects.iter().any(is_committed), "{effects:?}");
        core.writer().settle().unwrap();
        assert_eq!(FileSigner::inspect(&record).unwrap().unwrap().height.get(), number + 1);
    }
}
