//! Tests of the way in, with real signatures over a state that a test sets.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use ait_engine::crypto::SecretKey;
use ait_engine::execute::Refusal;
use ait_engine::params::Settings;
use ait_engine::state::Account;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Amount, ChainId, Height, Nonce, TimestampMs, TxHash};
use ait_net::peer::Tally;
use tokio::sync::oneshot;

use super::line::Line;
use super::worker::Job;
use super::*;
use crate::gossip::judge;
use crate::mempool::{Journal, MempoolLimits, TxStatus};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn address(seed: u8) -> Address {
    key(seed).public_key().address()
}

fn amount(value: u64) -> Amount {
    Amount::new(value).unwrap()
}

fn chain_id() -> ChainId {
    ChainId::from_bytes(b"test").unwrap()
}

fn signed(seed: u8, nonce: u64, payload: Payload) -> Transaction {
    let nonce = Nonce::new(nonce).unwrap();
    Transaction::sign(&key(seed), chain_id(), nonce, amount(10), None, payload)
}

fn transfer(seed: u8, nonce: u64) -> Transaction {
    signed(seed, nonce, Payload::Transfer { to: Address([7; 32]), amount: amount(1) })
}

/// A state in memory. While `gate` is closed, nobody reads it.
#[derive(Default)]
struct Fake {
    accounts: Mutex<BTreeMap<Address, Account>>,
    head: AtomicU64,
    minter: Option<Address>,
    is_broken: bool,
    refusals: AtomicUsize,
    is_closed: Mutex<bool>,
    opened: Condvar,
    /// Called with the number of reads before each.
    before_read: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Fake {
    fn with(seeds: impl IntoIterator<Item = u8>) -> Self {
        let rich = Account { balance: amount(1_000_000), nonce: Nonce::ZERO };
        let accounts = seeds.into_iter().map(|seed| (address(seed), rich)).collect();
        Self { accounts: Mutex::new(accounts), ..Self::default() }
    }

    fn open(&self, is_open: bool) {
        *self.is_closed.lock().unwrap() = !is_open;
        self.opened.notify_all();
    }
}

impl AccountSource for Fake {
    fn chain_id(&self) -> ChainId {
        chain_id()
    }

    fn head_height(&self) -> Height {
        Height::new(self.head.load(Ordering::SeqCst)).unwrap()
    }

    fn settings(&self) -> Result<Settings, String> {
        Ok(Settings { minter: self.minter, ..Settings::default() })
    }

    fn accounts(&self, addresses: &[Address]) -> Result<Vec<Option<Account>>, String> {
        let closed = self.is_closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |is_closed| *is_closed).unwrap());
        if self.is_broken {
            return Err("no disk".to_owned());
        }
        let read = {
            let accounts = self.accounts.lock().unwrap();
            addresses.iter().map(|address| accounts.get(address).copied()).collect()
        };
        if let Some(before_read) = &self.before_read {
            before_read();
        }
        Ok(read)
    }

    fn refusal(&self, _: &VerifiedTransaction, _: TimestampMs) -> Result<Option<Refusal>, String> {
        self.refusals.fetch_add(1, Ordering::SeqCst);
        Ok(Some(Refusal::SupplyOverflow))
    }
}

struct Way {
    ingress: Ingress,
    mempool: Arc<Mempool>,
    source: Arc<Fake>,
    threads: IngressThreads,
}

fn start(source: Fake, options: IngressOptions) -> Way {
    start_with(source, options, Arc::new(Mempool::new(MempoolLimits::default(), None)))
}

fn start_with(source: Fake, options: IngressOptions, mempool: Arc<Mempool>) -> Way {
    let source = Arc::new(source);
    let clock: Clock = Arc::new(|| TimestampMs::new(5).unwrap());
    let reader = Arc::<Fake>::clone(&source);
    let (ingress, threads) = Ingress::start(options, Arc::clone(&mempool), reader, clock).unwrap();
    Way { ingress, mempool, source, threads }
}

const OPTIONS: IngressOptions = IngressOptions { queue_max: 64, threads: 2, cached_keys: 16 };

fn code(result: &Result<Submitted, SubmitError>) -> &'static str {
    result.as_ref().map_or_else(SubmitError::code, |_| "accepted")
}

#[tokio::test]
async fn accepts_what_is_signed_and_funded_and_answers_in_order() {
    let way = start(Fake::with([1, 2]), OPTIONS);
    let mut forged = transfer(2, 0);
    forged.signature.0[3] ^= 1;
    let mut altered = transfer(2, 0);
    altered.fee = amount(11);
    let batch = vec![transfer(1, 0), forged, transfer(9, 0), altered, transfer(2, 0)];
    let hashes: Vec<TxHash> = batch.iter().map(Transaction::hash).collect();
    let results = way.ingress.submit_many(batch).await;
    let codes: Vec<_> = results.iter().map(code).collect();
    let expected = ["accepted", "bad_signature", "insufficient_funds", "bad_signature", "accepted"];
    assert_eq!(codes, expected);
    assert_eq!(results[0].as_ref().unwrap().hash, hashes[0]);
    let again = way.ingress.submit(transfer(1, 0)).await.unwrap();
    assert_eq!((again.hash, again.duplicate), (hashes[0], true));
    assert_eq!(way.mempool.len(), 2);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(!error.hint().is_empty() && !error.is_temporary());
    }
}

#[tokio::test]
async fn what_a_relay_could_have_known_is_told_from_what_a_block_explains() {
    let way = start(Fake::with([1, 2, 4]), OPTIONS);
    let sent_before = Account { balance: amount(5), nonce: Nonce::saturating(3) };
    way.source.accounts.lock().unwrap().insert(address(4), sent_before);
    let other = Payload::Transfer { to: Address([8; 32]), amount: amount(1) };
    let itself = Payload::Transfer { to: address(2), amount: amount(1) };
    let judged = async |all: Vec<Transaction>| {
        let hashes = all.iter().map(Transaction::hash).collect();
        judge(hashes, way.ingress.submit_many(all).await)
    };
    let good = judged(vec![transfer(1, 0), transfer(1, 1)]).await;
    assert_eq!(good.tally, Tally { accepted: 2, refused: 0, late: 0 });
    assert_eq!(judged(vec![transfer(1, 0)]).await.tally, Tally::default(), "known already");
    // Used, or taken by another that waits.
    let late = judged(vec![transfer(4, 2), signed(1, 0, other)]).await;
    assert_eq!(late.tally, Tally { accepted: 0, refused: 0, late: 2 });
    // Too little, or too far ahead, for now.
    let soon = judged(vec![transfer(4, 3), transfer(2, 9_999)]).await;
    assert_eq!(soon.tally, Tally { accepted: 0, refused: 0, late: 2 });
    // Nobody pays, to itself, of another chain.
    let mut elsewhere = transfer(2, 0);
    elsewhere.chain_id = ChainId::from_bytes(b"other").unwrap();
    elsewhere.signature = key(2).sign(elsewhere.hash().as_bytes());
    let bad = vec![transfer(9, 0), signed(2, 0, itself), elsewhere];
    assert_eq!(judged(bad).await.tally, Tally { accepted: 0, refused: 3, late: 0 });
    // A wrong signature is a fault of its own; a node without room has none to find.
    let mut forged = transfer(2, 0);
    forged.signature.0[3] ^= 1;
    let invalid = judged(vec![forged.clone()]).await;
    assert_eq!((invalid.tally, invalid.not_taken), (Tally::default(), vec![forged.hash()]));
    assert!(invalid.invalid.is_some());
    let busy = judge(vec![forged.hash()], vec![Err(SubmitError::Busy)]);
    assert_eq!((busy.tally, busy.not_taken.len(), busy.invalid), (Tally::default(), 1, None));
}

#[tokio::test]
async fn asks_the_engine_about_an_executable_one_that_is_no_transfer() {
    let way = start(Fake { minter: Some(address(1)), ..Fake::with([1]) }, OPTIONS);
    let mint = |nonce| signed(1, nonce, Payload::Mint { to: address(2), amount: amount(5) });
    assert_eq!(code(&way.ingress.submit(mint(0)).await), "supply_overflow");
    assert_eq!(way.source.refusals.load(Ordering::SeqCst), 1);
    // What must wait for others is not asked about yet, and a transfer never is.
    assert_eq!(code(&way.ingress.submit(mint(1)).await), "accepted");
    assert_eq!(code(&way.ingress.submit(transfer(1, 0)).await), "accepted");
    assert_eq!(way.source.refusals.load(Ordering::SeqCst), 1);
}

/// Hands a transaction over and does not wait.
fn enqueue(
    way: &Way,
    transaction: Transaction,
) -> oneshot::Receiver<Vec<Result<Submitted, SubmitError>>> {
    let (job, answers) = Job::new(vec![transaction]);
    assert_eq!(way.ingress.line.reserve(1), Ok(1));
    way.ingress.line.push(vec![job]);
    answers
}

#[tokio::test]
async fn a_full_line_answers_busy_at_once_and_loses_nothing() {
    let options = IngressOptions { queue_max: 4, threads: 1, ..OPTIONS };
    let way = start(Fake::with([1]), options);
    way.source.open(false);
    // The first is taken by the thread, which then waits for the state.
    let first = enqueue(&way, transfer(1, 0));
    while way.ingress.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    let waiting: Vec<_> = (1..5).map(|nonce| enqueue(&way, transfer(1, nonce))).collect();
    assert_eq!(way.ingress.waiting(), 4);
    assert_eq!(way.ingress.submit(transfer(1, 5)).await, Err(SubmitError::Busy));
    way.source.open(true);
    first.await.unwrap().pop().unwrap().unwrap();
    for answer in waiting {
        answer.await.unwrap().pop().unwrap().unwrap();
    }
    assert_eq!(way.mempool.len(), 5);
}

#[tokio::test]
async fn shutting_down_answers_what_waits_and_takes_no_more() {
    let way = start(Fake::with([1]), IngressOptions { threads: 1, ..OPTIONS });
    way.source.open(false);
    let waiting: Vec<_> = (0..3).map(|nonce| enqueue(&way, transfer(1, nonce))).collect();
    let Way { ingress, mempool, source, threads } = way;
    assert!(!threads.has_failed());
    let ending = std::thread::spawn(move || threads.shut_down());
    source.open(true);
    ending.join().unwrap();
    for answer in waiting {
        answer.await.unwrap().pop().unwrap().unwrap();
    }
    assert_eq!(mempool.len(), 3);
    assert_eq!(ingress.submit(transfer(1, 3)).await, Err(SubmitError::Stopping));
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_the_nodes_fault() {
    let way = start(Fake { is_broken: true, ..Fake::with([1]) }, OPTIONS);
    let error = way.ingress.submit(transfer(1, 0)).await.unwrap_err();
    assert_eq!((error.code(), error.is_temporary()), ("state_unavailable", true));
    assert!(way.mempool.is_empty());
}

/// A block that holds nothing, so that the mempool's height moves on.
fn commit_nothing(mempool: &Mempool, height: u64) {
    let header = ait_engine::block::Header {
        version: ait_engine::block::PROTOCOL_VERSION,
        chain_id: chain_id(),
        height: Height::new(height).unwrap(),
        parent: ait_engine::types::BlockId::ZERO,
        time: TimestampMs::ZERO,
        proposer: Address([1; 32]),
        transactions_root: ait_engine::types::Hash::ZERO,
        outcomes_root: ait_engine::types::Hash::ZERO,
        state_root: ait_engine::types::StateRoot::ZERO,
        validators_hash: ait_engine::types::Hash::ZERO,
        next_validators_hash: ait_engine::types::Hash::ZERO,
        transaction_count: 0,
        body_bytes: 0,
    };
    let block = crate::chain::CommittedBlock {
        id: header.id(),
        block: ait_engine::block::Block { header, transactions: vec![] },
        certificate: None,
        outcomes: vec![],
        tx_hashes: vec![],
    };
    mempool.on_block(&block, &[], TimestampMs::ZERO);
}

#[tokio::test]
async fn reads_the_account_again_when_a_block_comes_in_between() {
    let mempool = Arc::new(Mempool::new(MempoolLimits::default(), None));
    let reads = Arc::new(AtomicUsize::new(0));
    let (inner, counted) = (Arc::clone(&mempool), Arc::clone(&reads));
    // The first read is of height 0; the mempool sees block 1 right after it.
    let before_read = move || {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            commit_nothing(&inner, 1);
        }
    };
    let mut source = Fake::with([1]);
    source.before_read = Some(Box::new(before_read));
    let way = start_with(source, OPTIONS, mempool);
    // The state stays at height 0 for ever: the attempts run out.
    assert_eq!(way.ingress.submit(transfer(1, 0)).await, Err(SubmitError::Busy));
    assert!(reads.load(Ordering::SeqCst) > 1);
    way.source.head.store(1, Ordering::SeqCst);
    way.ingress.submit(transfer(1, 0)).await.unwrap();
}

#[tokio::test]
async fn many_clients_at_once_lose_and_double_nothing() {
    let way = start(Fake::with(1..=8), IngressOptions { queue_max: 4_096, ..OPTIONS });
    let tasks: Vec<_> = (1..=8u8)
        .map(|seed| {
            let ingress = way.ingress.clone();
            tokio::spawn(async move {
                let batch: Vec<_> = (0..40).map(|nonce| transfer(seed, nonce)).collect();
                let twice = [batch.clone(), batch].concat();
                ingress.submit_many(twice).await
            })
        })
        .collect();
    let mut duplicates = 0;
    for task in tasks {
        let results = task.await.unwrap();
        duplicates += results.iter().filter(|result| result.as_ref().unwrap().duplicate).count();
    }
    assert_eq!(duplicates, 8 * 40);
    assert_eq!(way.mempool.select(usize::MAX, u64::MAX).len(), 8 * 40);
}

#[test]
fn a_line_gives_what_is_there_in_order_and_ends_when_closed_and_empty() {
    let line = Line::new(5);
    let push = |jobs: &[(usize, u8)]| {
        let room = line.reserve(jobs.iter().map(|(count, _)| count).sum())?;
        line.push(jobs.to_vec());
        Ok(room)
    };
    assert_eq!(push(&[(1, 1)]), Ok(1));
    assert_eq!(push(&[(1, 2), (2, 3)]), Ok(3));
    // Room for one more; it is given up only with what is taken.
    assert_eq!(line.reserve(3), Ok(1));
    assert_eq!(line.reserve(1), Err(SubmitError::Busy));
    line.push(vec![(1, 4)]);
    assert_eq!(line.take(2), Some(vec![1, 2]));
    // More than asked for comes alone.
    assert_eq!((line.take(1), line.len()), (Some(vec![3]), 1));
    line.close();
    assert_eq!(push(&[(1, 5)]), Err(SubmitError::Stopping));
    assert_eq!(line.take(2), Some(vec![4]));
    assert_eq!(line.take(2), None);
}

/// Each thread that takes one waits until all have one: more are woken than the first.
#[test]
fn what_a_thread_leaves_wakes_the_next() {
    let line = Line::new(5);
    let (taken, all) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (line, taken) = (&line, taken.clone());
            scope.spawn(move || {
                while let Some(jobs) = line.take(1) {
                    taken.send(jobs).unwrap();
                    while !line.is_closed() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        while line.waiting() < 3 {
            std::thread::yield_now();
        }
        line.reserve(3).unwrap();
        line.push([(1, 1), (1, 2), (1, 3)]);
        let minute = std::time::Duration::from_secs(60);
        let all: Vec<_> = (0..3).map_while(|_| all.recv_timeout(minute).ok()).collect();
        line.close();
        assert_eq!(all.len(), 3);
    });
}

#[test]
fn no_job_waits_for_ever_however_it_comes() {
    let line = Line::new(1_000_000);
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for count_max in [1, 7, 512] {
            let (line, taken) = (&line, &taken);
            scope.spawn(move || {
                while let Some(jobs) = line.take(count_max) {
                    taken.fetch_add(jobs.len(), Ordering::SeqCst);
                }
            });
        }
        for round in 1..=3_000 {
            line.reserve(3).unwrap();
            line.push([(1, round)]);
            line.push([(1, round), (1, round)]);
            // Now and then all of them wait.
            let began = std::time::Instant::now();
            while round % 3 == 0 && taken.load(Ordering::SeqCst) < 3 * round {
                assert!(began.elapsed().as_secs() < 60, "a job is not taken");
                std::thread::yield_now();
            }
        }
        line.close();
    });
    assert_eq!(taken.load(Ordering::SeqCst), 9_000);
}

fn journaled(path: &Path) -> (Mempool, crate::mempool::Recovered) {
    let (journal, recovered) = Journal::open(path).unwrap();
    (Mempool::new(MempoolLimits::default(), Some(journal)), recovered)
}

fn now() -> TimestampMs {
    TimestampMs::new(6).unwrap()
}

#[tokio::test]
async fn a_restart_brings_back_what_still_applies_and_says_why_the_rest_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (mempool, _) = journaled(&path);
    let way = start_with(Fake::with(1..=3), OPTIONS, Arc::new(mempool));
    let sent = vec![transfer(1, 0), transfer(1, 1), transfer(2, 0), transfer(3, 0)];
    for result in way.ingress.submit_many(sent).await {
        result.unwrap();
    }
    way.mempool.flush().unwrap();
    // Killed here. A block took the first; the second sender is poor now.
    let source = Fake::with(1..=3);
    {
        let mut accounts = source.accounts.lock().unwrap();
        accounts.get_mut(&address(1)).unwrap().nonce = Nonce::new(1).unwrap();
        accounts.get_mut(&address(2)).unwrap().balance = amount(3);
    }
    let (mempool, recovered) = journaled(&path);
    let restored = restore(&mempool, &source, recovered, now()).unwrap();
    assert_eq!(restored, Restored { kept: 2, dropped: 2 });
    let status = mempool.status(&transfer(2, 0).hash());
    assert!(
        matches!(&status, TxStatus::Dropped(dropped) if dropped.reason.code() == "insufficient_funds")
    );
    let selected = mempool.select(9, u64::MAX);
    let hashes: Vec<TxHash> = selected.iter().map(|one| one.hash()).collect();
    // In the order of arrival, whichever thread was first, since all pay the same.
    assert_eq!(hashes.len(), 2);
    assert!(hashes.contains(&transfer(1, 1).hash()) && hashes.contains(&transfer(3, 0).hash()));
    // The journal holds just these now, and restoring again changes nothing.
    let (again, recovered) = journaled(&path);
    assert_eq!(recovered.transactions.len(), 2);
    assert_eq!(restore(&again, &source, recovered, now()).unwrap().kept, 2);
}

#[test]
fn a_restart_verifies_every_signature_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut forged = transfer(1, 0);
    forged.signature.0[0] ^= 1;
    let (mempool, mut recovered) = journaled(&path);
    recovered.transactions = vec![(now(), forged.clone()), (now(), transfer(2, 0))];
    let restored = restore(&mempool, &Fake::with([1, 2]), recovered, now()).unwrap();
    assert_eq!(restored, Restored { kept: 1, dropped: 1 });
    assert!(matches!(
        mempool.status(&forged.hash()),
        TxStatus::Dropped(dropped) if dropped.reason.code() == "bad_signature"
    ));
}

#[test]
fn a_restart_that_cannot_read_the_state_leaves_the_journal_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (mempool, recovered) = journaled(&path);
    let seed =
        crate::mempool::Recovered { transactions: vec![(now(), transfer(1, 0))], ..recovered };
    restore(&mempool, &Fake::with([1]), seed, now()).unwrap();
    drop(mempool);
    let (mempool, recovered) = journaled(&path);
    let broken = Fake { is_broken: true, ..Fake::with([1]) };
    let error = restore(&mempool, &broken, recovered, now()).unwrap_err();
    assert_eq!(error.code(), "state_unavailable");
    drop(mempool);
    assert_eq!(journaled(&path).1.transactions, [(now(), transfer(1, 0))]);
}
