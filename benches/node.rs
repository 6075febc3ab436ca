//! The first end-to-end figure: signed transfers handed to a whole node in this process,
//! verified, ordered, executed, certified, durable, over a million accounts. One run:
//! `cargo bench --bench node`. Not criterion: a run is one long measurement of its own
//! chain, and what counts beside the rate is how long a transfer waits.
//!
//! `AIT_BENCH_TRANSFERS` and `AIT_BENCH_ACCOUNTS` change the size.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ait_node::chain::{ChainError, GenesisSource, StorageEngine};
use ait_node::node::{Node, NodeOptions};
use common::{account_count, genesis, transfers, validator};

const SENDERS: u64 = 20_000;
/// Transfers handed over at once.
const CHUNK: usize = 2_000;
/// Transfers that may be under way.
const UNDER_WAY: u64 = 40_000;

fn main() {
    // `cargo test` runs benches with this flag to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let accounts = account_count();
    let total = std::env::var("AIT_BENCH_TRANSFERS").map_or(400_000, |t| t.parse().unwrap());
    let document = genesis(accounts, SENDERS);
    let directory = tempfile::tempdir().unwrap();
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [7; 32], build: &build };
    let mut options = NodeOptions::new(directory.path(), StorageEngine::Redb);
    options.sequencer.block_interval = Duration::from_millis(1);
    options.sequencer.candidates_max = 10_000;
    options.ingress.queue_max = 100_000;
    let start = || {
        let clock = ait_node::clock::system();
        Node::start(&options, &source, validator(), &clock, &mut |_| {}).unwrap()
    };
    let node = start();
    let signed: Vec<_> =
        (0..total / SENDERS).flat_map(|nonce| transfers(accounts, SENDERS, nonce)).collect();
    let total = signed.len() as u64;
    println!("{total} transfers of {SENDERS} senders over {accounts} accounts");

    let mut events = node.chain().events();
    let hashes: Vec<_> = signed.iter().map(|transaction| transaction.hash()).collect();
    let watcher = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let mut blocks = 0_u64;
        while (seen.len() as u64) < total {
            let block = events.blocking_recv().unwrap();
            let now = Instant::now();
            blocks += 1;
            seen.extend(block.tx_hashes.iter().map(|hash| (*hash, now)));
        }
        (seen, blocks)
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let began = Instant::now();
    let mut sent = Vec::with_capacity(signed.len());
    let mut handed = 0_u64;
    let mut signed = signed.into_iter();
    loop {
        let chunk: Vec<_> = signed.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        handed += chunk.len() as u64;
        let now = Instant::now();
        sent.extend(chunk.iter().map(|_| now));
        for result in runtime.block_on(node.ingress().submit_many(chunk)) {
            result.unwrap();
        }
        while handed.saturating_sub(node.chain().head().transaction_total) > UNDER_WAY {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let (seen, blocks) = watcher.join().unwrap();
    let took = seen.last().unwrap().1 - began;
    let sent: HashMap<_, _> = hashes.into_iter().zip(sent).collect();
    let mut waits: Vec<Duration> = seen.iter().map(|(hash, at)| *at - sent[hash]).collect();
    waits.sort_unstable();
    let at = |per_cent: usize| waits[(waits.len() - 1) * per_cent / 100];
    println!("{:.0} durable transfers a second ({took:.2?})", total as f64 / took.as_secs_f64());
    println!("from handing over to known: p50 {:.1?}, p99 {:.1?}", at(50), at(99));
    println!("{blocks} blocks, {} transfers each on average", total / blocks);
    node.stop().unwrap();
    let began = Instant::now();
    let node = start();
    println!("started again in {:.2?}", began.elapsed());
    node.stop().unwrap();
}
