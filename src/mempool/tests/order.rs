//! What is selected, what is evicted, and what a block leaves.

use super::*;

fn selectable(pool: &Pool) -> Vec<(u8, u64)> {
    picks(pool, usize::MAX, u64::MAX)
}

#[test]
fn selects_by_fee_then_arrival_within_the_order_of_nonces() {
    let mut pool = Pool::new(roomy());
    for tx in [
        Tx::of(1).nonce(1).fee(900),
        Tx::of(1).fee(100),
        Tx::of(2).fee(300),
        Tx::of(3).fee(100),
        Tx::of(4).nonce(1).fee(990),
        Tx::of(2).nonce(1).fee(50),
    ] {
        add(&mut pool, tx).unwrap();
    }
    assert_eq!(selectable(&pool), [(2, 0), (1, 0), (1, 1), (3, 0), (2, 1)]);
    assert_eq!(picks(&pool, 2, u64::MAX), [(2, 0), (1, 0)]);
    assert_eq!(picks(&pool, 9, 3 * transfer_bytes()), [(2, 0), (1, 0), (1, 1)]);
    assert_eq!(picks(&pool, 0, u64::MAX), []);
}

#[test]
fn leaves_out_what_does_not_fit_and_all_that_follows_it() {
    let mut pool = Pool::new(roomy());
    let changes = (0..8).map(|n| ait_engine::params::ParamChange::Param {
        name: format!("parameter_{n}"),
        value: 1,
    });
    let large = Payload::ParamSet(ait_engine::params::ParamSet::new(changes.collect()).unwrap());
    let settings = Settings { governor: Some(address(1)), ..Settings::default() };
    let rules = Rules { settings, ..rules(0) };
    let large = Arc::new(Tx::of(1).fee(100_000).payload(large).build());
    pool.insert(large, account(RICH, 0), &rules, time(0)).unwrap();
    add(&mut pool, Tx::of(1).nonce(1).fee(100_000)).unwrap();
    add(&mut pool, Tx::of(2).fee(1)).unwrap();
    assert_eq!(picks(&pool, 9, transfer_bytes()), [(2, 0)]);
    assert_eq!(selectable(&pool), [(1, 0), (1, 1), (2, 0)]);
}

#[test]
fn a_gap_holds_back_until_it_is_filled() {
    let mut pool = Pool::new(roomy());
    add(&mut pool, Tx::of(1).nonce(2)).unwrap();
    add(&mut pool, Tx::of(1).nonce(1)).unwrap();
    assert!(!pool.has_executable());
    assert_eq!(pool.next_nonce(&address(1), Nonce::ZERO), Nonce::ZERO);
    add(&mut pool, Tx::of(1)).unwrap();
    assert!(pool.has_executable());
    assert_eq!(selectable(&pool), [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(pool.next_nonce(&address(1), Nonce::ZERO), nonce(3));
}

#[test]
fn evicts_the_cheapest_tail_newest_first_for_one_that_pays_more() {
    let mut pool = Pool::new(MempoolLimits { count_max: 4, ..roomy() });
    // The cheapest of all has a successor: only the tail may go.
    add(&mut pool, Tx::of(1).fee(10)).unwrap();
    add(&mut pool, Tx::of(1).nonce(1).fee(40)).unwrap();
    add(&mut pool, Tx::of(2).fee(20)).unwrap();
    add(&mut pool, Tx::of(3).fee(20)).unwrap();
    assert_eq!(code(add(&mut pool, Tx::of(4).fee(20))), "mempool_full");
    let removed = add(&mut pool, Tx::of(4).fee(50)).unwrap();
    assert_eq!(codes(&removed), [(Tx::of(3).fee(20).hash(), "evicted")]);
    let removed = add(&mut pool, Tx::of(5).fee(50)).unwrap();
    assert_eq!(codes(&removed), [(Tx::of(2).fee(20).hash(), "evicted")]);
    let removed = add(&mut pool, Tx::of(6).fee(50)).unwrap();
    assert_eq!(codes(&removed), [(Tx::of(1).nonce(1).fee(40).hash(), "evicted")]);
    let removed = add(&mut pool, Tx::of(7).fee(50)).unwrap();
    assert_eq!(codes(&removed), [(Tx::of(1).fee(10).hash(), "evicted")]);
    assert_eq!(code(add(&mut pool, Tx::of(8).fee(50))), "mempool_full");
    assert_eq!(pool.len(), 4);
}

#[test]
fn evicts_several_tails_when_one_is_not_enough() {
    let mut pool = Pool::new(MempoolLimits { bytes_max: 4 * transfer_bytes(), ..roomy() });
    for at in 0..2 {
        add(&mut pool, Tx::of(1).nonce(at).fee(10)).unwrap();
        add(&mut pool, Tx::of(2).nonce(at).fee(20)).unwrap();
    }
    let changes = (0..8).map(|n| ait_engine::params::ParamChange::Param {
        name: format!("parameter_{n}"),
        value: 1,
    });
    let large = Payload::ParamSet(ait_engine::params::ParamSet::new(changes.collect()).unwrap());
    let settings = Settings { governor: Some(address(3)), ..Settings::default() };
    let rules = Rules { settings, ..rules(0) };
    let bytes = u64::from(Tx::of(3).payload(large.clone()).build().byte_count());
    assert!(bytes > transfer_bytes() && bytes < 2 * transfer_bytes());
    let large = Arc::new(Tx::of(3).fee(1_000).payload(large).build());
    let taken = pool.insert(large, account(RICH, 0), &rules, time(0)).unwrap();
    let Taken::Accepted { removed } = taken else { panic!("a duplicate") };
    let expected = [1, 0].map(|at| (Tx::of(1).nonce(at).fee(10).hash(), "evicted"));
    assert_eq!(codes(&removed), expected);
    assert!(pool.bytes() <= 4 * transfer_bytes());
}

#[test]
fn never_evicts_what_the_newcomer_needs_before_it() {
    let mut pool = Pool::new(MempoolLimits { count_max: 2, ..roomy() });
    add(&mut pool, Tx::of(1).fee(1)).unwrap();
    add(&mut pool, Tx::of(2).fee(500)).unwrap();
    assert_eq!(code(add(&mut pool, Tx::of(1).nonce(1).fee(400))), "mempool_full");
    // Its own later ones may go, whatever they pay.
    let mut pool = Pool::new(MempoolLimits { count_max: 2, ..roomy() });
    add(&mut pool, Tx::of(1).nonce(1).fee(300)).unwrap();
    add(&mut pool, Tx::of(2).fee(500)).unwrap();
    let removed = add(&mut pool, Tx::of(1).fee(2)).unwrap();
    assert_eq!(codes(&removed), [(Tx::of(1).nonce(1).fee(300).hash(), "sender_full")]);
}

#[test]
fn replaces_within_a_full_pool_without_evicting() {
    let mut pool = Pool::new(MempoolLimits { count_max: 2, ..roomy() });
    add(&mut pool, Tx::of(1).fee(10)).unwrap();
    add(&mut pool, Tx::of(2).fee(5)).unwrap();
    let removed = add(&mut pool, Tx::of(1).fee(11)).unwrap();
    assert_eq!(codes(&removed), [(Tx::of(1).fee(10).hash(), "replaced")]);
    assert_eq!(pool.len(), 2);
}

fn commit(pool: &mut Pool, at: u64, included: &[Tx], after: &[(u8, Account)]) -> Vec<Removed> {
    let accounts = after.iter().map(|(sender, account)| (address(*sender), *account));
    let accounts: Vec<_> = accounts.collect();
    let hashes: Vec<TxHash> = included.iter().map(Tx::hash).collect();
    pool.end_block(height(at), &hashes, &accounts, time(0))
}

#[test]
fn a_block_takes_what_it_holds_and_moves_the_queue_on() {
    let mut pool = Pool::new(roomy());
    for at in 0..4 {
        add(&mut pool, Tx::of(1).nonce(at)).unwrap();
    }
    let held = [Tx::of(1), Tx::of(1).nonce(1)];
    let removed = commit(&mut pool, 1, &held, &[(1, account(RICH, 2))]);
    assert!(removed.is_empty());
    assert_eq!(selectable(&pool), [(1, 2), (1, 3)]);
    assert_eq!(pool.next_nonce(&address(1), nonce(2)), nonce(4));
    assert_eq!(pool.bytes(), 2 * transfer_bytes());
}

#[test]
fn a_block_drops_those_whose_nonce_another_used() {
    let mut pool = Pool::new(roomy());
    add(&mut pool, Tx::of(1)).unwrap();
    add(&mut pool, Tx::of(1).nonce(3)).unwrap();
    let removed = commit(&mut pool, 1, &[Tx::of(1).pays(77)], &[(1, account(RICH, 3))]);
    assert_eq!(codes(&removed), [(Tx::of(1).hash(), "nonce_used")]);
    assert_eq!(selectable(&pool), [(1, 3)]);
}

#[test]
fn a_block_drops_what_became_unaffordable_from_the_end() {
    let mut pool = Pool::new(roomy());
    for at in 0..3 {
        add(&mut pool, Tx::of(1).nonce(at)).unwrap();
    }
    let removed = commit(&mut pool, 1, &[], &[(1, account(202, 0))]);
    assert_eq!(codes(&removed), [(Tx::of(1).nonce(2).hash(), "insufficient_funds")]);
    assert_eq!(selectable(&pool), [(1, 0), (1, 1)]);
}

#[test]
fn a_block_drops_what_expired() {
    let mut pool = Pool::new(roomy());
    add(&mut pool, Tx::of(1).expires(5)).unwrap();
    add(&mut pool, Tx::of(2).expires(6)).unwrap();
    assert!(commit(&mut pool, 4, &[], &[]).is_empty());
    let removed = commit(&mut pool, 5, &[], &[]);
    assert_eq!(codes(&removed), [(Tx::of(1).expires(5).hash(), "expired")]);
    assert_eq!(selectable(&pool), [(2, 0)]);
}

#[test]
fn age_drops_what_waited_longer_than_the_limit() {
    let mut pool = Pool::new(roomy());
    add(&mut pool, Tx::of(1)).unwrap();
    let mut removed = Vec::new();
    pool.drop_old(time(1_000), &mut removed);
    assert!(removed.is_empty());
    pool.drop_old(time(1_001), &mut removed);
    assert_eq!(codes(&removed), [(Tx::of(1).hash(), "too_old")]);
    assert_eq!((pool.len(), pool.bytes()), (0, 0));
}

#[test]
fn a_clock_that_jumped_and_came_back_keeps_nothing_too_long() {
    let mut pool = Pool::new(roomy());
    for (at, ms) in [(1, 100), (2, 900_000), (3, 200)] {
        let transaction = Arc::new(Tx::of(at).build());
        pool.insert(transaction, account(RICH, 0), &rules(0), time(ms)).unwrap();
    }
    let mut removed = Vec::new();
    pool.drop_old(time(1_200), &mut removed);
    assert_eq!(codes(&removed), [(Tx::of(1).hash(), "too_old")]);
    removed.clear();
    pool.drop_old(time(1_201), &mut removed);
    let hashes = [Tx::of(2).hash(), Tx::of(3).hash()];
    assert_eq!(codes(&removed), hashes.map(|hash| (hash, "too_old")));
}

#[test]
fn a_refused_transaction_leaves_and_holds_back_its_successors() {
    let mut pool = Pool::new(roomy());
    for at in 0..3 {
        add(&mut pool, Tx::of(1).nonce(at)).unwrap();
    }
    let refusal = ait_engine::execute::Refusal::RewardZero;
    let removed = pool.refuse(&Tx::of(1).nonce(1).hash(), refusal).unwrap();
    assert_eq!(removed.reason.code(), "reward_zero");
    assert_eq!(selectable(&pool), [(1, 0)]);
    assert_eq!(pool.next_nonce(&address(1), Nonce::ZERO), nonce(1));
}
