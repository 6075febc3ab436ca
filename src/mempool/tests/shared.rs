//! The mempool as other parts of the node use it.

use std::sync::Mutex;

use ait_engine::block::{Block, Header, PROTOCOL_VERSION};
use ait_engine::execute::Refusal;
use ait_engine::outcome::{Outcome, Reward};
use ait_engine::types::{BlockId, Hash, StateRoot};

use super::*;
use crate::chain::CommittedBlock;
use crate::mempool::dropped::{Dropped, DroppedRing};
use crate::mempool::{Candidate, DropReason, Mempool, TxStatus};

fn candidate(tx: Tx) -> Candidate {
    Candidate { transaction: tx.build().into(), account: account(RICH, 0), added_at: time(7) }
}

fn pending(txs: &[Tx]) -> Mempool {
    let mempool = Mempool::new(roomy(), None);
    for tx in txs {
        mempool.insert(candidate(tx.clone()), &rules(0)).unwrap();
    }
    mempool
}

fn block(at: u64, proposer: u8, txs: &[Tx], rewarded: Option<u8>) -> CommittedBlock {
    let header = Header {
        version: PROTOCOL_VERSION,
        chain_id: chain_id(),
        height: height(at),
        parent: BlockId::ZERO,
        time: time(at),
        proposer: address(proposer),
        transactions_root: Hash::ZERO,
        outcomes_root: Hash::ZERO,
        state_root: StateRoot::ZERO,
        validators_hash: Hash::ZERO,
        next_validators_hash: Hash::ZERO,
        transaction_count: 0,
        body_bytes: 0,
    };
    let rewards = rewarded.map(|one| Reward { address: address(one), amount: Amount::ZERO });
    let outcome = |tx: &Tx| Outcome {
        tx_hash: tx.hash(),
        fee: tx.0.fee,
        rewards: rewards.into_iter().collect(),
    };
    CommittedBlock {
        id: header.id(),
        certificate: None,
        outcomes: txs.iter().map(outcome).collect(),
        tx_hashes: txs.iter().map(Tx::hash).collect(),
        block: Block { header, transactions: txs.iter().map(|tx| tx.0.clone()).collect() },
    }
}

fn why(mempool: &Mempool, tx: &Tx) -> &'static str {
    match mempool.status(&tx.hash()) {
        TxStatus::Dropped(dropped) => dropped.reason.code(),
        TxStatus::Pending { .. } => "pending",
        TxStatus::Unknown => "unknown",
    }
}

#[test]
fn a_block_brings_the_accounts_that_it_changed_up_to_date() {
    let mempool = pending(&[Tx::of(1), Tx::of(2), Tx::of(3), Tx::of(4), Tx::of(6)]);
    let to = |receiver, amount| Payload::Transfer { to: address(receiver), amount };
    let held = [Tx::of(1), Tx::of(5).payload(to(2, Amount::ZERO))];
    let committed = block(1, 3, &held, Some(4));
    let changed: Vec<_> = (1..=5).map(|one| (address(one), account(RICH, 1))).collect();
    mempool.on_block(&committed, &changed, time(9));
    // Included: gone without a trace. The others' nonces were used by something else.
    assert_eq!(why(&mempool, &Tx::of(1)), "unknown");
    assert_eq!(why(&mempool, &Tx::of(2)), "nonce_used");
    assert_eq!(why(&mempool, &Tx::of(6)), "pending");
    assert_eq!(mempool.len(), 1);
}

#[test]
fn an_account_of_before_a_block_is_refused() {
    let mempool = pending(&[Tx::of(1)]);
    mempool.on_block(&block(1, 9, &[Tx::of(1)], None), &[(address(1), account(RICH, 1))], time(9));
    assert_eq!(mempool.len(), 0);
    let old = mempool.insert(candidate(Tx::of(2)), &rules(0));
    assert_eq!(old.unwrap_err().code(), "outdated");
}

#[test]
fn says_why_one_is_gone_until_it_is_back() {
    let mempool = pending(&[Tx::of(1), Tx::of(2)]);
    mempool.refuse(&Tx::of(1).hash(), Refusal::RewardZero, time(8));
    assert_eq!(why(&mempool, &Tx::of(1)), "reward_zero");
    mempool.insert(candidate(Tx::of(1)), &rules(0)).unwrap();
    assert_eq!(why(&mempool, &Tx::of(1)), "pending");
    let replaced = mempool.insert(candidate(Tx::of(1).fee(500)), &rules(0)).unwrap();
    assert_eq!(replaced.replaced, Some(Tx::of(1).hash()));
    assert_eq!(why(&mempool, &Tx::of(1)), "replaced");
    mempool.sweep(time(2_000));
    assert_eq!(why(&mempool, &Tx::of(2)), "too_old");
    assert_eq!(why(&mempool, &Tx::of(3)), "unknown");
    assert!(mempool.is_empty());
}

#[test]
fn a_gap_found_by_the_builder_is_not_the_transactions_fault() {
    let mempool = pending(&[Tx::of(1)]);
    let gap = Refusal::NonceGap { expected: Nonce::ZERO, found: nonce(1) };
    mempool.refuse(&Tx::of(1).hash(), gap, time(8));
    assert_eq!(mempool.len(), 1);
}

#[test]
fn names_the_nonce_that_is_missing() {
    let mempool = pending(&[Tx::of(1), Tx::of(1).nonce(2)]);
    let missing = |tx: &Tx| match mempool.status(&tx.hash()) {
        TxStatus::Pending { missing_nonce, .. } => missing_nonce,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&Tx::of(1)), None);
    assert_eq!(missing(&Tx::of(1).nonce(2)), Some(nonce(1)));
    assert_eq!(mempool.next_nonce(&address(1), Nonce::ZERO), nonce(1));
    assert_eq!(mempool.next_nonce(&address(2), nonce(7)), nonce(7));
}

#[test]
fn pages_through_arrivals_by_cursor() {
    let txs: Vec<Tx> = (1..6).map(Tx::of).collect();
    let mempool = pending(&txs);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = mempool.list(2, after);
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(last.seq);
        found.extend(page.iter().map(|one| one.transaction.hash()));
    }
    assert_eq!(found, txs.iter().map(Tx::hash).collect::<Vec<_>>());
    let own = mempool.of_sender(&address(2));
    assert_eq!(own.iter().map(|one| one.hash()).collect::<Vec<_>>(), [Tx::of(2).hash()]);
    assert!(mempool.get(&Tx::of(2).hash()).is_some());
}

#[test]
fn wakes_who_waits_for_something_executable() {
    let mempool = Mempool::new(roomy(), None);
    let mut ready = mempool.subscribe_ready();
    let mut accepted = mempool.subscribe_accepted();
    let (bell, rung) = std::sync::mpsc::channel();
    mempool.on_executable(move || bell.send(()).unwrap());
    mempool.insert(candidate(Tx::of(1).nonce(1)), &rules(0)).unwrap();
    assert!(!ready.has_changed().unwrap() && rung.try_recv().is_err());
    mempool.insert(candidate(Tx::of(1)), &rules(0)).unwrap();
    rung.try_recv().unwrap();
    assert!(ready.has_changed().unwrap() && *ready.borrow_and_update());
    mempool.insert(candidate(Tx::of(1)), &rules(0)).unwrap();
    for expected in [Tx::of(1).nonce(1), Tx::of(1)] {
        assert_eq!(accepted.try_recv().unwrap().hash(), expected.hash());
    }
    // A duplicate is not announced again.
    assert!(accepted.try_recv().is_err());
    mempool.sweep(time(9_000));
    assert!(ready.has_changed().unwrap() && !*ready.borrow_and_update());
}

#[test]
fn remembers_a_bounded_number_of_reasons() {
    let mut ring = DroppedRing::new(2);
    let dropped = |at| Dropped { reason: DropReason::Evicted, at: time(at) };
    let hashes = [TxHash([1; 32]), TxHash([2; 32]), TxHash([3; 32])];
    ring.push(hashes[0], dropped(1));
    ring.push(hashes[1], dropped(2));
    // The same again is the newest now, and its old place does not forget it.
    ring.push(hashes[0], dropped(3));
    assert_eq!(ring.get(&hashes[0]), Some(&dropped(3)));
    ring.push(hashes[2], dropped(4));
    assert_eq!(ring.get(&hashes[1]), None);
    assert_eq!(ring.get(&hashes[0]), Some(&dropped(3)));
    ring.push(hashes[1], dropped(5));
    assert_eq!(ring.get(&hashes[0]), None);
    assert_eq!(ring.get(&hashes[2]), Some(&dropped(4)));
}

/// What a chain would hold: its height, and the next nonces of senders 1 to 3.
#[derive(Default)]
struct State {
    head: u64,
    next: [u64; 4],
}

/// Inserts all of a sender's transactions, reading the state again when a block overtakes.
fn insert_all(mempool: &Mempool, state: &Mutex<State>, sender: u8, count: u64) {
    for at in 0..count {
        loop {
            let (head, next) = {
                let state = state.lock().unwrap();
                (state.head, state.next[usize::from(sender)])
            };
            let one =
                Candidate { account: account(RICH, next), ..candidate(Tx::of(sender).nonce(at)) };
            match mempool.insert(one, &rules(head)) {
                Ok(inserted) => break assert!(!inserted.duplicate),
                Err(MempoolError::Outdated { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Commits a block of what is selected; gives how many it held.
fn commit_one(mempool: &Mempool, state: &Mutex<State>) -> usize {
    let picked = mempool.select(7, u64::MAX);
    let txs: Vec<Tx> = picked.iter().map(|one| Tx(one.transaction().clone())).collect();
    let (head, next) = {
        let mut state = state.lock().unwrap();
        for tx in &txs {
            let next = &mut state.next[usize::from(tx.0.public_key.0[0])];
            assert_eq!(tx.0.nonce.get(), *next);
            *next += 1;
        }
        state.head += 1;
        (state.head, state.next)
    };
    let changed = (1..=3).map(|one| (address(one), account(RICH, next[usize::from(one)])));
    let changed: Vec<_> = changed.collect();
    mempool.on_block(&block(head, 9, &txs, None), &changed, time(7));
    txs.len()
}

#[test]
fn threads_that_insert_select_and_commit_lose_and_double_nothing() {
    const EACH: u64 = 200;
    let mempool = Mempool::new(MempoolLimits { per_sender_max: EACH, ..roomy() }, None);
    let state = Mutex::new(State::default());
    std::thread::scope(|scope| {
        for sender in 1..=3 {
            let (mempool, state) = (&mempool, &state);
            scope.spawn(move || insert_all(mempool, state, sender, EACH));
        }
        let mut included = 0;
        while included < 3 * EACH as usize {
            if !mempool.has_executable() {
                std::thread::yield_now();
                continue;
            }
            included += commit_one(&mempool, &state);
        }
    });
    assert_eq!(state.into_inner().unwrap().next, [0, EACH, EACH, EACH]);
    assert_eq!((mempool.len(), mempool.bytes()), (0, 0));
}
