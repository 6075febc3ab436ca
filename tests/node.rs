//! A whole node in this process, on real database files: blocks, proofs, restarts.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ait_engine::block::CertifiedBlock;
use ait_engine::crypto::SecretKey;
use ait_engine::params::{ParamChange, ParamSet};
use ait_engine::state::{Account, Claim, Key};
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, Height, Nonce, Round};
use ait_net::rest::{RestClient, RestError};
use ait_net::wire::Health;
use ait_node::chain::{ChainError, ChainOptions, CheckpointPolicy, GenesisSource, StorageEngine};
use ait_node::config::{Layers, NodeConfig};
use ait_node::devnet::DevnetPlan;
use ait_node::disk::Shortage;
use ait_node::health::{Looked, Watchdog};
use ait_node::mempool::TxStatus;
use ait_node::node::{Node, NodeError, NodeOptions};
use ait_storage::{Batch, Durability, KeyRange, RedbOptions, RedbStorage, Storage, Table};

const SEED: [u8; 32] = [42; 32];

fn start_as(path: &Path, timestamp: u64, engine: StorageEngine) -> Result<Node, NodeError> {
    start_with(path, timestamp, engine, |_| ())
}

fn start_with(
    path: &Path,
    timestamp: u64,
    engine: StorageEngine,
    change: impl FnOnce(&mut NodeOptions),
) -> Result<Node, NodeError> {
    let plan = DevnetPlan::new(SEED, timestamp).unwrap();
    let document = plan.document.clone();
    let text = serde_json::to_vec(&document).unwrap();
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: GenesisSource::fingerprint(&text), build: &build };
    let mut options = NodeOptions::new(path, engine);
    options.sequencer.block_interval = Duration::from_millis(1);
    options.chain = ChainOptions {
        checkpoints: CheckpointPolicy { blocks: 3, entries: 1_000_000 },
        ..ChainOptions::default()
    };
    change(&mut options);
    Node::start(&options, &source, plan.validator, &ait_node::clock::system(), &mut |_| {})
}

fn start(path: &Path) -> Node {
    start_as(path, 1_700_000_000, StorageEngine::Redb).unwrap()
}

fn alice() -> SecretKey {
    DevnetPlan::new(SEED, 1_700_000_000).unwrap().names.secret_key("alice")
}

fn transfer(node: &Node, nonce: u64, to: Address) -> Transaction {
    let payload = Payload::Transfer { to, amount: Amount::saturating(10) };
    let nonce = Nonce::saturating(nonce);
    Transaction::sign(
        &alice(),
        node.chain().chain_id(),
        nonce,
        Amount::saturating(1),
        None,
        payload,
    )
}

fn nonce(node: &Node) -> u64 {
    let address = alice().public_key().address();
    node.chain().account(&address).unwrap().unwrap().nonce.get()
}

fn wait_for_nonce(node: &Node, wanted: u64) {
    let began = Instant::now();
    while nonce(node) < wanted || node.chain().head().transaction_total < wanted {
        assert_eq!(node.failure(), None);
        assert!(began.elapsed() < Duration::from_secs(60), "stuck at nonce {}", nonce(node));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn submit(node: &Node, transactions: Vec<Transaction>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for result in runtime.block_on(node.ingress().submit_many(transactions)) {
        result.unwrap();
    }
}

/// Every block is certified, the supply is conserved, the newest balance is provable.
fn check(node: &Node) {
    let chain = node.chain();
    assert!(chain.wait_until_indexed(Duration::from_secs(30)));
    let began = Instant::now();
    while !chain.index().is_listed().unwrap() {
        assert!(began.elapsed() < Duration::from_secs(30), "the list of accounts stays behind");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (validators, head) = (chain.validators().unwrap(), chain.head().height);
    for height in 1..=head.get() {
        let block = chain.block(Height::saturating(height)).unwrap().unwrap();
        assert!(!block.tx_hashes.is_empty(), "an empty block at {height}");
        let certificate = block.certificate.clone().unwrap();
        CertifiedBlock::verify(block.block.clone(), certificate, &validators).unwrap();
    }
    let count = chain.index().account_count().unwrap();
    let all = chain.index().richest(Amount::ZERO, None, 1_000).unwrap();
    assert_eq!(all.len() as u64, count);
    let sum: u64 = all.iter().map(|(_, balance)| balance.get()).sum();
    assert_eq!(sum, chain.supply().unwrap().total.get());
    for (address, balance) in &all {
        let proven = chain.prove(&Key::account(address)).unwrap();
        let claim = proven.proof.verify(&proven.header.state_root, &Key::account(address)).unwrap();
        let Claim::Present(value) = claim else { panic!("{address} is not in the state") };
        assert_eq!(Account::try_from(&value).unwrap().balance, *balance);
    }
}

#[test]
fn neither_threads_nor_memory_change_a_root() {
    let names = ["alice", "bob", "carol"];
    let plan = DevnetPlan::new(SEED, 1_700_000_000).unwrap();
    let addresses = names.map(|name| plan.names.resolve(name).unwrap());
    let sign = |at: u64, chain_id| {
        let (from, nonce) = ((at % 3) as usize, at / 3);
        let (to, amount) =
            (addresses[(from + 1 + (nonce % 2) as usize) % 3], Amount::saturating(1 + at));
        let (key, payload) = (plan.names.secret_key(names[from]), Payload::Transfer { to, amount });
        Transaction::sign(
            &key,
            chain_id,
            Nonce::saturating(nonce),
            Amount::saturating(1),
            None,
            payload,
        )
    };
    // Threads, and bytes of pages in memory: with none every page is read from disk again.
    let ends = [(1, 1 << 30), (2, 0), (8, 1 << 30), (8, 0)].map(|(threads, state_bytes)| {
        let directory = tempfile::tempdir().unwrap();
        let node = start_with(directory.path(), 1_700_000_000, StorageEngine::Redb, |options| {
            options.ingress.threads = threads;
            options.chain.state_bytes = state_bytes;
        })
        .unwrap();
        let chain_id = node.chain().chain_id();
        for part in (0..1_500_u64).collect::<Vec<_>>().chunks(150) {
            submit(&node, part.iter().map(|at| sign(*at, chain_id)).collect());
        }
        let began = Instant::now();
        while node.chain().head().transaction_total < 1_500 {
            assert!(began.elapsed() < Duration::from_secs(60), "stuck");
            std::thread::sleep(Duration::from_millis(2));
        }
        check(&node);
        let head = node.chain().head();
        node.stop().unwrap();
        head.header.state_root
    });
    assert_eq!(ends, [ends[0]; 4]);
}

#[test]
fn makes_certified_blocks_and_goes_on_after_every_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut sent = 0;
    for round in 0..5_u8 {
        let node = start(directory.path());
        assert_eq!(nonce(&node), sent, "a restart lost or repeated something");
        for _ in 0..4 {
            let to = |n: u64| Address([round + 1 + (n % 7) as u8; 32]);
            let batch = (sent..sent + 5).map(|n| transfer(&node, n, to(n))).collect();
            submit(&node, batch);
            sent += 5;
            wait_for_nonce(&node, sent);
        }
        check(&node);
        node.stop().unwrap();
    }
    let node = start(directory.path());
    assert!(node.chain().wait_until_indexed(Duration::from_secs(30)));
    let newest = node.chain().index().transactions(0, 500).unwrap();
    assert_eq!(newest.len() as u64, sent);
    assert!(newest.is_sorted_by(|a, b| a > b));
    assert_eq!(node.chain().index().transactions(3, 2).unwrap(), newest[3..5]);
}

#[test]
fn an_idle_chain_makes_no_block() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(node.chain().head().height, Height::ZERO);
}

#[test]
fn accepted_transactions_survive_a_restart_before_their_block() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    // Behind a gap, so that no block takes it yet.
    submit(&node, vec![transfer(&node, 1, Address([9; 32]))]);
    node.stop().unwrap();
    let node = start(directory.path());
    assert_eq!(node.mempool().len(), 1);
    submit(&node, vec![transfer(&node, 0, Address([9; 32]))]);
    wait_for_nonce(&node, 2);
}

/// Everything that the index says of every account.
fn holdings(node: &Node) -> Vec<(Address, Amount, ait_node::chain::AccountStats)> {
    let chain = node.chain();
    let richest = chain.index().richest(Amount::ZERO, None, 100).unwrap().into_iter();
    richest
        .map(|(address, balance)| {
            let account = chain.account(&address).unwrap().unwrap();
            let stats = chain.index().account(&address, &account).unwrap().unwrap();
            assert_eq!(stats.balance, balance);
            (address, balance, stats)
        })
        .collect()
}

#[test]
fn a_deleted_index_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    for n in 0..10 {
        submit(&node, vec![transfer(&node, n, Address([7; 32]))]);
        wait_for_nonce(&node, n + 1);
    }
    assert!(node.chain().wait_until_indexed(Duration::from_secs(30)));
    let before = holdings(&node);
    node.stop().unwrap();
    std::fs::remove_file(directory.path().join("chain/index.redb")).unwrap();
    let node = start(directory.path());
    assert!(node.chain().wait_until_indexed(Duration::from_secs(30)));
    assert_eq!(holdings(&node), before);
    assert!(before.iter().any(|(_, _, stats)| stats.received == 10));
    check(&node);
}

#[test]
fn an_index_that_is_off_is_not_written_and_catches_up_once_it_is_on() {
    let directory = tempfile::tempdir().unwrap();
    let started = |index| {
        let change = |options: &mut NodeOptions| options.chain.index = index;
        start_with(directory.path(), 1_700_000_000, StorageEngine::Redb, change).unwrap()
    };
    let is_written = || {
        let path = directory.path().join("chain/index.redb");
        let storage = RedbStorage::open(&path, &RedbOptions::default()).unwrap();
        storage.stats().unwrap().iter().any(|table| table.entries > 0)
    };
    let (mut sent, mut hashes) = (0, Vec::new());
    let mut send = |node: &Node| {
        let new: Vec<_> = (sent..sent + 5).map(|n| transfer(node, n, Address([7; 32]))).collect();
        hashes.extend(new.iter().map(Transaction::hash));
        submit(node, new);
        sent += 5;
        wait_for_nonce(node, sent);
        hashes.clone()
    };
    let node = started(false);
    let hashes = send(&node);
    let (chain, index) = (node.chain(), node.chain().index());
    let off = "index_disabled";
    assert_eq!(index.transaction(&hashes[0]).unwrap_err().code(), off);
    assert_eq!(index.transactions(0, 1).unwrap_err().code(), off);
    assert_eq!(index.richest(Amount::ZERO, None, 1).unwrap_err().code(), off);
    assert_eq!(index.receipt_count().unwrap_err().code(), off);
    assert_eq!(chain.height_of(&chain.head().block_id).unwrap_err().code(), off);
    let alice = alice().public_key().address();
    let account = chain.account(&alice).unwrap().unwrap();
    assert_eq!(index.account(&alice, &account).unwrap(), None);
    assert!(!chain.wait_until_indexed(Duration::from_secs(60)), "there is nothing to wait for");
    node.stop().unwrap();
    assert!(!is_written());

    // On, off for a while, and on again.
    let node = started(true);
    send(&node);
    check(&node);
    assert_eq!(node.chain().index().transaction_count().unwrap(), 10);
    node.stop().unwrap();
    let node = started(false);
    assert_eq!(node.chain().head().transaction_total, 10);
    let hashes = send(&node);
    assert_eq!(node.chain().index().transaction(&hashes[0]).unwrap_err().code(), off);
    node.stop().unwrap();
    assert!(is_written());
    let node = started(true);
    check(&node);
    for hash in &hashes {
        assert!(node.chain().index().transaction(hash).unwrap().is_some());
    }
    assert_eq!(node.chain().index().transaction_count().unwrap(), 15);
}

#[test]
fn an_index_of_an_older_version_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    submit(&node, (0..10).map(|n| transfer(&node, n, Address([7; 32]))).collect());
    wait_for_nonce(&node, 10);
    assert!(node.chain().wait_until_indexed(Duration::from_secs(30)));
    let before = holdings(&node);
    node.stop().unwrap();
    let path = directory.path().join("chain/index.redb");
    let old = Table::new("tx_locations");
    {
        // The meta row of the first version stood in another table, beside others that are gone.
        let storage = RedbStorage::open(&path, &RedbOptions::default()).unwrap();
        let mut batch = Batch::new();
        batch.delete_range(Table::new("index"), KeyRange::all());
        batch.put(Table::new("index_meta"), [], [1; 40]);
        batch.put(old, [1; 32], [2; 12]);
        storage.commit(batch, Durability::Immediate).unwrap();
    }
    let node = start(directory.path());
    assert!(node.chain().wait_until_indexed(Duration::from_secs(30)));
    assert_eq!(holdings(&node), before);
    check(&node);
    node.stop().unwrap();
    let storage = RedbStorage::open(&path, &RedbOptions::default()).unwrap();
    assert!(storage.snapshot().unwrap().first(old, KeyRange::all()).unwrap().is_none());
}

#[test]
fn refuses_the_database_of_another_chain_and_a_second_process() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let second = start_as(directory.path(), 1_700_000_000, StorageEngine::Redb);
    assert!(matches!(second, Err(NodeError::Chain(ChainError::Storage(_)))));
    node.stop().unwrap();
    let other = start_as(directory.path(), 1_700_000_001, StorageEngine::Redb);
    assert!(matches!(other, Err(NodeError::Chain(ChainError::OtherChain { .. }))));
}

#[test]
fn both_storage_engines_give_the_same_roots() {
    let root = |engine| {
        let directory = tempfile::tempdir().unwrap();
        let node = start_as(directory.path(), 1_700_000_000, engine).unwrap();
        for n in 0..8 {
            submit(&node, vec![transfer(&node, n, Address([n as u8 + 1; 32]))]);
            wait_for_nonce(&node, n + 1);
        }
        check(&node);
        node.chain().head().header.state_root
    };
    assert_eq!(root(StorageEngine::Redb), root(StorageEngine::Memory));
}

#[test]
fn readiness_fails_with_the_reason_when_the_height_should_move_and_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let config = NodeConfig::from_layers(&Layers::with_defaults(&[(
        "rpc.bind",
        toml::Value::from("127.0.0.1:0"),
    )]))
    .unwrap();
    let page = ait_node::telemetry::metrics::install(false).unwrap();
    let mut backend = node.backend(&ait_node::clock::system(), page);
    // As if the upkeep had seen work and no block for a minute.
    let (now, height) = (Instant::now(), Height::ZERO);
    let health = Arc::new(Watchdog::new(Duration::from_secs(1), height, now));
    backend.health = Arc::clone(&health);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (address, _task) =
            ait_node::rpc::serve(config.rpc, backend, std::future::pending()).await.unwrap();
        let client = RestClient::new(&format!("http://{address}")).unwrap();
        let ask = async |path: &str| match client.get::<Health>(path).await {
            Ok(health) => (200, health.status),
            Err(RestError::Refused { status, body }) => (status, body.detail),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(ask("/readyz").await, (200, "ok".to_owned()));
        let stuck = Looked { height, has_work: true, ..Looked::default() };
        health.observe(now.checked_sub(Duration::from_secs(60)).unwrap(), stuck.clone());
        health.observe(now, stuck);
        let (status, reason) = ask("/readyz").await;
        assert_eq!(status, 503);
        assert!(reason.contains("no block was made for 6"), "{reason}");
        assert_eq!(ask("/health").await, (200, "stalled".to_owned()));
        let shortage = Shortage::Full { free_bytes: 5, needed_bytes: 9 };
        let paused =
            Looked { height, has_work: true, shortage: Some(shortage), ..Looked::default() };
        health.observe(now, paused);
        assert_eq!(ask("/readyz").await, (503, shortage.to_string()));
        // A paused node is to go on: it serves what it has.
        assert_eq!(ask("/health").await, (200, "disk_full".to_owned()));
        let failure = Some("a part ended".to_owned());
        health.observe(now, Looked { height, failure, ..Looked::default() });
        assert_eq!(ask("/readyz").await, (503, "a part ended".to_owned()));
        assert_eq!(ask("/health").await.0, 503);
    });
    runtime.shutdown_background();
}

#[test]
fn what_the_builder_refuses_starts_no_height() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let plan = DevnetPlan::new(SEED, 1_700_000_000).unwrap();
    let send = |key: &SecretKey, nonce: u64, fee: u64, payload: Payload| {
        let (nonce, fee) = (Nonce::saturating(nonce), Amount::saturating(fee));
        let chain_id = node.chain().chain_id();
        let transaction = Transaction::sign(key, chain_id, nonce, fee, None, payload);
        let hash = transaction.hash();
        submit(&node, vec![transaction]);
        hash
    };
    let to = Address([9; 32]);
    let payload = || Payload::Transfer { to, amount: Amount::saturating(1) };
    // It waits for nonce 0; meanwhile its fee becomes too low.
    let poor = send(&alice(), 1, 1, payload());
    let change = ParamChange::Param { name: "min_fee_base".to_owned(), value: 100 };
    let set = Payload::ParamSet(ParamSet::new(vec![change]).unwrap());
    send(&plan.governor, 0, 0, set);
    let began = Instant::now();
    while node.chain().head().height.get() == 0 {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(2));
    }
    send(&alice(), 0, 200, payload());
    while !matches!(node.mempool().status(&poor), TxStatus::Dropped(_)) {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", node.mempool().status(&poor));
        std::thread::sleep(Duration::from_millis(2));
    }
    wait_for_nonce(&node, 1);
    // Time for time-outs to run, if a height had been started with nothing to propose.
    std::thread::sleep(Duration::from_secs(4));
    let height = node.chain().head().height;
    send(&alice(), 1, 200, payload());
    wait_for_nonce(&node, 2);
    let next = height.next().unwrap();
    let certificate = node.chain().certificate(next).unwrap().unwrap();
    assert_eq!(certificate.round, Round::ZERO);
}
