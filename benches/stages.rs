//! What each stage of the pipeline costs on real database files, and all of them together,
//! with states of two sizes: `cargo bench --bench stages`. Every figure is of blocks of
//! 10,000 transfers, or of that many transactions.
//!
//! `AIT_BENCH_ACCOUNTS` changes the greater size.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench, and criterion's macros")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ait_engine::block::{Block, CertifiedBlock};
use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::codec::Canonical;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{BlockId, Round, TimestampMs};
use ait_engine::vote::{Vote, VoteKind};
use ait_node::chain::{
    self, ChainError, ChainOptions, ChainWriter, CommittedBlock, GenesisSource, StorageEngine,
    Stores, StoresOptions,
};
use ait_node::mempool::{Candidate, Mempool, MempoolLimits, Rules};
use ait_node::node::{Node, NodeOptions};
use common::{account_count, genesis, transfers, validator};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;

/// Senders, and transfers of a block: one of each.
const TRANSFERS: u64 = 10_000;
const SMALL: u64 = 20_000;

/// A chain on database files that goes on with every measurement.
struct World {
    writer: ChainWriter,
    accounts: u64,
    nonce: u64,
    _directory: TempDir,
}

/// What one block took.
#[derive(Clone, Copy)]
struct Took {
    build: Duration,
    commit: Duration,
    index: Duration,
}

/// The part of a block's time that is measured.
type Part = fn(Took) -> Duration;

impl World {
    fn new(accounts: u64) -> Self {
        let document = genesis(accounts, TRANSFERS);
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores::open(&StoresOptions {
            engine: StorageEngine::Redb,
            directory: directory.path().to_owned(),
            cache_bytes: 512 << 20,
            verify: false,
        });
        let build = || document.build().map_err(ChainError::from);
        let source = GenesisSource { fingerprint: [7; 32], build: &build };
        let options = ChainOptions::default();
        let writer = chain::open(&stores.unwrap(), &source, &options, &mut |_| {}).unwrap();
        writer.wait_until_indexed().unwrap();
        Self { writer, accounts, nonce: 0, _directory: directory }
    }

    /// The next transfer of every sender.
    fn transfers(&mut self) -> Vec<VerifiedTransaction> {
        let signed = transfers(self.accounts, TRANSFERS, self.nonce);
        self.nonce += 1;
        signed.into_iter().map(VerifiedTransaction::assume_verified).collect()
    }

    fn block(&mut self) -> (Took, Arc<CommittedBlock>) {
        let candidates = self.transfers();
        let now = TimestampMs::saturating(1_700_000_001_000 + self.nonce);
        let proposer = validator().public_key().address();
        let began = Instant::now();
        let built = self.writer.build(candidates, now, proposer).unwrap();
        let build = began.elapsed();
        let certificate = certify(&self.writer, built.block_id.unwrap());
        let began = Instant::now();
        let block = self.writer.commit(certificate).unwrap();
        let commit = began.elapsed();
        let began = Instant::now();
        self.writer.wait_until_indexed().unwrap();
        (Took { build, commit, index: began.elapsed() }, block)
    }
}

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

/// A figure that each run of `measure` gives once.
fn each(mut measure: impl FnMut() -> Duration) -> impl FnMut(u64) -> Duration {
    move |times| (0..times).map(|_| measure()).sum()
}

fn mempool(criterion: &mut Criterion, world: &mut World) {
    let chain = world.writer.chain().clone();
    let transactions: Vec<_> = world.transfers().into_iter().map(Arc::new).collect();
    let senders: Vec<_> = transactions.iter().map(|one| one.sender()).collect();
    let accounts = chain.accounts(&senders).unwrap();
    let rules = Rules {
        chain_id: chain.chain_id(),
        head: chain.state_height(),
        settings: chain.settings().unwrap(),
    };
    let candidates = || {
        let pairs = transactions.iter().zip(&accounts);
        let candidate = |(transaction, account): (&Arc<VerifiedTransaction>, &Option<_>)| {
            let (transaction, account) = (Arc::clone(transaction), account.unwrap());
            Candidate { transaction, account, added_at: TimestampMs::saturating(7) }
        };
        pairs.map(candidate).collect::<Vec<_>>()
    };
    let filled = || {
        let mempool = Mempool::new(MempoolLimits::default(), None);
        let began = Instant::now();
        for result in mempool.insert_batch(candidates(), &rules) {
            result.unwrap();
        }
        (began.elapsed(), mempool)
    };
    let mut group = criterion.benchmark_group("mempool");
    group.sample_size(10).throughput(Throughput::Elements(TRANSFERS));
    let count = usize::try_from(TRANSFERS).unwrap();
    group.bench_function("insert", |b| b.iter_custom(each(|| filled().0)));
    let full = filled().1;
    group.bench_function("select", |b| b.iter(|| black_box(full.select(count, u64::MAX)).len()));
    world.nonce -= 1;
    let (_, block) = world.block();
    group.bench_function("settle", |b| {
        b.iter_custom(each(|| {
            let mempool = filled().1;
            let began = Instant::now();
            let now = TimestampMs::saturating(8);
            mempool.on_block(&block, world.writer.changed(), now);
            assert!(!mempool.has_executable());
            began.elapsed()
        }));
    });
    group.finish();
}

fn encoding(criterion: &mut Criterion, block: &Block) {
    let bytes = block.encode();
    let mut group = criterion.benchmark_group("encoding");
    group.sample_size(10).throughput(Throughput::Elements(TRANSFERS));
    group.bench_function("encode", |b| b.iter(|| black_box(block).encode().len()));
    group.bench_function("decode", |b| b.iter(|| Block::decode(black_box(&bytes)).unwrap()));
    group.finish();
}

fn certificate(criterion: &mut Criterion, world: &World, block: &CommittedBlock) {
    let (certificate, set) =
        (block.certificate.clone().unwrap(), world.writer.chain().validators().unwrap());
    let mut group = criterion.benchmark_group("certificate");
    group.sample_size(10).throughput(Throughput::Elements(TRANSFERS));
    group.bench_function("verify with the body", |b| {
        b.iter_custom(each(|| {
            let (block, certificate) = (block.block.clone(), certificate.clone());
            let began = Instant::now();
            black_box(CertifiedBlock::verify(block, certificate, &set).unwrap());
            began.elapsed()
        }));
    });
    group.finish();
}

fn stages(criterion: &mut Criterion) {
    for accounts in [SMALL, account_count()] {
        let mut world = World::new(accounts);
        let mut group = criterion.benchmark_group("block");
        group.sample_size(10).throughput(Throughput::Elements(TRANSFERS));
        let parts: [(&str, Part); 3] = [
            ("execute, commit to state, store body", |took| took.build),
            ("commit durably", |took| took.commit),
            ("index behind the commit point", |took| took.index),
        ];
        for (name, part) in parts {
            let id = BenchmarkId::new(name, accounts);
            group.bench_function(id, |b| b.iter_custom(each(|| part(world.block().0))));
        }
        group.finish();
        if accounts != SMALL {
            let (_, block) = world.block();
            encoding(criterion, &block.block);
            certificate(criterion, &world, &block);
            mempool(criterion, &mut world);
        }
    }
}

/// Transfers handed to a whole node until all are final: verified, ordered, executed,
/// certified, durable. The indexes run behind.
fn node(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    for accounts in [SMALL, account_count()] {
        let document = genesis(accounts, TRANSFERS);
        let directory = tempfile::tempdir().unwrap();
        let build = || document.build().map_err(ChainError::from);
        let source = GenesisSource { fingerprint: [7; 32], build: &build };
        let mut options = NodeOptions::new(directory.path(), StorageEngine::Redb);
        options.sequencer.block_interval = Duration::from_millis(1);
        options.ingress.queue_max = 100_000;
        let clock = ait_node::clock::system();
        let node = Node::start(&options, &source, validator(), &clock, &mut |_| {}).unwrap();
        let mut nonce = 0;
        let mut group = criterion.benchmark_group("node");
        group.sample_size(10).throughput(Throughput::Elements(TRANSFERS));
        group.bench_function(BenchmarkId::new("end to end", accounts), |b| {
            b.iter_custom(each(|| {
                let signed = transfers(accounts, TRANSFERS, nonce);
                nonce += 1;
                let began = Instant::now();
                for result in runtime.block_on(node.ingress().submit_many(signed)) {
                    result.unwrap();
                }
                while node.chain().head().transaction_total < nonce * TRANSFERS {
                    std::thread::sleep(Duration::from_micros(100));
                }
                began.elapsed()
            }));
        });
        group.finish();
        node.stop().unwrap();
    }
}

criterion_group!(benches, stages, node);
criterion_main!(benches);
