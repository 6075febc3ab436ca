//! What the chain on real database files costs with a million accounts: a block of
//! 10,000 transfers built, made durable and indexed; checkpoints; opening it again. One
//! run, one line a step: `cargo bench --bench chain`. Not criterion, because each step
//! changes the chain and most happen once.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;

use std::time::{Duration, Instant};

use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{BlockId, Height, Round, TimestampMs};
use ait_engine::vote::{Vote, VoteKind};
use ait_node::chain::{
    self, ChainError, ChainOptions, ChainWriter, GenesisSource, StorageEngine, Stores,
    StoresOptions,
};
use common::{account_count, genesis, transfers, validator};

const SENDERS: u64 = 10_000;
const BLOCKS: u64 = 30;

fn certify(writer: &ChainWriter, block_id: BlockId) -> Certificate {
    let (key, height) = (validator(), writer.height().next().unwrap());
    let address = key.public_key().address();
    let vote = Vote {
        kind: VoteKind::Precommit,
        height,
        round: Round::ZERO,
        block_id: Some(block_id),
        validator: address,
    };
    let signature = key.sign(vote.sign_hash(&common::chain()).as_bytes());
    let signature = CommitSignature { validator: address, signature };
    Certificate::new(height, Round::ZERO, block_id, vec![signature])
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    // `cargo test` runs benches with this flag to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let accounts = account_count();
    let document = genesis(accounts, SENDERS);
    let directory = tempfile::tempdir().unwrap();
    let options = StoresOptions {
        engine: StorageEngine::Redb,
        directory: directory.path().to_owned(),
        cache_bytes: 512 << 20,
        verify: false,
    };
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [7; 32], build: &build };
    let open = || {
        let stores = Stores::open(&options).unwrap();
        chain::open(&stores, &source, &ChainOptions::default(), &mut |_| {}).unwrap()
    };
    let began = Instant::now();
    let mut writer = open();
    println!("genesis of {accounts} accounts written in {:.2?}", began.elapsed());
    let proposer = validator().public_key().address();
    let (mut built, mut committed, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for nonce in 0..BLOCKS {
        let candidates = transfers(accounts, SENDERS, nonce)
            .into_iter()
            .map(VerifiedTransaction::assume_verified)
            .collect();
        let now = TimestampMs::saturating(1_700_000_001_000 + nonce);
        let began = Instant::now();
        let block = writer.build(candidates, now, proposer).unwrap().block_id.unwrap();
        built.push(began.elapsed());
        let certificate = certify(&writer, block);
        let began = Instant::now();
        writer.commit(certificate).unwrap();
        committed.push(began.elapsed());
        let began = Instant::now();
        writer.wait_until_indexed().unwrap();
        known.push(began.elapsed());
    }
    println!("{BLOCKS} blocks of {SENDERS} transfers, medians:");
    println!("  build, execute, commit to state, store body  {:.2?}", median(built));
    println!("  commit durably                               {:.2?}", median(committed));
    println!("  index behind the commit point                {:.2?}", median(known));
    let (checkpoint, in_memory) = writer.chain().checkpoint();
    println!("  state on disk at height {checkpoint}, {in_memory} entries in memory");
    drop(writer);
    let began = Instant::now();
    let writer = open();
    assert_eq!(writer.height(), Height::saturating(BLOCKS));
    println!("opened again in {:.2?} ({BLOCKS} blocks after the checkpoint)", began.elapsed());
    drop(writer);
    for name in ["blocks", "state", "index"] {
        let path = directory.path().join(format!("{name}.redb"));
        println!("{name}.redb: {} MB", path.metadata().unwrap().len() >> 20);
    }
}
